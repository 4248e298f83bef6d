"""People: finding them, their names, who is online and when they were last seen."""

from __future__ import annotations

from storage.database import Database


class People:
    """People: finding them, their names, who is online and when they were last seen."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self) -> None:
        """Begin the background work, where there is some."""

    async def stop(self) -> None:
        """Finish what was promised."""
