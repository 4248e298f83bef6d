"""The message log: every durable channel's messages, numbered without a hole.

Imports stay cheap: a node takes `PostgresLog`, the supervisor forks `storage.log.writer.run_log_writer`.
"""

from storage.log.client import LogClient
from storage.log.postgres import PostgresLog
from storage.log.reader import LogReader

__all__ = ["LogClient", "LogReader", "PostgresLog"]
