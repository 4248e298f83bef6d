"""Where in the JSON something is wrong, as JSON pointers (RFC 6901)."""

from __future__ import annotations

import re

import msgspec

from realtime import codes

_PATH = re.compile(r" - at `\$(?P<path>.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)(?=[.\[]|$)|\[(\d+)\]")  # `[...]`, some key of a map, is none
_FIELD = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<field>.*?)`")


def locate(error: msgspec.ValidationError) -> tuple[str, str]:
    """The pointer and the words of what msgspec found: "Expected `str`, got `int` - at `$.tags[...]`" is `/tags`."""
    text = str(error)
    match = _PATH.search(text)
    detail = text[: match.start()] if match else text
    steps = _STEP.findall(match["path"]) if match else []
    if field := _FIELD.match(detail):
        steps.append((field["field"], ""))
    return "".join("/" + (name or index).replace("~", "~0").replace("/", "~1") for name, index in steps), detail


def refusal(error: msgspec.DecodeError) -> codes.CommandError:
    """Error 107 about the place that msgspec did not like; without a place where it is no JSON at all."""
    if isinstance(error, msgspec.ValidationError):
        return codes.BAD_REQUEST.at(*locate(error))
    return codes.BAD_REQUEST.saying(f"not JSON: {error}")
