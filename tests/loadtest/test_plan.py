"""Plans as TOML files, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import plan as plans
from loadtest.plan import BadPlan, Channels, Churn, Cut, Hold, Open, Phase, Plan, Publish, Stall, read_plan

OPEN = '[[phases]]\nname = "open"\nactivities = [{ do = "open" }]\n'
HEAD = 'name = "p"\nclients = 10\n'
WHOLE = HEAD + OPEN


def talk(activity: str) -> str:
    return f'{WHOLE}[[phases]]\nname = "talk"\nactivities = [{{ {activity} }}]\n'


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    assert plans.__doc__ is not None
    example = plans.__doc__.partition(":\n\n")[2]
    file = tmp_path / "monday.toml"
    file.write_text("\n".join(line.removeprefix("    ") for line in example.splitlines()))
    assert read_plan(file) == Plan(
        name="monday",
        clients=2000,
        channels=[Channels(prefix="chat:room-", size=50)],
        phases=[
            Phase(name="arrive", activities=[Open()]),
            Phase(name="talk", activities=[Publish(rate=500, seconds=30), Churn(rate=20, seconds=30)]),
        ],
    )


def test_every_activity_and_every_default(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        HEAD
        + 'phases = [{ name = "all", activities = [{ do = "open", rate = 5, window = 2 }, { do = "hold" },'
        + '{ do = "publish", in_flight = 3, count = 7 }, { do = "cut", share = 0.5 }, { do = "stall" }, '
        + '{ do = "churn" }] }]'
    )
    plan = read_plan(file)
    assert plan.channels == [Channels(prefix="chat:loadtest", size=0, recover=True)]
    assert plan.phases[0].activities == [
        Open(rate=5, window=2), Hold(seconds=10), Publish(in_flight=3, count=7), Cut(share=0.5), Stall(), Churn(),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('name = "p', "at end of document"),
        ('name = "p"\n' + OPEN, "missing required field `clients`"),
        (HEAD, "phases"),
        (HEAD.replace("10", "0") + OPEN, r"`int` >= 1 - at `\$.clients`"),
        (HEAD.replace("10", '"10"') + OPEN, r"Expected `int`, got `str` - at `\$.clients`"),
        (HEAD + "color = 1\n" + OPEN, "unknown field `color`"),
        (WHOLE + "color = 1\n", r"unknown field `color` - at `\$.phases\[.\]`"),
        (HEAD + '[[channels]]\nprefix = ""\n' + OPEN, r"length >= 1 - at `\$.channels\[.\].prefix`"),
        (HEAD + '[[phases]]\nname = "x"\nactivities = []\n', r"`\$.phases\[.\].activities`"),
        (HEAD + '[[phases]]\nname = "x"\nactivities = [{ do = "hold" }]\n', "the first phase must connect"),
        (talk('do = "sing"'), r"Invalid value 'sing' - at `\$.phases\[.\].activities\[.\].do`"),
        (talk('do = "hold", seconds = inf'), r"<= 10000000.0 - at `\$.phases\[.\].activities\[.\].seconds`"),
        (talk('do = "hold", seconds = nan'), "seconds"),
        (talk('do = "cut", share = 1.5'), "<= 1.0"),
        (talk('do = "publish"'), 'in phase "talk": publish takes either rate or in_flight'),
        (talk('do = "publish", rate = 1, in_flight = 1'), 'in phase "talk": publish takes either'),
        (talk('do = "publish", rate = 1, seconds = 0'), 'in phase "talk": publish needs seconds or count'),
        (talk('do = "publish", rate = 1, channels = 1'), 'in phase "talk": there is no entry 1 in channels'),
        (WHOLE + OPEN, 'in phases: 2 are called "open"'),
        (talk('do = "hold"').replace("talk", "drain"), 'in phases: 2 are called "drain" .the end of every run'),
        (HEAD + '[[channels]]\nprefix = "a"\n' * 2 + OPEN, 'in channels: 2 entries have the prefix "a"'),
    ],
)
def test_each_refusal_names_the_file_and_the_place(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(BadPlan, match=why) as refused:
        read_plan(file)
    assert str(refused.value).startswith(f"{file}: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadPlan, match="No such file"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadPlan, match="decode"):
        read_plan(tmp_path / "binary.toml")


def test_rooms_are_filled_in_the_order_of_the_clients() -> None:
    rooms = Channels(prefix="chat:room-", size=50)
    assert [rooms.name(client) for client in (0, 49, 50)] == ["chat:room-0", "chat:room-0", "chat:room-1"]
    assert Channels(prefix="chat:all").name(99) == "chat:all"


def test_requests_need_to_be_named(tmp_path: Path) -> None:
    for activity, words in (
        ('{ do = "request" }', "needs groups"),
        ('{ do = "request", groups = [{ name = "a", calls = [] }] }', "length >= 1"),
        ('{ do = "request", groups = [{ name = "a", calls = [{ path = "x" }] }] }', "path"),
        ('{ do = "request", rate = 0, groups = [{ name = "a", calls = [{ path = "/" }] }] }', "rate"),
    ):
        file = tmp_path / "plan.toml"
        file.write_text(
            'name = "x"\nclients = 1\n[[phases]]\nname = "a"\nactivities = [{ do = "open" }]\n'
            f'[[phases]]\nname = "b"\nactivities = [{activity}]\n'
        )
        with pytest.raises(BadPlan, match=words):
            read_plan(file)
