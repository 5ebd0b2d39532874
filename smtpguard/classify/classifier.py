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
from smtpguard.classify.phrases import Phrasebook, Read
from smtpguard.classify.providers import OTHER, SAYINGS, provider_of
from smtpguard.classify.regex import compiled, finder, measuring, plain
from smtpguard.classify.rules import PLAIN, TELLING, TELLING_CODE, Rank, Rule, masks_of, too_early
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


_Asked = tuple[str, Verb | None, int, EnhancedCode | None]
"""What is known of a reply besides its words: the provider, the verb if known, the code, the enhanced code."""


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
        # by number: what gives a provider away, what a rule does not hold with, what rules say, the weightiest last
        unsaid = [(rule, phrase) for rule in self.rules for phrase in rule.unless]
        said = sorted([(rule, phrase) for rule in self.rules for phrase in rule.phrases], key=_tier)
        phrases = [phrase for _, phrase in (*SAYINGS, *unsaid, *said)]
        aside = len(SAYINGS) + len(unsaid)
        self.book: Final = Phrasebook(phrases, [_ASIDE] * aside + [rule.tier for rule, _ in said])
        self._sayings: Final = self.book.bits(range(len(SAYINGS)))
        self._owners: Final = dict(enumerate((rule for rule, _ in (*unsaid, *said)), len(SAYINGS)))
        barring: defaultdict[str, list[int]] = defaultdict(list)
        premature: dict[Verb | None, set[int]] = {verb: set() for verb in (*Verb, None)}
        bound = set()
        for number, rule in self._owners.items():
            if number < aside:
                barring[rule.id].append(number)
                continue
            if not rule.is_free:
                bound.add(number)
            for verb in rule.premature:
                premature[verb].add(number)
        # at a verb, the phrases that cannot be meant yet; those, and the ones whose rule has other conditions too
        self._premature: Final = {verb: frozenset(numbers) for verb, numbers in premature.items()}
        self._doubted: Final = {verb: frozenset(numbers | bound) for verb, numbers in premature.items()}
        self._bars: Final = {name: self.book.bits(numbers) for name, numbers in barring.items()}
        bare = [rule for rule in self.rules if not rule.patterns and not rule.phrases]
        for rule in bare:
            for key in rule.enhanced or sorted(rule.codes) or ("",):
                self._bare[key if isinstance(key, tuple) else (key,)].append(rule)
        # rules without text are asked where they may weigh more than what was found; a provider's hold for it alone
        self._bare_most: Final = max((rule.tier for rule in bare), default=-1)
        self._bare_most_anybody_s: Final = max((rule.tier for rule in bare if not rule.providers), default=-1)

    def match(self, reply: Reply, host: str = "", *, verb_known: bool = True) -> Classification:
        """What `reply`, a 4xx or 5xx of the host or provider `host`, is about.

        Without `verb_known` the reply's verb is no more than a default and rules that ask for one do not hold.
        """
        verb = reply.verb if verb_known else None
        return self._answer(reply, host, verb) if len(reply.text) <= _MAX_KEPT else self._match(reply, host, verb)

    def _match(self, reply: Reply, host: str, verb: Verb | None) -> Classification:
        folded = fold(reply)
        read, asked, hits = self._read(reply, folded, host, verb)
        provider = asked[0]
        if likelier := self._likelier(hits[0] if hits else None, read.written, asked):
            return explained(
                BY_ALL_WORDS[likelier], folded, provider, "", tuple([hit.rule.category for hit in hits[:1]])
            )
        if not hits:
            return explained(NO_RULE, folded, provider, "", ())
        best, *others = hits
        rule = best.rule
        rivals: dict[str, None] = {}  # heaviest first, each category once
        if others:
            rivals = {hit.rule.category: None for hit in others if hit.rule.tier == rule.tier}
            rivals.pop(rule.category, None)
        return explained(self._words[rule.id], folded, provider, _matched(best, read, folded), tuple(rivals))

    def hits(self, reply: Reply, host: str = "", verb: Verb | None = None) -> list[Hit]:
        """All rules that hold, the winner first; `verb` None: not known."""
        folded = fold(reply)
        read, _, hits = self._read(reply, folded, host, verb, whole=True)
        return [hit._replace(matched=_matched(hit, read, folded)) for hit in hits]

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

    def _read(
        self, reply: Reply, folded: str, host: str, verb: Verb | None, *, whole: bool = False
    ) -> tuple[Read, _Asked, list[Hit]]:
        """What the search sees of a reply: the hits of the weightiest tier that has any, or of all tiers (`whole`)."""
        simple = plain(folded)
        read = self.book.read(simple)
        code, enhanced = reply.code, enhanced_of(reply, folded)
        provider = provider_of(host) if host else OTHER
        if provider == OTHER and read.candidates & self._sayings and (betrayed := self.book.find(read, self._sayings)):
            provider = SAYINGS[min(betrayed)[0]][0]
        asked = (provider, verb, code, enhanced)
        owners, premature = self._owners, self._premature[verb]

        def is_meant(number: int) -> bool:
            return number not in premature and owners[number].holds(provider, verb, code, enhanced)

        others = self._patterned(asked, folded, simple) if self.patterns else []
        bare_most = self._bare_most_anybody_s if provider == OTHER else self._bare_most
        hits: list[Hit] = []
        below = _HEAVIEST
        while whole or not hits:
            tier, found = self.book.heaviest(read, below, self._doubted[verb], is_meant)
            held = [Hit(owners[number], said, (start, end)) for number, said, start, end in found]
            if tier <= bare_most:
                others += [Hit(rule) for rule in self._bare_for(asked)]
                bare_most = -1
            if others and (more := [hit for hit in others if tier <= hit.rule.tier < below]):
                most = max([hit.rule.tier for hit in more])
                held = [hit for hit in (*held, *more) if hit.rule.tier == most]
                tier = most
            if not held:
                break
            below = tier
            held = self._unbarred(held, read)
            hits += self._ordered(held, read.written, asked) if len(held) > 1 else held
        return read, asked, hits

    def _ordered(self, held: list[Hit], written: Sequence[str], asked: _Asked) -> list[Hit]:
        """The hits of one tier, one a rule, that first which says most of what the code or all words speak for."""
        best: dict[str, Hit] = {}
        for hit in held:
            known = best.get(hit.rule.id)
            if known is None or hit.said > known.said:
                best[hit.rule.id] = hit
        held = [*best.values()]
        if len(held) == 1:
            return held
        is_mixed = any(hit.rule.category != held[0].rule.category for hit in held)
        backed = self._backed_for(asked) if is_mixed and asked[3] is not None else ""
        # the heaviest first; the id last, so that no order of files matters
        held.sort(
            key=lambda hit: (hit.rule.order, hit.rule.category == backed, hit.said, hit.rule.told_by, hit.rule.id),
            reverse=True,
        )
        return self._likeliest_first(held, written, asked) if is_mixed and held[0].rule.category != backed else held

    def _patterned(self, asked: _Asked, folded: str, simple: str) -> list[Hit]:
        """The hits of patterns in a text and its plain form."""
        text, lower = octets(folded), octets(simple)
        shown = text if len(text) == len(lower) else lower  # as written, unless the plain form is longer
        return [
            Hit(pattern.rule, pattern.said(lower), span, shown[span[0] : span[1]].decode("utf-8", "replace"))
            for pattern in self.patterns
            if pattern.rule.holds(*asked) and (span := pattern.find(lower))[0] >= 0
        ]

    def _unbarred(self, held: list[Hit], read: Read) -> list[Hit]:
        """The hits without those whose rule does not hold, for a phrase of its `unless` is there.

        A plain rule is barred in the clauses of its own words: what a server says besides, such as where to ask for
        help, bars nothing. Telling and vague words yield to what stands anywhere, and so does what a pattern finds.
        """
        among = 0
        for hit in held:
            among |= self._bars.get(hit.rule.id, 0)
        if not read.candidates & among or not (found := self.book.find(read, among)):
            return held
        clauses = read.clauses()
        kept = []
        for hit in held:
            rule, _, (start, end), matched = hit
            bars = [bar for bar in found if self._owners[bar[0]] is rule]
            if bars and rule.rank.text == PLAIN and not matched:
                bars = [
                    bar for bar in bars if clauses[start] <= clauses[bar[3] - 1] and clauses[bar[2]] <= clauses[end - 1]
                ]
            if not bars:
                kept.append(hit)
        return kept

    def _likeliest_first(self, held: list[Hit], written: Sequence[str], asked: _Asked) -> list[Hit]:
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
        sums = self._likely.weigh(written, *asked[1:])
        if not sums:
            return held
        best = max(rivals, key=lambda hit: sums[_PLACE[hit.rule.category]])
        if sums[_PLACE[best.rule.category]] - sums[_PLACE[winner.category]] < _CLEAR:
            return held
        return [best, *(hit for hit in held if hit is not best)]

    def _likelier(self, best: Hit | None, written: Sequence[str], asked: _Asked) -> str:
        """The category that all words together speak for, if they outweigh the rule that won; "" if they do not."""
        said, times = "unknown", 0.0
        if best is not None:
            rule, length, *_ = best
            if rule.is_own or rule.providers or length >= _ENOUGH or rule.rank.text in _TELLING:
                return ""
            said, times = rule.category, _TIMES if length else _TIMES_A_CODE
            if length and said not in _UNSPECIFIC and said in self._coded_for(asked):
                return ""  # its words and its code say the same
        sums = self._likely.weigh(written, *asked[1:])
        if not sums:
            return ""
        most = max(sums)
        category = CATEGORIES[sums.index(most)]
        if category == said or category in _UNSPECIFIC or asked[1] in too_early(category):
            return ""
        if category in _DEAD:
            is_open = said == "unknown" or times <= _TIMES_A_CODE  # no words of a rule say a cause
            is_sure = is_open and asked[2] >= 500 and _dead(sums) >= _DEAD_BY_ALL
            return category if is_sure and _dead(self._likely.weigh(written)) >= _DEAD_BY_WORDS else ""
        rival = 0.0 if said in _UNSPECIFIC else likely.share(sums, sums[_PLACE[said]]) + _DOUBT
        return category if likely.share(sums, most) >= max(_MOST, times * rival) else ""

    def _bare_rules(self, asked: _Asked) -> tuple[Rule, ...]:
        """Rules without text that hold, once each."""
        _, verb, code, enhanced = asked
        keys: list[tuple[object, ...]] = [(code,), (code // 100,), ("",)]
        if enhanced is not None:
            keys += masks_of(enhanced)
        found = {rule.id: rule for key in keys for rule in self._bare.get(key, ())}
        return tuple([rule for rule in found.values() if verb not in rule.premature and rule.holds(*asked)])

    def _coded(self, asked: _Asked) -> frozenset[str]:
        """The categories of the rules without text that hold."""
        return frozenset([rule.category for rule in self._bare_for(asked)])

    def _backed(self, asked: _Asked) -> str:
        """The category that an enhanced code stands for, to decide between wordings as specific; "" if it may not."""
        rules = [rule for rule in self._bare_for(asked) if rule.enhanced]
        best = max(rules, key=lambda rule: (rule.order, rule.id), default=None)
        return best.category if best is not None and best.category not in _UNTOLD else ""


_ASIDE: Final = -1
"""The weight of phrases that no rule says."""
_HEAVIEST: Final = 1 << 60
"""Above all tiers."""
_UNTOLD: Final = frozenset({"recipient.unknown", "recipient.disabled", "policy.unspecified", "unknown"})
"""Categories whose codes decide nothing: servers put 5.1.1, 5.2.1 and 5.7.1 on refusals of any kind."""


_UNSPECIFIC: Final = frozenset({"policy.unspecified", "unknown"})
_DEAD: Final = frozenset({"recipient.unknown", "recipient.disabled", "recipient.domain", "recipient.syntax"})
"""Only words that say so make an address a dead one: those of a rule, or where none says a cause, all together."""
_PLACE: Final = {category: place for place, category in enumerate(CATEGORIES)}
# When all words outweigh a rule: found by leaving out one of our sets of replies after another. Telling words and
# codes, and rules of a provider or an operator, are never doubted.
_TELLING: Final = (TELLING, TELLING_CODE)
_TIMES: Final = 60.0
"""How much likelier than its own category another must be."""
_TIMES_A_CODE: Final = 3.0  # and where its code alone says so
_ENOUGH: Final = 20  # characters: a rule that finds so many is not doubted either
_MOST: Final = 0.5  # what another must have in all
_DOUBT: Final = 0.001  # the least share that counts as one
_CLEAR: Final = 5 * likely.UNIT // 2  # how much more all words must speak for one of two rules as specific
_DEAD_BY_ALL: Final = 0.8  # the share that the causes of a dead address must have together
_DEAD_BY_WORDS: Final = 0.5  # and without the codes, which say little of it


def _dead(sums: Sequence[int]) -> float:
    return sum([likely.share(sums, sums[_PLACE[category]]) for category in _DEAD])


def enhanced_of(reply: Reply, folded: str) -> EnhancedCode | None:
    """The enhanced code of a reply, or the one that stands inside its text, which is on one line."""
    return reply.enhanced or extract.enhanced_within(folded, reply.klass)


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


def _matched(hit: Hit, read: Read, folded: str) -> str:
    """What a rule found: of a phrase the words as written, or in plain form if that joined or parted words."""
    if hit.matched or not hit.said:
        return hit.matched
    first, last = read.tokens(*hit.span)
    shown = read.written
    if folded.count(" ") == len(shown) - 1:
        shown = folded.split(" ", last)
    return " ".join(shown[first:last])


def _tier(said: tuple[Rule, str]) -> int:
    return said[0].tier
