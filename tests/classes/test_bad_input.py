"""What a client makes up: forged fields, floods, descriptions that are none. Refused with its code, at its own cost."""

from __future__ import annotations

import asyncio
import hmac
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from config.embedded import has_janus
from gateway_node.services.classes.ice import Ice, IceServer
from gateway_node.services.classes.janus import JanusRefused
from gateway_node.services.classes.media import MAX_WATCHED, Description, JanusMedia, Page
from gateway_node.services.classes.servers import MediaServers
from loadtest.server import Server
from realtime import codes
from realtime.classroom.commands import AnyCommand, Kick, Logged, Mute
from realtime.classroom.fold import Verdict
from realtime.classroom.state import Classroom, Sending
from tests.chat.conftest import SETTINGS
from tests.classes.room import lesson
from tests.invariants.rawclient import Lost, Refused
from tests.lms.school import enrol
from tests.stack import short_folder

DENIED, LIMITED, BAD, AWAY, TOO_MANY, CONFLICT = 103, 106, 107, 108, 111, 1003
LIMITS = {"CLIENT__PUBLISHES_PER_SECOND": "20", "CLIENT__COMMANDS_PER_SECOND": "100"}
TURN = {
    "MEDIA__ICE_SERVERS": "stun:s.test,turn:t.test:3478",
    "MEDIA__TURN_SECRET": "north-wind-and-sun",
    "MEDIA__TURN_TTL": "600",
}


@pytest.fixture(scope="module")
def limited_server() -> Iterator[Server]:
    """With the limits on clients that it has in real life, and a TURN server."""
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS | LIMITS | TURN) as running:
        yield running


@pytest.mark.integration
async def test_a_flood_of_candidates_costs_its_sender_alone(limited_server: Server) -> None:
    async with lesson(limited_server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(teacher, "publish", peer="page", tracks=["camera"])
        signal = {"class_id": room.id, "to": teacher.id, "peer": "a", "to_peer": "page", "data": {"candidates": ["x"]}}
        results = await asyncio.gather(*(ann.rpc("class.signal", **signal) for _ in range(400)), return_exceptions=True)
        refused = [each for each in results if isinstance(each, Refused)]
        assert len(refused) >= 250 and {each.code for each in refused} == {TOO_MANY}
        heard = [each for each in teacher.device.heard(teacher.channel) if each.get("type") == "class_signal"]
        assert len(heard) <= 150
        await room.say(ben, "I notice nothing")
        await teacher.device.hears(room.channel, content="I notice nothing")


@pytest.mark.integration
async def test_a_flood_of_commands_ends_its_connection(limited_server: Server) -> None:
    async with lesson(limited_server, "ann", "ben") as (room, teacher, ann, ben):
        results = await asyncio.gather(*(room.do(ann, "end") for _ in range(2000)), return_exceptions=True)
        assert {type(each) for each in results} <= {Refused, Lost}
        assert {each.code for each in results if isinstance(each, Refused)} <= {DENIED, TOO_MANY}
        assert 3013 in [code for code, _ in ann.device.closes]
        await room.do(ben, "raise_hand")
        state = await room.seen(teacher, lambda state: state["hands"])
        assert (list(state["hands"]), state["phase"]) == ([ben.id], "live")


@pytest.mark.integration
async def test_turn_credentials_are_for_who_is_in_and_end(limited_server: Server) -> None:
    async with lesson(limited_server, "ann") as (room, teacher, ann), lesson(limited_server, "eve") as (_, _, eve):
        before = time.time()
        stun, turn = (await ann.rpc("class.ice", class_id=room.id))["servers"]
        assert stun == {"urls": ["stun:s.test"]}
        expiry, _, user = turn["username"].partition(":")
        assert (user, before + 599 <= int(expiry) <= time.time() + 600) == (ann.id, True)
        expected = hmac.digest(b"north-wind-and-sun", turn["username"].encode(), "sha1")
        assert (turn["urls"], turn["credential"]) == (["turn:t.test:3478"], b64encode(expected).decode())
        assert await eve.refusal("class.ice", class_id=room.id) == 102
        await enrol(eve, room.course)
        assert await eve.refusal("class.ice", class_id=room.id) == DENIED
        await room.do(teacher, "lobby")
        assert (await room.enter(eve))["status"] == "waiting"
        assert await eve.refusal("class.ice", class_id=room.id) == DENIED


@pytest.mark.integration
async def test_what_cannot_be_is_refused_at_its_place(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        for command, code in (
            ({"do": "publish", "peer": "", "tracks": ["camera"]}, BAD),
            ({"do": "publish", "peer": "p", "tracks": []}, BAD),
            ({"do": "publish", "peer": "p", "tracks": ["hologram"]}, BAD),
            ({"do": "publish", "peer": "p" * 65, "tracks": ["camera"]}, BAD),
            ({"do": "raise_hand", "name": "The teacher"}, BAD),
            ({"do": "schedule", "opens_at": 0, "closes_at": 1}, BAD),
            ({"by": teacher.id}, BAD),
            (None, BAD),
        ):
            assert await ann.refusal("class.do", class_id=room.id, command=command) == code, command
        for role in ("teacher", "server", "king"):  # nobody makes a second teacher
            assert await room.refusal(teacher, "role", user=ann.id, role=role) == BAD
        assert await room.refusal(teacher, "chat_rules", slow=-1) == BAD
        assert await room.refusal(teacher, "kick", user=str(uuid4())) == 1002
        assert await room.refusal(teacher, "kick", user="x") == 1002
        assert await room.refusal(teacher, "kick", user=teacher.id) == DENIED
        offer = {"class_id": room.id, "peer": "p", "sdp": SDP, "kinds": {"0": "camera"}}
        assert await ann.refusal("class.offer", **offer) == AWAY  # this class goes from browser to browser


@pytest.mark.integration
async def test_a_command_has_its_id_for_itself(server: Server) -> None:
    """Everybody sees the ids of commands: another's is refused, on each node, and says nothing of what became of it."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        command = {"do": "mute", "user": ben.id}
        id = str(uuid4())
        await teacher.rpc("class.do", class_id=room.id, command=command, id=id)
        for person in (ann, ben):
            do = {"class_id": room.id, "command": {"do": "raise_hand"}}
            assert await person.refusal("class.do", **do, id=id) == BAD
        await teacher.rpc("class.do", class_id=room.id, command=command, id=id)  # their own again
        await room.do(ann, "raise_hand")
        assert list((await room.seen(ben, lambda state: state["hands"]))["hands"]) == [ann.id]


@pytest.mark.integration
async def test_nobody_is_thrown_out_under_another_spelling_of_their_name(server: Server) -> None:
    """The fold knows people by their ids as they are written: any other spelling would be somebody else."""
    async with lesson(server, "ann") as (room, teacher, ann):
        for user in (ann.id.upper(), ann.id.replace("-", ""), f"urn:uuid:{ann.id}", f"{{{ann.id}}}"):
            for do in ("kick", "ban", "mute", "admit"):
                assert await room.refusal(teacher, do, user=user) == 1002
        state = await room.seen(ann, lambda state: True)
        assert state["muted"] == {}


@pytest.mark.integration
@pytest.mark.skipif(not has_janus(), reason="needs janus: it is not installed")
async def test_media_are_for_who_is_subscribed(server: Server) -> None:
    """Whoever leaves is let go of by that; whoever never came could not be."""
    async with lesson(server, "ann", media="janus") as (room, teacher, ann):
        watch = {"class_id": room.id, "peer": "p", "user": teacher.id}
        assert await ann.refusal("class.watch", **watch) == CONFLICT  # the teacher sends nothing
        await ann.device.ask(unsubscribe={"channel": room.channel})
        assert await ann.refusal("class.watch", **watch) == DENIED


@pytest.mark.integration
async def test_a_second_teacher_of_the_course_teaches_too(server: Server) -> None:
    async with lesson(server, "ann", assistant=True) as (room, teacher, ann, helper):
        path = f"/v1/courses/{room.course['id']}/participants/{helper.id}"
        assert (await teacher.http("PUT", path, {"role": "teacher"})).status == 204
        await room.do(helper, "mute", user=ann.id)
        await room.do(helper, "end")
        assert await room.refusal(teacher, "end") == CONFLICT


# --- without a server ------------------------------------------------------------------------------------------


def test_turn_credentials_are_those_of_coturns_rest_scheme() -> None:
    ice = Ice(("stun:s", "turn:t:3478"), "north-wind-and-sun", 3600, clock=lambda: 1_700_000_000.0)
    stun, turn = ice.for_user("ann").servers
    assert stun == IceServer(["stun:s"])
    # printf '1700003600:ann' | openssl dgst -sha1 -hmac north-wind-and-sun -binary | base64
    assert turn == IceServer(["turn:t:3478"], "1700003600:ann", "5WEVa0wYNbrjH3llfZkCNgww968=")
    assert Ice(("turn:t",), "", 60).for_user("ann").servers == [IceServer(["turn:t"])]


class NeverAsked:
    """A Janus that must not hear of what is refused here."""

    on_event = on_up = on_down = None

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class Following:
    def __init__(self, state: Classroom) -> None:
        self.state = state
        self.id = UUID(int=1)

    def has(self, user: str) -> bool:
        return False


class Handles:
    """A Janus that has handles, and takes feeds when the test lets it. `muted`: (feed, whether) as it was told."""

    on_event = on_up = on_down = None

    def __init__(self) -> None:
        self.made = 0
        self.open: set[int] = set()
        self.feeds: dict[int, str] = {}
        self.muted: list[tuple[str, bool]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def attach(self) -> int:
        await asyncio.sleep(0)
        self.made += 1
        self.open.add(self.made)
        return self.made

    async def detach(self, handle: int) -> None:
        self.open.discard(handle)

    async def message(self, handle: int, body: dict[str, Any], jsep: Any = None) -> tuple[dict[str, Any], Any]:
        if handle not in self.open:
            raise JanusRefused(459, "no such handle")
        match body["request"]:
            case "joinandconfigure":
                await self.answers.wait()
                self.feeds[handle] = body["id"]
            case "moderate":
                if body["id"] not in self.feeds.values():
                    raise JanusRefused(428, "no such feed")
                self.muted.append((body["id"], body["mute"]))
            case "listparticipants":
                return {"participants": [{"id": "tea.page.1"}]}, None
        return {}, {"type": "answer", "sdp": "v=0"}

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def media_of(janus: Handles | NeverAsked) -> JanusMedia:
    def nobody(channel: str, data: bytes) -> None:
        pass

    return JanusMedia(MediaServers({"janus": janus}), b"", nobody, nobody, list)  # type: ignore[dict-item]


def class_of(**sending: tuple[Any, ...]) -> Any:
    sends = {user: Sending(user, "page", tracks, "student") for user, tracks in sending.items()}
    return Following(Classroom(phase="live", sending=sends))


def verdict(command: AnyCommand) -> Verdict:
    return Verdict(command=Logged(id="x", by="tea", role="teacher", command=command))


SDP = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n"
SOUND = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"


@pytest.mark.parametrize(
    ("sdp", "kinds", "code"),
    [
        ("v=0" + "x" * 40_000, {"0": "camera"}, LIMITED),
        ("nonsense", {"0": "camera"}, BAD),
        (SDP, {}, BAD),
        (SDP, {"1": "camera"}, BAD),
        (SOUND, {"0": "camera"}, BAD),  # sound that says it is a picture
        (SDP + "m=video 9 x 96\r\na=mid:1\r\n", {"0": "camera"}, BAD),  # a part that nobody speaks of
        (SDP, {"0": "screen"}, DENIED),  # the class lets her send a camera
        (SOUND, {"0": "microphone"}, DENIED),
    ],
)
async def test_an_offer_is_held_against_the_class_before_janus_hears_of_it(
    sdp: str, kinds: dict[str, Any], code: int
) -> None:
    media = media_of(NeverAsked())
    state = Classroom(phase="live", sending={"ann": Sending("ann", "page", ("camera",), "student")})
    page = Page(UUID(int=1), "ann", "page")
    with pytest.raises(codes.CommandError) as refused:
        await media.publish(Following(state), page, Description("offer", sdp, kinds))  # type: ignore[arg-type]
    assert refused.value.code == code
    with pytest.raises(codes.CommandError) as refused:
        other = Page(UUID(int=1), "ann", "another page")
        await media.publish(Following(state), other, Description("offer", SDP, {"0": "camera"}))  # type: ignore[arg-type]
    assert refused.value.code == DENIED


async def test_what_janus_cannot_read_comes_back_cut() -> None:
    """It says each line again that is at fault: 30 KB for 30 KB, and into whatever notes the error."""
    janus = Handles()

    async def refuse(*_: Any) -> Any:
        raise JanusRefused(465, "Invalid line: " + "x" * 30_000)

    janus.message = refuse  # type: ignore[assignment,method-assign]
    page = Page(UUID(int=1), "ann", "page")
    with pytest.raises(codes.CommandError, match="465: Invalid line: xxx") as refused:
        await media_of(janus).publish(class_of(ann=("camera",)), page, Description("offer", SDP, {"0": "camera"}))
    assert (refused.value.code, len(refused.value.message) < 300) == (BAD, True)


async def test_of_two_offers_at_once_one_stays_and_can_be_muted() -> None:
    janus, follower = Handles(), class_of(ann=("microphone",))
    backend, page = media_of(janus), Page(UUID(int=1), "ann", "page")
    offer = Description("offer", SOUND, {"0": "microphone"})
    await asyncio.gather(*(backend.publish(follower, page, offer) for _ in range(5)), return_exceptions=True)
    assert len(janus.open) == 1
    follower.state.sending["ann"] = Sending("ann", "page", ("camera",), "student")
    backend.obey(follower, verdict(Mute("ann")))
    await janus.settle()
    assert janus.muted == [(janus.feeds[min(janus.open)], True)]


async def test_a_mute_while_an_offer_is_answered_is_a_mute() -> None:
    janus, follower = Handles(), class_of(ann=("microphone",))
    backend, page = media_of(janus), Page(UUID(int=1), "ann", "page")
    janus.answers.clear()
    offering = asyncio.create_task(backend.publish(follower, page, Description("offer", SOUND, {"0": "microphone"})))
    await janus.settle()
    follower.state.sending["ann"] = Sending("ann", "page", ("camera",), "student")
    backend.obey(follower, verdict(Mute("ann")))
    janus.answers.set()
    await offering
    await janus.settle()
    assert [mute for _, mute in janus.muted] and all(mute for _, mute in janus.muted)


async def test_made_up_names_of_pages_cost_janus_no_handle_without_end() -> None:
    janus, follower = Handles(), class_of(tea=("camera",))
    backend = media_of(janus)
    for i in range(MAX_WATCHED):
        await backend.watch(follower, Page(UUID(int=1), "ann", f"{i}"), "tea")
    with pytest.raises(codes.CommandError) as refused:
        await backend.watch(follower, Page(UUID(int=1), "ann", "one more"), "tea")
    assert refused.value.code == LIMITED
    await asyncio.gather(*(backend.watch(follower, Page(UUID(int=1), "ann", "0"), "tea") for _ in range(5)))
    await backend.watch(follower, Page(UUID(int=1), "ben", "page"), "tea")
    assert len(janus.open) == MAX_WATCHED + 1


async def test_a_mute_takes_no_picture_from_somebody_who_was_kicked_once() -> None:
    janus, follower = Handles(), class_of(tea=("camera",))
    backend, page = media_of(janus), Page(UUID(int=1), "ben", "page")
    follower.state.kicked["ben"] = 3
    await backend.watch(follower, page, "tea")
    backend.obey(follower, verdict(Mute("ben")))
    await janus.settle()
    assert len(janus.open) == 1
    backend.obey(follower, verdict(Kick("ben"))._replace(out="ben"))
    await janus.settle()
    assert not janus.open
