"""The demo is made over HTTP, is whole, and stays as it is when it is made again."""

from __future__ import annotations

import pytest

from gateway_node import demo
from gateway_node.processes import StartError
from loadtest.server import Server

pytestmark = pytest.mark.integration


def test_a_demo_is_made_once(server: Server) -> None:
    secret = "the secret of this installation"
    told = demo.seed(server.url(""), secret)
    assert demo.password_of(secret) in told
    assert all(name in told for name in demo.PEOPLE.values())

    with demo.httpx.Client(base_url=server.url(""), trust_env=False) as client:
        ada = demo.Person(client, "ada", demo.password_of(secret))
        before = ada.ask("GET", "/v1/rooms")["rooms"]
        assert {room["title"] for room in before} == {"Physics 8b", ""}
        physics = next(room for room in before if room["title"])
        messages = ada.ask("GET", f"/v1/rooms/{physics['id']}/messages")["messages"]
        texts = [message for message in messages if message["type"] != "system"]
        assert len(texts) == len(demo.GROUPS[0].lines)
        assert any("file" in message and "reactions" in message for message in texts)

        demo.seed(server.url(""), secret)
        assert ada.ask("GET", "/v1/rooms")["rooms"] == before


def test_a_demo_that_cannot_be_made_says_why(server: Server) -> None:
    with pytest.raises(StartError, match="the demo could not be made"):
        demo.seed("http://127.0.0.1:1", "some secret")
