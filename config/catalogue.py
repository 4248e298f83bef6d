"""Every setting by name: for the environment, the messages, the page of settings and `chalkwire config`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo

from config.kinds import Secret, Url
from config.sections import Settings
from config.tokens import Issuer

PREFIX = "CHALKWIRE_"
HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `kind` says in words what it takes."""

    path: tuple[str, ...]
    field: FieldInfo
    kind: str

    @property
    def toml(self) -> str:
        return ".".join(self.path)

    @property
    def environment(self) -> str:
        return environment_name(self.path)

    @property
    def description(self) -> str:
        return self.field.description or ""

    def shown(self, value: Any) -> Any:
        """The value as it may be printed: a secret hidden, a URL without its password."""
        if value is not None and any(isinstance(mark, Secret) for mark in self.field.metadata):
            return HIDDEN
        if value and any(isinstance(mark, Url) for mark in self.field.metadata):
            return _without_password(value) if isinstance(value, str) else [_without_password(each) for each in value]
        return value


def environment_name(path: Sequence[str]) -> str:
    return PREFIX + "__".join(path).upper()


def every_setting() -> Iterator[Setting]:
    """In the order of the page: as declared, depth first."""
    schema = Settings.model_json_schema()
    return _walk(Settings, (), schema, schema["$defs"])


def every_option_of_an_issuer() -> Iterator[Setting]:
    """Those of one table of `token.issuers`, by their names in it."""
    schema = Issuer.model_json_schema()
    return _walk(Issuer, (), schema, schema.get("$defs", {}))


def _walk(
    model: type[BaseModel], path: tuple[str, ...], schema: dict[str, Any], defs: dict[str, Any]
) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        of = field.annotation
        if isinstance(of, type) and issubclass(of, BaseModel):
            yield from _walk(of, (*path, name), defs[of.__name__], defs)
        else:
            described = schema["properties"][name]
            if of is ByteSize:
                kind = f"a size from {size(described['ge'])} to {size(described['le'])}, in bytes or with its unit"
            elif any(isinstance(mark, Url) for mark in field.metadata) and described.get("type") != "array":
                kind = "a URL"
            else:
                kind = _kind(described)
            yield Setting((*path, name), field, kind)


def size(value: int) -> str:
    """As people write it, and as a setting takes it."""
    number, _, unit = ByteSize(value).human_readable(separator=" ").partition(" ")
    return f"{number.removesuffix('.0')} {unit}"


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return next(_kind(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            return "a whole number" + _bounds(schema)
        case "number":
            return "a number" + _bounds(schema)
        case "array":
            items = schema["items"].get("enum")
            return "a list (a,b in the environment)" + (f" of {', '.join(items)}" if items else "")
        case "object":
            return "a table"
        case _:
            if schema.get("format") == "path":
                return "a path"
            shortest = schema.get("minLength")
            return f"a text of {shortest} characters or more" if shortest else "a text"


def _bounds(schema: dict[str, Any]) -> str:
    low, above, high = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f", {low} or more"
    return "" if above is None else f" above {above}"


def _without_password(url: str) -> str:
    """Hides whatever stands before the last `@` (NATS has its token there) and a password in the query."""
    return re.sub(r"(password=)[^&]*", rf"\1{HIDDEN}", re.sub(r"://.*@", f"://{HIDDEN}@", url))
