"""`chalkwire loadtest …`, or `python -m loadtest …` where the server is not ours.

Exit status: 0; 1 when a delivery was wrong, a budget of the report was missed under `verify`, or the run failed; 2 for
wrong usage; 130 after Ctrl-C (the report is written, and says that it is not whole).
"""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from loadtest.plan import BadPlan, Plan, check, read_plan
from loadtest.scenarios import SCENARIOS, Budgets, Prepare, no_budgets

if TYPE_CHECKING:
    from loadtest.target import Find

app = typer.Typer(
    name="loadtest",
    help="Load a server that speaks the Centrifuge protocol, and check every delivery.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# How `chalkwire loadtest` learns of the server of this folder; the harness alone knows none.
find: Find | None = None


@dataclasses.dataclass
class Common:
    """The options that every scenario has."""

    target: Annotated[str, typer.Option(help="ws://HOST:PORT/PATH; default: the server of this folder.")] = ""
    serve: Annotated[int, typer.Option(min=0, help="Start a server with so many nodes for this run.")] = 0
    setting: Annotated[
        list[str] | None, typer.Option(help="Of that server, as NAME=VALUE; may be repeated.", metavar="NAME=VALUE")
    ] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder of a running server on this machine.")] = None
    secret: Annotated[str, typer.Option(help="HMAC secret of the tokens; each client is a user of its own.")] = ""
    token: Annotated[str, typer.Option(help="One token for all clients, instead of a secret.")] = ""
    by_node: Annotated[
        bool, typer.Option("--by-node", help="Each process connects to one node's own port, not to the shared one.")
    ] = False
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: as many as it takes.")] = 0
    nats: Annotated[str, typer.Option(help="NATS where agents wait: their processes are used, not ours.")] = ""
    agents: Annotated[int, typer.Option(min=1, help="Agents to wait for, with --nats.")] = 1
    pool: Annotated[str, typer.Option(help="Agents of this name only, with --nats.")] = "default"
    out: Annotated[Path, typer.Option(help="Folder for report.json and report.html.")] = Path("loadtest-report")
    own: Annotated[bool, typer.Option("--i-own-this-server", help="Allow a target that is not on this machine.")] = (
        False
    )
    quiet: Annotated[bool, typer.Option("--quiet", help="No live view; only the summary.")] = False


SECRETS = ("--secret", "--token", "--nats")


def fail(sentence: object, status: int = 1) -> NoReturn:
    print(f"chalkwire loadtest: {sentence}", file=sys.stderr)
    raise typer.Exit(status)


def perform(
    plan: Plan, budgets: Budgets, common: Common, shown: dict[str, Any], prepare: Prepare | None = None
) -> None:
    """Run a plan, write its report, and exit with what came of it."""
    from loadtest.coordinator import RunFailed
    from loadtest.live import Live
    from loadtest.report import html, model
    from loadtest.report.terminal import summary
    from loadtest.run import Options, load
    from loadtest.target import Unusable, nothing_known

    common_shown = dataclasses.asdict(common)
    options = Options(
        **{name: value for name, value in common_shown.items() if name not in ("setting",)},
        settings=common.setting or (),
        shown=shown,
        command=command_line(),
    )
    try:
        common.out.mkdir(parents=True, exist_ok=True)
        found = load(
            check(plan),
            options,
            budgets,
            find=find or nothing_known,
            view=Live.of(plan, quiet=common.quiet),
            prepare=prepare,
        )
        model.write(found, common.out / "report.json")
        html.write(found, common.out / "report.html")
    except (Unusable, BadPlan) as error:
        fail(error, 2)
    except RunFailed as error:
        fail(error)
    except OSError as error:
        fail(f"{common.out}: {error.strerror}.")
    summary(found, common.out)
    if found.partial:
        raise typer.Exit(130)
    if not found.ledger.clean:
        raise typer.Exit(1)


def command_line() -> str:
    """What was typed, without secrets: reports are shown around."""
    hidden: list[str] = []
    for word in ("chalkwire", *sys.argv[1:]):
        if hidden and hidden[-1] in SECRETS:
            hidden.append("…")
        elif "=" in word and word.partition("=")[0] in SECRETS:
            hidden.append(word.partition("=")[0] + "=…")
        else:
            hidden.append(word)
    return shlex.join(hidden).replace("'…'", "…")


def with_common(make: Callable[..., Plan], budgets: Budgets, prepare: Prepare | None = None) -> Callable[..., None]:
    """A command with a scenario's own options and the common ones."""
    own = inspect.signature(make, eval_str=True).parameters
    common = inspect.signature(Common, eval_str=True).parameters

    def command(**values: Any) -> None:
        plan = make(**{name: values[name] for name in own})
        shown = {name: values[name] if not isinstance(values[name], Path) else str(values[name]) for name in own}
        perform(plan, budgets, Common(**{name: values[name] for name in common}), shown, prepare)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own.values(), *common.values())]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__doc__ = make.__doc__
    return command


for name, scenario in SCENARIOS.items():
    app.command(name)(with_common(scenario.make, scenario.budgets, scenario.prepare))


def from_file(*, file: Annotated[Path, typer.Argument(help="A plan in TOML.", show_default=False)]) -> Plan:
    """Run a plan of your own."""
    try:
        return read_plan(file)
    except BadPlan as error:
        fail(error, 2)


app.command("run")(with_common(from_file, no_budgets))


@app.command("redirect")
def redirect(
    *,
    connections: Annotated[int, typer.Option(min=1, help="Connections, each with one request under way.")] = 50,
    links: Annotated[int, typer.Option(min=1, max=100, help="Links that are followed in turn.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.2, help="How long each turn lasts.")] = 5,
    turns: Annotated[int, typer.Option(min=1, help="Turns, each between two of a bare ASGI route.")] = 3,
    rate: Annotated[float, typer.Option(min=1, help="Redirects a second at the end, each at its time.")] = 1000,
    paced: Annotated[float, typer.Option(min=0.2, help="How long that lasts, in seconds.")] = 10,
    serve: Annotated[int, typer.Option(min=0, help="Start a server with so many nodes for this run.")] = 0,
    setting: Annotated[
        list[str] | None, typer.Option(help="Of that server, as NAME=VALUE; may be repeated.", metavar="NAME=VALUE")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of a running server on this machine.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.json and report.html.")] = Path("loadtest-report"),
) -> None:
    """Short links made and followed, beside a bare ASGI route; every click must be counted once."""
    from loadtest import redirect as run
    from loadtest.report import html, model
    from loadtest.report.terminal import summary
    from loadtest.run import Options
    from loadtest.target import Unusable, nothing_known

    shape = run.Shape(connections, links, seconds, turns, rate, paced)
    options = Options(
        serve=serve,
        settings=setting or (),
        data_dir=data_dir,
        shown=dataclasses.asdict(shape),
        command=command_line(),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = run.load(shape, options, find=find or nothing_known)
        model.write(found, out / "report.json")
        html.write(found, out / "report.html")
    except Unusable as error:
        fail(error, 2)
    except OSError as error:
        fail(f"{out}: {error.strerror}.")
    summary(found, out)
    if not found.ledger.clean:
        raise typer.Exit(1)


def _read(path: Path) -> Any:
    from loadtest.report import model

    try:
        return model.read(path)
    except model.UnreadableReport as error:
        fail(error, 2)


@app.command("verify")
def verify(file: Annotated[Path, typer.Argument(help="A report.json.")]) -> None:
    """Check a report again: its ledger, its percentiles, its budgets."""
    from loadtest.report.verify import verify as problems

    found = problems(_read(file))
    for problem in found:
        print(problem)
    if found:
        raise typer.Exit(1)
    print(f"{file}: the ledger balances, and every number follows from the measurements.")


@app.command("compare")
def compare(
    before: Annotated[Path, typer.Argument(help="A report.json.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Two reports side by side."""
    from loadtest.report.compare import compare as show

    show(_read(before), _read(after))


@app.command("agent")
def agent(
    *,
    nats: Annotated[str, typer.Option(help="NATS where coordinators are.", show_default=False)],
    name: Annotated[str, typer.Option(help="Default: host name and process id.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one for each core.")] = 0,
    pool: Annotated[str, typer.Option(help="Coordinators of this name only.")] = "default",
    own: Annotated[
        bool, typer.Option("--i-own-this-server", help="Allow targets that are not on this machine.")
    ] = False,
) -> None:
    """Lend this machine's processes to coordinators elsewhere, until Ctrl-C."""
    from loadtest.remote.agent import AgentFailed, run_agent

    try:
        run_agent(nats, name=name, workers=workers, pool=pool, own=own)
    except AgentFailed as error:
        fail(error, 2)


def main() -> None:
    app(prog_name="chalkwire loadtest")
