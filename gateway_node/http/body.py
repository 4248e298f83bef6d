"""Request bodies: checked and decoded once, straight into the type that the handler takes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import ClientException, HTTPException, InternalServerException

from gateway_node.http.problems import Unprocessable, trouble
from realtime import codes
from realtime.codec import safe_json


class UnsupportedMediaType(HTTPException):
    status_code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class CheckedRequest(Request[Any, Any, Any]):
    """Takes JSON alone, valid UTF-8, nested at most 64 deep, so that raw values in it can be handed on.

    Litestar would build dictionaries and convert these; the handler's `data` is decoded from the bytes here, which
    keeps `msgspec.Raw` fields as they were sent.
    """

    async def body(self) -> bytes:
        """Raises: `ClientException` when the client hangs up in its middle, which Litestar calls a fault of ours."""
        try:
            return await super().body()
        except InternalServerException as error:
            raise ClientException(error.detail) from None

    async def json(self) -> Any:
        """Raises: `UnsupportedMediaType`; `ClientException` for no JSON; `Unprocessable` for JSON of another type."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise UnsupportedMediaType("the body must be JSON, with Content-Type: application/json")
        try:
            body = safe_json(await self.body())
        except codes.CommandError as error:
            raise ClientException(error.message.replace("data is", "the body is")) from None
        field = self.route_handler.parsed_data_field
        assert field is not None
        try:
            return msgspec.json.decode(body, type=field.annotation)
        except msgspec.ValidationError as error:
            raise Unprocessable(
                "the body is not what this operation takes", extra=[trouble(error, field.annotation)]
            ) from None
        except msgspec.DecodeError as error:  # a number beyond 64 bits, half a surrogate pair
            raise ClientException(f"the body is not JSON: {error}") from None
