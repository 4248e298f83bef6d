"""People, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping

from gateway_node.services.people import People
from realtime.core import RPC


def methods(people: People) -> Mapping[str, RPC]:
    """Every method by its name."""
    return {}
