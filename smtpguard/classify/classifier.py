"""A reply's category: all phrases searched at once, then the most specific rule that holds.

One pass over the words finds which phrases a text may hold (phrases.py). The tiers of rules, weightiest first, are then
asked in turn until one has a rule that holds: most replies are told by their first. Rules without text are looked up by
code. Of rules that say as much, all words together decide where they speak clearly; where no rule holds, or the best
says little, they are weighed against it (likely.py). What is told of the winner stands in classification.py. It never
raises, whatever a server wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.classify import extract, likely
from smtpguard.classify.categories import CATEGORIES, group_of
from smtpguard.classify.classification import BY_ALL_WORDS, NO_RULE, Classification, Words, explained
from smtpguard.classify.phrases import Found, Phrasebook, Read
from smtpguard.classify.providers import OTHER, provider_in, provider_of
from smtpguard.classify.regex import compiled, finder, measuring, plain
from smtpguard.classify.rules import EMPTY, NO_TEXT, PLAIN, VAGUE, Rank, Rule, too_early
from smtpguard.mail.reply import EnhancedCode, Reply, Verb

MAX_TEXT: Final = 4096
"""Octets of a reply that are looked at (categories: the bar)."""

_MAX_KEPT: Final = 1024
"""Characters of a reply whose classification is kept for when it comes again: servers say the same few."""


class Hit(NamedTuple):
    """A rule that holds for a reply: how many characters of it the rule says, where, and what that is (the winner)."""

    rule: Rule
    said: int = 0
    span: tuple[int, int] = (0, 0)
    matched: str = ""

    @property
    def weight(self) -> tuple[Rank, int]:
        """What decides, the reply's code aside; two of one weight and different categories are a fault of the rules."""
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
    written: list[str]
    enhanced: EnhancedCode | None
    provider: str
    hits: list[Hit]


class Classifier:
    """Rules made ready. What it remembers is bounded and changes no answer: one serves all threads and tasks."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: Final = tuple(sorted(rules, key=lambda rule: rule.id))
        # a server says few different codes; the bound is for one that makes them up
        self._answer = lru_cache(maxsize=1024)(self._match)
        self._bare_for = lru_cache(maxsize=2048)(self._bare_rules)
        self._backed_for = lru_cache(maxsize=2048)(self._backed)
        self._coded_for = lru_cache(maxsize=2048)(self._coded)
        self._words: Final = {rule.id: Words.of(rule) for rule in self.rules}
        self._likely: Final = likely.load()
        self._bare: defaultdict[tuple[object, ...], list[Rule]] = defaultdict(list)
        self.patterns: Final = [Pattern(rule, pattern) for rule in self.rules for pattern in rule.patterns]
        said = [(rule, phrase, True) for rule in self.rules for phrase in rule.phrases]
        unsaid = [(rule, phrase, False) for rule in self.rules for phrase in rule.unless]
        phrased = [*said, *unsaid]
        self._owners: Final = [rule for rule, _, _ in phrased]
        self.book: Final = Phrasebook([phrase for _, phrase, _ in phrased])
        self._bound: Final = sum(1 << number for number, (rule, _, _) in enumerate(phrased) if not rule.is_free)
        """The bits of phrases whose rule has other conditions too."""
        self._bars: Final[dict[str, int]] = {}  # of a rule: the bits of its `unless`
        self._premature: Final[dict[Verb | None, int]] = {}  # at a verb: the bits of phrases that cannot be meant yet
        says: defaultdict[int, int] = defaultdict(int)  # of a tier: the bits of its phrases
        for number, (rule, _, is_said) in enumerate(phrased):
            if is_said:
                says[rule.tier] |= 1 << number
                for verb in rule.premature:
                    self._premature[verb] = self._premature.get(verb, 0) | 1 << number
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
        if len(reply.text) > _MAX_KEPT:
            return self._match(reply, host, verb_known=verb_known)
        return self._answer(reply, host, verb_known=verb_known)

    def _match(self, reply: Reply, host: str, *, verb_known: bool) -> Classification:
        verb = reply.verb if verb_known else None
        reading = self._read(reply, host, verb)
        best = reading.hits[0] if reading.hits else None
        if likelier := self._likelier(reading, verb, reply.code):
            others = (best.rule.category,) if best is not None else ()
            return explained(BY_ALL_WORDS[likelier], reading.text, reading.provider, "", others)
        if best is None:
            return explained(NO_RULE, reading.text, reading.provider, "", ())
        rivals: dict[str, None] = {}  # heaviest first, each category once
        if len(reading.hits) > 1:
            category, tier = best.rule.category, best.rule.tier
            rivals = {hit.rule.category: None for hit in reading.hits if hit.rule.tier == tier}
            del rivals[category]
        return explained(self._words[best.rule.id], reading.text, reading.provider, best.matched, tuple(rivals))

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
        folded = fold(reply)
        simple = plain(folded)
        text = octets(folded)
        code = reply.code
        enhanced = enhanced_of(reply, text)
        provider = provider_of(host) if host else OTHER
        if provider == OTHER:
            provider = provider_in(octets(simple))
        read = self.book.read(simple)
        there = read.candidates
        meant = there & ~self._premature.get(verb, 0)
        hits: list[Hit] = []
        for tier in self._tiers if provider != OTHER else self._anybody_s:
            held: list[Hit] = []
            if asked := meant & tier.says:
                bound = asked & self._bound
                while bound:
                    number = bound.bit_length() - 1
                    bit = 1 << number
                    bound ^= bit
                    if not self._owners[number].holds(provider, verb, code, enhanced):
                        asked ^= bit
                if asked:
                    held = [
                        Hit(self._owners[number], said, (start, end))
                        for number, said, start, end in self.book.find(read, asked)
                    ]
            if tier.patterns:
                held += self._patterned(tier, provider, verb, code, enhanced, text, octets(simple))
            if tier.bare:
                held += [
                    Hit(rule) for rule in self._bare_for(provider, verb, code, enhanced) if rule.tier == tier.weight
                ]
            if held:
                bars = 0
                for hit in held:
                    bars |= self._bars.get(hit.rule.id, 0)
                if bars & there:
                    held = self._unbarred(held, self.book.find(read, bars), read)
                if len(held) > 1:
                    backed = ""
                    is_mixed = any(hit.rule.category != held[0].rule.category for hit in held)
                    if is_mixed and enhanced is not None:
                        backed = self._backed_for(provider, verb, code, enhanced)
                    held = _weighed(held, backed)
                    if is_mixed and held[0].rule.category != backed:
                        held = self._likeliest_first(held, read.written, verb, code, enhanced)
                hits += held
                if hits and not whole:
                    break
        if hits and hits[0].said and not hits[0].matched:
            rule, said, span, _ = hits[0]
            hits[0] = Hit(rule, said, span, _matched(span, read, folded))
        return _Reading(text, read.written, enhanced, provider, hits)

    def _patterned(
        self,
        tier: _Tier,
        provider: str,
        verb: Verb | None,
        code: int,
        enhanced: EnhancedCode | None,
        text: bytes,
        lower: bytes,
    ) -> list[Hit]:
        """The hits of a tier's patterns in `lower`, the plain form of `text`."""
        shown = text if len(text) == len(lower) else lower  # as written, unless the plain form is longer
        return [
            Hit(pattern.rule, pattern.said(lower), span, shown[span[0] : span[1]].decode("utf-8", "replace"))
            for pattern in tier.patterns
            if pattern.rule.holds(provider, verb, code, enhanced) and (span := pattern.find(lower))[0] >= 0
        ]

    def _unbarred(self, held: Iterable[Hit], barring: Sequence[Found], read: Read) -> list[Hit]:
        """The hits without those whose rule does not hold, for one of the phrases found.

        A plain rule is barred in the clauses of its own words: what a server says besides, such as where to ask for
        help, bars nothing. Telling and vague words yield to what stands anywhere, and so does what a pattern finds.
        """
        if not barring:
            return list(held)
        clauses = read.clauses()
        places: defaultdict[str, list[range]] = defaultdict(list)
        for number, _, start, end in barring:
            places[self._owners[number].id].append(range(clauses[start], clauses[end - 1] + 1))
        kept = []
        for hit in held:
            rule, _, (start, end), matched = hit
            bars = places.get(rule.id, ())
            if bars and rule.rank.text == PLAIN and not matched:
                bars = [bar for bar in bars if clauses[start] < bar.stop and bar.start <= clauses[end - 1]]
            if not bars:
                kept.append(hit)
        return kept

    def _likeliest_first(
        self, held: list[Hit], written: Sequence[str], verb: Verb | None, code: int, enhanced: EnhancedCode | None
    ) -> list[Hit]:
        """The hits of one tier, that first of which all words speak for clearly: its own were fewer, no more.

        Rules of a provider or an operator keep their order, and what is said of dead addresses has no part in it.
        """
        winner = held[0].rule
        rivals = [
            hit
            for hit in held
            if hit.rule.category not in _DEAD and group_of(hit.rule.category) != group_of(winner.category)
        ]
        if not rivals or winner.is_own or winner.providers or winner.category in _DEAD:
            return held
        sums = self._likely.weigh(written, verb, code, enhanced)
        if not sums:
            return held
        best = max(rivals, key=lambda hit: sums[_PLACE[hit.rule.category]])
        if sums[_PLACE[best.rule.category]] - sums[_PLACE[winner.category]] < _CLEAR:
            return held
        return [best, *(hit for hit in held if hit is not best)]

    def _likelier(self, reading: _Reading, verb: Verb | None, code: int) -> str:
        """The category that all words together speak for, if they outweigh the rule that won; "" if they do not."""
        said, times = "unknown", 0.0
        if reading.hits:
            rule, length, *_ = reading.hits[0]
            if rule.is_own or rule.providers or length >= _ENOUGH or rule.rank.text not in _TIMES:
                return ""
            said, times = rule.category, _TIMES[rule.rank.text]
            if length and said in self._coded_for(reading.provider, verb, code, reading.enhanced):
                return ""  # its words and its code say the same
        sums = self._likely.weigh(reading.written, verb, code, reading.enhanced)
        if not sums:
            return ""
        most = max(sums)
        category = CATEGORIES[sums.index(most)]
        if category == said or category in _UNSPECIFIC or category in _DEAD or verb in too_early(category):
            return ""
        rival = 0.0 if said in _UNSPECIFIC else likely.share(sums, sums[_PLACE[said]]) + _DOUBT
        return category if likely.share(sums, most) >= max(_MOST, times * rival) else ""

    def _bare_rules(
        self, provider: str, verb: Verb | None, code: int, enhanced: EnhancedCode | None
    ) -> tuple[Rule, ...]:
        """Rules without text that hold, once each."""
        keys: list[tuple[object, ...]] = [(code,), (code // 100,), ("",)]
        if enhanced is not None:
            klass, subject, detail = enhanced
            keys += [(k, s, d) for k in (klass, None) for s in (subject, None) for d in (detail, None)]
        found = {rule.id: rule for key in keys for rule in self._bare.get(key, ())}
        return tuple(
            rule for rule in found.values() if verb not in rule.premature and rule.holds(provider, verb, code, enhanced)
        )

    def _coded(self, provider: str, verb: Verb | None, code: int, enhanced: EnhancedCode | None) -> frozenset[str]:
        """The categories of the rules without text that hold."""
        return frozenset(rule.category for rule in self._bare_for(provider, verb, code, enhanced))

    def _backed(self, provider: str, verb: Verb | None, code: int, enhanced: EnhancedCode | None) -> str:
        """The category that an enhanced code stands for, to decide between wordings as specific; "" if it may not."""
        rules = self._bare_for(provider, verb, code, enhanced) if enhanced is not None else ()
        best = max((rule for rule in rules if rule.enhanced), key=lambda rule: (rule.order, rule.id), default=None)
        return best.category if best is not None and best.category not in _UNTOLD else ""


_UNTOLD: Final = frozenset({"recipient.unknown", "recipient.disabled", "policy.unspecified", "unknown"})
"""Categories whose codes decide nothing: servers put 5.1.1, 5.2.1 and 5.7.1 on refusals of any kind."""


_UNSPECIFIC: Final = frozenset({"policy.unspecified", "unknown"})
_DEAD: Final = frozenset({"recipient.unknown", "recipient.disabled", "recipient.domain", "recipient.syntax"})
"""Only words that say so, hence a rule, make an address a dead one."""
_PLACE: Final = {category: place for place, category in enumerate(CATEGORIES)}
# When all words outweigh a rule: found by leaving out one of our sets of replies after another. Telling words and
# codes, and rules of a provider or an operator, are never doubted.
_TIMES: Final[dict[int, float]] = {NO_TEXT: 3.0, EMPTY: 80.0, VAGUE: 10.0, PLAIN: 40.0}
"""How much likelier than its own category another must be, by the `text` of a rule's rank."""
_ENOUGH: Final = 20  # characters: a rule that finds so many is not doubted either
_MOST: Final = 0.6  # what another must have in all
_DOUBT: Final = 0.001  # the least share that counts as one
_CLEAR: Final = 3 * likely.UNIT  # how much more all words must speak for one of two rules as specific


def enhanced_of(reply: Reply, text: bytes) -> EnhancedCode | None:
    """The enhanced code of a reply, or the one that stands inside its text."""
    return reply.enhanced or extract.enhanced_within(text, reply.klass)


def fold(reply: Reply) -> str:
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


def octets(text: str) -> bytes:
    """As much of a text as is looked at."""
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def _matched(span: tuple[int, int], read: Read, written: str) -> str:
    """The words of a phrase as written; in plain form where making the text plain joined or parted words."""
    start, end = span
    first, last = read.tokens[start], read.tokens[end - 1]
    shown = read.written
    if written.count(" ") == len(shown) - 1:
        shown = written.split(" ", last + 1)
    return " ".join(shown[first : last + 1])


def _weighed(held: Iterable[Hit], backed: str) -> list[Hit]:
    """The hits, one a rule, heaviest first; of two as specific, the one of the category `backed` by the code."""
    best: dict[str, Hit] = {}
    for hit in held:
        known = best.get(hit.rule.id)
        if known is None or hit.said > known.said:
            best[hit.rule.id] = hit
    # the id last, so that no order of files matters
    return sorted(
        best.values(),
        key=lambda hit: (hit.rule.order, hit.rule.category == backed, hit.said, hit.rule.id),
        reverse=True,
    )
