"""SMTP replies: what a next hop said, what it failed to say, and what we say.

Grammar: RFC 5321 4.2 (reply lines), RFC 2034 and RFC 3463 (enhanced status codes). A refusal is a value:
a `Reply` with the verb it answered. What has no usable reply is a `HopFailure`. Nothing here raises on
what a server sent but `ReplyError`, and only the parser does that. No reply leaves the program but
through `Reply.wire`, which keeps every line printable and short whatever its text was made of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple


class Verb(StrEnum):
    """The command a reply answered; DOT is the end of data (of DATA, or of BDAT LAST)."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    DOT = "DOT"

    __hash__ = str.__hash__  # Enum's own is a call of Python, and verbs are looked up all the time


class EnhancedCode(NamedTuple):
    """`class.subject.detail` of RFC 3463; class is 2, 4 or 5, the others 0 to 999."""

    klass: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"


# RFC 2034 4: status-code ::= class "." subject "." detail, then a space. A server that puts "#5.1.1" or
# "5.1.1:" there is understood too: the numbers are what counts.
_ENHANCED = re.compile(r"[#(\[]?([245])\.(\d{1,3})\.(\d{1,3})[)\]:;,]?(?:\s+|$)")

MAX_LINE_OCTETS: Final = 510  # RFC 5321 4.5.3.1.5: 512 with CRLF
MAX_LINES: Final = 6  # contract 1.5
MAX_OCTETS: Final = 1200  # contract 1.5; Postfix keeps 2,048 characters of a reply


def parse_enhanced(text: str) -> tuple[EnhancedCode | None, str]:
    """Split an enhanced code from the front of a reply's text: (code or None, the rest)."""
    found = _ENHANCED.match(text)
    if found is None:
        return None, text
    klass, subject, detail = found.groups()
    return EnhancedCode(int(klass), int(subject), int(detail)), text[found.end() :]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: `code` 200-599, the enhanced code if one was given, and the text lines without either.

    `lines` holds text as it came, decoded; it may hold anything until `wire` cleans it.
    """

    code: int
    lines: tuple[str, ...] = ("",)
    enhanced: EnhancedCode | None = None
    verb: Verb = Verb.MAIL
    _octets: bytes = field(default=b"", init=False, repr=False, compare=False)  # of `wire`, once it was asked for

    @property
    def klass(self) -> int:
        """The first digit of the code: 2, 3, 4 or 5."""
        return self.code // 100

    @property
    def text(self) -> str:
        """All lines as one, for matching and for the log."""
        return self.lines[0] if len(self.lines) == 1 else " ".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"

    def wire(self, *, utf8: bool = False) -> bytes:
        """The reply as sent: one code and one enhanced code on all lines, each printable and at most 512 octets.

        `utf8` lets printable non-ASCII text through (RFC 6531 3.7.4.2); else it becomes `?`.
        """
        if utf8:
            return _wire(self.code, self.enhanced, self.lines, utf8=True)
        if not self._octets:
            object.__setattr__(self, "_octets", _wire(self.code, self.enhanced, self.lines, utf8=False))
        return self._octets

    @classmethod
    def of(cls, text: str, verb: Verb = Verb.MAIL) -> Reply:
        r"""A reply from one written line or several, as in `Reply.of("550 5.1.1 no such user")`.

        Lines may be separated by CRLF or LF and may repeat the code, as a server sends them or a log shows them.
        Text with no code at its front is an error of class ReplyError.
        """
        lines = text.strip("\r\n").splitlines() or [""]
        return cls.parse([line.encode() for line in lines], verb)

    @classmethod
    def parse(cls, raw: list[bytes], verb: Verb = Verb.MAIL) -> Reply:
        """A reply from its lines without CRLF; ReplyError where codes differ or are not 200-599."""
        if len(raw) == 1:
            return _parse_line(raw[0], verb)
        code = raw[0][:3]
        texts: list[str] = []
        enhanced: EnhancedCode | None = None
        for index, line in enumerate(raw):
            if not _LINE.match(line) or line[:3] != code:
                raise ReplyError(f"reply line {index + 1} is not one of {code!r}")
            given, text = parse_enhanced(_decode(line[4:]))
            if given is not None and given.klass != code[0] - 0x30:
                given, text = None, _decode(line[4:])
            enhanced = enhanced or given
            texts.append(text)
        return cls(int(code), tuple(texts), enhanced, verb)


class ReplyError(ValueError):
    """A server sent what no reply can look like; the text says what, never more than a line of it."""


# RFC 5321 4.2: Reply-code = %x32-35 %x30-35 %x30-39; textstring. The second digit is not held to 0-5:
# receivers use others (for example 571, 577).
_LINE = re.compile(rb"[2-5][0-9][0-9](?:[ -]|$)")


@lru_cache(maxsize=1024)
def _parse_line(line: bytes, verb: Verb) -> Reply:
    if not _LINE.match(line):
        raise ReplyError(f"{line[:40]!r} is not a reply")
    text = _decode(line[4:])
    enhanced, rest = parse_enhanced(text)
    if enhanced is not None and enhanced.klass != line[0] - 0x30:
        enhanced, rest = None, text  # RFC 2034 4: the class must be the code's first digit
    return Reply(int(line[:3]), (rest,), enhanced, verb)


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _wire(code: int, enhanced: EnhancedCode | None, lines: tuple[str, ...], *, utf8: bool) -> bytes:
    lead = f"{code}-{enhanced} " if enhanced else f"{code}-"
    room = MAX_LINE_OCTETS - len(lead)
    out = [lead.encode() + piece for line in lines for piece in fold(clean(line, utf8=utf8), room)]
    out[-1] = out[-1][:3] + b" " + out[-1][4:]
    return b"\r\n".join(out) + b"\r\n"


def clean(text: str, *, utf8: bool = False) -> str:
    """Foreign text made harmless: control characters, terminal escapes and line separators become spaces.

    Without `utf8`, other non-ASCII characters become `?`. The one function for text from outside, for replies,
    log lines and terminals.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = "".join(c if c.isprintable() else " " for c in text)
    return kept if utf8 else kept.encode("ascii", "replace").decode()


def fold(text: str, room: int) -> list[bytes]:
    """`text` in pieces of at most `room` octets, broken at a space where one is near; never inside a character."""
    data = text.encode("utf-8", "replace")
    pieces: list[bytes] = []
    while len(data) > room:
        cut = data.rfind(b" ", room // 2, room + 1)
        if cut < 0:
            cut = room
            while data[cut] & 0xC0 == 0x80:  # a UTF-8 continuation octet
                cut -= 1
            pieces.append(data[:cut])
            data = data[cut:]
        else:
            pieces.append(data[:cut])
            data = data[cut + 1 :]
    pieces.append(data)
    return pieces


class FailureKind(StrEnum):
    """Why there is no usable reply."""

    CONNECT = "connect"  # no connection: refused, unreachable, name not found, breaker open
    TLS = "tls"  # required TLS was not to be had
    TIMEOUT = "timeout"  # no answer in time
    PROTOCOL = "protocol"  # an answer that is no reply, or one that cannot be the answer
    LOOP = "loop"  # it greets with our own name
    CAPABILITY = "capability"  # it lacks what the message needs; `keyword` says what
    DISCONNECT = "disconnect"  # the connection ended
    SATURATED = "saturated"  # all its connections are busy
    STOPPING = "stopping"  # we are going down
    INTERNAL = "internal"  # a fault of ours


@dataclass(frozen=True, slots=True)
class HopFailure:
    """No usable reply: what went wrong, at which verb.

    `detail` is for the log, never for the client. `unknown` is true where the final octet of the message was sent and
    no reply came: the hop may have the mail (RFC 1047).
    """

    kind: FailureKind
    verb: Verb
    detail: str = ""
    keyword: str = ""
    unknown: bool = False


Answer = Reply | HopFailure


class Hop(NamedTuple):
    """Who answered: the configured next hop's name, and the host it was."""

    next_hop: str
    host: str
    port: int
    tls_version: str = ""

    def __str__(self) -> str:
        return self.host
