"""Messages of rooms: sending, editing, deleting, reactions, pins, search."""

from __future__ import annotations

from storage.database import Database


class Messages:
    """Messages of rooms: sending, editing, deleting, reactions, pins, search."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self) -> None:
        """Begin the background work, where there is some."""

    async def stop(self) -> None:
        """Finish what was promised."""
