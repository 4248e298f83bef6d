"""Text that people give: what may be in it, and how long it may be."""

from __future__ import annotations

import unicodedata

from realtime import codes

_LINE_BREAKS = {"Cc", "Zl", "Zp"}  # Unicode's control characters and separators of lines


def line(text: str, pointer: str, most: int, *, what: str = "a title") -> str:
    """One line of 1 to `most` characters, without the spaces around it. Raises error 107 at `pointer`."""
    text = text.strip()
    if not 1 <= len(text) <= most:
        raise codes.BAD_REQUEST.at(pointer, f"{what} has 1 to {most} characters")
    printable(text, pointer)
    return text


def printable(text: str, pointer: str) -> None:
    """Marks of the writing direction pass: Hebrew and Arabic need them, and whoever shows a title isolates it."""
    if any(unicodedata.category(character) in _LINE_BREAKS for character in text):
        raise codes.BAD_REQUEST.at(pointer, "control characters and line breaks have no place here")


def storable(text: str, pointer: str, most: int) -> str:
    """Text of several lines, at most `most` characters. PostgreSQL keeps no null character. Raises error 107."""
    if len(text) > most:
        raise codes.BAD_REQUEST.at(pointer, f"at most {most} characters are wanted")
    if "\0" in text:
        raise codes.BAD_REQUEST.at(pointer, "a null character has no place here")
    return text
