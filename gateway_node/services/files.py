"""Files of rooms: uploads, downloads, thumbnails, and the sweep of what no message carries.

Every object has a row that knows of it, before it is there and until it is gone: an upload makes the row first, the
sweep deletes it last. So a process may die anywhere, and what it leaves is found.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import structlog
from msgspec import Struct

from gateway_node.services.media_types import HEAD, IMAGES, UNKNOWN, media_type
from gateway_node.services.rooms import user_id_of
from gateway_node.services.thumbnails import MAX_SOURCE, MEDIA_TYPE, NoImage, Picture, Thumbnailer
from gateway_node.services.tickets import BadTicket, Tickets
from realtime import codes
from realtime.interfaces import Identity
from storage.blobs import BLOCK, Blobs, BlobsUnavailable, NoSuchBlob
from storage.database import DatabaseUnavailable
from storage.files import File, FileStore

if TYPE_CHECKING:
    from config.sections import Files as Settings

MAX_NAME = 255  # characters
MAX_UPLOADS = 16  # at once on a node: each takes 2 MB of memory, to a cloud some 10 MB
MAX_UPLOADS_A_USER = 4
SWEEP_PERIOD = 3600.0  # s between two sweeps at most, give or take half

_BIDIRECTIONAL = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_log = structlog.get_logger(__name__)


class FileTooLarge(Exception):
    """More bytes than `files.max_size`."""

    def __init__(self, largest: int) -> None:
        super().__init__(f"a file may have {largest / (1 << 20):.4g} MiB")


class EmptyFile(Exception):
    """There is not one byte in it."""


class UploadsBusy(Exception):
    """As many uploads are under way as may. Trying again in a second helps."""


class Link(Struct, frozen=True):
    """An address that needs no header, until it is over."""

    url: str
    expires_at: datetime


class Files:
    """What users do with files. Methods raise `CommandError` to refuse: 102 for a room and 1002 for a file that is not
    there, or not theirs to have; 100 while PostgreSQL or the object store is away.

    `sweeps`: whether this process removes what no message carries.
    """

    def __init__(self, store: FileStore, settings: Settings, data_dir: Path, secret: str, *, sweeps: bool) -> None:
        self._store = store
        self._settings = settings
        self._folder = data_dir / "files"
        self._sweeps = sweeps
        self._tickets = Tickets(secret)
        self._thumbnails = Thumbnailer()
        self._uploads: Counter[UUID] = Counter()
        self._discarding: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the object store, and sweep from time to time. Raises: `BlobsMisconfigured`."""
        self._blobs = Blobs(self._settings.url, self._folder, largest=int(self._settings.max_size))
        if self._sweeps:
            self._task = asyncio.create_task(self._sweep_on())

    async def stop(self) -> None:
        """End the sweep, and take back what was cut off."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*self._discarding)

    # --- uploads -----------------------------------------------------------------------------------------------

    async def upload(
        self,
        identity: Identity,
        room_id: UUID,
        body: AsyncIterator[bytes],
        *,
        name: str = "",
        said: str = "",
        length: int | None = None,
    ) -> File:
        """Take a file into a room. `said`: what its sender says it is; `length`: in bytes, where they say.

        An exception out of `body` (the sender hung up) leaves nothing, and is raised on.

        Raises: `FileTooLarge`, `EmptyFile`, `UploadsBusy`; `CommandError` 106 for one user's too many at once.
        """
        owner = user_id_of(identity)
        largest = int(self._settings.max_size)
        if length is not None and length > largest:
            raise FileTooLarge(largest)
        if length == 0:
            raise EmptyFile
        with self._slot(owner), _as_codes():
            file_id = uuid4()
            if not await self._store.begin(file_id, room_id, owner, clean_name(name)):
                raise codes.UNKNOWN_CHANNEL
            try:
                async with asyncio.timeout(self._store.orphan_ttl):  # the sweep counts on it
                    return await self._take(file_id, clean_name(name), said, _Body(body, largest))
            except BaseException:
                task = asyncio.create_task(self._discard(file_id))  # this one may be ending
                self._discarding.add(task)
                task.add_done_callback(self._discarding.discard)
                await asyncio.shield(task)
                raise

    async def _take(self, file_id: UUID, name: str, said: str, body: _Body) -> File:
        blocks = body.blocks()
        first = await anext(blocks, b"")
        if not first:
            raise EmptyFile
        found = media_type(first[:HEAD], said)
        disposition = content_disposition(name)
        key = _key(file_id)
        await self._blobs.put(key, _with(first, blocks), content_type=found, disposition=disposition)
        picture: Picture | None = None
        if found in IMAGES and body.size <= MAX_SOURCE:
            try:
                picture = await self._thumbnails.look(await self._blobs.get(key))
            except NoImage:
                found = UNKNOWN
        if picture is not None and picture.thumbnail:
            await self._blobs.put(
                _thumbnail_key(file_id), _only(picture.thumbnail), content_type=MEDIA_TYPE, disposition="inline"
            )
        file = await self._store.finish(
            file_id,
            content_type=found,
            size=body.size,
            sha256=body.digest.digest(),
            width=picture.width if picture else None,
            height=picture.height if picture else None,
            thumbnail=bool(picture and picture.thumbnail),
        )
        if file is None:
            raise codes.CONFLICT.saying("the upload took too long")
        return file

    @contextmanager
    def _slot(self, owner: UUID) -> Iterator[None]:
        if self._uploads[owner] >= MAX_UPLOADS_A_USER:
            raise codes.LIMIT_EXCEEDED.saying(f"{MAX_UPLOADS_A_USER} uploads at once are the limit")
        if self._uploads.total() >= MAX_UPLOADS:
            raise UploadsBusy
        self._uploads[owner] += 1
        try:
            yield
        finally:
            self._uploads[owner] -= 1
            if not self._uploads[owner]:
                del self._uploads[owner]

    # --- downloads ---------------------------------------------------------------------------------------------

    async def get(self, user_id: UUID, file_id: UUID) -> File:
        """The file, if this user may have it."""
        with _as_codes():
            file = await self._store.visible(file_id, user_id)
        if file is None:
            raise codes.NOT_FOUND.saying("no such file")
        return file

    async def avatar(self, user_id: UUID) -> File:
        """The picture of somebody; of it, everybody may have the thumbnail."""
        with _as_codes():
            file = await self._store.avatar(user_id)
        if file is None:
            raise codes.NOT_FOUND.saying("there is no picture of them")
        return file

    async def read(self, file: File, part: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """Its bytes, all or the `part` from an offset up to another."""
        with _as_codes():
            return await self._blobs.get(_key(file.id), part)

    async def read_thumbnail(self, file: File) -> bytes:
        """A small picture of an image, in WebP."""
        if not file.thumbnail:
            raise codes.NOT_FOUND.saying("the file has no thumbnail")
        with _as_codes():
            blocks = await self._blobs.get(_thumbnail_key(file.id))
            return b"".join([block async for block in blocks])

    async def address(self, file: File) -> str | None:
        """Where a client fetches the file by itself; `None` when only from here."""
        if self._blobs.local:
            return None
        with _as_codes():
            return await self._blobs.address(_key(file.id), self._settings.link_ttl)

    async def link(self, identity: Identity, file_id: UUID) -> Link:
        """An address of the file that needs no header, for `files.link_ttl` seconds."""
        user_id = user_id_of(identity)
        file = await self.get(user_id, file_id)
        ticket, expires = self._tickets.issue(file.id, user_id, self._settings.link_ttl)
        return Link(f"/v1/files/{file.id}?ticket={ticket}", datetime.fromtimestamp(expires, UTC))

    def bearer(self, ticket: str, file_id: UUID) -> UUID:
        """In whose name a link asks. Raises: `CommandError` 109."""
        try:
            return self._tickets.bearer(ticket, file_id)
        except BadTicket:
            raise codes.TOKEN_EXPIRED.saying("the link is over, or not this file's: ask for another") from None

    # --- the sweep ---------------------------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Remove the files that nobody wants: their objects, then their rows. Returns how many.

        Raises: `DatabaseUnavailable`, `BlobsUnavailable`.
        """
        removed = 0
        while True:
            seen, gone = await self._store.due()
            for file_id in gone:
                await self._remove(file_id)
            removed += len(gone)
            if not seen:
                return removed

    async def _sweep_on(self) -> None:
        """Background work. Several nodes doing it do no harm."""
        period = min(SWEEP_PERIOD, self._store.orphan_ttl)
        while True:
            await asyncio.sleep(period * random.uniform(0.5, 1.5))
            try:
                removed = await self.sweep()
            except (DatabaseUnavailable, BlobsUnavailable) as error:
                _log.warning("files.sweep_failed", error=str(error))
                continue
            if removed:
                _log.info("files.swept", removed=removed)

    async def _discard(self, file_id: UUID) -> None:
        """Take back an upload that failed; what cannot be taken back now is the sweep's."""
        try:
            await self._remove(file_id)
        except (DatabaseUnavailable, BlobsUnavailable) as error:
            _log.warning("files.discard_failed", file=str(file_id), error=str(error))

    async def _remove(self, file_id: UUID) -> None:
        for key in (_key(file_id), _thumbnail_key(file_id)):
            await self._blobs.delete(key)
        await self._store.forget(file_id)


class _Body:
    """What comes in: gathered into blocks, counted and hashed."""

    def __init__(self, chunks: AsyncIterator[bytes], largest: int) -> None:
        self._chunks = chunks
        self._largest = largest
        self.size = 0
        self.digest = hashlib.sha256()

    async def blocks(self) -> AsyncIterator[bytes]:
        """Blocks of `BLOCK` bytes and more; the last may be smaller. Raises: `FileTooLarge`."""
        block = bytearray()
        async for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._largest:
                raise FileTooLarge(self._largest)
            self.digest.update(chunk)
            block += chunk
            if len(block) >= BLOCK:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)


def clean_name(name: str) -> str:
    """A name to save a file under: no folder, nothing that is not seen or turns the direction of writing."""
    name = name.replace("\\", "/").rpartition("/")[2]
    seen = (each for each in name if unicodedata.category(each) not in {"Cc", "Cs"} and each not in _BIDIRECTIONAL)
    name = "".join(seen).strip(" .")
    stem, dot, extension = name.rpartition(".")
    if len(name) > MAX_NAME and dot and len(extension) < 20:
        name = f"{stem[: MAX_NAME - len(extension) - 1]}.{extension}"
    return name[:MAX_NAME] or "file"


def content_disposition(name: str, *, inline: bool = False) -> str:
    """The header, by RFC 6266: the name in UTF-8, and something like it for clients of the last century."""
    kind = "inline" if inline else "attachment"
    plain = "".join(each if each.isascii() and each not in '"\\%' else "_" for each in name)
    encoded = "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"!#$&+-.^_`|~") else f"%{byte:02X}"
        for byte in name.encode()
    )
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


@contextmanager
def _as_codes() -> Iterator[None]:
    try:
        yield
    except (DatabaseUnavailable, BlobsUnavailable) as error:
        _log.warning("files.unavailable", error=str(error))
        raise codes.INTERNAL from None
    except NoSuchBlob as error:
        _log.error("files.missing", error=str(error))
        raise codes.NOT_FOUND.saying("the file is lost") from None
    except TimeoutError:
        raise codes.CONFLICT.saying("the upload took too long") from None


def _key(file_id: UUID) -> str:
    """256 folders, so that none of them grows long."""
    return f"{file_id.hex[:2]}/{file_id}"


def _thumbnail_key(file_id: UUID) -> str:
    return f"{_key(file_id)}.thumbnail"


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for block in rest:
        yield block


async def _only(block: bytes) -> AsyncIterator[bytes]:
    yield block
