"""What is checked before raw JSON is handed on: its depth and its encoding, whatever the bytes are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime import codec, codes

MIB = 1024 * 1024

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}\\"\n\x00é'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('[]{}\\"'), inner),
    max_leaves=200,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@given(value=values, around=st.integers(0, codec.MAX_DEPTH + 2), beside=st.integers(0, 100))
def test_depth_is_what_brackets_outside_of_strings_make(value: object, around: int, beside: int) -> None:
    def depth(of: object) -> int:
        if isinstance(of, dict):
            return 1 + max(map(depth, of.values()), default=0)
        return 1 + max(map(depth, of), default=0) if isinstance(of, list) else 0

    for _ in range(around):
        value = [value, *([[]] * beside)]
    data = json.dumps(value).encode()
    if depth(value) <= codec.MAX_DEPTH:
        assert json.loads(codec.safe_json(data)) == value
    else:
        with pytest.raises(codes.CommandError, match="deeper"):
            codec.safe_json(data)


@pytest.mark.parametrize("depth", [codec.MAX_DEPTH + 1, 10_000, MIB // 2])
def test_what_is_nested_deeper_than_64_is_refused(depth: int) -> None:
    codec.safe_json(nested(codec.MAX_DEPTH))
    with pytest.raises(codes.CommandError, match="deeper"):
        codec.safe_json(nested(depth))


@pytest.mark.parametrize(
    "unit", [b'\\"', b"\\", b'"', b'"\\', b"[", b"[]", b"]", b'["', b'"[', b"[{", b"{}", b'{"a":[', b'\\\\\\"']
)
@pytest.mark.parametrize("opening", [b"[]" * 100, b"[]" * 100 + b'"', b"[" * 100, b'"' + b"[" * 100 + b'",'])
def test_a_mebibyte_of_what_is_no_json_is_refused_in_linear_time(unit: bytes, opening: bytes) -> None:
    """Time that grew with the square of the size made an hour of it."""
    with pytest.raises(codes.CommandError):
        codec.safe_json(opening + unit * (MIB // len(unit)))
    with pytest.raises(codec.Malformed):
        list(codec.decode_frame(opening + unit * (MIB // len(unit))))


@pytest.mark.parametrize("number", ["1" * 4301, "-" + "9" * 60_000, "0." + "0" * 4301 + "1", "1e" + "0" * 4301])
def test_a_number_that_python_clients_cannot_read_is_refused(number: str) -> None:
    for data in (number, f"[1,{number}]", f'{{"\\\\":"\\"","a":{number}}}'):
        with pytest.raises(codes.CommandError, match="digits"):
            codec.safe_json(data.encode())
        with pytest.raises(codec.Malformed, match="digits"):
            list(codec.decode_frame(b'{"id":1,"publish":{"data":%s}}' % data.encode()))


@pytest.mark.parametrize("data", ["1" * 4300, '"%s"' % ("1" * 60_000), '{"a\\"%s":1}' % ("1" * 60_000)])
def test_other_digits_are_handed_on(data: str) -> None:
    assert codec.safe_json(data.encode()) == data.encode()
    json.loads(data)


FRAGMENTS = st.sampled_from(
    [
        *(b'{"id":1,', b'"publish":{', b'"channel":"chat:a",', b'"data":', b'"connect":{}', b'"x":1', b"null"),
        *(b"{}", b"[", b"]", b"}", b",", b'"', b" ", b"\n", b"\r", b"-", b"1e999"),
        *(b"\\u0000", b"\\ud800", b"\x00", b"\xff"),
    ]
)


@given(st.lists(FRAGMENTS | st.binary(max_size=8), max_size=30).map(b"".join))
@settings(max_examples=500, deadline=None)
def test_a_frame_is_commands_or_malformed_and_what_is_handed_on_is_one_line_of_json(frame: bytes) -> None:
    """Against the standard library's decoder: raw data of a command that is taken can be read by everybody."""
    try:
        frame.decode()
    except UnicodeDecodeError:
        return  # the connection has ended with 1007 before anybody looks at it
    try:
        commands = list(codec.decode_frame(frame))
    except codec.Malformed:
        return
    for command in commands:
        if command.publish is not None and bytes(command.publish.data):
            data = bytes(command.publish.data)
            json.loads(data)
            assert b"\n" not in data and b"\r" not in data


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists, max_leaves=20))
@settings(max_examples=200, deadline=None)
def test_data_comes_out_of_a_command_as_it_went_in(value: object) -> None:
    frame = json.dumps({"id": 7, "publish": {"channel": "chat:a", "data": value}}, indent=1).encode()
    (command,) = codec.decode_frame(frame)
    assert command.id == 7 and command.publish is not None
    assert json.loads(bytes(command.publish.data)) == value
    assert json.loads(codec.safe_json(bytes(command.publish.data))) == value
