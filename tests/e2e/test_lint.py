"""The lint with a real Postfix in front and real name servers beside it: what it foresees, tells and costs.

NSD, rbldnsd and unbound serve `good.test`, a sender with all in order, and Postfix's own domain, which forbids our
address: its mail is what receivers refuse, and its bounces can be read.
"""

from __future__ import annotations

import csv
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from smtpguard.sandbox import Delay, Ok, Say, Script
from tests.dns.daemons import Daemons, missing
from tests.dns.zones import load
from tests.e2e.line import POSTFIX, Door, Letter, Line, line
from tests.e2e.mta import SENDER_DOMAIN, until

FLOW_S: Final = 60.0
EGRESS: Final = 'egress_ips = ["192.0.2.25"]'
TO: Final = "ben@good.test"
BUDGET_MS: Final = 500
LATE_MS: Final = 450  # what a busy machine may add to a budget that is used up; used up twice it would be more
LOAD: Final = 80
ENOUGH: Final = 15

pytestmark = [*POSTFIX, pytest.mark.dns]


@pytest.fixture(params=["lmtp", "smtp"])
def door(request: pytest.FixtureRequest) -> Door:
    """Each door in turn."""
    name: Door = request.param
    return name


@contextmanager
def served() -> Iterator[Daemons]:
    """Name servers at work."""
    zone = load("good")
    zone.put(SENDER_DOMAIN, {"MX": [10, "mx1.good.test."]}, {"TXT": "v=spf1 -all"})
    zone.put(f"_dmarc.{SENDER_DOMAIN}", {"TXT": "v=DMARC1; p=reject"})
    zone.put("2.0.0.127.zen.spamhaus.org", {"A": "127.0.0.2"})  # the list's own test entry
    directory = Path(tempfile.mkdtemp(prefix="smtpguard-dns-"))
    directory.chmod(0o777)  # their user writes there
    servers = Daemons(directory, zone)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def daemons() -> Iterator[Daemons]:
    """Name servers for all tests of this file that leave them running."""
    if why := missing():
        pytest.skip(why)
    with served() as servers:
        yield servers


@contextmanager
def linted(
    door: Door, directory: Path, resolver: str, *, rules: str = "", script: Script | None = None, budget_ms: int = 5000
) -> Iterator[Line]:
    """A line whose lint asks this resolver, and which keeps its history in a file."""
    lint = (
        f'mode = "observe"\nbudget = "{budget_ms}ms"\n[lint.rules]\n{rules}\n'
        f'[lint.dns]\nresolvers = ["{resolver}"]\n[lint.blocklists]\nip = []\ndomain = []\n'
    )
    store = f"sqlite:///{directory}/history.db"
    with line(door, directory, script=script, lint=lint, next_hop=EGRESS, store=store) as it:
        yield it


def said(it: Line) -> str:
    """All that came back, as one line: a bounce breaks lines where it likes."""
    return " ".join(" ".join(it.mta.bounces()).split())


def by_rule(it: Line) -> dict[str, dict[str, Any]]:
    """`report --by rule`, as a machine reads it."""
    report = json.loads(it.relay.run("report", "--by", "rule", "--since", "1h", "--format", "json"))
    return {each["rule"]: each for each in report["lines"]}


def emptied(it: Line) -> None:
    """Wait until nothing is queued."""
    until(lambda: not it.mta.queue(), FLOW_S, it.state)


# --- observed ----------------------------------------------------------------------------------------------------


def test_what_the_next_hop_refuses_was_foreseen_everywhere(door: Door, directory: Path, daemons: Daemons) -> None:
    """In the log, the metrics, the report by rule, and `explain` of Postfix's queue id."""
    script = Script({"RCPT": [Ok(), Say("550 5.7.23 the SPF check failed")]})
    with linted(door, directory, daemons.address, script=script) as it:
        it.send("m0", TO)
        emptied(it)
        queue_id = it.send("m1", TO)
        emptied(it)
        assert it.delivered() == {Letter("m0", TO): 1}
        assert it.bounced() == {Letter("m1", TO): 1}

        whole = it.relay.wait_for("transaction", smtp_queue__id=queue_id)
        assert "SPF003" in whole["smtpguard.findings"]
        assert it.relay.metric('smtpguard_lint_findings_total{action="observe",rule="SPF003"}') == 2
        assert it.relay.metric('smtpguard_lint_confirmed_total{outcome="rejected",rule="SPF003"}') == 1
        assert it.relay.metric('smtpguard_lint_confirmed_total{outcome="accepted",rule="SPF003"}') == 1

        until(lambda: by_rule(it).get("SPF003", {}).get("rejected") == 1, FLOW_S, lambda: by_rule(it))
        rule = by_rule(it)["SPF003"]
        assert (rule["findings"], rule["accepted"], rule["precision"]) == (2, 1, 0.5)
        table = it.relay.run("report", "--by", "rule", "--since", "1h", "--format", "csv").splitlines()
        assert [row["rejected"] for row in csv.DictReader(table) if row["rule"] == "SPF003"] == ["1"]
        told = it.relay.run("explain", queue_id)
        assert "550 5.7.23 the SPF check failed" in told
        (warned,) = [found for found in told.splitlines() if found.startswith("We warned:") and "SPF003" in found]
        assert "answers 550" in warned
        assert "the next hop rejected it" in warned


# --- enforced ----------------------------------------------------------------------------------------------------


def test_what_is_enforced_comes_back_with_the_fix(door: Door, directory: Path, daemons: Daemons) -> None:
    with linted(door, directory, daemons.address, rules='SPF003 = "reject"') as it:
        queue_id = it.send("m0", TO)
        emptied(it)
        assert it.bounced() == {Letter("m0", TO): 1}
        assert not it.hop.heard(b"MAIL")
        assert "550 5.7.23" in said(it)
        assert "SPF003" in said(it)
        assert f'[smtpguard] Fix: publish {SENDER_DOMAIN}. TXT "v=spf1 ip4:192.0.2.25 -all"' in said(it)
        refused = it.relay.wait_for("recipient-refused", smtp_queue__id=queue_id)
        assert (refused["smtpguard.source"], refused["rule.id"]) == ("lint", "SPF003")


def test_one_recipient_is_refused_and_the_other_delivered(door: Door, directory: Path, daemons: Daemons) -> None:
    with linted(door, directory, daemons.address, rules='RCP002 = "reject"') as it:
        it.send("m0", TO, "cat@nowhere.test")
        emptied(it)
        assert it.delivered() == {Letter("m0", TO): 1}
        assert it.bounced() == {Letter("m0", "cat@nowhere.test"): 1}
        assert "[smtpguard] Fix: correct the part after the @" in said(it)


def test_what_is_deferred_stays_queued_until_it_is_mended(door: Door, directory: Path, daemons: Daemons) -> None:
    """The rule is taken back by SIGHUP: what waits goes out."""
    with linted(door, directory, daemons.address, rules='SPF003 = "defer"') as it:
        it.send("m0", TO)
        until(lambda: "451 4.7.23" in it.mta.log(), FLOW_S, it.state)
        assert it.mta.queue()
        it.relay.config.write_text(it.relay.config.read_text().replace('SPF003 = "defer"', 'SPF003 = "observe"'))
        it.relay.reload()
        emptied(it)
        assert it.delivered() == {Letter("m0", TO): 1}
        assert not it.bounced()


# --- a DNS that does not answer ----------------------------------------------------------------------------------

ALL: Final = "\n".join(f'{family} = "reject"' for family in ("SPF", "RCP", "ENV", "DMA", "RBL"))


@pytest.mark.parametrize("fault", ["silent", "gone"])
def test_with_dns_dead_mail_flows_within_the_budget(door: Door, directory: Path, fault: str) -> None:
    """Every rule may refuse, none has its facts: no refusal, and no more delay than was allowed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{resolver.getsockname()[1]}"
        if fault == "gone":  # every question meets ECONNREFUSED
            resolver.close()
        with linted(door, directory, address, rules=ALL, budget_ms=BUDGET_MS) as it:
            letters = {Letter(f"m{number}", f"n{number}@d{number}.test") for number in range(ENOUGH)}
            for message, rcpt in sorted(letters):
                it.send(message, rcpt)
            emptied(it)
            assert set(it.delivered()) == letters
            assert set(it.delivered().values()) == {1}
            assert not it.bounced()
            assert "deferred" not in it.mta.log()
            until(lambda: len(it.relay.events("transaction")) == ENOUGH, FLOW_S, it.state)
            delays = [event["event.duration"] / 1e6 for event in it.relay.events("transaction")]
            assert max(delays) < BUDGET_MS + LATE_MS, sorted(delays)
            assert it.relay.metric('smtpguard_lint_skipped_total{rule="SPF003"}') == ENOUGH
            told = 'smtpguard_lint_findings_total{action="observe",rule="DNS001"}'
            until(lambda: it.send("later", TO) and it.relay.metric(told), FLOW_S)  # silence is known by its length
            emptied(it)
            assert not it.bounced()


def test_name_servers_that_die_take_no_mail_with_them(door: Door, directory: Path) -> None:
    """What was learned before is good for its time; what is new is skipped."""
    if why := missing():
        pytest.skip(why)
    with (
        served() as servers,
        linted(door, directory, servers.address, rules='RCP = "reject"', budget_ms=BUDGET_MS) as it,
    ):

        def foreseen(transactions: int) -> int:
            """In how many of so many transactions."""
            until(lambda: len(it.relay.events("transaction")) == transactions, FLOW_S, it.state)
            return sum("SPF003" in event.get("smtpguard.findings", ()) for event in it.relay.events("transaction"))

        for word in ("warm", "m0"):  # name servers that have just begun may be late for the first one's budget
            it.send(word, TO)
            emptied(it)
        before = foreseen(2)
        assert before
        servers.stop()
        for number in range(1, ENOUGH):
            it.send(f"m{number}", TO if number % 2 else f"n{number}@d{number}.test")
        emptied(it)
        assert {f"m{number}" for number in range(ENOUGH)} <= {each.message for each in it.delivered()}
        assert set(it.delivered().values()) == {1}
        assert not it.bounced()
        assert "deferred" not in it.mta.log()
        assert foreseen(1 + ENOUGH) == before + ENOUGH - 1  # the sender's records were in the cache


# --- reload and end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["SIGHUP", "SIGTERM"])
def test_a_signal_under_load_loses_nothing(door: Door, directory: Path, daemons: Daemons, signal: str) -> None:
    """With lint and history at work: each letter ends once, and the history has every one of them."""
    rcpts = [f"550-5.1.1+{number}@good.test" if number % 3 == 0 else f"n{number}@good.test" for number in range(LOAD)]
    with linted(door, directory, daemons.address, script=Script({"DOT": Delay(0.1, Ok())})) as it:
        sending = threading.Thread(target=lambda: [it.send(f"m{number}", rcpt) for number, rcpt in enumerate(rcpts)])
        sending.start()
        until(lambda: len(it.hop.messages) >= ENOUGH, FLOW_S, it.state)
        text = it.relay.config.read_text()
        if signal == "SIGHUP":
            it.relay.config.write_text(text.replace('budget = "5000ms"', 'budget = "4000ms"'))  # a lint of its own
            it.relay.reload()
        else:
            assert it.relay.stop() == 0
            it.relay.start()
        assert it.delivered().total() < LOAD // 2, "the signal came too late to prove anything"
        sending.join()
        emptied(it)

        letters = [Letter(f"m{number}", rcpt) for number, rcpt in enumerate(rcpts)]
        assert it.bounced() == {each: 1 for each in letters if each.rcpt.startswith("550")}
        assert it.delivered() == {each: 1 for each in letters if not each.rcpt.startswith("550")}

        def report() -> tuple[int, int]:
            found = json.loads(it.relay.run("report", "--since", "1h", "--format", "json"))
            return found["accepted"], found["rejected"]

        until(lambda: report() == (len(it.delivered()), len(it.bounced())), FLOW_S, report)
