import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.latency import HIGHEST, BadHistogram, Histogram, summary

COUNTS = st.dictionaries(st.integers(1, HIGHEST), st.integers(1, 1_000_000), min_size=1, max_size=50)


def histogram(counts: dict[int, int]) -> Histogram:
    made = Histogram()
    made.add_counts(counts)
    return made


def nearest_rank(counts: dict[int, int], share: float) -> float:
    wanted, reached = max(1, int(sum(counts.values()) * share + 0.5)), 0
    for value in sorted(counts):
        reached += counts[value]
        if reached >= wanted:
            return value / 1e3
    raise AssertionError


def test_percentiles_of_a_thousand_milliseconds() -> None:
    found = histogram({n * 1000: 1 for n in range(1, 1001)}).percentiles()
    assert found.count == 1000
    expected = {"p50_ms": 500, "p90_ms": 900, "p99_ms": 990, "p999_ms": 999, "max_ms": 1000, "mean_ms": 500.5}
    for name, value in expected.items():
        assert math.isclose(getattr(found, name), value, rel_tol=1e-3), name


def test_short_waits_are_exact() -> None:
    found = histogram({1: 98, 700: 1, 1999: 1}).percentiles()
    assert (found.p50_ms, found.p99_ms, found.max_ms, found.mean_ms) == (0.001, 0.7, 1.999, 0.028)


def test_nothing_recorded() -> None:
    empty = Histogram()
    found = empty.percentiles()
    assert (found.count, found.mean_ms, found.p50_ms, found.max_ms) == (0, 0, 0, 0)
    assert Histogram.decode(empty.encode()).percentiles() == found
    assert summary({}) == (0, 0, 0)


def test_what_is_out_of_range_counts_at_its_end() -> None:
    made = Histogram()
    made.record(-5.0)
    made.record(0.2)
    made.record(HIGHEST * 10)
    assert made.percentiles().p50_ms == 0.001
    assert math.isclose(made.percentiles().max_ms, HIGHEST / 1e3, rel_tol=1e-3)
    assert made.count == 3


def test_adding_an_empty_one_leaves_the_least_value() -> None:
    made = histogram({500: 1})
    made.add(Histogram())
    assert [*made.recorded()] == [(500, 1)]


@settings(deadline=None)
@given(COUNTS)
def test_percentiles_are_within_a_thousandth(counts: dict[int, int]) -> None:
    found = histogram(counts).percentiles()
    for name, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0)):
        exact = nearest_rank(counts, share)
        assert exact <= getattr(found, name) <= exact * 1.001, name


@settings(deadline=None)
@given(COUNTS)
def test_the_summary_is_exact(counts: dict[int, int]) -> None:
    assert summary(counts) == (nearest_rank(counts, 0.5), nearest_rank(counts, 0.99), max(counts) / 1e3)


@settings(deadline=None, max_examples=30)
@given(COUNTS, COUNTS)
def test_parts_and_encodings_give_the_same_as_the_whole(some: dict[int, int], more: dict[int, int]) -> None:
    whole = histogram(some)
    whole.add_counts(more)
    parts = Histogram.decode(histogram(some).encode())
    parts.add(Histogram.decode(histogram(more).encode()))
    assert parts.percentiles() == whole.percentiles()
    assert [*parts.recorded()] == [*whole.recorded()]
    assert Histogram.decode(whole.encode()).percentiles() == whole.percentiles()


@settings(deadline=None)
@given(st.one_of(st.text(max_size=40), st.integers(0, 55).map(lambda end: histogram({9: 1}).encode()[:end])))
def test_nonsense_is_refused(encoded: str) -> None:
    with pytest.raises(BadHistogram):
        Histogram.decode(encoded)


def test_another_range_is_refused() -> None:
    from hdrh.histogram import HdrHistogram

    with pytest.raises(BadHistogram, match="another range"):
        Histogram.decode(HdrHistogram(1, 1000, 2).encode().decode())
