"""HDR: the form of a message's header section (RFC 5322, 2047, 6532, and what Google and Yahoo publish beyond them).

Every rule needs only the message, HDR003 the clock, HDR006 whether the transaction has SMTPUTF8. One fault is one
finding: two From fields are HDR001's alone, a newline in the header that is no CRLF is HDR005's and not MIM002's.
Whether one Message-ID serves for many messages no single message tells: that is not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.evidence import at_offset, in_field, of_field, shown
from smtpguard.lint.facts import Now
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.fields import LINES_LIMIT, Field, Stray
from smtpguard.mail.header import WORD_LIMIT, date, encoded_words
from smtpguard.mail.message import Message
from smtpguard.mail.octets import first_8bit, first_bare_newline, first_nul
from smtpguard.mail.session import Envelope

_MALFORMED: Final = "message.malformed"
_GOOGLE: Final = "support.google.com/a/answer/3726730, 2026-02-15"
_YAHOO: Final = "senders.yahooinc.com/smtp-error-codes, 2026-02-15"
_START: Final = Evidence("", 1, 0)
"""Where to look for a field that is not there."""


@rule(
    "HDR001",
    "from-missing-or-many",
    Severity.ERROR,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5322 3.6.2",
    predicts=[("Google", f"550 5.7.1 ({_GOOGLE})")],
    answer="550 5.6.0",
    certain=True,
    when=marks.FROM,
)
def from_missing_or_many(message: Message) -> Hits:
    """A message has one From: field with one address in it.

    Receivers show people the From address and check DMARC for its domain. With no From field, several, or one without
    an address they cannot tell who wrote the message, and Gmail refuses it. The RFC allows several addresses in one
    field (with a Sender field), yet many receivers refuse those too.

    Fix: have the program that writes the message set exactly one From: field, as `From: Name <user@example.com>`; put a
    name that has a comma, a colon, a dot or brackets in double quotes.
    """
    fields = message.all(b"from")
    if not fields:
        yield Hit("there is no From: field", _START)
    elif len(fields) > 1:
        yield Hit(f"there are {len(fields)} From: fields", of_field(fields[1]))
    else:
        entries = message.mailboxes(b"from")
        valid = sum(bool(entry.domain) for entry in entries)
        if not valid:
            yield Hit("From: has no address in it", of_field(fields[0]))
        elif len(entries) > 1:
            spare = next((entry for entry in entries if not entry.domain), entries[1])
            words = f"lists {valid} addresses" if valid == len(entries) else "has an entry without an address"
            where = in_field(fields[0], spare.offset, spare.offset + len(spare.text))
            yield Hit(f"From: {words}", where, severity=Severity.WARNING)


# RFC 5322 3.6: fields that occur once at most; From is HDR001's
_SINGLE: Final = frozenset(b"date sender reply-to to cc bcc message-id in-reply-to references subject".split())


@rule(
    "HDR002",
    "singleton-duplicated",
    Severity.ERROR,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5322 3.6",
    predicts=[("Google", f"550 5.7.1, duplicate headers ({_GOOGLE})")],
    answer="550 5.6.0",
    certain=True,
    when=marks.REPEATED,
)
def singleton_duplicated(message: Message) -> Hits:
    """Date, Subject, To, Message-ID and similar fields occur once in a message.

    Of two such fields some programs take the first and some the last: one is checked and another is shown. Gmail
    refuses such mail. The second one mostly comes from a program that sets a field which its mail library sets too.

    Fix: remove one of the fields in the program that writes the message; join the addresses of several To: or Cc:
    fields into one, with commas.
    """
    for name, fields in message.by_name.items():
        if len(fields) > 1 and name in _SINGLE:
            yield Hit(f"there are {len(fields)} {fields[0].name.decode()}: fields", of_field(fields[1]))


_DAY: Final = 86_400
DAYS_AHEAD: Final = 2
DAYS_BEHIND: Final = 15


@rule(
    "HDR003",
    "date-missing-or-off",
    Severity.WARNING,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5322 3.6.1",
    predicts=[("Yahoo", f"554, Date outside of range ({_YAHOO})")],
    answer="550 5.6.0",
    when=marks.DATE,
)
def date_missing_or_off(message: Message, now: Now) -> Hits:
    """A message has a Date: field that says when it was written.

    It must be there and readable, and lie at most two days in the future or fifteen in the past: Yahoo refuses dates
    outside its range, and filters count a wrong date as a sign of spam. A resent message (Resent-Date) may be of any
    age.

    Fix: let the mail library write the date, as `Date: Sun, 22 Nov 2026 10:00:00 +0100`, and keep the clock of the host
    right (NTP).
    """
    field = message.first(b"date")
    if field is None:
        yield Hit("there is no Date: field", _START)
        return
    written = date(field.value)
    if written is None:
        yield Hit("Date: cannot be read", of_field(field))
    elif written - now > DAYS_AHEAD * _DAY:
        yield Hit(f"Date: lies {(written - now) / _DAY:,.0f} days in the future", of_field(field))
    elif now - written > DAYS_BEHIND * _DAY and message.first(b"resent-date") is None:
        yield Hit(f"Date: lies {(now - written) / _DAY:,.0f} days in the past", of_field(field))


# RFC 5322 3.6.4: msg-id = [CFWS] "<" id-left "@" id-right ">" [CFWS]; what is left and right may be anything but blank
_MESSAGE_ID = re.compile(rb"\s*(?:\([^()]*\)\s*)?<([^<>\s@]+(?:@[^<>\s@]+)+)>\s*(?:\([^()]*\)\s*)?")
MESSAGE_ID_LIMIT: Final = 500


@rule(
    "HDR004",
    "message-id-missing-or-bad",
    Severity.WARNING,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5322 3.6.4",
    predicts=[("Google", f"550 5.7.1 ({_GOOGLE})")],
    answer="550 5.6.0",
    when=marks.MESSAGE_ID,
)
def message_id_missing_or_bad(message: Message) -> Hits:
    """A message has a Message-ID: field of its own, `<something@domain>`.

    Receivers recognize copies of a message by it, and threads and bounces refer to it. Gmail refuses mail without a
    valid one, and filters count it against the sender.

    Fix: have the program that writes the message put `Message-ID: <unique@your.domain>`, with a new unique part for
    each message; most mail libraries do it, and an MTA adds one to mail that is submitted to it.
    """
    field = message.first(b"message-id")
    if field is None:
        yield Hit("there is no Message-ID: field", _START)
        return
    found = _MESSAGE_ID.fullmatch(field.value)
    if found is None:
        yield Hit(f"Message-ID: {_wrong_with_id(field.unfolded)}", of_field(field))
    elif len(found[1]) > MESSAGE_ID_LIMIT:
        yield Hit(f"Message-ID: is {len(found[1])} characters long, over {MESSAGE_ID_LIMIT}", of_field(field))


def _wrong_with_id(value: bytes) -> str:
    if not value:
        return "is empty"
    if not (value.startswith(b"<") and value.endswith(b">")):
        return "is not enclosed in < >"
    if b"@" not in value:
        return "has no @"
    if value.startswith(b"<@") or value.endswith(b"@>"):
        return "has nothing on one side of its @"
    return "has a space or a bracket in it, or more than one identifier"


@rule(
    "HDR005",
    "header-syntax",
    Severity.ERROR,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5322 2.2",
    predicts=[("Google", f"550 5.7.1, malformed ({_GOOGLE})"), ("others", "554 5.6.0")],
    answer="550 5.6.0",
    certain=True,
    when=marks.SYNTAX,
)
def header_syntax(message: Message) -> Hits:
    """Every line of the header section is a field, `Name: value`, or the continuation of one.

    At any other line some programs end the header section and some skip it: the fields below it, a signature among
    them, are seen by some and not by others, and Gmail refuses the message. NUL and newlines other than CRLF divide
    programs in the same way.

    Fix: look at the line that is named. Mostly the empty line before the body is missing, a folded line does not begin
    with a space, the name of a field has a space or a non-ASCII character, or an mbox line (`From ...`) was left over.
    """
    alike: dict[str, list[Stray]] = {}
    for stray in message.strays:
        alike.setdefault(_wrong_with_line(stray), []).append(stray)
    for words, (first, *more) in alike.items():
        where = Evidence(shown(first.text), first.line, first.offset)
        yield Hit(words + (f" (and {len(more)} more)" if more else ""), where)
    for words, find in _FORBIDDEN.items():
        at = find(message.raw, 0, len(message.header))
        if at is not None:
            yield Hit(words, at_offset(message, at))


_FORBIDDEN: Final = {
    "the header section has a CR or LF that is not part of a CRLF": first_bare_newline,
    "the header section has a NUL": first_nul,
}
_NAMED = re.compile(rb"[!-9;-~]+[ \t]+:")


def _wrong_with_line(stray: Stray) -> str:
    if _NAMED.match(stray.text):
        return "there is a space between the name of a field and its colon"
    if stray.text.startswith((b"From ", b">From ")):
        return "there is an mbox line (From ...) in the header section"
    if stray.text[:1] in (b" ", b"\t"):  # only the first line can: any other would continue the one before
        return "the first line begins with a space, as if it continued a field"
    if b":" in stray.text:
        return "the name of a field has a space or a non-ASCII character in it"
    return "a line of the header section has no colon"


@rule(
    "HDR006",
    "raw-8bit-header",
    Severity.ERROR,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 6532 3, RFC 2047",
    predicts=[("Google", f"550 5.7.1, unicode character in a disallowed header ({_GOOGLE})")],
    answer="550 5.6.7",
    when=marks.RAW,
)
def raw_8bit_header(message: Message, envelope: Envelope) -> Hits:
    """A header section is ASCII, unless the message is sent with SMTPUTF8.

    Letters beyond ASCII are written as encoded words (`=?utf-8?Q?...?=`). Raw octets have no charset: they show as
    gibberish, break signatures where a host mends them, and Gmail refuses them.

    Fix: set subject, names and file names through the functions of the mail library, which encode them, rather than by
    joining strings.
    """
    if envelope.smtputf8 or message.header.isascii():
        return
    wrong = [field for field in message.fields if not field.value.isascii()]
    if wrong:
        at = first_8bit(wrong[0].value, 0, len(wrong[0].value)) or 0
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        where = in_field(wrong[0], at, len(wrong[0].value))
        yield Hit(f"{shown(wrong[0].name)}:{more} has raw octets above 127", where)


# RFC 2047 5: where encoded words may stand: in text, and in the names and comments of address lists
_IN_TEXT: Final = frozenset(b"subject comments".split())
_IN_PHRASES: Final = frozenset(b"from sender reply-to to cc".split())
# the places of an address list where none may stand, closed or not
_FORBIDDING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|<[^<>]*>?', re.DOTALL)


@rule(
    "HDR007",
    "encoded-word-bad",
    Severity.WARNING,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 2047 2, 5",
    predicts=[
        ("Google", f"550 5.7.1, Encoded-word syntax is not permitted ({_GOOGLE})"),
        ("Yahoo", f"554, header can not be decoded ({_YAHOO})"),
    ],
    when=marks.ENCODED,
)
def encoded_word_bad(message: Message) -> Hits:
    """Encoded words, `=?utf-8?Q?caf=C3=A9?=`, are whole, short and in a place where they are decoded.

    One that cannot be decoded, is longer than 75 characters, or is inside quotes or an address is shown undecoded or
    refused: Gmail and Yahoo have replies for it. Each encoded word must be decodable by itself: a character of several
    octets may not be split over two of them.

    Fix: have the mail library encode the text (it splits long ones); never put an encoded word between double quotes or
    into an address.
    """
    if b"=?" not in message.header:
        return
    for name, fields in message.by_name.items():
        if name in _IN_TEXT or name in _IN_PHRASES:
            for field in fields:
                if b"=?" in field.value:
                    yield from _words_of(field, in_phrases=name in _IN_PHRASES)


def _words_of(field: Field, *, in_phrases: bool) -> Iterator[Hit]:
    """The first bad word of a field."""
    name = field.name.decode()
    forbidden = [(m.start(), m.end(), m[0][:1]) for m in _FORBIDDING.finditer(field.value)] if in_phrases else []
    at = 0
    for word in encoded_words(field.value):
        while at < len(forbidden) and forbidden[at][1] <= word.start:
            at += 1
        fault = word.fault
        if not fault and at < len(forbidden) and forbidden[at][0] < word.start:
            fault = "it is inside " + ("double quotes" if forbidden[at][2] == b'"' else "an address")
        if not fault and word.end - word.start > WORD_LIMIT:
            fault = f"it has {word.end - word.start} characters, more than {WORD_LIMIT}"
        if fault:
            yield Hit(f"an encoded word of {name}: {fault}", in_field(field, word.start, word.end))
            return


TOTAL_LIMIT: Final = 500 * 1024
FIELDS_LIMIT: Final = 5_000
FIELD_LIMIT: Final = 32 * 1024
NAME_LIMIT: Final = 1024
SUBJECT_LIMIT: Final = 998
_LISTS: Final = frozenset(b"to cc references".split())
"""Fields that may be longer than FIELD_LIMIT."""


@rule(
    "HDR008",
    "header-limits",
    Severity.ERROR,
    Stage.DATA,
    category="message.too_large",
    reference="https://support.google.com/a/answer/14016360",
    predicts=[("Google", "552 5.3.4 (support.google.com/a/answer/14016360)")],
    answer="552 5.3.4",
    when=marks.LONG,
)
def header_limits(message: Message) -> Hits:
    """A header section stays within 500 KB and 5,000 fields, a field within 32 KB, a Subject within 998 characters.

    These are Gmail's published limits; other receivers have smaller ones. What exceeds them is mostly a list of
    hundreds of recipients in To:, or a tracking value that an application puts into a field.

    Fix: send a message to each recipient instead of naming all of them in To:, and keep your own data in a few short
    fields.
    """
    size, count = len(message.header), len(message.fields)
    if size > TOTAL_LIMIT:
        yield Hit(f"the header section has {size:,} octets, over {TOTAL_LIMIT:,}", _START)
    elif message.is_cut:
        yield Hit(f"the header section has more than {LINES_LIMIT:,} lines", _START)
    if count > FIELDS_LIMIT:
        yield Hit(f"the header section has {count:,} fields, over {FIELDS_LIMIT:,}", _START)
    if size <= SUBJECT_LIMIT:
        return
    for field in message.fields:  # the first that is too long
        if len(field.name) > NAME_LIMIT:
            yield Hit(f"the name of a field has {len(field.name):,} octets, over {NAME_LIMIT:,}", of_field(field))
            break
        if len(field.value) > FIELD_LIMIT and field.name.lower() not in _LISTS:
            yield Hit(f"{shown(field.name)}: has {len(field.value):,} octets, over {FIELD_LIMIT:,}", of_field(field))
            break
    subject = message.first(b"subject")
    if subject is not None and len(subject.unfolded) > SUBJECT_LIMIT:
        yield Hit(f"Subject: has {len(subject.unfolded):,} octets, over {SUBJECT_LIMIT:,}", of_field(subject))


HOPS_LIMIT: Final = 50


@rule(
    "HDR009",
    "leak-or-forged",
    Severity.INFO,
    Stage.DATA,
    category=_MALFORMED,
    reference="RFC 5322 3.6.3, RFC 5321 4.4, 6.3, RFC 9228",
    predicts=[("Google", f"554 5.4.6, 50 hops ({_GOOGLE})")],
    when=marks.TRACE,
)
def leak_or_forged(message: Message) -> Hits:
    """A message that is sent has no Bcc: recipients and no field that only the delivering host writes.

    Bcc: shows every recipient those whom it was meant to hide. Return-Path: is written at delivery, from the envelope;
    an older one misleads whoever reads it. So does Delivered-To:, but in forwarded mail (with Received: fields below
    it), where it keeps mail from looping. More than 50 Received: fields mean a mail loop.

    Fix: put Bcc recipients in the envelope only; resend a delivered message without these fields; for a loop, see
    which two hosts alternate in the Received: fields.
    """
    named = message.by_name
    if hidden := message.mailboxes(b"bcc"):
        who = "a recipient" if len(hidden) == 1 else f"{len(hidden)} recipients"
        yield Hit(f"Bcc: shows everybody {who} who should be hidden", of_field(named[b"bcc"][0]))
    hops = message.all(b"received")
    for field in filter(None, map(message.first, (b"return-path", b"delivered-to"))):
        if field.name.lower() == b"delivered-to" and any(hop.offset > field.offset for hop in hops):
            continue  # RFC 9228: by a host that forwards
        yield Hit(f"{field.name.decode()}: is written by the host that delivers a message, not before", of_field(field))
    if len(hops) > HOPS_LIMIT:
        where = of_field(hops[HOPS_LIMIT])
        yield Hit(f"there are {len(hops)} Received: fields, more than {HOPS_LIMIT}", where, severity=Severity.ERROR)
