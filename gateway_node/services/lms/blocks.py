"""What a lesson is made of: a list of blocks, each of one kind.

A client shows what it knows and leaves out the rest. Markdown is kept as it was written: whoever shows it renders it
without HTML, as the chat does.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import Meta, Struct

from gateway_node.services.text import printable, storable
from realtime import codes

MAX_BLOCKS = 200  # of a lesson
MAX_CONTENT = 256 * 1024  # bytes of JSON of all blocks of a lesson
MAX_TEXT = 100_000  # characters of a block
MAX_URL = 2048
MAX_CAPTION = 500


class Markdown(Struct, tag="markdown", tag_field="type", forbid_unknown_fields=True):
    text: str


class Video(Struct, tag="video", tag_field="type", forbid_unknown_fields=True):
    """By its address, or a file that was uploaded to the course."""

    url: str | None = None
    file_id: UUID | None = None
    caption: str = ""


class File(Struct, tag="file", tag_field="type", forbid_unknown_fields=True):
    file_id: UUID
    caption: str = ""


class Link(Struct, tag="link", tag_field="type", forbid_unknown_fields=True):
    url: str
    caption: str = ""


class Code(Struct, tag="code", tag_field="type", forbid_unknown_fields=True):
    text: str
    language: Annotated[str, Meta(max_length=40)] = ""


Block = Markdown | Video | File | Link | Code
Kind = Literal["markdown", "video", "file", "link", "code"]


def checked(blocks: list[Block]) -> list[Block]:
    """The same blocks. Raises error 107 at the one that cannot be."""
    if len(blocks) > MAX_BLOCKS:
        raise codes.BAD_REQUEST.at("/content", f"a lesson has at most {MAX_BLOCKS} blocks")
    for i, block in enumerate(blocks):
        at = f"/content/{i}"
        if isinstance(block, Markdown | Code):
            storable(block.text, f"{at}/text", MAX_TEXT)
            continue
        storable(block.caption, f"{at}/caption", MAX_CAPTION)
        if isinstance(block, Video) and (block.url is None) == (block.file_id is None):
            raise codes.BAD_REQUEST.at(at, "a video has a url or a file_id")
        if isinstance(block, Video | Link) and block.url is not None:
            http_address(block.url, f"{at}/url")
    return blocks


def files_in(blocks: list[Block]) -> list[UUID]:
    """The files that blocks refer to."""
    return [block.file_id for block in blocks if isinstance(block, Video | File) and block.file_id is not None]


def http_address(url: str, pointer: str) -> str:
    """An address that a browser may open for somebody else: http or https, with a host, without a password in it.

    Raises error 107.
    """
    printable(url, pointer)
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    except ValueError:
        fine = False
    if not fine or len(url) > MAX_URL or " " in url:
        raise codes.BAD_REQUEST.at(pointer, f"an http or https address of at most {MAX_URL} characters is wanted")
    return url
