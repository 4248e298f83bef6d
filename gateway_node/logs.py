"""Logs: JSON lines on stderr, one an event, ours and the libraries' alike.

Request and connection ids come from context variables (`structlog.contextvars.bind_contextvars`). Message contents and
tokens do not belong into an event; the names they would come under are blanked as a second fence.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

PRIVATE = frozenset(
    {"api_key", "authorization", "content", "cookie", "data", "hmac_secret", "password", "secret", "token"}
)

# Libraries that tell about every request or reconnect at levels where we tell about events.
QUIET = {
    "httpx": logging.WARNING,
    "uvicorn.access": logging.ERROR,
    "uvicorn.error": logging.WARNING,
    "websockets": logging.WARNING,
}


def configure(level: str = "info", **fields: str) -> None:
    """Route structlog and the standard library's loggers to stderr. `fields` go into every line (`node="node-1"`).

    Safe to call again, in a child or with another level.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_fields(fields),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        blank_private,
    ]
    structlog.configure(
        processors=[*shared, _render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_TextStderr())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:-2], structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                blank_private,
                lambda *args: _render(*args).decode(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, floor in QUIET.items():
        logging.getLogger(name).setLevel(max(number, floor))
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def blank_private(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of fields that could carry a secret or what somebody wrote."""
    for name in PRIVATE & event.keys():
        event[name] = "***"
    return event


def _with_fields(fields: dict[str, str]) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**fields, **event}

    return add


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    structlog.get_logger("process").critical("process.uncaught", exc_info=(kind, error, trace))


class _Stderr:
    """One write a line, so that lines of several processes do not mix; a stderr that went away stops nobody."""

    def msg(self, line: bytes) -> None:
        _write(line + b"\n")

    debug = info = warning = error = critical = exception = fatal = log = msg


class _TextStderr:
    def write(self, line: str) -> None:
        if line != "\n":  # the handler's terminator, which _write has added
            _write(line.rstrip("\n").encode(errors="replace") + b"\n")

    def flush(self) -> None:
        pass


def _write(line: bytes) -> None:
    try:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
    except (OSError, ValueError, AttributeError):
        pass
