"""PostgreSQL, Valkey and NATS from Python wheels, as children of the supervisor."""

from config.embedded.errors import StackError
from config.embedded.sockets import socket_directory
from config.embedded.stack import EmbeddedStack, StackUrls, read_urls

__all__ = ["EmbeddedStack", "StackError", "StackUrls", "read_urls", "socket_directory"]
