"""One rule, asked as the program asks it; and a check that what it says can be used.

It is asked twice: whatever marks there are, and only where its marks are there. Both must say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from smtpguard.lint import Action, Finding, Report, Ruleset, Stage, marks
from smtpguard.lint.facts import Dkim, Dmarc, DnsFaults, LinkListings, Missing, Now, SenderListings, Signatures
from smtpguard.lint.rule import RULES
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dkim import DkimStatus, Verdict

NOTHING: Final[Mapping[type, Any]] = {
    Message: Message(b"From: a@b.example\r\n\r\n"),
    Now: Now(0),
    Dkim: Dkim(()),
    Dmarc: Missing("not asked"),
    SenderListings: SenderListings({}),
    LinkListings: LinkListings({}),
    DnsFaults: DnsFaults(()),
}
"""What stands for the facts of DATA that a test does not give."""


def marks_of(stage: Stage, facts: Mapping[type, Any]) -> int:
    """The marks of mail of which so much is known."""
    envelope = facts.get(Envelope, Envelope(b"ann@example.com"))
    if stage is Stage.MAIL:
        return marks.of_sender(envelope)
    if stage is Stage.RCPT:
        return marks.of_recipient(facts.get(Recipient, Recipient(b"bob@example.org")), envelope)
    given = {**NOTHING, **facts}
    if Signatures in facts and Dkim not in facts:
        given[Dkim] = Dkim(tuple(Verdict(each, DkimStatus.NONE) for each in facts[Signatures].signatures))
    return marks.of_message(given)


def ask(code: str, *facts: object) -> list[Finding]:
    """What the rule finds in these facts; a rule that breaks, or lacks a fact, fails the test."""
    ruleset = Ruleset("observe", {"ALL": Action.OFF, code: Action.OBSERVE})
    report, again = Report(), Report()
    stage, given = RULES[code].stage, {type(fact): fact for fact in facts}
    ruleset.run(stage, given, report)
    assert report.skipped == []
    if stage is not Stage.BACKGROUND:
        ruleset.run(stage, given, again, seen=marks_of(stage, given))
        assert again == report
    for finding in report.findings:
        assert finding.rule == code
        for text in (finding.message, finding.fix):
            assert text
            assert "\n" not in text
    return report.findings


def severities(code: str, *facts: object) -> list[str]:
    """How severe its findings are, in order."""
    return [finding.severity.value for finding in ask(code, *facts)]
