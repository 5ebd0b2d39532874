"""The one place that knows google-re2: patterns compiled, and rewritten for what we ask of them.

RE2 takes time linear in the text, whatever the pattern; it has no look-around and no back-references. Rules' patterns
are made lower case and meet text in lower case. Octets in, octets out: offsets need no translation then.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import re2

_RE2: Final[Any] = re2  # ships no types; what is used of it is typed here

_ANYWHERE: Final = _RE2._re2.RE2.Anchor.UNANCHORED
_AS_WRITTEN: Final = _RE2.Options()
_AS_WRITTEN.log_errors = False  # a bad pattern is a PatternError, not a line on standard error


class PatternError(ValueError):
    """RE2 does not take this pattern; the text is what it said."""


class Match(Protocol):
    """Where a pattern matched, as of `re`."""

    def groups(self) -> tuple[bytes | None, ...]: ...
    def span(self) -> tuple[int, int]: ...


class Regex(Protocol):
    """A compiled pattern over octets."""

    def search(self, text: bytes, /) -> Match | None: ...


Find = Callable[[bytes], tuple[int, int]]
"""Where a pattern is found first, (start, end) in octets; (-1, -1) where it is not."""


def compiled(pattern: str) -> Regex:
    """The pattern ready to search UTF-8 octets; PatternError where RE2 does not take it."""
    try:
        regex: Regex = _RE2.compile(pattern.encode(), _AS_WRITTEN)
    except (_RE2.error, UnicodeEncodeError) as error:
        said = error.args[0]
        raise PatternError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(error)) from None
    return regex


def finder(pattern: str) -> Find:
    """The pattern as a function that only says where it is; PatternError as of `compiled`.

    It asks RE2 without the layer that makes `Match` objects, which costs more than the search itself.
    """
    match = compiled(uncaptured(pattern))._regexp.Match  # type: ignore[attr-defined]

    def find(text: bytes) -> tuple[int, int]:
        span: tuple[int, int] = match(_ANYWHERE, text, 0, len(text))[0]
        return span

    return find


def any_of(words: Iterable[str]) -> str:
    """A pattern of `re` for any of some plain words, or for the shortest of those that begin alike.

    It is a tree of their characters: `re` would try one word after another.
    """
    after: dict[str, list[str]] = {}
    for word in words:
        after.setdefault(word[:1], []).append(word[1:])
    if "" in after:
        return ""
    return "(?:" + "|".join(re.escape(first) + any_of(rest) for first, rest in sorted(after.items())) + ")"


def lowered(pattern: str) -> str:
    r"""The pattern for text that went through `plain`: all but its escapes (`\S`, `\pL`) made so."""
    return re.sub(
        r"\\[pP]\{?\w+\}?|\\.|[^\\]+",
        lambda item: item[0] if item[0][0] == "\\" else plain(item[0]),
        pattern,
        flags=re.S,
    )


def plain(text: str) -> str:
    """Lower case, one spelling, no marks on letters: "Can't" is "can not", "Boîte" is "boite".

    Patterns and texts meet in this form.
    """
    lower = text.lower()
    for written, read in _SPELLINGS:
        if written in lower:
            lower = lower.replace(written, read)
    if lower.isascii():
        return lower
    parts = unicodedata.normalize("NFKD", lower.translate(_UNDECOMPOSED))
    marks = [ord(part) for part in set(parts) if unicodedata.combining(part)]
    return parts.translate(dict.fromkeys(marks)) if marks else parts


# in this order
_SPELLINGS: Final = (
    ("\u2019", "'"),
    ("n't", " not"),
    ("cannot", "can not"),
    ("ca not", "can not"),
    ("e-mail", "email"),
)
# letters with a mark that Unicode does not take apart
_UNDECOMPOSED: Final = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "\u0131": "i", "æ": "ae", "œ": "oe"})

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
