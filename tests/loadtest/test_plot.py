"""Scales and series: what is drawn is where it belongs."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.latency import Histogram
from loadtest.report import series, words
from loadtest.report.markup import e, html
from loadtest.report.model import Moment, Process, ProcessSample
from loadtest.report.plot import HEIGHT, WIDTH, Area, Line, Plot, Scale, Span, clock, linear, logarithmic

POSITIVE = st.floats(1e-6, 1e12, allow_nan=False)


@given(POSITIVE, st.sampled_from([1.0, 1024.0**2]))
def test_a_linear_scale_holds_its_values_in_few_round_steps(high: float, unit: float) -> None:
    scale = linear(high, unit=unit)
    assert scale.low == 0 and scale.high >= high * (1 - 1e-6)
    assert 2 <= len(scale.ticks) <= 6
    mantissa = float(f"{scale.ticks[1].value / unit:.6e}".split("e")[0])
    assert mantissa in (1, 2, 2.5, 5)
    assert scale.at(0) == 0 and math.isclose(scale.at(scale.high), 1)


@given(POSITIVE, st.floats(1, 1e6))
def test_a_logarithmic_scale_is_whole_decades(low: float, times: float) -> None:
    scale = logarithmic(low, low * times)
    assert scale.low <= low * (1 + 1e-6) and low * times <= scale.high * (1 + 1e-6)
    assert math.isclose(math.log10(scale.high / scale.low) % 1, 0, abs_tol=1e-6) or math.isclose(
        math.log10(scale.high / scale.low) % 1, 1, abs_tol=1e-6
    )
    assert math.isclose(scale.at(math.sqrt(scale.low * scale.high)), 0.5)
    assert scale.at(0) == 0 and scale.at(1e300) == 1  # beyond the ends: at the end


@given(st.floats(0, 1e6))
def test_a_clock_has_few_ticks(end: float) -> None:
    ticks = clock(end).ticks
    assert 1 <= len(ticks) <= 9
    assert ticks[0].label == "0"


def test_lines_have_gaps_and_stay_on_the_drawing() -> None:
    points = [(0.0, 5.0), (1.0, None), (2.0, 5000.0), (3.0, 0.0), (4.0, 7.0), (5.0, 8.0)]
    plot = Plot("p", clock(5), logarithmic(1, 100), [Line("a", points, 0)], phases=[Span("x", 0, 2)])
    drawing = html(plot.figure())
    (path,) = re.findall(r'<g class="line c0">.*?<path d="([^"]+)"', drawing)
    assert path.count("M") == 3 and path.count("L") == 1
    assert drawing.count("<circle") == 2  # the two that have no neighbour
    for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path):
        assert 0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT
    assert ">x</text>" in drawing


def test_pointing_at_a_place_shows_its_values() -> None:
    area = Area("memory", [0.0, 10.0], [1.0, 1.0], [3.0, 4.0], 0)
    plot = Plot("p", clock(10), linear(4), [Line("a", [(0.0, 1.0), (10.0, 2.0)], 1)], [area], show=words.number)
    drawing = html(plot.svg())
    assert "<title>0 s: a 2, memory 3</title>" in drawing


def test_texts_are_escaped() -> None:
    assert html(e("p", "<b>&", e("i", title='"><script>'), "</p>", None, class_="x", data_x=1)) == (
        '<!doctype html>\n<p class="x" data-x="1">&lt;b&gt;&amp;<i title="&quot;&gt;<script&gt;"></i>&lt;/p&gt;</p>\n'
    )


def sampled(cpu: list[float]) -> Process:
    samples = [ProcessSample(0.0, 0.0, 0), *(ProcessSample(n + 1.0, used, 0) for n, used in enumerate(cpu))]
    return Process("node-1", 1, "server", sum(cpu), samples)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=900), st.integers(2, 300))
def test_thinning_keeps_the_cpu_that_was_used(cpu: list[float], count: int) -> None:
    places = [len(cpu) * n / count for n in range(count + 1)]
    shown = series.cpu(sampled(cpu), places)
    assert math.isclose(sum(shown[1:]) * len(cpu) / count, sum(cpu), rel_tol=1e-6, abs_tol=1e-6)


def test_memory_lies_between_its_readings() -> None:
    samples = [ProcessSample(float(n), 0.0, {2: 100, 6: 300}.get(n, 0)) for n in range(11)]
    process = Process("nats", 1, "server", 0.0, samples)
    assert series.pss(process, [0.0, 2.0, 4.0, 6.0, 10.0, 20.0]) == [100, 100, 200, 300, 300, 0]
    assert series.pss(Process("x", 1, "server", 0.0, []), [0.0, 1.0]) == [0, 0]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=2000))
def test_rates_add_up_to_the_counts(counts: list[int]) -> None:
    moments = [Moment(n + 1.0, 0, {"published": count}) for n, count in enumerate(counts)]
    points = series.rate(moments, "published")
    assert len(points) <= series.POINTS
    widths = [after - before for before, after in zip([0.0, *(at for at, _ in points)], (at for at, _ in points))]  # noqa: B905
    assert math.isclose(sum(rate * width for (_, rate), width in zip(points, widths, strict=True)), sum(counts))


def test_of_several_seconds_the_worst_is_shown() -> None:
    moments = [Moment(n + 1.0, 0, {}, {"publish": (1.0, 2.0, 9.0 if n == 500 else 3.0)}) for n in range(900)]
    moments[10] = Moment(11.0, 0, {})
    p50, p99, top = series.waiting(moments, "publish")
    assert len(top) == 300
    assert max(value or 0 for _, value in top) == 9
    assert {value for _, value in p50} == {1.0} and {value for _, value in p99} == {2.0}


def test_the_percentile_curve_passes_through_the_percentiles() -> None:
    histogram = Histogram()
    histogram.add_counts({n * 1000: 1 for n in range(1, 1001)})
    curve = series.percentile_curve(histogram)
    scale = Scale(0, 3, [])
    assert curve[0][0] == 0 and math.isclose(curve[-1][0], 3) and scale.at(curve[-1][0]) <= 1
    for nines, value in curve:
        if 0.02 < nines < 2.9:
            assert math.isclose(value, (1 - 10**-nines) * 1000, rel_tol=0.02, abs_tol=1.5)


@given(st.dictionaries(st.integers(1, 10**9), st.integers(1, 1000), min_size=1, max_size=50))
def test_the_bars_are_all_of_it(counts: dict[int, int]) -> None:
    histogram = Histogram()
    histogram.add_counts(counts)
    bars = series.bars(histogram)
    assert math.isclose(sum(share for _, _, share in bars), 1)
    assert bars[0][0] <= min(counts) / 1e3 * 1.001 and bars[-1][1] >= max(counts) / 1e3 * 0.999


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (words.number(1234567), "1,234,567"),
        (words.number(0.123456), "0.1235"),
        (words.short(1_250_000), "1.25 M"),
        (words.short(15000), "15 k"),
        (words.short(9999), "9,999"),
        (words.short(1770.123), "1,770"),
        (words.short(7.5), "7.50"),
        (words.milliseconds(0.003), "3 µs"),
        (words.milliseconds(0.52), "0.520 ms"),
        (words.milliseconds(34.12), "34.1 ms"),
        (words.milliseconds(2310), "2.31 s"),
        (words.milliseconds(0), "0 ms"),
        (words.seconds(0.8), "0.8 s"),
        (words.seconds(725), "12 min 5 s"),
        (words.seconds(7380), "2 h 3 min"),
        (words.size(512), "512 B"),
        (words.size(3482), "3.40 KiB"),
        (words.size(8 << 30), "8.00 GiB"),
        (words.round_number("8.00 GiB"), "8 GiB"),
        (words.round_number("2.50 GiB"), "2.5 GiB"),
        (words.round_number("100 ms"), "100 ms"),
        (words.round_number("0 B"), "0"),
        (words.measured("publish_p99_ms", 8.78), "8.78 ms"),
        (words.measured("connect_seconds", 95), "1 min 35 s"),
        (words.measured("server_bytes_per_connection", 3100), "3.03 KiB"),
        (words.measured("deliveries_per_second", 2_250_000), "2.25 M/s"),
        (words.measured("server_cpu_us_per_delivery", 0.91), "0.91 µs"),
        (words.measured("server_cpu_us_per_message", 2110), "2.11 ms"),
        (words.readable("server_bytes_per_connection"), "server memory per connection"),
        (words.readable("publish_p999_ms"), "publish p99.9"),
        (words.with_unit(15000, "/s"), "15,000/s"),
        (words.with_unit(4096, "bytes"), "4.00 KiB"),
        (words.with_unit(45, "s"), "45 s"),
        (words.kind("node-12"), "node"),
        (words.kind("postgres"), "postgres"),
        (words.kind("7"), "7"),
        (words.plural(1, "fault"), "1 fault"),
        (words.plural(2000, "delivery", "deliveries"), "2,000 deliveries"),
    ],
)
def test_numbers_read_well(found: str, expected: str) -> None:
    assert found == expected
