"""DMA: each rule over records in a zone, with mail that hits and mail that must not."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from smtpguard.lint.facts import Dmarc, Egress, EgressAddress, Signatures, Signing
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim_field import Signature
from smtpguard.mailauth.dmarc import by_suffix, org, walk
from tests.lint.asking import ask, severities
from tests.mailauth.zone import Zone

NONE = Signatures(())
SOME = Signatures((Signature(Message(b"DKIM-Signature: v=1\r\n\r\n").fields[0]),))
SIGNED = Signing("either")
STRICT = {"_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject; rua=mailto:d@example.com"}]}
LAX = {"_dmarc.example.com": [{"TXT": "v=DMARC1; p=none; rua=mailto:d@example.com"}]}


async def fact(zone: dict[str, Any], spf: str = "", *dkim: str, header_from: str = "example.com") -> Dmarc:
    """What holds for From; SPF passes for `spf`, DKIM for `dkim`."""
    resolver = Zone(zone)
    names = {name for name in (header_from, spf, *dkim) if name}
    return Dmarc(
        header_from,
        await walk(resolver, header_from),
        await by_suffix(resolver, header_from),
        spf,
        dkim,
        {name: await org(resolver, name) for name in names},
    )


QUARANTINE = {"_dmarc.example.com": [{"TXT": "v=DMARC1; p=none; sp=quarantine"}]}
TESTING = {"_dmarc.example.com": [{"TXT": "v=DMARC1; p=quarantine; t=y"}]}
STRICT_MODES = {"_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject; adkim=s; aspf=s"}]}


@pytest.mark.parametrize(
    ("zone", "header_from", "spf", "dkim", "codes"),
    [
        (STRICT, "example.com", "", (), {"DMA001"}),
        (STRICT, "example.com", "bounce.provider.example", ("provider.example",), {"DMA001"}),
        (STRICT, "example.com", "example.com", (), {"DMA005"}),
        (STRICT, "example.com", "", ("mail.example.com",), {"DMA005"}),
        (STRICT, "example.com", "bounce.example.com", ("example.com",), set()),
        (STRICT, "shop.example.com", "", (), {"DMA001"}),
        (QUARANTINE, "shop.example.com", "", (), {"DMA001"}),
        (QUARANTINE, "example.com", "", (), {"DMA002"}),
        (TESTING, "example.com", "", (), {"DMA002"}),
        (STRICT_MODES, "example.com", "bounce.example.com", ("mail.example.com",), {"DMA001"}),
        (STRICT_MODES, "example.com", "example.com", ("example.com",), set()),
        (LAX, "example.com", "", (), {"DMA002"}),
        (LAX, "example.com", "example.com", ("example.com",), set()),
        ({}, "example.com", "", (), {"DMA003"}),
        ({}, "example.com", "example.com", ("example.com",), {"DMA003"}),
        ({}, "example.com", "example.com", (), {"DMA003"}),
        ({"_dmarc.example.com": ["SERVFAIL"]}, "example.com", "example.com", (), set()),
        ({"_dmarc.example.com": ["SERVFAIL"]}, "example.com", "", (), set()),
    ],
)
async def test_what_becomes_of_mail(
    zone: dict[str, Any], header_from: str, spf: str, dkim: tuple[str, ...], codes: set[str]
) -> None:
    dmarc = await fact(zone, spf, *dkim, header_from=header_from)
    hits = {code for code in ("DMA001", "DMA002") if ask(code, dmarc, SOME, SIGNED)}
    hits |= {code for code in ("DMA003",) if ask(code, dmarc)}
    hits |= {code for code in ("DMA005",) if ask(code, dmarc, SIGNED)}
    assert hits == codes


async def test_how_sure_that_is_depends_on_who_signs() -> None:
    dmarc = await fact(STRICT)
    assert severities("DMA001", dmarc, SOME, Signing("either")) == ["error"]
    assert severities("DMA001", dmarc, NONE, Signing("before")) == ["error"]
    assert severities("DMA001", dmarc, NONE, Signing("either")) == ["warning"]
    assert severities("DMA001", dmarc, SOME, Signing("after")) == []
    by_spf = await fact(STRICT, "example.com")
    assert severities("DMA005", by_spf, Signing("after")) == []


async def test_what_is_said() -> None:
    (finding,) = ask("DMA001", await fact(STRICT, "bounce.example.net", "example.net"), SOME, SIGNED)
    assert finding.message == (
        "DMARC of example.com asks to reject this mail: SPF passes for bounce.example.net and DKIM passes for "
        "example.net, neither is aligned"
    )
    assert finding.evidence.text == '_dmarc.example.com. TXT "v=DMARC1; p=reject; rua=mailto:d@example.com"'
    assert "sign with d=example.com" in finding.fix
    assert (finding.source, finding.ttl) == ("dns", 300)
    (finding,) = ask("DMA003", await fact({}, header_from="news.shop.example.co.uk"))
    assert '_dmarc.example.co.uk. TXT "v=DMARC1; p=none; rua=mailto:dmarc@example.co.uk"' in finding.fix


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (["v=DMARC1; p=reject"], []),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], ["2 DMARC records"]),
        (["v=DMARC1; p=rejekt; rua=mailto:d@example.com"], ["p=rejekt"]),
        (["v=DMARC1; rua=mailto:d@example.com"], ["p= is missing"]),
        (['"v=DMARC1; p=reject"'], ["does not begin"]),
    ],
)
async def test_dmarc_record_bad(records: list[str], words: list[str]) -> None:
    zone = {"_dmarc.example.com": [{"TXT": record} for record in records]}
    findings = ask("DMA004", await fact(zone))
    assert len(findings) == len(words)
    for finding, wanted in zip(findings, words, strict=True):
        assert wanted in finding.message


@pytest.mark.parametrize(
    ("zone", "header_from", "hits"),
    [
        (STRICT, "example.com", False),
        (STRICT, "a.b.example.com", False),
        ({}, "a.example.com", False),
        ({"_dmarc.a.example.com": [{"TXT": "v=DMARC1; p=reject; psd=n"}], **LAX}, "a.example.com", True),
        ({"_dmarc.a.example.com": [{"TXT": "v=DMARC1; p=reject"}], **LAX}, "x.a.example.com", False),
        ({"_dmarc.a.example.com": [{"TXT": "v=DMARC1; p=reject"}]}, "x.a.example.com", True),
        ({"_dmarc.example.com": [{"TXT": "v=DMARC1; p=reject; t=y"}]}, "example.com", True),
        ({"_dmarc.example.com": ["TIMEOUT"]}, "example.com", False),
    ],
)
async def test_dmarc_orgdomain_divergence(zone: dict[str, Any], header_from: str, hits: bool) -> None:
    assert bool(ask("DMA006", await fact(zone, header_from=header_from))) is hits


OURS = Egress((EgressAddress(ip_address("203.0.113.7")),))


@pytest.mark.parametrize(
    ("header_from", "spf", "dkim", "egress", "hits"),
    [
        ("gmail.com", "example.com", ("example.com",), OURS, True),
        ("yahoo.com", "", (), OURS, True),
        ("gmail.com", "", ("gmail.com",), OURS, False),
        ("gmail.com", "", (), Egress(()), False),
        ("example.com", "", (), OURS, False),
    ],
)
async def test_from_impersonates_freemail(
    header_from: str, spf: str, dkim: tuple[str, ...], egress: Egress, hits: bool
) -> None:
    findings = ask("DMA007", await fact({}, spf, *dkim, header_from=header_from), egress)
    assert bool(findings) is hits
    assert all(header_from in finding.message and "203.0.113.7" in finding.message for finding in findings)


async def test_where_a_tree_walk_is_not_known_the_public_suffix_list_decides() -> None:
    whole = await fact(STRICT, "bounce.example.com", "example.com")
    without = Dmarc(whole.header_from, whole.walked, whole.suffixed, whole.spf_domain, whole.dkim_domains)
    assert ask("DMA001", without, SOME, SIGNED) == ask("DMA005", without, SIGNED) == []
