"""Files of rooms: uploads, downloads, thumbnails, sweeping."""

from __future__ import annotations

from storage.database import Database


class Files:
    """Files of rooms: uploads, downloads, thumbnails, sweeping."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self) -> None:
        """Begin the background work, where there is some."""

    async def stop(self) -> None:
        """Finish what was promised."""
