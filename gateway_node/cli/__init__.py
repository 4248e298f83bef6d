"""The command line. Each command imports what it needs when it runs, so that `chalkwire --help` is quick.

Exit status: 0; 2 for wrong usage or settings; 1 for everything else. Expected trouble is a sentence on stderr.
"""

from __future__ import annotations

import os
import sys

import typer

from gateway_node.cli import configuration, doctor, loadtest, migrate, nodes, serve, token, user
from gateway_node.cli.trouble import Trouble

app = typer.Typer(
    name="chalkwire",
    help="A real-time messaging server for chat and live classes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("nodes")(nodes.nodes)
app.command("migrate")(migrate.migrate)
app.command("token")(token.token)
app.add_typer(user.app, name="user")
app.command("doctor")(doctor.doctor)
app.add_typer(loadtest.app, name="loadtest")
app.command("config")(configuration.config)


def main() -> None:
    """The entry point of `chalkwire`."""
    try:
        app(prog_name="chalkwire")
    except Trouble as trouble:
        print(f"chalkwire: {trouble}", file=sys.stderr)
        sys.exit(trouble.status)
    except BrokenPipeError:  # `chalkwire nodes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
