"""Files over HTTP, on a real database and a folder; what nodes share is in tests/chat/test_files.py."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
from PIL import Image

from config.sections import Files as Settings
from gateway_node.services import files as service
from gateway_node.services.files import Files
from gateway_node.tokens import mint_connection
from realtime.interfaces import Identity
from storage.database import Database
from storage.files import FileStore
from storage.users import UserStore
from tests.gateway_node.http.conftest import SECRET, make_services, serving
from tests.storage.s3 import s3_server

pytestmark = pytest.mark.integration

MAX_SIZE = 3 << 20


@dataclass
class World:
    """A room of Ann and Ben with Eve outside, and the application over it."""

    database: Database
    files: Files
    folder: Path
    address: str
    client: httpx.AsyncClient
    room: UUID
    ann: UUID
    ben: UUID
    eve: UUID

    def headers(self, user: UUID | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {mint_connection(SECRET, str(user or self.ann), ttl=600)}"}

    async def upload(
        self, content: Any = b"hello", *, user: UUID | None = None, room: UUID | None = None, **more: Any
    ) -> httpx.Response:
        headers = {**self.headers(user), **more.pop("headers", {})}
        path = f"/v1/rooms/{room or self.room}/files"
        return await self.client.post(path, content=content, headers=headers, params=more)

    async def uploaded(self, content: bytes = b"hello", **more: Any) -> dict[str, Any]:
        response = await self.upload(content, **more)
        assert response.status_code == 201, response.text
        found: dict[str, Any] = response.json()
        assert response.headers["location"] == f"/v1/files/{found['id']}"
        return found

    async def get(self, path: str, user: UUID | None = None, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers={**self.headers(user), **headers})

    async def attach(self, file_id: str) -> None:
        """As a message does."""
        await self.database.execute("update files set message_id = $2 where id = $1", UUID(file_id), uuid4())

    def objects(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())

    async def rows(self) -> int:
        count: int = await self.database.fetchval("select count(*) from files")
        return count


@asynccontextmanager
async def world_of(database_url: str, tmp_path: Path, **settings: Any) -> AsyncIterator[World]:
    database = Database(database_url)
    users = UserStore(database)
    people = [(await users.create(f"{name}@example.org", "hash", name=name)).id for name in ("ann", "ben", "eve")]
    room = await database.fetchval("insert into rooms (kind, title) values ('group', 'Algebra') returning id")
    for user in people[:2]:
        await database.execute(
            "insert into room_members (room_id, user_id, role) values ($1, $2, 'member')", room, user
        )
    chosen = Settings(**({"max_size": MAX_SIZE, "orphan_ttl": 600} | settings))
    files = Files(FileStore(database, chosen.orphan_ttl), chosen, tmp_path, SECRET, sweeps=False)
    await files.start()
    async with (
        serving(make_services(chat=SimpleNamespace(files=files))) as address,
        httpx.AsyncClient(base_url=address, timeout=20, trust_env=False) as client,
    ):
        yield World(database, files, tmp_path / "files", address, client, room, *people)
    await files.stop()
    await database.close()


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(database_url, tmp_path) as world:
        yield world


def photo(size: tuple[int, int] = (600, 300)) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 30).save(out, "PNG")
    return out.getvalue()


async def raw_upload(world: World, head: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An upload on a socket of the test's own, to be slow or to break off with."""
    parts = urlsplit(world.address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    token = world.headers()["Authorization"]
    writer.write(f"POST /v1/rooms/{world.room}/files HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n{head}".encode())
    writer.write(b"\r\n" + body)
    await writer.drain()
    return reader, writer


async def until_tidy(world: World) -> None:
    async with asyncio.timeout(10):
        while world.objects() or await world.rows():
            await asyncio.sleep(0.02)


# --- uploads ---------------------------------------------------------------------------------------------------


async def test_a_file_comes_back_as_it_was(world: World) -> None:
    data = bytes(range(256)) * 9000
    said = await world.uploaded(data, name="../numbers ☕.bin")
    assert said == {
        "id": said["id"], "name": "numbers ☕.bin", "size": len(data), "content_type": "application/octet-stream",
    }  # fmt: skip
    got = await world.get(f"/v1/files/{said['id']}")
    assert got.status_code == 200
    assert got.content == data
    assert got.headers["etag"] == f'"{sha256(data).hexdigest()}"'
    assert got.headers["content-length"] == str(len(data))
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"numbers _.bin\"; filename*=UTF-8''numbers%20%E2%98%95.bin"
    )
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert got.headers["cache-control"] == "private, no-cache"
    assert len(world.objects()) == 1


async def test_a_file_without_a_length_is_taken_as_it_comes(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000

    said = await world.upload(chunks(), name="x")
    assert said.status_code == 201
    assert said.json()["size"] == 2_000_000


async def test_an_image_has_a_size_and_a_thumbnail(world: World) -> None:
    said = await world.uploaded(photo(), name="photo.png", headers={"Content-Type": "image/png"})
    assert {name: said[name] for name in ("content_type", "width", "height", "thumbnail")} == {
        "content_type": "image/png", "width": 600, "height": 300, "thumbnail": True,
    }  # fmt: skip
    small = await world.get(f"/v1/files/{said['id']}/thumbnail")
    assert small.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(small.content)).size == (400, 200)
    again = await world.get(f"/v1/files/{said['id']}/thumbnail", **{"If-None-Match": small.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert len(world.objects()) == 2


async def test_a_file_is_what_its_bytes_are(world: World) -> None:
    page = b"<!DOCTYPE html><script>alert(1)</script>"
    said = await world.uploaded(page, name="photo.png", headers={"Content-Type": "image/png"})
    assert said["content_type"] == "text/plain"
    for query in ("", "?inline=1"):
        got = await world.get(f"/v1/files/{said['id']}{query}")
        assert got.headers["content-type"] == "text/plain; charset=utf-8"
        assert got.headers["content-disposition"].startswith("attachment")
    assert (await world.get(f"/v1/files/{said['id']}/thumbnail")).status_code == 404
    half = await world.uploaded(b"\x89PNG\r\n\x1a\n" + page, headers={"Content-Type": "image/png"})
    assert half["content_type"] == "application/octet-stream"
    assert "width" not in half


async def test_only_members_upload_and_only_with_a_token(world: World) -> None:
    assert (await world.upload(user=world.eve)).status_code == 404
    assert (await world.upload(room=uuid4())).status_code == 404
    assert (await world.client.post(f"/v1/rooms/{uuid4()}/files", content=b"x")).status_code == 401
    assert (await world.upload(headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await world.client.post("/v1/rooms/x/files", content=b"x", headers=world.headers())).status_code == 404
    assert (await world.rows(), world.objects()) == (0, [])


async def test_an_empty_file_is_refused(world: World) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        return
        yield b""

    for content in (b"", nothing()):
        refused = await world.upload(content)
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/problem+json"
    await until_tidy(world)


async def test_a_file_that_is_too_large_is_refused_by_what_it_says(world: World) -> None:
    reader, writer = await raw_upload(world, f"Content-Length: {MAX_SIZE + 1}\r\n")
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 10), "before a byte of it was sent"
    assert b"a file may have 3 MiB" in await asyncio.wait_for(reader.readuntil(b"}"), 10), "people read it, too"
    writer.close()
    assert await world.rows() == 0
    assert (await world.uploaded(bytes(MAX_SIZE)))["size"] == MAX_SIZE


async def test_a_file_that_becomes_too_large_is_refused_while_it_comes(world: World) -> None:
    reader, writer = await raw_upload(world, "Transfer-Encoding: chunked\r\n")
    block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(MAX_SIZE // 65536 + 1):
        writer.write(block)
        await writer.drain()
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 10), "and it has not ended"
    writer.close()
    await until_tidy(world)


async def test_an_upload_that_breaks_off_leaves_nothing(world: World) -> None:
    for sent in (0, 10, 300_000, 2_000_000):
        _, writer = await raw_upload(world, "Content-Length: 3000000\r\n", b"x" * sent)
        async with asyncio.timeout(10):
            while not await world.rows():
                await asyncio.sleep(0.02)
        writer.transport.abort()
        await until_tidy(world)


async def test_an_upload_that_a_stopping_node_ends_leaves_nothing(world: World) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(65536)
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(world.files.upload(Identity(user=str(world.ann)), world.room, endless()))
    await reached.wait()
    assert await world.rows() == 1
    task.cancel()
    await world.files.stop()
    await asyncio.gather(task, return_exceptions=True)
    await until_tidy(world)


async def test_the_description_says_that_the_body_is_the_file(world: World) -> None:
    paths = (await world.client.get("/schema/openapi.json")).json()["paths"]
    assert paths["/v1/rooms/{room_id}/files"]["post"]["requestBody"]["content"] == {
        "*/*": {"schema": {"type": "string", "format": "binary"}}
    }
    assert {"get", "head"} <= set(paths["/v1/files/{file_id}"])


async def test_names_that_are_too_long_are_refused(world: World) -> None:
    assert (await world.upload(name="x" * 1025)).status_code == 400
    assert (await world.uploaded(name="x" * 1024))["name"] == "x" * 255
    assert (await world.uploaded())["name"] == "file"


async def test_so_many_uploads_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [await raw_upload(world, "Content-Length: 100\r\n", b"x") for _ in range(service.MAX_UPLOADS_A_USER)]
    async with asyncio.timeout(10):
        while await world.rows() < len(slow):
            await asyncio.sleep(0.02)
    assert (await world.upload()).status_code == 409
    assert (await world.upload(user=world.ben)).status_code == 201
    monkeypatch.setattr(service, "MAX_UPLOADS", len(slow))
    busy = await world.upload(user=world.ben)
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
    for reader, writer in slow:
        writer.write(b"x" * 99)
        assert b" 201 " in await reader.readline()
        writer.close()
    assert (await world.upload()).status_code == 201


async def test_an_upload_may_take_so_long(database_url: str, tmp_path: Path) -> None:
    async with world_of(database_url, tmp_path, orphan_ttl=0.5) as world:
        reader, writer = await raw_upload(world, "Content-Length: 100\r\n", b"x")
        assert b" 409 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        await until_tidy(world)


async def test_a_store_that_is_away(world: World) -> None:
    said = await world.uploaded()
    world.folder.rename(world.folder.with_name("away"))
    world.folder.touch()
    refused = await world.upload()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await world.get(f"/v1/files/{said['id']}")).status_code == 503
    world.folder.unlink()
    assert (await world.get(f"/v1/files/{said['id']}")).status_code == 404
    assert await world.files.sweep() == 0, "the rest of the upload is looked for when it is due"
    world.folder.with_name("away").rename(world.folder)
    assert (await world.get(f"/v1/files/{said['id']}")).status_code == 200


# --- downloads -------------------------------------------------------------------------------------------------


async def test_who_may_have_a_file(world: World) -> None:
    said = await world.uploaded()
    path = f"/v1/files/{said['id']}"
    assert (await world.get(path, world.ben)).status_code == 404, "no message carries it"
    await world.attach(said["id"])
    assert (await world.get(path, world.ben)).status_code == 200
    assert (await world.get(path, world.eve)).status_code == 404
    assert (await world.get(f"/v1/files/{uuid4()}", world.ben)).status_code == 404
    assert (await world.client.get(path)).status_code == 401
    await world.database.execute("delete from room_members where user_id = $1", world.ben)
    refused = await world.get(path, world.ben)
    assert refused.status_code == 404
    assert refused.json()["detail"] == (await world.get(f"/v1/files/{uuid4()}")).json()["detail"]


async def test_a_part_of_a_file(world: World) -> None:
    data = bytes(range(200)) * 5000
    path = f"/v1/files/{(await world.uploaded(data))['id']}"
    whole = await world.get(path)
    assert whole.headers["accept-ranges"] == "bytes"
    for wanted, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=500000-600000", 500_000, 600_001),
        ("bytes=999990-", 999_990, 1_000_000),
        ("bytes=-7", 999_993, 1_000_000),
    ):
        part = await world.get(path, Range=wanted)
        assert part.status_code == 206
        assert part.content == data[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/1000000"
        assert part.headers["content-length"] == str(end - start)
    beyond = await world.get(path, Range="bytes=1000000-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */1000000")
    for ignored in ("bytes=1-2,5-6", "pages=1-2", "bytes=9-1"):
        assert (await world.get(path, Range=ignored)).status_code == 200
    tag = whole.headers["etag"]
    assert (await world.get(path, **{"Range": "bytes=0-9", "If-Range": tag})).status_code == 206
    assert (await world.get(path, **{"Range": "bytes=0-9", "If-Range": '"old"'})).status_code == 200


async def test_what_is_there_already_is_not_sent_again(world: World) -> None:
    path = f"/v1/files/{(await world.uploaded())['id']}"
    tag = (await world.get(path)).headers["etag"]
    for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await world.get(path, **{"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b"")
    assert (await world.get(path, **{"If-None-Match": '"other"'})).status_code == 200


async def test_head_says_what_a_download_would(world: World) -> None:
    path = f"/v1/files/{(await world.uploaded(photo()))['id']}"
    for query in ("", "?inline=1"):
        got = await world.get(path + query)
        head = await world.client.head(path + query, headers=world.headers())
        assert (head.status_code, head.content) == (200, b"")
        left_out = {"date", "x-request-id"}
        assert {name: value for name, value in head.headers.items() if name not in left_out} == {
            name: value for name, value in got.headers.items() if name not in left_out
        }
    assert (await world.client.head(path)).status_code == 401
    assert (await world.client.head(f"/v1/files/{uuid4()}", headers=world.headers())).status_code == 404


async def test_only_what_is_harmless_is_shown_in_place(world: World) -> None:
    shown = {
        photo(): "image/png",
        b"%PDF-1.7\n%\xe2\xe3\n" + bytes(100): "application/pdf",
        b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(400): "video/mp4",
    }
    for data, content_type in shown.items():
        got = await world.get(f"/v1/files/{(await world.uploaded(data))['id']}?inline=1")
        assert got.headers["content-type"] == content_type
        assert got.headers["content-disposition"].startswith("inline")
        assert ("sandbox" in got.headers["content-security-policy"]) is (content_type != "application/pdf")
    for data in (b"text", b"PK\x03\x04" + bytes(60)):
        got = await world.get(f"/v1/files/{(await world.uploaded(data))['id']}?inline=1")
        assert got.headers["content-disposition"].startswith("attachment")


async def test_a_reader_that_goes_away_stops_the_reading(world: World) -> None:
    path = f"/v1/files/{(await world.uploaded(bytes(MAX_SIZE)))['id']}"
    async with world.client.stream("GET", path, headers=world.headers()) as response:
        async for _ in response.aiter_raw(65536):
            break
    assert (await world.get(path)).content == bytes(MAX_SIZE)


# --- links -----------------------------------------------------------------------------------------------------


async def test_a_link_needs_no_header(world: World) -> None:
    said = await world.uploaded(photo())
    made = await world.client.post(f"/v1/files/{said['id']}/link", headers=world.headers())
    assert made.status_code == 200
    url = made.json()["url"]
    assert url.startswith(f"/v1/files/{said['id']}?ticket=")
    got = await world.client.get(url, headers={"Range": "bytes=0-3"})
    assert (got.status_code, got.content) == (206, b"\x89PNG")
    assert (await world.client.head(url)).status_code == 200
    assert (await world.client.get(url + "&inline=1")).headers["content-disposition"].startswith("inline")
    assert (await world.client.get(url.replace("?", "/thumbnail?"))).status_code == 200


async def test_a_link_is_for_one_file_one_person_and_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said, other = await world.uploaded(), await world.uploaded()
    url = (await world.client.post(f"/v1/files/{said['id']}/link", headers=world.headers())).json()["url"]
    assert (await world.client.get(url.replace(said["id"], other["id"]))).status_code == 401
    assert (await world.client.get(url[:-1])).status_code == 401
    token = mint_connection(SECRET, str(world.ann), ttl=600)
    assert (await world.client.get(f"/v1/files/{said['id']}?ticket={token[:256]}")).status_code == 401
    ticket = url.partition("ticket=")[2]
    as_token = await world.client.get(f"/v1/files/{said['id']}", headers={"Authorization": f"Bearer {ticket}"})
    assert as_token.status_code == 401
    assert (
        await world.client.post(f"/v1/files/{said['id']}/link", headers=world.headers(world.ben))
    ).status_code == 404
    assert (await world.client.get(url)).status_code == 200
    await world.database.execute("delete from room_members where user_id = $1", world.ann)
    assert (await world.client.get(url)).status_code == 404, "the right went with the membership"


async def test_a_link_is_over_in_time(database_url: str, tmp_path: Path) -> None:
    async with world_of(database_url, tmp_path, link_ttl=1.0) as world:
        said = await world.uploaded()
        url = (await world.client.post(f"/v1/files/{said['id']}/link", headers=world.headers())).json()["url"]
        async with asyncio.timeout(10):
            while (await world.client.get(url)).status_code != 401:
                await asyncio.sleep(0.05)
        assert (await world.get(f"/v1/files/{said['id']}")).status_code == 200


# --- in a cloud ------------------------------------------------------------------------------------------------


@pytest.fixture
async def cloud(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    with s3_server(tmp_path / "s3") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        async with world_of(database_url, tmp_path, url=server.url) as world:
            world.folder = server.folder
            yield world


async def test_clients_fetch_from_the_cloud_themselves(cloud: World) -> None:
    data = photo()
    said = await cloud.uploaded(data, name="photo ☕.png")
    sent = await cloud.get(f"/v1/files/{said['id']}")
    assert sent.status_code == 307
    assert sent.headers["cache-control"] == "no-store"
    found = httpx.get(sent.headers["location"], trust_env=False)
    assert found.content == data
    assert found.headers["content-type"] == "image/png"
    assert found.headers["content-disposition"].endswith("filename*=UTF-8''photo%20%E2%98%95.png")
    assert (await cloud.get(f"/v1/files/{said['id']}", cloud.eve)).status_code == 404
    part = httpx.get(sent.headers["location"], headers={"Range": "bytes=-7"}, trust_env=False)
    assert (part.status_code, part.content) == (206, data[-7:])
    assert (await cloud.get(f"/v1/files/{said['id']}?inline=1")).content == data, "which the cloud would not show"
    part = await cloud.get(f"/v1/files/{said['id']}?inline=1", Range="bytes=1000-1999")
    assert (part.status_code, part.content) == (206, data[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(data)}"
    assert (await cloud.get(f"/v1/files/{said['id']}/thumbnail")).status_code == 200
    head = await cloud.client.head(f"/v1/files/{said['id']}", headers=cloud.headers())
    assert head.headers["content-length"] == str(len(data))


async def test_the_cloud_is_swept_too(cloud: World) -> None:
    await cloud.uploaded(photo())
    _, writer = await raw_upload(cloud, "Content-Length: 3000000\r\n", b"x" * 2_000_000)
    async with asyncio.timeout(10):
        while await cloud.rows() < 2:
            await asyncio.sleep(0.02)
    writer.transport.abort()
    async with asyncio.timeout(10):
        while await cloud.rows() > 1:
            await asyncio.sleep(0.02)
    assert len(cloud.objects()) == 2
    await cloud.database.execute("update files set sweep_at = now()")
    assert await cloud.files.sweep() == 1
    assert (await cloud.rows(), cloud.objects()) == (0, [])
