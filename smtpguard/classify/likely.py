"""What a reply is likely about, by all of its words: asked where the rules say little, or where they may have misheard.

A linear model over the words, the pairs of words and the codes of a reply, with the weights of likely.txt, which
`python -m smtpguard.classify.learn` makes from replies that we labelled ourselves (multinomial logistic regression). A
word counts by its stem and by more of its letters; what a reply says twice counts once. It reads wordings that no rule
foresaw, but it cannot say why; so it is asked last, says `likely` for a rule, and is never as sure as a rule. It does
no more than weigh: when it is believed stands in classifier.py.

The weights of a feature for all categories are packed in one integer, so that adding a feature is one addition.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from math import exp
from typing import Final

from smtpguard.classify.categories import CATEGORIES
from smtpguard.classify.tokens import Memory
from smtpguard.mail.reply import EnhancedCode, Verb

MAX_WORDS: Final = 60
"""Written words of a text that are looked at."""

MAX_WEIGHT: Final = 60
"""The largest weight: what so many words and pairs add up to has 16 bits."""

UNIT: Final = 10
"""A weight of 1, a factor of e in the odds, in the units of the table."""

ALWAYS: Final = "="
"""The feature that every reply has: how common a category is."""

_START: Final = "^"  # stands before the first word
_NONE: Final[Mapping[str, int]] = {}
_PARTS: Final = 2  # words looked at where more are written without space, as in a path
_KNOWN: Final = 2  # features of the words that the table must have
_NOTHING: Final = 10 * UNIT  # so much less is as good as impossible
_STEM: Final = 5  # characters that make a stem: tells "reject" from "reverse", and not "rejected" from "rejection"
_LONG: Final = 7  # characters of a word that count besides: tells those two as well
_BITS: Final = 16
_ZERO: Final = sum(1 << _BITS - 1 + _BITS * place for place in range(len(CATEGORIES)))  # a sum of 0 for each category
_SUMS: Final = struct.Struct(f"<{len(CATEGORIES)}H")
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[: len(CATEGORIES)]
_WEIGHT: Final = re.compile(r"[A-Za-z]-?\d+")
_SHIFT: Final = {category: _BITS * place for place, category in enumerate(CATEGORIES)}

_EDGES: Final = "()[]<>,;:.\"'"
_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"\d+")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
_IP = re.compile(r"(\d{1,3}\.){3}\d{1,3}")


_Word = tuple[str, tuple[int, ...], Mapping[str, int]]
"""A word: its stem, the numbers of what it is itself, by the next stem those of the pairs that it begins."""


class Likely:
    """The table, ready to weigh a reply. Immutable but for memories that are bounded."""

    def __init__(self, table: Mapping[str, int]) -> None:
        """`table`: by feature, its weights as of `packed`."""
        self._rows: Final = list(table.values())  # by the number of a feature
        self._alone: Final[dict[str, int]] = {}  # the numbers of features that are no pairs
        self._pairs: Final[dict[str, dict[str, int]]] = {_START: {}}  # of pairs: by the stem before, by the stem
        for number, feature in enumerate(table):
            before, space, stem = feature.partition(" ")
            if space:
                self._pairs.setdefault(before, {})[stem] = number
            else:
                self._alone[feature] = number
        self._coded: Final = lru_cache(maxsize=2048)(self._codes)
        self._tokens: Final[Memory[tuple[_Word, ...]]] = Memory(self._read_token, {})

    def weigh(
        self, written: Sequence[str], verb: Verb | None = None, code: int = 0, enhanced: EnhancedCode | None = None
    ) -> tuple[int, ...]:
        """How much the words, in plain form, and the codes speak for each of `CATEGORIES`; () if it knows no words."""
        pairs: Mapping[str, int] = self._pairs[_START]
        found: list[int] = []
        for stem, numbers, after in chain.from_iterable(map(self._tokens.__getitem__, written[:MAX_WORDS])):
            found += numbers
            if stem in pairs:
                found.append(pairs[stem])
            pairs = after
        known = set(found)
        if len(known) < _KNOWN:
            return ()
        total = sum(map(self._rows.__getitem__, known), self._coded(verb, code, enhanced))
        return _SUMS.unpack(total.to_bytes(_SUMS.size, "little"))

    def _read_token(self, token: str) -> tuple[_Word, ...]:
        return tuple([self._word(names) for names in words(token)])

    def _word(self, names: tuple[str, ...]) -> _Word:
        """A word by its features."""
        alone = self._alone
        return names[0], tuple([alone[name] for name in names if name in alone]), self._pairs.get(names[0], _NONE)

    def _codes(self, verb: Verb | None, code: int, enhanced: EnhancedCode | None) -> int:
        numbers = [self._alone[feature] for feature in coded(verb, code, enhanced) if feature in self._alone]
        return _ZERO + sum([self._rows[number] for number in numbers])


def share(sums: Sequence[int], of: int) -> float:
    """The likelihood, 0 to 1, of the category with the sum `of` among those that `weigh` gave."""
    most = max(sums)
    return exp((of - most) / UNIT) / sum([exp((one - most) / UNIT) for one in sums if one > most - _NOTHING])


def words(token: str) -> list[tuple[str, ...]]:
    """The features of each word in a written one, in plain form: its stem, and what is longer of it, if it is.

    An address, a page, a host, an IP address is one of its kind.
    """
    core = token.strip(_EDGES)
    if core.isalpha():
        return [_named(core)]
    if "@" in token:
        return [("#@",)]
    if "://" in token:
        return [("#url",)]
    if _IP.fullmatch(core):
        return [("#ip",)]
    if _HOST.fullmatch(core) and not core.replace(".", "").isdigit():
        return [("#host",)]
    return [_named(word) for word in _WORD.findall(_DIGITS.sub("0", token.replace("'", "")))[:_PARTS]]


def _named(word: str) -> tuple[str, ...]:
    return (word[:_STEM], word[:_LONG]) if len(word) > _STEM else (word,)


def coded(verb: Verb | None, code: int, enhanced: EnhancedCode | None) -> Iterator[str]:
    """The features that are no words: the class and the code, the enhanced code and its subject, the verb if known."""
    yield ALWAYS
    yield f"={code // 100}"
    yield f"={code}"
    if enhanced is not None:
        yield f"=x.{enhanced.subject}"
        yield f"=x.{enhanced.subject}.{enhanced.detail}"
    if verb is not None:
        yield f"={verb}"


def worded(written: Sequence[str]) -> list[str]:
    """The features that are words, alone and with the one before, of a text in plain form; each once."""
    found: dict[str, None] = {}
    before = _START
    for token in written[:MAX_WORDS]:
        for names in words(token):
            found.update(dict.fromkeys((*names, f"{before} {names[0]}")))
            before = names[0]
    return list(found)


def packed(weights: Mapping[str, int]) -> int:
    """The weights of a feature, in `UNIT`s, by the categories it speaks for (above 0) or against, as one number."""
    return sum([weight << _SHIFT[category] for category, weight in weights.items()])


# --- the file --------------------------------------------------------------------------------------------------------


def dumped(table: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The lines of a table: the categories with a letter each, then a feature a line with its weights."""
    yield "# Weights by feature for likely.py; made by `python -m smtpguard.classify.learn`, not by hand."
    yield from (f"{letter} {category}" for letter, category in zip(_LETTERS, CATEGORIES, strict=True))
    letters = dict(zip(CATEGORIES, _LETTERS, strict=True))
    for feature in sorted(table):
        weights = sorted((letters[category], weight) for category, weight in table[feature].items())
        yield f"{feature}\t{''.join(f'{letter}{weight}' for letter, weight in weights)}"


class _Shifted(dict[str, int]):
    """A letter with a weight, as in the file, is the weight in its category's place; each is worked out once."""

    def __init__(self) -> None:
        super().__init__()
        self.shift: dict[str, int] = {}

    def __missing__(self, item: str) -> int:
        self[item] = shifted = int(item[1:]) << self.shift[item[0]]
        return shifted


def parsed(lines: Iterable[str]) -> dict[str, int]:
    """The table that `dumped` wrote, each feature's weights packed."""
    shifted = _Shifted()
    table: dict[str, int] = {}
    for line in lines:
        feature, tab, weights = line.partition("\t")
        if tab:
            table[feature] = sum(map(shifted.__getitem__, _WEIGHT.findall(weights)))
        elif line[:1] != "#":
            letter, _, category = line.partition(" ")
            shifted.shift[letter] = _SHIFT[category]
    return table


def load() -> Likely:
    """The shipped table."""
    return Likely(parsed(files(__package__).joinpath("likely.txt").read_text(encoding="utf-8").splitlines()))
