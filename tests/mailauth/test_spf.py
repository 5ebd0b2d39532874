"""SPF against the sections of RFC 7208; `test_spf_oracles.py` sets it against what others made of them."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mailauth.spf import Result, SpfStatus, SpfSyntaxError, Step, check, parse
from tests.mailauth.zone import Entries, Zone

OURS = "192.0.2.10"
OURS6 = "2001:db8::10"


def spf(record: str) -> list[dict[str, Any]]:
    return [{"TXT": record}]


async def result(zone: Zone | dict[str, Entries], ip: str = OURS, domain: str = "example.com", **who: Any) -> Result:
    """The result for one address; a zone may be given as the records of `domain`'s neighbours."""
    resolver = zone if isinstance(zone, Zone) else Zone(zone)
    address = ip_address(ip)
    return (await check(resolver, [address], domain=domain, **who))[address]


# What a record of example.com gives 192.0.2.10 and 2001:db8::10 in the zone below.
NEIGHBOURS: dict[str, Entries] = {
    "mail.example.com": [{"A": OURS}, {"A": "198.51.100.1"}, {"AAAA": OURS6}],
    "near.example.com": [{"A": "192.0.2.200"}, {"AAAA": "2001:db8::ffff"}],
    "v4.example.com": [{"A": OURS}],
    "far.example.com": [{"A": "198.51.100.1"}, {"AAAA": "2001:db8:1::1"}],
    "mx.example.com": [{"MX": [10, "far.example.com"]}, {"MX": [20, "mail.example.com"]}],
    "mxfar.example.com": [{"MX": [10, "far.example.com"]}],
    "nullmx.example.com": [{"MX": [0, "."]}],
    "text.example.com": [{"TXT": "nothing of SPF"}],
    "late.example.com": ["TIMEOUT"],
    "mxlate.example.com": [{"MX": [10, "late.example.com"]}],
    "pass.example.net": spf("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"),
    "fail.example.net": spf("v=spf1 -all"),
    "soft.example.net": spf("v=spf1 ~all"),
    "neutral.example.net": spf("v=spf1 ?all"),
    "silent.example.net": spf("v=spf1"),
    "broken.example.net": spf("v=spf1 ip4:192.0.2 -all"),
    "twice.example.net": [{"TXT": "v=spf1 -all"}, {"TXT": "v=spf1 +all"}],
    "late.example.net": ["SERVFAIL"],
    "10.2.0.192.in-addr.arpa": [{"PTR": "far.example.com."}, {"PTR": "Mail.Example.COM."}],
    "0.1.0.0" + ".0" * 20 + ".8.b.d.0.1.0.0.2.ip6.arpa": [{"PTR": "v4.example.com"}],
    "192.0.2.10.list.example.com": [{"A": "127.0.0.2"}],
    "10.2.0.192.in-addr.list.example.com": [{"A": "127.0.0.2"}],
    "user.name.list.example.com": [{"A": "127.0.0.2"}],
    "name.user.list.example.com": [{"A": "127.0.0.2"}],
    "mail.example.com.helo.example.com": [{"A": "127.0.0.2"}],
    "mail.example.com.own.example.com": [{"A": "127.0.0.2"}],
    "unknown.own.example.com": [{"A": "127.0.0.2"}],
}
TABLE = [
    # RFC 7208 section, record, the result over IPv4, over IPv6
    ("4.5", "v=spf10 -all", "none", "none"),
    ("4.5", "v=spf1", "neutral", "neutral"),
    ("4.5", "V=SPF1 -ALL", "fail", "fail"),
    ("4.5", " v=spf1 -all", "none", "none"),
    ("4.5", "v=spf1\t-all", "none", "none"),
    ("4.6", "v=spf1 +all what", "permerror", "permerror"),
    ("4.6.1", "v=spf1   -all  ", "fail", "fail"),
    ("4.6.1", "v=spf1 -all\t", "permerror", "permerror"),
    ("4.6.1", "v=spf1 \u00e4ll", "permerror", "permerror"),
    ("4.6.2", "v=spf1 +ip4:192.0.2.10", "pass", "neutral"),
    ("4.6.2", "v=spf1 -ip4:192.0.2.10", "fail", "neutral"),
    ("4.6.2", "v=spf1 ~ip4:192.0.2.10 +all", "softfail", "pass"),
    ("4.6.2", "v=spf1 ?ip6:2001:db8::10 +all", "pass", "neutral"),
    ("4.6.2", "v=spf1 *all", "permerror", "permerror"),
    ("4.7", "v=spf1 ip4:198.51.100.1", "neutral", "neutral"),
    ("5.1", "v=spf1 ~all +all", "softfail", "softfail"),
    ("5.1", "v=spf1 all:example.com", "permerror", "permerror"),
    ("5.1", "v=spf1 -all redirect=pass.example.net", "fail", "fail"),
    ("5.2", "v=spf1 include:pass.example.net -all", "pass", "pass"),
    ("5.2", "v=spf1 -include:pass.example.net +all", "fail", "fail"),
    ("5.2", "v=spf1 include:fail.example.net ~all", "softfail", "softfail"),
    ("5.2", "v=spf1 include:soft.example.net ?all", "neutral", "neutral"),
    ("5.2", "v=spf1 include:neutral.example.net -all", "fail", "fail"),
    ("5.2", "v=spf1 include:silent.example.net -all", "fail", "fail"),
    ("5.2", "v=spf1 include:text.example.com +all", "permerror", "permerror"),
    ("5.2", "v=spf1 include:nowhere.example.com +all", "permerror", "permerror"),
    ("5.2", "v=spf1 include:broken.example.net +all", "permerror", "permerror"),
    ("5.2", "v=spf1 include:twice.example.net +all", "permerror", "permerror"),
    ("5.2", "v=spf1 include:late.example.net +all", "temperror", "temperror"),
    ("5.2", "v=spf1 include", "permerror", "permerror"),
    ("5.2", "v=spf1 include:pass.example.net. -all", "pass", "pass"),
    ("5.3", "v=spf1 a:mail.example.com -all", "pass", "pass"),
    ("5.3", "v=spf1 a -all", "pass", "fail"),
    ("5.3", "v=spf1 A:MAIL.Example.COM -all", "pass", "pass"),
    ("5.3", "v=spf1 a:near.example.com -all", "fail", "fail"),
    ("5.3", "v=spf1 a:near.example.com/24 -all", "pass", "fail"),
    ("5.3", "v=spf1 a:near.example.com//64 -all", "fail", "pass"),
    ("5.3", "v=spf1 a:near.example.com/24//64 -all", "pass", "pass"),
    ("5.3", "v=spf1 a:v4.example.com/0//0 -all", "pass", "fail"),
    ("5.3", "v=spf1 a:nowhere.example.com/0//0 -all", "fail", "fail"),
    ("5.3", "v=spf1 a:late.example.com +all", "temperror", "temperror"),
    ("5.3", "v=spf1 a:v4.example.com/33 -all", "permerror", "permerror"),
    ("5.3", "v=spf1 a:v4.example.com//129 -all", "permerror", "permerror"),
    ("5.3", "v=spf1 a:v4.example.com/024 -all", "permerror", "permerror"),
    ("5.3", "v=spf1 a/24/64 -all", "permerror", "permerror"),
    ("5.3", "v=spf1 a/24/mail.example.com -all", "permerror", "permerror"),
    ("5.3", "v=spf1 a:192.0.2.10 -all", "permerror", "permerror"),
    ("5.4", "v=spf1 mx:mx.example.com -all", "pass", "pass"),
    ("5.4", "v=spf1 mx:mxfar.example.com -all", "fail", "fail"),
    ("5.4", "v=spf1 mx:mxfar.example.com/0//0 -all", "pass", "pass"),
    ("5.4", "v=spf1 mx:v4.example.com -all", "fail", "fail"),  # no implicit MX
    ("5.4", "v=spf1 mx:nullmx.example.com -all", "fail", "fail"),
    ("5.4", "v=spf1 mx:late.example.com +all", "temperror", "temperror"),
    ("5.4", "v=spf1 mx:mxlate.example.com +all", "temperror", "temperror"),
    ("5.5", "v=spf1 ptr -all", "pass", "fail"),
    ("5.5", "v=spf1 ptr:mail.example.com -all", "pass", "fail"),
    ("5.5", "v=spf1 ptr:ail.example.com -all", "fail", "fail"),
    ("5.5", "v=spf1 ptr:far.example.com -all", "fail", "fail"),  # does not lead back
    ("5.5", "v=spf1 ptr:example.com/24 -all", "permerror", "permerror"),
    ("5.5", "v=spf1 ptr/mail.example.com -all", "permerror", "permerror"),
    ("5.6", "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all", "pass", "pass"),
    ("5.6", "v=spf1 ip4:192.0.2.99/24 ip6:2001:db8:ffff::/32 -all", "pass", "pass"),
    ("5.6", "v=spf1 ip4:192.0.2.11 ip6:2001:db8::11 -all", "fail", "fail"),
    ("5.6", "v=spf1 ip4:0.0.0.0/0 -all", "pass", "fail"),
    ("5.6", "v=spf1 ip6:::/0 -all", "fail", "pass"),
    ("5.6", "v=spf1 ip4:192.0.2 -all", "permerror", "permerror"),
    ("5.6", "v=spf1 ip4:192.0.2.010 -all", "permerror", "permerror"),
    ("5.6", "v=spf1 ip4:192.0.2.0/33 -all", "permerror", "permerror"),
    ("5.6", "v=spf1 ip6:192.0.2.0/24 -all", "permerror", "permerror"),
    ("5.6", "v=spf1 ip6:2001:db8::/129 -all", "permerror", "permerror"),
    ("5.6", "v=spf1 ip6:fe80::1%eth0 -all", "permerror", "permerror"),
    ("5.7", "v=spf1 exists:v4.example.com -all", "pass", "pass"),
    ("5.7", "v=spf1 exists:nowhere.example.com -all", "fail", "fail"),
    ("5.7", "v=spf1 exists:late.example.com -all", "temperror", "temperror"),
    ("6", "v=spf1 redirect=pass.example.net redirect=pass.example.net", "permerror", "permerror"),
    ("6", "v=spf1 -all unknown=%{x", "permerror", "permerror"),
    ("6", "v=spf1 ~all some.thing_else-1=a:b/c%{d}", "softfail", "softfail"),
    ("6.1", "v=spf1 redirect=pass.example.net", "pass", "pass"),
    ("6.1", "v=spf1 ip4:192.0.2.10 redirect=fail.example.net", "pass", "fail"),
    ("6.1", "v=spf1 redirect=soft.example.net a:far.example.com", "softfail", "softfail"),
    ("6.1", "v=spf1 redirect=text.example.com", "permerror", "permerror"),
    ("6.1", "v=spf1 redirect=late.example.net", "temperror", "temperror"),
    ("6.1", "v=spf1 redirect:pass.example.net", "permerror", "permerror"),
    ("6.2", "v=spf1 exp= -all", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:%{i}.list.example.com -all", "pass", "fail"),
    ("7.1", "v=spf1 exists:%{ir}.%{v}.list.%{d} -all", "pass", "fail"),
    ("7.1", "v=spf1 exists:%{l}.list.example.com -all", "pass", "pass"),
    ("7.1", "v=spf1 exists:%{lr}.list.example.com -all", "pass", "pass"),
    ("7.1", "v=spf1 exists:%{h}.helo.%{o} -all", "pass", "pass"),
    ("7.1", "v=spf1 exists:%{p}.own.example.com -all", "pass", "pass"),
    ("7.1", "v=spf1 exists:%{i", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:%{i0}.example.com", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:%{c}.example.com", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:%i.example.com", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:%{d}x", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:%{d}.123", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:%%_", "permerror", "permerror"),
    ("7.1", "v=spf1 exists:nowhere.%{d1}%_ -all", "fail", "fail"),
]


@pytest.mark.parametrize(("section", "record", "over4", "over6"), TABLE)
async def test_a_record_gives_what_its_section_says(section: str, record: str, over4: str, over6: str) -> None:
    zone = Zone({**NEIGHBOURS, "example.com": [{"TXT": record.encode()}, {"A": OURS}]})
    who = {"local": "user.name", "helo": "mail.example.com"}
    assert (await result(zone, OURS, **who)).status == over4, section
    assert (await result(zone, OURS6, **who)).status == over6, section


async def test_an_address_in_ipv6_that_stands_for_ipv4_is_ipv4() -> None:
    zone: dict[str, Entries] = {"example.com": spf("v=spf1 ip4:192.0.2.10 ip6:::/0 -all")}
    assert (await result(zone, "::ffff:192.0.2.10")).status == "pass"
    assert (await result(zone, "::ffff:192.0.2.11")).status == "fail"


async def test_several_addresses_have_a_result_each_by_the_address_given() -> None:
    addresses = [ip_address("192.0.2.10"), ip_address("::ffff:192.0.2.11"), ip_address(OURS6)]
    zone = Zone({"example.com": spf("v=spf1 ip4:192.0.2.10 ~ip6:2001:db8::/32 -all")})
    found = await check(zone, addresses, domain="example.com")
    assert {address: one.status.value for address, one in found.items()} == {
        addresses[0]: "pass",
        addresses[1]: "fail",
        addresses[2]: "softfail",
    }


# --- the domain (4.3, 4.4, RFC 8616) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["", "localhost", "a..example.com", "[192.0.2.1]", "a" * 64 + ".com", "x." * 130])
async def test_what_is_no_domain_has_no_spf_and_is_not_asked_for(domain: str) -> None:
    zone = Zone({})
    found = await result(zone, domain=domain)
    assert (found.status, found.ttl, zone.asked) == ("none", 0, [])
    assert found.problem.endswith("is not a domain name of two labels or more")


async def test_a_name_beyond_ascii_is_asked_for_by_its_a_label() -> None:
    found = await result({"xn--bcher-kva.example": spf("v=spf1 ip4:192.0.2.10 -all")}, domain="B\u00fccher.example.")
    assert (found.status, found.domain) == ("pass", "xn--bcher-kva.example")


async def test_a_local_part_beyond_ascii_never_makes_a_name() -> None:
    zone = Zone(
        {"example.com": spf("v=spf1 exists:%{l}.example.com -exists:%{d} ~all"), "*.example.com": [{"A": OURS}]}
    )
    assert (await result(zone, local="j\u00f6rg")).status == "softfail"
    assert ("A", "example.com") in zone.asked
    redirected: dict[str, Entries] = {"example.com": spf("v=spf1 redirect=%{l}.example.com")}
    assert (await result(redirected, local="j\u00f6rg")).status == "permerror"


async def test_strings_of_a_record_are_joined_without_a_blank() -> None:
    assert (await result({"example.com": [{"TXT": ["v=spf1 ip4:192.0.", "2.10 -all"]}]})).status == "pass"
    assert (await result({"example.com": [{"TXT": ["v=spf1", "-all"]}]})).status == "none"


async def test_other_txt_records_do_not_count_and_two_of_spf_do() -> None:
    others = [{"TXT": "v=spf2.0/pra -all"}, {"TXT": "site=1"}]
    one = await result({"example.com": [*others, {"TXT": "v=spf1 -all"}]})
    two = await result({"example.com": [*others, {"TXT": "v=spf1 -all"}, {"TXT": "V=spf1 a"}]})
    assert (one.status, one.record) == ("fail", "v=spf1 -all")
    assert (two.status, two.problem, two.record) == ("permerror", "example.com: 2 SPF records", "v=spf1 -all\nV=spf1 a")


# --- limits (4.6.4) --------------------------------------------------------------------------------------------------


def chain(length: int, last: str = "-all") -> dict[str, Entries]:
    """example.com includes c1 includes c2 ..., with `last` at the end."""
    names = ["example.com", *(f"c{number}.example.com" for number in range(1, length + 1))]
    zone = {name: spf(f"v=spf1 include:{below} ?all") for name, below in pairwise(names)}
    return {**zone, names[-1]: spf(f"v=spf1 {last}")}


async def test_ten_lookups_are_allowed_and_eleven_are_not() -> None:
    ten = await result(chain(10, "ip4:192.0.2.10"))
    assert (ten.status, ten.lookups, ten.problem) == ("pass", 10, "")
    eleven = await result(chain(11, "ip4:192.0.2.10"))
    term = "include:c11.example.com in record of c10.example.com"
    assert (eleven.status, eleven.lookups, eleven.term) == ("permerror", 11, term)
    assert eleven.problem == f"more than 10 DNS look-ups: {term}"


@pytest.mark.parametrize("last", ["redirect=c11.example.com", "a", "mx", "ptr", "exists:%{i}.example.com"])
async def test_each_term_that_asks_counts(last: str) -> None:
    found = await result(chain(10, last))
    assert found.status == "permerror"
    assert found.problem.startswith(f"more than 10 DNS look-ups: {last.split('=')[0]}")


async def test_terms_behind_the_match_and_those_that_ask_nothing_do_not_count() -> None:
    records = "v=spf1 " + "ip4:198.51.100.1 ip6:2001:db8:1::1 " * 10 + "a:v4.example.com " + "a:far.example.com " * 20
    found = await result({**NEIGHBOURS, "example.com": spf(records + "-all exp=why.example.com")})
    assert (found.status, found.lookups) == ("pass", 1)


async def test_a_loop_ends_at_the_limit() -> None:
    include = await result({"example.com": spf("v=spf1 include:example.com -all")})
    redirect = await result({"example.com": spf("v=spf1 redirect=example.com")})
    assert {include.status, redirect.status} == {SpfStatus.PERMERROR}


def hosts(count: int, own: int) -> dict[str, Entries]:
    """An MX set of so many hosts, the `own`th of which is ours."""
    zone: dict[str, Entries] = {
        f"h{n}.example.com": [{"A": OURS if n == own else "198.51.100.1"}] for n in range(count)
    }
    return {**zone, "example.com": [*spf("v=spf1 mx -all"), *({"MX": [n, f"h{n}.example.com"]} for n in range(count))]}


async def test_ten_mx_hosts_are_allowed_and_eleven_are_not_wherever_ours_is() -> None:
    assert (await result(hosts(10, 9))).status == "pass"
    eleven = await result(hosts(11, 0))
    assert (eleven.status, eleven.problem) == ("permerror", "more than 10 MX hosts: mx")


async def test_only_ten_names_of_an_address_are_looked_at() -> None:
    def names(own: int) -> dict[str, Entries]:
        zone = hosts(11, own)
        zone["example.com"] = spf("v=spf1 ptr -all")
        zone["10.2.0.192.in-addr.arpa"] = [{"PTR": f"h{n}.example.com"} for n in range(11)]
        return zone

    assert (await result(names(9))).status == "pass"
    assert (await result(names(10))).status == "fail"


async def test_two_void_lookups_are_allowed_and_three_are_not() -> None:
    two = await result({"example.com": spf("v=spf1 a:no.example.com mx:no.example.com -all")})
    assert (two.status, two.voids) == ("fail", 2)
    three = await result({"example.com": spf("v=spf1 a:no.example.com mx:no.example.com exists:no.example.org -all")})
    assert (three.status, three.voids) == ("permerror", 3)
    assert three.problem == "more than 2 void DNS look-ups: A of no.example.org"
    assert three.term == "exists:no.example.org"


async def test_a_null_mx_is_not_void() -> None:
    found = await result({"example.com": [*spf("v=spf1 mx -all"), {"MX": [0, "."]}]})
    assert (found.status, found.voids) == ("fail", 0)


async def test_a_name_with_no_address_of_our_kind_is_void() -> None:
    found = await result({**NEIGHBOURS, "example.com": spf("v=spf1 a:v4.example.com -all")}, OURS6)
    assert [step.outcome for step in found.trace] == ["void", "match"]


# --- what could not be known (2.6.6) ---------------------------------------------------------------------------------


async def test_a_fault_of_the_domain_itself_is_temperror() -> None:
    found = await result({"example.com": ["SERVFAIL"]})
    assert (found.status, found.term, found.ttl) == ("temperror", "", 5)
    assert found.problem == "TXT of example.com could not be looked up (servfail)"


async def test_a_fault_below_names_the_term() -> None:
    zone: dict[str, Entries] = {
        "example.com": spf("v=spf1 include:b.example.com ~all"),
        "b.example.com": spf("v=spf1 a:late.example.com -all"),
        "late.example.com": ["TIMEOUT"],
    }
    found = await result(zone)
    assert (found.status, found.term) == ("temperror", "a:late.example.com in record of b.example.com")
    assert found.problem == "A of late.example.com could not be looked up (timeout)"
    assert found.trace == (
        Step(0, "example.com", "include:b.example.com", "temperror", 1),
        Step(1, "b.example.com", "a:late.example.com", "temperror", 2),
    )


@pytest.mark.parametrize("record", ["v=spf1 ptr -all", "v=spf1 exists:%{p}.list.example.com -all"])
@pytest.mark.parametrize("late", ["10.2.0.192.in-addr.arpa", "v4.example.com"])
async def test_a_fault_about_our_own_name_is_not_a_fail(record: str, late: str) -> None:
    zone: dict[str, Entries] = {"example.com": spf(record), "10.2.0.192.in-addr.arpa": [{"PTR": "v4.example.com"}]}
    assert (await result({**zone, late: ["TIMEOUT"]})).status == "temperror"


async def test_a_fault_that_nothing_hangs_on_is_not_met() -> None:
    zone: dict[str, Entries] = {"example.com": spf("v=spf1 ip4:192.0.2.10 a:late.example.com -all")}
    assert (await result({**zone, "late.example.com": ["TIMEOUT"]})).status == "pass"


# --- macros (7) ------------------------------------------------------------------------------------------------------

# RFC 7208 7.4: strong-bad@email.example.com from 192.0.2.3, the last two from 2001:db8::cb01
EXPANSIONS = [
    ("%{s}", "strong-bad@email.example.com"),
    ("%{o}", "email.example.com"),
    ("%{d}", "email.example.com"),
    ("%{d4}", "email.example.com"),
    ("%{d3}", "email.example.com"),
    ("%{d2}", "example.com"),
    ("%{d1}", "com"),
    ("%{dr}", "com.example.email"),
    ("%{d2r}", "example.email"),
    ("%{l}", "strong-bad"),
    ("%{l-}", "strong.bad"),
    ("%{lr}", "strong-bad"),
    ("%{lr-}", "bad.strong"),
    ("%{l1r-}", "strong"),
    ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
    ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
    ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
    ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
    ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
    ("%{D99999999999999999999}", "email.example.com"),
    ("%{S}", "strong-bad%40email.example.com"),
    ("%%%_%-", "% %20"),
    ("%{H}", "a%2Fb%20c%7E".replace("%7E", "~")),
    ("%{c} %{r} %{t} %{p}", "192.0.2.3 mx.example.org 1700000000 unknown"),
    ("no macro. Not one", "no macro. Not one"),
]


async def expanded(text: str, ip: str = "192.0.2.3") -> Result:
    zone: dict[str, Entries] = {
        "email.example.com": spf("v=spf1 -all exp=why.example.com"),
        "why.example.com": [{"TXT": text}],
    }
    who = {"local": "strong-bad", "helo": "a/b c~", "receiver": "mx.example.org", "now": 1_700_000_000.9}
    return await result(zone, ip, "email.example.com", **who)


@pytest.mark.parametrize(("text", "said"), EXPANSIONS)
async def test_macros_expand_as_in_the_examples(text: str, said: str) -> None:
    assert (await expanded(text)).explanation == said


async def test_a_sender_without_a_local_part_is_postmaster() -> None:
    zone: dict[str, Entries] = {
        "example.com": spf("v=spf1 -all exp=why.example.com"),
        "why.example.com": [{"TXT": "%{s}"}],
    }
    assert (await result(zone, local="")).explanation == "postmaster@example.com"


async def test_an_ipv6_address_expands_to_nibbles_and_for_people_to_text() -> None:
    text = "%{ir}.%{v}._spf.%{d2} %{c}"
    nibbles = "1.0.b.c." + "0." * 20 + "8.b.d.0.1.0.0.2"
    said = (await expanded(text, "2001:db8::cb01")).explanation
    assert said == f"{nibbles}.ip6._spf.example.com 2001:db8::cb01"


async def test_our_name_is_the_domain_itself_before_one_below_it_before_another() -> None:
    async def own(*names: str) -> str:
        zone: dict[str, Entries] = {name: [{"A": OURS}] for name in names}
        zone["10.2.0.192.in-addr.arpa"] = [{"PTR": name} for name in names]
        zone["example.com"] = [*zone.get("example.com", ()), *spf("v=spf1 -all exp=why.example.com")]
        return (await result({**zone, "why.example.com": [{"TXT": "%{p}"}]})).explanation

    assert await own("x.example.org", "a.example.com", "b.example.com", "example.com") == "example.com"
    assert await own("x.example.org", "b.example.com", "a.example.com") == "b.example.com"
    assert await own("x.example.org", "y.example.org") == "x.example.org"


async def test_a_long_name_loses_labels_on_its_left() -> None:
    label = "abcdefghi." * 6
    zone = Zone({"example.com": spf(f"v=spf1 exists:%{{l}}.{label}%{{l}}.{label}{label}{label}example.com -all")})
    await result(zone, local="0123456789")
    name = "abcdefghi." * 5 + "0123456789." + label * 3 + "example.com"
    assert len(name) == 252
    assert zone.asked[-1] == ("A", name)
    zone = Zone(
        {"example.com": spf(f"v=spf1 exists:%{{l}}.{label * 4}example -all")}
    )  # 248 octets behind the local part
    await result(zone, local="a.bcde")
    await result(zone, local="a.bcdef")
    assert [name.partition(".abc")[0] for kind, name in zone.asked if kind == "A"] == ["bcde", "bcdef"]
    zone = Zone({"example.com": spf("v=spf1 exists:%{l} ~all")})
    assert (await result(zone, local="a" * 300)).status == "softfail"


@pytest.mark.parametrize(
    ("terms", "uses_sender"),
    [("a:%{l}.example.com ip4:192.0.2.10", True), ("ip4:192.0.2.10 a:%{s}.example.com", False), ("a:%{o} +all", False)],
)
async def test_a_result_tells_whether_it_rests_on_the_local_part(terms: str, uses_sender: bool) -> None:
    assert (await result({"example.com": spf(f"v=spf1 {terms}")})).uses_sender is uses_sender


# --- the explanation (6.2) -------------------------------------------------------------------------------------------

WHY: dict[str, Entries] = {
    "why.example.com": [{"TXT": "Not %{i}."}],
    "two.example.com": [{"TXT": "one"}, {"TXT": "two"}],
    "late.example.com": ["TIMEOUT"],
    "odd.example.com": [{"TXT": "%{x}"}],
    "octets.example.com": [{"TXT": b"caf\xc3\xa9"}],
    "own.example.com": [{"TXT": "Not %{p}."}],
    "10.2.0.192.in-addr.arpa": ["TIMEOUT"],
    "bare.example.com": spf("v=spf1 -all"),
    "said.example.com": spf("v=spf1 -all exp=why.example.com"),
    "broken.example.com": spf("v=spf1 -all exp=odd.example.com"),
}


@pytest.mark.parametrize(
    ("record", "status", "said"),
    [
        ("-all exp=why.example.com", "fail", "Not 192.0.2.10."),
        ("exp=why.%{d2} -all", "fail", "Not 192.0.2.10."),
        ("~all exp=why.example.com", "softfail", ""),
        ("-all exp=two.example.com", "fail", ""),
        ("-all exp=late.example.com", "fail", ""),
        ("-all exp=odd.example.com", "fail", ""),
        ("-all exp=octets.example.com", "fail", ""),
        ("-all exp=no.example.com", "fail", ""),
        ("-all exp=own.example.com", "fail", ""),
        ("redirect=bare.example.com exp=why.example.com", "fail", ""),
        ("redirect=said.example.com", "fail", "Not 192.0.2.10."),
        ("-include:said.example.com -all exp=why.example.com", "fail", "Not 192.0.2.10."),
        ("include:said.example.com -all", "fail", ""),
    ],
)
async def test_the_explanation_is_that_of_the_record_that_failed(record: str, status: str, said: str) -> None:
    found = await result({**WHY, "example.com": spf(f"v=spf1 {record}")})
    assert (found.status, found.explanation) == (status, said)


async def test_an_explanation_has_an_end() -> None:
    zone: dict[str, Entries] = {
        "example.com": spf("v=spf1 -all exp=why.example.com"),
        "why.example.com": [{"TXT": "%{s}" * 99}],
    }
    assert (await result(zone)).explanation == ("postmaster@example.com" * 99)[:500]


async def test_looking_for_the_explanation_changes_nothing_else() -> None:
    zone = Zone(
        {"example.com": [*spf("v=spf1 a:x.example.org mx:x.example.org -all exp=%{p}.example.com"), {"TTL": 50}]},
        ttl=90,
    )
    found = await result(zone)
    assert (found.status, found.voids, found.lookups, found.ttl) == ("fail", 2, 2, 50)
    assert zone.asked[-1] == ("TXT", "unknown.example.com")


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_the_trace_is_the_tree_in_reading_order() -> None:
    zone: dict[str, Entries] = {
        "example.com": spf("v=spf1 ip4:198.51.100.1 include:b.example.com a:no.example.com redirect=c.example.com"),
        "b.example.com": spf("v=spf1 ip6:2001:db8::1 -ip4:192.0.2.10 ip4:192.0.2.11 ~all"),
        "c.example.com": spf("v=spf1 ~all"),
    }
    found = await result(zone)
    assert found.trace == (
        Step(0, "example.com", "ip4:198.51.100.1", "no match", 0),
        Step(0, "example.com", "include:b.example.com", "no match", 1),
        Step(1, "b.example.com", "ip6:2001:db8::1", "no match", 1),
        Step(1, "b.example.com", "-ip4:192.0.2.10", "match", 1),
        Step(0, "example.com", "a:no.example.com", "void", 2),
        Step(0, "example.com", "redirect=c.example.com", "match", 3),
        Step(1, "c.example.com", "~all", "match", 3),
    )
    assert (found.status, found.term, found.lookups) == ("softfail", "~all in record of c.example.com", 3)


async def test_the_term_that_decided_is_the_innermost() -> None:
    zone: dict[str, Entries] = {
        "example.com": spf("v=spf1 include:b.example.com -all"),
        "b.example.com": spf("v=spf1 ?include:c.example.com include:d.example.com"),
        "c.example.com": spf("v=spf1 ip4:192.0.2.10"),
        "d.example.com": spf("v=spf1 a:mail.example.com"),
        "mail.example.com": [{"A": "192.0.2.11"}],
    }
    assert (await result(zone, "192.0.2.11")).term == "a:mail.example.com in record of d.example.com"
    assert (await result(zone, "192.0.2.10")).term == "-all"
    assert (await result({"example.com": spf("v=spf1 ip4:192.0.2.11")})).term == ""


async def test_ttl_and_staleness_are_those_of_the_weakest_answer() -> None:
    zone: dict[str, Entries] = {
        "example.com": [*spf("v=spf1 include:b.example.com a:v4.example.com -all"), {"TTL": 3600}],
        "b.example.com": [*spf("v=spf1 ip4:192.0.2.11 -all"), {"TTL": 60}],
        "v4.example.com": [{"A": OURS}, {"TTL": 120}, "STALE"],
    }
    last = await result(zone)
    first = await result(zone, "192.0.2.11")
    assert (last.ttl, last.is_stale, first.ttl, first.is_stale) == (60, True, 60, False)


@pytest.mark.parametrize(
    ("record", "term", "offset", "said"),
    [
        ("v=spf1 a:192.0.2.1 -all", "a:192.0.2.1", 7, "an address is not a domain: write ip4:192.0.2.1"),
        ("v=spf1 mx ip4:2001:db8::1", "ip4:2001:db8::1", 10, "2001:db8::1 is not an IPv4 address: write ip6:"),
        ("v=spf1 ip6:192.0.2.1", "ip6:192.0.2.1", 7, "192.0.2.1 is not an IPv6 address: write ip4:"),
        ("v=spf1 ip4:192.0.2.300", "ip4:192.0.2.300", 7, "192.0.2.300 is not an IPv4 address"),
        ("v=spf1 ipv4:192.0.2.1", "ipv4:192.0.2.1", 7, "there is no mechanism ipv4: write ip4:"),
        ("v=spf1 redirect:b.example", "redirect:b.example", 7, "there is no mechanism redirect: write redirect="),
        ("v=spf1 -al", "-al", 7, "there is no mechanism al"),
        ("v=spf1 include:", "include:", 7, "a domain is missing"),
        ("v=spf1 include", "include", 7, "include: wants a domain"),
        ("v=spf1 include:example", "include:example", 7, "example is not a domain name of two labels or more"),
        ("v=spf1 all/8", "all/8", 7, "/8 may not follow all"),
        ("v=spf1 a/24/64", "a/24/64", 7, "may not follow a: two slashes stand before the prefix length of IPv6"),
        ("v=spf1 a/40", "a/40", 7, "a prefix length is at most 32"),
        ("v=spf1 ip4:192.0.2.0/24/8", "ip4:192.0.2.0/24/8", 7, "ip4: wants an address and at most one prefix length"),
        ("v=spf1 a:%{z}.example", "a:%{z}.example", 7, "macro letter z is not known here"),
        ("v=spf1 a:%{d0}", "a:%{d0}", 7, "%{d0} keeps 0 parts"),
        ("v=spf1 a:x%y.example", "a:x%y.example", 7, "%y.example is not a macro"),
        ("v=spf1 mx -all;", "-all;", 10, "neither a mechanism nor a modifier"),
        ("v=spf1 a\r -all", "a\r", 7, "a\\r: a record may hold only printable ASCII and spaces"),
        ("v=spf1 \u201ca\u201d", "\u00e2\u0080\u009ca\u00e2\u0080\u009d", 7, "a record may hold only printable ASCII"),
        ("v=spf1 exp=a.example exp=b.example", "exp=b.example", 21, "a second exp="),
        ("spf1 -all", "spf1 -all", 0, "the record does not begin with v=spf1 and a space"),
    ],
)
def test_a_syntax_error_names_its_term(record: str, term: str, offset: int, said: str) -> None:
    with pytest.raises(SpfSyntaxError) as refused:
        parse(record)
    assert (refused.value.term, refused.value.offset) == (term, offset)
    assert said in str(refused.value)
    assert str(refused.value).isascii()


def test_a_record_keeps_its_terms_with_their_places() -> None:
    record = parse(b"v=spf1  MX/24//64 ?ip4:192.0.2.7/24 x=1 redirect=%{d}.example.net")
    mx, ip4, unknown, redirect = record.terms
    assert [term.offset for term in record.terms] == [8, 18, 36, 40]
    assert [term.name for term in record.terms] == ["mx", "ip4", "x", "redirect"]
    assert (mx.prefix4, mx.prefix6, str(ip4.network), ip4.status) == (24, 64, "192.0.2.0/24", "neutral")  # type: ignore[union-attr]
    assert record.redirect is redirect
    assert record.explanation is None
    assert unknown.text == "x=1"


@settings(max_examples=200)
@given(st.binary(max_size=80).map(lambda octets: b"v=spf1 " + octets))
def test_whatever_a_record_holds_all_of_it_is_read_or_one_term_refused(record: bytes) -> None:
    texts = [text for text in record.decode("latin-1").split(" ")[1:] if text]
    try:
        read = [term.text for term in parse(record).terms]
    except SpfSyntaxError as error:
        read = [text if text != error.term else error.term for text in texts]
    assert read == texts
