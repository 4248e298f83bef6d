from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from gateway_node.services.thumbnails import NoImage, Picture, Thumbnailer


async def blocks_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


async def look(data: bytes) -> Picture | None:
    return await Thumbnailer().look(blocks_of(data))


def saved(image: Image.Image, kind: str, **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def opened(picture: Picture | None) -> Image.Image:
    assert picture is not None
    image = Image.open(io.BytesIO(picture.thumbnail))
    image.load()
    return image


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
async def test_an_image_has_a_size_and_a_thumbnail(kind: str) -> None:
    picture = await look(saved(Image.new("RGB", (1200, 600), "red"), kind))
    small = opened(picture)
    assert picture is not None
    assert (picture.width, picture.height) == (1200, 600)
    assert (small.format, small.size) == ("WEBP", (400, 200))
    red, green, blue = small.convert("RGB").getpixel((200, 100))  # type: ignore[misc]
    assert red > 240
    assert green < 20
    assert blue < 20


async def test_a_small_image_is_not_made_larger() -> None:
    assert opened(await look(saved(Image.new("RGB", (30, 20)), "PNG"))).size == (30, 20)


async def test_the_camera_was_held_upright_and_nobody_learns_where() -> None:
    image = Image.new("RGB", (600, 300), "red")
    image.paste("blue", (0, 0, 300, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    exif[0x010E] = "a secret place"
    exif.get_ifd(0x8825)[1] = "N"
    picture = await look(saved(image, "JPEG", exif=exif, comment="another secret"))
    small = opened(picture)
    assert picture is not None
    assert (picture.width, picture.height) == (300, 600)
    assert small.size == (200, 400)
    assert small.convert("RGB").getpixel((100, 50))[2] > 200  # type: ignore[index]  # blue above
    assert small.convert("RGB").getpixel((100, 350))[0] > 200  # type: ignore[index]  # red below
    assert not small.getexif()
    assert b"secret" not in picture.thumbnail


async def test_what_is_transparent_stays_so() -> None:
    assert opened(await look(saved(Image.new("RGBA", (10, 10), (0, 0, 0, 0)), "PNG"))).getpixel((5, 5))[3] == 0  # type: ignore[index]


async def test_a_bomb_has_a_size_and_no_thumbnail() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )
    assert await look(bomb) == Picture(60000, 60000, b"")


async def test_an_image_that_is_cut_off_has_a_size_and_no_thumbnail() -> None:
    image = Image.effect_noise((500, 400), 50)
    assert await look(saved(image, "PNG")[:5000]) == Picture(500, 400, b"")


@pytest.mark.parametrize(
    "data",
    [b"x", b"\x89PNG\r\n\x1a\n<html><script>alert(1)</script>", b"\x89PNG\r\n\x1a\n" + bytes(10 << 20), b"GIF89a"],
    ids=["a letter", "a page", "nothing, at length", "six letters"],
)
async def test_what_is_no_image_is_told(data: bytes) -> None:
    with pytest.raises(NoImage):
        await look(data)


async def test_other_formats_are_not_opened() -> None:
    for kind in ("BMP", "TIFF", "ICO", "PPM"):
        with pytest.raises(NoImage):
            await look(saved(Image.new("RGB", (20, 20)), kind))


async def test_an_image_that_takes_too_long_is_given_up() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"\x89PNG\r\n\x1a\n"
        await asyncio.Event().wait()

    assert await Thumbnailer(timeout=0.5).look(slow()) is None
    assert children() == []


async def test_a_look_that_is_cancelled_leaves_no_process() -> None:
    started = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        started.set()
        yield b"\x89PNG\r\n\x1a\n"
        await asyncio.Event().wait()

    task = asyncio.create_task(Thumbnailer().look(slow()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


def children() -> list[str]:
    """The commands of this process's children that look at images."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"thumbnail_worker" in command.read_bytes():
                found.append(pid)
    return found
