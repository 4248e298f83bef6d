"""Files, as RPC methods: what needs no bytes. Upload and download are HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from gateway_node.services.files import Files
from realtime.core import RPC


def methods(files: Files) -> Mapping[str, RPC]:
    """Every method by its name."""
    return {}
