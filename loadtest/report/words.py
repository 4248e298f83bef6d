"""Numbers as people read them: 1,234,567; 1.2 M; 3.46 ms; 7.5 GiB."""

from __future__ import annotations

import math
import re

NONE = "-"


def number(value: float) -> str:
    """Exact where it is whole, else four digits."""
    if not math.isfinite(value):
        return NONE
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.{_places(value)}f}"


def short(value: float) -> str:
    """Three digits and a prefix: for axes and tiles."""
    for limit, unit, name in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if abs(value) >= limit:
            return f"{value / unit:.3g}{name}"
    return number(value) if value == int(value) else f"{value:,.{min(_places(value, 3), 3)}f}"


def milliseconds(value: float) -> str:
    """A waiting time: 3 us, 0.52 ms, 34.1 ms, 2.31 s."""
    if value >= 1000:
        return f"{value / 1000:,.{_places(value / 1000, 3)}f} s"
    if 0 < value < 0.1:
        return f"{value * 1000:.3g} µs"
    return f"{value:.{_places(value, 3)}f} ms" if value else "0 ms"


def seconds(value: float) -> str:
    """A length of time: 0.8 s, 42 s, 12 min 5 s, 2 h 3 min."""
    if value < 60:
        return f"{value:.3g} s"
    whole = round(value)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if minutes else []
    parts += [f"{rest} s"] if rest and not hours else []
    return " ".join(parts)


def size(value: float) -> str:
    """Bytes: 512 B, 3.4 KiB, 7.5 GiB."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(value) >= 1024**power:
            scaled = value / 1024**power
            return f"{scaled:.{_places(scaled, 3)}f} {unit}"
    return f"{value:.0f} B"


def round_number(words: str) -> str:
    """The label of an axis, without the zeros that a measured number has: 5 GiB, not 5.00 GiB."""
    return "0" if words.split(" ", 1)[0] == "0" else re.sub(r"\.0+(?=\D|$)|(\.\d*[1-9])0+(?=\D|$)", r"\1", words)


def measured(name: str, value: float) -> str:
    """A fact with its unit, which its name tells."""
    if name.endswith("_ms"):
        return milliseconds(value)
    if name.endswith("_per_second"):
        return f"{short(value)}/s"
    if "_us_" in name:
        return milliseconds(value / 1000)
    if name.endswith("_seconds"):
        return seconds(value)
    if "bytes" in name:
        return size(value)
    return number(value)


def with_unit(value: float, unit: str) -> str:
    """A measured number with the unit of its budget."""
    if unit == "ms":
        return milliseconds(value)
    if unit in ("B", "bytes"):
        return size(value)
    shown = short(value) if abs(value) >= 1e6 else number(value)
    return f"{shown}{unit}" if unit.startswith("/") else f"{shown} {unit}".strip()


def readable(name: str) -> str:
    """`publish_p99_ms` as a heading: publish p99."""
    name = re.sub(r"_(ms|seconds)$", "", name)
    for code, words in (("_us_per_", "_per_"), ("bytes", "memory"), ("p999", "p99.9"), ("_", " ")):
        name = name.replace(code, words)
    return name


def kind(name: str) -> str:
    """What a process is, without its number: node-12 is a node."""
    return re.sub(r"[\s_#-]*\d+$", "", name) or name


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _places(value: float, digits: int = 4) -> int:
    """Decimal places that leave so many digits."""
    if not value:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))
