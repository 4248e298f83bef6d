"""The frames between node and writer, on any input and any cut of the stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from realtime.interfaces import Entry
from storage.log.wire import (
    MAX_FRAME,
    Appends,
    FrameError,
    FrameReader,
    Head,
    Heads,
    Hello,
    Outcome,
    Outcomes,
    Stored,
    decode_entry,
    decode_report,
    decode_request,
    encode,
    encode_entry,
)

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ENTRIES = st.builds(
    Entry,
    channel=TEXT,
    id=st.binary(min_size=16, max_size=16),
    sender=TEXT,
    data=st.binary(),
    type=TEXT,
    info=st.binary(),
    tags=st.binary(),
    history_size=INT64,
    history_ttl=INT64,
    counted=st.booleans(),
    mentions=st.lists(TEXT).map(tuple),
    search=TEXT,
    target=st.binary(),
)
STORED = st.builds(Stored, st.binary(), st.none() | st.binary(), st.none() | st.binary())
OUTCOMES = st.builds(Outcome, INT64, INT64, INT64, TEXT, INT64, st.none() | STORED, TEXT)
REPORTS = st.builds(Outcomes, st.lists(OUTCOMES)) | st.builds(
    Heads, INT64, st.lists(st.builds(Head, TEXT, INT64, TEXT))
)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.lists(ENTRIES, max_size=3), max_size=4), st.lists(st.integers(0, 10_000)))
def test_requests_survive_any_cut(batches: list[list[Entry]], places: list[int]) -> None:
    sent = [Appends(list(range(len(batch))), [Raw(encode_entry(each)) for each in batch]) for batch in batches]
    stream = encode(Hello(7)) + b"".join(map(encode, sent))
    reader = FrameReader()
    hello, *got = [decode_request(frame) for part in cut(stream, places) for frame in reader.feed(part)]
    assert hello == Hello(7)
    assert [[decode_entry(raw) for raw in each.entries] for each in got if isinstance(each, Appends)] == batches


@given(st.lists(REPORTS, max_size=4), st.lists(st.integers(0, 10_000)))
def test_reports_survive_any_cut(reports: list[Outcomes | Heads], places: list[int]) -> None:
    reader = FrameReader()
    stream = b"".join(map(encode, reports))
    assert [decode_report(frame) for part in cut(stream, places) for frame in reader.feed(part)] == reports


@given(st.lists(st.binary(), max_size=5))
def test_any_bytes_give_a_message_or_a_frame_error(parts: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for part in parts:
            for frame in reader.feed(part):
                request = decode_request(frame)
                for raw in request.entries if isinstance(request, Appends) else ():
                    decode_entry(raw)
    except FrameError:
        pass


@given(st.binary())
def test_any_frame_gives_a_message_or_a_frame_error(frame: bytes) -> None:
    for decode in (decode_request, decode_report, lambda data: decode_entry(Raw(data))):
        try:
            decode(frame)
        except FrameError:
            pass


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_arrive() -> None:
    with pytest.raises(FrameError, match=str(MAX_FRAME)):
        list(FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big")))


def test_text_that_is_no_unicode_does_not_reach_a_frame() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_entry(Entry(channel="a", id=bytes(16), sender="\ud800", data=b""))
