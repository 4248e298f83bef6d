"""Logs: one JSON object a line, whoever writes it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

START = """
import logging, sys, warnings
import structlog
from gateway_node import logs
logs.configure({level!r}, node="node-1")
log = structlog.get_logger()
"""


def lines_of(program: str, level: str = "info") -> list[dict[str, Any]]:
    """What a process of its own logs."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(level=level) + program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_event_is_one_line_with_its_fields() -> None:
    (line,) = lines_of('log.info("process.started", pid=7)')
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "process.started", "level": "info", "node": "node-1", "pid": 7}


def test_ids_come_from_the_context() -> None:
    (line,) = lines_of('structlog.contextvars.bind_contextvars(request_id="r-1"); log.info("a")')
    assert line["request_id"] == "r-1"


@pytest.mark.parametrize("name", ["asyncio", "nats", "uvicorn.error", "websockets"])
def test_libraries_log_the_same_way(name: str) -> None:
    (line,) = lines_of(f'logging.getLogger({name!r}).warning("%d of %d", 1, 2)')
    assert (line["event"], line["level"], line["logger"], line["node"]) == ("1 of 2", "warning", name, "node-1")


def test_extra_fields_of_the_standard_library_are_kept_and_blanked_alike() -> None:
    (line,) = lines_of('logging.getLogger("x").warning("a", extra={"client": "c-1", "token": "abc"})')
    assert (line["client"], line["token"]) == ("c-1", "***")


def test_access_lines_with_their_query_strings_are_not_logged() -> None:
    assert lines_of('logging.getLogger("uvicorn.access").info("GET /?token=abc")', level="debug") == []


def test_the_level_holds_for_both() -> None:
    program = 'log.info("a"); logging.getLogger("x").info("b"); log.warning("c"); logging.getLogger("x").warning("d")'
    assert [line["event"] for line in lines_of(program, level="warning")] == ["c", "d"]


def test_libraries_tell_of_no_single_request() -> None:
    program = (
        'for name in ("httpx", "uvicorn.access", "uvicorn.error", "websockets"): logging.getLogger(name).info("a")'
    )
    assert lines_of(program) == []


def test_a_traceback_stays_in_its_line() -> None:
    program = 'try:\n  1 / 0\nexcept ZeroDivisionError:\n  log.exception("a"); logging.exception("b")'
    lines = lines_of(program)
    assert [line["event"] for line in lines] == ["a", "b"]
    assert all("ZeroDivisionError" in line["exception"] for line in lines)


def test_what_nobody_caught_and_what_was_warned_of_are_lines_too() -> None:
    warned, uncaught = lines_of('warnings.warn("old"); raise ValueError("boom")')
    assert warned["logger"] == "py.warnings"
    assert uncaught["event"] == "process.uncaught"
    assert "ValueError: boom" in uncaught["exception"]


def test_secrets_and_contents_are_blanked() -> None:
    (line,) = lines_of('log.info("a", token="abc", password="abc", data=b"abc", content="abc", user="u")')
    assert "abc" not in json.dumps(line)
    assert line["user"] == "u"


def test_a_stderr_that_is_gone_stops_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START.format(level="info") + 'sys.stderr.close(); log.info("a"); print("on")'],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "on\n"
