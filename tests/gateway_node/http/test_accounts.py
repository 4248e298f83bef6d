"""Accounts over a real socket and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from config.sections import Settings
from config.tokens import Token
from gateway_node.authoriser import ChannelAuthoriser
from gateway_node.http.services import Services
from gateway_node.limits import Buckets, Limits
from gateway_node.passwords import Passwords, PasswordsBusy, Verdict
from gateway_node.post import Post
from gateway_node.services.accounts import Accounts
from gateway_node.services.shifts import Shifts
from gateway_node.tokens import TokenVerifier, mint_connection
from realtime.namespaces import Namespaces
from storage.database import Database
from storage.deliveries import DeliveryStore
from storage.sessions import SessionStore
from storage.standing import StandingStore
from storage.users import UserStore
from tests.gateway_node.http.conftest import SECRET, client_of, make_services
from tests.gateway_node.http.test_problems import problem_of

pytestmark = pytest.mark.integration

ALICE = {"email": "alice@school.example", "password": "correct horse"}
PLENTY = {
    "logins_per_address": 0,
    "logins_per_user": 0,
    "registrations_per_address": 0,
    "requests_per_address": 0,
    "requests_per_user": 0,
}


class World(SimpleNamespace):
    """The application, the stores behind it, and a client in front."""

    database: Database
    users: UserStore
    sessions: SessionStore
    client: httpx.AsyncClient

    async def register(self, **changes: Any) -> httpx.Response:
        return await self.client.post("/v1/auth/register", json=ALICE | changes)

    async def login(self, **changes: Any) -> httpx.Response:
        return await self.client.post("/v1/auth/login", json=ALICE | changes)

    async def refresh(self, token: str) -> httpx.Response:
        return await self.client.post("/v1/auth/refresh", json={"refresh_token": token})

    async def me(self, token: str) -> httpx.Response:
        return await self.client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=4)
    yield database
    await database.close()


def services_on(database: Database, passwords: Passwords, **limits: int) -> Services:
    users, sessions = UserStore(database), SessionStore(database)
    token = Token(hmac_secret=SECRET, audience="chat", issuer="school")
    return make_services(
        accounts=Accounts(users, sessions, passwords, token),
        post=Post.of(
            Settings(token=token),
            outbox=DeliveryStore(database),
            users=users,
            sessions=sessions,
            passwords=passwords,
            shifts=Shifts(),
            ended=lambda user, session: None,
        ),
        authoriser=ChannelAuthoriser(
            Namespaces(), TokenVerifier(SECRET, audience="chat", issuer="school"), StandingStore(database)
        ),
        limits=Limits(Buckets(None), **(PLENTY | limits)),
    )


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    passwords = Passwords(time_cost=1, memory=8)
    async with client_of(services_on(database, passwords)) as client:
        yield World(database=database, users=UserStore(database), sessions=SessionStore(database), client=client)
    passwords.close()


async def test_register_log_in_and_be_known(world: World) -> None:
    made = await world.register(name="Alice")
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/me"
    assert made.json().keys() == {
        *("id", "email", "name", "role", "created_at", "email_verified"),
        *("bio", "locale", "time_zone", "avatar_id"),
    }
    assert (made.json()["email"], made.json()["name"], made.json()["role"]) == (ALICE["email"], "Alice", "student")

    entered = await world.login()
    assert entered.status_code == 200
    assert entered.headers["cache-control"] == "no-store"
    assert entered.json()["token_type"] == "Bearer"
    assert entered.json()["expires_in"] == 900

    known = await world.me(entered.json()["access_token"])
    assert known.status_code == 200
    assert known.json() == made.json()


async def test_the_access_token_is_a_connection_token(world: World) -> None:
    made = (await world.register(name="Alice")).json()
    token = (await world.login()).json()["access_token"]
    identity = TokenVerifier(SECRET, audience="chat", issuer="school").connection(token)
    assert (identity.user, identity.role, identity.info) == (made["id"], "student", b'{"name":"Alice"}')
    assert identity.expires_at
    assert UUID(identity.session)


async def test_passwords_are_not_stored(world: World) -> None:
    await world.register()
    user = await world.users.by_email(ALICE["email"])
    assert user is not None
    assert user.password_hash.startswith("$argon2id$")


async def test_the_address_is_the_same_in_any_case(world: World) -> None:
    await world.register()
    problem_of(await world.register(email="ALICE@School.Example"), 409)
    assert (await world.login(email="Alice@SCHOOL.example")).status_code == 200


async def test_a_second_account_of_one_address_is_refused(world: World) -> None:
    await world.register()
    problem = problem_of(await world.register(password="another one"), 409)
    assert problem["errors"][0]["pointer"] == "/email"
    assert (await world.login()).status_code == 200


async def test_of_many_registrations_at_once_one_succeeds(world: World) -> None:
    replies = await asyncio.gather(*(world.register() for _ in range(8)))
    assert sorted(reply.status_code for reply in replies) == [201] + [409] * 7


async def test_registering_again_with_the_key_is_answered_like_the_first_time(world: World) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await world.client.post("/v1/auth/register", json=ALICE, headers=key)
    second = await world.client.post("/v1/auth/register", json=ALICE, headers=key)
    assert (second.status_code, second.json()) == (201, first.json())
    stranger = await world.client.post("/v1/auth/register", json=ALICE | {"password": "a good guess"}, headers=key)
    problem_of(stranger, 409)


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"email": "bob@school.example"}, {"password": ""}])
async def test_a_wrong_login_does_not_say_what_is_wrong(world: World, changes: dict[str, str]) -> None:
    await world.register()
    reply = await world.login(**changes)
    problem = problem_of(reply, 401)
    assert problem["detail"] == "the address or the password is wrong, or the account is disabled"
    assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_a_disabled_user_stays_out_everywhere(world: World) -> None:
    made = (await world.register()).json()
    tokens = (await world.login()).json()
    await world.users.disable(UUID(made["id"]))
    problem_of(await world.login(), 401)
    problem_of(await world.me(tokens["access_token"]), 401)
    problem_of(await world.refresh(tokens["refresh_token"]), 401)


async def test_refreshing_gives_the_next_pair(world: World) -> None:
    await world.register()
    first = (await world.login()).json()
    second = (await world.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await world.me(second["access_token"])).status_code == 200
    assert (await world.refresh(second["refresh_token"])).status_code == 200


async def test_using_a_refresh_token_twice_ends_the_login(world: World) -> None:
    await world.register()
    stolen = (await world.login()).json()
    other_device = (await world.login()).json()
    thief = (await world.refresh(stolen["refresh_token"])).json()
    further = (await world.refresh(thief["refresh_token"])).json()
    problem_of(await world.refresh(stolen["refresh_token"]), 401)
    problem_of(await world.refresh(further["refresh_token"]), 401)
    for tokens in (stolen, thief, further):
        problem_of(await world.me(tokens["access_token"]), 401)
    assert (await world.me(other_device["access_token"])).status_code == 200
    assert (await world.refresh(other_device["refresh_token"])).status_code == 200


async def test_a_refresh_whose_answer_was_lost_is_made_again(world: World) -> None:
    await world.register()
    tokens = (await world.login()).json()
    replies = await asyncio.gather(*(world.refresh(tokens["refresh_token"]) for _ in range(8)))
    assert {reply.status_code for reply in replies} == {200}
    (same,) = {reply.json()["refresh_token"] for reply in replies}
    for reply in replies:
        assert (await world.me(reply.json()["access_token"])).status_code == 200
    assert (await world.refresh(same)).status_code == 200


async def test_logging_out_ends_one_login(world: World) -> None:
    await world.register()
    here, there = (await world.login()).json(), (await world.login()).json()
    out = {"refresh_token": here["refresh_token"]}
    assert (await world.client.post("/v1/auth/logout", json=out)).status_code == 204
    assert (await world.client.post("/v1/auth/logout", json=out)).status_code == 204
    problem_of(await world.me(here["access_token"]), 401)
    problem_of(await world.refresh(here["refresh_token"]), 401)
    assert (await world.me(there["access_token"])).status_code == 200


async def test_logging_out_of_nothing_is_no_error(world: World) -> None:
    reply = await world.client.post("/v1/auth/logout", json={"refresh_token": "nothing"})
    assert (reply.status_code, reply.content) == (204, b"")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Basic YTpi", "Bearer x.y.z", "Bearer " + "x" * 9000, "bearer", "Token x"],
)
async def test_me_needs_a_good_token(world: World, header: str | None) -> None:
    reply = await world.client.get("/v1/me", headers={} if header is None else {"Authorization": header})
    problem_of(reply, 401)
    assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_me_refuses_tokens_that_are_over_anonymous_or_nobodys(world: World) -> None:
    def token(user: str, **claims: Any) -> str:
        return mint_connection(SECRET, user, audience="chat", issuer="school", **claims)

    problem_of(await world.me(token("x", ttl=1, now=1_000_000)), 401)
    problem_of(await world.me(token("", ttl=60)), 401)
    problem_of(await world.me(token("somebody", ttl=60, session="unknown")), 401)
    problem_of(await world.me(token("a user of another issuer", ttl=60)), 404)


async def test_a_hash_of_older_parameters_is_replaced_at_the_next_login(world: World) -> None:
    stronger = Passwords(time_cost=2, memory=8)
    await world.users.create(ALICE["email"], await stronger.hash(ALICE["password"]))
    stronger.close()
    assert (await world.login()).status_code == 200
    user = await world.users.by_email(ALICE["email"])
    assert user is not None
    assert "m=8,t=1,p=1" in user.password_hash
    assert (await world.login()).status_code == 200


async def test_a_password_that_is_changed_while_the_old_one_is_checked_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stronger, verify = Passwords(time_cost=2, memory=8), Passwords.verify
    user = await world.users.create(ALICE["email"], await stronger.hash(ALICE["password"]))
    stronger.close()

    async def verify_and_change(passwords: Passwords, stored: str | None, password: str) -> Verdict:
        verdict = await verify(passwords, stored, password)
        await world.users.replace_password(user.id, user.password_hash, "changed", verified=False)
        return verdict

    monkeypatch.setattr(Passwords, "verify", verify_and_change)
    problem_of(await world.login(), 401)
    present = await world.users.by_id(user.id)
    assert present is not None and present.password_hash == "changed"
    assert await world.sessions.list(user.id) == []


BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/auth/register", ALICE),
    ("/v1/auth/login", ALICE),
    ("/v1/auth/refresh", {"refresh_token": "x"}),
    ("/v1/auth/logout", {"refresh_token": "x"}),
]


@pytest.mark.parametrize(("path", "good"), BODIES)
async def test_bad_bodies_are_problems_on_every_route(world: World, path: str, good: dict[str, Any]) -> None:
    json_type = {"Content-Type": "application/json"}
    for broken in (b"{", b"\xff", b"[" * 100, b'{"email":"\\ud800"}'):
        problem_of(await world.client.post(path, content=broken, headers=json_type), 400)
    problem_of(await world.client.post(path, headers=json_type), 400)
    problem_of(await world.client.post(path, data={"email": "x"}), 415)
    problem_of(await world.client.post(path, content=b'"' + b"x" * 2**20 + b'"', headers=json_type), 413)
    for wrong in (b"[]", b"null", b"7"):
        problem_of(await world.client.post(path, content=wrong, headers=json_type), 422)
    for name in good:
        for value in (None, 5, [], {}, "x" * 2000):
            problem = problem_of(await world.client.post(path, json=good | {name: value}), 422)
            assert problem["errors"][0]["pointer"] == f"/{name}"
        without = {other: value for other, value in good.items() if other != name}
        problem = problem_of(await world.client.post(path, json=without), 422)
        assert problem["errors"][0]["pointer"] == f"/{name}"
    problem = problem_of(await world.client.post(path, json=good | {"is_admin": True}), 422)
    assert problem["errors"][0]["pointer"] == "/is_admin"


@pytest.mark.parametrize(
    "changes",
    [
        {"email": "no address"},
        {"email": "a@b@c"},
        {"email": "a@b\0"},
        {"email": "@"},
        {"email": ""},
        {"password": "short"},
        {"name": "x" * 101},
        {"name": "line\nbreak"},
        {"name": "a line\n"},
        {"name": "line\u2028break"},
        {"name": "\x85"},
        {"role": "admin"},
    ],
    ids=str,
)
async def test_registrations_that_cannot_be(world: World, changes: dict[str, str]) -> None:
    problem = problem_of(await world.register(**changes), 422)
    assert problem["errors"][0]["pointer"] == "/" + next(iter(changes))


async def test_text_of_any_script_is_kept(world: World) -> None:
    made = await world.register(name="Ζωή 🦉 'quoted' \\ \"", email="ζωή@école.example", password="пароль 密码 🔑")
    assert made.json()["name"] == "Ζωή 🦉 'quoted' \\ \""
    assert (await world.login(email="ζωή@école.example", password="пароль 密码 🔑")).status_code == 200
    assert (await world.register(name="  Bo ", email="bo@example.org")).json()["name"] == "Bo", "as by PATCH /v1/me"


async def test_without_the_database_the_answer_is_to_try_again(world: World) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none", connect_timeout=0.5)
    passwords = Passwords(time_cost=1, memory=8)
    token = mint_connection(SECRET, str(uuid4()), ttl=60, audience="chat", issuer="school")
    async with client_of(services_on(nowhere, passwords)) as client:
        for path, body in BODIES:
            reply = await client.post(path, json=body)
            problem_of(reply, 503)
            assert reply.headers["retry-after"] == "1"
        problem_of(await client.get("/v1/me", headers={"Authorization": f"Bearer {token}"}), 503)
    passwords.close()
    await nowhere.close()


async def test_a_flood_of_logins_is_told_to_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object) -> None:
        raise PasswordsBusy

    monkeypatch.setattr(Passwords, "verify", busy)
    reply = await world.login()
    problem_of(reply, 503)
    assert reply.headers["retry-after"] == "1"


async def test_limits_hold_by_address_and_by_account(database: Database) -> None:
    passwords = Passwords(time_cost=1, memory=8)
    limits = {"logins_per_user": 2, "logins_per_address": 5, "registrations_per_address": 2}
    async with client_of(services_on(database, passwords, **limits)) as client:
        for number, status in enumerate((201, 201, 429)):
            body = ALICE | {"email": f"{number}@school.example"}
            assert (await client.post("/v1/auth/register", json=body)).status_code == status
        for status in (200, 200, 429):
            body = ALICE | {"email": "0@school.example"}
            assert (await client.post("/v1/auth/login", json=body)).status_code == status
        for status in (200, 200, 429):
            reply = await client.post("/v1/auth/login", json=ALICE | {"email": "1@school.example"})
            assert reply.status_code == status
        problem_of(reply, 429)
        assert int(reply.headers["retry-after"]) >= 1
    passwords.close()


async def test_limits_hold_for_requests_of_an_address_and_of_a_user(database: Database) -> None:
    passwords = Passwords(time_cost=1, memory=8)
    token = mint_connection(SECRET, "elsewhere", ttl=60, audience="chat", issuer="school")
    headers = {"Authorization": f"Bearer {token}"}
    async with client_of(services_on(database, passwords, requests_per_user=2, requests_per_address=4)) as client:
        assert [(await client.get("/v1/me", headers=headers)).status_code for _ in range(3)] == [404, 404, 429]
        assert [(await client.get("/v1/me")).status_code for _ in range(2)] == [401, 429]
        assert (await client.get("/health/live")).status_code == 200, "health is never limited"
    passwords.close()
