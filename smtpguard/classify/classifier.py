"""A reply's category: all phrases searched at once, then the most specific rule that holds.

One pass over the words finds which phrases a text may hold (phrases.py). The tiers of rules, weightiest first, are then
asked in turn until one has a rule that holds: most replies are told by their first. Rules without text are looked up by
code. What the text says beside its cause is read out last (extract.py). It never raises, whatever a server wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.classify import extract
from smtpguard.classify.categories import BY_NAME, Category, group_of, guide, places
from smtpguard.classify.phrases import Phrasebook, Read
from smtpguard.classify.providers import OTHER, provider_in, provider_of
from smtpguard.classify.regex import compiled, finder, measuring, plain
from smtpguard.classify.rules import Rank, Rule
from smtpguard.mail.reply import EnhancedCode, Reply, Verb

MAX_TEXT: Final = 4096
"""Octets of a reply that are looked at (categories: the bar)."""

# by what a rule says at its most specific: (provider, text) of Rank; a rule may state its own
_CONFIDENCE: Final = {
    (1, 3): 0.97,
    (1, 2): 0.95,
    (0, 3): 0.93,
    (0, 2): 0.88,
    (1, 1): 0.7,
    (0, 1): 0.6,
    (1, 0): 0.8,
    (0, 0): 0.4,
}
_CODE_ONLY = 0.25
_DOUBT = 0.8
"""What is left of the confidence when words of another category stand in the same text."""


@dataclass(frozen=True, slots=True)
class Classification:
    """What a refusal is about, who can fix it, how.

    `category` is of the closed set; `confidence` 0 to 1; `rule` the id of the rule ("" none matched) and `matched` the
    text that it matched. `permanence` is what is true in fact, whatever class the code has. `alternatives` are other
    categories that equally specific rules saw, likeliest first. What the text itself says, "" where it does not:
    `retry_after` in seconds (None), `blocklist` and the page for `delisting`, the `ip` and the sender's `domain` it is
    about, a `limit` with its unit, `auth_results` ("SPF fail, DKIM pass"), the `provider_code` ("TSS04", "S3150",
    "p=DmarcPolicy") and the first `url`.
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
    ip: str = ""
    domain: str = ""
    limit: str = ""
    auth_results: str = ""
    provider_code: str = ""
    url: str = ""

    @property
    def group(self) -> str:
        """The part of the category before the dot."""
        return group_of(self.category)


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
        self._words: Final = {rule.id: _Words.of(rule) for rule in self.rules}
        self._bare: defaultdict[tuple[object, ...], list[Rule]] = defaultdict(list)
        self.patterns: Final = [Pattern(rule, pattern) for rule in self.rules for pattern in rule.patterns]
        said = [(rule, phrase) for rule in self.rules for phrase in rule.phrases]
        unsaid = [(rule, phrase) for rule in self.rules for phrase in rule.unless]
        self._owners: Final = [rule for rule, _ in (*said, *unsaid)]
        self.book: Final = Phrasebook([phrase for _, phrase in (*said, *unsaid)])
        self._bars: Final[dict[str, int]] = {}  # of a rule: the bits of its `unless`
        for number, (rule, _) in enumerate(unsaid, len(said)):
            self._bars[rule.id] = self._bars.get(rule.id, 0) | 1 << number
        for rule in self.rules:
            if not rule.patterns and not rule.phrases:
                for key in rule.enhanced or sorted(rule.codes) or ("",):
                    self._bare[key if isinstance(key, tuple) else (key,)].append(rule)
        self._tiers: Final = [
            _Tier(
                weight,
                sum(1 << number for number, (rule, _) in enumerate(said) if rule.tier == weight),
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
            return _explained(_NO_RULE, reading, None, (), 0.0)
        best = reading.hits[0]
        category = best.rule.category
        others: dict[str, None] = {}
        for hit in reading.hits:  # heaviest first
            if hit.rule.tier != best.rule.tier:
                break
            if hit.rule.category != category:
                others[hit.rule.category] = None
        return _explained(
            self._words[best.rule.id], reading, best, tuple(others), _confidence(best, doubt=bool(others))
        )

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
            hits[0] = hits[0]._replace(matched=_matched(hits[0], read, folded))
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
    text = " ".join(reply.text[:MAX_TEXT].split())
    if (lead := f" {reply.code}") in text:
        for join in ("-", " "):
            if reply.enhanced is not None:
                text = text.replace(f"{lead}{join}{reply.enhanced} ", " ")
        text = text.replace(f"{lead}-", " ")
    return text


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def _matched(hit: Hit, read: Read, written: str) -> str:
    """The words of a phrase as written; in plain form where making the text plain joined or parted words."""
    start, end = hit.span
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


def _confidence(best: Hit, *, doubt: bool) -> float:
    rule = best.rule
    sure = rule.confidence or (
        _CODE_ONLY
        if not rule.patterns and not rule.phrases and not rule.enhanced
        else _CONFIDENCE[rule.rank.provider, rule.rank.text]
    )
    return round(sure * _DOUBT if doubt else sure, 2)


class _Words(NamedTuple):
    """What is said of a category, or of a rule where it says better; with the places to be filled from the text."""

    category: Category
    cause: str
    fix: str
    scope: str
    reference: str
    bare_cause: str  # with nothing to fill in
    bare_fix: str
    has_places: bool
    looked_up: tuple[tuple[str, Callable[[bytes], str]], ...]

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
            bare_cause=guide(cause, {}),
            bare_fix=guide(fix, {}),
            has_places=bool(places(cause) or places(fix)),
            looked_up=tuple(
                (name, find)
                for name, (find, where) in _LOOKED_UP.items()
                if category.name in where or category.group in where
            ),
        )


# what a text is asked for, and in which categories or groups that makes sense
_LOOKED_UP: Final[Mapping[str, tuple[Callable[[bytes], str], frozenset[str]]]] = {
    "ip": (extract.sending_ip, frozenset({"identity", "auth", "reputation", "rate.limited", "content.spam"})),
    "domain": (extract.sender_domain, frozenset({"auth", "sender.invalid", "reputation.domain_listed"})),
    "limit": (extract.limit, frozenset({"message.too_large", "rate.limited", "rate.too_many_recipients"})),
    "auth_results": (extract.auth_results, frozenset({"auth"})),
}
_LISTINGS: Final = frozenset({"reputation.ip_listed", "reputation.domain_listed", "reputation.poor"})


def _explained(
    words: _Words, reading: _Reading, best: Hit | None, alternatives: tuple[str, ...], confidence: float
) -> Classification:
    """The classification with its words filled in from the text."""
    category, text = words.category, reading.text
    given = {name: find(text) for name, find in words.looked_up}
    retry = extract.retry_after(text) if category.permanence == "transient" else None
    listed, delisting = extract.blocklist(text) if category.name in _LISTINGS else ("", "")
    url = extract.url(text) if b"http" in text or b"www." in text else ""
    cause, fix = words.bare_cause, words.bare_fix
    if words.has_places:
        given |= {"list": listed, "delisting": delisting, "retry": extract.spoken(retry) if retry else ""}
        cause, fix = guide(words.cause, given), guide(words.fix, given)
    results = given.get("auth_results", "")
    return Classification(
        category=category.name,
        confidence=confidence,
        rule=best.rule.id if best is not None else "",
        matched=best.matched if best is not None else "",
        provider=reading.provider,
        permanence=category.permanence,
        responsible=category.responsible,
        scope=words.scope,
        cause=f"{cause} ({results})" if results else cause,
        fix=fix,
        alternatives=alternatives,
        retry_after=retry,
        blocklist=listed,
        delisting=delisting,
        reference=words.reference or url,
        ip=given.get("ip", ""),
        domain=given.get("domain", ""),
        limit=given.get("limit", ""),
        auth_results=results,
        provider_code=extract.provider_code(text),
        url=url,
    )


_NO_RULE: Final = _Words.of(None)
