"""Makes likely.txt, the weights of likely.py, from replies with their causes. A program for who changes the replies.

    python -m smtpguard.classify.learn tests/classify/held_out.jsonl

It learns from the lines of the files named ({"reply", "expected", and "verb", "next_hop" where known}), from the
examples of the shipped rules, and from a few readings of each of their phrases, so that words which a rule knows in one
order are known in any: multinomial logistic regression, by gradients with steps that shrink (AdaGrad), with a price on
large weights. The same replies give the same table. It takes half a minute and no other library.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import exp, sqrt
from pathlib import Path
from typing import Final

from smtpguard.classify import rules_of
from smtpguard.classify.categories import CATEGORIES
from smtpguard.classify.classifier import enhanced_of, fold
from smtpguard.classify.likely import ALWAYS, MAX_WEIGHT, UNIT, coded, dumped, worded
from smtpguard.classify.notice import said, verb_of
from smtpguard.classify.readings import parts_of, readings
from smtpguard.classify.regex import plain
from smtpguard.classify.rules import Rule
from smtpguard.mail.reply import Reply, Verb

Sample = tuple[list[str], str]
"""The features of a reply, each as often as it is there, and its category."""

_ROUNDS: Final = 20
_STEP: Final = 0.3
_PRICE: Final = 0.2  # of a weight's square: the more, the less sure the answers
_SEEN: Final = 2  # replies that must have a feature
_READINGS: Final = 3  # of each phrase
_SIGNS: Final = {"@": "a@b", "#ip": "192.0.2.1", "#host": "mx.example", "#url": "http://a/", "#num": "5"}
_LEAST: Final = 8  # a smaller weight is left out, in the units of the table


def sample(reply: Reply, verb: Verb | None, category: str) -> Sample:
    """What is learned from one reply."""
    folded = fold(reply)
    codes = coded(verb, reply.code, enhanced_of(reply, folded))
    return [*worded(plain(folded).split()), *codes], category


def spoken(rules: Iterable[Rule]) -> Iterator[Sample]:
    """What is learned from the phrases of rules: words without codes."""
    for rule in rules:
        for phrase in rule.phrases:
            choose = random.Random(phrase).choice  # noqa: S311  # a phrase more changes the readings of no other
            parts = [sorted(set(readings(part))) for part in parts_of(phrase)]
            for _ in range(_READINGS):
                words = [_SIGNS.get(word, word.strip("#*")) for part in parts for word in choose(part)]
                yield [*worded(words), ALWAYS], rule.category


def samples(paths: Iterable[Path]) -> Iterator[Sample]:
    """What the rules' phrases say, the rules' examples, then the replies of the files."""
    yield from spoken(rules_of())
    for rule in rules_of():
        for example in rule.examples:
            yield sample(example.reply, example.verb, rule.category)
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            asked = said(row["reply"], host=row.get("next_hop", ""), verb=verb_of(row.get("verb", "")))
            yield sample(asked.reply, asked.verb, row["expected"])


def learned(known: Sequence[Sample], rounds: int = _ROUNDS) -> dict[str, dict[str, int]]:
    """The table for likely.py, by feature and category."""
    count = Counter(feature for found, _ in known for feature in set(found))
    number = {category: place for place, category in enumerate(CATEGORIES)}
    told = [([feature for feature in found if count[feature] >= _SEEN], number[category]) for found, category in known]
    weights: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(CATEGORIES))
    squares: defaultdict[str, list[float]] = defaultdict(lambda: [1e-8] * len(CATEGORIES))
    shuffle = random.Random(1).shuffle  # noqa: S311
    for _ in range(rounds):
        shuffle(told)
        for found, right in told:
            wrong_by = _shares([weights[feature] for feature in found])
            wrong_by[right] -= 1.0
            for feature in found:
                _step(weights[feature], squares[feature], wrong_by, _PRICE / count[feature])
    table = {
        feature: {
            category: weight
            for category, exact in zip(CATEGORIES, row, strict=True)
            if abs(weight := max(-MAX_WEIGHT, min(MAX_WEIGHT, round(exact * UNIT)))) >= _LEAST
        }
        for feature, row in weights.items()
    }
    return {feature: row for feature, row in table.items() if row}


def _shares(rows: Sequence[Sequence[float]]) -> list[float]:
    sums = [sum(column) for column in zip(*rows, strict=True)]
    most = max(sums)
    odds = [exp(one - most) for one in sums]
    whole = sum(odds)
    return [one / whole for one in odds]


def _step(row: list[float], squares: list[float], wrong_by: Sequence[float], price: float) -> None:
    for place, error in enumerate(wrong_by):
        slope = error + price * row[place]
        if -1e-4 < slope < 1e-4:  # most are such, and move nothing
            continue
        squares[place] += slope * slope
        row[place] -= _STEP * slope / sqrt(squares[place])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python -m {__spec__.name} REPLIES.jsonl...")
    text = "\n".join(dumped(learned(list(samples(map(Path, sys.argv[1:]))))))
    Path(__file__).with_name("likely.txt").write_text(f"{text}\n", encoding="utf-8")
