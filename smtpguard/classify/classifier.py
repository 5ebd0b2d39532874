"""A reply's category: all rules searched at once, then the most specific that holds.

One search finds what a text contains; the few rules found are weighed by their rank (rules.py), and rules without text
are looked up by code. The same search says whose text it is (providers.toml), which block list it names, and whether
there is anything to extract. It never raises, whatever a server wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.classify import extract
from smtpguard.classify.categories import BY_NAME, Category, group_of, guide, places
from smtpguard.classify.providers import OTHER, provider_in, provider_of
from smtpguard.classify.index import Index, keys
from smtpguard.classify.regex import Regex, compiled, finder, measuring, plain
from smtpguard.classify.rules import Rank, Rule
from smtpguard.mail.reply import EnhancedCode, Reply, Verb

MAX_TEXT: Final = 4096
"""Octets of a reply that are looked at (categories: the bar)."""

# by what a rule says at its most specific: (provider, text) of Rank; a rule may state its own
_CONFIDENCE: Final = {(1, 2): 0.97, (0, 2): 0.9, (1, 1): 0.7, (0, 1): 0.6, (1, 0): 0.8, (0, 0): 0.4}
_CODE_ONLY = 0.25
_DOUBT = 0.8
"""What is left of the confidence when words of another category stand in the same text."""


@dataclass(frozen=True, slots=True)
class Classification:
    """What a refusal is about, who can fix it, how.

    `category` is of the closed set; `confidence` 0 to 1; `rule` the id of the rule ("" none matched) and `matched` the
    text that it matched. `permanence` is what is true in fact, whatever class the code has. `alternatives` are other
    categories that equally specific rules saw, likeliest first. `retry_after` is in seconds, where the text gives it.
    """

    category: str
    confidence: float = 0.0
    rule: str = ""
    matched: str = ""
    provider: str = OTHER
    permanence: str = "unknown"
    responsible: str = "unknown"
    scope: str = "message"
    cause: str = ""
    fix: str = ""
    alternatives: tuple[str, ...] = ()
    retry_after: float | None = None
    blocklist: str = ""
    delisting: str = ""
    reference: str = ""

    @property
    def group(self) -> str:
        """The part of the category before the dot."""
        return group_of(self.category)


class Hit(NamedTuple):
    """A rule that holds for a reply: what its pattern matched, and how many characters of that were no gap."""

    rule: Rule
    said: int = 0
    matched: str = ""

    @property
    def weight(self) -> tuple[Rank, int]:
        """What decides; two hits of one weight and different categories are a fault of the rules."""
        return self.rule.rank, self.said


class Pattern:
    """One pattern of a rule: `find` says where it is in a text, `hit` also how much of that it said itself."""

    __slots__ = ("_measure", "find", "rule", "text")

    def __init__(self, rule: Rule, text: str) -> None:
        self.rule = rule
        self.text = text
        self.find = finder(text)
        self._measure: Regex | None = None  # few are ever contested

    def hit(self, lower: bytes, shown: bytes, span: tuple[int, int], *, contested: bool) -> Hit:
        """The match at `span` of `lower`, as `shown` writes it; its weight to the character only if it is contested."""
        start, end = span
        said = end - start
        if contested:
            self._measure = self._measure or compiled(measuring(self.text))
            if (found := self._measure.search(lower)) is not None:
                said -= sum(len(gap) for gap in found.groups() if gap)
        return Hit(self.rule, said, shown[start:end].decode("utf-8", "replace"))


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
        self._words: Final = {rule.id: _Words.of(rule) for rule in self.rules}
        self._bare: defaultdict[tuple[object, ...], list[Rule]] = defaultdict(list)
        self.patterns: Final = [Pattern(rule, pattern) for rule in self.rules for pattern in rule.patterns]
        self.index: Final = Index([pattern.text for pattern in self.patterns])
        self._unless: Final = {rule.id: [finder(text) for text in rule.unless] for rule in self.rules if rule.unless}
        for rule in self.rules:
            if not rule.patterns:
                for key in rule.enhanced or sorted(rule.codes) or ("",):
                    self._bare[key if isinstance(key, tuple) else (key,)].append(rule)

    def match(self, reply: Reply, host: str = "", *, verb_known: bool = True) -> Classification:
        """What `reply`, a 4xx or 5xx of the host or provider `host`, is about.

        Without `verb_known` the reply's verb is no more than a default and rules that ask for one do not hold.
        """
        reading = self._read(reply, host, reply.verb if verb_known else None)
        if not reading.hits:
            return _explained(_NO_RULE, reading, None, (), 0.0)
        best = reading.hits[0]
        category = best.rule.category
        others = dict.fromkeys(
            hit.rule.category
            for hit in reading.hits
            if hit.rule.rank.tier == best.rule.rank.tier and hit.rule.category != category
        )
        return _explained(
            self._words[best.rule.id], reading, best, tuple(others), _confidence(best, doubt=bool(others))
        )

    def hits(self, reply: Reply, host: str = "", verb: Verb | None = None) -> list[Hit]:
        """All rules that hold, the winner first; `verb` None: not known."""
        return self._read(reply, host, verb).hits

    def prove(self, rules: Sequence[Rule] | None = None) -> list[str]:
        """What is wrong with the examples of `rules` (all): an example that another rule wins, or that is a draw."""
        faults = []
        for rule in self.rules if rules is None else rules:
            for example in rule.examples:
                hits = self.hits(example.reply, example.host, example.verb)
                if not hits or hits[0].rule.id != rule.id:
                    winner = hits[0].rule.id if hits else "no rule"
                    faults.append(f"{rule.file}: {rule.id}: {str(example.reply)!r} is won by {winner}")
                faults += [
                    f"{rule.file}: {rule.id}: {str(example.reply)!r} is a draw with {hit.rule.id}"
                    for hit in hits[1:]
                    if hit.weight == hits[0].weight and hit.rule.category != hits[0].rule.category
                ]
        return faults

    def _read(self, reply: Reply, host: str, verb: Verb | None) -> _Reading:
        folded = _fold(reply)
        simple = plain(folded)
        text, lower = _octets(folded), _octets(simple)
        code = reply.code
        enhanced = reply.enhanced or extract.enhanced_within(text, reply.klass)
        provider = provider_of(host) if host else OTHER
        if provider == OTHER:
            provider = provider_in(lower)
        held: list[tuple[Rule, Pattern | None, tuple[int, int]]] = []
        for number in self.index.candidates(keys(simple)):
            pattern = self.patterns[number]
            rule = pattern.rule
            if rule.holds(provider, verb, code, enhanced) and (span := pattern.find(lower))[0] >= 0:
                if rule.unless and any(find(lower)[0] >= 0 for find in self._unless[rule.id]):
                    continue
                held.append((rule, pattern, span))
        held += self._bare_for(provider, verb, code, enhanced)
        return _Reading(text, provider, _weighed(held, text, lower))

    def _bare_rules(
        self, provider: str, verb: Verb | None, code: int, enhanced: EnhancedCode | None
    ) -> tuple[tuple[Rule, None, tuple[int, int]], ...]:
        """Rules without text that hold, once each."""
        keys: list[tuple[object, ...]] = [(code,), (code // 100,), ("",)]
        if enhanced is not None:
            klass, subject, detail = enhanced
            keys += [(k, s, d) for k in (klass, None) for s in (subject, None) for d in (detail, None)]
        found = {rule.id: rule for key in keys for rule in self._bare.get(key, ())}
        return tuple((rule, None, (0, 0)) for rule in found.values() if rule.holds(provider, verb, code, enhanced))


def _fold(reply: Reply) -> str:
    """The text on one line with single spaces, without the code that each line of a log repeats."""
    text = " ".join(reply.text[:MAX_TEXT].split())
    if (lead := f" {reply.code}") in text:
        for join in ("-", " "):
            if reply.enhanced is not None:
                text = text.replace(f"{lead}{join}{reply.enhanced} ", " ")
        text = text.replace(f"{lead}-", " ")
    return text


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def _weighed(held: Sequence[tuple[Rule, Pattern | None, tuple[int, int]]], text: bytes, lower: bytes) -> list[Hit]:
    """The hits, heaviest first. What a pattern said is measured only where that decides."""
    if not held:
        return []
    top = max(rule.rank for rule, _, _ in held)
    contested = len({rule.id for rule, _, _ in held if rule.rank == top}) > 1
    # as it was written, unless the plain form takes other room ("\u0130" and accents do)
    shown = text if len(text) == len(lower) else lower
    winners: dict[str, Hit] = {}
    others: list[Hit] = []
    for rule, pattern, span in held:
        if rule.rank != top:
            others.append(Hit(rule))
        elif contested or rule.id not in winners:
            hit = pattern.hit(lower, shown, span, contested=contested) if pattern is not None else Hit(rule)
            known = winners.get(rule.id)
            if known is None or hit.said > known.said:
                winners[rule.id] = hit
    hits = list(winners.values())
    if contested:
        # of rules that say as much, the one that says fewer things; the id last, so that no order of files matters
        hits.sort(key=lambda hit: (hit.said, -len(hit.rule.patterns), hit.rule.id), reverse=True)
    if len(others) > 1:
        others.sort(key=lambda hit: (hit.rule.rank, hit.rule.id), reverse=True)
    return hits + others


def _confidence(best: Hit, *, doubt: bool) -> float:
    rule = best.rule
    sure = rule.confidence or (_CODE_ONLY if not rule.patterns and not rule.enhanced else _CONFIDENCE[rule.rank.tier])
    return round(sure * _DOUBT if doubt else sure, 2)


class _Words(NamedTuple):
    """What is said of a category, or of a rule where it says better; with the places to be filled from the text."""

    category: Category
    cause: str
    fix: str
    scope: str
    reference: str
    looked_up: tuple[str, ...]
    is_listing: bool

    @classmethod
    def of(cls, rule: Rule | None) -> _Words:
        """The words for a rule, or for a reply that no rule knows."""
        category = BY_NAME[rule.category if rule else "unknown"]
        cause = (rule.cause if rule else "") or category.cause
        fix = (rule.fix if rule else "") or category.guidance
        return cls(
            category=category,
            cause=cause,
            fix=fix,
            scope=(rule.scope if rule else "") or category.scope,
            reference=rule.reference if rule else "",
            looked_up=tuple(sorted({*places(cause), *places(fix)} & _LOOKED_UP.keys())),
            is_listing=category.name in ("reputation.ip_listed", "reputation.domain_listed"),
        )


_LOOKED_UP: Final = {"ip": extract.sending_ip, "domain": extract.sender_domain, "limit": extract.limit}


def _explained(
    words: _Words, reading: _Reading, best: Hit | None, alternatives: tuple[str, ...], confidence: float
) -> Classification:
    """The classification with its words filled in from the text."""
    category, text = words.category, reading.text
    retry = extract.retry_after(text) if category.permanence == "transient" else None
    listed, delisting = extract.blocklist(text) if words.is_listing else ("", "")
    given = {"list": listed, "delisting": delisting, "retry": extract.spoken(retry) if retry else ""}
    for place in words.looked_up:
        given[place] = _LOOKED_UP[place](text)
    cause = guide(words.cause, given)
    if category.group == "auth" and (results := extract.auth_results(text)):
        cause = f"{cause} ({results})"
    return Classification(
        category=category.name,
        confidence=confidence,
        rule=best.rule.id if best is not None else "",
        matched=best.matched if best is not None else "",
        provider=reading.provider,
        permanence=category.permanence,
        responsible=category.responsible,
        scope=words.scope,
        cause=cause,
        fix=guide(words.fix, given),
        alternatives=alternatives,
        retry_after=retry,
        blocklist=listed,
        delisting=delisting,
        reference=words.reference or (extract.url(text) if b"http" in text else ""),
    )


_NO_RULE: Final = _Words.of(None)
