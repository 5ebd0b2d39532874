"""`smtpguard report`: the same sums as a table, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from smtpguard.cli.report import MAX_SHOWN, run
from tests.history.stores import AT, DAY, PATIENCE_S, Found, delivered, numbered, started
from tests.records import UNKNOWN, refusal

LISTED = UNKNOWN._replace(category="reputation.ip_listed", provider="microsoft")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    url = f"sqlite:///{tmp_path}/h.db"
    with started(url) as store:
        store.write(numbered(1), [Found()])
        store.write(numbered(2))
        store.write(numbered(3, refusal("451 4.7.1 listed", meaning=LISTED), mail_from=b"a@odd|name\\.example"))
        store.write(delivered(4, b"a@x", b"b@x"), [Found(), Found("HDR001", "warning", answer=None)])
        store.write(delivered(5, mail_from=b""))
        assert store.flush(PATIENCE_S)
    return url


def report(url: str, **options: Any) -> int:
    given = {"since_s": DAY, "now": AT, "by": "category", "would_reject": False, "format": "table", "color": False}
    return run(url, **{**given, **options})


def test_a_table_with_bars(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(url) == 0
    head, blank, columns, first, second = capsys.readouterr().out.splitlines()
    assert head.endswith("3 of 6 recipients refused (50 %), 2 rejected, 1 deferred")
    assert blank == ""
    assert columns.split() == ["category", "rejected", "deferred"]
    assert first.split() == ["recipient.unknown", "2", "0", "\u2588" * 30]
    assert second.split() == ["reputation.ip_listed", "0", "1", "\u2588" * 15]


def test_a_period_longer_than_the_calendar_is_all_of_it(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(url, since_s=999_999_999 * DAY, format="json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["since"], found["rejected"]) == ("1970-01-01T00:00:00Z", 2)


def test_colour_only_where_it_is_wanted(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(url, color=True)
    assert "\x1b[31m" in capsys.readouterr().out
    report(url)
    assert "\x1b" not in capsys.readouterr().out


def test_a_narrow_terminal_gets_no_bars_and_no_line_that_is_wider(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    report(url)
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 40
    assert shown[-1].split() == ["reputation.ip_listed", "0", "1"]


def test_rates_by_sender(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(url, by="sender", format="csv")
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        ["sender", "rejected", "deferred", "accepted", "refused %", "mostly"],
        ["example.com", "2", "0", "2", "50.0", "recipient.unknown"],
        ["odd|name\\.example", "0", "1", "0", "100.0", "reputation.ip_listed"],
        ["(none)", "0", "0", "1", "0.0", ""],
    ]


def test_json_has_everything(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(url, by="code", format="json")
    found = json.loads(capsys.readouterr().out)
    assert (found["accepted"], found["rejected"], found["deferred"], found["by"]) == (3, 2, 1, "code")
    assert found["lines"][0] == {"name": "550 5.1.1", "rejected": 2, "deferred": 0, "most": "recipient.unknown"}
    assert found["until"] == "2023-11-14T22:13:20Z"
    assert found["since"] == "2023-11-13T22:10:00Z"


def test_markdown_is_not_broken_by_names(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(url, by="sender", format="md")
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "| --- | --- | --- | --- | --- | --- |"
    assert "| odd\\|name\\\\.example | 0 | 1 | 0 | 100.0 | reputation.ip_listed |" in lines


def test_rules_against_what_was_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(url, by="rule", format="csv")
    assert capsys.readouterr().out.splitlines() == [
        "rule,severity,findings,rejected,accepted,right %,would reject",
        "SPF003,error,2,1,1,50.0,2",
        "HDR001,warning,1,0,1,0.0,0",
    ]
    report(url, by="rule", format="json")
    assert json.loads(capsys.readouterr().out)["lines"][0]["precision"] == 0.5
    report(url, by="rule")
    assert "3 findings of 2 rules" in capsys.readouterr().out


def test_what_enforcing_would_have_done(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(url, would_reject=True)
    certain, every, *_ = capsys.readouterr().out.splitlines()
    assert certain.endswith(": enforcing would have refused 0 messages")
    assert every.startswith("every rule as reject in [lint.rules] would have refused 2 messages; ")
    assert every.endswith("; the next hop rejected 1 of them, and took 1")
    with started(url) as store:
        store.write(numbered(6), [Found("RCP001"), Found()])
        assert store.flush(PATIENCE_S)
    report(url, would_reject=True)
    certain, every, _, _, *rows = capsys.readouterr().out.splitlines()
    assert certain.endswith(": enforcing would have refused 1 message; the next hop rejected 1 of them, and took 0")
    assert "would have refused 3 messages; the next hop rejected 2 of them" in every
    assert [row.split()[0] for row in rows] == ["RCP001", "SPF003"]
    report(url, would_reject=True, format="csv")
    assert capsys.readouterr().out.splitlines() == [
        "rule,severity,findings,rejected,accepted,right %,would reject,by",
        "RCP001,error,1,1,0,100.0,1,enforce",
        "SPF003,error,3,2,1,66.7,3,reject",
    ]
    report(url, would_reject=True, format="json")
    found = json.loads(capsys.readouterr().out)
    assert found["enforcing"] == {"messages": 1, "rejected": 1, "accepted": 0}
    assert (found["messages"], found["rejected"], found["accepted"]) == (3, 2, 1)
    assert [(line["rule"], line["certain"]) for line in found["by_rule"]] == [("RCP001", True), ("SPF003", False)]


def test_nothing_happened(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    report(url, now=AT + 9 * DAY)
    assert capsys.readouterr().out.endswith(": 0 of 0 recipients refused, 0 rejected, 0 deferred\n")
    report(url, now=AT + 9 * DAY, by="rule")
    assert capsys.readouterr().out.endswith(": lint found nothing\n")
    report(url, now=AT + 9 * DAY, would_reject=True)
    assert capsys.readouterr().out.endswith("would have refused 0 messages\n")


def test_a_long_table_ends(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with started(url) as store:
        for number in range(MAX_SHOWN + 5):
            store.write(numbered(100 + number, mail_from=f"a@s{number}.example".encode()))
        assert store.flush(PATIENCE_S)
    report(url, by="sender")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == MAX_SHOWN + 4
    assert lines[-1] == "and 8 more (--format json has all)"


def test_where_there_is_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert report("") == 2
    assert capsys.readouterr().err.startswith("smtpguard report: store.url")
