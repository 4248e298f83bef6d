"""`chalkwire serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway_node.cli.options import ConfigFile, DataDirectory, load, read
from gateway_node.cli.trouble import Trouble


def serve(
    *,
    nodes: Annotated[int | None, typer.Option(help="Gateway processes that share the port.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port for HTTP and WebSocket; 0 takes a free one.")] = None,
    node_port_base: Annotated[
        int | None, typer.Option(help="Node i (from 0) also listens on this port + i.", metavar="PORT")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make people, rooms and a course with a live class; print the logins.")
    ] = False,
    roles: Annotated[str | None, typer.Option(help="Some of gateway,api,worker; default: all.")] = None,
    data_dir: DataDirectory = None,
    config: ConfigFile = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM."""
    from gateway_node.supervisor import Supervisor

    given = {"nodes": nodes, "roles": roles, "http": {"host": host, "port": port, "node_port_base": node_port_base}}
    settings = load(config, data_dir, **given)
    if demo and "api" not in settings.roles:
        raise Trouble("--demo needs the role api: it is made over HTTP.", status=2)
    raise typer.Exit(Supervisor(settings, reload=lambda: read(config, data_dir, **given), demo=demo).run())
