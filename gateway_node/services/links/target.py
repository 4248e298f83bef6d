"""Where a short link may lead.

Addresses are read as browsers read them (WHATWG URL, by Ada), because browsers follow them: a backslash, `0x7f.1` and a
host in mixed scripts become what they are. The host is kept in ASCII, so that a look-alike of a known name shows itself
as `xn--…` wherever the link is shown.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import ada_url

from realtime import codes

MAX_URL = 8192  # bytes, as it was given and as it is kept

_CONTROLS = frozenset(chr(number) for number in (*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029))
_OWN_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa", "lan")
_DEFAULT_PORTS = ("", "80", "443")  # of one server: the proxy before it speaks both


@dataclass(frozen=True, slots=True)
class Targets:
    """The rules. `blocked`: domains, with everything below them; `private`: whether private addresses are fine;
    `base`: the address under which this server is known, where it is configured."""

    blocked: frozenset[str] = frozenset()
    private: bool = False
    base: str = ""

    def check(self, url: str, *, host: str = "", pointer: str = "/url") -> str:
        """The address as it will be sent to browsers. `host`: the one that the request was sent to.

        Raises error 107 at `pointer`.
        """

        def refuse(why: str) -> codes.CommandError:
            return codes.BAD_REQUEST.at(pointer, why)

        url = url.strip(" ")
        if len(url) > MAX_URL or len(url.encode("utf-8", "replace")) > MAX_URL:
            raise refuse(f"an address has at most {MAX_URL} bytes")
        if _CONTROLS.intersection(url):
            raise refuse("control characters and line breaks have no place in an address")
        try:
            parsed = ada_url.URL(url)
        except ValueError:
            raise refuse("an http or https address is wanted, with its scheme") from None
        if parsed.protocol not in ("http:", "https:"):
            raise refuse("an http or https address is wanted")
        if parsed.username or parsed.password:
            raise refuse("a user name or a password has no place in an address that others get")
        name = parsed.hostname.rstrip(".")
        if not name:
            raise refuse("the address has no host")
        if self.is_blocked(name):
            raise refuse("links to this domain are not made here")
        if not self.private and is_private(name):
            raise refuse("the address is one of a private network")
        if _is_short(parsed.pathname) and _place(parsed) in {_place_of(f"http://{host}"), _place_of(self.base)}:
            raise refuse("the address is a short link of this server")
        if len(parsed.href) > MAX_URL:
            raise refuse(f"an address has at most {MAX_URL} bytes, with its special characters escaped")
        return str(parsed.href)

    def is_blocked(self, name: str) -> bool:
        """Whether a host is one of the blocked domains or below one."""
        labels = name.lower().rstrip(".").split(".")
        return any(".".join(labels[start:]) in self.blocked for start in range(len(labels)))

    def blocks(self, url: str) -> bool:
        """The same of an address that was fine once."""
        return bool(self.blocked) and self.is_blocked(urlsplit(url).hostname or "")


def is_private(name: str) -> bool:
    """An address that leads nowhere from the public network, or a name that is such a network's own.

    Names are not looked up: this server never goes there itself, and what a name means can change any time.
    """
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." not in name or name.endswith(tuple(f".{own}" for own in _OWN_NAMES))
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return not inner.is_global
        if address.is_reserved or address.is_site_local:  # none of the network's: some carry any IPv4 (`64:ff9b::`)
            return True
    return not address.is_global or address.is_multicast


def _is_short(path: str) -> bool:
    """Whether this server takes it for one of a short link, as it does `/%73/x` and `//s/x`."""
    return unquote(path).lstrip("/").startswith("s/")


def _place(url: ada_url.URL) -> tuple[str, str]:
    return url.hostname.rstrip("."), "" if url.port in _DEFAULT_PORTS else url.port


def _place_of(address: str) -> tuple[str, str] | None:
    try:
        return _place(ada_url.URL(address))
    except ValueError:
        return None  # not configured, or a Host that is none
