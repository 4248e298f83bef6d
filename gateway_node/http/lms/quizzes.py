"""Quizzes over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.preconditions import IfMatch, expected_version, version_tag
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.rooms import IdempotencyKey
from gateway_node.http.services import services_of
from gateway_node.services.lms.quizzes import (
    AttemptPage,
    AttemptView,
    NewQuiz,
    QuizFields,
    QuizPage,
    QuizView,
    Quizzes,
    Saving,
)

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
QUIZZES = "/courses/{course_id:uuid}/quizzes"
QUIZ = QUIZZES + "/{quiz_id:uuid}"
ATTEMPT = QUIZ + "/attempts/{attempt_id:uuid}"


@post(QUIZZES, operation_id="createQuiz")
async def create(
    request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[NewQuiz], idempotency_key: IdempotencyKey = None
) -> Response[QuizView]:
    """Make a quiz: a draft, unless it says that it is published."""
    made, new = await _quizzes(request).add(caller_of(request).user_id, course_id, data, idempotency_key or "")
    return Response(
        made,
        status_code=HTTPStatus.CREATED if new else HTTPStatus.OK,
        headers={"ETag": version_tag(made.version), "Location": f"/v1/courses/{course_id}/quizzes/{made.id}"},
    )


@get(QUIZZES, operation_id="listQuizzes")
async def list_(
    request: AnyRequest, course_id: FromPath[UUID], after: After = None, limit: Limit = MAX_PAGE
) -> Response[QuizPage]:
    """The quizzes of a course, oldest first."""
    teaches = caller_of(request).standing.teaches
    found = await _quizzes(request).list(course_id, teaches=teaches, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get(QUIZ, operation_id="getQuiz")
async def get_(request: AnyRequest, course_id: FromPath[UUID], quiz_id: FromPath[UUID]) -> Response[QuizView]:
    """A quiz; to the staff with its questions and their right answers."""
    found = await _quizzes(request).get(course_id, quiz_id, teaches=caller_of(request).standing.teaches)
    return Response(found, headers={"ETag": version_tag(found.version)})


@patch(QUIZ, operation_id="updateQuiz")
async def update(
    request: AnyRequest,
    course_id: FromPath[UUID],
    quiz_id: FromPath[UUID],
    data: JSONBody[QuizFields],
    if_match: IfMatch = None,
) -> Response[QuizView]:
    """Change a quiz; its questions only while nobody has taken it (409)."""
    changed = await _quizzes(request).update(
        caller_of(request).user_id, course_id, quiz_id, data, lambda now: expected_version(request, now)
    )
    return Response(changed, headers={"ETag": version_tag(changed.version)})


@delete(QUIZ, operation_id="deleteQuiz")
async def delete_(request: AnyRequest, course_id: FromPath[UUID], quiz_id: FromPath[UUID]) -> None:
    """Delete a quiz; 409 when somebody has taken it."""
    await _quizzes(request).delete(course_id, quiz_id)


@post(QUIZ + "/attempts", operation_id="beginQuiz")
async def begin(request: AnyRequest, course_id: FromPath[UUID], quiz_id: FromPath[UUID]) -> Response[AttemptView]:
    """Begin an attempt, and its time; 200 with the one that runs already."""
    found, new = await _quizzes(request).begin(caller_of(request).user_id, course_id, quiz_id)
    return Response(
        found,
        status_code=HTTPStatus.CREATED if new else HTTPStatus.OK,
        headers={"Location": f"/v1/courses/{course_id}/quizzes/{quiz_id}/attempts/{found.id}"},
    )


@get(QUIZ + "/attempts", operation_id="listAttempts")
async def of_all(
    request: AnyRequest,
    course_id: FromPath[UUID],
    quiz_id: FromPath[UUID],
    after: After = None,
    limit: Limit = MAX_PAGE,
) -> Response[AttemptPage]:
    """Everybody's attempts by student."""
    found = await _quizzes(request).of_all(course_id, quiz_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get(QUIZ + "/attempts/mine", operation_id="listMyAttempts")
async def mine(request: AnyRequest, course_id: FromPath[UUID], quiz_id: FromPath[UUID]) -> Response[AttemptPage]:
    """One's own attempts, the first one first."""
    return Response(await _quizzes(request).mine(caller_of(request).user_id, course_id, quiz_id))


@get(ATTEMPT, operation_id="getAttempt")
async def attempt(
    request: AnyRequest, course_id: FromPath[UUID], quiz_id: FromPath[UUID], attempt_id: FromPath[UUID]
) -> Response[AttemptView]:
    """An attempt with its questions: one's own, or anybody's to the staff."""
    caller = caller_of(request)
    teaches = caller.standing.teaches
    return Response(await _quizzes(request).attempt(caller.user_id, course_id, quiz_id, attempt_id, teaches=teaches))


@put(ATTEMPT + "/answers", operation_id="saveAnswers")
async def save(
    request: AnyRequest,
    course_id: FromPath[UUID],
    quiz_id: FromPath[UUID],
    attempt_id: FromPath[UUID],
    data: JSONBody[Saving],
) -> Response[AttemptView]:
    """Keep answers; what is saved when the time is up counts."""
    return Response(await _quizzes(request).save(caller_of(request).user_id, course_id, quiz_id, attempt_id, data))


@put(ATTEMPT + "/submission", operation_id="handInAttempt")
async def hand_in(
    request: AnyRequest, course_id: FromPath[UUID], quiz_id: FromPath[UUID], attempt_id: FromPath[UUID]
) -> Response[AttemptView]:
    """Hand in: the attempt is over, and marked."""
    return Response(await _quizzes(request).hand_in(caller_of(request).user_id, course_id, quiz_id, attempt_id))


def _quizzes(request: AnyRequest) -> Quizzes:
    return services_of(request).lms.quizzes


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[create, list_, get_, update, delete_, begin, of_all, mine, attempt, save, hand_in],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Quizzes"],
    )
