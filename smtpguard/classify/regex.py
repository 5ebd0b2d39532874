"""The one place that knows google-re2: patterns compiled, all searched at once, and rewritten for what we ask of them.

RE2 takes time linear in the text, whatever the pattern; it has no look-around and no back-references. Rules' patterns
are made lower case and meet text in lower case. Octets in, octets out: offsets need no translation then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import re2

_RE2: Final[Any] = re2  # ships no types; what is used of it is typed here

_AS_WRITTEN: Final = _RE2.Options()
_AS_WRITTEN.log_errors = False  # a bad pattern is a PatternError, not a line on standard error
_ANY_CASE: Final = _RE2.Options()
_ANY_CASE.log_errors = False
_ANY_CASE.case_sensitive = False


class PatternError(ValueError):
    """RE2 does not take this pattern; the text is what it said."""


class Match(Protocol):
    """Where a pattern matched, as of `re`."""

    def group(self, group: int = 0, /) -> bytes: ...
    def groups(self) -> tuple[bytes | None, ...]: ...
    def span(self) -> tuple[int, int]: ...


class Regex(Protocol):
    """A compiled pattern over octets."""

    def search(self, text: bytes, /) -> Match | None: ...
    def finditer(self, text: bytes, /) -> Iterator[Match]: ...


def compiled(pattern: str, *, any_case: bool = False) -> Regex:
    """The pattern ready to search UTF-8 octets; PatternError where RE2 does not take it."""
    try:
        regex: Regex = _RE2.compile(pattern.encode(), _ANY_CASE if any_case else _AS_WRITTEN)
    except (_RE2.error, UnicodeEncodeError) as error:
        said = error.args[0]
        raise PatternError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)) from None
    return regex


class Search:
    """All patterns at once: first the literal words that they need, then only those whose words are in the text.

    In shards, for RE2 caps the memory of the automaton that finds the words, and one that needs more is built over and
    over. One RE2 set of all patterns took 380 us a reply for that reason.
    """

    _SHARD = 400  # patterns; the fastest of 64 to 800: 14 us a reply, where 800 in one shard took 28

    def __init__(self, patterns: Sequence[str]) -> None:
        self._shards: list[tuple[int, Any]] = []
        for start in range(0, len(patterns), self._SHARD):
            shard = _RE2.Filter()
            for pattern in patterns[start : start + self._SHARD]:
                shard.Add(pattern, _AS_WRITTEN)
            shard.Compile()
            self._shards.append((start, shard))

    def all_in(self, lower: bytes) -> list[int]:
        """The indices of the patterns found in a text in lower case."""
        return [start + index for start, shard in self._shards for index in shard.Match(lower) or ()]


def lowered(pattern: str) -> str:
    r"""The pattern for text in lower case: all but its escapes (`\S`, `\pL`) made lower.

    RE2's own case folding would do, but it makes each `s` and `k` a class of three characters, and the filter, which
    looks for literal words, then finds none in many a pattern.
    """
    return re.sub(
        r"\\p\{?\w+\}?|\\.|.", lambda item: item[0] if item[0][0] == "\\" else item[0].lower(), pattern, flags=re.S
    )


# An escape, a class, an opening bracket, or any character; `gap` is what matches any text and its quantifier.
_ITEM = re.compile(
    r"(?P<gap>(?:\.|\[\^\]?[^\]]*\]|\\S)(?:[*+?]|\{\d+(?:,\d*)?\})\??)|(?P<open>\((?!\?))|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.",
    re.S,
)


def measuring(pattern: str) -> str:
    """The pattern with exactly its gaps captured, so that what it says itself in a text can be told from them.

    `user (name )?.{0,40}unknown` becomes `user (?:name )?(.{0,40})unknown`: a match less its groups is what the
    pattern says. A gap is a repeated dot, negated class or `\\S`.
    """
    return _rewritten(pattern, "({})")


def uncaptured(pattern: str) -> str:
    """The pattern without groups that capture: RE2 finds where it matches several times faster then."""
    return _rewritten(pattern, "{}")


def _rewritten(pattern: str, gap: str) -> str:
    def rewrite(item: re.Match[str]) -> str:
        if item["gap"] is not None:
            return gap.format(item[0])
        return "(?:" if item["open"] is not None else item[0]

    return _ITEM.sub(rewrite, pattern)
