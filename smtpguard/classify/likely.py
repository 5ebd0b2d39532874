"""What a reply is likely about, by all of its words: asked where the rules say little, or where they may have misheard.

A linear model over the words, the pairs of words and the codes of a reply, with the weights of likely.txt, which
`python -m smtpguard.classify.learn` makes from replies that we labelled ourselves (multinomial logistic regression). It
reads wordings that no rule foresaw, but it cannot say why; so it is asked last, says `likely` for a rule, and is never
as sure as a rule. It does no more than weigh: when it is believed stands in classifier.py.

The weights of a feature for all categories are packed in one integer, so that adding a feature is one addition.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from math import exp
from typing import Final

from smtpguard.classify.categories import CATEGORIES
from smtpguard.mail.reply import EnhancedCode, Verb

MAX_WORDS: Final = 60
"""Written words of a text that are looked at."""

MAX_WEIGHT: Final = 100
"""The largest weight: what so many words and pairs add up to has 16 bits."""

UNIT: Final = 20
"""A weight of 1, a factor of e in the odds, in the units of the table."""

ALWAYS: Final = "="
"""The feature that every reply has: how common a category is."""

_START: Final = "^"  # stands before the first word
_NONE: Final[Mapping[str, int]] = {}
_PARTS: Final = 2  # words looked at where more are written without space, as in a path
_KNOWN: Final = 2  # features of the words that the table must have
_NOTHING: Final = 10 * UNIT  # so much less is as good as impossible
_STEM: Final = 5  # characters of a word that count: tells "reject" from "reverse", and not "rejected" from "rejection"
_BITS: Final = 16
_ZERO: Final = sum(1 << _BITS - 1 + _BITS * place for place in range(len(CATEGORIES)))  # a sum of 0 for each category
_SUMS: Final = struct.Struct(f"<{len(CATEGORIES)}H")
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[: len(CATEGORIES)]
_WEIGHT: Final = re.compile(r"([A-Za-z])(-?\d+)")

_EDGES: Final = "()[]<>,;:.\"'"
_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"\d+")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
_IP = re.compile(r"(\d{1,3}\.){3}\d{1,3}")


class Likely:
    """The table, ready to weigh a reply. Immutable but for memories that are bounded."""

    def __init__(self, table: Mapping[str, Mapping[str, int]]) -> None:
        """`table`: by feature, the weights of the categories it speaks for (above 0) or against, in `UNIT`s."""
        place = {category: _BITS * number for number, category in enumerate(CATEGORIES)}
        self._rows: Final[dict[str, int]] = {}
        self._pairs: Final[dict[str, dict[str, int]]] = {_START: {}}  # by the word before, by the word
        for feature, weights in table.items():
            row = sum(weight << place[category] for category, weight in weights.items())
            before, space, word = feature.partition(" ")
            if space:
                self._pairs.setdefault(before, {})[word] = row
            else:
                self._rows[feature] = row
        self._coded: Final = lru_cache(maxsize=2048)(self._codes)
        self._token: Final = lru_cache(maxsize=16384)(self._words)

    def weigh(
        self, written: Sequence[str], verb: Verb | None = None, code: int = 0, enhanced: EnhancedCode | None = None
    ) -> tuple[int, ...]:
        """How much the words, in plain form, and the codes speak for each of `CATEGORIES`; () if it knows no words."""
        total = self._coded(verb, code, enhanced)
        pairs: Mapping[str, int] = self._pairs[_START]
        known = 0
        read_token = self._token
        for token in written[:MAX_WORDS]:
            for stem, row, after in read_token(token):
                if row:
                    known += 1
                    total += row
                if pairs and (row := pairs.get(stem, 0)):
                    known += 1
                    total += row
                pairs = after
        if known < _KNOWN:
            return ()
        return _SUMS.unpack(total.to_bytes(_SUMS.size, "little"))

    def _words(self, token: str) -> list[tuple[str, int, Mapping[str, int]]]:
        """Of each word in a written one: itself, its row (0 none), the rows of pairs that it begins."""
        return [(stem, self._rows.get(stem, 0), self._pairs.get(stem, _NONE)) for stem in stems(token)]

    def _codes(self, verb: Verb | None, code: int, enhanced: EnhancedCode | None) -> int:
        return _ZERO + sum(self._rows.get(feature, 0) for feature in coded(verb, code, enhanced))


def share(sums: Sequence[int], of: int) -> float:
    """The likelihood, 0 to 1, of the category with the sum `of` among those that `weigh` gave."""
    most = max(sums)
    return exp((of - most) / UNIT) / sum([exp((one - most) / UNIT) for one in sums if one > most - _NOTHING])


def stems(token: str) -> tuple[str, ...]:
    """The features of one written word in plain form; an address, a page, a host, an IP address is one of its kind."""
    core = token.strip(_EDGES)
    if core.isalpha():
        return (core[:_STEM],)
    if "@" in token:
        return ("#@",)
    if "://" in token:
        return ("#url",)
    if _IP.fullmatch(core):
        return ("#ip",)
    if _HOST.fullmatch(core) and not core.replace(".", "").isdigit():
        return ("#host",)
    return tuple([word[:_STEM] for word in _WORD.findall(_DIGITS.sub("0", token.replace("'", "")))[:_PARTS]])


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


def worded(written: Sequence[str]) -> Iterator[str]:
    """The features that are words, alone and with the one before, of a text in plain form."""
    before = _START
    for token in written[:MAX_WORDS]:
        for stem in stems(token):
            yield stem
            yield f"{before} {stem}"
            before = stem


# --- the file --------------------------------------------------------------------------------------------------------


def dumped(table: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The lines of a table: the categories with a letter each, then a feature a line with its weights."""
    yield "# Weights by feature for likely.py; made by `python -m smtpguard.classify.learn`, not by hand."
    yield from (f"{letter} {category}" for letter, category in zip(_LETTERS, CATEGORIES, strict=True))
    letters = dict(zip(CATEGORIES, _LETTERS, strict=True))
    for feature in sorted(table):
        weights = sorted((letters[category], weight) for category, weight in table[feature].items())
        yield f"{feature}\t{''.join(f'{letter}{weight}' for letter, weight in weights)}"


def parsed(lines: Iterable[str]) -> dict[str, dict[str, int]]:
    """The table that `dumped` wrote."""
    categories: dict[str, str] = {}
    table: dict[str, dict[str, int]] = {}
    for line in lines:
        feature, tab, weights = line.partition("\t")
        if tab:
            table[feature] = {categories[letter]: int(weight) for letter, weight in _WEIGHT.findall(weights)}
        elif line[:1] != "#":
            letter, _, category = line.partition(" ")
            categories[letter] = category
    return table


def load() -> Likely:
    """The shipped table."""
    return Likely(parsed(files(__package__).joinpath("likely.txt").read_text(encoding="utf-8").splitlines()))
