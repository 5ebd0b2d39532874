"""MIM: the octets of a message, its size, its MIME structure (RFC 5321, 6152, 1870, 2045, 2046).

Lines and octets are judged over the whole message in a few passes of C, the structure over its outline: nothing is
decoded but the beginning of Base64 parts. Sizes are counted as the next hop counts them: the octets as sent, dots
unstuffed, transfer encodings and all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.evidence import at_offset
from smtpguard.lint.facts import ByProvider, Offers
from smtpguard.lint.finding import Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.message import Message
from smtpguard.mail.mime import Fault, FaultKind, Part
from smtpguard.mail.octets import LINE_LIMIT, first_nul
from smtpguard.mail.session import Envelope

_MALFORMED: Final = "message.malformed"


@rule(
    "MIM001",
    "line-too-long",
    Severity.ERROR,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5321 4.5.3.1.6",
    predicts=[
        ("Postfix", "folds the line: DKIM signatures break (smtp_line_length_limit)"),
        ("others", "500, 554 5.6.0"),
    ],
    answer="550 5.6.0",
    when=marks.LINES,
)
def line_too_long(message: Message) -> Hits:
    """No line of a message has more than 998 octets.

    A host on the way may refuse a longer line or break it in two; then the DKIM signature fails at the receiver, and
    words or tags are torn apart. HTML without newlines is the usual cause.

    Fix: have the mail library encode the part as quoted-printable or Base64, which keep every line below 77 octets.
    """
    found = message.long_lines
    if found is not None:
        more = f" (and {found.lines - 1:,} more such lines)" if found.lines > 1 else ""
        words = f"a line has {found.length:,} octets, more than {LINE_LIMIT}{more}"
        yield Hit(words, at_offset(message, found.offset))


@rule(
    "MIM002",
    "bare-newline",
    Severity.ERROR,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5321 2.3.8, RFC 5322 2.3",
    predicts=[("Postfix", "521 5.5.2 (smtpd_forbid_bare_newline)"), ("others", "550 5.5.2")],
    answer="550 5.5.2",
    certain=True,
    when=marks.BARE,
)
def bare_newline(message: Message) -> Hits:
    """Every line of the body ends with CRLF, neither CR nor LF occurs alone, and no octet is NUL.

    Servers differ in what they take for the end of a line, which lets one message be smuggled inside another
    (CVE-2023-51764 to 51766). Careful servers therefore refuse a CR or LF that is not part of a CRLF.

    Fix: have the program end every line with CRLF, and pass text that it did not write itself (attachments, templates)
    through the mail library, which converts or encodes it.
    """
    at = message.body_bare_at
    if at is not None:
        octet = "CR" if message.raw[at : at + 1] == b"\r" else "LF"
        yield Hit(f"the body has a bare {octet}", at_offset(message, at))
    if (nul := first_nul(message.raw, message.body_offset, message.size)) is not None:
        yield Hit("the body has a NUL", at_offset(message, nul), "encode what is not text as Base64")


_8BIT: Final = frozenset({"8bit", "binary"})


@rule(
    "MIM003",
    "8bit-undeclared",
    Severity.ERROR,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 6152 2, RFC 2045 6.2",
    predicts=[("any without 8BITMIME", "554 5.6.3; or it encodes the body anew and the DKIM signature breaks")],
    answer="554 5.6.3",
    when=marks.EIGHT_BIT,
)
def eight_bit_undeclared(message: Message, envelope: Envelope, offers: Offers) -> Hits:
    """Octets above 127 in a body are declared, in MAIL and in MIME, and the next hop takes them.

    A host that does not take 8-bit text must re-encode it, which breaks DKIM signatures, or refuse the message. Where
    nobody has declared it, it may even drop the eighth bit.

    Fix: have the mail library encode the text as quoted-printable or Base64, which pass everywhere. Otherwise declare
    it: `Content-Transfer-Encoding: 8bit` in the part, BODY=8BITMIME in MAIL.
    """
    at = message.body_8bit_at
    if at is None:
        return
    if not envelope.eight_bit:
        yield Hit("the body has octets above 127, and MAIL did not say BODY=8BITMIME", at_offset(message, at))
    elif "8BITMIME" not in offers.keywords:
        yield Hit("the body has octets above 127, and the next hop does not offer 8BITMIME", at_offset(message, at))
    elif (part := _leaf_at(message.root, at)) is not None and part.encoding not in _8BIT:
        said = part.header.first(b"content-transfer-encoding") is not None
        declared = f"declared as {part.encoding[:40]!a}" if said else "without a Content-Transfer-Encoding (so 7bit)"
        words = f"a part {declared} has octets above 127"
        yield Hit(words, at_offset(message, at), severity=Severity.WARNING)


def _leaf_at(part: Part, offset: int) -> Part | None:
    """The innermost part whose body holds the octet; None between parts, and in a message that is quoted."""
    while part.is_multipart:
        below = next((each for each in part.parts if each.start <= offset < each.end), None)
        if below is None:
            return None
        part = below
    return None if part.is_message else part


_SAMPLE: Final = 64 << 10
"""Octets of a Base64 part that are looked at: what makes bad Base64 makes it from the start."""
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PADDING: Final = b"=\r\n\t "
_MOST: Final = 5


@rule(
    "MIM004",
    "mime-structure",
    Severity.WARNING,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 2045, RFC 2046 5.1",
    predicts=[
        ("Yahoo", "554, Incorrect mime types (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
        ("others", "554 5.6.0"),
    ],
    answer="550 5.6.0",
    when=marks.STRUCTURE,
)
def mime_structure(message: Message) -> Hits:
    """The parts of a message can be told apart and decoded.

    A boundary that is missing or not closed, an encoding that a multipart may not have, Base64 with other characters
    in it, an unknown charset: each program repairs this in its own way, so that a filter sees another message than the
    reader. More than 20 levels or 500 parts are refused as attacks.

    Fix: let the mail library build the parts instead of joining strings; where a gateway appends a footer, have it add
    a part or leave the message as it is.
    """
    root = message.root
    if not (root.parts or root.faults) and root.encoding != "base64":  # as most mail is
        return
    faults: dict[FaultKind, list[Fault]] = {}
    for fault in _faults(root, is_quoted=False):
        faults.setdefault(fault.kind, []).append(fault)
    for alike in list(faults.values())[:_MOST]:
        more = f" (and {len(alike) - 1} more like it)" if len(alike) > 1 else ""
        yield Hit(alike[0].text + more, at_offset(message, alike[0].offset))


_BOUNDS: Final = (FaultKind.DEPTH, FaultKind.PARTS)


def _faults(part: Part, *, is_quoted: bool) -> Iterator[Fault]:
    """The faults of a part and those below it; of a message within the message (a bounce cuts it) only the bounds."""
    yield from (fault for fault in part.faults if not is_quoted or fault.kind in _BOUNDS)
    if part.encoding == "base64" and not (is_quoted or part.is_multipart) and (bad := _bad_base64(part)) is not None:
        yield bad
    for below in part.parts:
        yield from _faults(below, is_quoted=is_quoted or part.is_message)


def _bad_base64(part: Part) -> Fault | None:
    """The first octet of a Base64 body that is not Base64 (RFC 2045 6.8), or that comes after the padding."""
    sample = part.raw[part.start : min(part.end, part.start + _SAMPLE)]
    strange = sample.translate(None, _BASE64 + _PADDING)
    if strange:
        at = part.start + sample.find(strange[:1])
        return Fault(FaultKind.BASE64, "a Base64 body has octets that are not Base64", at)
    padding = sample.find(b"=")
    behind = sample[padding:].lstrip(_PADDING) if padding >= 0 else b""
    if behind:
        at = part.start + len(sample) - len(behind)
        return Fault(FaultKind.BASE64, "a Base64 body goes on after its padding", at)
    return None


@rule(
    "MIM005",
    "too-large",
    Severity.ERROR,
    Stage.DATA,
    category="message.too_large",
    reference="RFC 1870 6",
    predicts=[("the next hop", "552 5.3.4")],
    answer="552 5.3.4",
    certain=True,
    when=marks.LARGE,
)
def too_large(message: Message, offers: Offers) -> Hits:
    """A message is no larger than the next hop says it takes (SIZE).

    Attachments grow by a third when they are encoded: a file of 20 MB makes a message of 27 MB. What exceeds the limit
    of the next hop is refused, whoever the recipient is.

    Fix: send a link to the file, or raise the limit of the next hop where it is yours (Postfix: message_size_limit).
    """
    if offers.size and message.size > offers.size:  # RFC 1870 4: 0 is no limit
        yield Hit(f"the message has {message.size:,} octets, the next hop takes {offers.size:,}")


_MB: Final = 1 << 20
LARGEST: Final[Mapping[str, int]] = {"google": 50, "microsoft": 36, "yahoo": 25, "apple": 20}
"""What a provider's users may receive, in MB, transfer encoding included, as its help pages say (2026-06); by provider
as in classify/providers.toml. Microsoft: the default of Microsoft 365."""
LARGEST_AT: Final[Mapping[str, int]] = dict.fromkeys(("outlook.com", "hotmail.com", "live.com", "msn.com"), 25)
"""The same for domains that differ from their provider."""


@rule(
    "MIM006",
    "large-for-provider",
    Severity.WARNING,
    Stage.DATA,
    category="message.too_large",
    reference="RFC 1870 6",
    predicts=[("Google, Yahoo, Apple", "552 5.3.4"), ("Microsoft", "552 5.3.4, 550 5.2.3")],
    when=marks.LARGE,
)
def large_for_provider(message: Message, by_provider: ByProvider, envelope: Envelope) -> Hits:
    """A message is no larger than its recipients' providers take.

    Each provider has a limit of its own, counted on the encoded message, and most are below what other hosts on the way
    let pass: the refusal comes late, as a bounce.

    Fix: send a link to the file instead of the file.
    """
    if message.size <= _SMALLEST * _MB:
        return
    limits = {name: LARGEST[name] for name in by_provider.recipients if name in LARGEST}
    limits |= {rcpt.domain: LARGEST_AT[rcpt.domain] for rcpt in envelope.rcpts if rcpt.domain in LARGEST_AT}
    for name, limit in limits.items():
        if message.size > limit * _MB:
            yield Hit(f"the message has {message.size / _MB:.1f} MB, {name} takes {limit} MB")


_SMALLEST: Final = min(LARGEST.values())
