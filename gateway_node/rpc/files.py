"""Files, as RPC methods: what needs no bytes. Upload and download are HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from gateway_node.rpc.method import method
from gateway_node.services.files import Files
from realtime.core import RPC
from realtime.interfaces import Identity


class LinkFile(Struct):
    file_id: UUID


def methods(files: Files) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def link(identity: Identity, params: LinkFile) -> object:
        return await files.link(identity, params.file_id)

    return {"file.link": method(LinkFile, link)}
