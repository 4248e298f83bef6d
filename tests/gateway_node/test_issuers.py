"""Tokens of another issuer: which of them open, and whose account they open."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from config.tokens import Issuer as Settings
from gateway_node.authoriser import ChannelAuthoriser
from gateway_node.issuers import Issuers
from gateway_node.tokens import TokenVerifier, mint_connection
from realtime import codes
from realtime.interfaces import Identity
from realtime.namespaces import Namespaces
from storage.database import Database
from storage.identities import IdentityStore, Name
from storage.keys import KeyStore
from storage.sessions import SessionStore
from storage.standing import StandingStore
from storage.users import NO_PASSWORD, UserStore
from tests.issuer import NAME, Issuer

pytestmark = pytest.mark.integration

SECRET = "a secret of more than thirty-two bytes"
JANE = {"email": "Jane@campus.example", "email_verified": True, "name": "Jane"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        running.add("unpublished", publish=False)
        running.add("rsa", "RS256")
        yield running


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=4)
    yield database
    await database.close()


class World:
    """A node's authoriser, with this issuer in its settings."""

    def __init__(self, database: Database, issuer: Issuer, **settings: Any) -> None:
        self.users = UserStore(database)
        self.ended: list[tuple[str, str]] = []
        self.issuers = Issuers(
            {"campus": Settings(**issuer.settings(**settings))},
            IdentityStore(database),
            ended=lambda user, session: self.ended.append((user, session)),
        )
        self.authoriser = ChannelAuthoriser(
            Namespaces(), TokenVerifier(SECRET), StandingStore(database), issuers=self.issuers
        )

    async def enter(self, token: str) -> Identity:
        return await self.authoriser.connect(token)

    async def refusal(self, token: str) -> int:
        try:
            identity = await self.enter(token)
        except codes.CommandError as error:
            return error.code
        except codes.DisconnectError as error:
            return error.disconnect.code
        raise AssertionError(f"it opened as {identity}")

    async def role_of(self, identity: Identity) -> str:
        user = await self.users.by_id(UUID(identity.user))
        assert user is not None
        return user.role


@pytest.fixture
async def worlds(database: Database, issuer: Issuer) -> AsyncIterator[Any]:
    made: list[World] = []

    def make(**settings: Any) -> World:
        made.append(World(database, issuer, **settings))
        return made[-1]

    yield make
    for each in made:
        await each.issuers.stop()


async def test_somebody_has_an_account_from_their_first_token_on(worlds: Any, issuer: Issuer) -> None:
    world = worlds()
    identity = await world.enter(issuer.token("jane", exp=2_000_000_000, **JANE, channels=["user:1"], sid="x"))
    assert UUID(identity.user) == Name(NAME, "jane").user_id
    assert identity == Identity(identity.user, b'{"name":"Jane"}', 2_000_000_000, role="student"), "and no channels"
    user = await world.users.by_id(UUID(identity.user))
    assert (user.email, user.name, user.role, user.password_hash) == (
        "jane@campus.example", "Jane", "student", NO_PASSWORD
    )  # fmt: skip
    assert user.email_verified_at is not None
    again = await world.enter(issuer.token("jane", by="rsa", exp=2_000_000_000))
    assert again == identity
    other = await world.enter(issuer.token("john"))
    assert other.user != identity.user


async def test_two_nodes_that_meet_somebody_at_once_make_one_account(worlds: Any, issuer: Issuer) -> None:
    both = worlds(), worlds()
    met = await asyncio.gather(*(world.enter(issuer.token("jane", **JANE)) for world in both for _ in range(10)))
    assert len({each.user for each in met}) == 1
    assert len(await both[0].users.list()) == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://another.example"},
        {"iss": None},
        {"aud": "another program"},
        {"aud": ["another", "and another"]},
        {"aud": None},
        {"exp": None},
        {"exp": "soon"},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "x" * 256},
        {"sub": "a\nb"},
        {"by": "unpublished"},
        {"by": "unpublished", "named": "first"},
        {"by": "first", "named": "rsa"},
    ],
    ids=str,
)
async def test_tokens_that_are_none_for_this_server(worlds: Any, issuer: Issuer, claims: dict[str, Any]) -> None:
    world = worlds()
    assert await world.refusal(issuer.token("jane", **claims)) == codes.INVALID_TOKEN.code
    assert await world.users.list() == []


async def test_tokens_out_of_their_time(worlds: Any, issuer: Issuer) -> None:
    world = worlds()
    assert await world.refusal(issuer.token("jane", ttl=-1)) == codes.TOKEN_EXPIRED.code
    assert await world.refusal(issuer.token("jane", nbf=4_000_000_000)) == codes.TOKEN_EXPIRED.code


async def test_an_algorithm_that_is_not_the_issuers(worlds: Any, issuer: Issuer) -> None:
    world = worlds(algorithms=["RS256"])
    assert await world.refusal(issuer.token("jane")) == codes.INVALID_TOKEN.code
    assert await world.enter(issuer.token("jane", by="rsa"))


async def test_a_public_key_is_no_secret_and_none_is_no_algorithm(worlds: Any, issuer: Issuer) -> None:
    world = worlds()
    good = issuer.token("jane")
    _, private = issuer._private["first"]
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(good, options={"verify_signature": False})
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"first"}').rstrip(b"=").decode()
    forged = jwt.PyJWS().encode(json.dumps(claims).encode(), "x" * 40, "HS256", headers={"kid": "first"})
    by_secret = jwt.encode(claims, SECRET, "HS256", {"kid": "first"})
    unsigned = jwt.encode(claims, None, "none", {"kid": "first"})  # type: ignore[arg-type]
    payload = good.split(".")[1]
    mac = base64.urlsafe_b64encode(hmac.digest(pem, f"{head}.{payload}".encode(), "sha256")).rstrip(b"=")
    for token in (forged, by_secret, unsigned, f"{head}.{payload}.{mac.decode()}", good[:-8] + "AAAAAAAA"):
        assert await world.refusal(token) == codes.INVALID_TOKEN.code
    assert await world.refusal(f"{good}.x") == codes.INVALID_TOKEN.code


async def test_the_servers_own_tokens_are_held_against_its_own_keys(worlds: Any, issuer: Issuer) -> None:
    world = worlds()
    identity = await world.enter(mint_connection(SECRET, "anybody", ttl=60))
    assert identity.user == "anybody"
    for nonsense in ("x", "a.b.c", "..", "." * 9000, "a." + "=" * 9 + ".c"):
        assert await world.refusal(nonsense) == codes.INVALID_TOKEN.code


async def test_while_the_issuer_is_away_nobody_is_called_a_liar(database: Database) -> None:
    with Issuer() as issuer:
        token = issuer.token("jane")
        world = World(database, issuer)
    assert await world.refusal(token) == codes.INTERNAL.code
    await world.issuers.stop()


async def test_without_the_database_it_is_to_try_again(issuer: Issuer) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none", connect_timeout=0.5)
    world = World(nowhere, issuer)
    assert await world.refusal(issuer.token("jane")) == codes.INTERNAL.code
    await world.issuers.stop()
    await nowhere.close()


async def test_whoever_is_disabled_stays_out(worlds: Any, issuer: Issuer) -> None:
    world = worlds()
    identity = await world.enter(issuer.token("jane"))
    await world.users.disable(UUID(identity.user))
    assert await world.refusal(issuer.token("jane")) == codes.FORBIDDEN.code


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"email": "jane@campus.example"},
        {"email": "jane@campus.example", "email_verified": False},
        {"email": "jane@campus.example", "email_verified": "true"},
        {"email": "no address", "email_verified": True},
        {"email": ["jane@campus.example"], "email_verified": True},
        {"email": f"{'x' * 250}@campus.example", "email_verified": True},
    ],
    ids=str,
)
async def test_an_address_that_is_not_verified_is_none(worlds: Any, issuer: Issuer, claims: dict[str, Any]) -> None:
    world = worlds(link_by_email=True)
    owner = await world.users.create("jane@campus.example", "hash")
    identity = await world.enter(issuer.token("jane", **claims))
    assert identity.user != str(owner.id)
    user = await world.users.by_id(UUID(identity.user))
    assert (user.email, user.email_verified_at) == (f"{user.id}@nowhere.invalid", None)


async def test_an_account_with_the_address_is_somebody_elses_unless_the_setting_says_otherwise(
    worlds: Any, issuer: Issuer
) -> None:
    world = worlds()
    owner = await world.users.create("jane@campus.example", "hash", verified=True)
    identity = await world.enter(issuer.token("jane", **JANE))
    assert identity.user == str(Name(NAME, "jane").user_id) != str(owner.id)
    assert await world.users.by_id(owner.id) == owner


async def test_an_account_is_linked_by_its_address(worlds: Any, issuer: Issuer, database: Database) -> None:
    world = worlds(link_by_email=True, role_claim="role")
    owner = await world.users.create("jane@campus.example", "hash", name="Jane herself", role="teacher", verified=True)
    identity = await world.enter(issuer.token("jane", **JANE))
    assert (identity.user, identity.info) == (str(owner.id), b'{"name":"Jane herself"}')
    assert await world.users.by_id(owner.id) == owner, "they have shown that it is theirs: nothing of it changes"
    assert world.ended == []
    (act,) = await database.fetch("select act, subject_id, data from audit where act <> 'user.added'")
    assert (act["act"], act["subject_id"]) == ("identity.linked", owner.id)
    assert json.loads(act["data"]) == {"issuer": NAME, "subject": "jane"}
    later = await world.enter(issuer.token("jane", role="student"))
    assert (later.user, await world.role_of(later)) == (str(owner.id), "teacher"), "the account was not made for it"


async def test_what_a_stranger_has_prepared_in_an_account_ends_when_its_owner_comes(
    worlds: Any, issuer: Issuer, database: Database
) -> None:
    """Somebody has registered with Jane's address, which nobody has verified, and waits for her."""
    world, sessions, keys = worlds(link_by_email=True), SessionStore(database), KeyStore(database)
    owner = await world.users.create("jane@campus.example", "the hash of the stranger's password")
    session, _ = await sessions.open(owner.id, user_agent="", ttl=600)
    assert await keys.add(owner.id, "cw_1", name="", prefix="", scopes=["read"], expires_at=None)
    identity = await world.enter(issuer.token("jane", **JANE))
    assert identity.user == str(owner.id)
    user = await world.users.by_id(owner.id)
    assert (user.password_hash, user.email_verified_at is not None) == (NO_PASSWORD, True)
    assert await sessions.is_revoked(session.id)
    assert await keys.use("cw_1") is None
    assert world.ended == [(str(owner.id), str(session.id))]


@pytest.mark.parametrize(("role", "linked"), [("student", True), ("teacher", True), ("admin", False)])
async def test_an_issuer_enters_no_account_whose_role_it_may_not_give(
    worlds: Any, issuer: Issuer, role: str, linked: bool
) -> None:
    world = worlds(link_by_email=True, role_claim="role")
    owner = await world.users.create("jane@campus.example", "hash", role=role, verified=True)
    identity = await world.enter(issuer.token("jane", **JANE))
    assert (identity.user == str(owner.id)) == linked
    if not linked:
        assert await world.role_of(identity) == "student"


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({}, "student"),
        ({"role": "teacher"}, "teacher"),
        ({"role": ["student", "teacher", "assistant"]}, "teacher"),
        ({"role": "admin"}, "student"),
        ({"role": ["admin", "assistant"]}, "assistant"),
        ({"role": "headmaster"}, "student"),
        ({"role": {"teacher": True}}, "student"),
        ({"role": [["teacher"], 5, None]}, "student"),
    ],
    ids=str,
)
async def test_the_role_is_what_the_claim_means(worlds: Any, issuer: Issuer, claims: Any, role: str) -> None:
    world = worlds(role_claim="role")
    identity = await world.enter(issuer.token("jane", **claims))
    assert (identity.role, await world.role_of(identity)) == (role, role)


async def test_without_a_claim_in_the_settings_no_token_gives_a_role(worlds: Any, issuer: Issuer) -> None:
    world = worlds()
    assert (await world.enter(issuer.token("jane", role="teacher"))).role == "student"


async def test_values_and_places_of_an_issuers_own(worlds: Any, issuer: Issuer) -> None:
    world = worlds(role_claim="realm_access.roles", roles={"faculty": "teacher", "root": "admin"})
    assert (await world.enter(issuer.token("a", realm_access={"roles": ["faculty"]}))).role == "teacher"
    assert (await world.enter(issuer.token("b", realm_access={"roles": ["root"]}))).role == "admin"
    assert (await world.enter(issuer.token("c", realm_access=["roles"]))).role == "student"
    world = worlds(role_claim="https://campus.example/role")
    assert (await world.enter(issuer.token("d", **{"https://campus.example/role": "teacher"}))).role == "teacher"


async def test_a_role_changes_when_the_issuer_says_another_and_stays_what_an_admin_made_it_till_then(
    worlds: Any, issuer: Issuer, database: Database
) -> None:
    world = worlds(role_claim="role")
    identity = await world.enter(issuer.token("jane", role="teacher"))
    await database.execute("update users set role = 'assistant'")
    assert (await world.enter(issuer.token("jane", role="teacher"))).role == "assistant"
    assert (await world.enter(issuer.token("jane"))).role == "student", "it is gone there"
    (act,) = await database.fetch("select actor_id, act, subject_id, data from audit")
    assert (act["actor_id"], act["act"], str(act["subject_id"])) == (None, "role.set", identity.user)
    assert json.loads(act["data"]) == {"from": "assistant", "to": "student", "issuer": NAME}


async def test_names_are_made_fit_to_be_shown(worlds: Any, issuer: Issuer) -> None:
    world = worlds()
    for claim, name in (("  A\nB\u2028 ", b"AB"), ("x" * 300, b"x" * 100), (5, None), ("\0", None)):
        identity = await world.enter(issuer.token(str(uuid4()), name=claim))
        assert identity.info == (b'{"name":"%s"}' % name if name else b"")
