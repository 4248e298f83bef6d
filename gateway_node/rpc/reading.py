"""Reading, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping

from gateway_node.services.reading import Reading
from realtime.core import RPC


def methods(reading: Reading) -> Mapping[str, RPC]:
    """Every method by its name."""
    return {}
