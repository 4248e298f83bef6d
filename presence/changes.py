"""What this node has to tell Redis: joins, leaves, arrivals and departures, coalesced until they are written."""

from __future__ import annotations

from itertools import islice

from presence import entry, keys
from presence.link import Command, offline, online
from realtime.protocol import ClientInfo


class Changes:
    """Counts always; remembers changes only while `recording`. Nothing here waits or knows of a connection.

    While Redis is away nothing is remembered, so an outage costs no memory: afterwards the roster is compared with what
    Redis has. `touched` then says what changed meanwhile and is not the comparison's to decide.
    """

    def __init__(self, node: str, ttl: int) -> None:
        self._node = node
        self._ttl = ttl
        self.channels: dict[str, int] = {}  # connections of this node in each
        self.users: dict[str, int] = {}  # connections of each on this node
        self.recording = False
        self.touched_members: set[tuple[str, str]] | None = None
        self.touched_users: set[str] | None = None
        self._members: dict[str, dict[str, ClientInfo | None]] = {}  # channel -> client -> there, or not any more
        self._users: dict[str, bool] = {}
        self._entered: set[str] = set()  # channels that this node came to
        self._emptied: set[str] = set()  # channels that it may have left

    def __bool__(self) -> bool:
        return bool(self._members or self._users)

    def is_settled(self, channel: str) -> bool:
        """Whether Redis has connections of ours in the channel, and all of them."""
        return channel in self.channels and channel not in self._members

    def is_user_settled(self, user: str) -> bool:
        return user in self.users and user not in self._users

    def join(self, channel: str, info: ClientInfo) -> None:
        count = self.channels.get(channel, 0)
        self.channels[channel] = count + 1
        if count == 0 and self.recording:
            self._entered.add(channel)
        self._change_member(channel, info.client, info)

    def leave(self, channel: str, client: str) -> None:
        count = self.channels.get(channel, 0)
        if count > 1:
            self.channels[channel] = count - 1
        else:
            self.channels.pop(channel, None)
            if self.recording:
                self._emptied.add(channel)
        self._change_member(channel, client, None)

    def connected(self, user: str) -> None:
        count = self.users.get(user, 0)
        self.users[user] = count + 1
        if count == 0:
            self._change_user(user, there=True)

    def disconnected(self, user: str) -> None:
        count = self.users.get(user, 0)
        if count > 1:
            self.users[user] = count - 1
        elif count == 1:
            del self.users[user]
            self._change_user(user, there=False)

    def pause(self) -> None:
        """Redis is away: remember nothing until `start_over`."""
        self._forget(recording=False)

    def start_over(self, channels: dict[str, int], users: dict[str, int]) -> None:
        """The roster says what this node holds; Redis will be compared with it."""
        self._forget(recording=True)
        self.channels = channels
        self.users = users
        self.touched_members = set()
        self.touched_users = set()

    def _forget(self, *, recording: bool) -> None:
        self.recording = recording
        self._members.clear()
        self._users.clear()
        self._entered.clear()
        self._emptied.clear()
        self.compared()

    def compared(self) -> None:
        self.touched_members = None
        self.touched_users = None

    def take(self, limit: int, now: int) -> list[Command]:
        """The commands for the oldest changes, at most `limit` of them. `now` in Unix seconds.

        The node's sets name a channel before its hash has an entry of ours, and as long as it has one: whoever cleans
        up after us finds everything.
        """
        entered: list[str] = []
        emptied: list[str] = []
        commands: list[Command] = []
        size = 0
        for channel in list(islice(self._members, limit)):
            if size == limit:
                break
            changed = self._take_members(channel, limit - size)
            size += len(changed)
            key = keys.members(channel)
            here: list[str | bytes] = []
            gone: list[str] = []
            for client, info in changed.items():
                if info is None:
                    gone.append(client)
                else:
                    here += (client, entry.encode(info, now))
            if here:
                commands.append(("HSET", key, *here))
            if gone:
                commands.append(("HDEL", key, *gone))
            if channel in self._entered:
                self._entered.discard(channel)
                entered.append(channel)
                commands.append(("EXPIRE", key, self._ttl))
            if channel in self._emptied and channel not in self._members:
                self._emptied.discard(channel)
                if channel not in self.channels:
                    emptied.append(channel)
        arrived: list[str] = []
        departed: list[str] = []
        for user in list(islice(self._users, limit - size)):
            there = self._users.pop(user)
            (arrived if there else departed).append(user)
            commands.append(online(user, self._node, self._ttl) if there else offline(user, self._node, 0))
        self._shrink()
        before: list[Command] = []
        if entered:
            before.append(("SADD", keys.node_channels(self._node), *entered))
        if arrived:
            before.append(("SADD", keys.node_users(self._node), *arrived))
        if emptied:
            commands.append(("SREM", keys.node_channels(self._node), *emptied))
        if departed:
            commands.append(("SREM", keys.node_users(self._node), *departed))
        return before + commands

    def _shrink(self) -> None:
        """A dictionary keeps the size of the last storm: 22 bytes for each connection."""
        if not self._members:
            self._members = {}
        if not self._users:
            self._users = {}

    def _take_members(self, channel: str, limit: int) -> dict[str, ClientInfo | None]:
        changed = self._members[channel]
        if len(changed) <= limit:
            return self._members.pop(channel)
        part = dict(islice(changed.items(), limit))
        for client in part:
            del changed[client]
        return part

    def _change_member(self, channel: str, client: str, info: ClientInfo | None) -> None:
        if not self.recording:
            return
        if self.touched_members is not None:
            self.touched_members.add((channel, client))
        pending = self._members.get(channel)
        if pending is None:
            self._members[channel] = {client: info}
        else:
            pending[client] = info

    def _change_user(self, user: str, *, there: bool) -> None:
        if not self.recording:
            return
        if self.touched_users is not None:
            self.touched_users.add(user)
        self._users[user] = there
