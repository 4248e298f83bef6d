"""What is one emoji, as keyboards send it: looser than Unicode's list, which grows each year."""

from __future__ import annotations

import re

from realtime import codes

MAX_CODE_POINTS = 16

_BASE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001faff]"
)
_ELEMENT = (
    "(?:[#*0-9]\ufe0f?\u20e3"  # a keycap
    "|[\U0001f1e6-\U0001f1ff]{2}"  # the flag of a country
    f"|{_BASE}\ufe0f?[\U0001f3fb-\U0001f3ff]?"  # with a colour of skin
    "(?:[\U000e0020-\U000e007e]+\U000e007f)?)"  # the flag of a region, spelt in tags
)
_EMOJI = re.compile(f"{_ELEMENT}(?:\u200d{_ELEMENT})*")  # families and professions are joined


def check_emoji(text: str) -> None:
    """Raises error 107 for anything but one emoji."""
    if len(text) > MAX_CODE_POINTS or not _EMOJI.fullmatch(text):
        raise codes.BAD_REQUEST.at("/emoji", "that is not one emoji")
