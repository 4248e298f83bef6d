"""Short links: their services, made once a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import maxminddb
import msgspec

from gateway_node.limits import Limits
from gateway_node.passwords import Passwords
from gateway_node.processes import StartError
from gateway_node.services.links.cache import LinkCache
from gateway_node.services.links.clicks import ClickBuffer
from gateway_node.services.links.code import Codes
from gateway_node.services.links.counting import Counting
from gateway_node.services.links.links import Links
from gateway_node.services.links.redirects import Redirects
from gateway_node.services.links.statistics import LinkStatistics
from gateway_node.services.links.target import Targets
from gateway_node.services.links.visitors import Visitors
from gateway_node.services.pulse import Push
from gateway_node.services.shifts import Shifts
from presence import Pipe
from storage.database import Database
from storage.links.clicks import ClickStore, Counted
from storage.links.links import LinkStore

if TYPE_CHECKING:
    from config.sections import Settings

UPKEEP = 3600.0  # s between two removals of old clicks
TOLD = 100  # links in one event
CLEARING = 60.0  # s between two looks for links that were deleted

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ShortLinks:
    """Every service of short links, by the noun that it is about. `counting`: where this process is a worker."""

    links: Links
    redirects: Redirects
    clicks: ClickBuffer
    counting: Counting | None
    statistics: LinkStatistics
    store: LinkStore
    click_store: ClickStore
    shifts: Shifts
    keep_clicks: int
    base: str
    status: int
    anonymous: bool

    async def start(self) -> None:
        """Begin the background work."""
        await self.clicks.start()
        if self.counting is not None:
            await self.counting.start()
            self.shifts.every(UPKEEP, self._trim)
            self.shifts.every(CLEARING, self.click_store.clear_deleted)

    async def stop(self) -> None:
        """Finish what was promised; the stores are still open."""
        await self.clicks.stop()
        await self.shifts.stop()
        if self.counting is not None:
            await self.counting.stop()
        await self.redirects.cache.close()
        await self.store.close()

    async def _trim(self) -> None:
        await self.click_store.trim(self.keep_clicks)


def make_links(
    settings: Settings,
    *,
    database: Database,
    pipe: Pipe,
    passwords: Passwords,
    limits: Limits,
    answer: Callable[[str, float], dict[str, object]],
    tell_nodes: Callable[[Sequence[str]], None],
    push: Push,
    incarnation: str,
    nodes: Callable[[], int],
) -> ShortLinks:
    """`answer`: the redirect to a target that ends in so many seconds, as ASGI sends it.

    Raises `StartError` for a database of countries that is none.
    """
    options = settings.links
    assert settings.redis.url and settings.token.hmac_secret
    store, click_store = LinkStore(database), ClickStore(database)
    targets = Targets(frozenset(options.blocked_domains), options.private_addresses, options.base_url or "")
    cache = LinkCache(pipe, store, targets, answer, tell_nodes)
    counting = None
    if "worker" in settings.roles:
        try:
            visitors = Visitors(options.country_database, options.store_ip)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            raise StartError(f"links.country_database cannot be read: {error}") from None
        counting = Counting(
            settings.redis.url, click_store, visitors, incarnation, lambda counted: _tell_owners(push, counted)
        )
    return ShortLinks(
        Links(
            store,
            cache,
            passwords,
            targets,
            makes=Codes(settings.token.hmac_secret),
            creations=limits.links_per_user,
            blocked_codes=frozenset(options.blocked_codes),
        ),
        Redirects(store, cache, passwords, targets, limits.link_passwords),
        ClickBuffer(pipe),
        counting,
        LinkStatistics(click_store),
        store,
        click_store,
        Shifts(nodes),
        options.keep_clicks,
        options.base_url or "",
        options.redirect_status,
        options.anonymous,
    )


def _tell_owners(push: Push, counted: Sequence[Counted]) -> None:
    """What was counted, live, in the personal channel of whoever the links belong to."""
    by_owner: dict[UUID, list[dict[str, object]]] = {}
    for each in counted:
        if each.user_id is not None:
            told = {name: value for name, value in each._asdict().items() if name != "user_id"}
            by_owner.setdefault(each.user_id, []).append(told)
    for owner, links in by_owner.items():
        for start in range(0, len(links), TOLD):
            told = {"type": "event", "event": "links_clicked", "links": links[start : start + TOLD]}
            push(f"user:{owner}", _encode(told))
