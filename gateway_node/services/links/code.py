"""The codes of short links: base62 of a number that a keyed permutation has moved, or what somebody wants.

A sequence gives the numbers, so no two are the same; the permutation scatters them over all of up to seven characters,
so that whoever has a code can guess neither the next one nor how many there are.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from realtime import codes

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPACE = 62**7  # numbers whose base62 has at most seven digits
MAX_CODE = 10  # characters

_HALF = 21  # bits: 2^42 is the next power of four above SPACE, so 1.25 walks reach it
_MASK = (1 << _HALF) - 1
_ROUNDS = 6
_CUSTOM = re.compile(r"[0-9A-Za-z_-]{1,10}")

_RESERVED = """
about account admin api app auth bulk connection courses docs emulation health help home index links live login logout
me metrics new null page ready register root s schema settings signin signup static stats support undefined v1 www
"""
RESERVED = frozenset(_RESERVED.split())
"""Codes that would be taken for something else."""

# Stems, not a dictionary: what would stand out in a link on a slide. `links.blocked_codes` adds to them.
_STEMS = """
anal arsch asshole bastard bitch blowjob boner boob chink cocaine cock coon cunt dick dildo dyke fag fick fuck gook
hitler hure incest jizz kike kkk nazi negro nigga nigger nutte penis piss porn pussy rape schlampe sex shit slut spic
tits twat vagina wank whore wichs
"""
_OFFENSIVE = tuple(_STEMS.split())
_LOOKS = str.maketrans("01345789", "oieastbg", "_-")
_FREE_OF = frozenset({"analysis", "analytics", "analog", "cocktail", "grape", "raspberry", "spice", "sussex", "essex"})


def encode_base62(number: int) -> str:
    """0 is `0`, 61 is `Z`, 62 is `10`. `number` is not negative."""
    if number < 0:
        raise ValueError("a negative number has no code")
    if number == 0:
        return ALPHABET[0]
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


class Codes:
    """Codes of numbers under a key: a balanced Feistel network over 42 bits, walked until it is below `SPACE`.

    The key is the installation's: under another one, earlier codes stay, and a number whose code is taken by one of
    them is passed over.
    """

    def __init__(self, secret: str) -> None:
        self._key = blake2b(secret.encode(), digest_size=32, person=b"short links").digest()

    def code(self, number: int) -> str:
        """The code of a number from 0 to `SPACE` - 1."""
        return encode_base62(self.permute(number))

    def permute(self, number: int) -> int:
        if not 0 <= number < SPACE:
            raise ValueError("there are no more codes of seven characters")
        while True:
            left, right = number >> _HALF, number & _MASK
            for turn in range(_ROUNDS):
                mixed = blake2b(b"%d %d" % (turn, right), digest_size=4, key=self._key).digest()
                left, right = right, left ^ (int.from_bytes(mixed) & _MASK)
            number = left << _HALF | right
            if number < SPACE:
                return number


def custom(code: str, blocked: frozenset[str] = frozenset()) -> str:
    """A code that somebody wants. Raises error 107 at `/code`."""
    if not _CUSTOM.fullmatch(code):
        raise codes.BAD_REQUEST.at("/code", f"1 to {MAX_CODE} characters are wanted: letters, digits, - and _")
    if code.lower() in RESERVED or code.lower() in blocked:
        raise codes.BAD_REQUEST.at("/code", "this code is reserved")
    if is_offensive(code):
        raise codes.BAD_REQUEST.at("/code", "this code could offend")
    return code


def is_offensive(code: str) -> bool:
    """Whether somebody would read an insult in it; letters that look like digits included."""
    lower = code.lower()
    if lower in _FREE_OF:
        return False
    read = lower.translate(_LOOKS)
    return any(stem in lower or stem in read for stem in _OFFENSIVE)
