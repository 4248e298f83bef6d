"""`chalkwire nodes`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_node.cli.options import ConfigFile, DataDirectory, load
from gateway_node.cli.trouble import Trouble

if TYPE_CHECKING:
    from config.sections import Settings

TIMEOUT = 5.0  # seconds for Redis


def nodes(
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON list: name, pid, port, restarts, incarnation.")
    ] = False,
    user: Annotated[str, typer.Option(help="Only those that hold connections of the user with this id.")] = "",
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
    if user:
        holding = _nodes_of(settings, user)
        listed = [each for each in listed if each["incarnation"] in holding]
    if every:
        listed = [*listed, processes["supervisor"], *processes["others"]]
    shown = [{name: value for name, value in p.items() if name != "started"} for p in listed if is_running(p)]
    if as_json:
        print(json.dumps(shown))
        return
    if user and not shown:
        raise Trouble(f"No node of this host holds a connection of {user}: it takes the id of a user who is online.")
    print(f"{'name':<12} {'pid':>8} {'port':>6} {'restarts':>8}")
    for process in shown:
        row = [process.get(name, "") for name in ("name", "pid", "port", "restarts")]
        print(f"{row[0]:<12} {row[1]:>8} {row[2]:>6} {row[3]:>8}")


def _nodes_of(settings: Settings, user: str) -> set[str]:
    """The incarnations of the nodes, on whichever host, that somebody is on. Raises `Trouble`."""
    from redis import Redis
    from redis.exceptions import RedisError

    from config.embedded import read_urls
    from presence import keys

    running = read_urls(settings.data_dir)
    url = settings.redis.url or (running.redis if running else None)
    if url is None:
        raise Trouble("Redis is not running.")
    try:
        with Redis.from_url(url, decode_responses=True, socket_timeout=TIMEOUT) as redis:
            return {str(each) for each in redis.smembers(keys.online(user)[1])}
    except (RedisError, OSError) as error:
        raise Trouble(f"Who is where is unknown: {error}.") from None
