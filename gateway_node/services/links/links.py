"""Short links: made, looked at, changed and deleted by whoever they belong to.

Every method raises `CommandError`: 107 with a pointer for a value that cannot be, 1002 for a link that is not there or
another's, 1003 for a code that is taken, 100 while PostgreSQL is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway_node.limits import Limit
from gateway_node.passwords import Passwords
from gateway_node.services.bookmarks import bookmark, place_of
from gateway_node.services.links.cache import LinkCache
from gateway_node.services.links.code import Codes, custom, is_offensive
from gateway_node.services.links.redirects import Ending, ending_of
from gateway_node.services.links.target import Targets
from gateway_node.services.stores import asked, database
from gateway_node.services.text import printable
from realtime import codes
from storage.links.links import Link, LinkChange, LinkStore, NewLink

MAX_TITLE = 255  # characters
MAX_TAGS = 20
MAX_TAG = 50  # characters
MAX_PASSWORD = 255  # characters
MAX_BULK = 1000  # links in one request
MAX_PAGE = 100
NUMBERS = 256  # that a node takes from the sequence at a time; those it has left when it ends are not used
HASHING = 8  # passwords of links that wait for their hash: logins want theirs, too
TRIES = 5  # numbers that are tried for a code: one in ten million is a custom code of somebody

NOBODY = UUID(int=0)  # whose links are nobody's, for what is derived from a user
Visits = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Check = Callable[[int], None]
"""Given the present version; raises to refuse a change of another one."""

NO_LINK = codes.NOT_FOUND.saying


class NewLinkFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """`code`: the one that is wanted; else one is made. `reuse`: the link of before to the same target, if there is."""

    url: str
    code: str | None = None
    title: str = ""
    tags: list[str] = []
    expires_at: datetime | None = None
    max_visits: Visits | None = None
    password: str | None = None
    reuse: bool = False


class LinkFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What shall change. null: no expiry, any number of visits, no password."""

    url: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    max_visits: Visits | UnsetType | None = UNSET
    password: str | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET


class LinkView(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`state` says what a visitor gets: `active`, or why not. `click_count` is of people, `bot_count` of the rest."""

    code: str
    short_url: str
    original_url: str
    title: str
    tags: tuple[str, ...]
    state: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    max_visits: int | None
    visits: int | None = None
    password: bool
    click_count: int
    bot_count: int
    version: int


class LinkPage(Struct, frozen=True, omit_defaults=True):
    links: list[LinkView]
    next: str = ""


class Origin(Struct, frozen=True):
    """Who asks, and how the server was addressed: `base` is what short links begin with, `host` the header."""

    user_id: UUID | None
    base: str
    host: str
    is_admin: bool = False


STATES = {
    Ending.DISABLED: "disabled",
    Ending.EXPIRED: "expired",
    Ending.USED_UP: "used_up",
    Ending.DELETED: "deleted",
}


class Links:
    """`creations`: links a minute of one user."""

    def __init__(
        self,
        store: LinkStore,
        cache: LinkCache,
        passwords: Passwords,
        targets: Targets,
        *,
        makes: Codes,
        creations: Limit,
        blocked_codes: frozenset[str] = frozenset(),
    ) -> None:
        self._store = store
        self._cache = cache
        self._passwords = passwords
        self._targets = targets
        self._codes = makes
        self._creations = creations
        self._blocked_codes = blocked_codes
        self._numbers: list[int] = []
        self._counting = asyncio.Lock()
        self._hashing = asyncio.Semaphore(HASHING)

    # --- making ------------------------------------------------------------------------------------------------

    async def create(
        self, origin: Origin, fields: NewLinkFields, key: str = "", address: str = ""
    ) -> tuple[LinkView, bool]:
        """The link, and whether it is new: with the `key` of an earlier request it is the one of then. Raises
        `LimitExceeded` beside the others."""
        await self._creations.spend(str(origin.user_id or address))
        return await self._create(origin, fields, key)

    async def create_all(
        self, origin: Origin, lines: Sequence[NewLinkFields | codes.CommandError], key: str = ""
    ) -> list[tuple[LinkView, bool] | codes.CommandError]:
        """Each line by itself: what is wrong with one stops no other. What is wrong already is given back as it is."""
        if not 1 <= len(lines) <= MAX_BULK:
            raise codes.BAD_REQUEST.at("/links", f"1 to {MAX_BULK} links are wanted")
        await self._creations.spend(str(origin.user_id), len(lines))

        async def one(number: int, line: NewLinkFields | codes.CommandError) -> tuple[LinkView, bool]:
            if isinstance(line, codes.CommandError):
                raise line
            return await self._create(origin, line, f"{key} {number}" if key else "")

        made = await asyncio.gather(*(one(*line) for line in enumerate(lines)), return_exceptions=True)
        results: list[tuple[LinkView, bool] | codes.CommandError] = []
        for each in made:  # all have ended: nothing is made after the answer
            if isinstance(each, BaseException) and (not isinstance(each, codes.CommandError) or each.temporary):
                raise each
            results.append(each)
        return results

    async def _create(self, origin: Origin, fields: NewLinkFields, key: str) -> tuple[LinkView, bool]:
        new = await self._checked(origin, fields, key)
        if fields.reuse and (link := await self._reusable(origin, new)) is not None:
            return self.view(origin, link), False
        link, made = await self._made(new, wanted=fields.code is not None)
        return self.view(origin, link), made

    async def _checked(self, origin: Origin, fields: NewLinkFields, key: str = "") -> NewLink:
        """What shall be made, under a number that nobody else has."""
        url = self._targets.check(fields.url, host=origin.host)
        title, tags = _title(fields.title), _tags(fields.tags)
        expires_at = _future(fields.expires_at)
        code = custom(fields.code, self._blocked_codes) if fields.code is not None else ""
        password = await self._hashed(fields.password)
        number = await self._number()
        once = None
        if key and origin.user_id is not None:  # nobody's keys would be everybody's
            once = uuid5(origin.user_id, f"link {key}")
        elif fields.reuse and (expires_at, fields.max_visits, password) == (None, None, None):
            once = uuid5(origin.user_id or NOBODY, f"link to {url}")
        return NewLink(
            *(number, code or self._codes.code(number), url, origin.user_id, title, tags, expires_at),
            *(fields.max_visits, password, once),
        )

    async def _made(self, new: NewLink, *, wanted: bool) -> tuple[Link, bool]:
        """The link, and whether it is new."""
        for _ in range(TRIES):
            link = None
            if wanted or not is_offensive(new.short_code):
                link = await asked(self._store.create(new))
            if link is not None:
                if wanted:
                    await self._cache.forget([link.short_code])  # somebody may have looked for it before
                else:
                    await self._cache.put([link])
                return link, link.id == new.id
            if wanted:
                raise codes.CONFLICT.saying("this code is taken")
            number = await self._number()
            new = new._replace(id=number, short_code=self._codes.code(number))
        raise codes.INTERNAL

    async def _reusable(self, origin: Origin, new: NewLink) -> Link | None:
        """Of plain links: nobody asks for a second one with a password and means the first without."""
        if (new.expires_at, new.max_visits, new.password_hash) != (None, None, None):
            return None
        return await asked(self._store.by_target(origin.user_id, new.original_url))

    async def _number(self) -> int:
        while not self._numbers:
            async with self._counting:
                if not self._numbers:
                    self._numbers = (await asked(self._store.ids(NUMBERS)))[::-1]
        return self._numbers.pop()

    async def _hashed(self, password: str | None, pointer: str = "/password") -> str | None:
        if password is None:
            return None
        if not 1 <= len(password) <= MAX_PASSWORD:
            raise codes.BAD_REQUEST.at(pointer, f"a password has 1 to {MAX_PASSWORD} characters")
        async with self._hashing:
            return await self._passwords.hash(password)

    # --- reading -----------------------------------------------------------------------------------------------

    async def get(self, origin: Origin, code: str) -> LinkView:
        return self.view(origin, await self.own(origin, code))

    async def own(self, origin: Origin, code: str) -> Link:
        """A link of theirs; an admin's are all."""
        link = await asked(self._store.get(code)) if len(code) <= 10 else None
        if link is None or link.deleted_at is not None or not _may(origin, link):
            raise NO_LINK("there is no such link")
        return link

    async def list(
        self, origin: Origin, *, words: str = "", tag: str = "", after: str | None = None, limit: int = MAX_PAGE
    ) -> LinkPage:
        """Newest first."""
        assert origin.user_id is not None
        for text, pointer in ((words, "/query"), (tag, "/tag")):
            printable(text, pointer)
        place = place_of(after, tuple[Annotated[int, Meta(ge=1, le=2**63 - 1)]], "after")
        found = await asked(
            self._store.list(
                origin.user_id,
                before=place[0] if place else None,
                tag=tag or None,
                words=words or None,
                limit=limit + 1,
            )
        )
        following = bookmark(found[limit - 1].id) if len(found) > limit else ""
        return LinkPage([self.view(origin, link) for link in found[:limit]], following)

    def view(self, origin: Origin, link: Link) -> LinkView:
        ending = ending_of(link, self._targets)
        return LinkView(
            code=link.short_code,
            short_url=f"{origin.base}/s/{link.short_code}",
            original_url=link.original_url,
            title=link.title,
            tags=link.tags,
            state=STATES[ending] if ending is not None else "active",
            created_at=link.created_at,
            updated_at=link.updated_at,
            expires_at=link.expires_at,
            max_visits=link.max_visits,
            visits=link.visits if link.max_visits is not None else None,
            password=link.password_hash is not None,
            click_count=link.click_count,
            bot_count=link.bot_count,
            version=link.version,
        )

    # --- changing ----------------------------------------------------------------------------------------------

    async def update(self, origin: Origin, code: str, fields: LinkFields, check: Check) -> LinkView:
        """From when it returns, everybody is led by the new values; by a node that cannot be told, 5 s later."""
        await self.own(origin, code)
        changes: dict[str, object] = {}
        if fields.url is not UNSET:
            changes["original_url"] = self._targets.check(fields.url, host=origin.host)
        if fields.title is not UNSET:
            changes["title"] = _title(fields.title)
        if fields.tags is not UNSET:
            changes["tags"] = _tags(fields.tags)
        if fields.expires_at is not UNSET:
            changes["expires_at"] = _future(fields.expires_at)
        if fields.max_visits is not UNSET:
            changes["max_visits"] = fields.max_visits
        if fields.password is not UNSET:
            changes["password_hash"] = await self._hashed(fields.password)
        async with self._changing(origin, code) as change:
            check(change.link.version)
            if fields.disabled is not UNSET and fields.disabled != (change.link.disabled_at is not None):
                changes["disabled_at"] = datetime.now(UTC) if fields.disabled else None
            if changes:
                changed = msgspec.structs.replace(change.link, **changes)
                if not _is_same_to_all(change.link, changed):
                    changed = msgspec.structs.replace(changed, origin=None)
                await change.update(changed)
                await _note(origin, change, "link.updated")
        return self.view(origin, change.link)

    async def delete(self, origin: Origin, code: str) -> None:
        """Its code will not lead anywhere else; its target and its clicks are forgotten."""
        await self.own(origin, code)
        async with self._changing(origin, code) as change:
            await _note(origin, change, "link.deleted")
            await change.delete()

    @asynccontextmanager
    async def _changing(self, origin: Origin, code: str) -> AsyncIterator[LinkChange]:
        """One's link, locked. Forgotten by the caches whatever comes: an error does not say that nothing was
        committed."""
        try:
            with database():
                async with self._store.changing(code) as change:
                    if change is None or not _may(origin, change.link):
                        raise NO_LINK("there is no such link")
                    yield change
        finally:
            await self._cache.forget([code])


def _may(origin: Origin, link: Link) -> bool:
    return origin.is_admin or (origin.user_id is not None and link.user_id == origin.user_id)


async def _note(origin: Origin, change: LinkChange, act: str) -> None:
    """An admin who changes another's link is on record."""
    if origin.user_id is not None and change.link.user_id != origin.user_id:
        await change.note(origin.user_id, act)


def _is_same_to_all(old: Link, new: Link) -> bool:
    return (
        old.original_url == new.original_url
        and new.disabled_at is None
        and new.expires_at is None
        and (new.max_visits is None and new.password_hash is None)
    )


def _title(text: str) -> str:
    text = text.strip()
    if len(text) > MAX_TITLE:
        raise codes.BAD_REQUEST.at("/title", f"a title has at most {MAX_TITLE} characters")
    printable(text, "/title")
    return text


def _tags(tags: list[str]) -> tuple[str, ...]:
    """Each once, in the order given."""
    if len(tags) > MAX_TAGS:
        raise codes.BAD_REQUEST.at("/tags", f"at most {MAX_TAGS} tags are wanted")
    for place, tag in enumerate(tags):
        if not 1 <= len(tag.strip()) <= MAX_TAG:
            raise codes.BAD_REQUEST.at(f"/tags/{place}", f"a tag has 1 to {MAX_TAG} characters")
        printable(tag, f"/tags/{place}")
    return tuple(dict.fromkeys(tag.strip() for tag in tags))


def _future(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise codes.BAD_REQUEST.at("/expires_at", "a time with its offset from UTC is wanted")
    now = datetime.now(UTC)
    if moment <= now:
        raise codes.BAD_REQUEST.at("/expires_at", "a time in the future is wanted")
    if moment.year > now.year + 100:
        raise codes.BAD_REQUEST.at("/expires_at", "a time within a hundred years is wanted")
    return moment.astimezone(UTC)
