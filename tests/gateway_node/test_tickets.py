from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.services.tickets import BadTicket, Tickets
from gateway_node.tokens import TokenVerifier, mint_connection
from realtime import codes

SECRET = "a secret of more than thirty-two bytes"
FILE, USER = uuid4(), uuid4()


def test_a_ticket_stands_for_a_user_and_a_file_until_it_is_over() -> None:
    now = 1000.0
    tickets = Tickets(SECRET, clock=lambda: now)
    ticket, expires = tickets.issue(FILE, USER, 60)
    assert expires == 1060
    assert tickets.bearer(ticket, FILE) == USER
    with pytest.raises(BadTicket):
        tickets.bearer(ticket, uuid4())
    now = 1060.0
    with pytest.raises(BadTicket):
        tickets.bearer(ticket, FILE)


def test_nobody_changes_a_ticket() -> None:
    tickets = Tickets(SECRET, clock=lambda: 1000.0)
    user, expires, signature = tickets.issue(FILE, USER, 60)[0].split(".")
    for changed in (
        f"{uuid4().hex}.{expires}.{signature}",
        f"{user}.{int(expires) + 1}.{signature}",
        f"{user}.0{expires}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{user}.{expires}",
        f"{user}.{expires}.{signature}.",
        "",
    ):
        with pytest.raises(BadTicket):
            tickets.bearer(changed, FILE)
    with pytest.raises(BadTicket):
        Tickets("another secret of more than thirty-two bytes").bearer(f"{user}.{expires}.{signature}", FILE)


def test_a_ticket_is_no_token_and_a_token_no_ticket() -> None:
    tickets = Tickets(SECRET)
    ticket, _ = tickets.issue(FILE, USER, 60)
    with pytest.raises(codes.DisconnectError):
        TokenVerifier(SECRET).connection(ticket)
    with pytest.raises(BadTicket):
        tickets.bearer(mint_connection(SECRET, str(USER), ttl=60), FILE)


@given(st.text())
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(BadTicket):
        Tickets(SECRET).bearer(text, FILE)
