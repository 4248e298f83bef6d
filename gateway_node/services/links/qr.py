"""QR codes (ISO/IEC 18004) of short links."""

from __future__ import annotations

import asyncio
import io
from functools import lru_cache
from typing import Literal

import segno

Kind = Literal["svg", "png"]


async def qr_code(url: str, kind: Kind, scale: int) -> bytes:
    """An image of `scale` pixels a module. Making one takes 5 ms, in a thread."""
    return await asyncio.to_thread(_made, url, kind, scale)


@lru_cache(maxsize=256)
def _made(url: str, kind: Kind, scale: int) -> bytes:
    out = io.BytesIO()
    # Level M: 15 % of it may be dirty, which is what is printed on hand-outs.
    segno.make(url, error="m", micro=False).save(out, kind=kind, scale=scale, border=4)
    return out.getvalue()
