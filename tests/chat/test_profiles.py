"""What people say of themselves, on two whole nodes."""

from __future__ import annotations

import io
import secrets
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from loadtest.server import Server
from tests.chat.person import Person, people
from tests.chat.test_files import room_of, upload

pytestmark = pytest.mark.integration


def picture() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((800, 600), 30).save(out, "PNG")
    return out.getvalue()


async def change(person: Person, **fields: Any) -> dict[str, Any]:
    answer = await person.http("PATCH", "/v1/me", fields)
    assert answer.status == 200, answer.body
    changed: dict[str, Any] = answer.body
    return changed


async def test_a_profile_is_changed_field_by_field(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        said = {"bio": "I teach.\nMostly.", "locale": "pt-BR", "time_zone": "Europe/Paris"}
        changed = await change(ann, **said)
        assert said.items() <= changed.items()
        assert (changed["name"], changed["avatar_id"]) == ("Ann", None)
        assert (await ann.http("GET", "/v1/me", node=1)).body == changed
        assert await change(ann) == changed
        assert await change(ann, name=" Anna ") == changed | {"name": "Anna"}
        nothing = {"bio": "", "locale": "", "time_zone": ""}
        assert await change(ann, **nothing) == changed | nothing | {"name": "Anna"}


async def test_others_see_the_public_part(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        await change(ann, bio="I teach.", locale="de", time_zone="Asia/Tokyo")
        path = f"/v1/users/{ann.id}"
        assert (await ben.http("GET", path)).body == {"id": ann.id, "name": "Ann", "bio": "I teach."}
        assert (await ann.http("GET", f"/v1/users/{ben.id}")).body == {"id": ben.id, "name": "Ben"}
        assert (await ben.http("GET", f"/v1/users/{uuid4()}")).status == 404
        assert (await ben.http("GET", path, headers={"Authorization": ""})).status == 401
        stranger = {"Authorization": f"Bearer {server.token('somebody of another issuer')}"}
        assert (await ben.http("GET", path, headers=stranger)).status == 403
        assert (await ben.http("GET", f"{path}/avatar", headers=stranger)).status == 403


async def test_a_picture_is_seen_by_all_and_small(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann)
        file = await upload(ann, room, picture(), "me.png")
        path = f"/v1/users/{ann.id}"
        assert (await ben.http("GET", f"{path}/avatar")).status == 404
        assert (await change(ann, avatar_id=file["id"]))["avatar_id"] == file["id"]
        assert (await ben.http("GET", path)).body["avatar"] == f"{path}/avatar"
        shown = await ben.http("GET", f"{path}/avatar")
        assert (shown.status, shown.headers["content-type"]) == (200, "image/webp")
        assert Image.open(io.BytesIO(shown.content)).size == (400, 300)
        again = await ben.http("GET", f"{path}/avatar", headers={"If-None-Match": shown.headers["etag"]})
        assert again.status == 304
        assert (await ben.http("GET", f"/v1/files/{file['id']}")).status == 404, "the file itself is the room's"
        await change(ann, avatar_id=None)
        assert (await ben.http("GET", f"{path}/avatar")).status == 404
        assert "avatar" not in (await ben.http("GET", path)).body


async def test_what_cannot_be_a_picture_of_oneself(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        theirs = await upload(ben, room, picture(), "ben.png")
        text = await upload(ann, room, b"I am no picture", "me.png")
        for file_id in (theirs["id"], text["id"], str(uuid4()), "me.png", 5):
            answer = await ann.http("PATCH", "/v1/me", {"avatar_id": file_id, "bio": "changed"})
            assert (answer.status, answer.pointers) == (422, ["/avatar_id"]), file_id
        assert (await ann.http("GET", "/v1/me")).body["bio"] == "", "nothing of such a change holds"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bio", "x" * 2001),
        ("bio", "a\0b"),
        ("bio", None),
        ("locale", "x" * 36),
        ("locale", "german!"),
        ("locale", "de_DE"),
        ("locale", "-de"),
        ("time_zone", "Mars/Olympus"),
        ("time_zone", "../etc/passwd"),
        ("time_zone", "/etc/passwd"),
        ("time_zone", "Europe"),
        ("time_zone", "Europe/Paris\n"),
        ("time_zone", "+02:00"),
        ("role", "admin"),
        ("email", "x@example.org"),
    ],
)
async def test_profiles_that_cannot_be(server: Server, field: str, value: Any) -> None:
    async with people(server, "Ann") as (ann,):
        answer = await ann.http("PATCH", "/v1/me", {field: value})
        assert (answer.status, answer.pointers) == (422, [f"/{field}"])


async def test_a_name_by_rpc_leaves_the_rest(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        await change(ann, bio="I teach.")
        name = f"Ann {secrets.token_hex(4)}"
        assert await ann.rpc("user.update", name=name) == {"id": ann.id, "name": name}
        assert (await ann.http("GET", "/v1/me")).body["bio"] == "I teach."
