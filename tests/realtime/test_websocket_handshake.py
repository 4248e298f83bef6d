"""Handshakes that are accepted, and the HTTP error for each that is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request

from realtime.websocket import WebSocketEndpoint
from realtime.wheel import TimingWheel
from tests.realtime.wire import MemoryTransport, Recorder, handshake

OFFERS = {"subprotocols": ("centrifuge-json", "other")}


def shake(endpoint: WebSocketEndpoint, request: Request) -> tuple[str, Recorder, MemoryTransport]:
    connection, transport = Recorder(endpoint), MemoryTransport()
    connection.upgrade(transport, request)  # type: ignore[arg-type]
    (answer,) = transport.written
    return answer.decode(), connection, transport


def endpoint(**options: object) -> WebSocketEndpoint:
    return WebSocketEndpoint(TimingWheel(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (handshake(), {}),
        (handshake("/connection/websocket?cf_ws_frame_ping_pong=true"), {}),
        (handshake("/ws"), {"paths": ("/ws", "/other")}),
        (handshake(Origin="https://example.com"), {}),
        (handshake(Origin="https://EXAMPLE.com"), {}),
        (handshake(Origin="https://app.example.org"), {"allowed_origins": ("https://*.example.org",)}),
        (handshake(Origin="null"), {"allowed_origins": ("*",)}),
        (handshake(Connection="keep-alive, Upgrade", Upgrade="WebSocket"), {}),
        (handshake(Sec_WebSocket_Protocol="whatever"), {}),
        (handshake(), OFFERS),
    ],
)
def test_accepted(request_: Request, options: dict[str, object]) -> None:
    shared = endpoint(**options)
    answer, connection, transport = shake(shared, request_)
    assert answer.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer  # the example of RFC 6455, section 1.3
    assert "Sec-WebSocket-Protocol" not in answer
    assert connection.opens == 1
    assert not transport.eof_written


def test_the_preferred_subprotocol_is_chosen() -> None:
    answer, _, _ = shake(endpoint(**OFFERS), handshake(Sec_WebSocket_Protocol="x, other, centrifuge-json"))
    assert "Sec-WebSocket-Protocol: centrifuge-json\r\n" in answer


def http_1_0() -> Request:
    request = handshake()
    request.protocol = "HTTP/1.0"
    return request


def posted() -> Request:
    request = handshake()
    request.method = "POST"
    return request


def two_origins() -> Request:
    request = handshake(Origin="https://example.com")
    request.headers["Origin"] = "https://example.com"
    return request


@pytest.mark.parametrize(
    ("request_", "options", "status"),
    [
        (handshake("/elsewhere"), {}, 404),
        (handshake("/connection/websocket/"), {}, 404),
        (handshake(Origin="https://evil.example"), {}, 403),
        (handshake(Origin="https://example.com.evil.example"), {}, 403),
        (handshake(Origin="null"), {}, 403),
        (handshake(Origin="http://[bad"), {}, 403),
        (handshake(Origin="https://example.com:444"), {}, 403),
        (handshake(Host="", Origin="https:///"), {}, 403),
        (handshake(Origin="https://a.example.org.evil"), {"allowed_origins": ("https://*.example.org",)}, 403),
        (two_origins(), {}, 403),
        (handshake(Sec_WebSocket_Key=""), {}, 400),
        (handshake(Sec_WebSocket_Key="c2hvcnQ="), {}, 400),
        (handshake(Sec_WebSocket_Version=""), {}, 400),
        (handshake(Sec_WebSocket_Version="8"), {}, 400),
        (handshake(Sec_WebSocket_Extensions="a;;b"), {"compression": True}, 400),
        (handshake(Sec_WebSocket_Protocol="centrifuge-protobuf"), OFFERS, 400),
        (handshake(Connection="close"), {}, 426),
        (handshake(Upgrade="h2c"), {}, 426),
        (posted(), {}, 405),
        (http_1_0(), {}, 505),
        (Request("/connection/websocket", Headers()), {}, 426),
    ],
)
def test_refused(request_: Request, options: dict[str, object], status: int) -> None:
    shared = endpoint(**options)
    answer, connection, transport = shake(shared, request_)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "Connection: close\r\n" in answer
    assert transport.eof_written
    assert shared.refused == {status: 1}
    connection.data_received(b"more")
    connection.disconnect(3000)
    connection.connection_lost(None)
    assert (connection.opens, connection.closes, connection.messages) == (0, [], [])
    assert not shared.connections
    for _ in range(2):
        shared.wheel.advance()
    assert transport.aborted


def test_nobody_is_let_in_while_draining() -> None:
    shared = endpoint()
    shared.draining = True
    answer, connection, _ = shake(shared, handshake())
    assert answer.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 1\r\n" in answer
    assert connection.opens == 0


USUAL = {
    "host": "example.com",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}
ODD = {
    "host": ["other.example", "EXAMPLE.com", ""],
    "upgrade": ["WebSocket", "h2c", "websocket, h2c", ""],
    "connection": ["keep-alive, Upgrade", "upgrade", "close", "Upgrade, close", ""],
    "sec-websocket-key": ["c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZQ", "dGhl\nIHNhbXBsZSBub25jZQ==", "\xe9", ""],
    "sec-websocket-version": ["8", "013", ""],
    "origin": ["https://example.com", "https://evil.example", "null", "http://[bad"],
    "sec-websocket-protocol": ["whatever", "centrifuge-json", ","],
    "sec-websocket-extensions": ["permessage-deflate", "a;;b"],
    "cookie": ["a=b"],
}
FIELDS = st.sampled_from([(name, value) for name, values in ODD.items() for value in values])
ENDPOINTS: list[dict[str, Any]] = [{}, OFFERS, {"compression": True}, {"allowed_origins": ("https://*.example",)}]


@given(
    path=st.sampled_from(["/connection/websocket", "/connection/websocket?a=b", "/connection/websocket/", "/"]),
    odd=st.lists(FIELDS, max_size=2),
    twice=st.booleans(),
    options=st.sampled_from(ENDPOINTS),
)
def test_the_short_way_lets_in_whom_the_reference_lets_in(
    path: str, odd: list[tuple[str, str]], twice: bool, options: dict[str, Any]
) -> None:
    fields = list(USUAL.items()) + odd if twice else list({**USUAL, **dict(odd)}.items())
    shared = endpoint(**options)
    answer = shared.accept(path.encode(), [(name.encode(), value.encode("latin-1")) for name, value in fields])
    headers = Headers()
    for name, value in fields:
        headers.set_insecure(name, value)
    response, compression = shared.negotiate(Request(path, headers))
    if answer is not None:
        assert (response.status_code, compression) == (101, None)
        lines = response.serialize().split(b"\r\n")
        assert answer.split(b"\r\n") == [line for line in lines if not line.startswith(b"Date: ")]
        assert shared.accepted == 2
    elif not odd:
        assert response.status_code == 404


def test_the_short_way_is_the_usual_one() -> None:
    shared = endpoint(allowed_origins=("https://*.example.org",))
    browser = {"origin": "https://app.example.org", "sec-websocket-extensions": "permessage-deflate", "user-agent": "x"}
    for more in ({}, browser):
        fields = [(name.encode(), value.encode()) for name, value in {**USUAL, **more}.items()]
        assert shared.accept(b"/connection/websocket", fields) is not None
    shared.draining = True
    assert shared.accept(b"/connection/websocket", fields) is None
