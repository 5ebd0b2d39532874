"""What is fuzzed: each target reads octets with one reader of ours and raises where that reader breaks its promise.

A promise is what its module says: an exception that it names, or none; a result that is the same however the octets
were cut; a line that is one line. Nothing here knows who makes the octets.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple, cast, get_args

import dns.exception
import dns.message

from smtpguard import policy
from smtpguard.classify import RuleError
from smtpguard.classify import load as load_rules
from smtpguard.classify.notice import messages, read_log, read_message
from smtpguard.classify.rules import parse as parse_rules
from smtpguard.config import ConfigError, TimeoutSettings, load
from smtpguard.edge.connect import Connected
from smtpguard.edge.dnsquery import Rdtype, answer_of
from smtpguard.edge.exchange import mail_line, rcpt_lines
from smtpguard.edge.pipeline import Connection
from smtpguard.edge.reader import ReplyReader
from smtpguard.flow import Body
from smtpguard.lint import Report, Ruleset, Stage
from smtpguard.lint.facts import ByProvider, Now, Offers
from smtpguard.mail.address import SyntaxRefused, parse_mail, parse_rcpt, parse_xforward
from smtpguard.mail.framing import DataScanner, unstuff
from smtpguard.mail.message import Message, header_fields, queue_id_in
from smtpguard.mail.page import bodies
from smtpguard.mail.reply import Answer, Hop, Reply, ReplyError, Verb
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth import bimi, dkim, dmarc, mtasts, spf, tlsrpt
from smtpguard.mailauth.dkim_key import parse_key
from smtpguard.mailauth.spf import record as spf_record
from smtpguard.record import Masker
from tests.mailauth.zone import Zone

_REPLY_LINE: Final = re.compile(rb"[2-5]\d\d[ -][^\x00-\x1f\x7f]*\r\n")
_NAMED: Final = re.compile(r"jane\.doe@[a-z]", re.IGNORECASE)
_MASKER: Final = Masker("mask", b"key")
NOON: Final = 1_795_000_000.0


def _cuts(octets: bytes) -> list[bytes]:
    """The same octets in pieces whose lengths they say themselves."""
    pieces, at = [], 0
    while at < len(octets):
        length = octets[at] % 7 + 1
        pieces.append(octets[at : at + length])
        at += length
    return pieces


# -- from the MTA -------------------------------------------------------------------------------------------------


def commands(octets: bytes) -> None:
    """Arguments of MAIL, RCPT, XFORWARD: refused, or an envelope whose commands are one line with the path as given."""
    with suppress(SyntaxRefused):
        envelope = parse_mail(octets)
        assert b"<%b>" % envelope.mail_from in octets
        if b"\r" not in octets and b"\n" not in octets and b"\0" not in octets:
            assert mail_line(envelope).startswith(b"MAIL FROM:<%b>" % envelope.mail_from)
    with suppress(SyntaxRefused):
        rcpt = parse_rcpt(octets, smtputf8=True)
        assert rcpt.path
        assert b"<%b>" % rcpt.path in octets
        if b"\r" not in octets and b"\n" not in octets and b"\0" not in octets:
            [line] = rcpt_lines([rcpt])
            assert line.count(b"\r") == line.count(b"\n") == 1
    with suppress(ValueError):
        assert all(value.isprintable() for value in parse_xforward(octets).values())


def data(octets: bytes) -> None:
    """DATA in any cut: the same wire octets, the same end, at the first CRLF.CRLF and nowhere else (RFC 5321 4.5.2)."""
    end = (b"\r\n" + octets).find(b"\r\n.\r\n")
    for normalize in (False, True):
        found = []
        for pieces in ([octets], _cuts(octets)):
            scanner = DataScanner(normalize=normalize)
            wire, rest = b"", None
            for number, piece in enumerate(pieces):
                chunk, rest = scanner.feed(piece)
                wire += chunk
                if rest is not None:
                    rest += b"".join(pieces[number + 1 :])
                    break
            found.append((wire, rest, scanner.fault, scanner.size, scanner.received))
        (wire, rest, fault, size, _), other = found
        assert rest == other[1]
        assert (fault is None) == (other[2] is None)  # which of two faults came first may depend on the cut
        assert (rest is not None) == (end >= 0)
        if rest is None or fault is not None:
            continue
        assert found[0] == found[1]
        assert rest == octets[end + 3 :]
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", wire)
        assert b"\r\n.\r\n" not in b"\r\n" + wire
        assert len(b"".join(unstuff(iter([wire])))) == size


# -- from next hops -------------------------------------------------------------------------------------------------


_CLASSIFIER = load_rules()  # before the clock of a case runs


def replies(octets: bytes) -> None:
    """What a next hop sends: the same replies in any cut, or ReplyError; each leaves as whole lines of one code.

    In the log it names nobody.
    """
    found: list[list[list[bytes]]] = []
    for pieces in ([octets], _cuts(octets)):
        reader = ReplyReader()
        read: list[list[bytes]] = []
        with suppress(ReplyError):
            for piece in pieces:
                read += list(reader.feed(piece))
        found.append(read)
    shorter = min(map(len, found))
    assert found[0][:shorter] == found[1][:shorter]
    for lines in found[0]:
        reply = Reply.parse(lines, Verb.RCPT)
        shown = _MASKER.text(reply.text)
        assert not _NAMED.search(shown), shown
        assert shown.isprintable()
        answers = [reply]
        if reply.klass > 3:
            meaning = _CLASSIFIER.match(reply, "mx.example.net")
            after = policy.after(reply, greeting_5xx="defer", own_parameters=False)
            answers.append(policy.explained(after, meaning, id="01JD5Z8Q7KX3", host="mx", explain=True, contact=""))
        for answer in answers:
            wire = answer.wire()
            whole = wire.splitlines(keepends=True)
            assert all(_REPLY_LINE.fullmatch(line) and len(line) <= 512 for line in whole), wire
            assert {line[:3] for line in whole} == {whole[0][:3]}
            assert [line[3:4] for line in whole] == [b"-"] * (len(whole) - 1) + [b" "]


class _Pipe:
    """A transport that takes everything; only what a connection asks of one."""

    def __init__(self) -> None:
        self.aborted = False

    def set_write_buffer_limits(self, **_: int) -> None: ...
    def set_protocol(self, _: asyncio.Protocol) -> None: ...
    def write(self, _: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return 0


class _Heard:
    """pipeline.Hears: counts, and keeps the message's answer."""

    def __init__(self) -> None:
        self.mail: list[Answer] = []
        self.rcpts: list[Answer] = []
        self.dot: list[Answer] = []

    def heard(self, verb: Verb, answer: Answer) -> None:
        (self.mail if verb is Verb.MAIL else self.rcpts if verb is Verb.RCPT else self.dot).append(answer)


class _Letter:
    """flow.Body of a few octets."""

    size = 5
    dots = False

    def wire(self) -> Iterator[bytes]:
        """Its octets on the wire."""
        return iter([b"abc\r\n"])

    def content(self) -> Iterator[bytes]:
        """Its own octets."""
        return self.wire()


_KEYWORDS: Final[tuple[dict[str, str], ...]] = (
    {"PIPELINING": "", "CHUNKING": ""},
    {"PIPELINING": ""},
    {"CHUNKING": ""},
    {},
)


def dialogue(octets: bytes) -> None:
    """A next hop that says anything to a transaction of two recipients: at most one answer each, free at most once."""
    asyncio.run(_dialogue(octets))


async def _dialogue(octets: bytes) -> None:
    pipe, heard = _Pipe(), _Heard()
    free: list[Connection] = []
    connection = Connection(
        Connected(cast("asyncio.Transport", pipe), _KEYWORDS[len(octets) % 4], Hop("default", "mx", 25)),
        TimeoutSettings(),
        free.append,
        lambda *_: None,
    )
    connection.begin(
        [b"MAIL FROM:<a@s.example>\r\n", b"RCPT TO:<b@r.example>\r\n", b"RCPT TO:<c@r.example>\r\n"], 1e12, heard
    )
    is_sent = False
    for piece in _cuts(octets):
        connection.data_received(piece)
        assert len(free) == 0, "it is free before the transaction is over"
        if len(heard.rcpts) == 2 and not is_sent:
            is_sent = True
            connection.message(b"", cast("Body", _Letter()), 1e12)
    is_over = bool(heard.dot)
    connection.finish()
    assert len(free) <= 1, "it is free more than once"
    for piece in _cuts(octets[:20]):
        connection.data_received(piece)
    assert len(free) <= 1, "it is free more than once"
    connection.abort()
    assert len(heard.mail) <= 1
    assert len(heard.rcpts) <= 2
    assert len(heard.dot) == (1 if is_over else 0)
    assert not is_over or is_sent


# -- from DNS -------------------------------------------------------------------------------------------------------


def names(octets: bytes) -> None:
    """Replies of name servers: what dnspython can read is an answer of ours, or fails in a way it names."""
    try:
        reply = dns.message.from_wire(octets)
    except (dns.exception.DNSException, ValueError):
        return
    for kind in get_args(Rdtype):
        # edge/dnsquery.py calls whatever comes out of a reply "malformed"; what it takes must be whole
        with suppress(dns.exception.DNSException, ValueError, AttributeError, IndexError):
            answer = answer_of(reply, kind)
            assert answer.ttl >= 0


def records(octets: bytes) -> None:
    """TXT records: SPF, DKIM, DMARC, MTA-STS, TLSRPT, BIMI. What is wrong with one is said, never raised."""
    with suppress(spf_record.SpfSyntaxError):
        spf_record.parse(octets)
    zone = Zone({"x.example": [{"TXT": octets.decode("latin-1")}], "*.example": [{"A": "192.0.2.1"}]})
    address = ip_address("192.0.2.7")
    result = asyncio.run(spf.check(zone, [address], domain="x.example", helo="h.example"))[address]
    assert result.problem.isprintable()
    assert len(zone.asked) < 250, "more questions than RFC 7208 4.6.4 allows"
    parse_key(octets)
    dmarc.parse(octets, domain="x.example")
    mtasts.parse_policy(octets)
    for read in (mtasts.parse_record, tlsrpt.parse_record, bimi.parse_record):
        read([octets])


# -- messages and notices -------------------------------------------------------------------------------------------


def letters(octets: bytes) -> None:
    """A message: outline, pages, links, signatures, and every lint rule that needs no more; none of them breaks."""
    message = Message(octets)
    for part in message.walk():
        assert len(part.content(100)) <= 100
    shown = bodies(message.root)
    for text in shown.texts:
        assert text.links is not None
    found = dkim.signatures(message)
    asyncio.run(dkim.verify(Zone({}), message, found, NOON))
    subject, received = header_fields(octets[:65_536], b"subject", b"received")
    assert subject.isprintable()
    queue_id_in(received)
    envelope = Envelope(b"a@s.example", rcpts=[Recipient(b"b@r.example")])
    facts = (message, envelope, envelope.rcpts[0], Offers(frozenset(), 50 << 20), ByProvider({"other": 1}), Now(NOON))
    report = Report()
    for stage in Stage:
        _ruleset().run(stage, {type(fact): fact for fact in facts}, report, is_bulk=True)
    faults = [skipped for skipped in report.skipped if skipped.why.startswith("fault")]
    assert not faults, faults


@cache
def _ruleset() -> Ruleset:
    return Ruleset("enforce", {})


def notices(octets: bytes) -> None:
    """DSNs, bounces, mboxes and logs: read to the end, whatever they are."""
    for notice in read_message(octets):
        assert notice.action
    for notice in read_log(octets.splitlines(keepends=True), datetime.fromtimestamp(NOON, UTC)):
        assert notice.action
    for message in messages([octets]):
        assert message


# -- from operators -------------------------------------------------------------------------------------------------


def configuration(octets: bytes) -> None:
    """A configuration file: settings, or ConfigError."""
    with tempfile.TemporaryDirectory(prefix="smtpguard-fuzz-") as name:
        file = Path(name) / "smtpguard.toml"
        file.write_bytes(octets)
        with suppress(ConfigError):
            load(file, {})


def rules(octets: bytes) -> None:
    """A file of classification rules: rules, or RuleError."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return
    with suppress(RuleError):
        parse_rules(text, "own.toml", own=True)


class Target(NamedTuple):
    """A reader, the language that its words come from, and octets that broke it once."""

    read: Callable[[bytes], None]
    language: str
    findings: tuple[bytes, ...] = ()


TARGETS: Final[Mapping[str, Target]] = {
    "commands": Target(commands, "mail"),
    "data": Target(data, "data"),
    "replies": Target(replies, "reply"),
    "dialogue": Target(dialogue, "reply", (b"250 a\r\n250 b\r\n250 c\r\n250 d\r\n42",)),
    "names": Target(names, "dns"),
    "records": Target(records, "txt"),
    "letters": Target(letters, "message"),
    "notices": Target(notices, "dsn", (b"From MAILER-DAEMON\n",)),
    "configuration": Target(configuration, "toml"),
    "rules": Target(rules, "toml"),
}
