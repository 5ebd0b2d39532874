"""Which patterns are worth trying on a text: an index by the words that each pattern needs.

A refusal has some fifteen words, the rules have a thousand patterns, and nearly every one of these needs a word that is
not there. `needs` reads out of a pattern the beginnings of words that any match must hold; `keys` gives those of a
text. One dictionary look-up a word then leaves a handful of patterns for RE2. The cost does not depend on what was seen
before, unlike RE2's own automaton for many patterns, which is built anew for each combination of words that it meets.

A key is the first four characters of a word, or the whole of a shorter one; of ideographs and kana, which stand without
spaces, one character. A pattern of which no key can be read is tried on every text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from smtpguard.classify.regex import GAP

_KEY: Final = 4
"""Characters of a key: "user", "full" and "spam" are still whole, "recipient" and "recent" already differ."""

_IDEOGRAPHS: Final = "\u2e80"
"""From here on a character is a word of its own: radicals, kana, ideographs, hangul."""

# all ASCII but letters and digits ends a word; a dot and a hyphen too
_ENDS: Final = {code: " " for code in range(128) if not chr(code).isalnum()}

# Words of every second refusal: an index under them would find too much. Others are chosen before these.
_COMMON: Final = frozenset(
    "mail emai mess from your user addr reci reje host serv acce not for the to is by ip in of on has been this that "
    "was deni bloc send sende doma no be a an are with at and or you have clie conn erro fail mailb acco via it due can "
    "rcpt temp unab poli perm refu smtp does only".split()
)


def keys(lower: str) -> set[str]:
    """The keys of a text in lower case."""
    found = {word[:_KEY] for word in lower.translate(_ENDS).split()}
    if not lower.isascii():
        found.update(character for character in lower if character >= _IDEOGRAPHS)
    return found


class Index:
    """Patterns by what they need: `candidates(keys)` gives the numbers of those that may match.

    Sets of patterns are the bits of an integer: a text's keys are looked up once, and the rest is a few `or` and `and`.
    """

    _NEEDS: Final = 3
    """Needs of a pattern that are looked at; more would find little less."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._free = [0] * self._NEEDS
        by_key: dict[str, list[int]] = {}
        for number, pattern in enumerate(patterns):
            found = needs(pattern)[: self._NEEDS]
            for slot in range(self._NEEDS):
                if slot >= len(found):
                    self._free[slot] |= 1 << number
                    continue
                for key in found[slot]:
                    by_key.setdefault(key, [0] * self._NEEDS)[slot] |= 1 << number
        self._by_key: Final = {key: tuple(masks) for key, masks in by_key.items()}
        self.always: Final = _numbers(self._free[0])
        """The patterns that are tried on every text, for no key could be read out of them."""

    def candidates(self, present: set[str]) -> list[int]:
        """The patterns whose needs `present` meets, in order."""
        by_key = self._by_key
        first, second, third = self._free
        for key in present & by_key.keys():
            one, two, three = by_key[key]
            first |= one
            second |= two
            third |= three
        return _numbers(first & second & third)


def _numbers(bits: int) -> list[int]:
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def worded(pattern: str) -> str:
    r"""The pattern with `\b` at its front and behind each gap, where a word follows: words are found whole or not at all.

    Before letters beyond ASCII nothing is put, for RE2 knows no words of them.
    """
    tokens = _TOKEN.findall(pattern)
    out: list[str] = []
    gap_ends, depth = True, 0
    for at, token in enumerate(tokens):
        depth += (token[0] == "(") - (token == ")")
        if gap_ends and _opens_word(tokens, at):
            out.append(r"\b")
        out.append(token)
        # a gap: any text, repeated
        gap_ends = (
            token == GAP
            or (token == "|" and depth == 0)
            or (at > 0 and token[0] in "*+{" and (tokens[at - 1] in (".", r"\S") or tokens[at - 1].startswith("[^")))
        )
    return "".join(out)


def _opens_word(tokens: Sequence[str], at: int) -> bool:
    """Whether what stands at `at` is a letter or digit that cannot lack, or a bracket of such."""
    if at >= len(tokens):
        return False
    token = tokens[at]
    if at + 1 < len(tokens) and tokens[at + 1][0] in "*?{":
        return False
    if len(token) == 1 and token.isascii() and token.isalnum():
        return True
    if token[0] != "(" or len(token) == 2:
        return False
    depth, opens = 0, True
    for place in range(at, len(tokens)):
        depth += (tokens[place][0] == "(") - (tokens[place] == ")")
        if depth == 0:
            lacks = place + 1 < len(tokens) and tokens[place + 1][0] in "*?{"
            return opens and not lacks
        if (depth == 1 and (place == at or tokens[place] == "|")) and not _opens_word(tokens, place + 1):
            opens = False
    return False


# --- what a pattern needs --------------------------------------------------------------------------------------------

# an escape, a class, an opening or closing bracket, a bar, a quantifier, or any character
_TOKEN: Final = re.compile(
    r"\\[pP]\{?\w+\}?|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?[a-z]*:)?|\)|\||\{\d+(?:,\d*)?\}\??|[*+?]\??|.", re.S
)
_QUANTIFIER: Final = re.compile(r"\{(\d+)(?:,\d*)?\}\??|([*+?])\??")
_LITERAL_ESCAPES: Final = frozenset(".[]()|{}*+?^$\\/-\"'#:;,<>@&%!=~` ")


class _Item(NamedTuple):
    """A piece of a sequence: `text` one literal character, "" for what is none; `groups` of a bracket, its branches."""

    text: str = ""
    edge: bool = False  # nothing of a word: `\b`, `^`, `$`, or a gap that ends where a word begins
    branches: tuple[tuple[_Item, ...], ...] = ()
    may_lack: bool = False
    repeats: bool = False


def needs(pattern: str) -> list[frozenset[str]]:
    """What a match must hold: of each set at least one key, the most telling set first; [] where nothing can be said."""
    tokens = _TOKEN.findall(pattern)
    branches, _ = _parse(tokens, 0)
    found = _of_branches(branches, left=True, right=False)
    return sorted(found, key=_cost)


def _cost(need: frozenset[str]) -> int:
    return sum(30 if key in _COMMON else 1 for key in need)


def _parse(tokens: Sequence[str], at: int) -> tuple[tuple[tuple[_Item, ...], ...], int]:
    """The branches from `at` to the closing bracket or the end, and where that is."""
    branches: list[tuple[_Item, ...]] = []
    items: list[_Item] = []
    while at < len(tokens) and tokens[at] != ")":
        token = tokens[at]
        at += 1
        if token == "|":
            branches.append(tuple(items))
            items = []
            continue
        if token[0] == "(" and len(token) != 2:
            inner, at = _parse(tokens, at)
            at += 1
            item = _Item(branches=inner)
        else:
            item = _simple(token)
        if at < len(tokens) and (found := _QUANTIFIER.fullmatch(tokens[at])) is not None:
            least, sign = found.groups()
            item = item._replace(may_lack=sign in ("*", "?") or least == "0", repeats=sign != "?")
            at += 1
        items.append(item)
    return (*branches, tuple(items)), at


def _simple(token: str) -> _Item:
    if token in ("^", "$", r"\b", GAP):
        return _Item(edge=True)
    if token[0] == "\\":
        return _Item(text=token[1]) if len(token) == 2 and token[1] in _LITERAL_ESCAPES else _Item()
    if len(token) == 1 and token != ".":
        return _Item(text=token)
    return _Item()


def _is_wordly(text: str) -> bool:
    return text.isalnum()


def _of_branches(branches: Sequence[Sequence[_Item]], *, left: bool, right: bool) -> list[frozenset[str]]:
    if len(branches) == 1:
        return _of_sequence(branches[0], left=left, right=right)
    union: set[str] = set()
    for branch in branches:
        found = _of_sequence(branch, left=left, right=right)
        if not found:
            return []
        union |= min(found, key=_cost)
    return [frozenset(union)]


def _of_sequence(items: Sequence[_Item], *, left: bool, right: bool) -> list[frozenset[str]]:
    """`left` and `right`: whether a word begins before the sequence, and ends behind it, for certain."""
    found: list[frozenset[str]] = []
    begins, run = left, ""
    for number, item in enumerate(items):
        if item.text and not item.may_lack and _is_wordly(item.text):
            if item.text >= _IDEOGRAPHS:
                found.append(frozenset(item.text))
            run += item.text
            if item.repeats:  # "o+": what follows is no longer at a known place
                found += _key(run, begins=begins, ends=False)
                begins, run = False, ""
            continue
        ends = item.edge or (bool(item.text) and not item.may_lack)
        if run:
            found += _key(run, begins=begins, ends=ends)
        if item.branches and not item.may_lack:
            followed = _ends_after(items, number, right)
            found += _of_branches(item.branches, left=begins and not run, right=followed)
        begins, run = _begins_after(item, begins=begins and not run), ""
    return found + _key(run, begins=begins, ends=right)


def _ends_after(items: Sequence[_Item], number: int, right: bool) -> bool:
    """Whether a word ends behind the item: the next is no part of one and cannot lack."""
    if items[number].repeats:
        return False
    if number + 1 == len(items):
        return right
    after = items[number + 1]
    return after.edge or (bool(after.text) and not after.may_lack and not _is_wordly(after.text))


def _begins_after(item: _Item, *, begins: bool) -> bool:
    """Whether a word may be taken to begin behind the item."""
    if item.edge:
        return True
    if item.branches:
        # "(the )?mail": where it lacks, what stood before counts; where not, its own end
        ends = all(branch and _begins_after(branch[-1], begins=False) for branch in item.branches)
        return ends and (begins or not item.may_lack)
    if item.text:
        return not _is_wordly(item.text) and (begins or not item.may_lack)
    return False


def _key(run: str, *, begins: bool, ends: bool) -> list[frozenset[str]]:
    return [frozenset((run[:_KEY],))] if begins and run and (ends or len(run) >= _KEY) else []
