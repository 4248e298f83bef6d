"""The demo is made over HTTP, is whole, and stays as it is when it is made again."""

from __future__ import annotations

import pytest

from config.embedded import read_urls
from gateway_node import demo
from gateway_node.processes import StartError
from loadtest.server import Server

pytestmark = pytest.mark.integration


def test_a_demo_is_made_once(server: Server) -> None:
    secret = "the secret of this installation"
    database = str(read_urls(server.data_dir).database)
    told = demo.seed(server.url(""), secret, database)
    assert demo.password_of(secret) in told
    assert all(name in told for name in demo.PEOPLE.values())

    with demo.httpx.Client(base_url=server.url(""), trust_env=False) as client:
        ada = demo.Person(client, "ada", demo.password_of(secret))
        before = ada.ask("GET", "/v1/rooms")["rooms"]
        assert {room["title"] for room in before} == {"Physics 8b", "Falling bodies", ""}
        physics = next(room for room in before if room["title"] == "Physics 8b")
        messages = ada.ask("GET", f"/v1/rooms/{physics['id']}/messages")["messages"]
        texts = [message for message in messages if message["type"] != "system"]
        assert len(texts) == len(demo.GROUPS[0].lines)
        assert any("file" in message and "reactions" in message for message in texts)

        (course,) = ada.ask("GET", "/v1/me/courses")["courses"]
        path = f"/v1/courses/{course['id']}"
        assert (course["status"], course["students"]) == ("published", 2)
        before = ada.ask("GET", "/v1/rooms")["rooms"]
        assert demo.seed(server.url(""), secret, database) == told
        assert ada.ask("GET", "/v1/rooms")["rooms"] == before
        assert [course] == ada.ask("GET", "/v1/me/courses")["courses"]
        ben = demo.Person(client, "ben", demo.password_of(secret))
        (module,) = ben.ask("GET", path)["modules"]
        assert [each["title"] for each in module["lessons"]] == [demo.LESSON["title"]]
        assert len(ben.ask("GET", f"{path}/assignments")["assignments"]) == 1
        (planned,) = ben.ask("GET", f"{path}/classes")["classes"]
        assert f"{server.url('')}/#/class/{planned['id']}" in told
        ada.ask("POST", f"{path}/classes/{planned['id']}/commands", json={"do": "cancel"})
        assert planned["id"] not in demo.seed(server.url(""), secret, database)  # there is another one
        assert len(ben.ask("GET", f"{path}/classes")["classes"]) == 2


def test_a_demo_that_cannot_be_made_says_why(server: Server) -> None:
    with pytest.raises(StartError, match="the demo could not be made"):
        demo.seed("http://127.0.0.1:1", "some secret", "postgresql://127.0.0.1:1/none")
