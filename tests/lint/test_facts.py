"""All rules that ask the DNS at once: a sender with everything right, one whose DNS fails, and hostile octets."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.lint import RULES, Action, Report, Ruleset, Stage
from smtpguard.lint.facts import (
    Dkim,
    Dmarc,
    DnsFaults,
    Egress,
    EgressAddress,
    HeloSpf,
    LinkListings,
    Now,
    Offers,
    RcptDomain,
    SenderDomain,
    SenderListings,
    Signatures,
    Signing,
    Spf,
)
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dkim import judge, signatures, verify
from smtpguard.mailauth.dmarc import by_suffix, walk
from smtpguard.mailauth.dns import Answer, Status
from smtpguard.mailauth.spf import check
from tests.mailauth.signing import FIELDS, message, record, rsa_key, signature_field
from tests.mailauth.zone import Zone

NOW = 1_700_000_000.0
OURS = ip_address("203.0.113.7")
FAMILIES = ("ENV", "RCP", "SPF", "DKM", "DMA", "NET", "RBL", "DNS")
RULESET = Ruleset("observe", {"ALL": Action.OFF, **dict.fromkeys(FAMILIES, Action.OBSERVE)})
RIGHT: Mapping[str, Any] = {
    "example.com": [{"TXT": "v=spf1 mx -all"}, {"MX": [10, "mail.example.com"]}],
    "mail.example.com": [{"A": "203.0.113.7"}, {"TXT": "v=spf1 a -all"}],
    "7.113.0.203.in-addr.arpa": [{"PTR": "mail.example.com"}],
    "_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject; rua=mailto:dmarc@example.com"}],
    "sel._domainkey.example.com": [{"TXT": record(rsa_key()).decode()}],
    "example.net": [{"MX": [10, "mx.example.net"]}],
    "mx.example.net": [{"A": "192.0.2.1"}],
}
SIGNED = message(signature_field(rsa_key(), names=b"from:from:to:subject:date:message-id"), *FIELDS)


async def facts(zone: Zone) -> dict[type, Any]:
    """What a zone says of mail from joe@example.com to ann@example.net through 203.0.113.7."""
    text = Message(SIGNED)
    found = signatures(text)
    spf = await check(zone, [OURS], domain="example.com")
    sender, recipient = await zone.mx("example.com"), await zone.mx("example.net")
    host = (await zone.a("mail.example.com"), await zone.aaaa("mail.example.com"))
    far = (await zone.a("mx.example.net"), await zone.aaaa("mx.example.net"))
    verdicts = await verify(zone, text, found, NOW)
    passing = tuple(verdict.signature.domain for verdict in verdicts if verdict.status == "pass")
    given_ = [
        Envelope(b"joe@example.com", rcpts=[Recipient(b"ann@example.net")]),
        Recipient(b"ann@example.net"),
        text,
        SenderDomain("example.com", sender, () if sender.records else (await zone.a("example.com"),)),
        RcptDomain("example.net", recipient, (), {mx.host: far for mx in recipient.records}),
        Offers(frozenset({"8BITMIME"})),
        Spf("mailfrom", "example.com", spf),
        HeloSpf("helo", "mail.example.com", await check(zone, [OURS], domain="mail.example.com")),
        Signatures(found),
        Dkim(verdicts),
        Signing("before"),
        Now(NOW),
        Dmarc(
            "example.com",
            await walk(zone, "example.com"),
            await by_suffix(zone, "example.com"),
            "example.com" if spf[OURS].status == "pass" else "",
            passing,
        ),
        Egress(
            (EgressAddress(OURS, await zone.ptr(OURS), {"mail.example.com": host}),),
            "mail.example.com",
            host,
            "verified",
        ),
        SenderListings({"example.com": ()}),
        LinkListings({}),
        DnsFaults(()),
    ]
    return {type(fact): fact for fact in given_}


def said(known: Mapping[type, Any]) -> list[str]:
    """The codes of what all stages find; no rule may lack a fact or break."""
    report = Report()
    for stage in Stage:
        RULESET.run(stage, known, report)
    assert report.skipped == []
    return [finding.rule for finding in report.findings]


async def test_nothing_is_said_of_a_sender_with_everything_right() -> None:
    known = await facts(Zone(RIGHT))
    assert said(known) == []
    wanted = {need for rule in RULES.values() if rule.family in FAMILIES for need in rule.needs}
    assert wanted <= set(known)  # so each rule was asked


@pytest.mark.parametrize("fault", ["TIMEOUT", "SERVFAIL", "REFUSED"])
async def test_a_failing_dns_is_never_taken_for_a_fault_of_the_sender(fault: str) -> None:
    assert said(await facts(Zone({name: [fault] for name in RIGHT}))) == []


async def test_without_any_records_much_is_said() -> None:
    """The twin of the two above: the same facts are not silent for want of being asked."""
    assert {"ENV002", "RCP002", "SPF001", "DKM004", "DMA003", "NET001", "NET004"} <= set(said(await facts(Zone({}))))


@settings(max_examples=50)
@given(st.binary(max_size=150), st.binary(max_size=60), st.booleans())
async def test_hostile_octets_break_no_rule(value: bytes, path: bytes, utf8: bool) -> None:
    text = Message(b"DKIM-Signature: v=1; a=rsa-sha256; " + value + b"\r\nDKIM-Signature:" + value + b"\r\n\r\n" + path)
    found = signatures(text)
    absent: Answer[bytes] = Answer(Status.NXDOMAIN, ttl=60)
    known = await facts(Zone(RIGHT))
    known |= {
        Message: text,
        Signatures: Signatures(found),
        Dkim: Dkim(tuple(judge(text, one, absent, NOW) for one in found)),
        Envelope: Envelope(path, smtputf8=utf8),
        Recipient: Recipient(path),
    }
    report = Report()
    for stage in Stage:
        RULESET.run(stage, known, report)
    assert report.skipped == []
    assert all(finding.message.isprintable() for finding in report.findings)
