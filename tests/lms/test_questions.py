"""Questions: what can be asked, how it is shown, what an answer is worth."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.services.lms import questions
from gateway_node.services.lms.questions import AnyQuestion, Choice, Choices, Number, Option, Text
from realtime import codes

OPTIONS = [Option(id, id.upper()) for id in "abcd"]
ONE = Choice(id="one", text="Which?", points=2, options=OPTIONS, right="b")
SOME = Choices(id="some", text="Which ones?", points=4, options=OPTIONS, right=["a", "c"])
PI = Number(id="pi", text="How much?", points=1, right=3.14, tolerance=0.01)
WORD = Text(id="word", text="What is it called?", points=3, right=["Go", "Golang"])
ALL: list[AnyQuestion] = [ONE, SOME, PI, WORD]


def test_the_points_of_a_quiz_are_those_of_its_questions() -> None:
    assert questions.checked(ALL) == 10


@pytest.mark.parametrize(
    ("question", "pointer"),
    [
        ({"type": "choice", "id": "q", "text": "?", "options": [], "right": "a"}, "/questions/0/options"),
        ({"type": "choice", "id": "q", "text": "?", "right": "z"}, "/questions/0/right"),
        ({"type": "choices", "id": "q", "text": "?", "right": []}, "/questions/0/right"),
        ({"type": "choices", "id": "q", "text": "?", "right": ["a", "a"]}, "/questions/0/right"),
        ({"type": "text", "id": "q", "text": "?", "right": [" "]}, "/questions/0/right"),
        ({"type": "text", "id": "q", "text": " ", "right": ["a"]}, "/questions/0/text"),
        ({"type": "text", "id": "a\nb", "text": "?", "right": ["a"]}, "/questions/0/id"),
    ],
)
def test_questions_that_nobody_could_answer(question: dict[str, Any], pointer: str) -> None:
    if question["type"].startswith("choice"):
        question.setdefault("options", [{"id": "a", "text": "A"}, {"id": "b", "text": "B"}])
    asked = msgspec.convert([question], list[AnyQuestion])
    with pytest.raises(codes.CommandError) as refused:
        questions.checked(asked)
    assert refused.value.code == codes.BAD_REQUEST.code
    assert refused.value.pointer == pointer


def test_no_questions_and_two_of_one_id() -> None:
    for asked in ([], [ONE, ONE], [PI] * 201):
        with pytest.raises(codes.CommandError):
            questions.checked(asked)


@pytest.mark.parametrize(
    ("id", "answer", "worth"),
    [
        ("one", "b", 2),
        ("one", "a", 0),
        ("some", ["a", "c"], 4),
        ("some", ["c"], 2),
        ("some", ["a", "c", "d"], 2),
        ("some", ["b", "d"], 0),
        ("some", ["a", "b", "c", "d"], 0),
        ("some", [], 0),
        ("pi", 3.15, 1),
        ("pi", 3.13, 1),
        ("pi", 3.2, 0),
        ("word", "  gO ", 3),
        ("word", "golang", 3),
        ("word", "Rust", 0),
    ],
)
def test_what_an_answer_is_worth(id: str, answer: Any, worth: float) -> None:
    questions.check_answers(ALL, {id: answer})
    assert questions.marked(ALL, {id: answer}) == {each.id: worth if each.id == id else 0 for each in ALL}


@pytest.mark.parametrize(
    ("id", "answer"),
    [
        ("one", "z"),
        ("one", ["a"]),
        ("some", "a"),
        ("some", ["a", "a"]),
        ("some", ["z"]),
        ("pi", "3"),
        ("pi", float("nan")),
        ("word", 3.0),
        ("word", "x" * 1001),
        ("word", "\0"),
        ("none", "a"),
    ],
)
def test_answers_to_no_question(id: str, answer: Any) -> None:
    with pytest.raises(codes.CommandError) as refused:
        questions.check_answers(ALL, {id: answer})
    assert refused.value.pointer == f"/answers/{id}"


answer = st.one_of(
    st.fixed_dictionaries({}, optional={"one": st.sampled_from("abcd")}),
    st.fixed_dictionaries({}, optional={"some": st.lists(st.sampled_from("abcd"), unique=True)}),
    st.fixed_dictionaries({}, optional={"pi": st.floats(allow_nan=False, allow_infinity=False)}),
    st.fixed_dictionaries({}, optional={"word": st.text(st.characters(exclude_characters="\0"), max_size=50)}),
)


@given(st.lists(answer, max_size=4))
def test_marks_are_between_nothing_and_everything(given: list[dict[str, Any]]) -> None:
    answers = {id: each for part in given for id, each in part.items()}
    questions.check_answers(ALL, answers)
    points = {each.id: each.points for each in ALL}
    assert all(0 <= worth <= points[id] for id, worth in questions.marked(ALL, answers).items())


@given(st.uuids(), st.uuids())
def test_an_attempt_has_its_own_order_and_keeps_it(attempt: UUID, other: UUID) -> None:
    first = questions.shown(ALL, attempt, shuffle=True, with_right=False)
    assert first == questions.shown(ALL, attempt, shuffle=True, with_right=False)
    assert sorted(each.id for each in first) == sorted(each.id for each in ALL)
    assert {each.id: sorted(o.id for o in each.options) for each in first if each.options} == {
        "one": list("abcd"),
        "some": list("abcd"),
    }
    assert "right" not in msgspec.json.encode(first).decode()


def test_orders_differ() -> None:
    seen = {tuple(q.id for q in questions.shown(ALL, uuid4(), shuffle=True, with_right=False)) for _ in range(100)}
    assert len(seen) > 10
    plain = questions.shown(ALL, uuid4(), shuffle=False, with_right=True)
    assert [each.id for each in plain] == [each.id for each in ALL]
    assert [each.right for each in plain] == ["b", ["a", "c"], 3.14, ["Go", "Golang"]]
