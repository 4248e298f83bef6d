"""`chalkwire migrate`."""

from __future__ import annotations

from gateway_node.cli.options import ConfigFile, DataDirectory, load
from gateway_node.cli.stores import database
from gateway_node.cli.trouble import Trouble


def migrate(data_dir: DataDirectory = None, config: ConfigFile = None) -> None:
    """Bring the database's schema up to date (the start of the server does the same)."""
    import asyncio

    from storage.migrate import MigrationError
    from storage.migrate import migrate as apply

    with database(load(config, data_dir)) as url:
        try:
            applied = asyncio.run(apply(url))
        except MigrationError as error:
            raise Trouble(f"{error}.") from None
    print("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")
