"""Makes likely.txt, the weights of likely.py, from replies with their causes. A program for who changes the replies.

    python -m smtpguard.classify.learn tests/classify/held_out.jsonl

It learns from the lines of the files named ({"reply", "expected", and "verb", "next_hop" where known}), from the
examples of the shipped rules, and from readings of each of their phrases, so that words which a rule knows in one order
are known in any. A reply is now and then read without its codes, which say less than they are believed to, and a phrase
in other words each time. Multinomial logistic regression, by gradients with steps that shrink (AdaGrad), with a price
on large weights; what is left small then goes, and the rest is learned on without it. The same replies give the same
table. It takes less than a minute and no other library.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import exp, sqrt
from pathlib import Path
from typing import Final, NamedTuple

from smtpguard.classify import rules_of
from smtpguard.classify.categories import CATEGORIES
from smtpguard.classify.classifier import enhanced_of, fold
from smtpguard.classify.likely import ALWAYS, MAX_WEIGHT, UNIT, coded, dumped, worded
from smtpguard.classify.notice import said, verb_of
from smtpguard.classify.readings import parts_of, readings
from smtpguard.classify.regex import plain
from smtpguard.classify.rules import Rule
from smtpguard.mail.reply import Reply, Verb


class Lesson(NamedTuple):
    """What is learned from one reply or phrase: versions of its features, one of which is taken a round; its cause."""

    versions: Sequence[Sequence[str]]
    category: str


_ROUNDS: Final = 24
_MORE_ROUNDS: Final = 20  # without the weights that were small; their mean is what is told
_STEP: Final = 0.3
_PRICE: Final = 0.35  # of a weight's square: the more, the less sure the answers
_SEEN: Final = 4  # versions that must have a feature: those of two replies, or many of a phrase
_READINGS: Final = 20  # of each phrase
_LESSONS: Final = 2  # that these are dealt out to
_SIGNS: Final = {"@": "a@b", "#ip": "192.0.2.1", "#host": "mx.example", "#url": "http://a/", "#num": "5"}
_LEAST: Final = 0.27  # a smaller weight is left out


def lesson(reply: Reply, verb: Verb | None, category: str) -> Lesson:
    """What is learned from one reply: twice with its codes, once without."""
    folded = fold(reply)
    words = worded(plain(folded).split())
    whole = [*words, *coded(verb, reply.code, enhanced_of(reply, folded))]
    return Lesson((whole, whole, [*words, ALWAYS]), category)


def spoken(rules: Iterable[Rule]) -> Iterator[Lesson]:
    """What is learned from the phrases of rules: words without codes."""
    for rule in rules:
        for phrase in rule.phrases:
            choose = random.Random(phrase).choice  # noqa: S311  # a phrase more changes the readings of no other
            parts = [sorted(set(readings(part))) for part in parts_of(phrase)]
            versions = []
            for _ in range(_READINGS):
                words = [_SIGNS.get(word, word.strip("#*")) for part in parts for word in choose(part)]
                versions.append([*worded(words), ALWAYS])
            for first in range(_LESSONS):
                yield Lesson(versions[first::_LESSONS], rule.category)


def lessons(paths: Iterable[Path]) -> Iterator[Lesson]:
    """What the rules' phrases say, the rules' examples, then the replies of the files."""
    yield from spoken(rules_of())
    for rule in rules_of():
        for example in rule.examples:
            yield lesson(example.reply, example.verb, rule.category)
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            asked = said(row["reply"], host=row.get("next_hop", ""), verb=verb_of(row.get("verb", "")))
            yield lesson(asked.reply, asked.verb, row["expected"])


class _Row:
    """What is known of one feature, by the place of a category: the weights, the squares of all slopes, what counts."""

    __slots__ = ("counts", "price", "squares", "sums", "weights")

    def __init__(self, price: float) -> None:
        self.price = price
        self.weights = [0.0] * len(CATEGORIES)
        self.squares = [1e-8] * len(CATEGORIES)
        self.sums = [0.0] * len(CATEGORIES)
        self.counts: Sequence[int] = range(len(CATEGORIES))

    def step(self, wrong_by: Sequence[float]) -> None:
        weights, squares, price = self.weights, self.squares, self.price
        for place in self.counts:
            slope = wrong_by[place] + price * weights[place]
            if -1e-4 < slope < 1e-4:  # most are such, and move nothing
                continue
            squares[place] += slope * slope
            weights[place] -= _STEP * slope / sqrt(squares[place])

    def prune(self) -> None:
        """A weight that is small is none from now on."""
        self.counts = [place for place, weight in enumerate(self.weights) if abs(weight) >= _LEAST]
        self.weights = [weight if abs(weight) >= _LEAST else 0.0 for weight in self.weights]

    def note(self) -> None:
        """A round has ended: its weights count."""
        for place in self.counts:
            self.sums[place] += self.weights[place]

    def told(self) -> dict[str, int]:
        """The means of the weights noted, by category, as in the table."""
        rounded = {CATEGORIES[place]: round(self.sums[place] * UNIT / _MORE_ROUNDS) for place in self.counts}
        return {name: max(-MAX_WEIGHT, min(MAX_WEIGHT, weight)) for name, weight in rounded.items() if weight}


def learned(known: Sequence[Lesson], rounds: int = _ROUNDS) -> dict[str, dict[str, int]]:
    """The table for likely.py, by feature and category."""
    seen: Counter[str] = Counter()
    often: defaultdict[str, float] = defaultdict(float)  # lessons of a round that have a feature
    for versions, _ in known:
        for version in versions:
            seen.update(version)
            for feature in version:
                often[feature] += 1 / len(versions)
    rows = {feature: _Row(_PRICE / often[feature]) for feature, count in seen.items() if count >= _SEEN}
    told = [
        (
            [[rows[feature] for feature in version if feature in rows] for version in versions],
            CATEGORIES.index(category),
        )
        for versions, category in known
    ]
    chance = random.Random(1)  # noqa: S311
    for turn in range(rounds + _MORE_ROUNDS):
        if turn == rounds:
            for row in rows.values():
                row.prune()
        chance.shuffle(told)
        for taught, right in told:
            _learn(chance.choice(taught), right)
        if turn >= rounds:
            for row in rows.values():
                row.note()
    table = {feature: row.told() for feature, row in rows.items()}
    return {feature: weights for feature, weights in table.items() if weights}


def _learn(found: Sequence[_Row], right: int) -> None:
    wrong_by = _shares([row.weights for row in found])
    wrong_by[right] -= 1.0
    for row in found:
        row.step(wrong_by)


def _shares(rows: Sequence[Sequence[float]]) -> list[float]:
    sums = [sum(column) for column in zip(*rows, strict=True)]
    most = max(sums)
    odds = [exp(one - most) for one in sums]
    whole = sum(odds)
    return [one / whole for one in odds]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python -m {__spec__.name} REPLIES.jsonl...")
    text = "\n".join(dumped(learned(list(lessons(map(Path, sys.argv[1:]))))))
    Path(__file__).with_name("likely.txt").write_text(f"{text}\n", encoding="utf-8")
