"""Messages, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping

from gateway_node.services.messages import Messages
from realtime.core import RPC


def methods(messages: Messages) -> Mapping[str, RPC]:
    """Every method by its name."""
    return {}
