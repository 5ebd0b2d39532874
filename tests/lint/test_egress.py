"""NET: each rule with an address or name that hits, and one that must not."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.lint.egress import is_generic
from smtpguard.lint.facts import Egress, EgressAddress
from smtpguard.mailauth.dns import Answer, IpAddress, Status
from tests.lint.asking import ask, severities

FOUR = ip_address("203.0.113.7")
SIX = ip_address("2001:db8::7")
NX: Answer[Any] = Answer(Status.NXDOMAIN, ttl=60)
NONE: Answer[Any] = Answer(Status.NODATA, ttl=60)
FAILED: Answer[Any] = Answer(Status.TEMPFAIL, ttl=5, fault="servfail")


def given_(*records: Any) -> Answer[Any]:
    return Answer(Status.POSITIVE, records, 300)


def named(
    *names: str, forward: tuple[Answer[IpAddress], ...] | None = None, address: IpAddress = FOUR
) -> EgressAddress:
    """An address with PTR names, each of which answers `forward` (by default, leads back)."""
    answers = (given_(address),) if forward is None else forward
    return EgressAddress(address, given_(*names), dict.fromkeys(names, answers))


def egress(*addresses: EgressAddress, **more: Any) -> Egress:
    return Egress(addresses, **more)


@pytest.mark.parametrize(
    ("address", "hits"),
    [
        (EgressAddress(FOUR, NX), True),
        (EgressAddress(SIX, NONE), True),
        (EgressAddress(FOUR, FAILED), False),
        (EgressAddress(FOUR), False),
        (named("mail.example.com"), False),
    ],
)
def test_ptr_missing(address: EgressAddress, hits: bool) -> None:
    findings = ask("NET001", egress(named("good.example"), address, helo="mail.example.com"))
    assert bool(findings) is hits
    for finding in findings:
        assert f"{address.address.reverse_pointer}. PTR mail.example.com." in finding.fix
        assert (finding.ttl, str(finding.answer)) == (60, "550 5.7.25")


@pytest.mark.parametrize(
    ("address", "hits"),
    [
        (named("mail.example.com"), False),
        (named("mail.example.com", forward=(given_(ip_address("192.0.2.1")), NONE)), True),
        (named("mail.example.com", forward=(NX, NX)), True),
        (named("mail.example.com", forward=(given_(ip_address("192.0.2.1")), FAILED)), False),
        (named("mail.example.com", forward=(given_(FOUR), FAILED)), False),
        (named("mail.example.com", forward=()), False),
        (EgressAddress(FOUR, NX), False),
        (
            EgressAddress(FOUR, given_("a.example", "b.example"), {"a.example": (NX,), "b.example": (given_(FOUR),)}),
            False,
        ),
    ],
)
def test_ptr_not_forward_confirmed(address: EgressAddress, hits: bool) -> None:
    findings = ask("NET002", egress(address))
    assert bool(findings) is hits
    assert all("mail.example.com. A 203.0.113.7" in finding.fix for finding in findings)


GENERIC = [
    ("203-0-113-7.dsl.provider.example", "203.0.113.7"),
    ("7.113.0.203.dynamic.provider.example", "203.0.113.7"),
    ("static.7.113.0.203.clients.your-server.de", "203.0.113.7"),
    ("ec2-203-0-113-7.compute-1.amazonaws.com", "203.0.113.7"),
    ("p203000113007.provider.example", "203.0.113.7"),
    ("cb007107.skybroadband.example", "203.0.113.7"),
    ("host-113-7.pool.provider.example", "203.0.113.7"),
    ("pool-7-113.provider.example", "203.0.113.7"),
    ("2001-db8-85a3--8a2e-370-7334.ipv6.provider.example", "2001:db8:85a3::8a2e:370:7334"),
    ("20010db885a3000000008a2e03707334.ip6.provider.example", "2001:db8:85a3::8a2e:370:7334"),
    ("4.3.3.7.0.7.3.0.e.2.a.8.0.0.0.0.3.a.5.8.8.b.d.0.1.0.0.2.provider.example", "2001:db8:85a3::8a2e:370:7334"),
]
OWN = [
    ("mail.example.com", "203.0.113.7"),
    ("mail7.example.com", "203.0.113.7"),
    ("mx-113-7.example.com", "203.0.113.7"),
    ("a113-7.smtp-out.amazonses.com", "203.0.113.7"),
    ("mail-ed1-f41.google.com", "209.85.208.41"),
    ("o203.ptr7.sendgrid.net", "203.0.113.7"),
    ("dynamic.mail.example.com", "203.0.113.7"),
    ("203-0-113-8.example.com", "203.0.113.7"),
    ("pool7.example.com", "203.0.113.7"),
    ("mail.example.com", "2001:db8::7"),
    ("mail-ed1-x52c.google.com", "2a00:1450:4864:20::52c"),
]


@pytest.mark.parametrize(
    ("name", "address", "hits"), [(*row, True) for row in GENERIC] + [(*row, False) for row in OWN]
)
def test_ptr_generic(name: str, address: str, hits: bool) -> None:
    assert bool(ask("NET003", egress(named(name, address=ip_address(address))))) is hits


def test_one_good_name_is_enough() -> None:
    assert ask("NET003", egress(named("203-0-113-7.dsl.provider.example", "mail.example.com"))) == []


@given(st.text(max_size=60), st.ip_addresses())
def test_any_name_is_generic_or_not(name: str, address: IpAddress) -> None:
    assert is_generic(name, address) in (True, False)
    assert is_generic(f"x-{str(address).replace('.', '-')}.example", address) or address.version == 6


@pytest.mark.parametrize(
    ("helo", "answers", "words"),
    [
        ("mail.example.com", (given_(FOUR), NONE), ""),
        ("mail.example.com", (NX, NX), "has no A or AAAA record"),
        ("mail.example.com", (NONE, FAILED), ""),
        ("mail.example.com", (), ""),
        ("localhost", (), "single label"),
        ("localhost.localdomain", (), ".localdomain"),
        ("web1", (), "single label"),
        ("[203.0.113.7]", (), "is an address"),
        ("mail.example.local.", (), ".local names"),
        ("", (), ""),
    ],
)
def test_helo_invalid(helo: str, answers: tuple[Answer[IpAddress], ...], words: str) -> None:
    findings = ask("NET004", egress(EgressAddress(FOUR), helo=helo, helo_addresses=answers))
    assert bool(findings) is bool(words)
    for finding in findings:
        assert words in finding.message
        assert "203.0.113.7" in finding.fix


@pytest.mark.parametrize(
    ("answers", "publish"),
    [
        ((given_(FOUR), given_(SIX)), ""),
        ((given_(FOUR), NONE), "mail.example.com. AAAA 2001:db8::7"),
        ((given_(ip_address("192.0.2.1")), given_(SIX)), "mail.example.com. A 203.0.113.7"),
        ((given_(FOUR), FAILED), ""),
        ((NX, NX), ""),
        ((), ""),
    ],
)
def test_helo_mismatch(answers: tuple[Answer[IpAddress], ...], publish: str) -> None:
    ours = egress(EgressAddress(FOUR), EgressAddress(SIX), helo="mail.example.com", helo_addresses=answers)
    assert [finding.fix for finding in ask("NET005", ours)] == ([f"publish {publish}"] if publish else [])


@pytest.mark.parametrize(
    ("tls", "expected"), [("none", ["warning"]), ("unverified", ["info"]), ("verified", []), ("unknown", [])]
)
def test_egress_no_tls(tls: str, expected: list[str]) -> None:
    assert severities("NET006", egress(tls=tls)) == expected
