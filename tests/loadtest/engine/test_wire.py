"""What coordinator and workers say to each other arrives, in whatever pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtest.engine import wire
from loadtest.engine.swarm import Target
from loadtest.plan import Churn, Cut, Open, Phase, Plan, Publish
from loadtest.report.model import Fault

BYTES = st.binary(max_size=40)
NAMES = st.text(max_size=10)
COUNTS = st.integers(0, 1 << 62)
TALLY = st.dictionaries(NAMES, COUNTS, max_size=3)
ANSWERS = st.one_of(
    st.builds(wire.Ready, COUNTS),
    st.builds(wire.Progress, COUNTS, TALLY, TALLY, st.dictionaries(NAMES, st.dictionaries(COUNTS, COUNTS)), COUNTS),
    st.builds(wire.Finished, NAMES, COUNTS, COUNTS),
    st.builds(wire.Heads, TALLY, st.dictionaries(NAMES, NAMES)),
    st.builds(wire.Histories, st.dictionaries(NAMES, BYTES), st.dictionaries(NAMES, BYTES), st.just({})),
    st.builds(wire.Books, st.just([]), st.lists(st.builds(Fault, NAMES, NAMES, NAMES)), COUNTS, st.booleans()),
    st.builds(wire.Failed, NAMES),
)


@given(st.lists(ANSWERS, max_size=8), st.data())
def test_messages_come_whole_and_in_order(sent: list[wire.Answer], data: st.DataObject) -> None:
    stream = b"".join(map(wire.packed, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    unpacker, received = wire.Unpacker(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += map(wire.decode_answer, unpacker.feed(stream[start:end]))
    assert received == sent


def test_a_message_is_there_with_its_last_byte_and_not_before() -> None:
    stream = wire.packed(wire.Ready(7))
    unpacker = wire.Unpacker()
    pieces = [unpacker.feed(bytes((byte,))) for byte in stream]
    assert not any(pieces[:-1])
    assert wire.decode_answer(pieces[-1][0]) == wire.Ready(7)


def test_orders_come_as_they_were_given() -> None:
    phases = [Phase(name="a", activities=[Open(rate=2.5), Publish(rate=1), Churn(), Cut(share=0.5)])]
    setup = wire.Setup(
        run="r", worker=1, first=5, count=9, share=0.25, target=Target("::1", 80, tls=True),
        plan=Plan(name="p", clients=9, phases=phases), tokens=wire.Tokens("s"), sources=["127.0.0.2"], began=1 << 60,
    )  # fmt: skip
    for order in (setup, wire.Begin(1, 2, 3), wire.Halt(), wire.AskHeads(["c"]), wire.Drain({"c": 1}, 0.5),
                  wire.ReadHistory({"c": 0}), wire.CloseBooks(), wire.Stop()):  # fmt: skip
        assert wire.decode_order(wire.packed(order)[wire.LENGTH :]) == order
