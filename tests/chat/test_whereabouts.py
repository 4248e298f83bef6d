"""`chalkwire nodes --user`: where somebody is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid

import pytest

from loadtest.server import Server
from tests.chat.person import people

pytestmark = pytest.mark.integration


def nodes(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gateway_node", "nodes", *options]
    return subprocess.run(argv, env=server.environment, capture_output=True, text=True, timeout=30, check=False)


def listed(server: Server, user: str) -> list[str]:
    return [each["name"] for each in json.loads(nodes(server, "--json", "--user", user).stdout)]


async def test_the_nodes_of_somebody_are_listed(server: Server) -> None:
    async with people(server, "Ann", "Ben", nodes=(0, 1)) as (ann, ben):
        assert await asyncio.to_thread(server.node_of, ann.id) == "node-1"
        assert await asyncio.to_thread(server.node_of, ben.id) == "node-2"
        device = await ann.another_device(node=1)
        async with asyncio.timeout(30):  # Redis is told ten times a second
            while await asyncio.to_thread(listed, server, ann.id) != ["node-1", "node-2"]:
                pass
        await device.close()
        assert await asyncio.to_thread(server.node_of, ann.id) == "node-1"
        assert await asyncio.to_thread(listed, server, str(uuid.uuid4())) == []
        nobody = await asyncio.to_thread(nodes, server, "--user", "nobody")
        assert (nobody.returncode, nobody.stdout) == (1, "")
        assert "No node of this host holds a connection of nobody" in nobody.stderr
