"""How right the rules are on replies that they were not written from, and how honest their confidence is.

held_out.jsonl holds sets of replies, each written whole before the classifier saw one of them. A and B, before the
rules: as postmasters in thirteen languages might word each cause. C to H, one after the other, once the rules were
there; what was misread was mended in general words before the next was written. C to F are texts of mail servers,
providers, filters and sending services as remembered, and odd wordings of our own; G and H are pieces of replies, with
no more than a basic code to go by. Only the first figure of a set is of replies unseen, the right cause (coarse):

    set                             C    D    E    F    G    H
    replies                       512  172  117   72  136  108
    rules as they were before C    84   84   81   79   72   72 %
    rules as they were then        84   84   86   85   72   72 %

Of 205 replies that the rules before C misread, 93 were read to a wrong cause, the others to none. Hence likely.py: all
words together, where rules say little. With the rules before C, on C to H, first as it learned from A, B and the rules'
examples, then as it learned from all sets but the one that is read (when it is believed was found on these sets too):

                               right   wrong   called dead though alive, of 1117
    rules before C              81.6     8.3     14
    and likely, from A and B    85.5     7.3      8
    and likely, from the rest   86.8     6.3      7

Set I, of 163 replies, was kept aside until its misread ones were seen; by then 90.2 % were right, 4.3 % wrong. Then
came J to P, again one after the other: J by sayer (MTAs, control panels, policy daemons, gateways, providers of four
continents, thirteen languages), K and L by cause, M by cause without the verb, N as such texts are quoted in forums and
help pages, O and P plain and short. First the rules before J, then what read each set first, right (coarse) and wrong;
labels seen to be wrong then were mended, which only the first line knows:

    set                       J         K         L         M         N         O         P
    replies                 381       348       304       311       314       294       227
    rules before J     97.6 1.0  92.0 7.5  92.4 3.9  89.4 5.1  94.9 3.2  92.9 2.4  87.2 5.7 %
    as they were then  96.1 2.4  91.1 8.0  92.4 3.9  88.4 5.8  93.9 3.8  93.5 1.7  88.1 4.0 %

Replies that stand among the development replies or in an earlier set were left out of the files afterwards. Of the dead
addresses of O 95.0 % were found at first, no fault of a sender's was called one.

Q to Z are replies as the sources of the development replies have them, as literally as could be remembered: Q to S and
Z what bounce parsers, bounce tables, address verifiers and field manuals quote, T what MTAs, filters and gateways say
by their source, U pages of providers and lines of logs, V tables of bounce parsers, W providers and gateways again, X
and Y short ones of all kinds. What a file had already (a third of them) was left out before; 80 labels were seen to be
wrong then. What read each set first, right and wrong:

    set               Q     R     S     T     U     V     W     X     Y     Z
    replies         297   252   161   381   281   209   166   176   115   330
    right          90.6  94.4  87.6  92.9  91.8  89.0  93.4  95.5  94.8  94.8 %
    wrong           5.4   3.6   2.5   6.3   7.1   4.3   3.6   4.0   3.5   3.6 %

All ten together (mended labels), read by the rules before Q; likely as it was, then as learned from A to P and those of
the two halves of Q to Z (Q, R, S, Z; T to Y) that is not read, then believed of a dead address too where no rule says a
cause. This was done:

                               right   wrong   dead found   called dead though alive, of 1764
    rules before Q, likely      94.9     2.6      91.0      12
    and likely from the rest    95.2     2.4      91.2      11
    and of dead addresses       95.6     2.6      93.7      13

a, b, e to k and m are drawn from the same sources again, one after the other, each mended before the next; i is short
ones. Here without what a file had already (a third of all that were drawn), by labels as first given and as mended; of
the dead addresses with mended labels 87 (b) to 100 % were found, one fault of a sender's (in k) was called one:

    set               a     b     e     f     g     h     i     j     k     m
    replies         163   126   159   150   161   152   112    82    89    90
    right          92.7  90.5  93.8  94.0  93.2  94.1  98.2  95.1  93.3  96.7 %
    wrong           4.3   4.8   3.8   2.7   3.1   3.3   1.8   2.4   4.4   2.2 %
    right, mended  97.5  93.7  96.9  95.3  93.8  96.1  99.1  97.6  95.5  96.7 %
    wrong, mended   1.2   2.4   1.3   1.3   3.1   1.3   0.9   0.0   2.2   2.2 %

l is no draw: odd wordings of dead addresses and of faults of senders that sound like them, 85.5 % right at first.

c and d are another draw, made beside that one: c as mailbox providers, hosters, filters and MTAs by their source have
them, d partly as their like would word it. In the same way, but for 23 that stood in a set by the time of writing; the
rules before both found 91 and 92 % of the dead addresses and called no fault of a sender's one:

    set               c     d
    replies         473   454
    right          92.4  91.9 %
    wrong           5.7   5.1 %
    right, mended  96.8  93.8 %
    wrong, mended   2.1   3.5 %

Beside these draws likely was made anew: two lengths of a word, replies now and then without their codes, phrases in
other words each round, thresholds found by leaving out sets of J to Z. It had not learned from a, b, e to h (911
replies) when it read them with the rules before: 95.6 % right and 1.8 % wrong as it was, 96.6 and 1.9 % anew, 94.8 and
95.7 % of the dead addresses found, no fault of a sender's called one. O went from 94.9 to 96.9 %.

n is the last draw, read once by all of that: of its 264 replies 99.2 % right and 0.4 % wrong; of the 79 of them that no
file had 97.5 and 1.3 %, of the 34 of these that are like no other reply 94.1 and 2.9 %; of the dead addresses 68 of 70,
13 of 15 and 5 of 7 were found, and no fault of a sender's was called one.

And the rules of before a to n, likely as learned from A to Z only, by the decisions as they are: of the 2,376 replies
of a to n 96.1 % right, 2.4 % wrong, 489 of 515 dead addresses found (95.0 %), 3 of 1,832 faults of others called one.

p was drawn later, from memory of what servers of 2022 to 2026 say, by one who had seen neither rules nor sets: of 220
replies 97.7 % right, 2.3 % wrong at first; of the 111 that no file had 97.3 and 2.7 %, all dead addresses found, no
fault of a sender's called one.

kept_aside.jsonl is set O. Nothing was learned from it and no misread reply of it looked at, and none should be: its
figures, for all causes together, were seen after each of the changes below, and chose none of them:

                               right   wrong   dead found
    rules before J              92.9     2.4      95.0
    general words from J to N   93.5     1.7      95.0
    and likely from I to P,
    general words from P        93.9     2.4      95.0
    and from Q to Z, also of
    dead addresses              94.6     2.4      97.5

All sets are harder than what servers send, for many replies are odd on purpose or are what the others had not, and they
were written by who wrote the rules. Of the collected development replies the rules' first reading had 89 %; they were
looked at since. The figures below for all sets but O say that known replies are still read, no more; those for O, that
unknown ones are. Run as a program, this prints the calibration: `python tests/classify/test_generality.py`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from smtpguard.classify import CATEGORIES, Classification, Classifier, load
from smtpguard.classify.notice import said, verb_of

CLASSIFIER = load()


def rows_of(name: str) -> list[dict[str, Any]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


ROWS = rows_of("held_out.jsonl")
ASIDE = rows_of("kept_aside.jsonl")
DEAD = {"recipient.unknown", "recipient.disabled", "recipient.domain", "recipient.syntax"}
UNSPECIFIC = {"policy.unspecified", "unknown"}


class Answered(NamedTuple):
    row: dict[str, Any]
    answer: Classification

    @property
    def allowed(self) -> set[str]:
        return {self.row["expected"], *self.row["also"]}

    @property
    def is_right(self) -> bool:
        return self.answer.category in self.allowed


SETS = "ABCDEFGHIJKLMNPQRSTUVWXYZabcdefghijklmnp"


def answered(
    sets: str = SETS, classifier: Classifier = CLASSIFIER, rows: Iterable[dict[str, Any]] = ROWS
) -> Iterator[Answered]:
    for row in rows:
        if row["set"] in sets:
            asked = said(row["reply"], host=row.get("next_hop", ""), verb=verb_of(row.get("verb", "")))
            yield Answered(row, classifier.match(asked.reply, asked.host, verb_known=asked.verb is not None))


def calibration(answers: list[Answered]) -> list[tuple[float, int, float]]:
    """(confidence, how many answers have it, the share of these that is right), by rising confidence."""
    by_confidence: defaultdict[float, list[bool]] = defaultdict(list)
    for one in answers:
        by_confidence[one.answer.confidence].append(one.is_right)
    return [(sure, len(right), sum(right) / len(right)) for sure, right in sorted(by_confidence.items())]


def test_the_held_out_replies_are_well_formed() -> None:
    assert len(ROWS) >= 3500
    assert {row["set"] for row in ROWS} == set(SETS)
    assert {row["expected"] for row in ROWS} == set(CATEGORIES)
    assert all(set(row["also"]) <= set(CATEGORIES) for row in ROWS)
    assert len({row["reply"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("name", SETS)
def test_the_wordings_of_each_set_are_read(name: str) -> None:
    answers = list(answered(name))
    wrong = [one for one in answers if not one.is_right and one.answer.category not in UNSPECIFIC]
    assert sum(one.is_right for one in answers) / len(answers) >= 0.95
    assert len(wrong) / len(answers) <= 0.04


def test_the_replies_kept_aside_are_read_about_as_well_as_at_first() -> None:
    answers = list(answered("O", rows=ASIDE))
    wrong = [one for one in answers if not one.is_right and one.answer.category not in UNSPECIFIC]
    assert len(answers) == len(ASIDE) >= 290
    assert sum(one.is_right for one in answers) / len(answers) >= 0.91
    assert len(wrong) / len(answers) <= 0.04


def test_the_replies_kept_aside_are_in_no_other_set() -> None:
    assert not {row["reply"] for row in ASIDE} & {row["reply"] for row in ROWS}


def test_a_fault_of_the_sender_is_no_dead_address() -> None:
    alive = [one for one in (*answered(), *answered("O", rows=ASIDE)) if not one.allowed & DEAD]
    assert sum(one.answer.category in DEAD for one in alive) / len(alive) <= 0.005


def test_dead_addresses_are_found() -> None:
    dead = [one for one in answered() if one.row["expected"] in DEAD and one.row["reply"].startswith("5")]
    assert sum(one.answer.category in DEAD for one in dead) / len(dead) >= 0.95


def test_the_sure_answers_are_right() -> None:
    sure = [one for one in answered() if one.answer.confidence >= 0.8]
    assert len(sure) > len(ROWS) / 2
    assert sum(one.is_right for one in sure) / len(sure) >= 0.97


def test_no_two_rules_of_one_weight_differ() -> None:
    draws = []
    for row in ROWS:
        asked = said(row["reply"], host=row.get("next_hop", ""), verb=verb_of(row.get("verb", "")))
        hits = CLASSIFIER.hits(asked.reply, asked.host, asked.verb)
        draws += [
            (row["reply"], hits[0].rule.id, hit.rule.id)
            for hit in hits[1:]
            if hit.weight == hits[0].weight and hit.rule.category != hits[0].rule.category
        ]
    assert draws == []


if __name__ == "__main__":
    for confidence, count, right in calibration(list(answered())):
        print(f"{confidence:5.2f} {count:5} {right:7.1%}")  # noqa: T201
