"""What a client makes up: forged fields, floods, descriptions that are none. Refused with its code, at its own cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway_node.services.classes.ice import Ice, IceServer
from gateway_node.services.classes.media import Description, JanusMedia, Page
from loadtest.server import Server
from realtime import codes
from realtime.classroom.state import Classroom, Sending
from tests.chat.conftest import SETTINGS
from tests.classes.room import lesson
from tests.invariants.rawclient import Lost, Refused
from tests.stack import short_folder

DENIED, LIMITED, BAD, AWAY, TOO_MANY, CONFLICT = 103, 106, 107, 108, 111, 1003
LIMITS = {"CLIENT__PUBLISHES_PER_SECOND": "20", "CLIENT__COMMANDS_PER_SECOND": "100"}


@pytest.fixture(scope="module")
def limited_server() -> Iterator[Server]:
    """With the limits on clients that it has in real life."""
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS | LIMITS) as running:
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
    media = JanusMedia(NeverAsked(), b"", lambda channel, data: None, list)  # type: ignore[arg-type]
    state = Classroom(phase="live", sending={"ann": Sending("ann", "page", ("camera",), "student")})
    page = Page(UUID(int=1), "ann", "page")
    with pytest.raises(codes.CommandError) as refused:
        await media.publish(Following(state), page, Description("offer", sdp, kinds))  # type: ignore[arg-type]
    assert refused.value.code == code
    with pytest.raises(codes.CommandError) as refused:
        other = Page(UUID(int=1), "ann", "another page")
        await media.publish(Following(state), other, Description("offer", SDP, {"0": "camera"}))  # type: ignore[arg-type]
    assert refused.value.code == DENIED
