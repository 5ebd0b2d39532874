"""SPF rules over what `spf.check` says of records in a zone: each with a record that hits and one that must not."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.lint import Finding
from smtpguard.lint.facts import HeloSpf, Spf
from smtpguard.lint.spf import with_addresses
from smtpguard.mailauth.spf import SpfStatus, check, parse
from tests.lint.asking import ask
from tests.mailauth.zone import Zone

OURS = ("203.0.113.7",)
BOTH = ("203.0.113.7", "2001:db8::7")
CODES = [f"SPF00{number}" for number in (1, 2, 3, 4, 6, 7, 8)]


async def fact(
    zone: dict[str, Any], addresses: tuple[str, ...] = OURS, identity: Literal["mailfrom", "helo"] = "mailfrom"
) -> Spf:
    results = await check(Zone(zone), [ip_address(address) for address in addresses], domain="example.com")
    return Spf(identity, "example.com", results)


async def found(
    record: str | None, addresses: tuple[str, ...] = OURS, others: Mapping[str, Any] | None = None
) -> dict[str, Finding]:
    """The findings of all SPF rules about MAIL FROM, by code."""
    zone = {"example.com": [{"TXT": record}] if record else [{"A": "192.0.2.1"}], **(others or {})}
    spf = await fact(zone, addresses)
    return {code: finding for code in CODES for finding in ask(code, spf)}


INCLUDE = {"_spf.example.net": [{"TXT": "v=spf1 ip4:192.0.2.0/24 -all"}]}
MANY = {f"n{number}.example.net": [{"A": "192.0.2.1"}] for number in range(11)}


@pytest.mark.parametrize(
    ("record", "addresses", "codes"),
    [
        (None, OURS, {"SPF001"}),
        ("v=spf2.0/mfrom -all", OURS, {"SPF001"}),
        ("v=spf1 ip4:203.0.113.7 -all", OURS, set()),
        ("v=spf1 ip4:203.0.113.0/24 ip6:2001:db8::/32 -all", BOTH, set()),
        ("v=spf1 ipv4:203.0.113.7 -all", OURS, {"SPF002"}),
        ("v=spf1 include:missing.example.net -all", OURS, {"SPF002"}),
        ("v=spf1 " + " ".join(f"a:n{n}.example.net" for n in range(11)) + " -all", OURS, {"SPF002"}),
        ("v=spf1 include:_spf.example.net -all", OURS, {"SPF003"}),
        ("v=spf1 -all", BOTH, {"SPF003"}),
        ("v=spf1 include:_spf.example.net ~all", OURS, {"SPF004"}),
        ("v=spf1 ?all", OURS, {"SPF004"}),
        ("v=spf1 ip4:192.0.2.1", OURS, {"SPF004"}),
        ("v=spf1 " + " ".join(f"a:n{n}.example.net" for n in range(8)) + " ip4:203.0.113.7 -all", OURS, {"SPF006"}),
        ("v=spf1 " + " ".join(f"a:n{n}.example.net" for n in range(7)) + " ip4:203.0.113.7 -all", OURS, set()),
        ("v=spf1 a:x.example.net a:y.example.net ip4:203.0.113.7 -all", OURS, {"SPF006"}),
        ("v=spf1 ip4:203.0.113.7 " + "ip4:192.0.2.1 " * 33 + "-all", OURS, {"SPF006"}),
        ("v=spf1 +all", OURS, {"SPF007"}),
        ("v=spf1 ip4:200.0.0.0/6 -all", OURS, {"SPF007"}),
        ("v=spf1 ip4:203.0.113.7 a/8 -all", OURS, {"SPF007"}),
        ("v=spf1 ip6:2000::/3 ip4:203.0.113.7 -all", OURS, {"SPF007"}),
        ("v=spf1 ptr:n1.example.net ip4:203.0.113.7 -all", OURS, {"SPF007"}),
        ("v=spf1 ip4:203.0.113.7 include=n1.example.net -all", OURS, {"SPF007"}),
        ("v=spf1 ip4:203.0.113.7 ra=postmaster op=dkim -all", OURS, set()),
        ("v=spf1 ip4:203.0.0.0/9 ?ip4:0.0.0.0/0 -all", OURS, set()),
        ("v=spf1 ip4:203.0.113.7 -all", BOTH, {"SPF008"}),
        ("v=spf1 ip4:203.0.113.7 ~all", BOTH, {"SPF008"}),
    ],
)
async def test_records(record: str | None, addresses: tuple[str, ...], codes: set[str]) -> None:
    assert set(await found(record, addresses, INCLUDE | MANY)) == codes


async def test_a_fault_of_the_dns_is_no_finding() -> None:
    for zone in ({"example.com": ["TIMEOUT"]}, {"example.com": [{"TXT": "v=spf1 a:x.example.net -all"}]}):
        spf = await fact(zone | {"x.example.net": ["SERVFAIL"]})
        assert {result.status for result in spf.results.values()} == {SpfStatus.TEMPERROR}
        assert [finding for code in CODES for finding in ask(code, spf)] == []


async def test_what_is_wrong_is_named_with_the_record() -> None:
    lost = (await found("v=spf1 ip4:203.0.113.7 ip6=2001:db8::1 -all"))["SPF007"]
    assert lost.message.endswith("suspicious terms: ip6=2001:db8::1 (write ip6:)")
    broken = (await found("v=spf1 ipv4:203.0.113.7 -all"))["SPF002"]
    assert "ipv4:203.0.113.7" in broken.message
    assert broken.evidence.text == 'example.com. TXT "v=spf1 ipv4:203.0.113.7 -all"'
    failed = (await found("v=spf1 include:_spf.example.net -all", others=INCLUDE))["SPF003"]
    assert failed.message == "SPF of example.com forbids 203.0.113.7 (-all)"
    assert (failed.source, failed.ttl) == ("dns", 300)
    two = await fact({"example.com": [{"TXT": "v=spf1 -all"}, {"TXT": "v=spf1 ~all"}]})
    (finding,) = ask("SPF002", two)
    assert finding.evidence.text.count('example.com. TXT "v=spf1') == 2


@pytest.mark.parametrize(
    ("record", "code", "publish"),
    [
        (None, "SPF001", "v=spf1 ip4:203.0.113.7 ~all"),
        ("v=spf1 mx -all", "SPF003", "v=spf1 mx ip4:203.0.113.7 -all"),
        ("v=spf1 mx  ~all exp=x.example", "SPF004", "v=spf1 mx  ip4:203.0.113.7 ~all exp=x.example"),
        ("v=spf1 redirect=_spf.example.net", "SPF003", "v=spf1 ip4:203.0.113.7 redirect=_spf.example.net"),
        ("v=spf1 ip4:192.0.2.1 ", "SPF004", "v=spf1 ip4:192.0.2.1 ip4:203.0.113.7"),
    ],
)
async def test_the_record_to_publish_passes(record: str | None, code: str, publish: str) -> None:
    finding = (await found(record, others=INCLUDE))[code]
    assert f'example.com. TXT "{publish}"' in finding.fix
    assert await found(publish, others=INCLUDE) == {}


async def test_for_several_addresses_only_the_missing_are_added() -> None:
    finding = (await found("v=spf1 ip4:203.0.113.7 -all", BOTH))["SPF008"]
    assert '"v=spf1 ip4:203.0.113.7 ip6:2001:db8::7 -all"' in finding.fix
    assert "but not for 2001:db8::7 (fail)" in finding.message


TERMS = st.lists(
    st.sampled_from(["mx", "a:x.example", "ip4:192.0.2.1", "include:y.example", "?all", "x=y"]), max_size=4
)


@given(TERMS, st.sampled_from(["", " -all", " ~all", " redirect=z.example", " -all exp=z.example"]))
def test_an_address_comes_before_whatever_catches_all(terms: list[str], end: str) -> None:
    record = " ".join(["v=spf1", *terms]) + end
    mended = parse(with_addresses(record, [ip_address("203.0.113.7")]))
    assert [term.text for term in mended.terms if term.text != "ip4:203.0.113.7"] == (terms + end.split())
    place = [term.text for term in mended.terms].index("ip4:203.0.113.7")
    assert not {"-all", "~all", "?all"} & {term.text for term in mended.terms[:place]}


async def test_a_helo_name_without_a_record_is_a_note() -> None:
    (finding,) = ask("SPF001", await fact({"example.com": [{"A": "203.0.113.7"}]}, identity="helo"))
    assert finding.severity == "info"
    assert "HELO name" in finding.message


@pytest.mark.parametrize(
    ("record", "hits"),
    [
        ("v=spf1 -all", True),
        ("v=spf1 ~all", True),
        ("v=spf1 ip4:x -all", True),
        ("v=spf1 a -all", False),
        (None, False),
    ],
)
async def test_spf_helo_fail(record: str | None, hits: bool) -> None:
    spf = await fact({"example.com": [{"A": "203.0.113.7"}, *([{"TXT": record}] if record else [])]})
    findings = ask("SPF005", HeloSpf("helo", spf.domain, spf.results))
    assert bool(findings) is hits
    for finding in findings:
        assert 'example.com. TXT "v=spf1 a -all"' in finding.fix


async def test_what_is_no_domain_name_cannot_have_a_record() -> None:
    results = await check(Zone({}), [ip_address(OURS[0])], domain="localhost")
    assert ask("SPF001", Spf("mailfrom", "localhost", results)) == []


async def test_an_unknown_egress_gives_no_finding() -> None:
    spf = Spf("mailfrom", "example.com", {})
    assert [finding for code in CODES for finding in ask(code, spf)] == []
