"""What an audit says: one thing looked at, how it is, what to do about it. Pure values, and the lint's rules as lines.

    ok      as it should be
    warn    works, and costs something or will
    fail    mail is refused for it, or will be
    skip    not there and not needed, or not to be known now (then `is_temporary`)

Where a rule of the lint judges the same thing, it is the rule that is asked, so that an audit and the lint of a message
never differ; its code stands in `rule`. POL001 to POL005 are of the audit alone: no message is judged by them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from smtpguard.lint import Action, Report, Ruleset, Severity, Stage

State = Literal["ok", "warn", "fail", "skip"]
About = Literal["spf", "dkim", "dmarc", "mx", "mta-sts", "tlsrpt", "dane", "bimi", "egress", "blocklist", "dns"]

_STATES: Final[Mapping[Severity, State]] = {Severity.ERROR: "fail", Severity.WARNING: "warn", Severity.INFO: "warn"}


# a record as a fix writes it, complete: `example.com. TXT "v=spf1 -all"`, `mail.example.com. A 192.0.2.1`
_RECORD: Final = re.compile(r'(?:^|[\s"])([\w.*-]+\. (?:TXT "[^"]+"|(?:A|AAAA|PTR|MX \d+) [\w.:-]*[\w.]))(?=[\s",;]|$)')


class Branch(NamedTuple):
    """A line of a tree. `depth` from 0; `note` is what is said of it at the side."""

    depth: int
    text: str
    note: str = ""


class Line(NamedTuple):
    """One thing found. `fix` names the very DNS record to publish where one can be written."""

    about: About
    state: State
    message: str
    fix: str = ""
    rule: str = ""
    tree: tuple[Branch, ...] = ()
    is_temporary: bool = False

    @property
    def records(self) -> tuple[str, ...]:
        """The DNS records in the fix, as a zone file has them: complete ones, that the domain's owner publishes."""
        if self.fix.startswith("have "):  # somebody else publish it
            return ()
        return tuple(found for found in _RECORD.findall(self.fix) if "..." not in found)


def unknown(about: About, question: str, fault: str) -> Line:
    """A question that the DNS did not answer: nothing is said of the domain."""
    return Line(about, "skip", f"{question} could not be looked up ({fault})", is_temporary=True)


def judged(about: About, codes: Collection[str], *facts: Any) -> Iterator[Line]:
    """What these rules of the lint find in these facts, in their order."""
    ruleset = Ruleset("observe", {"ALL": Action.OFF} | dict.fromkeys(codes, Action.OBSERVE))
    report = Report()
    given = {type(fact): fact for fact in facts}
    for stage in Stage:
        ruleset.run(stage, given, report)
    for finding in report.findings:
        yield Line(about, _STATES[finding.severity], finding.message, finding.fix, finding.rule)
