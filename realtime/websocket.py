"""One WebSocket connection of the server (RFC 6455), small enough to have a million of them.

Idle, it is one object with ten slots: no task, no timer, no queue, no parser. The HTTP server hands it the socket with
the handshake's request (`WebSocketConnection.upgrade`); subclasses fill in the hooks.

Reading has three lanes. A whole, masked, final text frame, which is nearly all that clients send, is unmasked and
delivered at once. A frame that is not complete waits in a buffer of exactly the bytes that are there. Everything else
(control frames, binary, fragments, compression, whatever breaks the rules) is fed, frame by frame, to the Sans-I/O
parser of `websockets`, the protocol's reference in Python, which decides what it means.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
from typing import Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.speedups import apply_mask

from realtime.codes import NO_PONG, SERVER_ERROR
from realtime.endpoint import WRITE_HIGH_WATER, WebSocketEndpoint, shared_frames_fit
from realtime.frames import close_frame, deflated_text_frame, ping_frame, text_frame

__all__ = ["COMMANDS", "WebSocketConnection", "WebSocketEndpoint"]

# Why a connection does not read (bits of `WebSocketConnection.paused`).
COMMANDS = 1  # the session has its hands full
_CONGESTION = 2  # it does not take what we send
_TURN = 4  # it had its share; others first
_CLOSED = 8  # nothing it sends counts any more

FRAMES_A_TURN = 64  # about a millisecond of commands, then the other connections get theirs
CLOSE_TIMEOUT = 5  # ticks for the peer to read our close frame and hang up
REFUSAL_TIMEOUT = 2  # ticks for the peer to read why its handshake was refused

_FINAL_TEXT = 0x81
_MASKED = 0x80
_CONTROL = 0x08  # the bit that control opcodes have and others have not
_PING = ping_frame()
_KNOWN_OPCODES = frozenset(Opcode)

_logger = logging.getLogger("chalkwire.websocket")


class Transport(Protocol):
    """The part of `asyncio.Transport` that a connection uses."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool: ...
    def get_protocol(self) -> asyncio.BaseProtocol: ...


class _Sink:
    """The transport of every closed connection: swallows what is still written to it, so that nobody has to ask."""

    def write(self, data: bytes) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return True

    def get_protocol(self) -> asyncio.BaseProtocol:
        raise NotImplementedError  # nothing fails here that one would ask it for


SINK = _Sink()


class _Message:
    """A message that arrives in fragments, with the parser that is in the middle of it."""

    __slots__ = ("decoder", "parser", "payload")

    def __init__(self, parser: ServerProtocol, first: Frame) -> None:
        self.parser = parser
        self.payload = bytearray()
        self.decoder = codecs.getincrementaldecoder("utf-8")() if first.opcode is Opcode.TEXT else None

    def add(self, fragment: Frame) -> None:
        """Raises `UnicodeDecodeError` as soon as no continuation could make the text valid."""
        self.payload += fragment.data
        if self.decoder is not None:
            self.decoder.decode(bytes(fragment.data), fragment.fin)


class WebSocketConnection(asyncio.Protocol):
    """A server's end of a WebSocket. Subclasses override `opened`, `message_received`, `closed`, `ping_due`, `silent`.

    transport: where encoded frames go. After the end it is an inert sink, so `connection.transport.write(frame)` needs
        no check, ever.
    seen: the wheel's tick at which something last came in.
    deflate: whether frames of `deflated_text_frame` may be written.
    paused: not 0 while this side does not read.
    """

    __slots__ = ("_inflate", "_message", "_need", "_rest", "deflate", "endpoint", "paused", "seen", "slot", "transport")

    def __init__(self, endpoint: WebSocketEndpoint) -> None:
        self.endpoint = endpoint
        self.transport: Transport = SINK
        self.seen = 0
        self.slot = 0
        self.paused = _CLOSED
        self.deflate = False
        self._inflate = False
        self._rest: bytearray | None = None  # bytes that wait: part of a frame, or all that came while paused
        self._need = 0  # bytes in `_rest` that make it worth looking again
        self._message: _Message | None = None

    # --- hooks -------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The handshake is done; frames may be written."""

    def message_received(self, payload: bytes, binary: bool) -> None:
        """A whole message; text is valid UTF-8. Never called between `pause_reading` and `resume_reading`."""

    def parsing(self) -> None:
        """A frame has come that is no whole text message: it costs some fifty times as much, and may go on for ever."""

    def closed(self, code: int, reason: str) -> None:
        """The end, exactly once for an opened connection, from within whatever ended it.

        `code` is the peer's, ours if we ended it, 1005 if the peer gave none, 1006 if the socket just went away.
        """

    def ping_due(self) -> None:
        """It is this connection's turn to be pinged."""
        self.write(_PING)

    def silent(self) -> None:
        """Nothing came in since the ping, and the time for it is up."""
        self.disconnect(NO_PONG.code, NO_PONG.reason)

    # --- what subclasses and the hub use -----------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        """Send an encoded frame. Does nothing after the end."""
        self.transport.write(frame)

    def send_text(self, payload: bytes) -> None:
        """Send a text message, compressed if that was agreed. `payload` must be valid UTF-8."""
        self.transport.write(deflated_text_frame(payload) if self.deflate else text_frame(payload))

    def disconnect(self, code: int, reason: str = "") -> None:
        """Close with this code: the close frame, then the socket, after 5 ticks by force. A no-op after the end."""
        if not self.paused & _CLOSED:
            self._end(code, reason, close_frame(code, reason))

    def pause_reading(self, why: int = COMMANDS) -> None:
        """Stop delivering messages, also those that are here already. Several reasons may hold at once."""
        if not self.paused:
            self.transport.pause_reading()
        self.paused |= why

    def resume_reading(self, why: int = COMMANDS) -> None:
        """Withdraw one reason. Messages that waited are delivered from the event loop, not from within this call."""
        if not self.paused & why:
            return
        self.paused &= ~why
        if not self.paused:
            self.seen = self.endpoint.wheel.tick  # what it said meanwhile could not be heard
            if self._rest is None or len(self._rest) < self._need:
                self.transport.resume_reading()
            else:
                self._schedule_turn()

    @property
    def congested(self) -> bool:
        """Whether the peer does not take what was written; `resume_writing` is called when it has."""
        return bool(self.paused & _CONGESTION)

    # --- opening and closing -----------------------------------------------------------------------------------

    def upgrade(self, transport: asyncio.Transport, request: Request) -> None:
        """Answer the handshake `request` and take over its socket. The caller sets the transport's protocol."""
        endpoint = self.endpoint
        response, compression = endpoint.negotiate(request)
        transport.write(response.serialize())
        if response.status_code != 101:
            _hang_up(transport, endpoint, REFUSAL_TIMEOUT)
            return
        if compression is not None:
            self._inflate = True
            self.deflate = shared_frames_fit(compression)
        self._open(transport)

    def accepted(self, transport: asyncio.Transport, answer: bytes) -> None:
        """Take over the socket of a handshake to which `endpoint.accept` has found the answer."""
        transport.write(answer)
        self._open(transport)

    def _open(self, transport: asyncio.Transport) -> None:
        endpoint = self.endpoint
        transport.set_write_buffer_limits(high=min(WRITE_HIGH_WATER, endpoint.outbox_limit))
        self.transport = cast(Transport, transport)
        self.paused = 0
        endpoint.connections.add(self)
        endpoint.wheel.add(self)
        self.opened()

    def _end(self, code: int, reason: str, farewell: bytes | None) -> None:
        """Everything that ends an open connection comes through here, once."""
        transport = cast(asyncio.Transport, self.transport)
        endpoint = self.endpoint
        self.transport = SINK
        self.paused = _CLOSED
        self._rest = self._message = None
        endpoint.connections.discard(self)
        endpoint.congested.pop(self, None)
        endpoint.wheel.discard(self)
        endpoint.closes[code] += 1
        if farewell is not None and not transport.is_closing():
            transport.write(farewell)
            transport.resume_reading()
            _hang_up(transport, endpoint, CLOSE_TIMEOUT)
        self.closed(code, reason)

    def eof_received(self) -> None:
        """The peer hung up without a close frame, or in answer to ours. The transport closes itself after this."""
        if not self.paused & _CLOSED:
            self._end(1006, "", None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.paused & _CLOSED:
            self._end(1006, "", None)

    # --- flow control ------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        if not self.paused & _CLOSED:
            self.endpoint.congested[self] = self.endpoint.wheel.tick
            self.pause_reading(_CONGESTION)

    def resume_writing(self) -> None:
        self.endpoint.congested.pop(self, None)
        self.resume_reading(_CONGESTION)

    def _schedule_turn(self) -> None:
        self.paused |= _TURN
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        if self.paused & _CLOSED:
            return
        self.paused &= ~_TURN
        if not self.paused and self._rest is not None:
            self._read(self._rest)
        if not self.paused:
            self.transport.resume_reading()

    # --- reading -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        endpoint = self.endpoint
        self.seen = endpoint.wheel.tick
        endpoint.bytes_in += len(data)
        rest = self._rest
        if rest is None and not self.paused:
            self._read(data)
        elif not self.paused & _CLOSED:
            if rest is None:
                rest = self._rest = bytearray()
                self._need = 0
            rest += data
            if len(rest) >= self._need and not self.paused:
                self._read(rest)

    def _read(self, data: bytes | bytearray) -> None:
        """Take every whole frame in `data`; keep the rest."""
        self._rest = None
        start = 0
        size = len(data)
        limit = self.endpoint.max_message_size
        turn = FRAMES_A_TURN
        try:
            while start < size:
                if turn == 0:
                    self.transport.pause_reading()
                    self._schedule_turn()
                    break
                turn -= 1
                end = start
                if data[start] == _FINAL_TEXT and size - start >= 6 and self._message is None:
                    length = data[start + 1] ^ _MASKED
                    if length < 126:
                        body = start + 6
                        end = body + length
                    elif length == 126:
                        body = start + 8
                        length = data[start + 2] << 8 | data[start + 3]
                        end = body + length
                if start < end <= size and (limit is None or length <= limit):
                    self._text(apply_mask(data[body:end], data[body - 4 : body]))
                else:
                    end = self._read_other(data, start)
                    if end == start:
                        break
                start = end
                if self.paused:
                    break
        except Exception:
            _logger.exception("A message could not be handled")
            self.disconnect(SERVER_ERROR.code, SERVER_ERROR.reason)
        if start < size and not self.paused & _CLOSED:
            if self.paused:
                self._need = 0  # whole frames may wait here, not only the part of one
            if isinstance(data, bytearray):
                del data[:start]
                self._rest = data
            else:
                self._rest = bytearray(data[start:])

    def _text(self, payload: bytes) -> None:
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                self.disconnect(1007, f"{error.reason} at position {error.start}")
                return
        self.endpoint.messages_in += 1
        self.message_received(payload, False)

    def _read_other(self, data: bytes | bytearray, start: int) -> int:
        """Take the frame at `start`, whatever it is, and return where it ends; `start` if it is not complete yet.

        A header that no completion can save (not masked, an unknown opcode, too long) goes to the parser at once.
        """
        self._need = 2
        available = len(data) - start
        if available < 2:
            return start
        first = data[start]
        length = data[start + 1] ^ _MASKED
        extended = {126: 2, 127: 8}.get(length, 0)
        if length < _MASKED and first & 0x0F in _KNOWN_OPCODES:
            self._need = 2 + extended
            if available < self._need:
                return start
            if extended:
                length = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
            limit = self.endpoint.max_message_size
            if limit is not None and self._message is not None:
                limit -= len(self._message.payload)
            if limit is None or length <= limit:
                self._need = 6 + extended + length
                if available < self._need:
                    return start
                if first == _FINAL_TEXT and self._message is None:
                    body = start + 6 + extended
                    self._text(apply_mask(data[body : body + length], data[body - 4 : body]))
                    return body + length
                available = self._need
        self._parse(data[start : start + available])
        return start + available

    def _parse(self, frame: bytes | bytearray) -> None:
        """Let the reference parser decide about one frame.

        Control frames may come in the middle of a message and have nothing to do with it (RFC 6455, section 5.4): a
        parser of their own sees them, so that a close frame there is answered like any other.
        """
        self.parsing()
        if self.paused & _CLOSED:
            return
        message = None if frame[0] & _CONTROL else self._message
        parser = message.parser if message is not None else self.endpoint.take_parser(self._inflate)
        parser.receive_data(frame)
        events = parser.events_received()
        answer = b"".join(parser.data_to_send())  # a pong, or a close frame; the mark for the stream's end is empty
        if parser.state is not OPEN:
            assert parser.close_sent is not None
            self._end(parser.close_sent.code, parser.close_sent.reason, answer)
            return
        if answer:
            self.transport.write(answer)
        for event in events:
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._fragment(parser, event)
            elif message is None:
                self.endpoint.return_parser(parser, self._inflate)

    def _fragment(self, parser: ServerProtocol, fragment: Frame) -> None:
        """One data frame, already checked by `parser`: a fragment, or a message of one."""
        message = self._message
        if message is None:
            message = _Message(parser, fragment)
        try:
            message.add(fragment)
        except UnicodeDecodeError as error:
            self.disconnect(1007, error.reason)
            return
        if not fragment.fin:
            self._message = message
            return
        self._message = None
        self.endpoint.return_parser(parser, self._inflate)
        self.endpoint.messages_in += 1
        self.message_received(bytes(message.payload), message.decoder is None)


def _hang_up(transport: asyncio.Transport, endpoint: WebSocketEndpoint, ticks: int) -> None:
    """Say that we are done, and leave the peer some time to hang up.

    Only half of the socket is closed: closing it with unread bytes in its receive buffer would reset it, and the peer
    might never see what we wrote last (RFC 9293, section 3.10.4; RFC 6455, section 7.1.1).
    """
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()
    endpoint.wheel.after(ticks, transport.abort)
