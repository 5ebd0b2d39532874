"""RCP: each rule with what it is for, and a twin that it must leave alone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from smtpguard.lint.facts import Offers, RcptDomain
from smtpguard.lint.recipients import mx_fault
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dns import Answer, IpAddress, Mx, Status
from tests.lint.asking import ask, severities

ENVELOPE = Envelope(b"a@example.com")
NX: Answer[IpAddress] = Answer(Status.NXDOMAIN, ttl=60)
NONE: Answer[IpAddress] = Answer(Status.NODATA, ttl=60)
FAILED: Answer[IpAddress] = Answer(Status.TEMPFAIL, ttl=5, fault="servfail")


def at(*addresses: str, canonical: str = "") -> tuple[Answer[IpAddress], ...]:
    """A and AAAA of a host."""
    v4 = tuple(IPv4Address(address) for address in addresses if "." in address)
    v6 = tuple(IPv6Address(address) for address in addresses if ":" in address)
    kinds: tuple[tuple[IpAddress, ...], ...] = (v4, v6)
    return tuple(
        Answer(Status.POSITIVE, records, 300, canonical) if records else Answer(Status.NODATA, (), 60, canonical)
        for records in kinds
    )


def mx(*hosts: str) -> Answer[Mx]:
    return Answer(Status.POSITIVE, tuple(Mx(10 * (n + 1), host) for n, host in enumerate(hosts)), 300)


NX_MX: Answer[Mx] = Answer(Status.NXDOMAIN, ttl=60)
NO_MX: Answer[Mx] = Answer(Status.NODATA, ttl=60)
FAILED_MX: Answer[Mx] = Answer(Status.TEMPFAIL, ttl=5, fault="timeout")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a b@example.com", ["error"]),
        (b"user@exam ple.com", ["error"]),
        (b"user", ["error"]),
        (b"a..b@docomo.example", ["warning"]),
        (b"Postmaster", []),
        (b"user@example.com", []),
    ],
)
def test_rcpt_syntax(path: bytes, expected: list[str]) -> None:
    assert severities("RCP001", Recipient(path), ENVELOPE) == expected


def test_messages_do_not_name_the_mailbox() -> None:
    (finding,) = ask("RCP001", Recipient(b"secret name@example.com"), ENVELOPE)
    assert "secret" not in finding.message + finding.fix


DOMAINS = {
    "missing": RcptDomain("example.com", NX_MX, (NX, NX)),
    "missing, asked once": RcptDomain("example.com", NX_MX),
    "null": RcptDomain("example.com", mx("")),
    "hostless": RcptDomain("example.com", NO_MX, (NONE, NONE)),
    "its own host": RcptDomain("example.com", NO_MX, at("192.0.2.1")),
    "failing": RcptDomain("example.com", FAILED_MX, (NX, NX)),
    "half failing": RcptDomain("example.com", NO_MX, (NONE, FAILED)),
    "good": RcptDomain("example.com", mx("mx.example.com"), (), {"mx.example.com": at("192.0.2.1", "2001:db8::1")}),
}


@pytest.mark.parametrize(
    ("code", "hit"),
    [("RCP002", {"missing", "missing, asked once"}), ("RCP003", {"null"}), ("RCP004", {"hostless"}), ("RCP005", set())],
)
def test_domains(code: str, hit: set[str]) -> None:
    assert {name for name, domain in DOMAINS.items() if ask(code, domain)} == hit


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ({"mx.example.com": (NX, NX)}, "no such name"),
        ({"mx.example.com": (NONE, NONE)}, "no address"),
        ({"mx.example.com": at("127.0.0.1")}, "only private addresses (127.0.0.1)"),
        ({"mx.example.com": at("10.0.0.1", "fd00::1")}, "only private"),
        ({"mx.example.com": at("192.0.2.1", canonical="other.example")}, ""),
        ({"mx.example.com": at("10.0.0.1", canonical="other.example")}, "only private"),
        ({"192.0.2.1": at("192.0.2.1")}, "an address, not a name"),
        ({"a.example": (NX, NX), "b.example": at("192.168.1.1")}, "a.example: no such name; b.example: only private"),
        ({"a.example": (NX, NX), "b.example": at("192.0.2.1")}, ""),
        ({"a.example": (NX, NX), "b.example": (FAILED, NONE)}, ""),
        ({"mx.example.com": at("10.0.0.1", "2001:db8::1")}, ""),
        ({"mx.example.com": ()}, ""),
    ],
)
def test_rcpt_mx_unusable(hosts: dict[str, tuple[Answer[IpAddress], ...]], words: str) -> None:
    found = ask("RCP005", RcptDomain("example.com", mx(*hosts), (), hosts))
    assert bool(found) is bool(words)
    for finding in found:
        assert words in finding.message
        assert "example.com. MX 10" in finding.evidence.text


def test_an_alias_is_no_host_to_name_although_mail_reaches_it() -> None:
    assert mx_fault("mx.example.com", at("192.0.2.1", canonical="other.example")) == "an alias (CNAME)"
    assert mx_fault("mx.example.com", at("192.0.2.1")) == ""


@pytest.mark.parametrize(
    ("path", "keywords", "hits"),
    [
        ("jörg@example.com", (), True),
        ("jörg@example.com", ("SMTPUTF8",), False),
        ("joerg@example.com", (), False),
    ],
)
def test_rcpt_needs_smtputf8(path: str, keywords: tuple[str, ...], hits: bool) -> None:
    assert bool(ask("RCP006", Recipient(path.encode()), Offers(frozenset(keywords)))) is hits


@pytest.mark.parametrize(
    ("path", "meant"),
    [(b"a@gmial.com", "gmail.com"), (b"a@Hotmail.CON", "hotmail.com"), (b"a@gmail.com", ""), (b"a@gmx.de", "")],
)
def test_rcpt_domain_typo(path: bytes, meant: str) -> None:
    assert [finding.evidence.text for finding in ask("RCP007", Recipient(path))] == ([meant] if meant else [])
