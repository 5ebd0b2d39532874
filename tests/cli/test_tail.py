"""`smtpguard tail`: the log as lines for a person, through rotation; hostile lines do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.cli.tail import followed, render, run


def event(message: str, level: str = "info", **fields: Any) -> bytes:
    line = {"@timestamp": "2026-02-03T04:05:06.789Z", "log.level": level, "message": message, **fields}
    return json.dumps(line).encode() + b"\n"


ACCEPTED = event("accepted by mx.example", **{"event.action": "recipient-accepted", "event.outcome": "success"})
REFUSED = event(
    "rejected at RCPT", "warning", **{"event.action": "recipient-refused", "smtp.rcpt_to": "j***@example.org"}
)


# --- a line ----------------------------------------------------------------------------------------------------


def test_a_refusal_is_who_what_why_and_what_to_do() -> None:
    line = event(
        "rejected at RCPT",
        "warning",
        **{
            "event.action": "recipient-refused",
            "event.id": "1NG5JHTRBYH0",
            "smtp.rcpt_to": "j***@example.org",
            "smtp.queue_id": "6D95B20CC6A",
            "smtp.reply.text": "no \x1b[1msuch user",
            "smtpguard.cause": "the address does not exist",
            "smtpguard.fix": "Check the spelling.",
            "smtpguard.confidence": 0.9,
        },
    )
    assert render(line).decode().splitlines() == [
        "04:05:06.789 warning rejected at RCPT to=j***@example.org queue=6D95B20CC6A id=1NG5JHTRBYH0",
        "             said   no  [1msuch user",
        "             cause  the address does not exist",
        "             fix    Check the spelling.",
    ]


def test_a_terminal_gets_what_was_said_folded() -> None:
    line = event("rejected", **{"event.action": "recipient-refused", "smtpguard.fix": "Check the spelling of it."})
    assert render(line, width=40).decode().splitlines()[1:] == [
        "             fix    Check the spelling",
        "                    of it.",
    ]


def test_a_notice_reads_as_a_refusal_does() -> None:
    line = event(
        "failed by mx.example.net: 550 5.1.1 (recipient.unknown)",
        "warning",
        **{
            "event.action": "notice-received",
            "event.outcome": "failure",
            "smtpguard.notice.kind": "dsn",
            "smtpguard.notice.at": "2026-02-03T04:00:00Z",
            "smtp.rcpt_to": "j***@example.org",
            "smtp.reply.text": "no such user",
            "smtpguard.cause": "the address does not exist",
            "smtpguard.fix": "Check the spelling.",
            "smtpguard.provider": "other",
        },
    )
    assert render(line).decode().splitlines() == [
        "04:05:06.789 warning failed by mx.example.net: 550 5.1.1 (recipient.unknown) to=j***@example.org "
        "at=2026-02-03T04:00:00Z",
        "             said   no such user",
        "             cause  the address does not exist",
        "             fix    Check the spelling.",
    ]
    assert render(line, problems=True) == render(line)


def test_what_lint_found_stands_beside_a_transaction() -> None:
    found: dict[str, Any] = {
        "event.action": "transaction",
        "smtp.queue_id": "6D95B20CC6A",
        "smtpguard.findings": ["DKM001", "SPF003"],
    }
    line = event("accepted: 1 accepted, 0 refused", **found | {"smtpguard.ms.lint": 2.5})
    assert render(line) == (
        b"04:05:06.789 info    accepted: 1 accepted, 0 refused queue=6D95B20CC6A findings=DKM001,SPF003\n"
    )


def test_what_policy_did_is_short_too() -> None:
    common = {"event.id": "1NG5JHTRBYH0", "smtpguard.category": "rate.limited", "smtp.rcpt_to": "j***@example.org"}
    applied = {"event.action": "policy-applied", "smtpguard.action": "defer", "smtp.reply.text": "slow down"}
    assert render(event("defer: 550 at RCPT (rate.limited)", "warning", **common, **applied)).decode().splitlines() == [
        "04:05:06.789 warning defer: 550 at RCPT (rate.limited) to=j***@example.org id=1NG5JHTRBYH0",
        "             said   slow down",
    ]
    added = event("j***@example.org is suppressed", "warning", **common, **{"event.action": "suppression-added"})
    assert render(added) == (
        b"04:05:06.789 warning j***@example.org is suppressed to=j***@example.org id=1NG5JHTRBYH0\n"
    )


def test_any_other_line_reads_as_the_console_log_would() -> None:
    line = event("smtpguard listens", **{"event.action": "service-started", "service.version": "1 beta"})
    expected = b'04:05:06.789 info    service-started smtpguard listens service.version="1 beta"\n'
    assert render(line) == expected
    assert b"\x1b[33mwarning" in render(REFUSED, color=True)


def test_only_problems() -> None:
    assert render(ACCEPTED, problems=True) == b""
    assert render(REFUSED, problems=True) == render(REFUSED)
    unknown = event("unknown: 0 accepted", **{"event.action": "transaction", "event.outcome": "unknown"})
    assert render(unknown, problems=True) == render(unknown) != b""
    end: dict[str, Any] = {"event.action": "transaction", "event.outcome": "failure"}
    assert render(event("refused: 0 accepted, 1 refused", **(end | {"smtp.rcpt.refused": 1})), problems=True) == b""
    assert render(event("aborted: 0 accepted, 0 refused", **end), problems=True) != b""


@pytest.mark.parametrize(
    "line", [b"Traceback (most recent call last):\n", b"{not json\n", b"[1, 2]\n", b'"text"\n', b"7\n"]
)
def test_what_is_no_event_is_shown_as_it_is(line: bytes) -> None:
    assert render(line) == render(line, problems=True) == line


def test_a_stack_trace_follows_indented() -> None:
    shown = render(event("broke", "error", **{"error.stack_trace": "Traceback\n  line"}))
    assert shown.endswith(b"broke\n    Traceback\n      line\n")


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda text: b'{"message": "' + text + b'"}'))
def test_no_octets_break_it_or_reach_the_terminal(line: bytes) -> None:
    shown = render(line)
    assert not any(octet < 32 and octet != 10 for octet in shown)
    assert shown == b"" or shown.endswith(b"\n")


@given(
    st.dictionaries(
        st.sampled_from(["@timestamp", "log.level", "message", "event.action", "x"]),
        st.from_type(type(None)) | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
def test_no_values_break_it(fields: dict[str, object]) -> None:
    assert render(json.dumps(fields).encode()).endswith(b"\n")


# --- a file that grows -----------------------------------------------------------------------------------------


class Growing:
    """A log; each time `followed` waits, the next thing happens to it. After the last it is over."""

    def __init__(self, path: Path, *steps: Callable[[Path], object]) -> None:
        self._path = path
        self._steps = list(steps)

    def lines(self, position: int = 0) -> list[bytes]:
        found: list[bytes] = []
        try:
            for line in followed(self._path, position, self._wait):
                found.append(line)
        except StopFollowing:
            pass
        return found

    def _wait(self) -> None:
        if not self._steps:
            raise StopFollowing
        self._steps.pop(0)(self._path)


class StopFollowing(Exception):
    pass


def add(text: bytes) -> Callable[[Path], object]:
    def to(path: Path) -> None:
        with path.open("ab") as file:
            file.write(text)

    return to


def rotate(path: Path) -> None:
    path.rename(path.with_suffix(".1"))


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def test_lines_come_whole_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    assert Growing(path, add(b"one\ntw"), add(b"o\n"), add(b"three\n")).lines(4) == [b"one\n", b"two\n", b"three\n"]


def test_through_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    last_words = lambda path: add(b"two\n")(path.with_suffix(".1"))  # noqa: E731 - the writer still has the old file
    steps = (rotate, last_words, add(b"three\n"), add(b"four\n"))
    assert Growing(path, *steps).lines() == [b"one\n", b"two\n", b"three\n", b"four\n"]


def test_through_truncation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a long line\n")
    assert Growing(path, truncate, add(b"new\n")).lines() == [b"a long line\n", b"new\n"]


def test_a_file_that_comes_later(tmp_path: Path) -> None:
    assert Growing(tmp_path / "log", add(b"one\n")).lines() == [b"one\n"]


# --- the command -----------------------------------------------------------------------------------------------


def test_the_last_lines_of_a_file(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(event(f"m{number}") for number in range(20)) + b"cut off")
    assert run(path, problems=False, last=2, follow=False, color=False) == 0
    assert [line.split()[-1] for line in capfdbinary.readouterr().out.splitlines()] == [b"m18", b"m19", b"off"]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none", problems=False, last=1, follow=True, color=False) == 2
    assert "No such file" in capsys.readouterr().err


def test_standard_input_to_its_end_and_a_reader_that_leaves() -> None:
    tail = [sys.executable, "-m", "smtpguard", "tail", "--problems"]
    done = subprocess.run(tail, input=ACCEPTED + REFUSED, capture_output=True, check=True)
    assert done.stdout == render(REFUSED)
    with subprocess.Popen([*tail, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        assert left.stdout
        assert left.stderr
        left.stdout.close()
        _, errors = left.communicate(REFUSED * 100)
    assert (left.returncode, errors) == (0, b"")
