"""How far people have read: cursors, unread counts, receipts; and who is typing."""

from __future__ import annotations

from storage.database import Database


class Reading:
    """How far people have read: cursors, unread counts, receipts; and who is typing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self) -> None:
        """Begin the background work, where there is some."""

    async def stop(self) -> None:
        """Finish what was promised."""
