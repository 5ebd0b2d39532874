"""The rules that are on, chosen once by configuration, and asked for each message.

`Ruleset(...)` does the choosing; `run` calls the rules of one stage over the facts at hand and never raises: a rule of
ours that breaks is skipped like one that lacks a fact.

Two things make it quick. Which rules there are to ask is worked out once for each shape of mail (`_Asked`): which facts
it has, which are missing, which marks (`marks.py`). And of facts that last, the same object for many messages, silence
is remembered: rules that said nothing of them are not asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
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
    marks,
    mime,
    recipients,
    spf,
)
from smtpguard.lint.facts import Dmarc, Egress, HeloSpf, Missing, RcptDomain, SenderDomain, Signing, Spf
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

LASTING: Final = frozenset({SenderDomain, RcptDomain, Spf, HeloSpf, Egress, Signing, Dmarc})
"""Facts that many messages share, the same object each time."""
MAX_SILENT: Final = 8192
"""Such facts that are remembered, those of each shape of mail by themselves."""
MAX_SHAPES: Final = 1024

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


_numbers = count()


class _Asked:
    """The rules that mail of one shape is asked about, in order."""

    def __init__(self, rules: Iterable[Rule], kinds: Sequence[type], missing: Sequence[type], seen: int) -> None:
        self.number = next(_numbers)
        """Never another's: what is silent of this shape is told by it."""
        self.rules: list[Rule] = []
        self.skipped: list[tuple[str, type]] = []
        """Rules by code that lack a fact, and which. One that was not asked for is not told of."""
        for rule in rules:
            lack = next((kind for kind in rule.needs if kind not in kinds or kind in missing), None)
            if lack is not None and lack in missing:
                self.skipped.append((rule.code, lack))
            elif lack is None and (not rule.when or rule.when & seen):
                self.rules.append(rule)
        lasting = [rule for rule in self.rules if LASTING.issuperset(rule.needs)]
        self.passing = [rule for rule in self.rules if rule not in lasting]
        """Those to ask even where the others are known to be silent."""
        self.lasting = tuple(dict.fromkeys(kind for rule in lasting for kind in rule.needs))


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
        self._shapes: dict[tuple[Any, ...], _Asked] = {}
        self._silent: dict[tuple[int, ...], list[Any]] = {}
        """By shape and identity, lasting facts of which no rule says anything; held, so that the identity stays."""
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
        seen: int = marks.ALL,
        is_bulk: bool = False,
        exempt: frozenset[str] = frozenset(),
        rcpt: bytes | None = None,
    ) -> bool:
        """Ask the rules of a stage; what they say is added to `report`. Rules that want a fact beyond `facts` are not.

        `seen`: the marks of this mail; rules that have nothing to say without others are passed over. `exempt`: the
        codes that `self.exempt` gave for this mail. `rcpt` is noted in the findings. True: nothing was said, nor will
        there be when the same facts that last come with whatever others.
        """
        missing: tuple[type, ...] = ()
        if Missing in map(type, facts.values()):
            missing = tuple([kind for kind, fact in facts.items() if type(fact) is Missing])
        shape = (stage, is_bulk, seen, exempt, missing, *facts)
        asked = self._shapes.get(shape) or self._shaped(shape, facts)
        for code, lack in asked.skipped:
            report.skipped.append(Skipped(code, facts[lack].why))
        rules = asked.rules
        held: list[Any] = []
        unheard: tuple[int, ...] | None = None
        if asked.lasting:
            held = [facts[kind] for kind in asked.lasting]
            key = (asked.number, *map(id, held))
            if key not in self._silent:
                unheard = key
            elif asked.passing:
                rules = asked.passing
            else:
                return not asked.skipped
        for rule in rules:
            try:
                hits = list(rule.check(*[facts[kind] for kind in rule.needs]))
            except Exception as error:
                report.faults.append(error)
                report.skipped.append(Skipped(rule.code, f"fault: {type(error).__name__}"))
                unheard = None
                continue
            if hits:
                report.findings += [self._finding(rule, hit, rcpt) for hit in hits]
                if LASTING.issuperset(rule.needs):
                    unheard = None
        if unheard is not None:
            if len(self._silent) >= MAX_SILENT:
                self._silent.clear()
            self._silent[unheard] = held
        return not (rules or asked.skipped)

    def _shaped(self, shape: tuple[Any, ...], facts: Mapping[type, Any]) -> _Asked:
        """The rules for mail of a shape that was not seen before."""
        stage, is_bulk, seen, exempt, missing = shape[:5]
        rules = [rule for rule in self._by_stage[stage] if rule.code not in exempt and (is_bulk or not rule.is_bulk)]
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        asked = self._shapes[shape] = _Asked(rules, tuple(facts), missing, seen)
        return asked

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
