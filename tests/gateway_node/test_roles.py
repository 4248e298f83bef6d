"""What a process does that has some of the roles only."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from loadtest.server import Server


@pytest.mark.integration
def test_a_gateway_has_no_api_and_an_api_no_gateway(tmp_path: Path) -> None:
    with Server(tmp_path / "gateway", nodes=1, settings={"ROLES": "gateway"}) as gateway:
        assert httpx.get(gateway.url("/v1/me")).status_code == 404
        assert httpx.get(gateway.url("/health/ready")).status_code == 200
        with connect(gateway.websocket()) as socket:
            socket.send("{}")
    with Server(tmp_path / "api", nodes=1, settings={"ROLES": "api,worker"}) as api:
        assert httpx.get(api.url("/v1/me")).status_code == 401
        with pytest.raises(InvalidStatus) as refused, connect(api.websocket()):
            pass
        assert refused.value.response.status_code == 404
