"""`smtpguard ingest`: bounces and complaints as log lines, and the exit codes an MTA's pipe lives by."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smtpguard.cli.explain import run as explain
from smtpguard.cli.ingest import FIELDS, run
from smtpguard.cli.store import opened
from smtpguard.record import FIELDS as RECORD_FIELDS
from smtpguard.record import Masker
from tests.history.stores import SEED, started

NOTICES = Path(__file__).parents[1] / "classify" / "notices"
COMMON = {"@timestamp", "log.level", "message", "event.action"}


def ingest(*names: Path | str, environ: dict[str, str] | None = None, store: str = "", **options: Any) -> int:
    """Without a `store`, the log is all."""
    given = {"log": None, "as_json": False, "quiet": False, **options}
    return run([str(name) for name in names], None, {"SMTPGUARD__STORE__URL": store, **(environ or {})}, **given)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a configuration."""
    monkeypatch.chdir(tmp_path)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_recipient_of_a_dsn_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "postfix-two.eml") == 0
    first, second = lines(capsys)
    assert first["event.action"] == "notice-received"
    assert first["log.level"] == "warning"
    assert first["message"] == "failed by mx.receiver.example: 550 5.1.1 (recipient.unknown)"
    assert first["smtp.rcpt_to"] == "b***@receiver.example"
    assert first["smtp.mail_from"] == "a***@sender.example"
    assert first["smtp.verb"] == "RCPT"
    assert (first["smtp.reply.code"], first["smtp.reply.enhanced"]) == (550, "5.1.1")
    assert first["smtp.reply.text"].startswith("<b***@receiver.example>: Recipient address rejected")
    assert first["smtp.queue_id"] == "4XyZ0k5mLz"
    assert first["email.message_id"] == "<minutes-1@sender.example>"
    assert first["smtpguard.category"] == "recipient.unknown"
    assert first["smtpguard.notice.kind"] == "dsn"
    assert first["smtpguard.notice.at"] == "2026-11-20T09:00:02Z"
    assert second["smtpguard.category"] == "content.spam"


def test_all_fields_are_declared(capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES) == 0
    seen = {key for line in lines(capsys) for key in line}
    assert seen <= COMMON | {"event.outcome"} | set(RECORD_FIELDS) | set(FIELDS)


def test_a_complaint_and_a_delivery(capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "arf.eml", NOTICES / "delivered.eml") == 0
    complaint, delivery = lines(capsys)
    assert (complaint["message"], complaint["log.level"]) == ("complaint: abuse", "warning")
    assert complaint["smtpguard.notice.feedback"] == "abuse"
    assert "smtp.reply.code" not in complaint
    assert (delivery["log.level"], delivery["event.outcome"]) == ("info", "success")


def test_a_summary_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "qmail.eml", NOTICES / "ordinary.eml") == 0
    assert capsys.readouterr().err == "3 notices in 2 messages (failed 3); 1 that told nothing\n"
    assert ingest(NOTICES / "qmail.eml", quiet=True) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["ordinary.eml", "vacation.eml"])
def test_no_notice_is_1(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / name) == 1
    assert capsys.readouterr().out == ""


def test_a_log_is_not_ingested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mail.log").write_text("Nov 20 10:11:12 mx1 postfix/qmgr[1]: 4XyZ1: removed\n")
    assert ingest(tmp_path / "mail.log") == 1
    assert capsys.readouterr().err == "0 notices in 0 messages (none); 1 that told nothing\n"


def test_what_is_not_there_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(tmp_path / "absent") == 2
    assert "absent: No such file" in capsys.readouterr().err


def test_a_bad_configuration_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("smtpguard.toml").write_text('[privacy]\naddresses = "none"\n[log]\nlevel = "loud"\n')
    assert ingest(NOTICES / "qmail.eml") == 2
    assert [line.split(":")[2] for line in capsys.readouterr().err.splitlines()] == ["2", "4"]


def test_a_log_that_cannot_be_written_is_75(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "qmail.eml", log=tmp_path / "absent" / "notices.log") == 75
    assert ingest(NOTICES / "qmail.eml", log=Path("/dev/full")) == 75
    assert "No space left" in capsys.readouterr().err


def test_a_log_is_appended_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "notices.log"
    assert ingest(NOTICES / "qmail.eml", log=log) == 0
    assert ingest(NOTICES / "yahoo.eml", log=log) == 0
    assert capsys.readouterr().out == ""
    assert [json.loads(line)["smtp.rcpt_to"][0] for line in log.read_text().splitlines()] == ["n", "o", "p", "y"]


def test_the_configuration_says_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    full = {"SMTPGUARD__PRIVACY__ADDRESSES": "full"}
    assert ingest(NOTICES / "yahoo.eml", environ=full) == 0
    assert lines(capsys)[0]["smtp.rcpt_to"] == "yves@receiver.example"
    assert ingest(NOTICES / "yahoo.eml", environ={"SMTPGUARD__LOG__FORMAT": "console"}) == 0
    assert "notice-received failed: 552 5.2.2 (recipient.full)" in capsys.readouterr().out
    assert ingest(NOTICES / "yahoo.eml", environ={"SMTPGUARD__LOG__FORMAT": "console"}, as_json=True) == 0
    assert lines(capsys)
    assert ingest(NOTICES / "delivered.eml", environ={"SMTPGUARD__LOG__LEVEL": "warning"}) == 0
    assert capsys.readouterr().out == ""


def test_no_address_is_left_in_a_masked_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES) == 0
    for line in lines(capsys):
        local = line.get("smtp.rcpt_to", "")[:1]
        assert "***@" in line.get("smtp.rcpt_to", "***@"), line
        for key in ("smtp.reply.text", "smtpguard.cause", "smtpguard.fix", "message"):
            assert not [
                word for word in str(line.get(key, "")).split() if word.startswith(f"<{local}") and "*" not in word
            ]


def test_as_the_end_of_a_pipe(tmp_path: Path) -> None:
    """One process a message, as an MTA starts it: quiet, and the line is there when it ends."""
    log = tmp_path / "notices.log"
    with (NOTICES / "exim-plain.eml").open("rb") as message:
        found = subprocess.run(
            [sys.executable, "-m", "smtpguard", "ingest", "-q", "--log", str(log), "-"],
            stdin=message,
            capture_output=True,
            check=False,
        )
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert (first["smtpguard.category"], first["smtp.verb"]) == ("recipient.disabled", "RCPT")
    assert second["smtp.rcpt_to"] == "h***@other.example"


@pytest.mark.parametrize("line", [b"", b"From MAILER-DAEMON  Fri Nov 20 10:00:00 2026\n", b"From MAILER-DAEMON\n"])
def test_an_mta_may_put_a_from_line_before_the_message(
    line: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    octets = line + (NOTICES / "mdaemon.eml").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))
    assert ingest("-") == 0
    assert lines(capsys)[0]["smtp.rcpt_to"] == "b***@receiver.example"


def test_a_log_in_a_message_makes_no_log_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "1.eml"
    path.write_bytes((NOTICES / "mdaemon.eml").read_bytes().replace(b"\n Fri 2026", b"\n2026"))
    assert ingest(path) == 0
    assert lines(capsys)[0]["smtp.verb"] == "RCPT"


def test_any_octets_end_with_0_or_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for octets in (b"", b"\xff" * 100, b"From MAILER-DAEMON\n", (NOTICES / "sendmail.eml").read_bytes()[:700]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))
        assert ingest("-") in (0, 1)
    assert all(line.startswith("{") for line in capsys.readouterr().out.splitlines())


def test_our_own_bounce_leads_back_to_our_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "smtpguard.eml") == 0
    (line,) = lines(capsys)
    assert line["event.id"] == "01JD5Z8Q7KX3"
    assert line["server.address"] == "mx.receiver.example"
    assert line["smtp.reply.text"] == "<b***@receiver.example>: User unknown"


# --- the history ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store as the service makes it, with a key of hashed addresses that is not this host's."""
    url = f"sqlite:///{tmp_path}/h.db"
    with started(url):
        pass
    return url


def kept(url: str, what: str = "id, rcpt, category") -> list[tuple[Any, ...]]:
    with opened(url) as database:
        return database.query(f"SELECT {what} FROM notices ORDER BY rcpt")


def test_a_notice_is_kept_once_and_logged_each_time(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "postfix-two.eml", NOTICES / "postfix-two.eml", store=store) == 0
    read = capsys.readouterr()
    assert len(read.out.splitlines()) == 4
    assert read.err == "4 notices in 2 messages (failed 4); 2 new in the history\n"
    rows = kept(store, "rcpt, category, queue_id, rcpt_id")
    assert [row[:3] for row in rows] == [
        ("b***@receiver.example", "recipient.unknown", "4XyZ0k5mLz"),
        ("c***@other.example", "content.spam", "4XyZ0k5mLz"),
    ]
    # the log's hash is the store's: the one is found by the other
    hashed = Masker("mask", SEED).id(b"bob@receiver.example")
    assert (json.loads(read.out.splitlines()[0])["smtp.rcpt_id"], rows[0][3]) == (hashed, hashed)
    with opened(store) as database:
        assert database.query("SELECT category, n FROM tallies ORDER BY category") == [
            ("content.spam", 1),
            ("recipient.unknown", 1),
        ]
    assert ingest(NOTICES / "postfix-two.eml", store=store) == 0
    assert capsys.readouterr().err == "2 notices in 1 message (failed 2)\n"
    assert len(kept(store)) == 2


def test_complaints_and_deliveries_are_kept_too(store: str) -> None:
    assert ingest(NOTICES / "arf.eml", NOTICES / "delivered.eml", store=store) == 0
    assert sorted(kept(store, "kind, action, category")) == [("arf", "complaint", ""), ("dsn", "relayed", "")]


def test_all_notices_can_be_kept(store: str) -> None:
    assert ingest(NOTICES, store=store, quiet=True) == 0
    assert len(kept(store)) > 20


@pytest.mark.parametrize("log", [None, "notices.log"])
def test_a_history_that_is_away_is_75_and_nothing_is_logged(
    store: str, log: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.db").write_bytes(b"no database" * 1000)
    assert ingest(NOTICES / "qmail.eml", store=store, log=tmp_path / log if log else None) == 75
    read = capsys.readouterr()
    assert (read.out, (tmp_path / "notices.log").exists()) == ("", False)
    assert "h.db" in read.err


def test_where_there_is_no_history_the_log_is_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "qmail.eml", store=f"sqlite:///{tmp_path}/none.db") == 0
    read = capsys.readouterr()
    assert len(read.out.splitlines()) == 3
    assert "not in the history" in read.err
    assert not (tmp_path / "none.db").exists()


def test_what_was_ingested_is_told_by_its_queue_id(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(NOTICES / "postfix-two.eml", store=store, quiet=True) == 0
    capsys.readouterr()
    assert explain((), None, id="4XyZ0k5mLz", store_url=store) == 0
    assert "failed for b***@receiver.example" in capsys.readouterr().out
