"""`smtpguard explain ID|QUEUE-ID`: what the history has of an id, and what is said where it has nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import pytest

from smtpguard.classify.notice import Notice
from smtpguard.cli.explain import run
from smtpguard.cli.happened import tell
from smtpguard.cli.store import opened
from smtpguard.history.rows import of_notice
from smtpguard.history.writing import keep
from smtpguard.mail.reply import FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.record import Masker
from tests.history.stores import AT, Found, hold, numbered, started
from tests.records import UNKNOWN, record, refusal

GONE = HopFailure(FailureKind.TIMEOUT, Verb.DOT, "no answer")


def explain(*given: str, **options: Any) -> int:
    return run(given, None, **options)


@pytest.fixture
def history(tmp_path: Path) -> str:
    """A store with two attempts of one message, one that no host answered, and mail that only a DSN tells of."""
    url = f"sqlite:///{tmp_path}/h.db"
    now = time()
    meaning = UNKNOWN._replace(category="auth.dmarc", cause="no aligned signature", fix="Sign with d=example.com.")
    refused = refusal(
        "550 5.7.26 <jane.doe@example.org>\x1b[2J not accepted", meaning=meaning, answer="451 4.7.26 held"
    )
    notice = Notice(
        "dsn", "failed", Reply.of("550 5.2.1 off", Verb.RCPT), "al@example.org", queue_id="4Later", when=now - 60
    )
    with started(url, clock=time) as store:
        for number, at in ((1, now - 3600), (2, now - 60)):
            found = [
                Found("SPF003"),
                Found("HDR001", message="no From: field"),
                Found("DMA002", "warning", "reject", "no record", None),
            ]
            store.write(numbered(number, refused, at=at, queue_id="4AbcDef12"), found)
        store.write(numbered(3, refusal(said=None, rcpt=None, count=2, answer="451 4.4.1 no", failure=GONE), at=now))
        assert store.flush(20.0)
        masker = Masker("mask", store.key)
    with opened(url) as database:
        keep(database, [of_notice(notice, UNKNOWN, masker, now)])
    return url


def test_an_event_id_tells_what_happened(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("000000000002", store_url=history) == 0
    said = capsys.readouterr().out
    rows = dict(line.split(":", 1) for line in said.splitlines() if ":" in line[:12])
    assert rows["To"].strip() == "j***@example.org"
    assert rows["Cause"].strip() == "no aligned signature"
    assert rows["What to do"].strip() == "Sign with d=example.com."
    assert rows["Category"].strip() == "auth.dmarc (95%, rule postfix.unknown)"
    assert rows["The MTA got"].strip() == "451"
    assert rows["Lately"].strip().startswith("2 times in 24 hours")
    warned = [line.split(":", 1)[1].strip() for line in said.splitlines() if line.startswith("We warned")]
    assert warned == [
        "SPF003 error: hard fail (observed; reject in [lint.rules] answers 550; the next hop rejected it)",
        "HDR001 error: no From: field (observed; enforcing answers 550; the next hop rejected it)",
        "DMA002 warning: no record (reject; the next hop rejected it)",
    ]
    assert "550 5.7.26 <j***@example.org> [2J not accepted" in said
    assert "\x1b" not in said


def test_what_was_refused_to_some_is_not_called_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/h.db"
    partly = record(refusal(rcpt=b"x@r.example"), accepted=[b"y@r.example", b"z@r.example"], outcome="partial")
    with started(url, clock=time) as store:
        store.write(replace(partly, id="000000000009", at=time()), [Found(), Found("RCP002", rcpt=b"x@r.example")])
        assert store.flush(20.0)
    assert explain("000000000009", store_url=url) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("We warned")]
    assert [line.rpartition("; ")[2] for line in warned] == [
        "the next hop rejected 1 of 3)",
        "the next hop rejected it)",
    ]


def test_a_terminal_gets_no_line_that_is_wider(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(history, "000000000002", now=time(), as_json=False, color=False)
    whole = capsys.readouterr().out
    assert tell(history, "000000000002", now=time(), as_json=False, color=False, width=60)
    folded = capsys.readouterr().out
    assert max(map(len, whole.splitlines())) > 60 >= max(map(len, folded.splitlines()))
    assert folded.split() == whole.split()
    assert "\n             " in folded


def test_a_queue_id_tells_each_attempt(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given in ({"given": ("4AbcDef12",)}, {"given": (), "id": "4AbcDef12"}):
        assert run(given["given"], None, id=str(given.get("id", "")), store_url=history) == 0
        heads = [line[:12] for line in capsys.readouterr().out.splitlines() if line.startswith("0000")]
        assert heads == ["000000000002", "000000000001"]
    assert explain("4AbcDef12", store_url=history, as_json=True) == 0
    newest, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert (newest["id"], newest["refusals"][0]["lately"], len(newest["findings"])) == ("000000000002", 2, 3)


def test_a_hop_failure_of_a_whole_message(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("000000000003", store_url=history, color=True) == 0
    said = capsys.readouterr().out
    assert "\x1b[1mno answer" in said
    assert "To:          2 recipients" in said
    assert "Fault:" in said


def test_what_was_refused_here_names_us(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/h.db"
    meaning = UNKNOWN._replace(provider="other")
    refused = refusal(
        None, answer="450 4.7.1 held until noon", source="policy", action="defer", hop=None, meaning=meaning
    )
    with started(url) as store:
        store.write(replace(numbered(1, refused), next_hop=""))
        assert store.flush(20.0)
    assert explain("000000000001", store_url=url) == 0
    said = capsys.readouterr().out
    assert "\n450 held until noon\n" in said
    assert "Refused:     smtpguard, at RCPT\n" in said
    assert "The MTA got: 450, of policy\n" in said
    assert "Took:        250 ms\n" in said


LISTED = UNKNOWN._replace(category="reputation.ip_listed")
DONE = {
    "defer": "defer: held since 2023-11-14T22:13:20Z till 2023-11-15T22:13:20Z, "
    "the next attempt from 2023-11-14T22:28:20Z on",
    "throttle": "throttle: slowed down; that is over",
    "suppress": "suppress: a strike against the address, which is not suppressed now",
    "reroute": "reroute: tried at once by next hop second",
}


def test_what_policy_did_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/h.db"
    with started(url) as store:
        for number, action in enumerate(DONE):
            refused = refusal("554 5.7.1 listed", meaning=LISTED, answer="451 4.7.1 held", action=action)
            given = numbered(number, refused)
            if action == "reroute":
                taken = record(accepted=[b"jane.doe@example.org"], hop=Hop("second", "mx2.example.net", 25))
                given = replace(taken, id=given.id, at=given.at, diverted=[refused])
            store.write(given)
        store.state.holds.put(hold("egress default google", AT + 900))
        assert store.flush(20.0)
    for number, (action, done) in enumerate(DONE.items()):
        assert explain(f"{number:012d}", store_url=url) == 0
        said = capsys.readouterr().out
        assert f"Policy:      {done}\n" in said
        assert ("The MTA got" in said) == (action != "reroute")  # which nobody was told
        assert explain(f"{number:012d}", store_url=url, as_json=True) == 0
        (told,) = json.loads(capsys.readouterr().out)["refusals"]
        assert told["action"] == action
        assert ("standing" in told) == (action == "defer")
        assert told.get("detour") == ("second" if action == "reroute" else None)


def test_many_refusals_are_told_in_part_and_a_complaint_after_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/many.db"
    with started(url, clock=time) as store:
        store.write(numbered(7, *(refusal(rcpt=b"u%d@example.org" % number) for number in range(22)), at=time()))
        assert store.flush(20.0)
        masker = Masker("mask", store.key)
    complaint = Notice("arf", "complaint", recipient="u1@example.org", id="000000000007", feedback="abuse", when=1.0)
    with opened(url) as database:
        keep(database, [of_notice(complaint, None, masker, time())])
    assert explain("000000000007", store_url=url) == 0
    said = capsys.readouterr().out
    assert said.count("What to do:") == 20
    assert "and 2 refusals more (--json has all)\n\nLater:       1970-01-01T00:00:01Z arf: complaint for u***" in said
    assert "(abuse)" in said


def test_accepted_mail_of_which_a_dsn_tells(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(id="4Later", store_url=history) == 0
    said = capsys.readouterr().out
    assert said.startswith("4Later: nothing was refused\n")
    assert "dsn: failed for a***@example.org (recipient.unknown): 550 5.2.1 off" in said
    assert explain(id="4Later", store_url=history, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["notices"][0]["kind"] == "dsn"


def test_an_id_that_the_history_has_not(history: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for id in ("000000000009", "4Xyz12345", "4217809325"):
        assert explain(id, store_url=history) == 1
        assert f"no refusal with the id {id}; with a log:" in capsys.readouterr().err
        assert explain(id, store_url="") == 2
        assert "in the memory of the service" in capsys.readouterr().err
        assert explain(id, store_url=f"sqlite:///{tmp_path}/none.db") == 2
        assert "there is no history yet" in (said := capsys.readouterr().err)
        assert "is in the service's memory: set store.url" in said
    (tmp_path / "torn.db").write_bytes(b"no database" * 1000)
    assert explain("000000000009", store_url=f"sqlite:///{tmp_path}/torn.db") == 75


def test_an_id_and_no_file_is_2(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("mail.log.1", id="000000000002", store_url=history) == 2
    assert "mail.log.1: no such file" in capsys.readouterr().err


def test_a_word_that_a_rule_knows_is_a_reply(history: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("Greylisted4now", store_url=history) == 0
    assert "rate.greylisted" in capsys.readouterr().out
