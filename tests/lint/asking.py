"""One rule, asked as the program asks it; and a check that what it says can be used."""

from __future__ import annotations

from smtpguard.lint import Action, Finding, Report, Ruleset
from smtpguard.lint.rule import RULES


def ask(code: str, *facts: object) -> list[Finding]:
    """What the rule finds in these facts; a rule that breaks, or lacks a fact, fails the test."""
    ruleset = Ruleset("observe", {"ALL": Action.OFF, code: Action.OBSERVE})
    report = Report()
    ruleset.run(RULES[code].stage, {type(fact): fact for fact in facts}, report)
    assert report.skipped == []
    for finding in report.findings:
        assert finding.rule == code
        for text in (finding.message, finding.fix):
            assert text
            assert "\n" not in text
    return report.findings


def severities(code: str, *facts: object) -> list[str]:
    """How severe its findings are, in order."""
    return [finding.severity.value for finding in ask(code, *facts)]
