"""Octets of a next hop in, reply lines out: strict, incremental, bounded (RFC 5321 4.2).

    reply = *( code "-" [text] CRLF ) code [ SP [text] ] CRLF

A reply ends at the first line without a hyphen after its code. LF alone ends a line too: some servers send it, and no
harm comes of it in this direction. Anything else raises `ReplyError`: a server that we misunderstand once is not
listened to again. All replies are read here: `gate.py` feeds it before aiosmtplib may look, `pipeline.py` in a
transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from smtpguard.mail.reply import Reply, ReplyError, Verb

MAX_LINE_OCTETS: Final = (
    8_192  # RFC 5321 4.5.3.1.5 allows 512; many go beyond it, and a true 5xx must not be lost for it
)
MAX_LINES: Final = 100
MAX_OCTETS: Final = 65_536

# RFC 5321 4.2: Reply-code = %x32-35 %x30-35 %x30-39. The second digit is not held to 0-5 (571 and the like are in use).
_LINE: Final = re.compile(rb"[2-5][0-9][0-9](?:[ -]|\Z)")


class ReplyReader:
    """Splits what one connection sends into replies. Useless after it has raised."""

    __slots__ = ("_lines", "_octets", "_rest", "is_between")

    def __init__(self) -> None:
        self._rest = b""  # a line not yet ended
        self._lines: list[bytes] = []  # of a reply not yet ended
        self._octets = 0
        self.is_between = True
        """Whether no reply is half read."""

    def feed(self, octets: bytes) -> Iterator[list[bytes]]:
        """The replies that `octets` complete, each as its lines without CRLF, in order; ReplyError at what is none.

        Lazy: a reply comes out before what follows it is looked at.
        """
        if self.is_between and octets.find(b"\n") == len(octets) - 1:  # one line, as nearly always
            line = octets[:-1].removesuffix(b"\r")
            if line[3:4] != b"-" and len(line) <= MAX_LINE_OCTETS and _LINE.match(line):
                return iter(([line],))
        return self._split(octets)

    def _split(self, octets: bytes) -> Iterator[list[bytes]]:
        self.is_between = False
        if self._rest:
            octets = self._rest + octets
        start = 0
        while (end := octets.find(b"\n", start)) >= 0:
            line = octets[start:end].removesuffix(b"\r")
            start = end + 1
            lines = self._lines
            lines.append(line)
            self._octets += len(line)
            if len(line) > MAX_LINE_OCTETS or len(lines) > MAX_LINES or self._octets > MAX_OCTETS:
                raise ReplyError("a reply without measure")
            if not _LINE.match(line) or lines[0][:3] != line[:3]:
                raise ReplyError(f"{line[:40]!r} is no line of this reply")
            if line[3:4] != b"-":
                self._lines = []
                self._octets = 0
                yield lines
        self._rest = octets[start:] if start else octets
        if len(self._rest) > MAX_LINE_OCTETS + 1:
            raise ReplyError("a reply line without an end")
        self.is_between = not self._rest and not self._lines


MAX_FAMILIAR: Final = 256  # lines of one verb
_SHORT: Final = 128  # octets; what is longer is seldom said twice

FAMILIAR: Final[Mapping[Verb, dict[bytes, Reply]]] = {verb: {} for verb in (Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.DOT)}
"""By verb: lines (with CRLF) that were a yes to it, and what they said. Servers say the same few again and again."""


def learn(line: bytes, reply: Reply) -> None:
    """Remember a line that was a yes: a reply of class 2, or 354 to DATA."""
    known = FAMILIAR[reply.verb]
    if len(line) <= _SHORT:
        if len(known) >= MAX_FAMILIAR:
            known.clear()
        known[line + b"\r\n"] = reply
