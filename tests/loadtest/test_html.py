"""The page: complete, escaped, without anything from elsewhere, and small."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.report.html import page, write
from loadtest.report.model import Budget, Fault, Ledger, Report
from tests.loadtest.reports import but, but_channel, made

SMALL = made(seconds=30, readers=5, channels=2)
BIG = made(seconds=900, readers=18_000, channels=55, nodes=54)
EVIL = "</style></title><script>alert('&')</script><img src=x onerror=alert(1)>"
REFERENCES = ("src", "href", "xlink:href", "srcset", "action", "background", "poster", "data")


class Reader(HTMLParser):
    """What is on a page: tags with their attributes, and the text of a reader."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "img"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if self._inside and self._inside[-1] == "style" else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def evil(report: Report) -> Report:
    """Every text that somebody else may choose."""
    return but(
        report,
        scenario=EVIL,
        command=EVIL,
        target=EVIL,
        partial=EVIL,
        options={"channel": EVIL, "plan": {EVIL: [EVIL]}},
        server={"version": EVIL, EVIL: EVIL},
        machine=msgspec.structs.replace(report.machine, processor=EVIL, kernel=EVIL),
        errors={EVIL: 3},
        notes=[EVIL],
        counts={**report.counts, EVIL: 1},
        facts={**report.facts, EVIL: 1.5},
        latency={**report.latency, EVIL: report.latency["publish"]},
        phases=[msgspec.structs.replace(phase, name=EVIL) for phase in report.phases],
        processes=[msgspec.structs.replace(process, name=EVIL) for process in report.processes],
        budgets=[Budget(EVIL, EVIL, "most", 1, "connections", EVIL)],
        ledger=Ledger([msgspec.structs.replace(report.ledger.channels[0], name=EVIL)], [Fault(EVIL, EVIL, EVIL)], 1),
    )


@pytest.mark.parametrize("report", [SMALL, BIG, evil(SMALL)], ids=["small", "big", "evil"])
def test_nothing_comes_from_elsewhere(report: Report) -> None:
    found = Reader(page(report))
    for tag, attributes in found.tags:
        assert tag not in ("script", "img", "iframe", "object", "embed", "link", "base", "form", "image", "use"), tag
        assert not any(name in REFERENCES or name.startswith("on") for name in attributes), (tag, attributes)
    assert len(found.styles) == 1
    assert not re.search(r"url\(|@import|expression", found.styles[0])
    policy = next(each["content"] for tag, each in found.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_what_others_wrote_is_shown_and_never_run() -> None:
    found = Reader(page(evil(SMALL)))
    assert found.count("script") == found.count("img") == 0
    assert found.text.count("<script>alert('&')</script>") > 15


def test_the_page_says_what_the_report_says() -> None:
    text = Reader(page(SMALL)).text
    for words in (
        "Load test: rooms", "2026-11-27 10:15:00 UTC",
        "Ledger clean: 380 acknowledged, 380 stored, 1,900 deliveries",
        "2 of 2 budgets met.", SMALL.command, "fsync", "synchronous commit", "AMD EPYC, 2 CPUs", "at most 4.00 KiB",
        "chat:room-1", "log-writer", "delivery: latency over time", "publish: distribution of 380", "Connections",
        "Deliveries a second", "Server: memory (PSS)", "Kernel memory", "Server and harness share this machine.",
        "talk",
    ):  # fmt: skip
        assert words in text, words
    assert "PARTIAL" not in text
    assert "does not add up" not in text


def test_many_nodes_are_a_band_and_not_lines() -> None:
    text = page(BIG)
    assert len(text.encode()) < 400_000
    found = Reader(text)
    assert "Memory, each of 54 node processes" in found.text
    assert "node-17" not in found.text
    assert found.count("svg") < 20


def test_a_bad_run_says_so_first() -> None:
    bad = but(
        but_channel(SMALL, stored=100),
        partial='stopped in the phase "talk"',
        budgets=[
            Budget("B4", "rate", "least", 1e6, "acknowledged_per_second", "/s"),
            Budget("B6", "x", "most", 1, "y", ""),
        ],
        ledger=Ledger(SMALL.ledger.channels, [Fault("lost", "chat:room-0", "load-3#17")], 5),
        errors={"publish: 100 internal server error": 12},
    )
    text = Reader(page(bad)).text
    assert text.index("PARTIAL") < text.index('stopped in the phase "talk"') < text.index("does not add up")
    assert "Ledger broken: 5 faults." in text
    assert "0 of 2 budgets met; missed: B4; not measured: B6." in text
    assert "load-3#17" in text and "4 more." in text
    assert "12 publish: 100 internal server error" in text


def test_faulty_channels_are_shown_whatever_their_size() -> None:
    channels = [msgspec.structs.replace(SMALL.ledger.channels[0], name=f"chat:{n}", sent=1000 - n) for n in range(300)]
    ledger = Ledger(channels, [Fault("lost", "chat:299", "load-1#1")], 1)
    text = Reader(page(but(SMALL, ledger=ledger))).text
    assert text.index("all 300 channels") < text.index("chat:299") < text.index("chat:0 ")
    assert "280 more channels" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"moments": [], "processes": [], "kernel": [], "phases": [], "latency": {}, "facts": {}, "counts": {},
         "ledger": Ledger([], [], 0), "budgets": [], "notes": [], "server": {}, "options": {}, "seconds": 0.0},
        {"moments": SMALL.moments[:1], "processes": SMALL.processes[:1], "kernel": SMALL.kernel[:1]},
        {"latency": {"publish": msgspec.structs.replace(SMALL.latency["publish"], histogram="none")}},
        {"processes": [msgspec.structs.replace(SMALL.processes[0], samples=[])]},
    ],
)  # fmt: skip
def test_a_report_with_little_in_it_has_a_page(changes: dict[str, Any]) -> None:
    assert Reader(page(but(SMALL, **changes))).count("h1") == 1


def test_the_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write(SMALL, path)
    assert path.read_text(encoding="utf-8") == page(SMALL)
    assert [*tmp_path.iterdir()] == [path]
