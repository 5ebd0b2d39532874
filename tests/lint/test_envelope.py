"""ENV: each rule with what it is for, and a twin that it must leave alone."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from smtpguard.lint.facts import SenderDomain
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dns import Answer, IpAddress, Mx, Status
from tests.lint.asking import ask, severities

NX_MX: Answer[Mx] = Answer(Status.NXDOMAIN, ttl=60)
NO_MX: Answer[Mx] = Answer(Status.NODATA, ttl=60)
FAILED_MX: Answer[Mx] = Answer(Status.TEMPFAIL, ttl=5, fault="servfail")
NULL_MX = Answer(Status.POSITIVE, (Mx(0, ""),), 300)
GOOD_MX = Answer(Status.POSITIVE, (Mx(10, "mail.example.com"),), 300)
NX: Answer[IpAddress] = Answer(Status.NXDOMAIN, ttl=60)
NONE: Answer[IpAddress] = Answer(Status.NODATA, ttl=60)
FAILED: Answer[IpAddress] = Answer(Status.TEMPFAIL, ttl=5, fault="timeout")
HOST: Answer[IpAddress] = Answer(Status.POSITIVE, (IPv4Address("192.0.2.1"),), 300)


@pytest.mark.parametrize(
    ("mail_from", "expected"),
    [
        (b"a b@example.com", ["error"]),
        (b"a@exam!ple.com", ["error"]),
        (b"postmaster", ["error"]),
        (b"a" * 65 + b"@example.com", ["error"]),
        (b"a..b@example.com", ["warning"]),
        (b"", []),
        (b"a@example.com", []),
        (b'"a b"@example.com', []),
    ],
)
def test_sender_syntax(mail_from: bytes, expected: list[str]) -> None:
    assert severities("ENV001", Envelope(mail_from)) == expected


def test_a_sender_in_another_script_needs_smtputf8() -> None:
    path = "jörg@example.com".encode()
    assert severities("ENV001", Envelope(path)) == ["error"]
    assert severities("ENV001", Envelope(path, smtputf8=True)) == []


def test_what_a_stranger_wrote_is_shown_harmless() -> None:
    (finding,) = ask("ENV001", Envelope(b"a\x1b[31m@b"))
    assert finding.evidence.text == "<a [31m@b>"
    (finding,) = ask("ENV004", Envelope("a@b\x85c".encode()))
    assert finding.message.endswith("b c is a single label, not a full domain name")


@pytest.mark.parametrize(
    ("mx", "addresses", "words"),
    [
        (NX_MX, (), "does not exist"),
        (NX_MX, (NX, NX), "does not exist"),
        (NO_MX, (NONE, NONE), "no MX, A or AAAA"),
        (NO_MX, (NONE, HOST), ""),
        (NO_MX, (), ""),
        (NO_MX, (NONE, FAILED), ""),
        (FAILED_MX, (NX, NX), ""),
        (FAILED_MX, (NONE, NONE), ""),
        (NULL_MX, (), ""),
        (GOOD_MX, (), ""),
    ],
)
def test_sender_domain_missing(mx: Answer[Mx], addresses: tuple[Answer[IpAddress], ...], words: str) -> None:
    found = ask("ENV002", SenderDomain("example.com", mx, addresses))
    assert bool(found) is bool(words)
    for finding in found:
        assert words in finding.message
        assert '"example.com. MX 10 mail.example.com."' in finding.fix
        assert (finding.source, finding.ttl) == ("dns", 60)


def test_an_answer_past_its_time_is_said_to_be_one() -> None:
    (finding,) = ask("ENV002", SenderDomain("example.com", Answer(Status.NXDOMAIN, ttl=60, is_stale=True)))
    assert finding.source == "stale"


@pytest.mark.parametrize(
    ("mx", "hits"),
    [
        (NULL_MX, True),
        (GOOD_MX, False),
        (NX_MX, False),
        (Answer(Status.POSITIVE, (Mx(0, ""), Mx(10, "mail.example.com")), 300), False),
    ],
)
def test_sender_null_mx(mx: Answer[Mx], hits: bool) -> None:
    assert bool(ask("ENV003", SenderDomain("example.com", mx))) is hits


@pytest.mark.parametrize(
    ("mail_from", "hits"),
    [
        (b"root@localhost", True),
        (b"www-data@web1", True),
        (b"scanner@printer.local", True),
        (b"a@[192.168.1.5]", True),
        (b"a@Example.INTERNAL", True),
        (b"a@example.com", False),
        (b"a@[8.8.8.8]", False),
        (b"", False),
        (b"root", False),
        (b"root@", False),
    ],
)
def test_sender_not_fqdn(mail_from: bytes, hits: bool) -> None:
    assert bool(ask("ENV004", Envelope(mail_from))) is hits


@pytest.mark.parametrize(
    ("mail_from", "recipients", "hits"), [(b"", 2, True), (b"", 1, False), (b"a@example.com", 50, False)]
)
def test_null_sender_many_rcpts(mail_from: bytes, recipients: int, hits: bool) -> None:
    envelope = Envelope(mail_from, rcpts=[Recipient(b"b@example.net")] * recipients)
    assert bool(ask("ENV005", envelope)) is hits
