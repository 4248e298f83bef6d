"""People on two whole nodes: finding them, and who is there."""

from __future__ import annotations

import asyncio
import secrets
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from loadtest.server import Server
from presence import keys
from tests.chat.conftest import SETTINGS
from tests.chat.person import Person, people
from tests.invariants.conftest import poll
from tests.invariants.rawclient import Refused
from tests.stack import redis_of, short_folder

pytestmark = pytest.mark.integration


async def status(asker: Person, *others: Person) -> dict[str, Any]:
    answer = await asker.rpc("user.status", user_ids=[each.id for each in others])
    return dict(answer["users"])


async def is_online(asker: Person, other: Person) -> Any:
    return (await status(asker, other))[other.id]["online"]


async def until_online(asker: Person, other: Person, wanted: bool, seconds: float = 30) -> None:
    async def look() -> bool:
        return await is_online(asker, other) is wanted

    await poll(look, f"{other.name} online: {wanted}", seconds)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- finding ----------------------------------------------------------------------------------------------------------


async def test_people_are_found_by_the_beginning_of_their_name(server: Server) -> None:
    mark = secrets.token_hex(4)
    async with people(server, f"{mark}Ann", f"{mark}ben", "Cy") as (ann, ben, cy):
        found = (await cy.rpc("user.find", query=f"  {mark.upper()}"))["users"]
        assert found == [{"id": ann.id, "name": ann.name}, {"id": ben.id, "name": ben.name}]
        assert (await cy.http("GET", f"/v1/users?query={mark}A")).body == {"users": found[:1]}
        assert (await cy.rpc("user.find", query=f"%{mark}")) == {"users": []}
        account = {"email": f"{mark}@example.org", "password": secrets.token_hex(8), "name": "Dee"}
        registered = await cy.http("POST", "/v1/auth/register", account)
        found = (await cy.rpc("user.find", query=f"{mark.upper()}@EXAMPLE.org"))["users"]
        assert found == [{"id": registered.body["id"], "name": "Dee"}], "by the address, which nobody is told"
        assert (await cy.rpc("user.find", query=f"{mark}@example"))["users"] == []


async def test_a_new_name_is_seen_by_all(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        name = f"Ann {secrets.token_hex(4)}"
        assert await ann.rpc("user.update", name=f" {name} ") == {"id": ann.id, "name": name}
        assert (await ben.rpc("user.find", query=name))["users"] == [{"id": ann.id, "name": name}]
        answer = await ann.http("PATCH", "/v1/me", {"name": "Ann again"})
        assert (answer.status, answer.body["name"], answer.body["id"]) == (200, "Ann again", ann.id)
        assert (await ann.http("GET", "/v1/me", node=1)).body == answer.body


@pytest.mark.parametrize(
    ("method", "params", "pointer"),
    [
        ("user.find", {"query": ""}, "/query"),
        ("user.find", {"query": "   "}, "/query"),
        ("user.find", {"query": "a\u0000b"}, "/query"),
        ("user.find", {"query": "x" * 256}, "/query"),
        ("user.find", {"query": 1}, "/query"),
        ("user.find", {}, "/query"),
        ("user.update", {"name": ""}, "/name"),
        ("user.update", {"name": "x" * 101}, "/name"),
        ("user.update", {"name": "a\nb"}, "/name"),
        ("user.update", {"name": "a\u2028b"}, "/name"),
        ("user.status", {"user_ids": ["nonsense"]}, "/user_ids"),
        ("user.status", {"user_ids": [str(uuid.UUID(int=n)) for n in range(101)]}, "/user_ids"),
    ],
)
async def test_bad_parameters_are_refused_where_they_are(
    server: Server, method: str, params: dict[str, Any], pointer: str
) -> None:
    async with people(server, "Ann") as (ann,):
        with pytest.raises(Refused, match=pointer) as refused:
            await ann.rpc(method, **params)
        assert refused.value.code == 107


async def test_bad_requests_over_http(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        for path in ("/v1/users", "/v1/users?query=", "/v1/users/status", "/v1/users/status?id=nonsense"):
            assert (await ann.http("GET", path)).status == 400, path
        many = "&".join(f"id={uuid.UUID(int=n)}" for n in range(101))
        assert (await ann.http("GET", f"/v1/users/status?{many}")).status == 400
        for body, pointer in (({"name": 1}, "/name"), ({"name": " "}, "/name"), ({"x": 1}, "/x")):
            answer = await ann.http("PATCH", "/v1/me", body)
            assert answer.status == 422, answer.body
            assert pointer in answer.pointers or "/name" in answer.pointers
        assert (await ann.http("GET", "/v1/users?query=a", headers={"Authorization": ""})).status == 401
        stranger = server.token("somebody of another issuer")
        headers = {"Authorization": f"Bearer {stranger}"}
        assert (await ann.http("GET", "/v1/users?query=a", headers=headers)).status == 403
        nobody = {"Authorization": f"Bearer {server.token(str(uuid.uuid4()))}"}
        assert (await ann.http("PATCH", "/v1/me", {"name": "x"}, headers=nobody)).status in {401, 404}


# --- who is there -----------------------------------------------------------------------------------------------------


async def test_online_with_any_device_on_any_node_and_then_last_seen(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        await ann.rpc("room.direct", user_id=ben.id)
        await until_online(ann, ben, True)
        assert (await status(ann, ben))[ben.id] == {"online": True}, "never gone yet"
        other = await ben.another_device(0)
        async with redis_of(server) as redis:

            async def on_both_nodes() -> bool:
                return await redis.scard(keys.online(ben.id)[1]) == 2

            await poll(on_both_nodes, "both nodes know of him")
        await ben.device.close()
        await asyncio.sleep(0.2)  # what must not happen has no event
        assert await is_online(ann, ben) is True, "one device is left, on the other node"
        before = datetime.now(UTC)
        await other.close()
        await until_online(ann, ben, False)

        async def seen() -> Any:
            return (await status(ann, ben))[ben.id].get("last_seen")

        last_seen = moment(await poll(seen, "last seen"))
        assert before - timedelta(seconds=2) < last_seen < datetime.now(UTC) + timedelta(seconds=2)
        answer = await ann.http("GET", f"/v1/users/status?id={ben.id}&id={ann.id}")
        assert answer.body["users"][ben.id]["online"] is False
        assert answer.body["users"][ann.id]["online"] is True
        await ben.another_device()
        await until_online(ann, ben, True)
        assert moment((await status(ann, ben))[ben.id]["last_seen"]) == last_seen, "it is when they last went"


async def test_of_strangers_nothing_is_said(server: Server) -> None:
    async with people(server, "Ann", "Ben", "Cy") as (ann, ben, cy):
        room = await ann.rpc("room.create", title="Algebra", members=[ben.id])
        assert set(await status(cy, ann, ben, cy)) == {cy.id}
        assert set(await status(ann, ann, ben, cy)) == {ann.id, ben.id}
        nobody = {"users": {}}
        assert await cy.rpc("user.status", user_ids=[ann.id, str(uuid.uuid4())]) == nobody
        await ann.rpc("room.remove", room_id=room["id"], user_id=ben.id)
        assert set(await status(ann, ben)) == set()


# --- what dies --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragile() -> Iterator[Server]:
    """A server of this file's own, to be ill-treated."""
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running


@pytest.mark.chaos
async def test_the_people_of_a_killed_node_are_gone_and_were_seen(fragile: Server) -> None:
    async with people(fragile, "Ann", "Ben", "Cy", nodes=(0, 1, 1)) as (ann, ben, cy):
        await ann.rpc("room.create", title="Algebra", members=[ben.id, cy.id])
        await cy.another_device(0)
        assert await is_online(ann, ben) is True
        for person in (ben, cy):
            person.device.comes_back = False
        before = datetime.now(UTC)
        fragile.kill("node-2")
        await until_online(ann, ben, False, 20)
        assert await is_online(ann, cy) is True, "they have a device elsewhere"

        async def seen() -> Any:
            return (await status(ann, ben))[ben.id].get("last_seen")

        assert moment(await poll(seen, "last seen")) > before
        assert "last_seen" not in (await status(ann, cy))[cy.id]
        await asyncio.to_thread(fragile.wait_ready, 1)


@pytest.mark.chaos
async def test_without_redis_nobody_knows(fragile: Server) -> None:
    async with people(fragile, "Ann", "Ben") as (ann, ben):
        await ann.rpc("room.direct", user_id=ben.id)
        await until_online(ann, ben, True)
        fragile.kill("valkey", signal.SIGSTOP)
        try:
            assert await is_online(ann, ben) is None
        finally:
            fragile.kill("valkey", signal.SIGCONT)
        await until_online(ann, ben, True)
