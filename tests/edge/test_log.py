"""The log: one JSON line an event whatever it is made of, levels, library messages, reload, and no harm done."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.edge.log import Log, configure, console_line, json_line, timestamp
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.sink import MAX_LINES
from smtpguard.record import Deliveries, Level, Masker
from tests.records import record, refusal

KEY = b"a secret of this installation"
MASK = Masker("mask", KEY)


@dataclass
class Settings:
    format: Literal["json", "console"] = "json"
    level: Level = "info"
    deliveries: Deliveries = "all"


class Lines:
    """A log into memory; `read` closes it and gives its lines."""

    def __init__(self, settings: Settings) -> None:
        self.drops: list[int] = []
        self._stream = io.BytesIO()
        self.log = configure(
            settings, self._stream, masker=MASK, on_drop=self.drops.append, clock=lambda: 1_770_091_506.789
        )

    def raw(self) -> bytes:
        self.log.close()
        return self._stream.getvalue()

    def read(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.raw().splitlines()]


@pytest.fixture
def lines() -> Iterator[Callable[..., Lines]]:
    made: list[Lines] = []

    def make(**settings: Any) -> Lines:
        made.append(Lines(Settings(**settings)))
        return made[-1]

    yield make
    for each in made:
        each.log.close()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_timestamp_is_rfc_3339_in_utc() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_770_091_506.789) == "2026-02-03T04:05:06.789Z"
    assert timestamp(1_770_091_506.9999) == "2026-02-03T04:05:06.999Z"


def test_a_service_event_is_one_flat_line(lines: Callable[..., Lines]) -> None:
    to = lines()
    to.log.event("service-started", "listening", fields={"smtpguard.listen.smtp": "127.0.0.1:10725", "absent": None})
    assert to.read() == [
        {
            "@timestamp": "2026-02-03T04:05:06.789Z",
            "log.level": "info",
            "event.action": "service-started",
            "message": "listening",
            "smtpguard.listen.smtp": "127.0.0.1:10725",
        }
    ]


def test_a_record_is_logged_masked(lines: Callable[..., Lines]) -> None:
    to = lines()
    to.log.write(record(refusal(), accepted=[b"ann@example.org"]))
    found = to.read()
    assert [(line["event.action"], line["log.level"]) for line in found] == [
        ("recipient-accepted", "info"),
        ("recipient-refused", "warning"),
        ("transaction", "info"),
    ]
    assert [line.get("smtp.rcpt_to") for line in found] == ["a***@example.org", "j***@example.org", None]
    assert all("@timestamp" in line for line in found)


@pytest.mark.parametrize(
    ("settings", "actions"),
    [
        ({"deliveries": "problems"}, ["recipient-refused", "transaction"]),
        ({"level": "warning"}, ["recipient-refused", "next-hop-failed"]),
        ({"level": "error"}, []),
    ],
)
def test_settings_choose_the_lines(lines: Callable[..., Lines], settings: dict[str, Any], actions: list[str]) -> None:
    to = lines(**settings)
    to.log.write(record(refusal(), accepted=[b"ann@example.org"]))
    if settings.get("level"):
        to.log.event("config-reloaded", "read again")
        to.log.event("next-hop-failed", "gone", level="warning")
    expected = [action for action in actions if settings.get("level") != "error" or action == "error"]
    assert [line["event.action"] for line in to.read()] == expected


def test_a_reload_changes_level_deliveries_format_and_masking(lines: Callable[..., Lines]) -> None:
    to = lines(level="error")
    to.log.event("config-reloaded", "not seen")
    to.log.settle(Settings(level="debug", deliveries="problems"), Masker("full", KEY))
    to.log.event("config-reloaded", "seen", level="debug")
    to.log.write(record(refusal(), accepted=[b"ann@example.org"]))
    to.log.settle(Settings(format="console"), MASK)
    to.log.event("config-reloaded", "for a person")
    first, *rest = to.raw().decode().splitlines()
    assert orjson.loads(first)["message"] == "seen"
    assert orjson.loads(rest[0])["smtp.rcpt_to"] == "jane.doe@example.org"
    assert [orjson.loads(line)["event.action"] for line in rest[:2]] == ["recipient-refused", "transaction"]
    assert rest[2] == "04:05:06.789 info    config-reloaded for a person"


def test_an_exception_is_told_with_its_trace(lines: Callable[..., Lines]) -> None:
    to = lines()
    try:
        raise ValueError("bad\x1b[31m thing")
    except ValueError as error:
        to.log.event("config-reloaded", "refused", level="error", error=error)
        structlog.get_logger().exception("again")
        structlog.get_logger().error("a third time", exc_info=sys.exc_info())
    structlog.get_logger().error("none this time", exc_info=True)
    first, second, third, none = to.read()
    assert first["error.type"] == second["error.type"] == third["error.type"] == "ValueError"
    assert "error.type" not in none
    assert first["error.message"] == "bad [31m thing"
    assert first["error.stack_trace"].startswith("Traceback")
    assert "\x1b" not in first["error.stack_trace"]
    assert "event.action" not in second


def test_libraries_are_heard_from_warning_on(lines: Callable[..., Lines]) -> None:
    to = lines()
    library = logging.getLogger("aiosmtpd.example")
    library.info("chatter")
    library.warning("%s is odd", "this")
    try:
        raise OSError("gone")
    except OSError:
        library.exception("failed\r\nbadly")
    (ours,) = (each for each in logging.getLogger().handlers if each.__module__ == "smtpguard.edge.log")
    ours.handle(logging.LogRecord("asyncio", logging.ERROR, "", 1, "wrong %d", ("format",), None))
    odd, failed, wrong = to.read()
    assert (odd["message"], odd["log.level"], odd["log.logger"]) == ("this is odd", "warning", "aiosmtpd.example")
    assert (failed["message"], failed["error.type"], failed["log.level"]) == ("failed  badly", "OSError", "error")
    assert wrong["message"] == "wrong %d"


def test_after_close_libraries_and_structlog_are_let_go(lines: Callable[..., Lines]) -> None:
    to = lines()
    handlers = list(logging.getLogger().handlers)
    to.log.close()
    assert len(logging.getLogger().handlers) == len(handlers) - 1
    to.log.event("service-stopped", "too late")
    assert to.drops == [1]
    assert not structlog.is_configured()


def test_a_value_that_cannot_be_told_costs_its_line_only(lines: Callable[..., Lines]) -> None:
    to = lines()
    to.log.event("odd", "odd", fields={"value": Unprintable()})
    to.log.event("odd", "odd", fields={"event": "a name that structlog keeps for itself"})
    broken = record(accepted=[b"ann@example.org"])
    broken.envelope = None  # type: ignore[assignment]  # a fault of ours
    to.log.write(broken)
    to.log.event("service-stopping", "still here")
    assert [line["event.action"] for line in to.read()] == ["record-failed", "service-stopping"]
    assert sum(to.drops) == 3


def test_a_blocked_stdout_makes_no_mail_wait_and_is_counted() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4096)
    os.set_blocking(writer, True)
    metrics = Metrics()
    with io.FileIO(writer, "w") as stdout:
        log = configure(Settings(), stdout, masker=MASK, on_drop=metrics.events_dropped.labels("log").inc)
        written = record(refusal())
        started = time.monotonic()
        for _ in range(MAX_LINES + 500):  # two lines each: more than the queue and the batch in hand can hold
            log.write(written)
        assert time.monotonic() - started < 20  # a write that blocked would never return
        os.close(reader)  # ends the write that blocks
        log.close()
    dropped = metrics.registry.get_sample_value("smtpguard_events_dropped_total", {"sink": "log"})
    assert dropped == 2 * (MAX_LINES + 500)  # in the end nobody read any of them


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.text("\x00\x1b\x7f\x9b\u2028\ud800a"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def has_controls(text: str) -> bool:
    return any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs") for char in text)


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *strings(item))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@given(st.text(), st.dictionaries(st.text(), json_like, max_size=5))
def test_anything_becomes_one_json_line_without_control_characters(message: str, fields: dict[str, object]) -> None:
    line = json_line(0, "info", "any", message, fields)
    assert line.endswith(b"\n")
    assert not has_controls(line[:-1].decode())
    found = orjson.loads(line)
    assert not any(map(has_controls, strings(found)))
    assert None not in [found.get(key, 0) for key in ("@timestamp", "message", "event.action")]


@given(st.text(), st.dictionaries(st.text(), json_like, max_size=5))
def test_anything_becomes_one_console_line_without_control_characters(message: str, fields: dict[str, object]) -> None:
    line = console_line(0, "info", "any", message, fields).decode()
    assert line.endswith("\n")
    assert not has_controls(line[:-1])


def test_fields_cannot_pass_for_ours() -> None:
    """`@timestamp`, level, action and message are what they are, whatever the fields hold."""
    found = orjson.loads(json_line(0, "info", "true", "true", {"message": "false", "event.action": "false", "x": 1}))
    assert (found["message"], found["event.action"], found["x"]) == ("true", "true", 1)


def test_a_long_value_is_cut() -> None:
    assert len(json_line(0, "info", "any", "x" * 10**6, {"text": "y" * 10**6})) < 40_000


def test_a_console_line_is_for_reading() -> None:
    fields = {
        "event.id": "1NG6",
        "event.duration": 7,
        "smtp.rcpt_to": "j***@example.org",
        "smtp.reply.text": "no user",
        "n": 3,
    }
    assert console_line(1_770_091_506.789, "warning", "recipient-refused", "rejected", fields).decode() == (
        "04:05:06.789 warning recipient-refused rejected event.id=1NG6 smtp.rcpt_to=j***@example.org"
        ' smtp.reply.text="no user" n=3\n'
    )
    trace = console_line(0, "error", "", "failed", {"error.stack_trace": "Traceback\n  at\x1b x"})
    assert trace.decode() == "00:00:00.000 error   failed\n    Traceback\n      at  x\n"


def test_a_terminal_is_coloured_unless_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    def shown() -> bytes:
        stream = Terminal()
        log: Log = configure(Settings(format="console"), stream, masker=MASK)
        log.event("service-started", "listening")
        log.close()
        return stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[32minfo" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b" not in shown()
