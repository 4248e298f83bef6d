"""The server API, by the official `cent` client and by hand."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import cent
import httpx
import pytest
from msgspec import Raw

from realtime import codes
from realtime.protocol import ClientInfo, Publication, StreamPosition
from tests.gateway_node.http.conftest import API_KEY, RecordingMessaging, client_of, make_services


@pytest.fixture
async def backend(address: str) -> AsyncIterator[cent.AsyncClient]:
    async with cent.AsyncClient(f"{address}/api", API_KEY) as backend:
        yield backend


@pytest.fixture
def api(client: httpx.AsyncClient) -> Any:
    async def post(method: str, body: Any, key: str = API_KEY) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(
            f"/api/{method}", content=content, headers={"X-API-Key": key, "Content-Type": "application/json"}
        )

    return post


async def test_publish(backend: cent.AsyncClient, messaging: RecordingMessaging) -> None:
    result = await backend.publish(
        cent.PublishRequest(
            channel="chat:x", data={"a": [1, "é"]}, tags={"k": "v"}, idempotency_key="once", skip_history=True
        )
    )
    assert (result.offset, result.epoch) == (1, "epoch")
    (call,) = messaging.calls
    name, channel, data, id, tags, skip_history = call
    assert (name, channel, json.loads(data), tags, skip_history) == (
        "publish",
        "chat:x",
        {"a": [1, "é"]},
        {"k": "v"},
        True,
    )
    assert id == hashlib.sha256(b"once").digest()[:16]


async def test_data_is_handed_on_as_it_was_sent(api: Any, messaging: RecordingMessaging) -> None:
    await api("publish", b'{"channel":"chat:x","data":{"n": 1.50, "big":12345678901234567890123,"s":"\\u0000"}}')
    assert messaging.calls[0][2] == b'{"n": 1.50, "big":12345678901234567890123,"s":"\\u0000"}'


async def test_newlines_between_tokens_become_spaces(api: Any, messaging: RecordingMessaging) -> None:
    """A newline separates replies on a WebSocket; inside a string JSON escapes it."""
    await api("publish", b'{"channel":"chat:x","data":{\r\n"a":\n"b\\n"}}')
    assert messaging.calls[0][2] == b'{  "a": "b\\n"}'


async def test_data_in_base64(api: Any, messaging: RecordingMessaging) -> None:
    encoded = base64.b64encode(b'{"a":\n1}').decode()
    await api("publish", {"channel": "chat:x", "b64data": encoded})
    assert messaging.calls[0][2] == b'{"a": 1}'
    for bad in ("***", base64.b64encode(b"\xff").decode(), base64.b64encode(b"{").decode()):
        reply = await api("publish", {"channel": "chat:x", "b64data": bad})
        assert reply.json()["error"]["code"] == 107


async def test_without_a_key_there_is_no_id(backend: cent.AsyncClient, messaging: RecordingMessaging) -> None:
    await backend.publish(cent.PublishRequest(channel="chat:x", data=1))
    assert messaging.calls[0][3] is None


async def test_broadcast_answers_for_each_channel(backend: cent.AsyncClient) -> None:
    channels = ["chat:a", "unknown:b", "", "broken:c", "chat:d"]
    result = await backend.broadcast(cent.BroadcastRequest(channels=channels, data={"x": 1}))
    codes_of = [response.error.code if response.error else 0 for response in result.responses]
    assert codes_of == [0, 102, 107, 100, 0]
    assert result.responses[0].result is not None
    assert result.responses[0].result.epoch == "epoch"


async def test_broadcast_is_bounded(api: Any, messaging: RecordingMessaging) -> None:
    under_way = most = 0

    async def publishing(channel: str) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    messaging.on_publish = publishing
    reply = await api("broadcast", {"channels": [f"chat:{n}" for n in range(500)], "data": 1})
    assert len(reply.json()["result"]["responses"]) == 500
    assert most == 32


async def test_presence(backend: cent.AsyncClient, messaging: RecordingMessaging) -> None:
    messaging.present = {"c1": ClientInfo(user="alice", client="c1", conn_info=Raw(b'{"n":1}'))}
    result = await backend.presence(cent.PresenceRequest(channel="chat:x"))
    assert result.presence["c1"].user == "alice"
    assert result.presence["c1"].conn_info == {"n": 1}
    stats = await backend.presence_stats(cent.PresenceStatsRequest(channel="chat:x"))
    assert (stats.num_clients, stats.num_users) == (3, 2)


async def test_history(backend: cent.AsyncClient, messaging: RecordingMessaging) -> None:
    messaging.past = [Publication(Raw(b'{"a":1}'), offset=7, tags={"k": "v"}, info=ClientInfo("alice", "c1"))]
    result = await backend.history(
        cent.HistoryRequest(channel="chat:x", limit=5, since=cent.StreamPosition(offset=6, epoch="epoch"), reverse=True)
    )
    assert (result.offset, result.epoch) == (7, "epoch")
    assert result.publications[0].data == {"a": 1}
    assert result.publications[0].info is not None
    assert messaging.calls[0] == ("history", "chat:x", 5, StreamPosition(6, "epoch"), True)


async def test_an_empty_past_is_an_empty_list(api: Any) -> None:
    reply = await api("history", {"channel": "chat:x"})
    assert reply.json() == {"result": {"publications": [], "epoch": "epoch", "offset": 7}}


async def test_commands_about_users(backend: cent.AsyncClient, messaging: RecordingMessaging) -> None:
    await backend.subscribe(cent.SubscribeRequest(user="alice", channel="chat:x", client="c1"))
    await backend.unsubscribe(cent.UnsubscribeRequest(user="alice", channel="chat:x"))
    await backend.disconnect(cent.DisconnectRequest(user="alice"))
    await backend.disconnect(
        cent.DisconnectRequest(user="alice", client="c1", disconnect=cent.Disconnect(code=4500, reason="bye"))
    )
    await backend.refresh(cent.RefreshRequest(user="alice", expired=True))
    await backend.history_remove(cent.HistoryRemoveRequest(channel="chat:x"))
    assert messaging.calls == [
        ("subscribe", "alice", "chat:x", "c1"),
        ("unsubscribe", "alice", "chat:x", ""),
        ("disconnect", "alice", "", 3503, "force disconnect"),
        ("disconnect", "alice", "c1", 4500, "bye"),
        ("disconnect", "alice", "", 3005, "connection expired"),
        ("history_remove", "chat:x"),
    ]


async def test_info_and_channels(backend: cent.AsyncClient, messaging: RecordingMessaging) -> None:
    messaging.nodes = [{"uid": "u", "name": "node-1", "version": "1", "num_clients": 3}]
    nodes = (await backend.info(cent.InfoRequest())).nodes
    assert [(node.name, node.num_clients) for node in nodes] == [("node-1", 3)]
    result = await backend.channels(cent.ChannelsRequest(pattern="chat:*"))
    assert result.channels["chat:x"].num_clients == 4
    assert messaging.calls[-1] == ("channels", "chat:*")


@pytest.mark.parametrize("parallel", [False, True])
async def test_batch(backend: cent.AsyncClient, messaging: RecordingMessaging, parallel: bool) -> None:
    result = await backend.batch(
        cent.BatchRequest(
            requests=[
                cent.PublishRequest(channel="chat:x", data=1),
                cent.PresenceStatsRequest(channel="chat:x"),
                cent.InfoRequest(),
            ],
            parallel=parallel,
        )
    )
    published, stats, info = result.replies
    assert published.epoch == "epoch"  # type: ignore[attr-defined]
    assert stats.num_users == 2  # type: ignore[attr-defined]
    assert info.nodes == []  # type: ignore[attr-defined]


async def test_batch_replies_have_their_own_errors(api: Any) -> None:
    commands = [
        {"publish": {"channel": "unknown:x", "data": 1}},
        {"publish": {"channel": "broken:x", "data": 1}},
        {"info": {}},
        {},
        {"info": {}, "channels": {}},
        {"no_such_method": {}},
    ]
    replies = (await api("batch", {"commands": commands})).json()["replies"]
    assert [reply.get("error", {}).get("code") for reply in replies] == [102, 100, None, 104, 104, 104]


async def test_a_refusal_is_an_error_in_a_200(api: Any, messaging: RecordingMessaging) -> None:
    messaging.failure = codes.UNRECOVERABLE_POSITION()
    reply = await api("history", {"channel": "chat:x"})
    assert reply.status_code == 200
    assert reply.json() == {"error": {"code": 112, "message": "unrecoverable position"}}


async def test_cent_raises_the_error(backend: cent.AsyncClient) -> None:
    with pytest.raises(cent.CentApiResponseError) as caught:
        await backend.publish(cent.PublishRequest(channel="unknown:x", data=1))
    assert caught.value.code == 102


async def test_a_fault_is_error_100_and_tells_nothing(api: Any) -> None:
    reply = await api("publish", {"channel": "broken:x", "data": 1})
    assert reply.json() == {"error": {"code": 100, "message": "internal server error"}}


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("publish", {"channel": "", "data": 1}, 107),
        ("publish", {"channel": "chat:x"}, 107),
        ("broadcast", {"channels": [], "data": 1}, 107),
        ("presence", {"channel": ""}, 107),
        ("history", {"channel": ""}, 107),
        ("subscribe", {"user": "", "channel": "chat:x"}, 107),
        ("subscribe", {"user": "a", "channel": "c", "data": {"x": 1}}, 108),
        ("subscribe", {"user": "a", "channel": "c", "override": {"presence": {"value": True}}}, 108),
        ("unsubscribe", {"user": "a", "channel": ""}, 107),
        ("unsubscribe", {"user": "a", "channel": "c", "session": "s"}, 108),
        ("disconnect", {"user": ""}, 107),
        ("disconnect", {"user": "a", "whitelist": ["c1"]}, 108),
        ("disconnect", {"user": "a", "disconnect": {"code": 1000}}, 107),
        ("disconnect", {"user": "a", "disconnect": {"code": 5000}}, 107),
        ("disconnect", {"user": "a", "disconnect": {"code": 4000, "reason": "é" * 62}}, 107),
        ("refresh", {"user": "a", "expire_at": 99}, 108),
        ("refresh", {"user": "a"}, 108),
    ],
)
async def test_commands_that_cannot_be_are_refused(
    api: Any, messaging: RecordingMessaging, method: str, body: Any, code: int
) -> None:
    reply = await api(method, body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (200, code)
    assert messaging.calls == []


async def test_unknown_fields_are_left_for_later_versions(api: Any) -> None:
    reply = await api("publish", {"channel": "chat:x", "data": 1, "delta": True})
    assert "result" in reply.json()


@pytest.mark.parametrize("key", ["", "wrong", API_KEY + "x", API_KEY[:-1], API_KEY.upper()])
async def test_only_the_key_opens(api: Any, messaging: RecordingMessaging, key: str) -> None:
    reply = await api("publish", {"channel": "chat:x", "data": 1}, key)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("ApiKey")
    assert messaging.calls == []


async def test_cent_knows_a_wrong_key(address: str) -> None:
    async with cent.AsyncClient(f"{address}/api", "wrong") as backend:
        with pytest.raises(cent.CentUnauthorizedError):
            await backend.info(cent.InfoRequest())


@pytest.mark.parametrize("scheme", ["apikey", "ApiKey"])
async def test_the_key_may_come_as_authorization(client: httpx.AsyncClient, scheme: str) -> None:
    reply = await client.post("/api/info", json={}, headers={"Authorization": f"{scheme} {API_KEY}"})
    assert reply.json() == {"result": {"nodes": []}}


async def test_without_a_key_set_nobody_gets_in() -> None:
    async with client_of(make_services(api_key="")) as client:
        for headers in ({}, {"X-API-Key": ""}, {"Authorization": "apikey"}):
            assert (await client.post("/api/info", json={}, headers=headers)).status_code == 401
