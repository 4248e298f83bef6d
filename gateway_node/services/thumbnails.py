"""Sizes and thumbnails of images, found by a process of its own for each (see `thumbnail_worker`).

One at a time per node, so that a flood of pictures takes one core at low priority and not more: 0.2 s of it for a
small picture, 0.3 to 0.6 s for one of 12 million pixels.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from msgspec import Struct

from gateway_node.services import thumbnail_worker as worker

MEDIA_TYPE = "image/webp"
MAX_SOURCE = 32 * 1024 * 1024  # bytes of an image that is looked at
TIMEOUT = 10.0  # s for one image
MAX_ANSWER = 1024 * 1024  # bytes

_log = structlog.get_logger(__name__)


class NoImage(Exception):
    """What says it is an image is none."""


class Picture(Struct, frozen=True):
    """`width` and `height` as a viewer sees it, in pixels; `thumbnail` is empty where none can be made."""

    width: int
    height: int
    thumbnail: bytes


class Thumbnailer:
    """Looks at images, one after the other."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._turn = asyncio.Lock()

    async def look(self, image: AsyncIterator[bytes]) -> Picture | None:
        """What there is to know of an image; `None` when that could not be found out in time.

        Raises: `NoImage`.
        """
        async with self._turn:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("CHALKWIRE_")}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(Path(worker.__file__))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
            )
            try:
                async with asyncio.timeout(self._timeout):
                    answer = await _converse(process, image)
                    status = await process.wait()
            except TimeoutError:
                _log.warning("thumbnail.late", seconds=self._timeout)
                return None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if status == worker.NO_IMAGE:
            raise NoImage
        if status != 0:
            _log.warning("thumbnail.failed", status=status)
            return None
        size, _, thumbnail = answer.partition(b"\n")
        width, height = map(int, size.split())
        return Picture(width, height, thumbnail)


async def _converse(process: asyncio.subprocess.Process, image: AsyncIterator[bytes]) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async for block in image:
            process.stdin.write(block)
            await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended early: its exit status says why
    return await process.stdout.read(MAX_ANSWER)
