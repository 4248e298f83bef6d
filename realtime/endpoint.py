"""What all WebSocket connections of a process share: the rules of the handshake, limits, registers and counters."""

from __future__ import annotations

import binascii
import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING

from websockets.datastructures import MultipleValuesError
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from realtime.codes import SLOW
from realtime.frames import WINDOW_BITS
from realtime.wheel import TimingWheel

if TYPE_CHECKING:
    from realtime.websocket import WebSocketConnection

WRITE_HIGH_WATER = 64 * 1024  # bytes in a transport's buffer from which its reader counts as congested
STALL_TICKS = 30  # ticks in congestion without once getting below the low-water mark (a quarter of the high one)

_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

_LOGGER = logging.getLogger("chalkwire.websocket")
_LOGGER.setLevel(logging.WARNING)  # the protocol library reports every connection at INFO


class WebSocketEndpoint:
    """One per process. A connection refers to it instead of holding any of this itself.

    paths: where a handshake is accepted; elsewhere it is answered with 404.
    allowed_origins: patterns such as `https://*.example.com`, or `*`. Requests without an `Origin` (no browser) and
        those from the server's own host are always allowed.
    subprotocols: in order of preference. A client that offers none is served without one; one that offers only others
        gets 400.
    max_message_size: bytes, after decompression; `None`: no limit.
    outbox_limit: bytes that may wait for a slow reader before it is disconnected.
    compression: whether to agree on permessage-deflate.
    """

    def __init__(
        self,
        wheel: TimingWheel,
        *,
        paths: Collection[str] = ("/connection/websocket",),
        allowed_origins: Sequence[str] = (),
        subprotocols: Sequence[str] = (),
        max_message_size: int | None = 64 * 1024,
        outbox_limit: int = 1024 * 1024,
        compression: bool = False,
    ) -> None:
        self.wheel = wheel
        self.paths = frozenset(paths)
        self._targets = frozenset(path.encode("latin-1") for path in paths)
        self.allowed_origins = tuple(allowed_origins)
        self.subprotocols = tuple(subprotocols)
        self.max_message_size = max_message_size
        self.outbox_limit = outbox_limit
        self.compression = compression
        self.draining = False  # no new connections: 503

        self.connections: set[WebSocketConnection] = set()  # open: neither in the handshake nor closing
        self.congested: dict[WebSocketConnection, int] = {}  # readers that fall behind, and since which tick
        self.accepted = 0
        self.refused: Counter[int] = Counter()  # handshakes by HTTP status
        self.messages_in = 0
        self.bytes_in = 0
        self.closes: Counter[int] = Counter()  # connections by close code

        # A parser with nothing pending knows nothing of the connection it served: one serves all of them in turn.
        # Making one costs 5.3 KB and 5 us. The second is for those with compression.
        self._idle_parsers: list[ServerProtocol | None] = [None, None]
        wheel.each_tick(self._check_stalled)

    def check_congested(self) -> None:
        """Disconnect the readers whose outbox is over its limit. To be called after each slice of a fan-out."""
        for connection in list(self.congested):
            if connection.transport.get_write_buffer_size() > self.outbox_limit:
                connection.disconnect(SLOW.code, SLOW.reason)

    def _check_stalled(self) -> None:
        for connection, since in list(self.congested.items()):
            if self.wheel.tick - since > STALL_TICKS:
                connection.disconnect(SLOW.code, SLOW.reason)

    # --- handshake ---------------------------------------------------------------------------------------------

    def accept(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        """The answer to an ordinary GET over HTTP/1.1, in 2 us; `negotiate` takes 33.

        Names in lower case. `None` where the handshake is not the usual one, or is to be refused: ask `negotiate`.
        """
        fields = dict(headers)
        if (
            self.draining
            or len(fields) != len(headers)  # one that comes twice
            or target.partition(b"?")[0] not in self._targets
            or fields.get(b"upgrade") != b"websocket"
            or fields.get(b"connection") not in (b"Upgrade", b"keep-alive, Upgrade")
            or fields.get(b"sec-websocket-version") != b"13"
            or (self.compression and b"sec-websocket-extensions" in fields)
            or b"sec-websocket-protocol" in fields
        ):
            return None
        origin, host = fields.get(b"origin"), fields.get(b"host", b"")
        if origin is not None and not self._origin_fits(origin.decode("latin-1"), host.decode("latin-1")):
            return None
        key = fields.get(b"sec-websocket-key", b"")
        try:
            if len(binascii.a2b_base64(key, strict_mode=True)) != 16:
                return None
        except binascii.Error:
            return None
        self.accepted += 1
        digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
        return _ACCEPTED % binascii.b2a_base64(digest, newline=False)

    def negotiate(self, request: Request) -> tuple[Response, PerMessageDeflate | None]:
        """Answer a handshake (RFC 6455, section 4.2): 101, or the HTTP error that says what is wrong.

        Also returns the compression agreed on, if any.
        """
        protocol = ServerProtocol(
            extensions=[_DEFLATE] if self.compression else None,
            subprotocols=[Subprotocol(name) for name in self.subprotocols],
            select_subprotocol=_select_subprotocol,
            logger=_LOGGER,
        )
        if request.path.partition("?")[0] not in self.paths:
            response = protocol.reject(HTTPStatus.NOT_FOUND, "No WebSocket endpoint here.\n")
        elif self.draining:
            response = protocol.reject(HTTPStatus.SERVICE_UNAVAILABLE, "This server is shutting down.\n")
            response.headers["Retry-After"] = "1"
        elif not self._origin_allowed(request):
            response = protocol.reject(HTTPStatus.FORBIDDEN, "This origin is not allowed.\n")
        else:
            response = protocol.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.accepted += 1
        else:
            self.refused[response.status_code] += 1
        extension = protocol.extensions[0] if protocol.extensions else None
        return response, extension if isinstance(extension, PerMessageDeflate) else None

    def _origin_allowed(self, request: Request) -> bool:
        try:
            origin = request.headers.get("Origin")
            host = request.headers.get("Host", "")
        except MultipleValuesError:
            return False
        return origin is None or self._origin_fits(origin, host)

    def _origin_fits(self, origin: str, host: str) -> bool:
        if any(fnmatchcase(origin, pattern) for pattern in self.allowed_origins):
            return True
        return origin.partition("://")[2].lower() == host.lower() != ""  # an origin has no path (RFC 6454, section 6.2)

    # --- parsers -----------------------------------------------------------------------------------------------

    def take_parser(self, inflate: bool) -> ServerProtocol:
        """A parser for an open connection that has nothing pending."""
        parser, self._idle_parsers[inflate] = self._idle_parsers[inflate], None
        if parser is None:
            parser = ServerProtocol(state=OPEN, max_size=self.max_message_size, logger=_LOGGER)
            if inflate:
                parser.extensions = [PerMessageDeflate(True, True, 15, 15)]
        return parser

    def return_parser(self, parser: ServerProtocol, inflate: bool) -> None:
        """Give back a parser that is open and between two messages."""
        self._idle_parsers[inflate] = parser


_DEFLATE = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)


def shared_frames_fit(extension: PerMessageDeflate) -> bool:
    """Whether the frames compressed once for everyone stay within the window that this client agreed to."""
    return extension.local_max_window_bits >= WINDOW_BITS


def _select_subprotocol(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    supported = protocol.available_subprotocols or ()
    if not offered or not supported:
        return None
    for subprotocol in supported:
        if subprotocol in offered:
            return subprotocol
    raise NegotiationError("no supported subprotocol was offered")
