"""Secrets that nobody gave are made once and kept; settings that are shown hide theirs."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from config.catalogue import every_setting
from config.sections import ChannelOptions, Settings
from config.settings import SettingsError
from config.tokens import Issuer

_SHORTEST = 32  # characters; 256 random bits take 43


def with_secrets(settings: Settings) -> Settings:
    """The settings with the token secret, the API key and, where pushes are sent, their key filled in, from the data
    directory when they were not given.

    What is not there either is made there (mode 0600, 256 random bits), so that every process and every later start of
    the same data directory has the same. Raises `SettingsError` when the directory cannot be written or read.
    """
    folder = settings.data_dir
    try:
        token = settings.token.hmac_secret or _kept(folder / "token_secret")
        key = settings.api.key or _kept(folder / "api_key")
        push_key = settings.push.private_key
        if settings.push.contact is not None:
            push_key = push_key or _kept(folder / "push_key")
    except OSError as error:
        raise SettingsError(
            f"The generated secrets in {folder} cannot be kept: {error.strerror} ({error.filename}). Give "
            "CHALKWIRE_TOKEN__HMAC_SECRET and CHALKWIRE_API__KEY, or a CHALKWIRE_DATA_DIR that can be written."
        ) from None
    return settings.model_copy(
        update={
            "token": settings.token.model_copy(update={"hmac_secret": token}),
            "api": settings.api.model_copy(update={"key": key}),
            "push": settings.push.model_copy(update={"private_key": push_key}),
        }
    )


def _kept(path: Path) -> str:
    if not path.exists():
        _make(path)
    secret = path.read_text("ascii").strip()
    if len(secret) < _SHORTEST:
        raise SettingsError(f"{path} holds no secret: remove it, and the next start makes another.")
    return secret


def _make(path: Path) -> None:
    """Write aside and link: two processes that start at once end with one secret, and a crash leaves no half of one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(aside)
    except FileExistsError:
        pass  # the other process was first
    finally:
        aside.unlink()


def masked(settings: Settings) -> str:
    """The effective settings as TOML, secrets hidden; what is unset is a comment."""
    tables: dict[tuple[str, ...], list[str]] = {(): []}
    for setting in every_setting():
        value: Any = settings
        for part in setting.path:
            value = getattr(value, part)
        *table, name = setting.path
        if name in ("namespaces", "issuers"):
            for prefix, options in value.items():
                tables[(*setting.path, prefix)] = [f"{k} = {_toml(v)}" for k, v in _changed(options).items()]
            continue
        shown = setting.shown(value)
        tables.setdefault(tuple(table), []).append(
            f"# {name} is unset" if shown is None else f"{name} = {_toml(shown)}"
        )
    lines = ["\n".join(tables.pop(()))]
    lines += ["\n".join([f"[{'.'.join(_key(part) for part in table)}]", *rows]) for table, rows in tables.items()]
    return "\n\n".join(lines) + "\n"


def _changed(options: ChannelOptions | Issuer) -> dict[str, Any]:
    return options.model_dump(exclude_defaults=True)


def _key(name: str) -> str:
    return json.dumps(name) if "." in name else name


def _toml(value: Any) -> str:
    """A TOML value. TOML's basic strings are JSON's, but for U+007F, which JSON leaves as it is."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
