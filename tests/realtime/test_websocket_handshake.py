"""Handshakes that are accepted, and the HTTP error for each that is not."""

from __future__ import annotations

import pytest
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
