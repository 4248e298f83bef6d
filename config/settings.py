"""Settings: where they come from, and what a wrong one is answered with.

The command line goes over the environment (`CHALKWIRE_`, `__` for nesting), that over the TOML file, that over the
defaults.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from config.catalogue import PREFIX, Setting, environment_name, every_option_of_an_issuer, every_setting
from config.sections import ChannelOptions, Settings

__all__ = ["DEFAULT_FILE", "ChannelOptions", "Settings", "SettingsError", "load_settings"]

DEFAULT_FILE = Path("chalkwire.toml")
_LONGEST_SHOWN = 120  # characters of a bad value in a message
_TABLES = {
    ("channel", "namespaces"): '{"chat": {"history_size": 100}}',
    ("token", "issuers"): '{"campus": {"issuer": "https://login.example"}}',
}
"""Settings that are tables of tables by a name that the user chooses, with an example of each."""


class SettingsError(Exception):
    """A setting that stops the start; the text names each wrong one, its value and what would do, a line each."""


def load_settings(config_file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read every source. `overrides` is nested like the TOML file and comes from the command line.

    Without `config_file`, `chalkwire.toml` in the working directory is read when it is there. An empty variable counts
    as unset. Raises `SettingsError`.
    """
    values: dict[str, Any] = {}
    for source in (_from_file(config_file), _from_environment(), overrides or {}):
        _merge(values, source)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentences(error))) from None


def _from_file(config_file: Path | None) -> dict[str, Any]:
    path = config_file or DEFAULT_FILE
    if config_file is None and not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not valid TOML: {error}.") from None


class _Environment(BaseSettings, Settings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True)


def _from_environment() -> dict[str, Any]:
    known = {setting.environment for setting in every_setting()}
    names = sorted(name for name, value in os.environ.items() if name.upper().startswith(PREFIX) and value)
    unknown = [name for name in names if name.upper() not in known]
    if unknown:
        raise SettingsError("\n".join(f"{name} is not a setting{_nearest(name.upper(), known)}" for name in unknown))
    try:
        return EnvSettingsSource(_Environment)()
    except SourceError:
        raise SettingsError("\n".join(_unreadable_tables())) from None


def _unreadable_tables() -> Iterator[str]:
    environment = {name.upper(): value for name, value in os.environ.items()}
    for path, example in _TABLES.items():
        name = environment_name(path)
        value = environment.get(name)
        try:
            json.loads(value or "{}")
        except ValueError:
            yield f"{name} is {_shown(value)}; it takes a JSON object of tables by name, such as {example}."


def _nearest(name: str, known: Iterable[str]) -> str:
    by_rest = {one.removeprefix(PREFIX): one for one in known}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), by_rest, n=1)
    return f"; did you mean {by_rest[near[0]]}?" if near else "; docs/settings.md has all."


def _merge(into: dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, Mapping):
            inner = into.get(key)
            into[key] = inner = dict(inner) if isinstance(inner, Mapping) else {}
            _merge(inner, value)
        else:
            into[key] = value


def _sentences(error: ValidationError) -> list[str]:
    settings = {setting.path: setting for setting in every_setting()}
    return [_sentence(detail, settings) for detail in error.errors(include_url=False)]


def _sentence(detail: ErrorDetails, settings: Mapping[tuple[str, ...], Setting]) -> str:
    path = tuple(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{_names(path)} is not a setting{_nearest('.'.join(path), (one.toml for one in settings.values()))}"
    setting = _described(path, settings)
    if detail["type"] == "missing":
        return f"{_names(path)} is missing."
    if setting is None:  # a section that is not a table
        return f"{_names(path)} is {_shown(detail['input'])}; it takes a table of settings."
    wanted = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else f"it takes {setting.kind}"
    return f"{_names(path)} is {_shown(setting.shown(detail['input']))}; {wanted}."


def _names(path: tuple[str, ...]) -> str:
    """By both names. A namespace's options are inside one variable; an item of a list is inside its setting."""
    toml = ".".join(part for part in path if not part.isdecimal())
    variable = path[:2] if path[:2] in _TABLES else toml.split(".")
    return f"{environment_name(variable)} ({toml} in TOML)"


def _described(path: tuple[str, ...], settings: Mapping[tuple[str, ...], Setting]) -> Setting | None:
    """The setting at `path` or above it; for an option of a namespace, the same option of `without_namespace`."""
    if path[:2] == ("channel", "namespaces") and len(path) > 3:
        path = ("channel", "without_namespace", *path[3:])
    if path[:2] == ("token", "issuers") and len(path) > 3:
        settings = {setting.path: setting for setting in every_option_of_an_issuer()}
        path = path[3:]
    return next((settings[path[:n]] for n in range(len(path), 0, -1) if path[:n] in settings), None)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
