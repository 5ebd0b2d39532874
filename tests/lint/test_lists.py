"""The table of blocklists, how subjects become names, and what answers mean."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.lint.facts import Listing
from smtpguard.lint.lists import DEAD, LISTS, Code, Fault, Kind, is_public, mistake, reversed_label, unmapped

ZEN, DBL = LISTS["zen.spamhaus.org"], LISTS["dbl.spamhaus.org"]
SURBL, URIBL = LISTS["multi.surbl.org"], LISTS["multi.uribl.com"]
BY_DEFAULT: dict[Kind, list[str]] = {
    "ip": ["zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com"],
    "domain": ["dbl.spamhaus.org", "multi.surbl.org", "multi.uribl.com"],
}


def _read(zone: str, *codes: str) -> object:
    said = LISTS[zone].read(map(IPv4Address, codes))
    return said.state if isinstance(said, Fault) else [code.kind for code in said]


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", LISTS)
def test_each_list_can_be_asked_checked_and_left(zone: str) -> None:
    known = LISTS[zone]
    assert known.codes
    assert known.page.startswith("https://")
    assert {is_listed for _, is_listed in known.canaries()} == {True, False}
    assert bool(known.families) == (known.kind == "ip")
    assert bool(known.asks) == (known.kind == "domain")
    assert ("{key}" in known.keyed) == bool(known.keyed) == bool(known.owner)
    for value, code in known.codes.items():
        assert code.meaning
        assert code.kind in ("listed", "policy", "minor", "grey")
        if known.is_bits:
            assert value in (2, 4, 8, 16, 32, 64, 128)  # 1 is a refusal
        else:
            assert not isinstance(known.read([IPv4Address(value)]), Fault)
    assert not mistake(zone, known.kind)


@pytest.mark.parametrize(("kind", "zone"), [(kind, zone) for kind, zones in BY_DEFAULT.items() for zone in zones])
def test_the_lists_of_the_sample_configuration_are_there(kind: Kind, zone: str) -> None:
    assert mistake(zone, kind) == ""


@pytest.mark.parametrize("zone", [dead.zone for dead in DEAD] + ["dnsbl.sorbs.net", "spam.dnsbl.sorbs.net"])
def test_a_list_that_ended_is_a_mistake(zone: str) -> None:
    for kind in BY_DEFAULT:
        assert f'"{zone}" has ended' in mistake(zone, kind)
    assert zone not in LISTS


@pytest.mark.parametrize(
    ("zone", "kind", "words"),
    [
        ("rbl.example.net", "ip", "known are b.barracudacentral.org, bl.mailspike.net"),
        ("notsorbs.net", "ip", "is not a list whose answers are known"),
        ("dbl.spamhaus.org", "ip", "a list of domains: name it under domain"),
        ("zen.spamhaus.org", "domain", "a list of addresses: name it under ip"),
        ("key.zen.dq.spamhaus.net", "ip", "is not a list whose answers are known"),  # the key has a file of its own
    ],
)
def test_what_cannot_be_read_or_is_of_the_other_kind_is_a_mistake(zone: str, kind: Kind, words: str) -> None:
    assert words in mistake(zone, kind)


# --- subjects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "label"),
    [
        ("5.18.0.25", "25.0.18.5"),
        ("::ffff:5.18.0.25", "25.0.18.5"),
        ("2a00:1::25", "5.2." + "0." * 22 + "1.0.0.0.0.0.a.2"),
    ],
)
def test_addresses_are_asked_from_their_end(address: str, label: str) -> None:
    assert ZEN.labels(ip_address(address)) == (label,)
    assert DBL.labels(ip_address(address)) == ()


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "127.0.0.2",
        "100.64.0.1",
        "169.254.1.1",
        "192.0.2.1",
        "203.0.113.9",
        "224.0.1.1",
        "0.0.0.0",
        "255.255.255.255",
        "::1",
        "fe80::1",
        "fd00::1",
        "2001:db8::1",
        "ff0e::1",
        "::ffff:10.0.0.1",
    ],
)
def test_an_address_that_is_nobodys_is_not_asked(address: str) -> None:
    assert all(known.labels(ip_address(address)) == () for known in LISTS.values())


def test_a_list_of_ipv4_is_not_asked_for_ipv6() -> None:
    assert LISTS["bl.spamcop.net"].labels(IPv6Address("2a00:1::25")) == ()
    assert LISTS["bl.spamcop.net"].labels(IPv4Address("5.18.0.25")) == ("25.0.18.5",)


@given(st.ip_addresses())
def test_whatever_the_address_the_name_says_the_same_backwards(address: IPv4Address | IPv6Address) -> None:
    plain = unmapped(address)
    labels = ZEN.labels(address)
    assert labels == ((reversed_label(plain),) if is_public(plain) else ())
    pieces = reversed_label(plain).split(".")[::-1]
    if isinstance(plain, IPv4Address):
        assert IPv4Address(".".join(pieces)) == plain
    else:
        assert IPv6Address(int("".join(pieces), 16)) == plain


@pytest.mark.parametrize(
    ("domain", "organizational", "both"),
    [
        ("example.com", ("example.com",), ("example.com",)),
        ("mail.example.com", ("example.com",), ("example.com", "mail.example.com")),
        ("a.b.example.co.uk", ("example.co.uk",), ("example.co.uk", "a.b.example.co.uk")),
        ("xn--bcher-kva.example", ("xn--bcher-kva.example",), ("xn--bcher-kva.example",)),
    ],
)
def test_domains_are_asked_as_each_list_wants(domain: str, organizational: tuple[str], both: tuple[str]) -> None:
    assert (SURBL.labels(domain), DBL.labels(domain), ZEN.labels(domain)) == (organizational, both, ())


@pytest.mark.parametrize(
    "domain",
    ["", "localhost", "a..b", ".a.com", "a.com.", "192.0.2.1", "[192.0.2.1]", "a b.com", "b\u00fccher.example"],
)
def test_what_is_no_domain_is_not_asked(domain: str) -> None:
    assert DBL.labels(domain) == ()


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "codes", "meaning"),
    [
        ("zen.spamhaus.org", [], []),
        ("zen.spamhaus.org", ["127.0.0.2"], ["listed"]),
        ("zen.spamhaus.org", ["127.0.0.3", "127.0.0.10"], ["listed", "policy"]),
        ("zen.spamhaus.org", ["127.0.0.10", "127.0.0.3"], ["listed", "policy"]),  # records have no order
        ("zen.spamhaus.org", ["127.0.0.4", "127.0.0.7"], ["listed"]),  # the same meaning twice
        ("zen.spamhaus.org", ["127.0.0.99"], []),
        ("zen.spamhaus.org", ["127.0.0.99", "127.0.0.9"], ["listed"]),
        ("zen.spamhaus.org", ["127.0.0.1"], "blocked"),
        ("zen.spamhaus.org", ["127.0.0.2", "127.255.255.254"], "error"),
        ("zen.spamhaus.org", ["127.255.255.252"], "error"),
        ("zen.spamhaus.org", ["198.51.100.77"], "broken"),
        ("dbl.spamhaus.org", ["127.0.1.2"], ["listed"]),
        ("dbl.spamhaus.org", ["127.0.1.103"], ["grey"]),
        ("dbl.spamhaus.org", ["127.0.1.255"], "error"),
        ("multi.surbl.org", ["127.0.0.24"], ["listed", "listed"]),
        ("multi.surbl.org", ["127.0.0.254"], ["listed", "listed", "grey", "listed", "listed"]),
        ("multi.surbl.org", ["127.0.0.1"], "blocked"),
        ("multi.surbl.org", ["127.0.0.9"], "blocked"),
        ("multi.surbl.org", ["127.0.1.8"], []),
        ("multi.uribl.com", ["127.0.0.2"], ["listed"]),
        ("multi.uribl.com", ["127.0.0.4"], ["grey"]),
        ("multi.uribl.com", ["127.0.0.8"], []),  # red
        ("multi.uribl.com", ["127.0.0.14"], ["listed", "grey"]),
    ],
)
def test_only_documented_codes_are_listings(zone: str, codes: list[str], meaning: object) -> None:
    assert _read(zone, *codes) == meaning


@given(st.lists(st.ip_addresses(v=4), max_size=4))
def test_whatever_comes_back_is_a_known_code_or_a_fault(addresses: list[IPv4Address]) -> None:
    for known in LISTS.values():
        said = known.read(addresses)
        if isinstance(said, Fault):
            assert said.detail
        else:
            assert set(said) <= set(known.codes.values())
            assert not said or any(int(address) >> 24 == 127 for address in addresses)


def test_a_listing_has_the_page_of_its_subject() -> None:
    code = Code("listed", "why")
    address = IPv4Address("5.18.0.25")
    assert ZEN.listing(address, code) == Listing(
        "zen.spamhaus.org", "why", "https://check.spamhaus.org/query/ip/5.18.0.25", "listed"
    )
    assert DBL.listing("a.example", code).url.endswith("/query/domain/a.example")
    assert (
        LISTS["psbl.surriel.com"].listing(address, code).url == "https://psbl.org/remove"
    )  # classify/blocklists.toml's
