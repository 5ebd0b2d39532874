"""Facts that last: where nothing was said of one, its rules are not asked again; nothing else is remembered."""

from __future__ import annotations

import gc
import weakref

from smtpguard.lint import Action, Report, Ruleset, Stage
from smtpguard.lint.facts import MailDomain, RcptDomain, SenderDomain
from smtpguard.lint.ruleset import MAX_SILENT
from smtpguard.mail.message import Message
from smtpguard.mailauth.dns import Answer, Mx, Status

RULE = {"ALL": Action.OFF, "ENV002": Action.OBSERVE, "RCP002": Action.OBSERVE, "RCP003": Action.OBSERVE}


def domain(status: Status = Status.POSITIVE, name: str = "a.example") -> MailDomain:
    """Of a sender or a recipient."""
    records = (Mx(10, "mx.a.example"),) if status is Status.POSITIVE else ()
    return MailDomain(name, Answer(status, records, ttl=300))


def said(ruleset: Ruleset, fact: object, *, stage: Stage = Stage.MAIL, exempt: frozenset[str] = frozenset()) -> str:
    """The rules that hit, and those that were skipped."""
    report = Report()
    facts: dict[type, object] = {SenderDomain: fact, RcptDomain: fact}
    ruleset.run(stage, facts, report, exempt=exempt)
    return " ".join([*(each.rule for each in report.findings), *(f"-{each.rule}" for each in report.skipped)])


class Counted(MailDomain):
    """Counts how often a rule looks at it."""

    looks = 0

    @property
    def is_missing(self) -> bool:
        Counted.looks += 1
        return False


def test_a_fact_of_which_nothing_was_said_is_looked_at_once() -> None:
    ruleset = Ruleset(chosen=RULE)
    fact = Counted("a.example", Answer(Status.POSITIVE, (Mx(10, "mx.a.example"),), ttl=300))
    Counted.looks = 0
    assert said(ruleset, fact) == ""
    looks = Counted.looks
    assert looks > 0
    assert said(ruleset, fact) == ""
    assert Counted.looks == looks
    assert said(Ruleset(chosen=RULE), fact) == ""
    assert Counted.looks == 2 * looks


def test_what_is_said_of_a_fact_is_said_each_time() -> None:
    ruleset = Ruleset(chosen=RULE)
    missing = domain(Status.NXDOMAIN)
    assert [said(ruleset, missing) for _ in range(3)] == ["ENV002"] * 3
    assert said(ruleset, domain()) == ""
    assert said(ruleset, missing) == "ENV002"


def test_silence_at_one_stage_is_none_at_another() -> None:
    ruleset = Ruleset(chosen={"ALL": Action.OFF, "RCP002": Action.OBSERVE})
    missing = domain(Status.NXDOMAIN)
    assert said(ruleset, missing) == ""
    assert said(ruleset, missing, stage=Stage.RCPT) == "RCP002"


def test_an_exempted_rule_is_asked_for_other_mail() -> None:
    ruleset = Ruleset(chosen=RULE)
    missing = domain(Status.NXDOMAIN)
    assert said(ruleset, missing, exempt=frozenset({"ENV002"})) == ""
    assert said(ruleset, missing) == "ENV002"


def test_another_fact_is_another_even_in_the_place_of_one_that_is_gone() -> None:
    ruleset = Ruleset(chosen=RULE)
    for number in range(MAX_SILENT + 10):
        assert said(ruleset, domain(name=f"n{number}.example")) == ""
    assert [said(ruleset, domain(Status.NXDOMAIN)) for _ in range(10)] == ["ENV002"] * 10


def test_a_message_that_lets_go_needs_no_garbage_collector() -> None:
    message = Message(b"From: a@b.example\r\n\r\nsee https://c.example/\r\n")
    assert message.bodies.texts[0].links
    seen = weakref.ref(message)
    gc.disable()
    try:
        message.let_go()
        del message
        assert seen() is None
    finally:
        gc.enable()
