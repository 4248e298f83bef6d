"""Who may connect and who may do what, rule by rule."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence

import pytest

from gateway_node.authoriser import ChannelAuthoriser
from gateway_node.tokens import TokenVerifier, mint_connection, mint_subscription
from realtime import codes
from realtime.interfaces import Grant, Identity
from realtime.namespaces import ChannelOptions, Namespaces
from storage.standing import Entrance, Membership

SECRET = "a secret of more than thirty-two bytes"
ROOM = "7d7f2c0a-6a56-4b7c-9d2b-0a4f2b8f1e11"
ALICE = Identity(user="alice")
NOBODY = Identity(user="")
DENIED, UNKNOWN, BAD, BROKEN = 103, 102, 107, 100


class Standing:
    """The store, whose answers and failures a test chooses."""

    def __init__(self) -> None:
        self.rooms: set[tuple[str, str]] = {(ROOM, "alice")}
        self.barred: set[str] = set()
        self.failure: Exception | None = None
        self.rooms_asked: list[int] = []

    async def entrance(self, user: str, session: str, rooms: int = 0) -> Entrance:
        await self._trouble()
        self.rooms_asked.append(rooms)
        found = [uuid.UUID(room) for room, member in self.rooms if member == user][:rooms]
        return Entrance(not {user, session} & self.barred, 7 if rooms else None, found)

    async def memberships(self, user: str, room_ids: Sequence[uuid.UUID]) -> list[Membership | None]:
        await self._trouble()
        member = Membership(3, ("alice", "bob"))
        return [member if (str(room_id), user) in self.rooms else None for room_id in room_ids]

    async def _trouble(self) -> None:
        if self.failure:
            raise self.failure


class World:
    def __init__(self, *, allow_anonymous: bool = False, **namespaces: ChannelOptions) -> None:
        self.standing = Standing()
        self.authoriser = ChannelAuthoriser(
            Namespaces(namespaces, namespaces.pop("without_namespace", ChannelOptions())),
            TokenVerifier(SECRET),
            self.standing,
            allow_anonymous=allow_anonymous,
        )

    async def subscribe(self, channel: str, identity: Identity = ALICE, token: str = "") -> int:
        """0 when granted, else the code."""
        try:
            await self.authoriser.subscribe(identity, channel, token)
        except codes.CommandError as error:
            return error.code
        except codes.DisconnectError as error:
            return error.disconnect.code
        return 0

    async def connect(self, token: str) -> Identity | int:
        try:
            return await self.authoriser.connect(token)
        except codes.CommandError as error:
            return error.code
        except codes.DisconnectError as error:
            return error.disconnect.code


def token(user: str = "alice", **claims: object) -> str:
    return mint_connection(SECRET, user, ttl=60, **claims)  # type: ignore[arg-type]


async def test_a_token_makes_an_identity() -> None:
    identity = await World().connect(token(session="s1", role="teacher", info=b"{}"))
    assert isinstance(identity, Identity)
    assert (identity.user, identity.session, identity.role, identity.info) == ("alice", "s1", "teacher", b"{}")


async def test_without_a_token_only_where_anonymous_connections_are_allowed() -> None:
    assert await World().connect("") == codes.MALFORMED.code
    assert await World(allow_anonymous=True).connect("") == Identity(user="")


async def test_a_token_for_nobody_needs_the_same_permission() -> None:
    assert await World().connect(token("")) == codes.FORBIDDEN.code
    identity = await World(allow_anonymous=True).connect(token(""))
    assert isinstance(identity, Identity)


async def test_a_bad_token_is_no_anonymous_connection() -> None:
    assert await World(allow_anonymous=True).connect("x.y.z") == codes.INVALID_TOKEN.code
    expired = mint_connection(SECRET, "alice", ttl=1, now=1_000_000)
    assert await World(allow_anonymous=True).connect(expired) == codes.TOKEN_EXPIRED.code


async def test_disabled_users_and_revoked_sessions_stay_out() -> None:
    world = World()
    world.standing.barred = {"mallory", "s2"}
    assert await world.connect(token("mallory")) == codes.FORBIDDEN.code
    assert await world.connect(token(session="s2")) == codes.FORBIDDEN.code
    assert isinstance(await world.connect(token(session="s1")), Identity)


@pytest.mark.parametrize("failure", [OSError("refused"), TimeoutError(), RuntimeError("anything")], ids=repr)
async def test_a_store_that_fails_lets_nobody_in(failure: Exception) -> None:
    world = World()
    world.standing.failure = failure
    assert await world.connect(token()) == BROKEN
    assert await world.subscribe(f"room:{ROOM}") == BROKEN


async def test_the_stores_failure_is_temporary() -> None:
    world = World()
    world.standing.failure = OSError()
    with pytest.raises(codes.CommandError) as caught:
        await world.authoriser.subscribe(ALICE, f"room:{ROOM}", "")
    assert caught.value.temporary


async def test_rooms_are_for_members() -> None:
    world = World()
    channel = f"room:{ROOM}"
    assert await world.subscribe(channel) == 0
    assert await world.subscribe(channel, Identity(user="bob")) == DENIED
    assert await world.subscribe(channel, NOBODY) == DENIED
    assert await world.subscribe(f"room:{uuid.uuid4()}") == DENIED


async def test_a_room_gives_no_right_to_a_class_of_its_id() -> None:
    """Who is removed from the room would stay in there: the removal is told in the room's log alone."""
    assert await World().subscribe(f"class:{ROOM}") == DENIED


async def test_no_token_replaces_membership() -> None:
    world = World()
    bob = Identity(user="bob")
    given = mint_subscription(SECRET, "bob", f"room:{ROOM}", ttl=60)
    assert await world.subscribe(f"room:{ROOM}", bob, given) == DENIED
    assert await world.subscribe("user:alice", bob, mint_subscription(SECRET, "bob", "user:alice", ttl=60)) == DENIED


async def test_a_members_token_still_gives_info_and_expiry() -> None:
    given = mint_subscription(SECRET, "alice", f"room:{ROOM}", ttl=60, info=b'{"a":1}')
    grant = await World().authoriser.subscribe(ALICE, f"room:{ROOM}", given)
    assert grant.info == b'{"a":1}'
    assert grant.expires_at


@pytest.mark.parametrize(
    "rest", ["", "x", ROOM.upper(), ROOM.replace("-", ""), "{" + ROOM + "}", ROOM + " ", "../" + ROOM]
)
async def test_a_room_has_one_name_only(rest: str) -> None:
    assert await World().subscribe(f"room:{rest}") == UNKNOWN


async def test_the_personal_channel_is_the_users_own() -> None:
    world = World()
    assert await world.subscribe("user:alice") == 0
    assert await world.subscribe("user:bob") == DENIED
    assert await world.subscribe("user:", NOBODY) == UNKNOWN
    assert await world.subscribe("user:alice", NOBODY) == DENIED


async def test_unknown_namespaces_are_unknown() -> None:
    world = World(chat=ChannelOptions(allow_subscribe_for_client=True))
    assert await world.subscribe("chat:x") == 0
    for channel in ("other:x", "chat:", ":x", "$other:x", "$room:" + ROOM, "$user:alice"):
        assert await world.subscribe(channel) == UNKNOWN, channel


@pytest.mark.parametrize("channel", ["chat:é", "chat:\n", "chat:\0", "chat:\x7f", "chat:" + "x" * 251])
async def test_what_is_no_channel_name_is_a_bad_request(channel: str) -> None:
    assert await World(chat=ChannelOptions(allow_subscribe_for_client=True)).subscribe(channel) == BAD


async def test_the_longest_name_is_taken() -> None:
    world = World(chat=ChannelOptions(allow_subscribe_for_client=True))
    assert await world.subscribe("chat:" + "x" * 250) == 0


@pytest.mark.parametrize("channel", ["news", "chat:x"])
async def test_subscribing_needs_the_flag_for_whom_it_is(channel: str) -> None:
    def world(options: ChannelOptions) -> World:
        return World(allow_anonymous=True, chat=options, without_namespace=options)

    closed = world(ChannelOptions())
    assert await closed.subscribe(channel) == DENIED
    clients = world(ChannelOptions(allow_subscribe_for_client=True))
    assert await clients.subscribe(channel) == 0
    assert await clients.subscribe(channel, NOBODY) == DENIED
    everybody = world(ChannelOptions(allow_subscribe_for_client=True, allow_subscribe_for_anonymous=True))
    assert await everybody.subscribe(channel, NOBODY) == 0
    only_anonymous = world(ChannelOptions(allow_subscribe_for_anonymous=True))
    assert await only_anonymous.subscribe(channel, NOBODY) == DENIED


async def test_a_token_opens_a_closed_channel() -> None:
    world = World(chat=ChannelOptions())
    given = mint_subscription(SECRET, "alice", "chat:x", ttl=60, info=b"{}")
    assert await world.authoriser.subscribe(ALICE, "chat:x", given) == Grant(
        info=b"{}", expires_at=TokenVerifier(SECRET).subscription(given, ALICE, "chat:x").expires_at
    )
    assert await world.subscribe("chat:y", ALICE, given) == codes.INVALID_TOKEN.code
    assert await world.subscribe("chat:x", Identity(user="bob"), given) == codes.INVALID_TOKEN.code


async def test_a_bad_token_does_not_fall_back_to_the_flags() -> None:
    world = World(chat=ChannelOptions(allow_subscribe_for_client=True))
    assert await world.subscribe("chat:x", ALICE, "x.y.z") == DENIED


@pytest.mark.parametrize("channel", ["$news", "$chat:x"])
async def test_private_channels_open_with_a_token_alone(channel: str) -> None:
    options = ChannelOptions(allow_subscribe_for_client=True)
    world = World(chat=options, without_namespace=options)
    assert await world.subscribe(channel) == DENIED
    assert await world.subscribe(channel, ALICE, mint_subscription(SECRET, "alice", channel, ttl=60)) == 0


async def test_user_limited_channels_are_for_the_listed_users() -> None:
    options = ChannelOptions(allow_user_limited_channels=True, allow_subscribe_for_client=True)
    world = World(dialog=options)
    bob = Identity(user="bob")
    assert await world.subscribe("dialog:x#alice,bob", bob) == 0
    assert await world.subscribe("dialog:x#alice,bobby", bob) == DENIED
    assert await world.subscribe("dialog:#bob#alice", bob) == DENIED
    assert await world.subscribe("dialog:x#", NOBODY) == DENIED
    assert await world.subscribe("dialog:x#alice,", NOBODY) == DENIED
    assert await world.subscribe("dialog:plain", bob) == 0


async def test_a_hash_means_nothing_where_user_limits_are_off() -> None:
    world = World(chat=ChannelOptions(allow_subscribe_for_client=True))
    assert await world.subscribe("chat:x#alice", Identity(user="bob")) == 0


@pytest.mark.parametrize("right", ["publish", "presence", "history"])
async def test_rights_follow_the_flags(right: str) -> None:
    """Every combination of flags, user and subscription against the rule in one line."""
    for client, subscriber, anonymous in itertools.product([False, True], repeat=3):
        flags = {
            f"allow_{right}_for_client": client,
            f"allow_{right}_for_subscriber": subscriber,
            f"allow_{right}_for_anonymous": anonymous,
        }
        authoriser = World(chat=ChannelOptions(**flags)).authoriser  # type: ignore[arg-type]
        ask = {
            "publish": authoriser.may_publish,
            "presence": authoriser.may_see_presence,
            "history": authoriser.may_read_history,
        }[right]
        for identity, subscribed in itertools.product([ALICE, NOBODY], [False, True]):
            expected = (client or (subscriber and subscribed)) and (identity is ALICE or anonymous)
            assert await ask(identity, "chat:x", subscribed) is expected, (flags, identity, subscribed)


async def test_rooms_give_their_rights_to_subscribers() -> None:
    authoriser = World().authoriser
    for ask in (authoriser.may_publish, authoriser.may_see_presence, authoriser.may_read_history):
        assert await ask(ALICE, f"room:{ROOM}", True)
        assert not await ask(ALICE, f"room:{ROOM}", False)
    assert not await authoriser.may_publish(ALICE, "user:alice", True)


async def test_channels_of_the_token_are_given_where_the_user_may_be() -> None:
    """Of rooms, membership decides when the connection joins them."""
    world = World(chat=ChannelOptions())
    other = f"room:{uuid.uuid4()}"
    listed = ["chat:x", f"room:{ROOM}", other, f"class:{uuid.uuid4()}", "user:bob"]
    identity = await world.connect(token(channels=listed))
    assert isinstance(identity, Identity)
    assert identity.channels == ("chat:x", f"room:{ROOM}", other)
    assert await world.subscribe(other) == DENIED


async def test_a_connection_that_stays_gets_its_rooms() -> None:
    admission = await World().authoriser.admit(token(), 9)
    assert (admission.identity.user, admission.rooms, admission.heard) == ("alice", [f"room:{ROOM}"], 7)


async def test_a_request_does_not_ask_for_rooms() -> None:
    world = World()
    await world.connect(token())
    assert world.standing.rooms_asked == [0]


async def test_a_room_tells_its_pair_and_since_when() -> None:
    grant = await World().authoriser.subscribe(ALICE, f"room:{ROOM}", "")
    assert (grant.pair, grant.since) == (("alice", "bob"), 3)


async def test_an_unknown_channel_in_the_token_is_told() -> None:
    assert await World().connect(token(channels=["nowhere:x"])) == UNKNOWN
