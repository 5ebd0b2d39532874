"""The zone that other tests stand on: it answers as a resolver in front of such a zone would."""

from __future__ import annotations

from ipaddress import ip_address

from smtpguard.mailauth.dns import Answer, Mx, Status, Tlsa
from tests.mailauth.zone import Zone

ZONE = Zone(
    {
        "example.com": [
            {"SPF": "v=spf1 -all"},
            {"MX": [20, "B.example.com."]},
            {"MX": [10, "a.example.com"]},
            {"TTL": 60},
        ],
        "both.example.com": [{"SPF": "v=spf1 -all"}, {"TXT": ["v=", "spf1"]}],
        "none.example.com": [{"SPF": "v=spf1 -all"}, {"TXT": "NONE"}],
        "late.example.com": [{"A": "192.0.2.1"}, "TIMEOUT"],
        "part.example.com": [{"A": "192.0.2.1"}, {"MX": [0, "."]}, {"SERVFAIL": "A"}],
        "old.example.com": [{"A": "192.0.2.1"}, "STALE"],
        "alias.example.com": [{"CNAME": "Old.example.com."}],
        "loop.example.com": [{"CNAME": "loop.example.com"}],
        "x.deep.example.com": [{"AAAA": "2001:db8::1"}],
        "*.wild.example.com": [{"TXT": "any"}],
        "there.wild.example.com": [{"A": "192.0.2.1"}],
        "1.2.0.192.in-addr.arpa": [{"PTR": "Host.Example.com."}],
        "_25._tcp.example.com": [{"TLSA": [3, 1, 1, "00ff"]}],
    }
)


async def test_records_have_their_forms() -> None:
    assert await ZONE.mx("Example.com") == Answer(
        Status.POSITIVE, (Mx(10, "a.example.com"), Mx(20, "b.example.com")), ttl=60
    )
    assert (await ZONE.mx("part.example.com")).records == (Mx(0, ""),)
    assert (await ZONE.aaaa("x.deep.example.com")).records == (ip_address("2001:db8::1"),)
    assert (await ZONE.ptr(ip_address("192.0.2.1"))).records == ("host.example.com",)
    assert (await ZONE.tlsa("_25._tcp.example.com")).records == (Tlsa(3, 1, 1, b"\x00\xff"),)


async def test_spf_stands_in_for_txt_where_there_is_none() -> None:
    said = {name: (await ZONE.txt(f"{name}.example.com")).records for name in ("both", "none")}
    assert said == {"both": (b"v=spf1",), "none": ()}
    assert (await ZONE.txt("example.com")).records == (b"v=spf1 -all",)


async def test_faults_are_of_what_has_no_records_or_of_the_type_named() -> None:
    assert (await ZONE.a("late.example.com")).status is Status.POSITIVE
    late, failed = await ZONE.mx("late.example.com"), await ZONE.a("part.example.com")
    assert (late.status, late.fault, failed.fault) == (Status.TEMPFAIL, "timeout", "servfail")
    assert (await ZONE.txt("part.example.com")).status is Status.NODATA


async def test_nothing_is_told_from_nowhere() -> None:
    statuses = [(await ZONE.a(name)).status for name in ("deep.example.com", "no.example.com", "a..com", "a" * 64)]
    assert statuses == [Status.NODATA, *[Status.NXDOMAIN] * 3]


async def test_an_alias_is_followed_and_a_loop_leads_nowhere() -> None:
    answer = await ZONE.a("alias.example.com")
    assert (answer.canonical, answer.is_stale, len(answer.records)) == ("old.example.com", True, 1)
    assert (await ZONE.a("loop.example.com")).status is Status.NODATA


async def test_a_wildcard_stands_for_names_that_are_not_there() -> None:
    assert (await ZONE.txt("a.b.wild.example.com")).records == (b"any",)
    assert (await ZONE.txt("there.wild.example.com")).status is Status.NODATA
    assert (await ZONE.txt("wild.example.com")).status is Status.NODATA
