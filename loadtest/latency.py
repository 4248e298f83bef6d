# mypy: disable-error-code="import-untyped"
"""Latency in HdrHistograms: microseconds from 1 us to 1 hour, to three digits (a value shows at most 0.1 % too high).

Measure from the *intended* send time. A value beyond the range is counted at its end, never left out.

Source of the format: https://github.com/HdrHistogram/HdrHistogram (V2, compressed, base64).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Self

from hdrh.histogram import HdrHistogram

from loadtest.report.model import Latency, Percentiles

LOWEST = 1  # microseconds
HIGHEST = 3_600_000_000
DIGITS = 3


class BadHistogram(ValueError):
    """Not an HdrHistogram, or one of another range than this module's."""


class Histogram:
    """Counts of waiting times: 188 KB however many. `record` and each entry of `add_counts` cost 0.8 us."""

    def __init__(self) -> None:
        self._counts = HdrHistogram(LOWEST, HIGHEST, DIGITS)

    @property
    def count(self) -> int:
        return int(self._counts.total_count)

    def record(self, microseconds: float, count: int = 1) -> None:
        self._counts.record_value(min(max(round(microseconds), LOWEST), HIGHEST), count)

    def add_counts(self, counts: Mapping[int, int]) -> None:
        """Add events that a worker has counted by their microseconds in a plain dict."""
        for microseconds, count in counts.items():
            self.record(microseconds, count)

    def add(self, other: Histogram) -> None:
        if other.count:  # the library takes an empty one's least value for a real 0
            self._counts.add(other._counts)

    def percentiles(self) -> Percentiles:
        """All 0 when nothing was recorded. The same numbers come from the encoded histogram. Takes 5 ms."""
        if not self.count:
            return Percentiles(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        at = self._counts.get_percentile_to_value_dict([50, 90, 99, 99.9, 100])
        p50, p90, p99, p999, top = (at[percentile] / 1e3 for percentile in (50, 90, 99, 99.9, 100))
        mean = sum(value * count for value, count in self.recorded()) / self.count / 1e3
        return Percentiles(self.count, round(mean, 4), p50, p90, p99, p999, top)

    def recorded(self) -> Iterator[tuple[int, int]]:
        """Each value that was seen (the upper end of its bucket, in microseconds) with its count, rising."""
        for index, count in enumerate(self._counts.counts):
            if count:
                yield self._counts.get_highest_equivalent_value(self._counts.get_value_from_index(index)), count

    def encode(self) -> str:
        return str(self._counts.encode().decode())

    def latency(self) -> Latency:
        """As a report keeps it."""
        return Latency(self.percentiles(), self.encode())

    @classmethod
    def decode(cls, encoded: str) -> Self:
        """Raises `BadHistogram`."""
        try:
            counts = HdrHistogram.decode(encoded)
        except Exception as error:  # of base64, zlib, struct and three kinds of the library
            raise BadHistogram(f"not an HdrHistogram: {error}") from None
        if (counts.lowest_trackable_value, counts.highest_trackable_value, counts.significant_figures) != (
            LOWEST,
            HIGHEST,
            DIGITS,
        ):
            raise BadHistogram("an HdrHistogram of another range")
        made = cls()
        made._counts = counts
        return made


def summary(counts: Mapping[int, int]) -> tuple[float, float, float]:
    """p50, p99 and the maximum in milliseconds of events counted by their microseconds, as a `Moment` has them.

    Exact (nearest rank), and without a histogram: for one second of a worker. Nothing counted gives zeros.
    """
    values = sorted(counts)
    if not values:
        return 0.0, 0.0, 0.0
    reached = list(accumulate(counts[value] for value in values))

    def at(share: float) -> float:
        return values[bisect_left(reached, max(1, int(reached[-1] * share + 0.5)))] / 1e3

    return at(0.5), at(0.99), values[-1] / 1e3
