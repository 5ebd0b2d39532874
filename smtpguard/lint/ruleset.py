"""The rules that are on, chosen once by configuration, and asked for each message.

`Ruleset(...)` does the choosing; `run` calls the rules of one stage over the facts at hand and never raises: a rule of
ours that breaks is skipped like one that lacks a fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from smtpguard.lint.facts import Egress, HeloSpf, Missing, RcptDomain, SenderDomain, Signing, Spf
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

LASTING: Final = frozenset({SenderDomain, RcptDomain, Spf, HeloSpf, Egress, Signing})
"""Facts that many messages share, the same object each time: rules that need nothing else and had nothing to say of one
are not asked about it again."""
MAX_SILENT: Final = 4096
"""Such facts that are remembered, for each stage."""

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
    faults: list[Exception] = field(default_factory=list)
    """Of ours, not the mail's: what the rules raised that are among the skipped."""


def is_selected(rule: Rule, selector: str) -> bool:
    """Whether a selector of the configuration means this rule: its code, its family, its name, or `ALL`."""
    return selector in (rule.code, rule.family, rule.name, "ALL")


def known_selectors() -> frozenset[str]:
    """Everything that `[lint.rules]` may name."""
    return frozenset({"ALL"} | {text for rule in RULES.values() for text in (rule.code, rule.family, rule.name)})


def can_refuse(selector: str) -> bool:
    """Whether mail can be refused for any of the rules that a selector means."""
    return any(rule.can_refuse for rule in RULES.values() if is_selected(rule, selector))


def names(rule: Rule, chosen: Mapping[str, Action]) -> list[str]:
    """The selectors of the configuration that mean this rule, the most specific first."""
    return [selector for selector in (rule.code, rule.name, rule.family, "ALL") if selector in chosen]


def action_of(rule: Rule, mode: Mode, chosen: Mapping[str, Action]) -> Action:
    """What is done about a rule's hits: the most specific selector wins (code, name, family, ALL), then the mode.

    What cannot be refused for (`Rule.can_refuse`) is observed where its family is to be refused for.
    """
    for selector in names(rule, chosen):
        action = chosen[selector]
        return action if rule.can_refuse or action is Action.OFF else Action.OBSERVE
    if not rule.by_default:
        return Action.OFF
    return Action.REJECT if mode == "enforce" and rule.is_certain else Action.OBSERVE


class _Plan:
    """The rules of a stage, with the facts that each wants as a number in `wants`, where like wants stand once."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        listed = tuple(rules)
        self.wants = tuple(dict.fromkeys(rule.needs for rule in listed))
        self.rules = tuple((rule, self.wants.index(rule.needs)) for rule in listed)
        self.lasting = tuple(number for number, needs in enumerate(self.wants) if LASTING.issuperset(needs))
        self.silent: dict[tuple[int, ...], tuple[Any, ...]] = {}
        """By number and identity, lasting facts of which no rule says anything; held, so that the identity stays."""

    def hush(self, number: int, given: tuple[Any, ...]) -> None:
        """No rule said anything of these."""
        if len(self.silent) >= MAX_SILENT:
            self.silent.clear()
        self.silent[number, *map(id, given)] = given


class Ruleset:
    """The rules that are on, by stage. `chosen`: `[lint.rules]`, selector to action."""

    def __init__(
        self, mode: Mode = "observe", chosen: Mapping[str, Action] | None = None, exemptions: Sequence[Exemption] = ()
    ) -> None:
        self.actions: dict[str, Action] = {}
        self._by_stage: dict[Stage, list[Rule]] = {stage: [] for stage in Stage}
        self.exemptions = tuple(exemptions)
        self._by_mode: set[str] = set()  # rejecting because the mode says so
        for rule in RULES.values():
            action = Action.OFF if mode == "off" else action_of(rule, mode, chosen or {})
            self.actions[rule.code] = action
            if action is Action.REJECT and not names(rule, chosen or {}):
                self._by_mode.add(rule.code)
            if action is not Action.OFF:
                self._by_stage[rule.stage].append(rule)
        self._plans = {
            (stage, is_bulk): _Plan(rule for rule in rules if is_bulk or not rule.is_bulk)
            for stage, rules in self._by_stage.items()
            for is_bulk in (False, True)
        }
        self._acts = {stage: self._is_acting(stage) for stage in Stage}

    def needs(self, stage: Stage) -> frozenset[type]:
        """The facts that the rules of a stage ask for."""
        return frozenset(fact for rule in self._by_stage[stage] for fact in rule.needs)

    def acts(self, stage: Stage) -> bool:
        """Whether a rule of this stage may defer or reject, so that its facts are wanted before the answer.

        Of MAIL none, where an exception for some recipients takes off such a rule: who they are is known after the dot.
        """
        return self._acts[stage]

    def _is_acting(self, stage: Stage) -> bool:
        acting = [rule for rule in self._by_stage[stage] if self.actions[rule.code] in (Action.DEFER, Action.REJECT)]
        return bool(acting) and not (stage is Stage.MAIL and any(map(self._is_for_some, acting)))

    def _is_for_some(self, rule: Rule) -> bool:
        return any(
            exemption.recipient_domain and any(is_selected(rule, selector) for selector in exemption.rules)
            for exemption in self.exemptions
        )

    def exempt(self, sender_domain: str, recipient_domains: Sequence[str]) -> frozenset[str]:
        """The codes of the rules that `[[lint.except]]` takes off this mail: all its recipients are meant.

        Where they are not known, no exception for some of them holds.
        """
        return frozenset(
            rule.code
            for exemption in self.exemptions
            if matches(exemption.sender_domain, sender_domain)
            and (recipient_domains or not exemption.recipient_domain)
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
        plan = self._plans[stage, is_bulk]
        wanted: list[tuple[Any, ...] | Missing | None] = [_given(needs, facts) for needs in plan.wants]
        unheard = {}
        for number in () if exempt else plan.lasting:
            given = wanted[number]
            if type(given) is not tuple:
                continue
            if (number, *map(id, given)) in plan.silent:
                wanted[number] = None
            else:
                unheard[number] = given
        for rule, number in plan.rules:
            given = wanted[number]
            if given is None or rule.code in exempt:
                continue
            if type(given) is Missing:
                report.skipped.append(Skipped(rule.code, given.why))
                continue
            try:
                hits = list(rule.check(*given))
            except Exception as error:
                report.faults.append(error)
                report.skipped.append(Skipped(rule.code, f"fault: {type(error).__name__}"))
                unheard.pop(number, None)
                continue
            if hits:
                report.findings += [self._finding(rule, hit, rcpt) for hit in hits]
                unheard.pop(number, None)
        for number, silent in unheard.items():
            plan.hush(number, silent)

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


def _given(needs: tuple[type, ...], facts: Mapping[type, Any]) -> tuple[Any, ...] | Missing | None:
    """These facts; Missing where one is, None where one was not asked for."""
    given = tuple(map(facts.get, needs))
    for fact in given:
        if fact is None:
            return None
        if type(fact) is Missing:
            return fact
    return given
