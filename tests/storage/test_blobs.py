from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from storage.blobs import BLOCK, SMALL, Blobs, BlobsMisconfigured, BlobsUnavailable, NoSuchBlob
from tests.storage.s3 import S3, s3_server

MIB = 1 << 20
HEADERS = {"content_type": "image/png", "disposition": 'attachment; filename="x"'}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3") / "root") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, folder: Path) -> Blobs:
    url = request.getfixturevalue("s3").url if request.param == "s3" else None
    return Blobs(url, folder, largest=100 * MIB)


async def blocks_of(data: bytes, fails_at: int | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), BLOCK):
        if fails_at is not None and start >= fails_at:
            raise ZeroDivisionError("the sender hung up")
        yield data[start : start + BLOCK]


async def read(blobs: Blobs, key: str, part: tuple[int, int] | None = None) -> bytes:
    return b"".join([block async for block in await blobs.get(key, part)])


def names(folder: Path) -> set[str]:
    """Every file below, and what is being written."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [1, SMALL, SMALL + 1, 12 * MIB + 7])
async def test_what_is_put_is_got(blobs: Blobs, size: int) -> None:
    data = os.urandom(size)
    await blobs.put("ab/one", blocks_of(data), **HEADERS)
    assert await read(blobs, "ab/one") == data
    assert await read(blobs, "ab/one", (size // 2, size)) == data[size // 2 :]
    assert await read(blobs, "ab/one", (0, 1)) == data[:1]
    if not blobs.local:
        assert httpx.get(await blobs.address("ab/one", 60)).content == data
    await blobs.delete("ab/one")
    with pytest.raises(NoSuchBlob):
        await read(blobs, "ab/one")
    await blobs.delete("ab/one")


async def test_putting_again_replaces(blobs: Blobs, folder: Path) -> None:
    await blobs.put("ab/two", blocks_of(b"first"), **HEADERS)
    await blobs.put("ab/two", blocks_of(b"second"), **HEADERS)
    assert await read(blobs, "ab/two") == b"second"
    await blobs.delete("ab/two")


@pytest.mark.parametrize("fails_at", [0, BLOCK, 8 * MIB])
async def test_a_sender_that_hangs_up_leaves_nothing(
    blobs: Blobs, folder: Path, request: pytest.FixtureRequest, fails_at: int
) -> None:
    with pytest.raises(ZeroDivisionError):
        await blobs.put("ab/three", blocks_of(bytes(10 * MIB), fails_at), **HEADERS)
    root = folder if blobs.local else request.getfixturevalue("s3").folder
    await until(lambda: not names(root))


async def test_a_put_that_is_cancelled_leaves_nothing(folder: Path) -> None:
    blobs = Blobs(None, folder, largest=100 * MIB)
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(BLOCK)
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(blobs.put("ab/four", endless(), **HEADERS))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not names(folder))


async def test_what_a_killed_process_left_is_deleted_with_the_object(folder: Path) -> None:
    blobs = Blobs(None, folder, largest=100 * MIB)
    (folder / "ab").mkdir()
    for left in ("five#1", "five#2", "fives#1"):
        (folder / "ab" / left).write_bytes(b"half")
    await blobs.delete("ab/five")
    assert names(folder) == {"fives#1"}


async def test_an_address_is_signed_and_says_what_it_is(s3: S3, folder: Path) -> None:
    blobs = Blobs(s3.url, folder, largest=MIB)
    await blobs.put("ab/six", blocks_of(b"hello"), **HEADERS)
    address = await blobs.address("ab/six", 60)
    found = httpx.get(address)
    assert found.content == b"hello"
    assert found.headers["content-type"] == "image/png"
    assert found.headers["content-disposition"] == 'attachment; filename="x"'
    assert httpx.get(address.replace("X-Amz-Signature=", "X-Amz-Signature=0")).status_code == 403
    assert httpx.get(address.partition("?")[0]).is_client_error
    await blobs.delete("ab/six")


async def test_a_store_that_is_away_has_one_name(s3: S3, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(BlobsUnavailable):
        await Blobs(s3.url, folder, largest=MIB).put("ab/seven", blocks_of(b"x"), **HEADERS)


async def test_a_bucket_that_is_missing_is_no_missing_object(s3: S3, folder: Path) -> None:
    for data in (b"x", bytes(2 * SMALL)):
        with pytest.raises(BlobsUnavailable):
            await Blobs("s3://no-such-bucket", folder, largest=MIB).put("ab/x", blocks_of(data), **HEADERS)


async def test_a_folder_by_url(tmp_path: Path) -> None:
    blobs = Blobs(f"file://{tmp_path}/a%20folder", tmp_path / "unused", largest=MIB)
    await blobs.put("ab/eight", blocks_of(b"x"), **HEADERS)
    assert (tmp_path / "a folder" / "ab" / "eight").read_bytes() == b"x"
    assert (tmp_path / "a folder").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "unused").exists()


def test_settings_that_open_nothing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    (tmp_path / "file").touch()
    for url in ("az://container/prefix", f"file://{tmp_path}/file"):
        with pytest.raises(BlobsMisconfigured, match=r"files\.url: ."):
            Blobs(url, tmp_path, largest=MIB)


async def until(condition: Callable[[], bool]) -> None:
    """The store tidies up in a thread of its own."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
