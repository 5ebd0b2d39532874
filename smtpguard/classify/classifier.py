"""A reply's category: all phrases searched at once, then the most specific rule that holds.

One pass over the words finds which phrases a text may hold (phrases.py). The tiers of rules, weightiest first, are then
asked in turn until one has a rule that holds: most replies are told by their first. Rules without text are looked up by
code. What is told of the winner stands in classification.py. It never raises, whatever a server wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.classify import extract
from smtpguard.classify.classification import NO_RULE, Classification, Words, explained
from smtpguard.classify.phrases import Phrasebook, Read
from smtpguard.classify.providers import OTHER, provider_in, provider_of
from smtpguard.classify.regex import compiled, finder, measuring, plain
from smtpguard.classify.rules import Rank, Rule
from smtpguard.mail.reply import EnhancedCode, Reply, Verb

MAX_TEXT: Final = 4096
"""Octets of a reply that are looked at (categories: the bar)."""


class Hit(NamedTuple):
    """A rule that holds for a reply: how many characters of it the rule says, where, and what that is (the winner)."""

    rule: Rule
    said: int = 0
    span: tuple[int, int] = (0, 0)
    matched: str = ""

    @property
    def weight(self) -> tuple[Rank, int]:
        """What decides; two hits of one weight and different categories are a fault of the rules."""
        return self.rule.rank, self.said


class Pattern:
    """One pattern of a rule: `find` says where it is in a text, `said` how many characters of that are no gap."""

    __slots__ = ("_measure", "find", "rule", "text")

    def __init__(self, rule: Rule, text: str) -> None:
        self.rule = rule
        self.text = text
        self.find = finder(text)
        self._measure = compiled(measuring(text))

    def said(self, lower: bytes) -> int:
        """How much of its match in `lower` it says itself."""
        found = self._measure.search(lower)
        if found is None:  # cannot be: the same pattern was found; but nothing here may raise
            return 0
        start, end = found.span()
        return end - start - sum(len(gap) for gap in found.groups() if gap)


class _Tier(NamedTuple):
    """Rules of one weight down to their text (`Rule.tier`): their phrases as bits, their patterns, if any have none."""

    weight: int
    says: int
    patterns: list[Pattern]
    bare: bool


class _Reading(NamedTuple):
    """One reply as the search saw it."""

    text: bytes
    provider: str
    hits: list[Hit]


class Classifier:
    """Rules made ready. Immutable and without state of a reply: one serves any number of threads and tasks."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: Final = tuple(sorted(rules, key=lambda rule: rule.id))
        # a server says few different codes; the bound is for one that makes them up
        self._bare_for = lru_cache(maxsize=2048)(self._bare_rules)
        self._words: Final = {rule.id: Words.of(rule) for rule in self.rules}
        self._bare: defaultdict[tuple[object, ...], list[Rule]] = defaultdict(list)
        self.patterns: Final = [Pattern(rule, pattern) for rule in self.rules for pattern in rule.patterns]
        said = [(rule, phrase, True) for rule in self.rules for phrase in rule.phrases]
        unsaid = [(rule, phrase, False) for rule in self.rules for phrase in rule.unless]
        phrased = [*said, *unsaid]
        self._owners: Final = [rule for rule, _, _ in phrased]
        self.book: Final = Phrasebook([phrase for _, phrase, _ in phrased])
        self._bars: Final[dict[str, int]] = {}  # of a rule: the bits of its `unless`
        says: defaultdict[int, int] = defaultdict(int)  # of a tier: the bits of its phrases
        for number, (rule, _, is_said) in enumerate(phrased):
            if is_said:
                says[rule.tier] |= 1 << number
            else:
                self._bars[rule.id] = self._bars.get(rule.id, 0) | 1 << number
        for rule in self.rules:
            if not rule.patterns and not rule.phrases:
                for key in rule.enhanced or sorted(rule.codes) or ("",):
                    self._bare[key if isinstance(key, tuple) else (key,)].append(rule)
        self._tiers: Final = [
            _Tier(
                weight,
                says[weight],
                [pattern for pattern in self.patterns if pattern.rule.tier == weight],
                any(rule.tier == weight and not rule.patterns and not rule.phrases for rule in self.rules),
            )
            for weight in sorted({rule.tier for rule in self.rules}, reverse=True)
        ]
        # where nobody knows who answered, rules of a provider do not hold
        self._anybody_s: Final = [tier for tier in self._tiers if not tier.weight // 10 % 10]

    def match(self, reply: Reply, host: str = "", *, verb_known: bool = True) -> Classification:
        """What `reply`, a 4xx or 5xx of the host or provider `host`, is about.

        Without `verb_known` the reply's verb is no more than a default and rules that ask for one do not hold.
        """
        reading = self._read(reply, host, reply.verb if verb_known else None)
        if not reading.hits:
            return explained(NO_RULE, reading.text, reading.provider, "", ())
        best = reading.hits[0]
        category, tier = best.rule.category, best.rule.tier
        # heaviest first; each category once
        others = {hit.rule.category: None for hit in reading.hits if hit.rule.tier == tier}
        del others[category]
        return explained(self._words[best.rule.id], reading.text, reading.provider, best.matched, tuple(others))

    def hits(self, reply: Reply, host: str = "", verb: Verb | None = None) -> list[Hit]:
        """All rules that hold, the winner first; `verb` None: not known."""
        return self._read(reply, host, verb, whole=True).hits

    def prove(self, rules: Sequence[Rule] | None = None) -> list[str]:
        """What is wrong with the examples of `rules` (all).

        A rule must hold for its example, and the example must get the rule's category, from it or from one that says
        more; a rule of another category that weighs as much as the winner is a draw.
        """
        faults = []
        for rule in self.rules if rules is None else rules:
            for example in rule.examples:
                hits = self.hits(example.reply, example.host, example.verb)
                told = f"{rule.file}: {rule.id}: {str(example.reply)!r}"
                if rule.id not in {hit.rule.id for hit in hits}:
                    faults.append(f"{told} is not what the rule says")
                elif hits[0].rule.category != rule.category:
                    faults.append(f"{told} is won by {hits[0].rule.id}, {hits[0].rule.category}")
                faults += [
                    f"{told} is a draw of {hits[0].rule.id} and {hit.rule.id}"
                    for hit in hits[1:]
                    if hit.weight == hits[0].weight and hit.rule.category != hits[0].rule.category
                ]
        return faults

    def _read(self, reply: Reply, host: str, verb: Verb | None, *, whole: bool = False) -> _Reading:
        """The hits of the weightiest tier that has any, heaviest first; `whole`: those of all tiers."""
        folded = _fold(reply)
        simple = plain(folded)
        text, lower = _octets(folded), _octets(simple)
        code = reply.code
        enhanced = reply.enhanced or extract.enhanced_within(text, reply.klass)
        provider = provider_of(host) if host else OTHER
        if provider == OTHER:
            provider = provider_in(lower)
        read = self.book.read(simple)
        there = read.candidates
        hits: list[Hit] = []
        for tier in self._tiers if provider != OTHER else self._anybody_s:
            held: list[Hit] = []
            bars = 0
            if there & tier.says:
                for number, said, start, end in self.book.find(read, tier.says):
                    rule = self._owners[number]
                    if rule.is_free or rule.holds(provider, verb, code, enhanced):
                        held.append(Hit(rule, said, (start, end)))
                        bars |= self._bars.get(rule.id, 0)
            for pattern in tier.patterns:
                rule = pattern.rule
                if rule.holds(provider, verb, code, enhanced) and (span := pattern.find(lower))[0] >= 0:
                    shown = text if len(text) == len(lower) else lower  # as written, unless the plain form is longer
                    held.append(Hit(rule, pattern.said(lower), span, shown[slice(*span)].decode("utf-8", "replace")))
                    bars |= self._bars.get(rule.id, 0)
            if tier.bare:
                held += [
                    Hit(rule) for rule in self._bare_for(provider, verb, code, enhanced) if rule.tier == tier.weight
                ]
            if held:
                if bars & there:
                    barred = {self._owners[one.number].id for one in self.book.find(read, bars)}
                    held = [hit for hit in held if hit.rule.id not in barred]
                hits += _weighed(held) if len(held) > 1 else held
                if hits and not whole:
                    break
        if hits and hits[0].said and not hits[0].matched:
            rule, said, span, _ = hits[0]
            hits[0] = Hit(rule, said, span, _matched(span, read, folded))
        return _Reading(text, provider, hits)

    def _bare_rules(
        self, provider: str, verb: Verb | None, code: int, enhanced: EnhancedCode | None
    ) -> tuple[Rule, ...]:
        """Rules without text that hold, once each."""
        keys: list[tuple[object, ...]] = [(code,), (code // 100,), ("",)]
        if enhanced is not None:
            klass, subject, detail = enhanced
            keys += [(k, s, d) for k in (klass, None) for s in (subject, None) for d in (detail, None)]
        found = {rule.id: rule for key in keys for rule in self._bare.get(key, ())}
        return tuple(rule for rule in found.values() if rule.holds(provider, verb, code, enhanced))


def _fold(reply: Reply) -> str:
    """The text on one line with single spaces, without the code that each line of a log repeats."""
    text = reply.text
    if not text.isascii():
        text = text.encode("utf-8", "replace")[:MAX_TEXT].decode("utf-8", "replace")
    text = " ".join(text[:MAX_TEXT].split())
    if (lead := f" {reply.code}") in text:
        for join in ("-", " "):
            if reply.enhanced is not None:
                text = text.replace(f"{lead}{join}{reply.enhanced} ", " ")
        text = text.replace(f"{lead}-", " ")
    return text


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def _matched(span: tuple[int, int], read: Read, written: str) -> str:
    """The words of a phrase as written; in plain form where making the text plain joined or parted words."""
    start, end = span
    shown = written.split()
    if len(shown) != len(read.written):
        shown = read.written
    return " ".join(shown[read.tokens[start] : read.tokens[end - 1] + 1])


def _weighed(held: Iterable[Hit]) -> list[Hit]:
    """The hits, one a rule, heaviest first."""
    best: dict[str, Hit] = {}
    for hit in held:
        known = best.get(hit.rule.id)
        if known is None or hit.said > known.said:
            best[hit.rule.id] = hit
    return sorted(best.values(), key=_heaviness, reverse=True)


def _heaviness(hit: Hit) -> tuple[int, int, str]:
    # the id last, so that no order of files matters
    return hit.rule.order, hit.said, hit.rule.id
