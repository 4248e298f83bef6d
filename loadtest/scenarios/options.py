"""Options that several scenarios share."""

from __future__ import annotations

from typing import Annotated

import typer

Prefix = Annotated[str, typer.Option("--channel", help="Channel, or what the names of the channels begin with.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long the messages go on, in seconds.")]
Size = Annotated[int, typer.Option(min=0, max=65536, help="Bytes of a message's data.")]
Rate = Annotated[
    float, typer.Option(min=0, max=1e6, help="Messages a second in all, sent at their times whatever the server does.")
]
ConnectRate = Annotated[
    float,
    typer.Option("--connect-rate", min=0, max=1e6, help="New connections a second; 0: as fast as --window allows."),
]
Window = Annotated[int, typer.Option(min=1, help="Connections under way at a time.")]
