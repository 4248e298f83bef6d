"""`chalkwire loadtest`: the harness, which knows nothing of the server, told about the one of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway_node.cli.options import load_with_secrets
from loadtest import cli

if TYPE_CHECKING:
    from loadtest.plan import Plan
    from loadtest.target import Local

app = cli.app
SHOWN = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "max_connections")


def find(data_dir: Path | None) -> Local:
    """The address, the secret and the processes of the server whose data are here; no address where none runs."""
    from gateway_node.cli.loadtest_class import PreparedClass
    from gateway_node.metrics import version
    from gateway_node.process_list import is_running, read_processes
    from loadtest.engine.wire import Tokens
    from loadtest.target import Local

    settings = load_with_secrets(None, data_dir)
    directory = settings.data_dir

    def processes() -> Mapping[str, int]:
        found = read_processes(directory)
        if found is None:
            return {}
        listed = [*found["nodes"], found["supervisor"], *found["others"]]
        return {each["name"]: each["pid"] for each in listed if is_running(each)}

    def nodes() -> list[str]:
        """The nodes' own addresses; none where they have only the shared port."""
        found = read_processes(directory)
        if found is None:
            return []
        ports = [each["port"] for each in found["nodes"]]
        shared = urlsplit(found["url"])
        return [] if shared.port in ports else [f"ws://{shared.hostname}:{port}" for port in ports]

    prepared: list[PreparedClass] = []

    def prepare(plan: Plan) -> None:
        if any(each.enter == "class.join" for each in plan.channels):
            prepared.append(PreparedClass(database_url(), plan))
            asyncio.run(prepared[0].make())

    def describe() -> dict[str, Any]:
        found = read_processes(directory) or {"nodes": []}
        rows = asyncio.run(prepared[0].rows()) if prepared else {}
        return {"chalkwire": version(), "nodes": len(found["nodes"]), **rows, **asyncio.run(durability())}

    def database_url() -> str:
        from config.embedded import read_urls

        urls = read_urls(directory)
        return settings.database.url or (urls.database if urls else None) or ""

    async def durability() -> dict[str, str]:
        import asyncpg

        url = database_url()
        if not url:
            return {}
        try:
            connection = await asyncpg.connect(url, timeout=5)
            try:
                return {name: await connection.fetchval(f"show {name}") for name in SHOWN}
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError) as error:
            return {"database": f"not asked: {error}"}

    token = settings.token
    tokens = Tokens(secret=token.hmac_secret or "", audience=token.audience or "", issuer=token.issuer or "")
    running = read_processes(directory)
    if running is None:
        return Local(tokens=tokens, processes=processes, describe=describe, prepare=prepare)
    return Local(running["url"], tokens, processes, nodes, describe, directory, prepare)


cli.find = find
