"""`chalkwire doctor`: looks at what the server needs, before it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from gateway_node.cli.options import ConfigFile, DataDirectory, load
from gateway_node.cli.stores import stores
from gateway_node.cli.trouble import Trouble

if TYPE_CHECKING:
    from config.sections import Settings
    from gateway_node.diagnosis import Finding


def doctor(data_dir: DataDirectory = None, config: ConfigFile = None) -> None:
    """Check limits, port, disk, clock, versions and stores; the exit status is 1 when something fails."""
    settings = load(config, data_dir)
    failed = False
    for finding in _findings(settings):
        print(f"{finding.status:<4}  {finding.name:<10}  {finding.text}", flush=True)
        failed = failed or finding.status == "fail"
    if failed:
        raise typer.Exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    from gateway_node import diagnosis
    from gateway_node.process_list import read_processes

    runs = read_processes(settings.data_dir) is not None
    yield diagnosis.versions()
    yield diagnosis.open_files()
    yield diagnosis.backlog()
    yield diagnosis.port(settings, runs=runs)
    yield diagnosis.disk(settings.data_dir)
    yield diagnosis.clock()
    with TemporaryDirectory(prefix="chalkwire-") as trial:
        # Before the first start, the embedded servers are tried elsewhere: a look should leave nothing behind.
        data_dir = settings.data_dir if settings.data_dir.exists() else Path(trial)
        try:
            with stores(settings, data_dir) as urls:
                yield from asyncio.run(diagnosis.stores(settings, urls, fresh=data_dir != settings.data_dir))
        except Trouble as trouble:
            yield diagnosis.Finding("stores", "fail", str(trouble))
