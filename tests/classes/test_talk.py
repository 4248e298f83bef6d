"""What is said and asked in a class: chat, private words, reactions, signals, polls and quizzes, and who was there."""

from __future__ import annotations

import asyncio
import csv
import io
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway_node.services.classes.follower import sender_tags
from loadtest.server import Server
from realtime.classroom.commands import LATE, AdmitAll, ClosePoll, End, OpenPoll, Start
from realtime.codec import encode_info
from realtime.interfaces import Entry
from realtime.messages import SentMessage, compose
from realtime.protocol import ClientInfo
from tests.chat.person import Person
from tests.classes.room import Room, lesson, log_as_server, log_entries, scheduled
from tests.invariants.rawclient import Refused
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration

UNKNOWN, DENIED, LIMITED, BAD, TOO_MANY, NOT_FOUND, CONFLICT = 102, 103, 106, 107, 111, 1002, 1003


async def refusal(room: Room, person: Person, content: str, **more: Any) -> int:
    with pytest.raises(Refused) as refused:
        await room.say(person, content, **more)
    return refused.value.code


async def test_a_locked_chat_is_locked_on_every_node(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.say(ann, "Before")
        await room.do(teacher, "set_lock", lock="chat")
        assert await refusal(room, ann, "After") == DENIED
        assert await refusal(room, ben, "After") == DENIED
        await room.say(teacher, "Listen")
        await ann.device.hears(room.channel, content="Listen")
        history = (await ben.device.ask(history={"channel": room.channel, "limit": 100}))["publications"]
        said = [each["data"].get("content") for each in history]
        assert [each for each in said if each] == ["Before", "Listen"]
        assert not any("tea" in str(each.get("command", "")) for each in history)  # commands are not shown as logged


async def test_a_message_that_a_lock_overtook_is_seen_by_nobody(server: Server) -> None:
    """Many say something on one node while the chat is locked on the other: the log decides, everywhere alike."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        assert {teacher.node, ann.node} == {0, 1}
        says = [asyncio.ensure_future(room.say(ann, f"{i}")) for i in range(20)]
        await room.do(teacher, "set_lock", lock="chat")
        says += [asyncio.ensure_future(room.say(ann, f"{i}")) for i in range(20, 40)]
        results = await asyncio.gather(*says, return_exceptions=True)
        accepted = {f"{i}" for i, each in enumerate(results) if each is None}
        assert all(isinstance(each, Refused) and each.code == DENIED for each in results if each is not None)
        assert "39" not in accepted
        end = str(uuid4())
        await room.say(teacher, end)
        for person in (teacher, ann, ben):
            await person.device.hears(room.channel, content=end)
            heard = [each for each in person.device.heard(room.channel) if each.get("type") == "text"]
            assert {each["content"] for each in heard} == accepted | {end}
        history = (await ben.device.ask(history={"channel": room.channel, "limit": 1000}))["publications"]
        assert {each["data"]["content"] for each in history if "content" in each["data"]} == accepted | {end}


async def test_what_was_refused_stays_so_when_it_is_remembered_no_more(server: Server) -> None:
    """What a node leaves that dies after it has logged more of them than the fold remembers."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        said = str(uuid4())
        await room.say(ann, "Before", id=said)
        await room.do(teacher, "set_lock", lock="chat")
        late = [whispered(room, ann) for _ in range(LATE + 100)]
        await log_entries(server, *late)
        await room.say(teacher, "Listen")
        for person in (ann, ben, teacher):
            assert await contents(person, room) == ["Before", "Listen"]
            await person.device.cut_and_return()
            assert await contents(person, room) == ["Before", "Listen"]
        async with asyncio.timeout(10):  # until the state is kept
            while await execute(server, PSST, room.channel):
                await room.do(teacher, "mute_all")
                await room.do(teacher, "unmute_all")
        await room.do(teacher, "set_lock", lock="chat", on=False)
        for each in (late[0], late[-1]):
            assert await refusal(room, ann, "psst", id=str(UUID(bytes=each.id))) == DENIED
        await room.say(ann, "Before", id=said)


async def test_history_shows_nothing_that_a_lock_overtook_and_no_node_has_heard_of(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(teacher, "set_lock", lock="chat")
        for person in (ben, ann):
            await log_entries(server, whispered(room, ann))
            assert await contents(person, room) == []


def whispered(room: Room, person: Person) -> Entry:
    """What a student says, as it comes into the log though the chat is locked."""
    entry = compose(room.channel, person.id, SentMessage(id=uuid4(), content="psst"))
    entry.info, entry.tags = encode_info(ClientInfo(person.id, "gone")), encode_info(sender_tags("student", 1))
    return entry


PSST = (
    "select from messages m join channels c on c.id = m.channel_id"
    " where c.name = $1 and convert_from(m.data, 'UTF8') like '%psst%'"
)


async def contents(person: Person, room: Room) -> list[str]:
    """What the history of a class says, to its last line."""
    found: list[str] = []
    since = None
    while True:
        asked = {"channel": room.channel, "limit": 1000, **({"since": since} if since else {})}
        page = await person.device.ask(history=asked)
        publications = page.get("publications", [])
        assert not any("info" in each for each in publications if "content" not in each["data"])
        found += [each["data"]["content"] for each in publications if "content" in each["data"]]
        if not publications or publications[-1]["offset"] == page["offset"]:
            return found
        since = {"offset": publications[-1]["offset"], "epoch": page["epoch"]}


async def test_a_slow_chat_takes_one_message_however_many_come_at_once(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(teacher, "chat_rules", slow=3600)
        results = await asyncio.gather(*(room.say(ann, f"{i}") for i in range(50)), return_exceptions=True)
        refused = [each for each in results if isinstance(each, Refused)]
        assert (len(refused), {each.code for each in refused}) == (49, {TOO_MANY})
        await room.say(teacher, "Listen")
        await ben.device.hears(room.channel, content="Listen")
        assert not [each for each in ben.device.heard(room.channel) if each["type"] == "refused"]


async def test_slow_mode_and_private_mode(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(teacher, "chat_rules", slow=3600)
        await room.say(ann, "First")
        assert await refusal(room, ann, "Second") == TOO_MANY
        await room.say(ben, "Mine")
        await room.do(teacher, "chat_rules", private=True)
        assert await refusal(room, ann, "To all") == DENIED
        await ann.rpc("class.whisper", class_id=room.id, content="To the teachers")
        heard = await teacher.hears(teacher.channel, type="class_whisper")
        assert (heard["from"], heard["content"], heard["name"]) == (ann.id, "To the teachers", "ann")
        assert await ann.refusal("class.whisper", class_id=room.id, to=ben.id, content="psst") == DENIED
        await teacher.rpc("class.whisper", class_id=room.id, to=ann.id, content="Yes?")
        await ann.hears(ann.channel, type="class_whisper", content="Yes?")
        await ben.device.in_step()
        for person in (teacher, ann, ben):  # not in the class's channel, and with nobody else
            assert not [each for each in person.device.heard(room.channel) if each.get("type") == "class_whisper"]
        assert not [each for each in ben.device.heard(ben.channel) if each.get("type") == "class_whisper"]
        assert await ann.refusal("class.whisper", class_id=room.id, to=str(uuid4()), content="x") == NOT_FOUND
        assert await ann.refusal("class.whisper", class_id=room.id, content=" ") == BAD
        assert await ann.refusal("class.whisper", class_id=room.id, content="x" * 4001) == BAD


async def test_a_word_to_the_teachers_reaches_whoever_is_one_in_the_class(server: Server) -> None:
    """Those of the course, the assistants that were made here, and the admins who have come; and nobody else."""
    async with (
        lesson(server, "ann", "ben", "cleo", assistant=True) as (room, teacher, ann, ben, cleo, helper),
        school(server, "admin", "admin elsewhere") as (admin, elsewhere),
    ):
        await room.enter(admin)
        for person in (ben, cleo):
            await room.do(teacher, "role", user=person.id, role="assistant")
        await room.do(teacher, "kick", user=cleo.id)
        await ann.rpc("class.whisper", class_id=room.id, content="To the teachers")
        for person in (teacher, helper, ben, admin):
            heard = await person.hears(person.channel, type="class_whisper")
            assert (heard["from"], heard["to"], heard["content"]) == (ann.id, None, "To the teachers")
        for person in (cleo, elsewhere):
            await person.device.in_step()
            assert not [each for each in person.device.heard(person.channel) if each.get("type") == "class_whisper"]


async def test_somebody_who_has_just_been_admitted_is_there_for_others(server: Server) -> None:
    """Also where nobody has been told of it yet."""
    async with lesson(server, "ann") as (room, teacher, ann), lesson(server, "ben") as (_, _, ben):
        await enrol(ben, room.course)
        await room.do(teacher, "publish", peer="page", tracks=["camera"])
        await room.do(teacher, "lobby")
        assert (await room.enter(ben))["status"] == "waiting"
        whisper = {"class_id": room.id, "to": ben.id, "content": "Hello"}
        assert await ann.refusal("class.whisper", **whisper) == NOT_FOUND
        await log_as_server(server, room, AdmitAll())
        await ann.rpc("class.whisper", **whisper)
        await ben.hears(ben.channel, type="class_whisper", content="Hello")


async def test_reactions_are_counted_together(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await asyncio.gather(
            *(each.rpc("class.react", class_id=room.id, emoji="👍") for each in (ann, ben) for _ in range(25))
        )

        def counted() -> int:
            heard = teacher.device.heard(room.channel)
            return sum(each["counts"]["👍"] for each in heard if each.get("type") == "reactions")

        await teacher.device.until(lambda: counted() == 50)
        heard = [each for each in teacher.device.heard(room.channel) if each.get("type") == "reactions"]
        assert len(heard) < 20
        assert await ann.refusal("class.react", class_id=room.id, emoji="no emoji") == BAD


async def test_a_signal_reaches_its_addressee_alone(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben), lesson(server, "eve") as (_, other, eve):
        signal = {"class_id": room.id, "peer": "page-a", "to_peer": "page-t", "data": {"sdp": "v=0"}}
        assert await ann.refusal("class.signal", to=ben.id, **signal) == DENIED  # neither sends anything
        await room.do(teacher, "publish", peer="page-t", tracks=["camera", "microphone"])
        await room.seen(ann, lambda state: state["sending"].get(teacher.id, {}).get("peer") == "page-t")
        await ann.rpc("class.signal", to=teacher.id, **signal)
        heard = await teacher.hears(teacher.channel, type="class_signal")
        assert heard == {
            "type": "class_signal",
            "class_id": room.id,
            "from": ann.id,
            "peer": "page-a",
            "to_peer": "page-t",
            "data": {"sdp": "v=0"},
        }
        assert await ann.refusal("class.signal", to=eve.id, **signal) == NOT_FOUND  # outside
        assert await eve.refusal("class.signal", to=teacher.id, **signal) == UNKNOWN
        assert await ann.refusal("class.signal", to=teacher.id, **{**signal, "data": "x" * 33_000}) == LIMITED
        assert await ann.refusal("class.signal", to=teacher.id, **{**signal, "to_peer": "x" * 65}) == BAD
        await ben.device.in_step()
        everything = [
            each
            for person in (ann, ben, other)
            for channel in person.device.given
            for each in person.device.heard(channel)
        ]
        assert not [each for each in everything if each.get("type") == "class_signal"]
        history = (await teacher.device.ask(history={"channel": teacher.channel, "limit": 100})).get("publications", ())
        assert not [each for each in history if each["data"].get("type") == "class_signal"]


async def test_votes_are_counted_once_and_a_quiz_is_graded(server: Server) -> None:
    async with lesson(server, "ann", "ben", "cleo") as (room, teacher, ann, ben, cleo):
        asked = {"question": "2 + 2?", "options": ["3", "4", "5"], "correct": 1, "anonymous": False, "points": 2}
        assert await ann.refusal("class.poll", class_id=room.id, **asked) == DENIED
        poll = (await teacher.rpc("class.poll", class_id=room.id, **asked))["poll_id"]
        state = await room.seen(ann, lambda state: state["poll"])
        assert (state["poll"]["options"], "correct" in state["poll"]) == (["3", "4", "5"], False)
        vote = {"class_id": room.id, "poll_id": poll}
        await asyncio.gather(*(ann.rpc("class.vote", option=1, **vote) for _ in range(5)))
        assert await ann.refusal("class.vote", option=2, **vote) == CONFLICT
        assert await ann.refusal("class.vote", option=3, **vote) == BAD
        await ben.rpc("class.vote", option=0, **vote)
        await cleo.device.hears(room.channel, type="votes", counts=[1, 1, 0])
        results = await ann.rpc("class.results", **vote)
        assert (results["mine"], "correct" in results) == (1, False)
        assert "mine" not in await cleo.rpc("class.results", **vote)
        await room.do(teacher, "close_poll")
        assert await cleo.refusal("class.vote", option=1, **vote) == CONFLICT
        results = await teacher.rpc("class.results", **vote)
        assert (results["counts"], results["total"], results["correct"]) == ([1, 1, 0], 2, 1)
        assert sorted(results["votes"]) == sorted([[ann.id, "ann", 1], [ben.id, "ben", 0]])
        assert (await ann.rpc("class.results", **vote))["correct"] == 1
        # It is in the reports like any other grade, and holds up nothing that comes after it.
        report = f"/v1/courses/{room.course['id']}/report"
        async with asyncio.timeout(20):
            while not (spreads := ok(await teacher.http("GET", report))["grades"]):
                await asyncio.sleep(0.05)
        assert [(each["title"], each["kind"], each["tenths"][0], each["tenths"][10]) for each in spreads] == [
            ("all", "", 1, 1),
            ("2 + 2?", "quiz", 1, 1),
        ]
        assert "votes" not in await ann.rpc("class.results", **vote)
        assert await grades(teacher, room, poll, 2) == {ann.id: 2, ben.id: 0}
        # A vote of a node that died before it came to refuse it: it stands beyond the end of the poll.
        await execute(
            server,
            'insert into class_votes (poll_id, user_id, option, "offset")'
            " select $1::text::uuid, $2::text::uuid, 1, closed from class_polls where id = $1::text::uuid",
            poll,
            cleo.id,
        )
        results = await teacher.rpc("class.results", **vote)
        assert (results["counts"], len(results["votes"])) == ([1, 1, 0], 2)
        assert "mine" not in await cleo.rpc("class.results", **vote)


async def test_a_quiz_is_graded_though_the_node_that_closed_it_died(server: Server) -> None:
    """What a node leaves that dies between a command and what is done about it: a log, and nobody who followed it."""
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        room = await scheduled(teacher, course)
        first, second = uuid4(), uuid4()
        for poll in (first, second):
            await execute(
                server,
                "insert into class_polls (id, class_id, question, options, correct, anonymous, points)"
                " values ($1, $2::text::uuid, '?', '{a,b}', 1, false, 3)",
                poll,
                room.id,
            )
            await execute(
                server,
                "insert into class_votes (poll_id, user_id, option) values ($1, $2::text::uuid, 1)",
                poll,
                ann.id,
            )
        quiz = partial(OpenPoll, question="?", options=("a", "b"), anonymous=False, points=3)
        left = (Start(), quiz(poll_id=str(first)), ClosePoll(), quiz(poll_id=str(second)), End())
        await log_as_server(server, room, *left)
        assert "started_at" not in ok(await teacher.http("GET", room.path))
        assert await teacher.refusal("class.join", class_id=room.id) == CONFLICT  # it is over
        for poll in (first, second):
            assert await grades(teacher, room, str(poll), 1) == {ann.id: 3}
        async with asyncio.timeout(10):
            while not {"started_at", "ended_at"} <= ok(await teacher.http("GET", room.path)).keys():
                await asyncio.sleep(0.05)


async def test_a_vote_whose_node_died_is_graded_by_the_end_of_the_class(server: Server) -> None:
    """It was counted, and its node died before it came to write the grade; the others had written theirs."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        asked = {"question": "2 + 2?", "options": ["3", "4"], "correct": 1, "anonymous": False, "points": 2}
        poll = (await teacher.rpc("class.poll", class_id=room.id, **asked))["poll_id"]
        await ann.rpc("class.vote", class_id=room.id, poll_id=poll, option=1)
        await room.do(teacher, "close_poll")
        assert await grades(teacher, room, poll, 1) == {ann.id: 2}
        await execute(
            server,
            'insert into class_votes (poll_id, user_id, option, "offset")'
            " select $1::text::uuid, $2::text::uuid, 1, closed - 1 from class_polls where id = $1::text::uuid",
            poll,
            ben.id,
        )
        await room.do(teacher, "end")
        assert await grades(teacher, room, poll, 2) == {ann.id: 2, ben.id: 2}


async def grades(teacher: Person, room: Room, poll: str, most: int) -> dict[str, float]:
    """What the gradebook has of a quiz, once it has so many lines."""
    async with asyncio.timeout(10):
        while True:
            book = ok(await teacher.http("GET", f"/v1/courses/{room.course['id']}/gradebook"))
            lines = {each["student_id"]: each["points"][poll] for each in book["students"] if poll in each["points"]}
            if len(lines) >= most:
                return lines
            await asyncio.sleep(0.05)


async def test_a_vote_counts_again_though_the_end_of_its_poll_is_not_written_yet(server: Server) -> None:
    """Nodes write it a moment after they hear it, and some die in between."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        asked = {"question": "2 + 2?", "options": ["3", "4"]}
        poll = (await teacher.rpc("class.poll", class_id=room.id, **asked))["poll_id"]
        vote = {"class_id": room.id, "poll_id": poll}
        await ann.rpc("class.vote", option=1, **vote)
        await room.do(teacher, "close_poll")
        closed = "select from class_polls where id = $1::text::uuid and closed is not null"
        async with asyncio.timeout(10):
            while not await execute(server, closed, poll):
                await asyncio.sleep(0.05)
        await execute(server, "update class_polls set closed = null where id = $1::text::uuid", poll)
        await ann.rpc("class.vote", option=1, **vote)  # its answer was lost
        assert await ann.refusal("class.vote", option=0, **vote) == CONFLICT
        assert await ben.refusal("class.vote", option=1, **vote) == CONFLICT


async def test_an_anonymous_poll_names_nobody(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        asked = {"question": "Too fast?", "options": ["yes", "no"]}
        for wrong, pointer in (
            ({"options": ["one"]}, "/options"),
            ({"question": ""}, "/question"),
            ({"correct": 2}, "/correct"),
            ({"points": 3}, "/points"),
        ):
            with pytest.raises(Refused) as refused:
                await teacher.rpc("class.poll", class_id=room.id, **{**asked, **wrong})
            assert (refused.value.code, pointer in str(refused.value)) == (BAD, True)
        poll = (await teacher.rpc("class.poll", class_id=room.id, **asked))["poll_id"]
        assert await teacher.refusal("class.poll", class_id=room.id, **asked) == CONFLICT
        await ann.rpc("class.vote", class_id=room.id, poll_id=poll, option=0)
        results = await teacher.rpc("class.results", class_id=room.id, poll_id=poll)
        assert (results["counts"], "votes" in results) == ([1, 0], False)


async def test_a_poll_is_of_one_class_and_says_one_thing(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann), lesson(server, "eve") as (other, rival, eve):
        asked = {"question": "2 + 2?", "options": ["3", "4"], "correct": 1}
        poll = (await teacher.rpc("class.poll", class_id=room.id, **asked))["poll_id"]
        # Whoever knows the poll of another class would have their own people vote in it.
        assert await rival.refusal("class.poll", class_id=other.id, id=poll, **asked) == BAD
        assert await eve.refusal("class.vote", class_id=other.id, poll_id=poll, option=0) == CONFLICT
        later = {**asked, "id": str(uuid4())}
        assert await teacher.refusal("class.poll", class_id=room.id, **later) == CONFLICT  # one is open
        await ann.rpc("class.vote", class_id=room.id, poll_id=poll, option=0)
        await room.do(teacher, "close_poll")
        await ann.rpc("class.vote", class_id=room.id, poll_id=poll, option=0)  # it was counted, and its answer lost
        assert await ann.refusal("class.vote", class_id=room.id, poll_id=poll, option=1) == CONFLICT
        # What was not asked then can be asked now, but is the same question, and nobody has seen its answer.
        assert "correct" not in await ann.rpc("class.results", class_id=room.id, poll_id=later["id"])
        assert await teacher.refusal("class.poll", class_id=room.id, **{**later, "options": ["3", "4", "5"]}) == BAD
        assert await teacher.refusal("class.poll", class_id=room.id, **{**later, "correct": 0}) == BAD
        assert (await teacher.rpc("class.poll", class_id=room.id, **later))["poll_id"] == later["id"]
        await ann.rpc("class.vote", class_id=room.id, poll_id=later["id"], option=1)
        assert (await teacher.rpc("class.results", class_id=room.id, poll_id=later["id"]))["counts"] == [0, 1]
        assert (await ann.rpc("class.results", class_id=room.id, poll_id=poll))["correct"] == 1


async def test_grades_are_given_by_the_staff_of_the_course(server: Server) -> None:
    """A student who helps in the class asks questions, but gives no points, and knows no answer before the others."""
    async with lesson(server, "ann", assistant=True) as (room, teacher, ann, helper):
        await room.do(teacher, "role", user=ann.id, role="assistant")
        quiz = {"question": "2 + 2?", "options": ["3", "4"], "correct": 1, "anonymous": False}
        assert await ann.refusal("class.poll", class_id=room.id, points=1000, **quiz) == DENIED
        await ann.rpc("class.poll", class_id=room.id, **quiz)
        await room.do(ann, "close_poll")
        poll = (await helper.rpc("class.poll", class_id=room.id, points=3, **quiz))["poll_id"]
        assert "correct" not in await ann.rpc("class.results", class_id=room.id, poll_id=poll)
        assert (await teacher.rpc("class.results", class_id=room.id, poll_id=poll))["correct"] == 1


async def test_a_message_that_was_accepted_stays_so(server: Server) -> None:
    """Its answer was lost, and then the chat was locked: the same id again has the same answer."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        id = str(uuid4())
        await room.say(ann, "Before", id=id)
        await room.do(teacher, "set_lock", lock="chat")
        await room.say(ann, "Before", id=id)
        assert await refusal(room, ben, "Before", id=id) == DENIED
        assert await refusal(room, ann, "After") == DENIED


async def test_who_was_there_and_for_how_long(server: Server) -> None:
    async with lesson(server, "ann", "=ben") as (room, teacher, ann, ben):
        await noted(server, room, 3)
        await back_by(server, room, ann, 40)
        await ann.device.cut_and_return()  # within the minute: she was not away
        await back_by(server, room, ben, 600)
        await ben.device.cut_and_return()
        await noted(server, room, 3, joins={ben.id: 2}, seconds={ann.id: 40})
        await room.do(teacher, "end")
        await noted(server, room, 3, seconds={teacher.id: 0, ben.id: 0})
        lines = ok(await teacher.http("GET", f"{room.path}/attendance"))["attendance"]
        by_user = {each["user_id"]: each for each in lines}
        assert by_user[ann.id]["joins"] == 1 and 40 <= by_user[ann.id]["seconds"] < 100
        assert by_user[ben.id]["joins"] == 2 and by_user[ben.id]["seconds"] < 60
        assert (await ann.http("GET", f"{room.path}/attendance")).status == 403
        table = await teacher.http("GET", f"{room.path}/attendance.csv")
        rows = list(csv.DictReader(io.StringIO(table.content.decode())))
        assert {each["name"] for each in rows} == {"teacher", "ann", "'=ben"}
        assert {each["user"]: each["email"] for each in rows} == {
            who.id: ok(await who.http("GET", "/v1/me"))["email"] for who in (teacher, ann, ben)
        }
        course = ok(await teacher.http("GET", f"/v1/courses/{room.course['id']}/attendance"))["attendance"]
        assert {(each["user_id"], each["classes"], each["of_classes"]) for each in course} == {
            (ann.id, 1, 1),
            (ben.id, 1, 1),
        }


async def test_everybody_is_on_the_lists_of_a_big_class(server: Server) -> None:
    """Who answered what, who was there, and in how many classes: in pages, and whole as CSV."""
    async with lesson(server, "ann") as (room, teacher, ann):
        asked = {"question": "?", "options": ["a", "b"], "anonymous": False}
        poll = (await teacher.rpc("class.poll", class_id=room.id, **asked))["poll_id"]
        await execute(
            server,
            "with made as (insert into users (id, email, name, password_hash, role)"
            " select gen_random_uuid(), gen_random_uuid() || '@x', 'p', 'x', 'student'"
            " from generate_series(1, 1100) returning id), enrolled as (insert into enrollments (user_id, course_id)"
            " select id, $3::text::uuid from made), present as (insert into class_attendance (class_id, user_id)"
            " select $2::text::uuid, id from made) insert into class_votes (poll_id, user_id, option)"
            " select $1::text::uuid, id, 1 from made",
            poll,
            room.id,
            room.course["id"],
        )
        await ann.rpc("class.vote", class_id=room.id, poll_id=poll, option=0)
        await noted(server, room, 1102)
        voters: list[str] = []
        after = None
        while True:
            page = await teacher.rpc("class.results", class_id=room.id, poll_id=poll, after=after)
            assert (page["counts"], page["total"], len(page["votes"]) <= 200) == ([1, 1100], 1101, True)
            voters += [each[0] for each in page["votes"]]
            if not (after := page.get("next")):
                break
        assert (len(voters), len(set(voters))) == (1101, 1101)
        for path, people in ((room.path, {teacher.id, *voters}), (f"/v1/courses/{room.course['id']}", set(voters))):
            found: list[str] = []
            query = ""
            while True:
                listed = ok(await teacher.http("GET", f"{path}/attendance{query}"))
                found += [each["user_id"] for each in listed["attendance"]]
                if "next" not in listed:
                    break
                query = f"?after={listed['next']}"
            assert (len(found), set(found)) == (len(people), people)
        table = await teacher.http("GET", f"{room.path}/attendance.csv")
        rows = list(csv.DictReader(io.StringIO(table.content.decode())))
        assert (len(rows), {each["user"] for each in rows}) == (1102, {teacher.id, *voters})


async def back_by(server: Server, room: Room, person: Person, seconds: int) -> None:
    """Move what is known of somebody into the past."""
    await execute(
        server,
        "update class_attendance set first_at = first_at - make_interval(secs => $3),"
        " last_at = last_at - make_interval(secs => $3) where class_id = $1::text::uuid and user_id = $2::text::uuid",
        room.id,
        person.id,
        seconds,
    )


async def noted(
    server: Server,
    room: Room,
    people: int,
    *,
    joins: dict[str, int] | None = None,
    seconds: dict[str, int] | None = None,
) -> None:
    """Return when the attendance has so many lines, those with so many joins, and those with so many seconds: each node
    notes its own people, when it comes to it."""
    async with asyncio.timeout(10):
        while True:
            rows = await execute(
                server, "select user_id, joins, seconds from class_attendance where class_id = $1::text::uuid", room.id
            )
            found = {str(user): (number, present) for user, number, present in rows}
            came = all(found[user][0] == number for user, number in (joins or {}).items())
            stayed = all(found[user][1] >= number for user, number in (seconds or {}).items())
            if len(found) == people and came and stayed:
                return
            await asyncio.sleep(0.05)
