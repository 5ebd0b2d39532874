"""Phrases: what a postmaster means, in whatever words, found in one pass over the words of a text.

How a phrase is written, and what it may stand for, is in readings.py. All readings of its parts make one tree of words,
so that a text costs the same whatever the number of phrases, and nothing a server writes makes it slow: only so many
words are looked at, and of a part that comes again and again only so many places.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from sys import intern
from typing import Final, NamedTuple

from smtpguard.classify.readings import STEM, parts_of, readings
from smtpguard.classify.signs import signs_of
from smtpguard.classify.tokens import EDGES, Memory, words_of

MAX_WORDS: Final = 150
"""Words of a text that are looked at; replies have 15, the wordiest (Google's) 110."""

MAX_TOKEN: Final = 200
"""Characters looked at where no space is; pages have 100, what is longer is no word but in Chinese and Japanese."""


Found = tuple[int, int, int, int]
"""A phrase in a text: its number, how many characters its parts say, and its words (first, last + 1)."""


class _Place:
    """A place in the tree of words: what ends here, if anything, and what may follow.

    Where nothing follows, places that end the same are one: most are such, and what is small stays at hand.
    """

    __slots__ = ("after", "parts", "said", "uses", "whole")

    def __init__(self, said: int, whole: tuple[int, ...], uses: int, parts: frozenset[int]) -> None:
        self.said = said  # characters on the way here
        self.whole = whole  # the phrases that are no more than this, the last first
        self.uses = uses  # the other phrases that have one of these parts, as bits
        self.parts = parts  # the parts of such
        self.after: dict[str, _Place] = _NOTHING

    def copy(self) -> _Place:
        """The same, by itself, for something to follow."""
        copy = _Place(self.said, self.whole, self.uses, self.parts)
        copy.after = {}
        return copy

    def take(self, other: _Place) -> None:
        """Ends what the other does, too."""
        self.said = other.said
        self.whole = tuple(sorted((*self.whole, *other.whole), reverse=True))
        self.uses |= other.uses
        self.parts |= other.parts


_NOTHING: Final[dict[str, _Place]] = {}
_NOWHERE: Final = _Place(0, (), 0, frozenset())
_Word = tuple[tuple[str, ...], int, tuple[_Place, ...], dict[int, int], tuple[dict[str, _Place], ...]]
"""What it may stand for in the tree; of what ends with it alone, the uses, whole phrases, and what each part says;
what may follow it."""
_STOP: Final[_Word] = ((), 0, (), {}, ())
"""Stands where a sentence ends."""
_STRANGE: Final[_Word] = (("",), 0, (), {}, ())
"""A word that no phrase has."""
_Seen = tuple[int, int, _Place]
"""Words from, to, and what they are in the tree."""


_Sentence = tuple[int, list[tuple[int, dict[int, int]]], list[_Seen]]
"""Phrases, as bits, whose first part and last are there, in whatever order; the words that are parts, and what
each part says; what several words together are."""


class Read(NamedTuple):
    """A text that was read."""

    candidates: int  # of all sentences
    sentences: list[_Sentence]
    told: list[_Seen]  # what is a whole phrase
    words: list[_Word]  # with the stops between
    written: list[str]  # its tokens
    spelled: list[tuple[_Word, ...]]  # the words and stops that each of them is

    def tokens(self, start: int, end: int) -> tuple[int, int]:
        """The tokens that words are written in, both as (first, last + 1)."""
        ends = [*accumulate(map(len, self.spelled))]
        return bisect_right(ends, start), bisect_left(ends, end) + 1

    def clauses(self) -> list[int]:
        """The clause, numbered, that each word stands in: what one says is seldom about what another does."""
        out: list[int] = []
        clause = 0
        lead = _lead(self.written)
        for place, token in enumerate(self.written):
            clause += token in _OPENERS or place == lead
            out += [clause] * len(self.spelled[place])
            clause += token[-1] in _STOPS
        return out


class Phrasebook:
    """Phrases, ready to be found, each with a weight. Immutable but for a memory of tokens seen, which is bounded."""

    def __init__(self, phrases: Sequence[str], weights: Sequence[int]) -> None:
        """`weights` rise with the numbers of the phrases; those of a weight below 0 are found only where asked for."""
        self._weights: Final = weights
        parted = [parts_of(phrase) for phrase in phrases]
        # most phrases are one part: they are there where it is. The others are looked for where a bit says they may be
        self._numbers: Final = [n for n, parts in enumerate(parted) if len(parts) > 1 or weights[n] < 0]
        self._width: Final = len(self._numbers)
        self._bits: Final = {number: 1 << place for place, number in enumerate(self._numbers)}
        # by weight, the first bit of a phrase that weighs so much; 0 is the least that counts
        self._from: Final = {weights[number]: bit for bit, number in reversed([*enumerate(self._numbers)])}
        self._from[0] = sum(weights[number] < 0 for number in self._numbers)
        whole: dict[str, list[int]] = {part: [] for parts in parted for part in parts}
        uses = dict.fromkeys(whole, 0)
        numbers = {part: number for number, part in enumerate(whole)}
        self._parts: Final = {number: [numbers[part] for part in parted[number]] for number in self._numbers}
        sought: set[str] = set()
        for number, parts in enumerate(parted):
            if (bit := self._bits.get(number)) is None:
                whole[parts[0]].insert(0, number)
            else:  # of which phrases a part is the first, and of which the last
                sought.update(parts)
                uses[parts[0]] |= bit
                uses[parts[-1]] |= bit << self._width
        self._first: Final[dict[str, _Place]] = {}
        self._vocabulary: Final = set[str]()
        merged: dict[tuple[_Place, _Place], _Place] = {}
        for part, number in numbers.items():
            end = _Place(0, tuple(whole[part]), uses[part], frozenset((number,) if part in sought else ()))
            self._plant(readings(part), end, merged)
        prefixes: dict[str, list[str]] = {}
        for word in sorted(self._vocabulary):
            if word[-1] == "*":
                prefixes.setdefault(word[:STEM], []).append(word)
        # what words may begin with, and what phrases call that
        self._prefixes: Final = {
            stem: (tuple([word[:-1] for word in words]), tuple(words)) for stem, words in prefixes.items()
        }
        # the words that phrases are made of, known from the start; in a text most are such
        plain = {word for word in self._vocabulary if word.isalnum() and word.isascii()}
        self._known: Final = {word: (self._word(word),) for word in plain | {"@", "#ip", "#host", "#url"}}
        self._signed: Final = lru_cache(maxsize=256)(self._word)
        self._tokens: Final[Memory[tuple[_Word, ...]]] = Memory(self._read_token, self._known)

    def _plant(self, ways: Iterable[tuple[str, ...]], end: _Place, merged: dict[tuple[_Place, _Place], _Place]) -> None:
        """Puts word sequences into the tree that all lead to what ends with a part; `merged`: where two parts end."""
        ends: dict[int, _Place] = {}
        trodden: Sequence[str] = ()
        after = self._first
        for way in ways:
            if (path := way[:-1]) != trodden:
                after, trodden = self._first, path
                for word in path:
                    place = after.get(word, _NOWHERE)
                    if place.after is _NOTHING:
                        after[self._known_as(word)] = place = place.copy()
                    after = place.after
            last, said = way[-1], len("".join(way))
            if (leaf := ends.get(said)) is None:
                ends[said] = leaf = _Place(said, end.whole, end.uses, end.parts)
            if (place := after.get(last, leaf)) is leaf:
                after[self._known_as(last)] = leaf
            elif place.after is not _NOTHING:
                place.take(leaf)
            else:  # another part ends here too
                if (both := merged.get((place, leaf))) is None:
                    merged[place, leaf] = both = place.copy()
                    both.take(leaf)
                    both.after = _NOTHING
                after[last] = both

    def _known_as(self, word: str) -> str:
        """A word of a phrase as all that have it know it: one object, that a look-up need not compare."""
        word = intern(word)
        self._vocabulary.add(word)
        return word

    def bits(self, numbers: Iterable[int]) -> int:
        """Phrases of a weight below 0, for `find`."""
        return sum(self._bits[number] for number in numbers)

    def _read_token(self, token: str) -> tuple[_Word, ...]:
        """The words of a written token, and the stop, if it ends a sentence."""
        core = token.strip(EDGES)
        words: tuple[_Word, ...] | None = self._known.get(core)
        if words is None:
            if core.isalnum() and core.isascii():
                words = (self._word(core),)
            else:
                words = tuple([self._marked(word, core) for word in words_of(token)])
        return (*words, _STOP) if token[-1] in _STOPS else words

    def _marked(self, word: str, core: str) -> _Word:
        """A word of a token that is no plain word: a host or page may give away more than its kind."""
        if (known := self._known.get(word)) is None:
            return self._word(word)
        signs = signs_of(core) if word in ("#host", "#url") else ()
        return self._signed(word, signs) if signs else known[0]

    def _word(self, word: str, signs: tuple[str, ...] = ()) -> _Word:
        """A word with its prefixes that phrases have and further signs; and the places of the tree they lead to."""
        symbols = (intern(word), *signs) if word in self._vocabulary else signs
        if word[:1].isdigit():
            symbols += (_NUMBER,)
        if (prefixes := self._prefixes.get(word[:STEM])) is not None and word.startswith(prefixes[0]):
            symbols += tuple([name for prefix, name in zip(*prefixes, strict=True) if word.startswith(prefix)])
        if not symbols:
            return _STRANGE
        first = self._first
        places = [first[symbol] for symbol in symbols if symbol in first]
        uses = 0
        parts: dict[int, int] = {}
        for place in reversed(places):  # the word itself says most, and comes first
            uses |= place.uses
            for part in place.parts:
                parts[part] = place.said
        told = tuple([place for place in places if place.whole])
        return symbols, uses, told, parts, tuple([place.after for place in places if place.after])

    def read(self, plain: str) -> Read:
        """What a text in plain form holds of the phrases' parts."""
        written = plain.split()
        if len(plain) > MAX_TOKEN:  # what is remembered of tokens is bounded so
            written = [token[:MAX_TOKEN] for token in written[:MAX_WORDS]]
        spelled = list(map(self._tokens.__getitem__, written))
        if written and written[0] in _LEADS and (lead := _lead(written)) > 0:
            spelled[lead - 1] += (_STOP,)
        words = [*chain.from_iterable(spelled)]
        del words[MAX_WORDS:]
        words.append(_STOP)
        sentences: list[_Sentence] = []
        told: list[_Seen] = []
        seen: list[_Seen] = []
        alone: list[tuple[int, dict[int, int]]] = []
        candidates = present = 0
        for at, (symbols, uses, whole, parts, begun) in enumerate(words, 1):  # `at`: the next word
            if parts:
                present |= uses
                alone.append((at - 1, parts))
            if whole:
                for end in whole:
                    told.append((at - 1, at, end))
            if begun:
                following = words[at][0]
                for after in begun:
                    for symbol in following:
                        if symbol in after:
                            present |= _walked(words, at, after[symbol], at - 1, seen, told)
            if not symbols:
                if present and (there := present & (present >> self._width)):
                    candidates |= there
                    sentences.append((there, alone, seen))
                present = 0
                alone, seen = [], []
        return Read(candidates, sentences, told, words, written, spelled)

    def heaviest(
        self, read: Read, below: int, doubted: Container[int], meant: Callable[[int], bool]
    ) -> tuple[int, list[Found]]:
        """Of the phrases that are there, of a weight `below` this: the heaviest weight, and all that have it.

        One that is `doubted` must be `meant`. A phrase may be told more than once.
        """
        weights = self._weights
        floor = 0  # the least weight that counts
        out: list[Found] = []
        for start, stop, end in read.told:
            for number in end.whole:
                if (weight := weights[number]) < floor:
                    break
                if weight < below and (number not in doubted or meant(number)):
                    if weight > floor:
                        floor, out = weight, []
                    out.append((number, end.said, start, stop))
        for sentence in read.sentences:
            least = self._from.get(floor, 0)
            candidates = sentence[0] >> least
            while candidates:
                bit = candidates.bit_length() - 1
                candidates ^= 1 << bit
                number = self._numbers[least + bit]
                weight = weights[number]
                if (
                    floor <= weight < below
                    and (number not in doubted or meant(number))
                    and (found := self._stands(sentence, number)) is not None
                ):
                    if weight > floor:
                        floor, out = weight, []
                    out.append(found)
        return floor, out

    def find(self, read: Read, among: int) -> list[Found]:
        """The phrases `among`, as of `bits`, that are there."""
        out: list[Found] = []
        for sentence in read.sentences:
            candidates = sentence[0] & among
            while candidates:
                bit = candidates.bit_length() - 1
                candidates ^= 1 << bit
                if (found := self._stands(sentence, self._numbers[bit])) is not None:
                    out.append(found)
        return out

    def _stands(self, sentence: _Sentence, number: int) -> Found | None:
        """A phrase, if its parts stand in order in this sentence, in its longest wording."""
        # where the parts so far end, what they say, where they begin
        whole: list[tuple[int, int, int]] = []
        _, alone, seen = sentence
        for part in self._parts[number]:
            places = [(stop, end.said, start) for start, stop, end in seen if part in end.parts]
            places += [(at + 1, parts[part], at) for at, parts in alone if part in parts]
            if len(places) > _PLACES:
                places = sorted(places)[:_PLACES]
            if whole:
                places = [
                    (stop, said + before, begin)
                    for stop, said, start in places
                    for over, before, begin in whole
                    if over <= start
                ]
            if not places:
                return None
            whole = places
        stop, said, start = max(whole, key=_said)
        return number, said, start, stop


def _walked(words: Sequence[_Word], at: int, place: _Place, start: int, seen: list[_Seen], told: list[_Seen]) -> int:
    """Adds what ends on the ways on from a place that the word `at` led to, begun at `start`; the uses of all that."""
    at += 1
    uses = place.uses
    if place.parts:
        seen.append((start, at, place))
    if place.whole:
        told.append((start, at, place))
    if after := place.after:
        for symbol in words[at][0]:
            if symbol in after:
                uses |= _walked(words, at, after[symbol], start, seen, told)
    return uses


_NUMBER: Final = intern("#num")
_PLACES: Final = 6
"""Places of one part in a sentence that are looked at: a text that repeats itself says no more than that."""


def _said(place: tuple[int, int, int]) -> int:
    return place[1]


# --- sentences and clauses -------------------------------------------------------------------------------------------

_STOPS: Final = ".;!?\u3002\uff1b"
"""What ends a sentence."""
_OPENERS: Final = frozenset({"please", "veuillez", "-", "--", "|", "//"})
"""What begins a clause: where a server asks or adds something."""
_SUBJECTS: Final = frozenset(
    {"your", "message", "mail", "email", "delivery", "transaction", "was", "is", "has", "been"}
)
_VERDICTS: Final = frozenset(
    verdict + sign
    for verdict in ("rejected", "refused", "denied", "failed", "deferred", "blocked", "bounced", "sorry")
    for sign in ":,!"
)
_LEADS: Final = _SUBJECTS | _VERDICTS
"""What a lead begins with."""


def _lead(written: Sequence[str]) -> int:
    """Where the text begins to say why, after a lead that only says that: "Message rejected: "; -1 without a lead."""
    for place, token in enumerate(written):
        if token not in _SUBJECTS:
            return place + 1 if token in _VERDICTS else -1
    return -1
