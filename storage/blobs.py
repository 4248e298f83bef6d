"""The object store: a folder, or S3, Google Cloud Storage or Azure by URL. Objects are streamed, in both directions.

A folder is treated as a store whose machine may lose power: an object is on the disk when `put` returns.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

BLOCK = 256 * 1024  # bytes read at once
SMALL = 1024 * 1024  # bytes; what is not larger is written by one request
MAX_PARTS = 10_000  # of an upload to S3
MIN_PART = 5 * 1024 * 1024  # bytes, to S3
MAX_SIGNED = 7 * 86400  # seconds that S3 lets a signed address live


class BlobsUnavailable(Exception):
    """The object store does not do what it is asked. Trying again may help."""


class BlobsMisconfigured(Exception):
    """The settings do not open an object store; the message says what is wrong with them."""


class NoSuchBlob(Exception):
    """There is no object under this key."""


class Blobs:
    """Objects by key. Every method raises `BlobsUnavailable`.

    `url` is `file:///folder`, `s3://bucket/prefix`, `gs://...` or `az://...`; without one the objects are in `folder`.
    Credentials of a cloud come from its usual environment variables. `largest`: bytes of the largest object.

    Raises: `BlobsMisconfigured`.
    """

    def __init__(self, url: str | None, folder: Path, *, largest: int) -> None:
        self._part = max(MIN_PART, -(-largest // MAX_PARTS))
        self._folder: Path | None = None
        try:
            if url is None or url.startswith("file:"):
                self._folder = folder if url is None else Path(unquote(urlsplit(url).path))
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._part = SMALL
                self._store: ObjectStore = LocalStore(self._folder)
            else:
                retries: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
                self._store = from_url(url, retry_config=retries)
        except (BaseError, OSError, ValueError) as error:
            raise BlobsMisconfigured(f"files.url: {_explain(error)}") from None

    @property
    def local(self) -> bool:
        """A folder: there is no address for others to fetch from."""
        return self._folder is not None

    async def put(self, key: str, blocks: AsyncIterator[bytes], *, content_type: str, disposition: str) -> None:
        """Write an object, all or nothing: an exception out of `blocks`, which is raised on, leaves none.

        A cloud keeps `content_type` and `disposition` (the header `Content-Disposition`) with it and answers with them.
        """
        start = bytearray()
        async for block in blocks:
            start += block
            if len(start) > SMALL:
                break
        attributes: Any = None if self.local else {"Content-Type": content_type, "Content-Disposition": disposition}
        with _named():
            if len(start) <= SMALL:
                await obstore.put_async(self._store, key, bytes(start), attributes=attributes, use_multipart=False)
            else:
                whole = _chain(bytes(start), blocks)
                del start
                await obstore.put_async(
                    self._store, key, whole, attributes=attributes, chunk_size=self._part, max_concurrency=1
                )
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder / key, self._folder)

    async def get(self, key: str, part: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """The bytes in blocks, all or the `part` from an offset up to another. Raises: `NoSuchBlob`."""
        with _named():
            try:
                found = await obstore.get_async(self._store, key, options={"range": part} if part else None)
            except FileNotFoundError as error:
                raise NoSuchBlob(_explain(error)) from None
        return _blocks(found)

    async def delete(self, key: str) -> None:
        """Remove an object and what an upload that was cut off has left of it. That there is none is no error."""
        with _named():
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                pass
            if self._folder is not None:
                await asyncio.to_thread(_remove_staged, self._folder / key)

    async def address(self, key: str, ttl: float) -> str:
        """An address from which anybody may fetch the object for `ttl` seconds. Not for a folder."""
        store: Any = self._store  # every cloud's can; the type of a folder's cannot
        with _named():
            signed: str = await obstore.sign_async(store, "GET", key, timedelta(seconds=min(ttl, MAX_SIGNED)))
        return signed


async def _blocks(found: obstore.GetResult) -> AsyncIterator[bytes]:
    with _named():
        async for block in found.stream(min_chunk_size=BLOCK):
            yield bytes(block)


async def _chain(start: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for block in rest:
        yield block


def _sync(path: Path, root: Path) -> None:
    """To the disk: the object, and the folders that name it."""
    for each in (path, path.parent, root):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_staged(path: Path) -> None:
    """The store writes to `<key>#1` and renames that; a process that is killed leaves it."""
    number = 1
    while (staged := path.with_name(f"{path.name}#{number}")).exists():
        staged.unlink(missing_ok=True)
        number += 1


@contextmanager
def _named() -> Iterator[None]:
    """The store's trouble under our names."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise BlobsUnavailable(_explain(error)) from error


def _explain(error: Exception) -> str:
    """One line; what follows is the library's own view of it."""
    return str(error).partition("\n")[0] or type(error).__name__
