"""`serve --demo`: people, rooms, messages and a small school to look at, made over the server's own HTTP interface.

Every step can be repeated: accounts and messages by their idempotency keys, rooms by their titles. So a demo that was
cut off is completed at the next start, and a complete one stays as its visitors left it; but there is always a class
for now.
"""

from __future__ import annotations

import asyncio
import hmac
import io
from base64 import b32encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from msgspec import Struct

from gateway_node.processes import StartError
from storage.database import Database, DatabaseUnavailable
from storage.lms.school import SchoolStore

PEOPLE = {
    "ada": "Ada Okafor",
    "ben": "Ben Lindqvist",
    "chloe": "Chloe Martin",
    "dan": "Dan Rahimi",
    "emma": "Emma Sato",
}
DOMAIN = "demo.example"
TIMEOUT = 30.0  # seconds for one request; the first ones find a server that has just begun


class Line(Struct, frozen=True):
    """One message of the demo: `{ada}` in its text mentions her; `thread` is the number of the line it answers."""

    author: str
    text: str
    thread: int | None = None
    reactions: Mapping[str, tuple[str, ...]] = {}
    picture: bool = False
    pinned: bool = False


class Conversation(Struct, frozen=True):
    title: str
    members: tuple[str, ...]  # the first one opens it
    lines: tuple[Line, ...]
    open: bool = False


GROUPS = (
    Conversation(
        "Physics 8b",
        ("ada", "ben", "chloe", "dan", "emma"),
        (
            Line(
                "ada", "Good morning! Tomorrow we measure how fast a ball falls. Bring a phone that films.", pinned=True
            ),
            Line("ben", "Is slow motion enough, or do we need an app?"),
            Line(
                "ada",
                "Slow motion is enough. 240 pictures a second are plenty.",
                thread=1,
                reactions={"👍": ("ben", "dan")},
            ),
            Line(
                "chloe",
                "I made a plot of last week's pendulum",
                picture=True,
                reactions={"🎉": ("ada", "emma"), "👏": ("ben",)},
            ),
            Line("dan", "@Chloe Martin how did you get rid of the outliers? {chloe}", thread=3),
            Line(
                "chloe", "By doing it again until they were gone 😅", thread=4, reactions={"😂": ("ben", "dan", "emma")}
            ),
            Line("emma", "Who is on the bus at seven?"),
        ),
    ),
    Conversation(
        "Lunch club",
        ("ben", "dan", "emma"),
        (
            Line("ben", "Pizza or falafel on Thursday?"),
            Line("emma", "Falafel!", reactions={"👍": ("dan",)}),
        ),
    ),
    Conversation(
        "Library",
        ("emma",),
        (Line("emma", "Everybody may join here. What are you reading?"),),
        open=True,
    ),
)
DIRECTS = (
    Conversation(
        "",
        ("ada", "ben"),
        (
            Line("ada", "Ben, your lab report is very good. One question about page 2: where does the 9.6 come from?"),
            Line("ben", "I forgot the air. I will correct it tonight."),
            Line("ada", "No hurry, Monday is fine."),
        ),
    ),
    Conversation(
        "",
        ("chloe", "ada"),
        (
            Line("chloe", "May I hand in the essay one day later?"),
            Line("ada", "Yes. Until Friday at noon."),
        ),
    ),
)


TEACHER = "ada"
STUDENTS = ("ben", "chloe")
COURSE = {"title": "Falling bodies", "description": "From the leaning tower to the orbit.", "admission": "open"}
LESSON = {
    "title": "How fast does a ball fall?",
    "status": "published",
    "content": [{"type": "markdown", "text": "Whatever falls gets faster by **9.8 m/s** each second. Measure it!"}],
}
ASSIGNMENT = {"title": "Lab report", "description": "What you measured, and how well.", "status": "published"}
CLASS_LASTS = timedelta(hours=8)  # 12 are the most


def password_of(secret: str) -> str:
    """The demo's one password: nobody else's on another machine, and the same at each start on this one."""
    return b32encode(hmac.digest(secret.encode(), b"chalkwire demo", "sha256"))[:12].decode().lower()


def seed(url: str, secret: str, database_url: str) -> str:
    """Fill the server at `url`; returns what to tell people about the logins. Raises `StartError`.

    The role of a teacher is given in the database: no request can, as long as there is no admin.
    """
    password = password_of(secret)
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            people = {key: Person(client, key, password) for key in PEOPLE}
            for conversation in GROUPS:
                _talk(people, conversation, _group(people, conversation))
            for conversation in DIRECTS:
                _talk(people, conversation, _direct(people, conversation))
            if people[TEACHER].role == "student":
                asyncio.run(_make_teacher(database_url, UUID(people[TEACHER].id)))
            class_id = _school(people)
    except httpx.HTTPStatusError as error:
        raise StartError(f"the demo could not be made: {error.request.url.path}: {error.response.text}") from None
    except (httpx.HTTPError, DatabaseUnavailable) as error:
        raise StartError(f"the demo could not be made: {error or type(error).__name__}") from None
    logins = [f"    {key + '@' + DOMAIN:<20}  {name}" for key, name in PEOPLE.items()]
    told = [
        f"Demo: sign in at {url} in two browsers, as two of these people. The password of each is {password}",
        *logins,
    ]
    if class_id is not None:
        told.append(f"A live class, which {PEOPLE[TEACHER]} starts: {url}/#/class/{class_id}")
    return "\n".join(told)


class Person:
    """Somebody of the demo, logged in."""

    def __init__(self, client: httpx.Client, key: str, password: str) -> None:
        self._client = client
        email = f"{key}@{DOMAIN}"
        wanted = {"email": email, "password": password, "name": PEOPLE[key]}
        client.post("/v1/auth/register", json=wanted, headers={"Idempotency-Key": key}).raise_for_status()
        login = client.post("/v1/auth/login", json={"email": email, "password": password}).raise_for_status()
        self._headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
        account = self.ask("GET", "/v1/me")
        self.id: str = account["id"]
        self.role: str = account["role"]

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **request: Any) -> Any:
        answer = self._client.request(method, path, headers={**self._headers, **(headers or {})}, **request)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def _group(people: Mapping[str, Person], wanted: Conversation) -> str:
    opener = people[wanted.members[0]]
    for room in opener.ask("GET", "/v1/rooms")["rooms"]:
        if room["title"] == wanted.title:
            return str(room["id"])
    members = [people[key].id for key in wanted.members[1:]]
    body = {"title": wanted.title, "members": members, "open": wanted.open}
    return str(opener.ask("POST", "/v1/rooms", json=body)["id"])


def _direct(people: Mapping[str, Person], wanted: Conversation) -> str:
    one, other = (people[key] for key in wanted.members)
    return str(one.ask("POST", "/v1/rooms/direct", json={"user_id": other.id})["id"])


async def _make_teacher(database_url: str, user: UUID) -> None:
    opened = Database(database_url, pool_size=1, statement_cache_size=0)
    try:
        await SchoolStore(opened).set_role(None, user, "teacher")
    finally:
        await opened.close()


def _school(people: Mapping[str, Person]) -> str | None:
    """A course, and the class in it that goes on or is to come: its id. `None`: the course is archived."""
    teacher = people[TEACHER]
    found = [each for each in teacher.ask("GET", "/v1/me/courses")["courses"] if each["title"] == COURSE["title"]]
    course = found[0] if found else teacher.ask("POST", "/v1/courses", json=COURSE)
    path = f"/v1/courses/{course['id']}"
    if course["status"] == "archived":
        return None
    if course["status"] == "draft":  # publishing it is the last step
        _fill(people, path)
    now = datetime.now(UTC)
    for each in teacher.ask("GET", f"{path}/classes")["classes"]:
        over = "ended_at" in each or "cancelled_at" in each or datetime.fromisoformat(each["ends_at"]) <= now
        if not over:
            return str(each["id"])
    planned = {"title": "Measuring together", "starts_at": now.isoformat(), "ends_at": (now + CLASS_LASTS).isoformat()}
    return str(teacher.ask("POST", f"{path}/classes", json=planned)["id"])


def _fill(people: Mapping[str, Person], path: str) -> None:
    """What a course needs, but for what is there."""
    teacher = people[TEACHER]
    modules = teacher.ask("GET", path)["modules"]
    module = modules[0] if modules else teacher.ask("POST", f"{path}/modules", json={"title": "Free fall"})
    if not module["lessons"]:
        teacher.ask("POST", f"{path}/modules/{module['id']}/lessons", json=LESSON)
    if not teacher.ask("GET", f"{path}/assignments")["assignments"]:
        due = datetime.now(UTC) + timedelta(days=7)
        teacher.ask("POST", f"{path}/assignments", json={**ASSIGNMENT, "due_date": due.isoformat()})
    for student in STUDENTS:
        teacher.ask("PUT", f"{path}/participants/{people[student].id}", json={"role": "student"})
    teacher.ask("PUT", f"{path}/publication")


def _talk(people: Mapping[str, Person], conversation: Conversation, room: str) -> None:
    """Say the lines, once: a room that somebody has talked in is left as it is."""
    opener = people[conversation.members[0]]
    said = opener.ask("GET", f"/v1/rooms/{room}/messages")["messages"]
    ids: list[str] = [each["id"] for each in said if each["type"] != "system"]
    for number, line in enumerate(conversation.lines[len(ids) :], len(ids)):
        person = people[line.author]
        body: dict[str, Any] = {"content": line.text}
        for key, mentioned in people.items():
            if f"{{{key}}}" in line.text:
                body["mentions"] = [mentioned.id]
                body["content"] = line.text.replace(f"{{{key}}}", "").strip()
        if line.thread is not None:
            body["reply_to"] = ids[line.thread]
        if line.picture:
            body |= {"type": "image", "file_id": _upload(person, room)}
        key = f"demo {room} {number}"
        message = person.ask("POST", f"/v1/rooms/{room}/messages", json=body, headers={"Idempotency-Key": key})
        ids.append(message["id"])
        for emoji, fans in line.reactions.items():
            for fan in fans:
                people[fan].ask("PUT", f"/v1/rooms/{room}/messages/{message['id']}/reactions/{emoji}")
        if line.pinned:
            person.ask("PUT", f"/v1/rooms/{room}/pins/{message['id']}")


def _upload(person: Person, room: str) -> str:
    answer = person.ask(
        "POST",
        f"/v1/rooms/{room}/files",
        params={"name": "pendulum.png"},
        content=_picture(),
        headers={"Content-Type": "image/png"},
    )
    return str(answer["id"])


def _picture() -> bytes:
    """A plot of a damped swing."""
    from math import cos, exp

    from PIL import Image, ImageDraw

    width, height = 960, 540
    image = Image.new("RGB", (width, height), "#fbfaf7")
    draw = ImageDraw.Draw(image)
    for x in range(60, width, 120):
        draw.line([(x, 30), (x, height - 30)], fill="#e4e0d8")
    for y in range(30, height, 80):
        draw.line([(60, y), (width - 30, y)], fill="#e4e0d8")
    draw.line([(60, height // 2), (width - 30, height // 2)], fill="#8a8578", width=2)
    curve = [(x, height / 2 - 200 * exp(-(x - 60) / 500) * cos((x - 60) / 28)) for x in range(60, width - 30)]
    draw.line(curve, fill="#2f6fb3", width=4)
    for left, top in curve[::36]:
        scatter = left % 7
        draw.ellipse([left - 6, top - 6 + scatter, left + 6, top + 6 + scatter], fill="#c9503c")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
