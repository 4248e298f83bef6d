"""Options that several commands share, and the settings that they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway_node.cli.trouble import Trouble

if TYPE_CHECKING:
    from config.sections import Settings

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file (TOML); default: chalkwire.toml when there.")
]
DataDirectory = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the embedded servers, secrets and files.")
]


def read(config: Path | None, data_dir: Path | None, **given: Any) -> Settings:
    """The settings of every source. `None` means: not given on the command line. Raises `SettingsError`."""
    from config.settings import load_settings

    return load_settings(config, without_none({"data_dir": data_dir, **given}))


def load(config: Path | None, data_dir: Path | None, **given: Any) -> Settings:
    """The same for a command that ends where they are wrong. Raises `Trouble`."""
    from config.settings import SettingsError

    try:
        return read(config, data_dir, **given)
    except SettingsError as error:
        raise Trouble(str(error), status=2) from None


def want_data(settings: Settings, *signs: str) -> None:
    """Raises `Trouble` where the data directory holds none of these: what a command made there, no server would use."""
    try:
        if any((settings.data_dir / sign).exists() for sign in signs):
            return
    except PermissionError:
        return  # it is there, and whoever opens it says what is wrong
    raise Trouble(
        f"There is no server's data in {settings.data_dir}. Say where the server keeps it with --data-dir or --config, "
        "or run this in the folder that the server runs in; `chalkwire serve` makes new data."
    )


def load_with_secrets(config: Path | None, data_dir: Path | None) -> Settings:
    """The same with the secrets of the data directory, which are made when they are not there. Raises `Trouble`."""
    from config.secrets import with_secrets
    from config.settings import SettingsError

    try:
        return with_secrets(load(config, data_dir))
    except SettingsError as error:
        raise Trouble(str(error), status=2) from None


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Without what was not given, in nested tables too."""
    result = {}
    for name, value in values.items():
        inner = without_none(value) if isinstance(value, dict) else value
        if inner is not None and inner != {}:
            result[name] = inner
    return result
