"""The echo server with a defect on purpose, to see that the suite notices: it does not check UTF-8."""

from __future__ import annotations

import uvloop

from tests.conformance import echo


class Careless(echo.Echo):
    __slots__ = ()

    def _text(self, payload: bytes) -> None:
        self.message_received(payload, False)


if __name__ == "__main__":
    echo.Echo = Careless  # type: ignore[misc]
    uvloop.run(echo.serve("127.0.0.1", 0))
