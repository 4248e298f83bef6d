"""Every code that a client can be given, once.

Source: the Centrifuge client protocol (`errors.go`, `disconnect.go`, `unsubscribe.go` of `centrifugal/centrifuge`).
Errors answer one command. Disconnect codes 3000-3499 and 4000-4499 tell the client to come back, the others not to.
Unsubscribe codes below 2500 are final, the others tell the client to subscribe again. Own errors start at 1000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from realtime.protocol import ErrorReply


class CommandError(Exception):
    """A command's refusal. The reply carries `code`, `message` and whether trying again later can help.

    Each code is a class of its own, not an instance: an instance that is raised twice keeps growing its traceback,
    and with it every frame and connection on the way.
    """

    code: ClassVar[int]
    message: str
    temporary: ClassVar[bool]
    pointer: str | None = None  # the JSON pointer of the field at fault, where it is one

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(f"{self.code}: {self.message}")

    @classmethod
    def saying(cls, message: str) -> CommandError:
        """The same code with a message that says more."""
        return cls(message)

    @classmethod
    def at(cls, pointer: str, message: str) -> CommandError:
        """The same code, about the field at a JSON pointer (RFC 6901), which the message begins with."""
        error = cls(f"{pointer}: {message}")
        error.pointer = pointer
        return error

    def reply(self) -> ErrorReply:
        return ErrorReply(self.code, self.message, self.temporary)


def _error(code: int, message: str, *, temporary: bool = False) -> type[CommandError]:
    return type(f"Error{code}", (CommandError,), {"code": code, "message": message, "temporary": temporary})


INTERNAL = _error(100, "internal server error", temporary=True)
UNAUTHORIZED = _error(101, "unauthorized")
UNKNOWN_CHANNEL = _error(102, "unknown channel")
PERMISSION_DENIED = _error(103, "permission denied")
METHOD_NOT_FOUND = _error(104, "method not found")
ALREADY_SUBSCRIBED = _error(105, "already subscribed")
LIMIT_EXCEEDED = _error(106, "limit exceeded")
BAD_REQUEST = _error(107, "bad request")
NOT_AVAILABLE = _error(108, "not available")
TOKEN_EXPIRED = _error(109, "token expired")
EXPIRED = _error(110, "expired")
TOO_MANY_REQUESTS = _error(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION = _error(112, "unrecoverable position")
PRESENCE_UNKNOWN = _error(1001, "presence unknown", temporary=True)
NOT_FOUND = _error(1002, "not found")
CONFLICT = _error(1003, "changed meanwhile")


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The end of a connection, sent as the WebSocket close code and reason (the reason at most 123 bytes)."""

    code: int
    reason: str


CONNECTION_CLOSED = Disconnect(3000, "connection closed")
SHUTDOWN = Disconnect(3001, "shutdown")
SERVER_ERROR = Disconnect(3004, "internal server error")
CONNECTION_EXPIRED = Disconnect(3005, "connection expired")
SUBSCRIPTION_EXPIRED = Disconnect(3006, "subscription expired")
SLOW = Disconnect(3008, "slow")
WRITE_ERROR = Disconnect(3009, "write error")
INSUFFICIENT_STATE = Disconnect(3010, "insufficient state")
FORCE_RECONNECT = Disconnect(3011, "force reconnect")
NO_PONG = Disconnect(3012, "no pong")
FLOOD = Disconnect(3013, "too many requests")
INVALID_TOKEN = Disconnect(3500, "invalid token")
MALFORMED = Disconnect(3501, "bad request")
STALE = Disconnect(3502, "stale")
FORCE_DISCONNECT = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT = Disconnect(3504, "connection limit")
CHANNEL_LIMIT = Disconnect(3505, "channel limit")
INAPPROPRIATE_PROTOCOL = Disconnect(3506, "inappropriate protocol")
FORBIDDEN = Disconnect(3507, "permission denied")
UNAVAILABLE = Disconnect(3508, "not available")
TOO_MANY_ERRORS = Disconnect(3509, "too many errors")


class DisconnectError(Exception):
    """Raised by a command handler whose only answer is the end of the connection."""

    def __init__(self, disconnect: Disconnect) -> None:
        super().__init__(f"{disconnect.code}: {disconnect.reason}")
        self.disconnect = disconnect


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The end of a subscription by the server."""

    code: int
    reason: str


UNSUBSCRIBED_BY_SERVER = Unsubscribe(2000, "server unsubscribe")
INSUFFICIENT_POSITION = Unsubscribe(2500, "insufficient state")
UNSUBSCRIBED_EXPIRED = Unsubscribe(2501, "subscription expired")
UNSUBSCRIBED_TO_ASK_AGAIN = Unsubscribe(2502, "permission changed")
