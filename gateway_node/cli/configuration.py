"""`chalkwire config`."""

from __future__ import annotations

from gateway_node.cli.options import ConfigFile, DataDirectory, load


def config(data_dir: DataDirectory = None, config: ConfigFile = None) -> None:
    """Print the effective settings as TOML; secrets are hidden."""
    from config.secrets import masked

    print(masked(load(config, data_dir)), end="")
