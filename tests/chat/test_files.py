"""Files on two whole nodes: given on one, had on the other, gone when nobody wants them."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.chat.person import Person, people
from tests.stack import short_folder

pytestmark = pytest.mark.integration

MIB = 1 << 20
SWEPT = 30.0  # s that a sweep may take to come by


@pytest.fixture(scope="module")
def sweeping() -> Iterator[Server]:
    """A server that waits for nobody, and whose nodes are killed."""
    settings = {**SETTINGS, "FILES__ORPHAN_TTL": "1.5"}
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as running:
        yield running


async def room_of(owner: Person, *others: Person) -> str:
    room = await owner.rpc("room.create", title="Algebra")
    for other in others:
        await owner.rpc("room.invite", room_id=room["id"], user_id=other.id)
    return str(room["id"])


async def upload(person: Person, room: str, content: bytes, name: str = "notes.bin") -> dict[str, Any]:
    answer = await person.http("POST", f"/v1/rooms/{room}/files?name={name}", content=content)
    assert answer.status == 201, answer.content
    found: dict[str, Any] = answer.body
    return found


async def send(person: Person, room: str, file: dict[str, Any], type: str = "file") -> str:
    """A message that carries the file; returns its id."""
    id = str(uuid4())
    await person.rpc("message.send", room_id=room, id=id, content="", type=type, file_id=file["id"])
    return id


def objects(server: Server) -> list[str]:
    return sorted(path.name for path in (server.data_dir / "files").rglob("*") if path.is_file())


async def until_gone(server: Server, file_id: str) -> None:
    async with asyncio.timeout(SWEPT):
        while any(name.startswith(file_id) for name in objects(server)):
            await asyncio.sleep(0.1)


def memory(pid: int) -> int:
    """Bytes that the process has to itself, and its part of what it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


async def test_a_picture_goes_from_one_node_to_the_other(server: Server) -> None:
    out = io.BytesIO()
    Image.effect_noise((800, 600), 30).save(out, "PNG")
    async with people(server, "Ann", "Ben", "Eve") as (ann, ben, eve):
        room = await room_of(ann, ben)
        file = await upload(ann, room, out.getvalue(), "photo.png")
        assert (await ben.http("GET", f"/v1/files/{file['id']}")).status == 404, "it was not sent yet"
        id = await send(ann, room, file, "image")
        heard = await ben.hears(room, id=id)
        assert heard["file"] == {
            "id": file["id"], "name": "photo.png", "size": len(out.getvalue()), "content_type": "image/png",
            "width": 800, "height": 600, "thumbnail": True,
        }  # fmt: skip
        got = await ben.http("GET", f"/v1/files/{file['id']}")
        assert (got.status, got.content) == (200, out.getvalue())
        small = await ben.http("GET", f"/v1/files/{file['id']}/thumbnail")
        assert Image.open(io.BytesIO(small.content)).size == (400, 300)
        assert (await eve.http("GET", f"/v1/files/{file['id']}")).status == 404
        assert await eve.refusal("file.link", file_id=file["id"]) == 1002
        assert await eve.refusal("file.link", file_id="x") == 107
        assert await eve.refusal("message.send", room_id=room, type="file", file_id=file["id"]) == 102

        link = await ben.rpc("file.link", file_id=file["id"])
        async with httpx.AsyncClient(trust_env=False) as anybody:
            assert (await anybody.get(server.url(link["url"], 0))).content == out.getvalue()
            await ann.rpc("room.remove", room_id=room, user_id=ben.id)
            assert (await ben.http("GET", f"/v1/files/{file['id']}")).status == 404
            assert (await anybody.get(server.url(link["url"], 0))).status_code == 404


async def test_a_file_is_sent_once_and_by_its_owner(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room, other = await room_of(ann, ben), await room_of(ann, ben)
        file = await upload(ann, room, b"hello")
        refused = {"type": "file", "file_id": file["id"]}
        assert await ben.refusal("message.send", room_id=room, **refused) == 107
        assert await ann.refusal("message.send", room_id=other, **refused) == 107
        assert await ann.refusal("message.send", room_id=room, type="image", file_id=file["id"]) == 107
        await send(ann, room, file)
        assert await ann.refusal("message.send", room_id=room, **refused) == 107


async def test_a_big_file_takes_little_memory(server: Server) -> None:
    size = 60 * MIB
    block = os.urandom(MIB)
    digest = sha256()
    for _ in range(60):
        digest.update(block)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield block

    async with people(server, "Ann", nodes=(0,)) as (ann,), httpx.AsyncClient(trust_env=False, timeout=60) as client:
        room = await room_of(ann)
        await upload(ann, room, bytes(2 * MIB))  # what is loaded once
        pid = server.processes()["node-1"].pid
        before = memory(pid)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, memory(pid))
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        headers = {"Authorization": f"Bearer {ann.token}"}
        url = server.url(f"/v1/rooms/{room}/files", 0)
        said = await client.post(url, content=body(), headers=headers)
        assert said.status_code == 201, said.text
        assert said.json()["size"] == size
        got = sha256()
        async with client.stream("GET", server.url(said.headers["location"], 0), headers=headers) as response:
            async for chunk in response.aiter_bytes(MIB):
                got.update(chunk)
                await asyncio.sleep(0.002)  # slower than the disk: the node must wait, not gather
        watching.cancel()
        assert got.digest() == digest.digest()
        assert most - before < 30 * MIB, f"{(most - before) / MIB:.1f} MiB"


async def test_what_a_killed_node_was_taking_in_is_swept(sweeping: Server) -> None:
    async with people(sweeping, "Ann", nodes=(1,)) as (ann,):
        room = await room_of(ann)
        pid = sweeping.processes()["node-1"].pid
        _, writer = await asyncio.open_connection("127.0.0.1", sweeping.node_port_base)
        writer.write(
            f"POST /v1/rooms/{room}/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann.token}\r\n"
            f"Content-Length: {90 * MIB}\r\n\r\n".encode()
        )
        for _ in range(8):
            writer.write(bytes(MIB))
        async with asyncio.timeout(10):
            while not any("#" in name for name in objects(sweeping)):
                await asyncio.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        writer.close()
        left = [name for name in objects(sweeping) if "#" in name]
        assert len(left) == 1, "half of a file"
        await until_gone(sweeping, left[0].partition("#")[0])
        await asyncio.to_thread(sweeping.wait_restarted, "node-1", pid)
        await asyncio.to_thread(sweeping.wait_ready, 0)


async def test_what_is_not_wanted_is_swept_and_what_is_sent_stays(sweeping: Server) -> None:
    async with people(sweeping, "Ann", nodes=(1,)) as (ann,):
        room = await room_of(ann)
        kept, deleted, never = [await upload(ann, room, name.encode()) for name in ("kept", "deleted", "never")]
        await send(ann, room, kept)
        id = await send(ann, room, deleted)
        await ann.rpc("message.delete", room_id=room, message_id=id)
        assert (await ann.http("GET", f"/v1/files/{deleted['id']}")).status == 404
        for gone in (deleted, never):
            await until_gone(sweeping, gone["id"])
            assert (await ann.http("GET", f"/v1/files/{gone['id']}")).status == 404
        assert (await ann.http("GET", f"/v1/files/{kept['id']}")).content == b"kept"
