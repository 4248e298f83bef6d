"""`class`: a live class begins, is talked and reacted in, and votes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import uuid4

import typer

from loadtest.plan import Channels, Hold, Open, Phase, Plan, Publish, Rpc
from loadtest.report.model import Budget
from loadtest.scenarios.options import Seconds, Size, Window

SETTLE = 5.0  # s between the last who came and the first word


def classroom(
    *,
    members: Annotated[int, typer.Option(min=2, help="People who come to the class.")] = 1000,
    join_rate: Annotated[float, typer.Option(min=0, help="Of them a second; 0: as fast as --window allows.")] = 400,
    chat: Annotated[float, typer.Option(min=0.1, help="Chat messages a second, by 20 of them in turn.")] = 20,
    reactions: Annotated[float, typer.Option(min=0.1, help="Reactions a second, each by somebody else.")] = 50,
    seconds: Seconds = 30,
    size: Size = 128,
    window: Window = 256,
) -> Plan:
    """N people come to a class, chat and react, and all of them vote. Needs the server of this machine."""
    id = str(uuid4())
    talk = Publish(publishers=min(20, members), rate=chat, seconds=seconds, size=size, chat=True)
    react = Rpc(method="class.react", data={"class_id": id, "emoji": "👍"}, rate=reactions, seconds=seconds)
    vote = Rpc(method="class.vote", data={"class_id": id, "poll_id": id, "option": 0}, once=True, window=window)
    return Plan(
        name="class",
        clients=members,
        user_prefix=f"{id[:8]}-0000-4000-8000-",
        user_digits=12,
        channels=[Channels(prefix=f"class:{id}", enter="class.join")],
        phases=[
            Phase(name="join", activities=[Open(rate=join_rate, window=window)]),
            Phase(name="settle", activities=[Hold(seconds=SETTLE)]),
            Phase(name="talk", activities=[talk, react]),
            Phase(name="vote", activities=[vote]),
        ],
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    return [Budget("class", "chat delivered to everybody, 99 % of it", "most", 250, "delivery_p99_ms", "ms")]
