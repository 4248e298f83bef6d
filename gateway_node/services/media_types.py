"""What a file is by its bytes. What its sender says counts only where the bytes may be that."""

from __future__ import annotations

import puremagic

HEAD = 8 * 1024  # bytes that decide
UNKNOWN = "application/octet-stream"
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
SHOWN = IMAGES | {
    "application/pdf",
    *("video/mp4", "video/webm"),
    *("audio/mpeg", "audio/mp4", "audio/ogg", "audio/wav", "audio/flac"),
}
"""What a browser may show in place: none of it can run a script of its own in our name."""

_OTHER_NAMES = {
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "application/ogg": "audio/ogg",
    "application/x-gzip": "application/gzip",
}
_KEPT = ("image/", "audio/", "video/", "font/")
_ACTIVE = ("html", "script", "svg", "flash")


def media_type(head: bytes, said: str) -> str:
    """The type of a file that begins with `head`, whose sender said that it is `said`.

    All text is `text/plain`: HTML, SVG and scripts are never called what they are, so that nobody runs them.
    """
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    if _is_text(head):
        return "text/plain"
    found = _candidates(head)
    for each in found:
        if each in SHOWN:
            return each
    said = said.partition(";")[0].strip().lower()
    if said in found:
        return said
    for each in found:
        if each.startswith(_KEPT):
            return each
    if head.startswith(b"PK\x03\x04"):
        return "application/zip"
    return UNKNOWN


def is_no_video(type: str) -> bool:
    """Of a type that was found by the bytes. `UNKNOWN` may be one: so are fragmented MP4 and many old containers."""
    return type.startswith(("image/", "text/", "font/")) or type in ("application/pdf", "application/zip")


def _candidates(head: bytes) -> list[str]:
    """Likely types, the likeliest first, without those that a browser would run."""
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return []
    names = [_OTHER_NAMES.get(match.mime_type, match.mime_type) for match in matches]
    return [name for name in names if name and not name.endswith("xml") and not any(word in name for word in _ACTIVE)]


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) - error.start >= 4:  # not merely cut in the middle of a character
            return False
        text = head[: error.start].decode()
    return all(character >= " " or character in "\t\n\r\f\x1b" for character in text)
