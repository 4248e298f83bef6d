from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.http.ranges import RangeNotSatisfiable, part_of

TAG = '"abc"'


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes= 5 - 6", (5, 7)),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=9-5", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0x1-2", None),
        ("bytes=٣-٤", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_a_single_range_and_nothing_else(wanted: str, part: tuple[int, int] | None) -> None:
    assert part_of(100, wanted, "", TAG) == part


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=9999999999999999999-", "bytes=-0"])
def test_what_lies_beyond_the_end(wanted: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        part_of(100, wanted, "", TAG)
    assert refused.value.headers == {"Content-Range": "bytes */100"}


def test_a_part_of_another_version_is_none() -> None:
    assert part_of(100, "bytes=1-2", TAG, TAG) == (1, 3)
    for other in ('"abd"', f"W/{TAG}", "Sun, 06 Nov 1994 08:49:37 GMT"):
        assert part_of(100, "bytes=1-2", other, TAG) is None
        assert part_of(100, "bytes=200-", other, TAG) is None


@given(st.integers(1, 10**12), st.text(alphabet="bytes=0123456789-, ", max_size=30))
def test_a_part_lies_within(size: int, wanted: str) -> None:
    try:
        part = part_of(size, wanted, "", TAG)
    except RangeNotSatisfiable:
        return
    if part is not None:
        assert 0 <= part[0] < part[1] <= size
