"""The rules that are on, chosen once by configuration, and asked for each message.

`Ruleset(...)` does the choosing; `run` calls the rules of one stage over the facts at hand and never raises: a rule of
ours that breaks is skipped like one that lacks a fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from smtpguard.lint import (
    bulk,
    content,
    dkim,
    dmarc,
    dns,
    egress,
    envelope,
    headers,
    html,
    listed,
    mime,
    recipients,
    spf,
)
from smtpguard.lint.facts import Missing
from smtpguard.lint.finding import Action, Finding, Hit, Skipped, Stage
from smtpguard.lint.rule import RULES, Rule
from smtpguard.mail.patterns import matches

FAMILIES: Final = (
    envelope,
    recipients,
    spf,
    dkim,
    dmarc,
    egress,
    listed,
    headers,
    mime,
    content,
    html,
    bulk,
    dns,
)
"""The files that hold the rules: importing one registers what it has."""

Mode = Literal["off", "observe", "enforce"]


@dataclass(frozen=True, slots=True)
class Exemption:
    """`[[lint.except]]`: these rules are off for this mail. Domain patterns; empty: any."""

    rules: tuple[str, ...]
    sender_domain: tuple[str, ...] = ()
    recipient_domain: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """What one run said."""

    findings: list[Finding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def is_selected(rule: Rule, selector: str) -> bool:
    """Whether a selector of the configuration means this rule: its code, its family, its name, or `ALL`."""
    return selector in (rule.code, rule.family, rule.name, "ALL")


def known_selectors() -> frozenset[str]:
    """Everything that `[lint.rules]` may name."""
    return frozenset({"ALL"} | {text for rule in RULES.values() for text in (rule.code, rule.family, rule.name)})


def names(rule: Rule, chosen: Mapping[str, Action]) -> list[str]:
    """The selectors of the configuration that mean this rule, the most specific first."""
    return [selector for selector in (rule.code, rule.name, rule.family, "ALL") if selector in chosen]


def action_of(rule: Rule, mode: Mode, chosen: Mapping[str, Action]) -> Action:
    """What is done about a rule's hits: the most specific selector wins (code, name, family, ALL), then the mode."""
    for selector in names(rule, chosen):
        return chosen[selector]
    if not rule.by_default:
        return Action.OFF
    return Action.REJECT if mode == "enforce" and rule.is_certain else Action.OBSERVE


class Ruleset:
    """The rules that are on, by stage. `chosen`: `[lint.rules]`, selector to action."""

    def __init__(
        self, mode: Mode = "observe", chosen: Mapping[str, Action] | None = None, exemptions: Sequence[Exemption] = ()
    ) -> None:
        self.actions: dict[str, Action] = {}
        self._by_stage: dict[Stage, list[Rule]] = {stage: [] for stage in Stage}
        self._exemptions = tuple(exemptions)
        self._by_mode: set[str] = set()  # rejecting because the mode says so
        for rule in RULES.values():
            action = Action.OFF if mode == "off" else action_of(rule, mode, chosen or {})
            self.actions[rule.code] = action
            if action is Action.REJECT and not names(rule, chosen or {}):
                self._by_mode.add(rule.code)
            if action is not Action.OFF:
                self._by_stage[rule.stage].append(rule)

    def needs(self, stage: Stage) -> frozenset[type]:
        """The facts that the rules of a stage ask for."""
        return frozenset(fact for rule in self._by_stage[stage] for fact in rule.needs)

    def acts(self, stage: Stage) -> bool:
        """Whether a rule of this stage may defer or reject, so that its facts are wanted before the answer."""
        return any(self.actions[rule.code] in (Action.DEFER, Action.REJECT) for rule in self._by_stage[stage])

    def exempt(self, sender_domain: str, recipient_domains: Sequence[str]) -> frozenset[str]:
        """The codes of the rules that `[[lint.except]]` takes off this mail: all its recipients are meant."""
        if not self._exemptions:
            return frozenset()
        return frozenset(
            rule.code
            for exemption in self._exemptions
            if matches(exemption.sender_domain, sender_domain)
            and all(matches(exemption.recipient_domain, domain) for domain in recipient_domains)
            for rule in RULES.values()
            if any(is_selected(rule, selector) for selector in exemption.rules)
        )

    def run(
        self,
        stage: Stage,
        facts: Mapping[type, Any],
        report: Report,
        *,
        is_bulk: bool = False,
        exempt: frozenset[str] = frozenset(),
        rcpt: bytes | None = None,
    ) -> None:
        """Ask the rules of a stage; what they say is added to `report`. A fact that is not in `facts` is missing.

        `exempt`: the codes that `self.exempt` gave for this mail. `rcpt` is noted in the findings.
        """
        for rule in self._by_stage[stage]:
            if rule.code in exempt or (rule.is_bulk and not is_bulk):
                continue
            given = [facts.get(need, _NOT_ASKED) for need in rule.needs]
            missing = next((fact for fact in given if type(fact) is Missing), None)
            if missing is not None:
                if missing is not _NOT_ASKED:
                    report.skipped.append(Skipped(rule.code, missing.why))
                continue
            try:
                hits = list(rule.check(*given))
            except Exception as error:  # our fault, not the mail's
                report.skipped.append(Skipped(rule.code, f"fault: {type(error).__name__}"))
                continue
            report.findings += [self._finding(rule, hit, rcpt) for hit in hits]

    def _finding(self, rule: Rule, hit: Hit, rcpt: bytes | None) -> Finding:
        action = self.actions[rule.code]
        is_milder = hit.severity is not None and hit.severity is not rule.severity
        if is_milder and rule.code in self._by_mode:  # the mode refuses what is certain; this hit says that it is not
            action = Action.OBSERVE
        return Finding(
            rule.code,
            rule.name,
            hit.severity or rule.severity,
            hit.message,
            hit.fix or rule.fix,
            rule.reference,
            rule.predicts,
            hit.evidence,
            action,
            rule.answer,
            rule.category,
            "stale" if hit.is_stale else "message" if hit.ttl is None else "dns",
            hit.ttl,
            rcpt,
        )


_NOT_ASKED: Final = Missing("not asked")
