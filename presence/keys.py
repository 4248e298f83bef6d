"""The names in Redis. docs/presence.md says what each key holds and for how long.

Braces mark what Redis Cluster hashes: keys that one script touches carry the same text in them.
"""

from __future__ import annotations

import re

NODES = "{presence}:nodes"
NOTICES = "presence"  # the Redis channel of `online:<user>` and `offline:<user>`
ONLINE, OFFLINE = "online:", "offline:"

_SPECIAL = re.compile("[%{}]")


def reaper(node: str) -> str:
    """Who removes a dead node's entries now, or that it was done."""
    return "{presence}:reaper:" + node


def node_channels(node: str) -> str:
    return "{presence:" + node + "}:channels"


def node_users(node: str) -> str:
    return "{presence:" + node + "}:users"


def members(channel: str) -> str:
    return "presence:channel:" + channel


def online(user: str) -> tuple[str, str]:
    """The user's mark, and the nodes that the user is on. Braces in an id would tear the two apart in a cluster."""
    if _SPECIAL.search(user):
        user = _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", user)
    mark = "user:online:" + user
    return mark, "{" + mark + "}:nodes"


def cursors(user: str) -> str:
    """How far the user has read in each of their rooms."""
    return "cursors:" + user


def typing(room: str) -> str:
    """Who is typing in the room."""
    return "typing:" + room


def turn(name: str) -> str:
    """Somebody has had the turn of this name."""
    return "turn:" + name


def places(user: str) -> str:
    """Where the user is in the videos of lessons."""
    return "progress:" + user


def active_users(course: str) -> str:
    """Who is active in the course."""
    return "active_users:course_" + course


def active_in_lesson(course: str, lesson: str) -> str:
    """Who of them is in the lesson."""
    return f"active_users:course_{course}:lesson_{lesson}"


def active_where(course: str, user: str) -> str:
    """The lesson that the user is in, of that course."""
    return f"active_users:course_{course}:user_{user}"


def watchers(course: str) -> str:
    """Who wants to be told how many are active in the course."""
    return f"active_users:course_{course}:watchers"


def media_room(class_id: str) -> str:
    """The media server that a live class is on."""
    return "{media}:room:" + class_id


def media_rooms(server: str) -> str:
    """The classes on a media server."""
    return "{media}:rooms:" + server
