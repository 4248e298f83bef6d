"""I7: nobody reads, writes or sees the presence of a room that they may not, and a removal reaches live connections."""

from __future__ import annotations

import contextlib
import signal
import uuid
from functools import partial
from typing import Any

import jwt
import pytest

from loadtest.server import Server
from tests.invariants.conftest import (
    Room,
    append_waits,
    database,
    healed,
    locked,
    poll,
    register,
    room,
    rows_of,
    strike,
    whole,
)
from tests.invariants.rawclient import RawClient, Refused, raw_client

pytestmark = pytest.mark.chaos

PROMPT = 1.0  # seconds for a removal to take effect on every node
SWEEP = 2.0  # seconds without the broker: the sweep's period of one, and a second for the look and the read


def message(content: str) -> dict[str, str]:
    return {"id": str(uuid.uuid4()), "type": "text", "content": content}


async def refusal(client: RawClient, **command: Any) -> int:
    with pytest.raises(Refused) as refused:
        await client.ask(**command)
    return refused.value.code


async def expelled(client: RawClient, channel: str, seconds: float) -> None:
    """Return when the server has ended the subscription. Raises TimeoutError."""
    subscription = client.subscriptions[channel]
    await client.until(lambda: subscription.ended == 2000, seconds)


async def is_absent(witness: RawClient, channel: str, *others: RawClient) -> bool:
    return {other.client for other in others}.isdisjoint(await witness.members(channel))


async def assert_shut_out(client: RawClient, channel: str) -> None:
    """Every way in is closed."""
    for command in (
        {"subscribe": {"channel": channel}},
        {"subscribe": {"channel": channel, "recover": True, "offset": 1, "epoch": "x"}},
        {"publish": {"channel": channel, "data": message("let me in")}},
        {"history": {"channel": channel, "limit": 10}},
        {"history": {"channel": channel, "limit": 0}},
        {"presence": {"channel": channel}},
        {"presence_stats": {"channel": channel}},
        {"sub_refresh": {"channel": channel, "token": ""}},
    ):
        assert await refusal(client, **command) == 103, command
    room_id = channel.partition(":")[2]
    assert await refusal(client, rpc={"method": "room.members", "data": {"room_id": room_id}}) == 102
    myself = {"room_id": room_id, "user_id": jwt.decode(client.token, options={"verify_signature": False})["sub"]}
    assert await refusal(client, rpc={"method": "room.invite", "data": myself}) == 102


async def assert_hears_nothing(people: Room, outsider: RawClient, secret: str) -> None:
    """Publish, and look at what the outsider was told when a member on the same node has it."""
    owner, witness = people.people[0], people.people[-1]
    assert witness.node == outsider.node
    await owner.publish(people.channel, message(secret))
    seen = people.subscriptions[-1]
    await witness.until(lambda: seen.data[-1:] != [] and seen.data[-1]["content"] == secret)
    await outsider.in_step()
    said = [data["content"] for data in outsider.subscriptions[people.channel].data]
    assert secret not in said


async def test_i7_a_removed_member_is_out_on_every_node_within_a_second(server: Server) -> None:
    """I7: two devices on two nodes lose the room; nothing comes after, and no command gets back in."""
    async with room(server, nodes=(0, 1, 1)) as people:
        owner, member, witness = people.people
        async with raw_client(server.websocket(0), member.token) as device:
            await device.subscribe(people.channel)
            await owner.publish(people.channel, message("hello"))
            assert member.client in await witness.members(people.channel)
            await owner.rpc("room.remove", room_id=people.id, user_id=people.users[1])
            for each in (member, device):
                await expelled(each, people.channel, PROMPT)
            await poll(partial(is_absent, witness, people.channel, member, device), "they are gone", PROMPT)
            await assert_hears_nothing(people, member, "secret")
            for each in (member, device):
                assert each.connected
                await assert_shut_out(each, people.channel)


async def test_i7_a_removal_reaches_other_nodes_by_the_sweep_while_the_broker_hangs(server: Server) -> None:
    """I7 with NATS away: it is stopped (SIGSTOP), so that connections to it stay and nothing comes."""
    async with room(server, nodes=(0, 1, 1)) as people:
        owner, member, _ = people.people
        strike(server, "nats", signal.SIGSTOP)
        try:
            await owner.rpc("room.remove", room_id=people.id, user_id=people.users[1])
            await expelled(member, people.channel, SWEEP)
            await assert_hears_nothing(people, member, "secret")
            await assert_shut_out(member, people.channel)
        finally:
            strike(server, "nats", signal.SIGCONT)
        await people.people[2].publish(people.channel, message("the broker is back"))
        del people.people[1]
        await people.settled(server)


async def test_i7_a_removal_reaches_other_nodes_by_the_sweep_while_the_broker_is_dead(server: Server) -> None:
    """I7 with NATS away: killed right before the removal, so that its publication has nowhere to go."""
    async with room(server, nodes=(0, 1, 1)) as people:
        owner, member, _ = people.people
        strike(server, "nats")
        await owner.rpc("room.remove", room_id=people.id, user_id=people.users[1])
        await expelled(member, people.channel, SWEEP)
        await assert_hears_nothing(people, member, "secret")
        await whole(server)


async def test_i7_who_is_removed_while_away_does_not_recover(server: Server) -> None:
    """I7, I4: the node dies, the member is removed meanwhile, and comes back with a position that was good."""
    async with room(server, nodes=(1, 0, 1)) as people:
        owner, member, _ = people.people
        await owner.publish(people.channel, message("hello"))
        await people.settled(server)
        strike(server, "node-1")
        await owner.rpc("room.remove", room_id=people.id, user_id=people.users[1])
        await owner.publish(people.channel, message("secret"))
        out = member.subscriptions[people.channel]
        await member.until(lambda: out.ended == 103)
        assert [data["content"] for data in out.data if data["type"] == "text"] == ["hello"]
        await whole(server)


async def test_i7_whoever_subscribes_while_being_removed_ends_outside(server: Server) -> None:
    """I7: the two cross, in every order; nobody stays in by arriving in between."""
    async with room(server, nodes=(0,)) as people:
        owner = people.people[0]
        user = await register(server)
        outcomes = set()
        async with raw_client(server.websocket(1), server.token(user)) as guest:
            for _ in range(40):
                await owner.rpc("room.invite", room_id=people.id, user_id=user)
                removal = owner.ask_soon(rpc={"method": "room.remove", "data": {"room_id": people.id, "user_id": user}})
                try:
                    await guest.subscribe(people.channel)
                except Refused as error:
                    outcomes.add(error.code)
                else:
                    await expelled(guest, people.channel, PROMPT)
                    outcomes.add(0)
                await removal
                assert await refusal(guest, history={"channel": people.channel, "limit": 1}) == 103
        assert outcomes <= {0, 103}


async def test_i7_a_subscribe_that_waits_for_the_log_while_the_removal_commits_ends_outside(server: Server) -> None:
    """I7: a removal that waits for the room's lock commits while the guest's subscribe is under way on a node that
    does not know the room yet."""
    async with room(server, nodes=(0,)) as people:
        owner = people.people[0]
        user = await register(server)
        await owner.rpc("room.invite", room_id=people.id, user_id=user)
        async with raw_client(server.websocket(1), server.token(user)) as guest:
            async with locked(server, people.channel):
                removal = owner.ask_soon(rpc={"method": "room.remove", "data": {"room_id": people.id, "user_id": user}})
                await append_waits(server)
                await guest.subscribe(people.channel)
            await removal
            await expelled(guest, people.channel, PROMPT)
            await assert_shut_out(guest, people.channel)


async def test_i7_an_edit_that_waits_behind_the_removal_is_not_done(server: Server) -> None:
    """I7: the edit was allowed when it came, and the room's lock goes to the removal first."""
    async with room(server, nodes=(0, 1)) as people:
        owner, member = people.people
        said = message("mine")
        await member.publish(people.channel, said)
        async with locked(server, people.channel):
            removal = owner.ask_soon(
                rpc={"method": "room.remove", "data": {"room_id": people.id, "user_id": people.users[1]}}
            )
            await append_waits(server)
            change = {"room_id": people.id, "message_id": said["id"], "content": "still mine"}
            edit = member.ask_soon(rpc={"method": "message.edit", "data": change})
            await append_waits(server, 2)
        await removal
        with pytest.raises(Refused) as refused:
            await edit
        assert refused.value.code == 102
        async with database(server) as connection:
            rows = await rows_of(connection, people.channel)
        assert rows[-1].data["event"] == "member_removed"
        assert "still mine" not in str(rows)


@pytest.mark.parametrize("trick", ["no token", "subscription token", "another's token", "connection token"])
async def test_i7_no_token_opens_a_room_to_who_is_no_member(server: Server, trick: str) -> None:
    """I7: membership decides, whatever a token says; a stolen or forged token says nothing."""
    async with room(server) as people:
        stranger = await register(server)
        claims: dict[str, Any] = (
            {"channels": [people.channel, f"user:{people.users[0]}"]} if trick == "connection token" else {}
        )
        async with raw_client(server.websocket(1), server.token(stranger, **claims)) as outsider:
            assert set(outsider.subs) == {f"user:{stranger}"}
            if trick == "another's token":  # the token of a member for this room, in the hands of somebody else
                token = server.token(people.users[1], channel=people.channel)
                with contextlib.suppress(Refused, ConnectionError):
                    outsider.ask_soon(subscribe={"channel": people.channel, "token": token})
                await outsider.until(lambda: outsider.refused)
                return
            token = server.token(stranger, channel=people.channel) if trick == "subscription token" else ""
            assert await refusal(outsider, subscribe={"channel": people.channel, "token": token}) == 103
            await assert_shut_out(outsider, people.channel)


async def test_i7_no_other_spelling_of_a_room_is_a_way_in(server: Server) -> None:
    """I7: what looks like the room's name, or is another's personal channel, is refused, and never the room."""
    async with (
        room(server) as people,
        raw_client(server.websocket(1), server.token(await register(server))) as outsider,
    ):
        compact = people.id.replace("-", "")
        for name in (
            f"room:{people.id.upper()}",
            f"room:{compact}",
            f"room:{{{people.id}}}",
            f"room:urn:uuid:{people.id}",
            f"$room:{people.id}",
            f"ROOM:{people.id}",
            f" room:{people.id}",
            f"room:{people.id} ",
            f"room:{people.id}\x00",
            f"room:{people.id}*",
            "room:*",
            "room:>",
            "room:",
            f"class:{people.id}",
            f"user:{people.users[0]}",
            f"user:{people.users[0]}#",
        ):
            for verb, more in (("subscribe", {}), ("publish", {"data": message("x")}), ("history", {"limit": 9})):
                code = await refusal(outsider, **{verb: {"channel": name, **more}})
                assert code in (102, 103, 107), (verb, name)


async def test_i7_a_forged_token_ends_the_connection(server: Server) -> None:
    """I7: signed with another secret, not signed at all, or expired for long."""
    async with room(server) as people:
        claims = {"sub": people.users[0]}
        for token in (
            jwt.encode(claims, "another secret of the right length ....", "HS256"),
            jwt.encode(claims, "", "none"),
            server.token(people.users[0])[:-2],
        ):
            async with raw_client(server.websocket(1), token) as forger:
                assert forger.refused
                assert forger.closes[-1][0] == 3500


async def test_i7_while_postgresql_is_away_nobody_is_let_in(server: Server) -> None:
    """I7: without the store that decides, the answer is a temporary error, never yes."""
    async with (
        room(server) as people,
        raw_client(server.websocket(1), server.token(await register(server))) as outsider,
    ):
        killed = strike(server, "postgres")
        assert await refusal(outsider, subscribe={"channel": people.channel}) in (100, 103)
        await healed(server, "postgres", killed)

        async def is_decided() -> bool:
            return await refusal(outsider, subscribe={"channel": people.channel}) == 103

        await poll(is_decided, "the store that decides is back")  # readiness may be half a second old
        await assert_shut_out(outsider, people.channel)
