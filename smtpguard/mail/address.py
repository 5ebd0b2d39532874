r"""Paths and ESMTP parameters of MAIL and RCPT: framed strictly, kept octet for octet.

RFC 5321 4.1.2 (Path, Mail-parameters), RFC 3461 (RET, ENVID, NOTIFY, ORCPT), RFC 6531 (SMTPUTF8). This file only
asks whether a path can be *framed*: that every server sees it end at the same place. Whether the local part is
well-formed is the lint's business, whether it exists the receiver's. Nothing is ever written anew.
"""

from __future__ import annotations

import re
from typing import Final

from smtpguard.mail.reply import EnhancedCode, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient

# The common form: no quote, backslash, blank, bracket or non-ASCII octet between the brackets.
_COMMON = re.compile(rb"(?:FROM|TO):<([!#-;=?-\[\]-~]*)>(?: +(.*))?", re.IGNORECASE | re.DOTALL)
_PLAIN_MAIL = re.compile(rb"FROM:<([!#-;=?-\[\]-~]*)>", re.IGNORECASE)  # ... and no parameter
_PLAIN_RCPT = re.compile(rb"TO:<([!#-;=?-\[\]-~]+)>", re.IGNORECASE)
# RFC 5321 4.1.2: Path = "<" [ A-d-l ":" ] Mailbox ">"; Quoted-string may hold blanks, brackets and quoted pairs.
# Outside of quotes a backslash (RFC 821) may not stand before a character that could end the path.
# RFC 5321 wants no blank after the colon; many clients send one, and it frames nothing.
_PATH = re.compile(
    rb"""(?:FROM|TO):\ *<(
        (?: "(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"
          | \\[^<>"\x00-\x20\x7f]
          | [^<>"\\\x00-\x20\x7f] )*
    )>(?:\ +(.*))?""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# RFC 5321 4.1.2: esmtp-param = esmtp-keyword ["=" esmtp-value]. "=" within a value is let through (ENVID of careless
# clients), and so are octets above 127 (RFC 6533 ORCPT=utf-8;...).
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x7e\x80-\xff]+))?")

MAX_SIZE_DIGITS: Final = 20  # RFC 1870 3


class SyntaxRefused(ValueError):
    """A MAIL or RCPT that cannot be taken; `reply` is what the client gets, `category` what it is about."""

    def __init__(self, code: int, enhanced: tuple[int, int, int], text: str, verb: Verb) -> None:
        super().__init__(text)
        self.reply = Reply(code, (text,), EnhancedCode(*enhanced), verb)
        self.category = _CATEGORIES.get(enhanced, "protocol.error")


_CATEGORIES: Final = {(5, 1, 3): "recipient.syntax", (5, 1, 7): "sender.invalid"}


def parse_mail(argument: bytes, *, offered: frozenset[str] | None = None) -> Envelope:
    """The envelope that `MAIL` with this argument opens (the part after `MAIL `); SyntaxRefused if it opens none.

    `offered`: the keywords of our EHLO (None: all), for parameters that depend on one.
    """
    if plain := _PLAIN_MAIL.fullmatch(argument):
        return Envelope(plain[1])
    path, parameters = _frame(argument, Verb.MAIL)
    envelope = Envelope(path)
    passed: list[bytes] = []
    for name, value, raw in parameters:
        match name:
            case b"SIZE":
                if value is None or not value.isdigit() or len(value) > MAX_SIZE_DIGITS:
                    raise SyntaxRefused(501, (5, 5, 4), "SIZE= wants a number of octets", Verb.MAIL)
                envelope.size = int(value)
            case b"BODY":
                if value is None or value.upper() not in (b"7BIT", b"8BITMIME"):
                    raise SyntaxRefused(501, (5, 5, 4), "BODY= is 7BIT or 8BITMIME", Verb.MAIL)
                envelope.eight_bit = value.upper() == b"8BITMIME"
                if envelope.eight_bit:
                    passed.append(raw)  # BODY=7BIT says nothing that a next hop without 8BITMIME could read
            case b"SMTPUTF8":
                if value is not None:
                    raise SyntaxRefused(501, (5, 5, 4), "SMTPUTF8 takes no value", Verb.MAIL)
                envelope.smtputf8 = True
                passed.append(raw)
            case b"RET" | b"ENVID" if offered is None or "DSN" in offered:
                envelope.dsn = True
                passed.append(raw)
            case b"AUTH" if offered is not None and "AUTH" in offered:
                pass  # RFC 4954 5: the submitter's name, of no use to the next hop's own login
            case _:
                raise _unsupported(name, Verb.MAIL)
    if not path.isascii():
        _check_utf8(path, Verb.MAIL, smtputf8=envelope.smtputf8)
    envelope.params = tuple(passed)
    return envelope


def parse_rcpt(argument: bytes, *, smtputf8: bool = False, offered: frozenset[str] | None = None) -> Recipient:
    """The recipient of a `RCPT` with this argument (the part after `RCPT `); SyntaxRefused if there is none."""
    if plain := _PLAIN_RCPT.fullmatch(argument):
        return Recipient(plain[1])
    path, parameters = _frame(argument, Verb.RCPT)
    if not path:
        raise SyntaxRefused(501, (5, 1, 3), "the null path <> is no recipient", Verb.RCPT)
    for name, _value, _raw in parameters:
        if name not in (b"NOTIFY", b"ORCPT") or (offered is not None and "DSN" not in offered):
            raise _unsupported(name, Verb.RCPT)
    if not path.isascii():
        _check_utf8(path, Verb.RCPT, smtputf8=smtputf8)
    return Recipient(path, tuple([raw for _name, _value, raw in parameters]) if parameters else ())


def _frame(argument: bytes, verb: Verb) -> tuple[bytes, list[tuple[bytes, bytes | None, bytes]]]:
    """Path and parameters as (upper-case name, value, as given)."""
    found = _COMMON.fullmatch(argument) or _PATH.fullmatch(argument)
    wanted = b"FROM:" if verb is Verb.MAIL else b"TO:"
    if found is None or argument[: len(wanted)].upper() != wanted:
        detail = (5, 1, 7) if verb is Verb.MAIL else (5, 1, 3)
        raise SyntaxRefused(501, detail, f"syntax: {verb} {wanted.decode()}<address>, no other form", verb)
    path, rest = found.groups()
    if not rest:
        return path, []
    parameters: list[tuple[bytes, bytes | None, bytes]] = []
    for raw in rest.split():
        parameter = _PARAMETER.fullmatch(raw)
        if parameter is None:
            raise SyntaxRefused(501, (5, 5, 4), "a parameter is no KEYWORD or KEYWORD=value", verb)
        name = parameter[1].upper()
        if any(name == known for known, _, _ in parameters):
            raise SyntaxRefused(501, (5, 5, 4), f"parameter {name.decode()} given twice", verb)
        parameters.append((name, parameter[2], raw))
    return path, parameters


def _unsupported(name: bytes, verb: Verb) -> SyntaxRefused:
    return SyntaxRefused(555, (5, 5, 4), f"parameter {name.decode()} is not offered here", verb)


def _check_utf8(path: bytes, verb: Verb, *, smtputf8: bool) -> None:
    if not smtputf8:  # RFC 6531 3.5
        raise SyntaxRefused(553, (5, 6, 7), "a non-ASCII address needs SMTPUTF8", verb)
    try:
        path.decode()
    except UnicodeDecodeError:
        detail = (5, 1, 7) if verb is Verb.MAIL else (5, 1, 3)
        raise SyntaxRefused(501, detail, "the address is not UTF-8", verb) from None


# RFC 3461 4: xtext = *( xchar / hexchar ); hexchar = "+" 2(%x30-39 / %x41-46)
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
XFORWARD_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")


def parse_xforward(argument: bytes) -> dict[str, str]:
    """Attributes of one XFORWARD command (Postfix XFORWARD_README), decoded; ValueError says what is wrong.

    A value of [UNAVAILABLE] or [TEMPUNAVAIL] means that the MTA does not know it: the attribute is left out.
    """
    attributes: dict[str, str] = {}
    for pair in argument.split():
        name, equals, value = pair.partition(b"=")
        key = name.upper().decode("ascii", "replace")
        if not equals or key not in XFORWARD_NAMES:
            raise ValueError("attributes are " + " ".join(XFORWARD_NAMES))
        text = _HEXCHAR.sub(lambda m: bytes([int(m[1], 16)]), value).decode("utf-8", "replace")
        if text.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]", ""):
            continue
        if len(text) > 255 or not text.isprintable():
            raise ValueError(f"the value of {key} is too long or not printable")
        attributes[key] = text
    if not argument.split():
        raise ValueError("syntax: XFORWARD NAME=value ...")
    return attributes
