"""The lint: what would be refused, said before it is sent (lint catalogue). Pure: rules never wait.

A rule is a plain function under `@rule(...)`; the types of its parameters name the facts that it needs (`facts.py`).
A fact that could not be had makes the rule *skipped*: never passed, never blocking. Severity says how sure we are of a
refusal, the action what is done about it.
"""

from smtpguard.lint.finding import Action, Answer, Evidence, Finding, Hit, Predicted, Severity, Skipped, Stage
from smtpguard.lint.rule import RULES, Hits, Rule, rule
from smtpguard.lint.ruleset import Exemption, Report, Ruleset, can_refuse, known_selectors

__all__ = [
    "RULES",
    "Action",
    "Answer",
    "Evidence",
    "Exemption",
    "Finding",
    "Hit",
    "Hits",
    "Predicted",
    "Report",
    "Rule",
    "Ruleset",
    "Severity",
    "Skipped",
    "Stage",
    "can_refuse",
    "known_selectors",
    "rule",
]
