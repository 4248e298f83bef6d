"""What a setting can be: sizes, networks, origins, URLs, times, and how each is read from text."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

KIB = 1024
MIB = 1024 * 1024


class Secret:
    """Marks a setting whose value is never printed."""


class Url:
    """Marks a setting whose value is printed without the password in it."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


def split(value: Any) -> Any:
    """Lists come from the environment as `a,b` or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)  # its JSONDecodeError is a ValueError, as pydantic wants it
    return [item for part in value.split(",") if (item := part.strip())]


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{value!r} is neither an address nor a network such as 10.0.0.0/8") from None


def _origin(value: str) -> str:
    if value != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", value):
        raise ValueError(f"{value!r} is not an origin such as https://example.org (or * for any)")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"(https?://)?[a-z0-9.-]+(:[0-9]+)?", value):
        raise ValueError(f"{value!r} is neither a host nor an origin such as https://push.example")
    return value


def url_of(*schemes: str, example: str) -> AfterValidator:
    def check(value: str | None) -> str | None:
        if value is not None and value.partition("://")[0] not in schemes:
            raise ValueError(f"a URL such as {example} is wanted")
        return value

    return AfterValidator(check)


def _absolute(value: Path) -> Path:
    return value.expanduser().absolute()


DataFolder = Annotated[Path, AfterValidator(_absolute)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(split)]
Port = Annotated[int, Field(ge=0, le=65535)]
MOST = 2**31 - 1  # what PostgreSQL's integer and the protocol's fields hold
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
