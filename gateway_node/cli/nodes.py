"""`chalkwire nodes`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gateway_node.cli.options import ConfigFile, DataDirectory, load
from gateway_node.cli.trouble import Trouble


def nodes(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list: name, pid, port, restarts.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also the supervisor, log writer and embedded servers.")] = False,
    data_dir: DataDirectory = None,
    config: ConfigFile = None,
) -> None:
    """List the nodes of the running server."""
    from gateway_node.process_list import is_running, read_processes

    settings = load(config, data_dir)
    processes = read_processes(settings.data_dir)
    if processes is None:
        raise Trouble(f"No server runs on {settings.data_dir}.")
    listed = processes["nodes"]
    if every:
        listed = [*listed, processes["supervisor"], *processes["others"]]
    shown = [{name: value for name, value in p.items() if name != "started"} for p in listed if is_running(p)]
    if as_json:
        print(json.dumps(shown))
        return
    print(f"{'name':<12} {'pid':>8} {'port':>6} {'restarts':>8}")
    for process in shown:
        row = [process.get(name, "") for name in ("name", "pid", "port", "restarts")]
        print(f"{row[0]:<12} {row[1]:>8} {row[2]:>6} {row[3]:>8}")
