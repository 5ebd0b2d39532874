"""Tokens: the words that a run of signs without spaces is, in plain form; and a memory of what they are taken for.

An address, a page, a host name, a number of the network is one word of its kind, whatever it is made of; what is joined
by other signs is several words, and ideographs are words each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from smtpguard.classify.readings import IDEOGRAPHS, apart

_IP = re.compile(r"((\d{1,3}\.){3}\d{1,3}|[0-9a-f]{1,4}:[0-9a-f]*:[0-9a-f:.]*)(/\d+)?(:\d+)?")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]{1,5}")
_PARTED = re.compile(r"[<>()\[\],;:]|\.\.")
EDGES: Final = ".,:;!?()[]<>{}\"'*-"
MAX_TOKENS: Final = 16384
_WORD = re.compile(r"[^\W_]+")
_ADDRESS = re.compile(r"[^<>()\[\]:,;\"]*@[^<>()\[\]:,;.\"]*(\.[^<>()\[\]:,;.\"]+)*")


def words_of(token: str) -> list[str]:
    """The words of one written token in plain form; an address, a page, a number of the network is one word."""
    core = token.strip(EDGES)
    if not core:
        return []
    if "@" in core:
        if not _PARTED.search(core):
            return ["@"]
        before, _, behind = _ADDRESS.sub(" @ ", token, count=1).partition(" @ ")
        return [
            *(words_of(before) if before else ()),
            "@",
            *(words_of(behind) if behind and "@" not in behind else ()),
        ]
    if "://" in core or core.startswith("www.") or ("/" in core and _HOST.fullmatch(core.partition("/")[0])):
        return ["#url"]
    if "." in core or ":" in core:
        if core[-1].isalpha() and _HOST.fullmatch(core):
            return ["#host"]
        if (dots := core.count(".")) and (digits := core.replace(".", "")).isdigit() and digits.isascii():
            return ["#ip"] if dots == 3 else [] if dots == 2 else _WORD.findall(core)
        if _IP.fullmatch(core):
            return ["#ip"]
    words = _WORD.findall(token.replace("'", "").replace("\u2019", ""))
    if token.isascii():
        return words
    return [part for word in words for part in (apart(word) if max(word) >= IDEOGRAPHS else (word,))]


Taken = TypeVar("Taken")


class Memory(dict[str, Taken]):
    """What each token is taken for: some are known from the start, others are remembered, `MAX_TOKENS` in all."""

    def __init__(self, read: Callable[[str], Taken], known: Mapping[str, Taken]) -> None:
        super().__init__(known)
        self._known = known
        self._read = read

    def __missing__(self, token: str) -> Taken:
        if len(self) >= MAX_TOKENS:
            self.clear()
            self.update(self._known)
        self[token] = taken = self._read(token)
        return taken
