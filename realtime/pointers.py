"""Where in the JSON something is wrong, as JSON pointers (RFC 6901)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect

from realtime import codes

_PATH = re.compile(r" - at `(?P<key>key in )?\$(?P<path>.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)(?=[.\[]|$)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<field>.*?)`")
_CHOICE = re.compile(r"^Invalid (?:enum )?value ")
_SOME_KEY = "..."  # of a map: msgspec does not say which


def locate(error: msgspec.ValidationError, wanted: Any = None) -> tuple[str, str]:
    """The pointer and the words of what msgspec found: "Expected `str`, got `int` - at `$.tags[...]`" is `/tags`.

    `wanted` is the type that it was decoded as: where one of several words is wanted, they are said too.
    """
    text = str(error)
    match = _PATH.search(text)
    detail = text[: match.start()] if match else text
    steps = [name or index for name, index in _STEP.findall(match["path"])] if match else []
    if wanted is not None and _CHOICE.match(detail) and not (match and match["key"]):
        words = _choices(wanted, tuple("*" if step.isdigit() else step for step in steps))
        detail += f": {' or '.join(filter(None, (', '.join(words[:-1]), words[-1])))}" if words else ""
    if field := _FIELD.match(detail):
        steps.append(field["field"])
    pointed = [step.replace("~", "~0").replace("/", "~1") for step in steps if step != _SOME_KEY]
    return "".join(f"/{step}" for step in pointed), detail


def refusal(error: msgspec.DecodeError, wanted: Any = None) -> codes.CommandError:
    """Error 107 about the place that msgspec did not like; without a place where it is no JSON at all."""
    if isinstance(error, msgspec.ValidationError):
        return codes.BAD_REQUEST.at(*locate(error, wanted))
    return codes.BAD_REQUEST.saying(f"not JSON: {error}")


@lru_cache(maxsize=1024)  # of the places in our own types, which are some hundreds
def _choices(wanted: Any, steps: tuple[str, ...]) -> tuple[str, ...]:
    """The words that may stand at this place: of a `Literal`, or the tags of a union."""
    places = list(_apart(inspect.type_info(wanted)))
    for at, step in enumerate(steps):
        if at == len(steps) - 1:
            tags = [each.tag for each in places if isinstance(each, inspect.StructType) and each.tag_field == step]
            if tags:
                return tuple(dict.fromkeys(map(str, tags)))
        places = [inner for each in places for inner in _inside(each, step)]
    words = (value for each in places if isinstance(each, inspect.LiteralType) for value in each.values)
    return tuple(dict.fromkeys(map(str, words)))


def _inside(place: inspect.Type, step: str) -> Iterable[inspect.Type]:
    match place:
        case inspect.StructType():
            return (each for field in place.fields if field.encode_name == step for each in _apart(field.type))
        case inspect.DictType():
            return _apart(place.value_type)
        case inspect.CollectionType():
            return _apart(place.item_type)
    return ()


def _apart(place: inspect.Type) -> Iterator[inspect.Type]:
    """A union's types, without what was noted beside them."""
    if isinstance(place, inspect.UnionType):
        for each in place.types:
            yield from _apart(each)
    elif isinstance(place, inspect.Metadata):
        yield from _apart(place.type)
    else:
        yield place
