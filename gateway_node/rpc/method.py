"""What every RPC method has around it: parameters decoded from JSON, the answer encoded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from msgspec import Struct

from gateway_node.http.problems import trouble
from realtime import codes
from realtime.core import RPC
from realtime.interfaces import Identity

P = TypeVar("P", bound=Struct)


def method(params: type[P], run: Callable[[Identity, P], Awaitable[object]]) -> RPC:
    """An RPC of the core: refuses with 107 and the JSON pointer of the field what does not fit `params`."""
    decode = msgspec.json.Decoder(params).decode

    async def call(identity: Identity, data: bytes) -> bytes:
        try:
            parsed = decode(data)
        except msgspec.ValidationError as error:
            found = trouble(error, params)
            raise codes.BAD_REQUEST.at(found.pointer or "", found.detail) from None
        except msgspec.DecodeError as error:
            raise codes.BAD_REQUEST.saying(str(error)) from None
        answer = await run(identity, parsed)
        return msgspec.json.encode({} if answer is None else answer)

    return call
