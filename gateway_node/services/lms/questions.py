"""Questions of a quiz: what they are, how a student sees them, and how an answer is marked. Nothing here waits.

Of a `choices` question each right choice counts a share, and each wrong one takes a share away; the other kinds are
right or wrong. What is not answered is worth nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from gateway_node.services.text import line, storable
from realtime import codes

MAX_QUESTIONS = 200
MAX_OPTIONS = 26
MAX_TEXT = 10_000  # characters of a question
MAX_ANSWER = 1000  # characters of an answer, or of an option
MAX_ID = 50  # characters

Points = Annotated[float, Meta(gt=0, le=10_000)]
Answer = str | float | list[str]
"""An option's id, a text, a number, or the ids of options, by the kind of question."""


class Option(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    text: str


class Question(Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    id: str
    text: str
    points: Points = 1


class Choice(Question, frozen=True, kw_only=True, tag="choice", forbid_unknown_fields=True):
    """One of the options is right."""

    options: list[Option]
    right: str


class Choices(Question, frozen=True, kw_only=True, tag="choices", forbid_unknown_fields=True):
    """Some of the options are right."""

    options: list[Option]
    right: list[str]


class Number(Question, frozen=True, kw_only=True, tag="number", forbid_unknown_fields=True):
    """A number that differs from the right one by `tolerance` at most."""

    right: float
    tolerance: Annotated[float, Meta(ge=0)] = 0


class Text(Question, frozen=True, kw_only=True, tag="text", forbid_unknown_fields=True):
    """One of some words. Upper and lower case and spaces make no difference."""

    right: list[str]


AnyQuestion = Choice | Choices | Number | Text


class QuestionView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question as a student sees it; `right` once right answers are shown."""

    type: str
    id: str
    text: str
    points: float
    options: list[Option] = []
    right: Any = None


def checked(questions: Sequence[AnyQuestion]) -> float:
    """The points of all of them. Raises error 107 with a pointer for questions that cannot be answered right."""
    if not 1 <= len(questions) <= MAX_QUESTIONS:
        raise codes.BAD_REQUEST.at("/questions", f"a quiz has 1 to {MAX_QUESTIONS} questions")
    if len({each.id for each in questions}) < len(questions):
        raise codes.BAD_REQUEST.at("/questions", "each question has an id of its own")
    for i, question in enumerate(questions):
        at = f"/questions/{i}"
        line(question.id, f"{at}/id", MAX_ID, what="an id")
        storable(question.text, f"{at}/text", MAX_TEXT)
        if not question.text.strip():
            raise codes.BAD_REQUEST.at(f"{at}/text", "there is nothing in it")
        match question:
            case Choice(options=options, right=right):
                if right not in _ids_of(options, at):
                    raise codes.BAD_REQUEST.at(f"{at}/right", "the right answer is the id of an option")
            case Choices(options=options, right=rights):
                if not rights or len(set(rights)) < len(rights) or not set(rights) <= _ids_of(options, at):
                    raise codes.BAD_REQUEST.at(
                        f"{at}/right", "right answers are ids of options, one or more, each once"
                    )
            case Number(right=number, tolerance=tolerance):
                if not (math.isfinite(number) and math.isfinite(tolerance)):
                    raise codes.BAD_REQUEST.at(f"{at}/right", "a number is wanted")
            case Text(right=words):
                if not 1 <= len(words) <= MAX_OPTIONS or not all(_folded(each) for each in words):
                    raise codes.BAD_REQUEST.at(f"{at}/right", f"1 to {MAX_OPTIONS} words are wanted")
                for each in words:
                    storable(each, f"{at}/right", MAX_ANSWER)
    return sum(each.points for each in questions)


def _ids_of(options: Sequence[Option], at: str) -> set[str]:
    ids = {each.id for each in options}
    if not 2 <= len(options) <= MAX_OPTIONS or len(ids) < len(options):
        raise codes.BAD_REQUEST.at(f"{at}/options", f"2 to {MAX_OPTIONS} options are wanted, each with its own id")
    for i, each in enumerate(options):
        line(each.id, f"{at}/options/{i}/id", MAX_ID, what="an id")
        storable(each.text, f"{at}/options/{i}/text", MAX_ANSWER)
    return ids


def shown(
    questions: Sequence[AnyQuestion], attempt: UUID, *, shuffle: bool, with_right: bool
) -> Sequence[QuestionView]:
    """The questions as an attempt has them. Shuffled by the attempt's id: the same at each look and on every node."""
    views = []
    order = random.Random(attempt.int)
    for question in questions:
        options = list(getattr(question, "options", ()))
        if shuffle:
            order.shuffle(options)
        views.append(
            QuestionView(
                type=str(question.__struct_config__.tag),
                id=question.id,
                text=question.text,
                points=question.points,
                options=options,
                right=question.right if with_right else None,
            )
        )
    if shuffle:
        order.shuffle(views)
    return views


def check_answers(questions: Sequence[AnyQuestion], answers: Mapping[str, Answer | None]) -> None:
    """Raises error 107 for what answers no question. `None` takes an answer back."""
    by_id = {each.id: each for each in questions}
    for id, answer in answers.items():
        at = f"/answers/{id.replace('~', '~0').replace('/', '~1')}"
        question = by_id.get(id)
        if question is None:
            raise codes.BAD_REQUEST.at(at, "the quiz has no such question")
        if answer is None:
            continue
        match question:
            case Choice(options=options):
                if answer not in [each.id for each in options]:
                    raise codes.BAD_REQUEST.at(at, "the id of an option is wanted")
            case Choices(options=options):
                ids = [each.id for each in options]
                if not isinstance(answer, list) or len(set(answer)) < len(answer) or not set(answer) <= set(ids):
                    raise codes.BAD_REQUEST.at(at, "a list of ids of options is wanted, each once")
            case Number():
                if not isinstance(answer, float) or not math.isfinite(answer):
                    raise codes.BAD_REQUEST.at(at, "a number is wanted")
            case Text():
                if not isinstance(answer, str):
                    raise codes.BAD_REQUEST.at(at, "a text is wanted")
                storable(answer, at, MAX_ANSWER)


def marked(questions: Sequence[AnyQuestion], answers: Mapping[str, Answer]) -> dict[str, float]:
    """The points of each question."""
    return {each.id: each.points * _share(each, answers.get(each.id)) for each in questions}


def _share(question: AnyQuestion, answer: Answer | None) -> float:
    """From 0, wrong, to 1."""
    if answer is None:
        return 0.0
    match question:
        case Choice(right=right):
            return float(answer == right)
        case Choices(right=rights):
            assert isinstance(answer, list), "checked when it was saved"
            hits = len(set(answer) & set(rights))
            return max(0.0, (2 * hits - len(answer)) / len(rights))
        case Number(right=number, tolerance=tolerance):
            assert isinstance(answer, float), "checked when it was saved"
            # As people count: 0.3 is within 0.1 of 0.2, which in binary it is not.
            return float(abs(answer - number) <= tolerance + 1e-9 * max(1.0, abs(number)))
        case Text(right=words):
            assert isinstance(answer, str), "checked when it was saved"
            return float(_folded(answer) in {_folded(each) for each in words})


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
