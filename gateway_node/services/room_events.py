"""What is told of a change of a room: `system` lines in its log, and events in personal channels.

A line has a sentence in English for clients that know nothing of events. Tags are for the nodes, which act on them:
they subscribe whom `room_added` is for, and end the subscriptions of whom `member_removed` names.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from realtime import codec
from realtime.interfaces import Entry
from realtime.membership import MEMBER_REMOVED, ROOM_ADDED, ROOM_REMOVED
from realtime.namespaces import BUILT_IN
from storage.room_changes import RoomChange, personal_channel
from storage.rooms import FOR_EVER, Role

MEMBER_ADDED = "member_added"
MEMBER_ROLE = "member_role"
MEMBER_MUTED = "member_muted"
MEMBER_UNMUTED = "member_unmuted"
ROOM_UPDATED = "room_updated"
ROOM_ARCHIVED = "room_archived"
ROOM_RESTORED = "room_restored"

_ROLES: dict[Role, str] = {"owner": "an owner", "moderator": "a moderator", "member": "a member"}
_PERSONAL = BUILT_IN["user"]


class SystemLine(Struct, omit_defaults=True, kw_only=True):
    """A line of a room's log that nobody said; `timestamp` is added when it is read."""

    id: UUID
    from_user_id: str
    room_id: str
    content: str
    type: str
    event: str
    user_id: str = ""
    role: str = ""
    until: datetime | None = None
    title: str = ""
    open: bool | None = None


class PersonalEvent(Struct, kw_only=True):
    id: UUID
    from_user_id: str
    room_id: str
    type: str
    event: str


def member_added(change: RoomChange, user_id: UUID, name: str) -> Entry:
    joined = user_id == change.actor.id
    content = f"{_name(name)} joined" if joined else f"{_actor(change)} added {_name(name)}"
    return _line(change, MEMBER_ADDED, content, {"event": MEMBER_ADDED, "user": str(user_id)}, user_id=str(user_id))


def member_removed(change: RoomChange, user_id: UUID, name: str) -> Entry:
    left = user_id == change.actor.id
    content = f"{_name(name)} left" if left else f"{_actor(change)} removed {_name(name)}"
    return _line(change, MEMBER_REMOVED, content, {"event": MEMBER_REMOVED, "user": str(user_id)}, user_id=str(user_id))


def member_role(change: RoomChange, user_id: UUID, name: str, role: Role) -> Entry:
    content = f"{_actor(change)} made {_name(name)} {_ROLES[role]}"
    return _line(change, MEMBER_ROLE, content, user_id=str(user_id), role=role)


def member_muted(change: RoomChange, user_id: UUID, name: str, until: datetime) -> Entry:
    content = f"{_actor(change)} muted {_name(name)}"
    if until == FOR_EVER:
        return _line(change, MEMBER_MUTED, content, user_id=str(user_id))
    content += until.astimezone(UTC).strftime(" until %Y-%m-%d %H:%M UTC")
    return _line(change, MEMBER_MUTED, content, user_id=str(user_id), until=until)


def member_unmuted(change: RoomChange, user_id: UUID, name: str) -> Entry:
    return _line(change, MEMBER_UNMUTED, f"{_actor(change)} unmuted {_name(name)}", user_id=str(user_id))


def room_updated(change: RoomChange, title: str | None, open: bool | None) -> Entry:
    """What is `None` is as it was."""
    done = []
    if title is not None:
        done.append(f"named the group {title}")
    if open is not None:
        done.append("let everybody join" if open else "closed the group to joiners")
    return _line(change, ROOM_UPDATED, f"{_actor(change)} {' and '.join(done)}", title=title or "", open=open)


def room_archived(change: RoomChange, *, archived: bool) -> Entry:
    event, content = (ROOM_ARCHIVED, "archived the group") if archived else (ROOM_RESTORED, "restored the group")
    return _line(change, event, f"{_actor(change)} {content}")


def room_added(change: RoomChange, user_id: UUID) -> Entry:
    return _personal(change, user_id, ROOM_ADDED)


def room_removed(change: RoomChange, user_id: UUID, course_id: UUID | None = None) -> Entry:
    """`course_id`: of whose room it is, so that the threads of its forum are left as well."""
    return _personal(change, user_id, ROOM_REMOVED, {"course": str(course_id)} if course_id else {})


def _line(
    change: RoomChange,
    event: str,
    content: str,
    tags: dict[str, str] | None = None,
    *,
    user_id: str = "",
    role: str = "",
    until: datetime | None = None,
    title: str = "",
    open: bool | None = None,
) -> Entry:
    id, actor = uuid4(), str(change.actor.id)
    line = SystemLine(
        id=id,
        from_user_id=actor,
        room_id=str(change.room.id),
        content=content,
        type="system",
        event=event,
        user_id=user_id,
        role=role,
        until=until,
        title=title,
        open=open,
    )
    return Entry(
        change.room.channel,
        id.bytes,
        actor,
        msgspec.json.encode(line),
        "system",
        tags=codec.encode_info(tags) if tags else b"",
        counted=False,
    )


def _personal(change: RoomChange, user_id: UUID, event: str, tags: dict[str, str] | None = None) -> Entry:
    id, actor, room = uuid4(), str(change.actor.id), str(change.room.id)
    return Entry(
        personal_channel(user_id),
        id.bytes,
        actor,
        msgspec.json.encode(PersonalEvent(id=id, from_user_id=actor, room_id=room, type="event", event=event)),
        "event",
        tags=codec.encode_info({"event": event, "room": room, **(tags or {})}),
        history_size=_PERSONAL.history_size,
        history_ttl=_PERSONAL.history_ttl,
        counted=False,
    )


def _actor(change: RoomChange) -> str:
    return _name(change.actor.name)


def _name(name: str) -> str:
    return name or "Somebody"
