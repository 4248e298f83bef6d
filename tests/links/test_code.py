"""Codes: base62, a permutation that hides the order, and what nobody may have."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.services.links.code import ALPHABET, MAX_CODE, SPACE, Codes, custom, encode_base62, is_offensive
from realtime import codes

CODES = Codes("the secret of this installation, which is long")


@pytest.mark.parametrize(
    ("number", "code"),
    [(0, "0"), (9, "9"), (10, "a"), (35, "z"), (36, "A"), (61, "Z"), (62, "10"), (3843, "ZZ"), (3844, "100")],
)
def test_base62_is_the_one_of_the_alphabet(number: int, code: str) -> None:
    assert ALPHABET == "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert encode_base62(number) == code


@given(st.integers(0, 2**70))
def test_base62_can_be_read_back(number: int) -> None:
    value = 0
    for digit in encode_base62(number):
        value = value * 62 + ALPHABET.index(digit)
    assert value == number


def test_a_negative_number_has_no_code() -> None:
    with pytest.raises(ValueError, match="negative"):
        encode_base62(-1)


@given(st.sets(st.integers(0, SPACE - 1), min_size=2, max_size=50))
def test_no_two_numbers_have_one_code(numbers: set[int]) -> None:
    assert len({CODES.code(number) for number in numbers}) == len(numbers)


@given(st.integers(0, SPACE - 1))
def test_codes_have_at_most_seven_characters(number: int) -> None:
    assert 1 <= len(CODES.code(number)) <= 7


def test_the_order_cannot_be_seen() -> None:
    permuted = [CODES.permute(number) for number in range(1000)]
    steps = {later - earlier for earlier, later in pairwise(permuted)}
    assert len(steps) == 999
    ups = sum(step > 0 for step in steps)
    assert 400 < ups < 600  # by chance, one in 10^9 of all secrets would fail


def test_another_secret_gives_other_codes_and_the_same_one_the_same() -> None:
    assert Codes("a").code(7) == Codes("a").code(7) != Codes("b").code(7)


@pytest.mark.parametrize("number", [-1, SPACE])
def test_there_are_62_to_the_7_codes(number: int) -> None:
    with pytest.raises(ValueError, match="no more codes"):
        CODES.permute(number)


@pytest.mark.parametrize("code", ["a", "Algebra-1", "x" * MAX_CODE, "0", "my_link"])
def test_custom_codes(code: str) -> None:
    assert custom(code) == code


@pytest.mark.parametrize("code", ["", "x" * (MAX_CODE + 1), "a b", "a/b", "é", "a\n", "a.b", "<b>"])
def test_custom_codes_that_cannot_be(code: str) -> None:
    with pytest.raises(codes.CommandError) as refused:
        custom(code)
    assert refused.value.pointer == "/code"


@pytest.mark.parametrize("code", ["admin", "API", "Login", "staff", "Fuck-you", "sh1t", "a55hole", "f-u-c-k"])
def test_reserved_and_offensive_codes(code: str) -> None:
    with pytest.raises(codes.CommandError):
        custom(code, frozenset({"staff"}))


@pytest.mark.parametrize("code", ["analysis", "grape", "Algebra", "physics", "Essex"])
def test_what_only_looks_like_it(code: str) -> None:
    assert not is_offensive(code)
