"""The structured log: one JSON object a line (contract 4), or one readable line for a person.

Two ways in, one rendering: service events and whatever else logs go through structlog, a `Record`'s lines (the hot
path) are rendered straight away. Both end in a `Sink`, so that nobody who logs waits for a disk or a pipe. Nothing here
raises into the caller: what cannot be written is dropped and counted (`on_drop`). The standard library's `logging`
(aiohttp, asyncio, aiosmtpd) is led in here from `warning` on.

Every text loses its control characters and terminal escapes on the way (`mail.reply.clean`), whoever wrote it.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import lru_cache, partial
from typing import IO, Any, Final, Literal, Protocol

import orjson
import structlog

from smtpguard.edge.sink import Sink, open_sink
from smtpguard.mail.reply import clean
from smtpguard.record import Deliveries, Event, Level, Masker, Record, events

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

MAX_TEXT: Final = 16_384  # characters of one value; a record's own texts are shorter (record.TEXT_LIMIT)


class LogSettings(Protocol):
    """The section `[log]`, as far as it is asked for here."""

    @property
    def format(self) -> Literal["json", "console"]: ...
    @property
    def level(self) -> Level: ...
    @property
    def deliveries(self) -> Deliveries: ...


# --- rendering ---------------------------------------------------------------------------------------------------

Render = Callable[[float, str, str, str, Mapping[str, object]], bytes]
"""(seconds since the epoch, level, action or "", message, fields) -> the line, with its line end."""


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def timestamp(at: float) -> str:
    """RFC 3339, UTC, milliseconds: `2026-02-03T04:05:06.789Z`."""
    second, milli = divmod(int(at * 1000), 1000)
    return f"{_second(second)}.{milli:03d}Z"


def _tidy(value: object) -> Any:
    """A value that JSON knows, its text made harmless and at most MAX_TEXT characters long."""
    if isinstance(value, str):
        return value if value.isprintable() and len(value) <= MAX_TEXT else clean(value[:MAX_TEXT], utf8=True)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, bytes):
        return _tidy(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping):
        return {_tidy(str(key)): _tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_tidy(item) for item in value]
    return _tidy(str(value))


def json_line(at: float, level: str, action: str, message: str, fields: Mapping[str, object]) -> bytes:
    """One JSON object with a line feed behind it; the only raw control character in it is that one.

    Null fields are left out, and fields cannot take the place of what goes before them.
    """
    line: dict[str, object] = {"@timestamp": timestamp(at), "log.level": level, "message": _tidy(message)}
    if action:
        line["event.action"] = action
    for key, value in fields.items():
        if value is None or key in line:
            continue
        if key == "error.stack_trace":
            line[key] = "\n".join(map(_tidy, str(value).splitlines()))  # ours to read; JSON escapes the line feeds
        else:
            line[key if key.isprintable() else _tidy(key)] = _tidy(value)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def record_lines(at: float, told: Iterable[Event]) -> list[bytes]:
    """Events of `record.events` as JSON. Their texts are printable, as `record.py` promises: no second look.

    What lines share is rendered once, and spliced.
    """
    time = timestamp(at)
    lines: list[bytes] = []
    last: Mapping[str, object] | None = None
    line = b""
    for action, level, message, shared, own, common in told:
        if shared is not last:
            last = shared
            head = {"@timestamp": time, "log.level": level, "message": message, "event.action": action}
            line = orjson.dumps({**head, **common, **shared})
        lines.append(b"%b,%b\n" % (line[:-1], orjson.dumps(own)[1:]) if own else line + b"\n")
    return lines


# What a person reading along has no use for, or reads in the message already
_NOT_ON_A_CONSOLE: Final = frozenset(
    ("event.outcome", "event.duration", "source.port", "server.port", "server.address", "smtpguard.session")
)
_PAINT: Final[Mapping[str, str]] = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}


def console_line(
    at: float, level: str, action: str, message: str, fields: Mapping[str, object], *, color: bool = False
) -> bytes:
    """`04:05:06.789 warning recipient-refused rejected at RCPT ... smtp.rcpt_to=j***@example.org`; UTC.

    A stack trace follows on lines of its own, indented.
    """
    name = f"{level:7}"
    if color:
        name = f"{_PAINT.get(level, '')}{name}\x1b[0m"
    words = [timestamp(at)[11:-1], name, *filter(None, [action]), _tidy(message)]
    for key, value in fields.items():
        if value is not None and key not in _NOT_ON_A_CONSOLE and key != "error.stack_trace":
            tidy = _tidy(value)
            bare = isinstance(tidy, str) and tidy and not set(' "=').intersection(tidy)
            words.append(f"{_tidy(key)}={tidy if bare else orjson.dumps(tidy).decode()}")
    trace = [f"    {_tidy(line)}" for line in str(fields.get("error.stack_trace") or "").splitlines()]
    return "\n".join([" ".join(words), *trace, ""]).encode("utf-8", "replace")


# --- the log -----------------------------------------------------------------------------------------------------


class Log:
    """Where events and records are written; one at a time, for it is what structlog and `logging` lead to.

    Made by `configure`. No method raises, none waits but `close`.
    """

    def __init__(
        self,
        sink: Sink,
        settings: LogSettings,
        masker: Masker,
        on_drop: Callable[[int], None],
        *,
        color: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._on_drop = on_drop
        self._color = color
        self._clock = clock
        self.on_event: Callable[[float, Event], None] = lambda *_: None
        self.on_record: Callable[[float, list[Event]], None] = lambda *_: None
        """Told of what was logged, at which time, from any thread; neither may raise nor wait."""
        self.settle(settings, masker)
        chain: dict[str, Any] = {
            "processors": [self._passes, self._rendered],
            "wrapper_class": structlog.make_filtering_bound_logger(logging.NOTSET),  # the level may change: _passes
        }
        self._logger = structlog.wrap_logger(_Lines(sink), **chain).bind()
        structlog.configure(**chain, logger_factory=lambda *_: _Lines(sink), cache_logger_on_first_use=False)
        self._library = _Library(self)
        logging.getLogger().addHandler(self._library)
        logging.getLogger("mail.debug").setLevel(logging.ERROR)  # aiosmtpd on PROXY: a session-refused here

    def settle(self, settings: LogSettings, masker: Masker) -> None:
        """Take new settings, now and after a reload; lines already queued stay as they are."""
        self._render: Render = json_line if settings.format == "json" else partial(console_line, color=self._color)
        self._threshold = LEVELS[settings.level]
        self._deliveries: Deliveries = settings.deliveries
        self._masker = masker

    def event(
        self,
        action: str,
        message: str,
        *,
        level: Level = "info",
        fields: Mapping[str, object] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Log a service event: `action` is contract 4's `event.action`, `fields` its flat keys.

        Null fields are left out. `error` adds `error.type`, `error.message` and `error.stack_trace`.
        """
        try:
            getattr(self._logger, level)(message, **{**(fields or {}), "event.action": action, "exc_info": error})
        except Exception:  # a value whose str() fails, say: the log is never the reason why mail stops
            self._on_drop(1)

    def write(self, record: Record) -> None:
        """Log a finished transaction: its lines by `record.events`."""
        try:
            at = self._clock()
            told = events(record, self._masker, deliveries=self._deliveries)
            if self._threshold > LEVELS["info"]:
                told = [event for event in told if LEVELS[event.level] >= self._threshold]
            if self._render is json_line:
                lines = record_lines(at, told)
            else:
                lines = [self._render(at, event.level, event.action, event.message, event.fields) for event in told]
            if lines:
                self._sink.put(b"".join(lines), len(lines))
                self.on_record(at, told)
        except Exception as error:
            self._on_drop(1)
            self.event("record-failed", "a transaction could not be logged", level="error", error=error)

    def close(self) -> None:
        """Write what waits, for at most two seconds, and let go of `logging` and structlog."""
        logging.getLogger().removeHandler(self._library)
        structlog.reset_defaults()
        self._sink.close()

    # structlog's side: processors (logger, method name, event dict), the last of which gives the line

    def _passes(self, _: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if LEVELS.get(method, LEVELS["error"]) < self._threshold:
            raise structlog.DropEvent
        return event

    def _rendered(self, _: object, method: str, event: MutableMapping[str, Any]) -> bytes:
        message = str(event.pop("event", ""))
        action = str(event.pop("event.action", ""))
        error = event.pop("exc_info", None)
        if error:
            event.update(_told(error))
        level: Level = method if method in LEVELS else "error"  # type: ignore[assignment]  # a key of LEVELS
        at = self._clock()
        self.on_event(at, Event(action, level, message, event))
        return self._render(at, level, action, message, event)


def _told(error: object) -> dict[str, object]:
    """ECS `error.*` of an exception, as structlog and logging hand it on: itself, a triple, or True for the current."""
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return {}
    return {
        "error.type": type(error).__name__,
        "error.message": str(error),
        "error.stack_trace": "".join(traceback.format_exception(error)),
    }


class _Lines:
    """The sink as structlog wants a logger: a method for each level."""

    def __init__(self, sink: Sink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = sink.put


class _Library(logging.Handler):
    """What libraries say through `logging`, from `warning` on; `log.logger` is who said it."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # a format that does not fit its arguments is no reason to lose the line
            text = str(record.msg)
        level: Level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        self._log.event("library", text, level=level, fields={"log.logger": record.name}, error=error)


def configure(
    settings: LogSettings,
    stream: IO[str] | IO[bytes] | None,
    *,
    masker: Masker,
    on_drop: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> Log:
    """The log of this process, writing to `stream` (None, as `sys.stdout` is when closed: all is dropped, counted).

    `on_drop` is told how many lines were lost, from any thread. A console on a terminal is coloured unless NO_COLOR
    is set.
    """
    color = stream is not None and not os.environ.get("NO_COLOR") and stream.isatty()
    return Log(open_sink(stream, on_drop), settings, masker, on_drop, color=color, clock=clock)
