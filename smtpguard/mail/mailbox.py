"""Address lists of header fields: `From`, `To`, `Reply-To` and their like (RFC 5322 3.4, 4.4; RFC 6532, RFC 6854).

What is written wrong is an entry without an address, with its place: which rule minds is the lint's business. Obsolete
forms are understood (blanks around dots, routes, a comment for a name), groups are opened, dots in a row are let pass.
Nothing raises, and the time is linear whatever the octets are. Envelope paths are `mail/address.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from smtpguard.mail.header import decoded


class Mailbox(NamedTuple):
    """One entry of a list: `"Ann Lee" <ann@example.org>`."""

    name: str
    """The display name, decoded (RFC 2047); "" where there is none."""
    local: str
    domain: str
    """In lower case; "" where the entry is no address."""
    text: bytes
    """The entry as it stands."""
    offset: int
    """Of its first octet in the field's value."""

    @property
    def address(self) -> str:
        """`local@domain`; "" where the entry is no address."""
        return f"{self.local}@{self.domain}" if self.domain else ""


# RFC 5322 3.2.3, 3.4.1 and RFC 6532 3.2: dot-atoms, of any octet above 127
_ATOM: Final = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]+"
_QUOTED: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_DOMAIN: Final = rb"[A-Za-z0-9_\x80-\xff-]+(?:\.[A-Za-z0-9_\x80-\xff-]+)*\.?|\[[!-Z^-~]+\]"
_ADDRESS = re.compile(b"(" + _ATOM + b"|" + _QUOTED + b")@(" + _DOMAIN + b")", re.DOTALL)
_ANGLE = re.compile(b"<" + _ADDRESS.pattern + b">", re.DOTALL)
_PHRASE = re.compile(rb"[\w !#$&'*+/=?^`{|}~.\x80-\xff-]*|" + _QUOTED, re.DOTALL)

_LEXEME = re.compile(
    rb"""(?P<blank>[ \t\r\n]+)
       | (?P<quoted>"[^"\\]*(?:\\.[^"\\]*)*")
       | (?P<literal>\[[^\[\]\\]*\])
       | (?P<special>[<>,;:()"\[\]\\@])
       | (?P<word>[^ \t\r\n<>,;:()"\[\]\\@]+)""",
    re.VERBOSE | re.DOTALL,
)
_AROUND = re.compile(rb" ?([.@]) ?")
_PAIR = re.compile(r"\\(.)", re.DOTALL)


VALUE_LIMIT: Final = 64 << 10
"""Octets of a field that are read; Gmail takes 32 KB of `From`."""


def mailboxes(value: bytes) -> tuple[Mailbox, ...]:
    """The entries of an address list as it stands behind the colon, from left to right."""
    return _remembered(value) if len(value) <= _SHORT else _mailboxes(value[:VALUE_LIMIT])


def _mailboxes(value: bytes) -> tuple[Mailbox, ...]:
    text = value.strip()
    angle = text.find(b"<")
    phrase = text[:angle].rstrip() if angle >= 0 else b""
    found = _ANGLE.fullmatch(text, angle) if angle >= 0 else _ADDRESS.fullmatch(text)
    if found is None or _PHRASE.fullmatch(phrase) is None:  # not the plain form that nearly all fields have
        return tuple(_Entries(value).entries())
    offset = len(value) - len(value.lstrip())
    return (Mailbox(_name(phrase), _text(found[1]), _text(found[2]).lower(), text, offset),)


_SHORT: Final = 200
_remembered = lru_cache(maxsize=1024)(_mailboxes)
"""Programs, and people, write themselves into From the same way each time."""


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _name(phrase: bytes) -> str:
    """A display name without its quotes (RFC 5322 3.2.4, 3.2.5), decoded."""
    if not phrase:
        return ""
    text = decoded(phrase)
    if phrase[:1] == b'"' and phrase[-1:] == b'"' and len(text) > 1:
        text = _PAIR.sub(r"\1", text[1:-1])
    return text


class _Entries:
    """One list on its way through the lexemes."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._begin(0)

    def _begin(self, offset: int) -> None:
        self._start = offset
        self._phrase: list[bytes] = []
        self._comment = b""
        self._angle: list[bytes] | None = None
        self._is_closed = False
        self._is_broken = False

    def entries(self) -> Iterator[Mailbox]:
        value = self._value
        at = 0
        while (found := _LEXEME.match(value, at)) is not None:
            at = found.end()
            lexeme = found[0]
            if found.lastgroup == "blank":
                self._take(b" ")
            elif found.lastgroup != "special":
                self._take(lexeme)
            elif lexeme == b"(":
                at, self._comment = _comment(value, found.start())
            elif lexeme == b'"':  # one that is never closed: what follows cannot be told apart
                self._is_broken = True
                at = len(value)
            elif lexeme in (b",", b";"):
                if self._angle is not None and not self._is_closed and lexeme == b"," and self._is_route():
                    self._take(lexeme)  # RFC 5322 4.4: <@one.example,@two.example:user@example.org>
                    continue
                yield from self._entry(found.start())
                self._begin(at)
            elif lexeme == b":":
                if self._angle is None:  # the name of a group
                    self._begin(at)
                else:
                    self._is_broken |= not self._is_route()  # <mailto:user@example.org>
                    self._angle = []
            elif lexeme == b"<":
                self._is_broken |= self._angle is not None
                self._angle = []
            elif lexeme == b">":
                self._is_broken |= self._angle is None or self._is_closed
                self._is_closed = True
            else:
                self._take(lexeme)
        yield from self._entry(len(value))

    def _take(self, lexeme: bytes) -> None:
        into = self._phrase if self._angle is None else self._angle
        if self._is_closed:
            self._is_broken |= lexeme != b" "  # words behind the closing bracket
        elif lexeme != b" " or into[-1:] != [b" "]:
            into.append(lexeme)

    def _is_route(self) -> bool:
        return b"".join(self._angle or ()).lstrip().startswith(b"@")

    def _entry(self, end: int) -> Iterator[Mailbox]:
        text = self._value[self._start : end]
        offset = self._start + len(text) - len(text.lstrip())
        text = text.strip()
        if not text or (text[:1] == b"(" and not self._phrase and self._angle is None and not self._is_broken):
            return  # RFC 5322 4.4: empty entries, and comments alone
        phrase = b"".join(self._phrase).strip()
        spec = phrase if self._angle is None else b"".join(self._angle).strip()
        is_open = self._angle is not None and not self._is_closed
        found = None if self._is_broken or is_open else _ADDRESS.fullmatch(_AROUND.sub(rb"\1", spec))
        name = _name(self._comment if self._angle is None else phrase or self._comment)
        if found is None:
            yield Mailbox(name or _text(phrase), "", "", text, offset)
        else:
            yield Mailbox(name, _text(found[1]), _text(found[2]).lower(), text, offset)


_PARENTHESIS = re.compile(rb"\\.|[()]", re.DOTALL)


def _comment(value: bytes, at: int) -> tuple[int, bytes]:
    """The end of the comment that begins at `at`, and what it says; one that is never closed ends the list."""
    depth = 0
    for found in _PARENTHESIS.finditer(value, at):
        if found[0] == b"(":
            depth += 1
        elif found[0] == b")":
            depth -= 1
            if not depth:
                return found.end(), value[at + 1 : found.start()].strip()
    return len(value), value[at + 1 :].strip()
