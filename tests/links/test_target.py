"""Where a link may lead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.services.links.target import MAX_URL, Targets
from realtime import codes

RULES = Targets(blocked=frozenset({"evil.example"}), base="https://go.example.org")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.org", "https://example.org/"),
        ("HTTP://EXAMPLE.org:80/A?b=c#d", "http://example.org/A?b=c#d"),
        ("  https://example.org/x  ", "https://example.org/x"),
        ("https://example.org/ü?q=é", "https://example.org/%C3%BC?q=%C3%A9"),
        ('https://example.org/<script>"', "https://example.org/%3Cscript%3E%22"),
        ("https://93.184.215.14/x", "https://93.184.215.14/x"),
        ("http:\\\\example.org\\x", "http://example.org/x"),
    ],
)
def test_addresses_are_kept_as_browsers_read_them(url: str, kept: str) -> None:
    assert RULES.check(url) == kept


def test_a_look_alike_shows_itself() -> None:
    assert RULES.check("https://аррӏе.com/") == "https://xn--80ak6aa92e.com/"  # noqa: RUF001


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org", "/path", "//example.org", "javascript:alert(1)", "data:text/html,x", "ftp://example.org"),
        *("file:///etc/passwd", "mailto:a@example.org", "https://", "https:///x y", "http://exa mple.org"),
        *("https://user@example.org", "https://user:password@example.org", "https://:p@example.org"),
        *("https://example.org/\n", "https://exam\tple.org", "https://example.org/\0", "https://example.org/\u2028"),
        *("http://10.0.0.1", "http://127.1", "http://0x7f000001", "http://2130706433", "http://[::1]", "http://0"),
        *("http://[::ffff:192.168.0.1]", "http://169.254.169.254/meta", "http://[fe80::1]", "http://224.0.0.1"),
        *("http://[2002:0a00:0001::]", "http://localhost", "http://LOCALHOST.", "http://router.lan", "http://db"),
        *("http://x.internal/", "https://evil.example", "https://www.EVIL.example./x", "https://a.b.evil.example"),
        *("https://me.example:8000/s/abc", "https://go.example.org/s/abc", "https://example.org/" + "x" * MAX_URL),
        "https://example.org/" + "ü" * (MAX_URL // 3),
        # IPv4 within IPv6: translated (RFC 6052), compatible (RFC 4291), and what was site-local.
        *("http://[64:ff9b::10.0.0.1]", "http://[::127.0.0.1]", "http://[::ffff:0:10.0.0.1]", "http://[fec0::1]"),
        *("http://localhost.localdomain", "http://１２７.1", "http://0177.0.0.1./"),  # noqa: RUF001
        # Short links of this server, in other words.
        *("https://go.example.org./s/x", "https://go.example.org/%73/x", "https://go.example.org/s%2Fx"),
        *("https://go.example.org//s/x", "https://go.example.org/x/..//s//x"),
        *("http://go.example.org:443/s/x", "https://me.example.:8000/s/x"),
    ],
)
def test_what_no_link_leads_to(url: str) -> None:
    with pytest.raises(codes.CommandError) as refused:
        RULES.check(url, host="me.example:8000")
    assert refused.value.pointer == "/url"
    assert refused.value.code == codes.BAD_REQUEST.code


@pytest.mark.parametrize("host", ["me.example", "me.example:80", "me.example:443", "ME.example."])
def test_a_short_link_of_this_server_whatever_its_port_is_called(host: str) -> None:
    with pytest.raises(codes.CommandError):
        RULES.check("https://me.example/s/x", host=host)


def test_other_pages_of_this_server_are_fine() -> None:
    assert RULES.check("https://me.example:8000/docs", host="me.example:8000")
    assert RULES.check("https://me.example/s/x", host="[::1")  # a Host that is none


def test_private_addresses_by_setting() -> None:
    assert Targets(private=True).check("http://10.0.0.1/x") == "http://10.0.0.1/x"
    assert Targets(private=True).check("http://localhost:8000/") == "http://localhost:8000/"


def test_a_domain_that_was_fine_once() -> None:
    assert RULES.blocks("https://www.evil.example/x")
    assert RULES.blocks("https://evil.example./x")
    assert not RULES.blocks("https://notevil.example/x")


@given(st.text(max_size=300))
def test_whatever_comes_there_is_an_answer(url: str) -> None:
    try:
        kept = RULES.check(url)
    except codes.CommandError:
        return
    assert kept.startswith(("http://", "https://"))
    assert kept.isascii()
    assert not set(kept) & {"\r", "\n", " ", "<", ">", '"'}
