"""What a node has to tell Redis: the commands, played on dictionaries, end with the truth."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw

from presence import entry, keys
from presence.changes import Changes
from presence.link import Command
from realtime.protocol import ClientInfo

NODE = "n"
CHANNELS = st.sampled_from(["room:1", "room:2", "news"])
USERS = st.sampled_from(["ann", "bob", "cy"])


class FakeRedis:
    """The few commands that are used, on hashes and sets."""

    def __init__(self) -> None:
        self.hashes: dict[str, dict[str, Any]] = {}
        self.sets: dict[str, set[Any]] = {}
        self.online: set[str] = set()

    def run(self, commands: list[Command]) -> None:
        for name, *arguments in commands:
            getattr(self, str(name).lower())(*arguments)

    def hset(self, key: str, *pairs: Any) -> None:
        self.hashes.setdefault(key, {}).update(zip(pairs[::2], pairs[1::2], strict=True))

    def hdel(self, key: str, *fields: Any) -> None:
        for field in fields:
            self.hashes.get(key, {}).pop(field, None)
        if not self.hashes.get(key):
            self.hashes.pop(key, None)

    def sadd(self, key: str, *members: Any) -> None:
        self.sets.setdefault(key, set()).update(members)

    def srem(self, key: str, *members: Any) -> None:
        self.sets.get(key, set()).difference_update(members)

    def expire(self, key: str, seconds: int) -> None:
        assert seconds > 0

    def evalsha(self, sha: str, count: int, mark: str, nodes: str, node: str, ttl: int, notice: str) -> None:
        user = mark.removeprefix("user:online:")
        if notice == "online:" + user:
            self.online.add(user)
        else:
            assert notice == "offline:" + user
            self.online.discard(user)


class Changing(RuleBasedStateMachine):
    """People come and go; batches of any size are written in between."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = Changes(NODE, 300)
        self.changes.start_over({}, {})
        self.redis = FakeRedis()
        self.present: dict[str, dict[str, ClientInfo]] = {}
        self.connections: list[tuple[str, str]] = []
        self.count = 0

    @rule(user=USERS)
    def connect(self, user: str) -> None:
        self.count += 1
        self.connections.append((user, f"{NODE}.{self.count:x}"))
        self.changes.connected(user)

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), channel=CHANNELS)
    def join_or_leave(self, data: st.DataObject, channel: str) -> None:
        user, client = data.draw(st.sampled_from(self.connections))
        members = self.present.setdefault(channel, {})
        if client in members:
            del members[client]
            self.changes.leave(channel, client)
        else:
            members[client] = ClientInfo(user, client)
            self.changes.join(channel, members[client])

    @precondition(lambda self: self.connections)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        user, client = data.draw(st.sampled_from(self.connections))
        self.connections.remove((user, client))
        for channel, members in self.present.items():
            if members.pop(client, None):
                self.changes.leave(channel, client)
        self.changes.disconnected(user)

    @rule(limit=st.integers(1, 5))
    def write(self, limit: int) -> None:
        self.redis.run(self.changes.take(limit, now=1))

    @invariant()
    def a_reaper_would_find_everything(self) -> None:
        listed = self.redis.sets.get(keys.node_channels(NODE), set())
        assert {key.removeprefix("presence:channel:") for key in self.redis.hashes} <= listed
        assert self.redis.online <= self.redis.sets.get(keys.node_users(NODE), set())

    def teardown(self) -> None:
        while self.changes:
            self.redis.run(self.changes.take(3, now=1))
        wanted = {keys.members(channel): set(members) for channel, members in self.present.items() if members}
        assert {key: set(fields) for key, fields in self.redis.hashes.items()} == wanted
        assert self.redis.online == {user for user, _ in self.connections}
        assert self.redis.sets.get(keys.node_channels(NODE), set()) == {c for c, m in self.present.items() if m}
        assert self.redis.sets.get(keys.node_users(NODE), set()) == self.redis.online


TestChanging = Changing.TestCase
TestChanging.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_nothing_is_remembered_while_redis_is_away() -> None:
    changes = Changes(NODE, 300)
    for number in range(1000):
        changes.connected(f"user {number}")
        changes.join("room:1", ClientInfo("ann", f"n.{number}"))
        changes.leave("room:1", f"n.{number}")
        changes.disconnected(f"user {number}")
    assert not changes
    assert not changes.channels
    assert not changes.users


def test_leaving_what_was_never_joined_is_harmless() -> None:
    changes = Changes(NODE, 300)
    changes.start_over({}, {})
    changes.leave("room:1", "n.1")
    changes.disconnected("ann")
    FakeRedis().run(changes.take(10, now=1))
    assert not changes.channels
    assert not changes.users


def test_an_entry_is_small_and_comes_back() -> None:
    plain = ClientInfo("ann", "n.1")
    assert entry.encode(plain, 1_795_462_200) == b'["ann",1795462200]'
    assert entry.decode(b"n.1", entry.encode(plain, 1)) == plain
    full = ClientInfo("ann", "n.1", Raw(b'{"a":[1]}'), Raw(b"2"))
    assert entry.encode(full, 1) == b'["ann",1,{"a":[1]},2]'
    half = entry.decode(b"n.1", entry.encode(ClientInfo("ann", "n.1", chan_info=Raw(b'"x"')), 1))
    assert half is not None
    assert (bytes(half.conn_info), bytes(half.chan_info)) == (b"", b'"x"')


def test_what_is_not_an_entry_is_nobody() -> None:
    for value in (b"", b"{}", b"[]", b'["ann"]', b"[1,2]", b"\xff", b'["ann",1'):
        assert entry.decode(b"n.1", value) is None
    assert entry.decode(b"\xff", b'["ann",1]') is None
