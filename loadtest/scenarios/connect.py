"""`connect`: how many connections, how fast, and whether one message reaches all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from loadtest.plan import Channels, Hold, Open, Phase, Plan, Publish
from loadtest.report.model import Budget
from loadtest.scenarios.options import ConnectRate, Prefix, Window


def connect(
    *,
    connections: Annotated[int, typer.Option(min=1, help="Clients to connect.")] = 1000,
    connect_rate: ConnectRate = 0,
    window: Window = 256,
    hold: Annotated[float, typer.Option(min=0, help="Seconds to hold them all.")] = 10,
    broadcast: Annotated[bool, typer.Option(help="Send one message to all at the end.")] = True,
    members: Annotated[int, typer.Option(min=0, help="Clients in a channel; 0: all of them in one.")] = 0,
    channel: Prefix = "chat:all",
) -> Plan:
    """Connect and hold, then one message to everybody."""
    phases = [
        Phase(name="connect", activities=[Open(rate=connect_rate, window=window)]),
        Phase(name="hold", activities=[Hold(seconds=hold)]),
    ]
    if broadcast:
        channels = -(-connections // members) if members else 1
        message = Publish(rate=1000, count=channels, seconds=0)
        phases.append(Phase(name="broadcast", activities=[message]))
    return Plan(
        name="connect",
        clients=connections,
        channels=[Channels(prefix=f"{channel}-" if members else channel, size=members)],
        phases=phases,
        drain=120,
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    found = []
    if plan.clients >= 10_000 and "server_bytes_per_connection" in facts:
        found.append(Budget("B1", "server memory a connection", "most", 4096, "server_bytes_per_connection", "bytes"))
    if plan.clients >= 1_000_000:
        found += [
            Budget("B5", "connections at the same time", "least", 1_000_000, "connections", ""),
            Budget("B5", "time to connect all", "most", 600, "connect_seconds", "s"),
            Budget("B5", "time until a broadcast has reached all", "most", 15, "broadcast_seconds", "s"),
        ]
    return found
