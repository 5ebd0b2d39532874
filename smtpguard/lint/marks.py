"""Marks: what of an envelope, a recipient or a message is out of the ordinary, told in one look at each.

Most mail is in order, and most rules have nothing to say of it: asking them all would cost more than everything else.
A rule that names marks (`@rule(..., when=marks.DATE)`) is asked only where one of them is there. A mark may stand
where the rule finds nothing after all; it is never absent where the rule would find something (the tests hold each
rule to that). Marks decide nothing else, and no finding speaks of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from smtpguard.lint import leftovers
from smtpguard.lint.facts import (
    Dkim,
    Dmarc,
    DnsFaults,
    LinkListings,
    Missing,
    Now,
    Offers,
    SenderListings,
)
from smtpguard.lint.names import LOCAL_PART, MAX_LOCAL, MAX_PATH, MEANT, domain_fault, why_local
from smtpguard.mail.header import date, decoded
from smtpguard.mail.message import Message
from smtpguard.mail.octets import first_nul
from smtpguard.mail.reply import clean
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dkim import DkimStatus, Verdict
from smtpguard.mailauth.dkim_field import KEPT_OCTETS

ALL: Final = -1
"""Every mark: so every rule is asked."""

# --- of an envelope, of a recipient ----------------------------------------------------------------------------------

PATH: Final = 1 << 0
"""A path that is against the grammar or a limit."""
LOCAL: Final = 1 << 1
"""A sender whose domain means nothing outside."""
NULL: Final = 1 << 2
"""The null sender."""
FOREIGN: Final = 1 << 3
"""A recipient beyond ASCII."""
TYPO: Final = 1 << 4
"""A recipient at a domain that hardly anybody means."""


def of_sender(envelope: Envelope) -> int:
    """Those that rules of MAIL name."""
    return _of_path(envelope.mail_from) if envelope.mail_from else NULL


def of_recipient(rcpt: Recipient, envelope: Envelope) -> int:
    """Those that rules of RCPT name."""
    marks = _of_path(rcpt.path)
    return marks if envelope.mail_from else marks | NULL


def _of_path(path: bytes) -> int:
    local, _, domain = path.rpartition(b"@")
    marks = _of_domain(domain)
    if not path.isascii():
        marks |= PATH | FOREIGN
    if len(path) > MAX_PATH or len(local) > MAX_LOCAL or LOCAL_PART.fullmatch(local) is None:
        marks |= PATH
    return marks


@lru_cache(maxsize=8192)
def _of_domain(domain: bytes) -> int:
    text = domain.decode("utf-8", "replace")
    name = text.lower()
    marks = 0 if domain_fault(text) is None else PATH
    if why_local(clean(name, utf8=True)):
        marks |= LOCAL
    return marks | TYPO if name in MEANT else marks


# --- of a message ----------------------------------------------------------------------------------------------------

FROM: Final = 1 << 5
"""Not one From with one address in it."""
REPEATED: Final = 1 << 6
"""A field that stands more than once."""
DATE: Final = 1 << 7
"""No date, none that can be read, or not of these days."""
MESSAGE_ID: Final = 1 << 8
"""No Message-ID of the usual form."""
SYNTAX: Final = 1 << 9
"""A line of the header section that is no field; a NUL, or a newline that is no CRLF, in it."""
RAW: Final = 1 << 10
"""An octet above 127 in the header section."""
ENCODED: Final = 1 << 11
"""What may be an encoded word."""
LONG: Final = 1 << 12
"""A long field, or many."""
TRACE: Final = 1 << 13
"""Bcc, fields of the delivering host, or more fields than hops may be."""
LINES: Final = 1 << 14
"""A line over the limit."""
BARE: Final = 1 << 15
"""A newline in the body that is no CRLF, or a NUL."""
EIGHT_BIT: Final = 1 << 16
"""An octet above 127 in the body."""
STRUCTURE: Final = 1 << 17
"""Parts, or a fault of MIME, or Base64."""
LARGE: Final = 1 << 18
"""More octets than somebody takes."""
NAMED: Final = 1 << 19
"""Parts, or the name of a file."""
PAGE: Final = 1 << 20
"""HTML."""
LINK: Final = 1 << 21
"""A link, in text or HTML."""
TEMPLATE: Final = 1 << 22
"""What may be left of a template: no subject, a delimiter, a word, a link, HTML."""
UNSIGNED: Final = 1 << 23
"""No signature."""
BODY_HASH: Final = 1 << 24
"""A signature of another body."""
VERDICT: Final = 1 << 25
"""A signature that does not pass, or by no such key as one would make today."""
COVERAGE: Final = 1 << 26
"""No signature covers all that one would sign today."""
TIMES: Final = 1 << 27
"""A signature with an end, or from the future."""
FRAGILE: Final = 1 << 28
"""A signature that a later host may break."""
UNALIGNED: Final = 1 << 29
"""Neither SPF nor DKIM that passes is the From domain's own."""
LISTED: Final = 1 << 30
"""An entry in a blocklist."""
UNKNOWN: Final = 1 << 31
"""A question that the DNS could not answer."""

LARGE_OCTETS: Final = 20 << 20
"""The least that a large provider's users may receive (`mime.LARGEST`)."""
_HEADER_OCTETS: Final = 16 << 10
"""Of a header section within which it has no more than 5,000 fields and 500 KB."""
_FIELD_OCTETS: Final = 998
_HOPS: Final = 50
_DAY: Final = 86_400
_TRACES: Final = frozenset((b"bcc", b"return-path", b"delivered-to"))
_USUAL_ID = re.compile(rb"\s*<[^<>\s@]{1,200}@[^<>\s@]{1,200}>")


def of_message(facts: Mapping[type, Any]) -> int:
    """Those that rules of DATA name, by the facts that are given to them; what is missing has none."""
    message: Message = facts[Message]
    now: Now = facts[Now]
    marks = _of_header(message, now) | _of_body(message) | _of_signatures(message, facts[Dkim].verdicts, now)
    offers = facts.get(Offers)
    if message.size > LARGE_OCTETS or (offers is not None and offers.size and message.size > offers.size):
        marks |= LARGE
    dmarc = facts[Dmarc]
    if type(dmarc) is Dmarc and not any(dmarc.legs):
        marks |= UNALIGNED
    for kind in (SenderListings, LinkListings):
        listings = facts[kind]
        if type(listings) is not Missing and any(listings.by_domain.values()):
            marks |= LISTED
    return marks | UNKNOWN if facts[DnsFaults].faults else marks


def _of_header(message: Message, now: float) -> int:
    named, header = message.by_name, message.header
    marks = 0
    boxes = message.mailboxes(b"from")
    if len(boxes) != 1 or not boxes[0].domain or len(named[b"from"]) != 1:
        marks |= FROM | COVERAGE
    if len(message.fields) != len(named):
        marks |= REPEATED
    dated = named.get(b"date")
    written = date(dated[0].value) if dated else None
    if written is None or not -_DAY < written - now < _DAY:
        marks |= DATE
    own = named.get(b"message-id")
    if own is None or _USUAL_ID.fullmatch(own[0].value) is None:
        marks |= MESSAGE_ID
    if message.strays or not message.is_tidy:
        marks |= SYNTAX
    if not header.isascii():
        marks |= RAW
    if header.find(b"?") >= 0 and b"=?" in header:  # one octet is found sooner than two
        marks |= ENCODED
    if message.longest > _FIELD_OCTETS or len(header) > _HEADER_OCTETS:
        marks |= LONG
    if len(message.fields) > _HOPS or not _TRACES.isdisjoint(named):
        marks |= TRACE
    return marks


def _of_body(message: Message) -> int:
    marks = 0
    if message.long_lines is not None:
        marks |= LINES
    if message.body_bare_at is not None or first_nul(message.raw, message.body_offset, message.size) is not None:
        marks |= BARE
    if message.body_8bit_at is not None:
        marks |= EIGHT_BIT
    subject = message.first(b"subject")
    title = "" if subject is None else decoded(subject.value)
    if not title.strip() or leftovers.may_be_in_page(title):
        marks |= TEMPLATE
    if (words := message.words) is not None:
        return marks | TEMPLATE if leftovers.may_be_in_text(words) else marks
    return marks | _of_parts(message)


def _of_parts(message: Message) -> int:
    marks = 0
    root = message.root
    if root.parts:
        marks |= STRUCTURE | NAMED
    elif root.faults or root.encoding == "base64":
        marks |= STRUCTURE
    if "name" in root.params or b"content-disposition" in message.by_name:
        marks |= NAMED
    texts, pages = message.bodies
    if pages:
        return marks | PAGE | LINK | TEMPLATE
    for body in texts:
        if body.links:
            marks |= LINK | TEMPLATE
        elif leftovers.may_be_in_text(body.text):
            marks |= TEMPLATE
    return marks


_GOOD_BITS: Final = 2048
_TO_COVER: Final = frozenset(
    b"to subject date list-unsubscribe list-unsubscribe-post content-type mime-version".split()
)
"""What a signature covers of the fields that are there (`dkim.dkim_coverage`)."""


def _of_signatures(message: Message, verdicts: Sequence[Verdict], now: float) -> int:
    if not verdicts:
        return UNSIGNED
    marks = 0
    for verdict in verdicts:
        signature = verdict.signature
        if (
            verdict.status is not DkimStatus.PASS
            or verdict.key_records != 1
            or verdict.is_testing
            or verdict.key_bits < _GOOD_BITS
            or signature.algorithm != "rsa-sha256"
        ):
            marks |= VERDICT
        if signature.problem:
            continue
        if not signature.body_matches:
            marks |= BODY_HASH
        coverage = _coverage if len(signature.field.value) <= KEPT_OCTETS else _coverage.__wrapped__
        lacks, froms = coverage(signature.headers)
        if froms < 2 or signature.length is not None or not lacks.isdisjoint(message.by_name):
            marks |= COVERAGE
        expires, timestamp = signature.expires, signature.timestamp
        if (expires is not None and expires < now + 2 * _DAY) or (timestamp is not None and timestamp > now):
            marks |= TIMES
        if signature.canonical[0] == "simple":
            marks |= FRAGILE
    return marks


@lru_cache(maxsize=1024)
def _coverage(headers: tuple[bytes, ...]) -> tuple[frozenset[bytes], int]:
    """Of what should be covered, that which h= does not name; and how often it names From."""
    return _TO_COVER.difference(headers), headers.count(b"from")
