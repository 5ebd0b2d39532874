"""DMARC: records, discovery by both RFCs, alignment. Sections are those of RFC 9989 unless another is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mailauth import domains
from smtpguard.mailauth.dmarc import Discovered, Mode, aligned, by_suffix, org, parse, walk
from tests.mailauth.zone import Entries, Zone


def zone(**records: str | list[Any]) -> Zone:
    """A zone from `_dmarc` records by domain, dots written as `__`; a list is taken as entries of the name."""
    data: dict[str, Entries] = {}
    for name, value in records.items():
        domain = name.replace("__", ".")
        data[f"_dmarc.{domain}"] = [{"TXT": value}] if isinstance(value, str) else value
        data.setdefault(domain, [{"A": "192.0.2.1"}])
    return Zone(data)


# --- records (4.7, 4.8) ----------------------------------------------------------------------------------------------


def test_a_record_has_its_tags() -> None:
    record = (
        b"v=DMARC1; p=reject; sp = quarantine ;np=none; adkim=s; aspf=S; t=y; psd=n; fo=1;"
        b" rua=mailto:a@example.com!10m, https://example.com/r;"
    )
    policy = parse(record, domain="example.com", ttl=60)
    assert policy is not None
    assert (policy.p, policy.sp, policy.np, policy.adkim, policy.aspf) == ("reject", "quarantine", "none", "s", "s")
    assert (policy.t, policy.psd, policy.pct, policy.ttl, policy.domain) == (True, "n", 100, 60, "example.com")
    assert policy.rua == ("mailto:a@example.com!10m", "https://example.com/r")
    assert policy.record == record.decode()
    assert policy.problems == ()


def test_what_is_not_given_has_its_default() -> None:
    policy = parse(b"v=DMARC1;p=none")
    assert policy is not None
    assert (policy.sp, policy.np, policy.adkim, policy.aspf, policy.t, policy.psd) == ("", "", "r", "r", False, "u")


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"p=none; v=DMARC1",
        b"v=DMARC2; p=none",
        b"v=dmarc1; p=none",
        b"v=DMARC1 p=none",
        b"v=DMARC10; p=none",
        b" v=DMARC1; p=none",
        b'"v=DMARC1; p=none"',
        b"v=spf1 -all",
    ],
)
def test_what_does_not_begin_with_the_version_is_no_record(record: bytes) -> None:
    assert parse(record) is None


@pytest.mark.parametrize("record", [b"V=DMARC1;p=reject", b"v = DMARC1 ; p = reject", b"v\t=\tDMARC1\t;P=Reject;"])
def test_case_and_blanks_are_free_where_the_grammar_lets_them(record: bytes) -> None:
    policy = parse(record)
    assert policy is not None
    assert policy.p == "reject"


MENDED = [
    # tags behind v=DMARC1, p that counts, sp that counts, what is wrong
    ("p=reject; new=1; x_y=2", "reject", "", ()),
    ("p=reject; foo", "reject", "", ("foo is not a tag",)),
    ("p=reject; ;", "reject", "", ()),
    ("p=reject; p=none", "reject", "", ("there is a second p=",)),
    ("p=reject; adkim=strict", "reject", "", ("adkim=strict is not known",)),
    (
        "p=reject; aspf=; t=maybe; psd=x",
        "reject",
        "",
        ("aspf= is not known", "t=maybe is not known", "psd=x is not known"),
    ),
    ("p=reject; rua=a@example.com", "reject", "", ("rua: a@example.com is not a URI",)),
    ("p=reject; rua=mailto:b, mailto:a@example.com", "reject", "", ("rua: mailto:b is not a URI",)),
    ("rua=mailto:a@example.com", "none", "", ("p= is missing: it counts as p=none",)),
    ("p=block; rua=mailto:a@b", "none", "", ("p=block is not none, quarantine or reject: it counts as p=none",)),
    (
        "p=reject; sp=no; rua=mailto:a@b",
        "none",
        "",
        ("sp=no is not none, quarantine or reject: it counts as p=none",),
    ),
    (
        "p=reject; sp=none; np=; rua=mailto:a@b",
        "none",
        "",
        ("np= is not none, quarantine or reject: it counts as p=none",),
    ),
    ("p=r\u00e4ject; rua=mailto:a@b", "none", "", ("p=r\u00e4ject is not a tag", "p= is missing: it counts as p=none")),
]


@pytest.mark.parametrize(("tags", "p", "sp", "problems"), MENDED)
def test_mistakes_are_told_and_what_they_leave_holds(tags: str, p: str, sp: str, problems: tuple[str, ...]) -> None:
    policy = parse(f"v=DMARC1; {tags}".encode("latin-1"))
    assert policy is not None
    shown = tuple(problem.replace("\u00e4", "\\xe4") for problem in problems)
    assert (policy.p, policy.sp, policy.problems) == (p, sp, shown)


@pytest.mark.parametrize("tags", ["", "sp=reject", "p=", "p=block; rua=nobody", "p=reject; sp=no", "p=none; np=no"])
def test_without_a_valid_policy_and_without_reports_no_receiver_applies_it(tags: str) -> None:
    assert parse(f"v=DMARC1; {tags}".encode()) is None


def test_rfc_7489_knows_pct_and_none_of_np_t_psd() -> None:
    policy = parse(b"v=DMARC1; p=reject; np=what; t=y; psd=y; pct=30", view="suffix")
    assert policy is not None
    assert (policy.np, policy.t, policy.psd, policy.pct, policy.problems) == ("", False, "u", 30, ())
    wrong = parse(b"v=DMARC1; p=reject; pct=101", view="suffix")
    assert wrong is not None
    assert (wrong.pct, wrong.problems) == (100, ("pct=101 is not known",))


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_whatever_stands_in_a_record_it_is_read_or_not(octets: bytes) -> None:
    policy = parse(b"v=DMARC1; p=reject; " + octets.lower().replace(b"p", b"q"))
    assert policy is not None
    assert policy.p == "reject"


# --- the tree walk (4.10) --------------------------------------------------------------------------------------------


async def test_a_walk_asks_at_the_name_and_then_upwards() -> None:
    found = await walk(zone(), "a.mail.example.com")
    assert found.asked == tuple(f"_dmarc.{n}" for n in ("a.mail.example.com", "mail.example.com", "example.com", "com"))
    assert (found.policy, found.organizational, found.disposition) == (None, "a.mail.example.com", "none")


async def test_a_walk_from_a_long_name_asks_eight_times() -> None:
    # 4.10: the example of the RFC
    found = await walk(zone(), "a.b.c.d.e.f.g.h.i.j.mail.example.com")
    assert found.asked == tuple(
        f"_dmarc.{name}"
        for name in (
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            "g.h.i.j.mail.example.com",
            "h.i.j.mail.example.com",
            "i.j.mail.example.com",
            "j.mail.example.com",
            "mail.example.com",
            "example.com",
            "com",
        )
    )


async def test_eight_labels_are_asked_one_by_one() -> None:
    found = await walk(zone(), "a.b.c.d.e.f.example.com")
    assert [name.count(".") for name in found.asked] == [8, 7, 6, 5, 4, 3, 2, 1]


Q, R, N = "v=DMARC1; p=quarantine", "v=DMARC1; p=reject", "v=DMARC1; p=none"
WALKS: list[Any] = [
    # records, From domain, organizational domain, where the policy stands, the tag that applies, disposition
    ({"example__com": R}, "example.com", "example.com", "example.com", "p", "reject"),
    ({"example__com": R}, "mail.example.com", "example.com", "example.com", "p", "reject"),
    ({"example__com": R + "; sp=none"}, "example.com", "example.com", "example.com", "p", "reject"),
    ({"example__com": R + "; sp=none"}, "mail.example.com", "example.com", "example.com", "sp", "none"),
    # 4.10.1: the From domain's own comes first, the organizational domain's next, none between them
    ({"example__com": R, "a__example__com": Q}, "a.example.com", "example.com", "a.example.com", "p", "quarantine"),
    ({"example__com": R, "b__example__com": Q}, "a.b.example.com", "example.com", "example.com", "p", "reject"),
    # 4.10.2: psd=n is the organizational domain
    (
        {"example__com": R, "b__example__com": Q + "; psd=n"},
        "a.b.example.com",
        *["b.example.com"] * 2,
        "p",
        "quarantine",
    ),
    ({"example__com": R + "; psd=n", "com": N}, "a.example.com", "example.com", "example.com", "p", "reject"),
    ({"example__com": R, "a__example__com": Q + "; psd=n"}, "a.example.com", *["a.example.com"] * 2, "p", "quarantine"),
    # 4.10.2: psd=y makes it the name below
    ({"bank": R + "; psd=y", "example__bank": Q}, "a.example.bank", "example.bank", "example.bank", "p", "quarantine"),
    ({"bank": R + "; psd=y; sp=quarantine"}, "a.example.bank", "example.bank", "bank", "sp", "quarantine"),
    ({"bank": R + "; psd=y"}, "example.bank", "example.bank", "bank", "p", "reject"),
    ({"co__bank": R + "; psd=y", "bank": Q}, "a.b.co.bank", "b.co.bank", "co.bank", "p", "reject"),
    # ... but not where the walk began
    ({"bank": R + "; psd=y; sp=none"}, "bank", "bank", "bank", "p", "reject"),
    # psd=u, and what is no value of psd, say nothing: the fewest labels win
    ({"com": N + "; psd=u", "example__com": R}, "a.example.com", "com", "com", "p", "none"),
    ({"com": N + "; psd=maybe"}, "a.example.com", "com", "com", "p", "none"),
    # records that are none are passed by
    (
        {"a__example__com": "v=spf1 -all", "example__com": R},
        "a.example.com",
        "example.com",
        "example.com",
        "p",
        "reject",
    ),
    (
        {"a__example__com": [{"TXT": Q}, {"TXT": N}], "example__com": R},
        "a.example.com",
        *["example.com"] * 2,
        "p",
        "reject",
    ),
    ({"example__com": [{"TXT": "site=1"}, {"TXT": R}]}, "example.com", "example.com", "example.com", "p", "reject"),
    # 4.10.1: a record without a valid policy is found, and not applied
    ({"a__example__com": "v=DMARC1; sp=none", "example__com": R}, "a.example.com", "example.com", "", "p", "none"),
    ({"a__example__com": "v=DMARC1; psd=n", "example__com": R}, "a.example.com", "a.example.com", "", "p", "none"),
    # 4.7 t=: one level lower
    ({"example__com": R + "; t=y"}, "example.com", "example.com", "example.com", "p", "quarantine"),
    ({"example__com": Q + "; t=y"}, "example.com", "example.com", "example.com", "p", "none"),
    ({"example__com": N + "; t=y; sp=reject"}, "a.example.com", "example.com", "example.com", "sp", "quarantine"),
    # pct= is gone
    ({"example__com": R + "; pct=0"}, "example.com", "example.com", "example.com", "p", "reject"),
    # 4.7 np=: of a name that is not there
    ({"example__com": N + "; np=reject"}, "no.example.com", "example.com", "example.com", "np", "reject"),
    (
        {"example__com": N + "; sp=quarantine; np=reject; t=y"},
        "no.example.com",
        *["example.com"] * 2,
        "np",
        "quarantine",
    ),
    ({"example__com": N + "; sp=quarantine"}, "no.example.com", "example.com", "example.com", "sp", "quarantine"),
    (
        {"example__com": R + "; np=none", "a__example__com": "text"},
        "a.example.com",
        *["example.com"] * 2,
        "p",
        "reject",
    ),
    ({"bank": N + "; psd=y; np=reject"}, "a.example.bank", "example.bank", "bank", "np", "reject"),
]


@pytest.mark.parametrize(("records", "domain", "organization", "stands", "applies", "disposition"), WALKS)
async def test_what_a_tree_walk_finds(
    records: dict[str, str | list[Any]], domain: str, organization: str, stands: str, applies: str, disposition: str
) -> None:
    found = await walk(zone(**records), domain)
    assert found.organizational == organization
    assert (found.policy.domain if found.policy else "") == stands
    assert (found.applies, found.disposition, found.fault) == (applies, disposition, "")
    assert await org(zone(**records), domain) == organization


async def test_a_walk_ends_at_psd() -> None:
    found = await walk(zone(example__com=R + "; psd=n", com=N), "a.example.com")
    assert found.asked == ("_dmarc.a.example.com", "_dmarc.example.com")


async def test_whether_a_name_is_there_is_asked_only_where_it_matters() -> None:
    same = await walk(zone(example__com=R + "; np=reject"), "no.example.com")
    own = await walk(zone(no__example__com=R + "; np=none"), "no.example.com")
    other = await walk(zone(example__com=R + "; np=none"), "no.example.com")
    assert [found.asked[-1] for found in (same, own, other)] == ["_dmarc.com", "_dmarc.com", "no.example.com"]


async def test_an_empty_non_terminal_is_there() -> None:
    data: dict[str, Entries] = {
        "_dmarc.example.com": [{"TXT": N + "; np=reject"}],
        "x.a.example.com": [{"A": "192.0.2.1"}],
    }
    assert (await walk(Zone(data), "a.example.com")).applies == "p"


async def test_a_name_beyond_ascii_is_asked_for_by_its_a_label() -> None:
    found = await walk(zone(**{"xn--bcher-kva__example": R}), "B\u00fccher.Example.")
    assert (found.organizational, found.disposition) == ("xn--bcher-kva.example", "reject")


@pytest.mark.parametrize("domain", ["", "a..example.com", "a" * 64 + ".example.com"])
async def test_what_is_no_domain_is_not_asked_for(domain: str) -> None:
    empty = zone()
    for found in (await walk(empty, domain), await by_suffix(empty, domain)):
        assert (found.policy, found.organizational, found.ttl, found.asked) == (None, "", 0, ())
        assert found.problems == (f"{domain} is no domain name",)
    assert await org(empty, domain) == ""
    assert empty.asked == []


# --- what the DNS cannot say now -------------------------------------------------------------------------------------


async def test_a_fault_at_the_from_domain_hides_the_policy() -> None:
    found = await walk(zone(a__example__com=["TIMEOUT"], example__com=R), "a.example.com")
    assert (found.policy, found.organizational) == (None, "")
    assert found.fault == "TXT of _dmarc.a.example.com could not be looked up (timeout)"
    suffixed = await by_suffix(zone(a__example__com=["SERVFAIL"], example__com=R), "a.example.com")
    assert (suffixed.policy, suffixed.organizational) == (None, "example.com")
    assert suffixed.fault == "TXT of _dmarc.a.example.com could not be looked up (servfail)"


async def test_a_fault_above_hides_only_the_organizational_domain() -> None:
    records = zone(a__example__com=Q, example__com=["SERVFAIL"])
    found = await walk(records, "a.example.com")
    assert (found.organizational, found.disposition, bool(found.fault)) == ("", "quarantine", True)
    assert await org(records, "a.example.com") == ""
    assert (await by_suffix(records, "a.example.com")).fault == ""


async def test_a_fault_above_a_record_that_may_not_be_the_one_hides_the_policy() -> None:
    found = await walk(zone(b__example__com=Q, example__com=["SERVFAIL"]), "a.b.example.com")
    assert (found.policy, found.organizational, bool(found.fault)) == (None, "", True)


async def test_a_fault_about_the_name_itself_is_told() -> None:
    records = Zone({"_dmarc.example.com": [{"TXT": N + "; np=reject"}], "a.example.com": ["TIMEOUT"]})
    found = await walk(records, "a.example.com")
    assert found.fault.startswith("TXT of _dmarc") is False
    assert found.fault == "A of a.example.com could not be looked up (timeout)"


# --- by public suffix list (RFC 7489) --------------------------------------------------------------------------------

SUFFIXED: list[Any] = [
    ({"example__com": R}, "a.b.example.com", "example.com", "example.com", "p", "reject"),
    ({"example__com": R + "; sp=none"}, "a.b.example.com", "example.com", "example.com", "sp", "none"),
    ({"example__com": R + "; sp=none"}, "example.com", "example.com", "example.com", "p", "reject"),
    ({"a__example__com": Q, "example__com": R}, "a.example.com", "example.com", "a.example.com", "p", "quarantine"),
    # 6.6.3 (5): several at the From domain end it, where RFC 9989 goes on
    ({"a__example__com": [{"TXT": Q}, {"TXT": N}], "example__com": R}, "a.example.com", "example.com", "", "p", "none"),
    ({"example__co__uk": R, "co__uk": Q}, "a.example.co.uk", "example.co.uk", "example.co.uk", "p", "reject"),
    ({"co__uk": Q}, "a.example.co.uk", "example.co.uk", "", "p", "none"),
    ({"co__uk": Q}, "co.uk", "co.uk", "co.uk", "p", "quarantine"),
    ({"example__com": R + "; t=y; np=none"}, "no.example.com", "example.com", "example.com", "p", "reject"),
    ({"example__com": R + "; pct=50"}, "example.com", "example.com", "example.com", "p", "reject"),
    ({"example__com": R + "; pct=0"}, "example.com", "example.com", "example.com", "p", "quarantine"),
    ({"example__com": R + "; psd=n", "a__example__com": "text"}, "a.example.com", *["example.com"] * 2, "p", "reject"),
]


@pytest.mark.parametrize(("records", "domain", "organization", "stands", "applies", "disposition"), SUFFIXED)
async def test_what_the_suffix_list_finds(
    records: dict[str, str | list[Any]], domain: str, organization: str, stands: str, applies: str, disposition: str
) -> None:
    found = await by_suffix(zone(**records), domain)
    assert found.organizational == organization
    assert (found.policy.domain if found.policy else "") == stands
    assert (found.applies, found.disposition) == (applies, disposition)


async def test_the_two_views_part_where_a_domain_cuts_itself_off() -> None:
    records: dict[str, str | list[Any]] = {"shop__example__com": Q + "; psd=n", "example__com": R}
    walked, suffixed = await both(records, "a.shop.example.com")
    assert (walked.organizational, walked.disposition) == ("shop.example.com", "quarantine")
    assert (suffixed.organizational, suffixed.disposition) == ("example.com", "reject")


async def both(records: dict[str, str | list[Any]], domain: str) -> tuple[Discovered, Discovered]:
    return await walk(zone(**records), domain), await by_suffix(zone(**records), domain)


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_problems_name_the_place() -> None:
    several: dict[str, str | list[Any]] = {"example__com": [{"TXT": R}, {"TXT": N}]}
    junk: dict[str, str | list[Any]] = {
        "example__com": [{"TXT": "\u201cv=DMARC1; p=none".encode()}, {"TXT": "v=spf1 -all"}]
    }
    bad: dict[str, str | list[Any]] = {"example__com": "v=DMARC1; p=monitor"}
    for records, problem in (
        (several, "2 DMARC records, receivers discard them all"),
        (
            junk,
            "ignored, for it does not begin with v=DMARC1 and a semicolon: \\xe2\\x80\\x9cv=DMARC1; p=none",
        ),
        (bad, "p=monitor is not none, quarantine or reject: without rua= no receiver applies the record"),
    ):
        for found in await both(records, "example.com"):
            assert found.problems == (f"_dmarc.example.com: {problem}",)
            assert found.policy is None


async def test_problems_above_the_organizational_domain_are_not_ours() -> None:
    records: dict[str, str | list[Any]] = {
        "bank": R + "; psd=y; foo",
        "example__bank": Q,
        "a__example__bank": N + "; x",
    }
    found = await walk(zone(**records), "a.example.bank")
    assert found.problems == ("_dmarc.a.example.bank: x is not a tag",)


async def test_ttl_and_staleness_are_those_of_the_weakest_answer() -> None:
    data: dict[str, Entries] = {
        "_dmarc.example.com": [{"TXT": R}, {"TTL": 40}],
        "_dmarc.a.example.com": [{"TXT": "none"}, {"TTL": 30}, "STALE"],
    }
    for found in (await walk(Zone(data), "a.example.com"), await by_suffix(Zone(data), "a.example.com")):
        assert (found.ttl, found.is_stale) == (30, True)
        assert found.policy is not None
        assert found.policy.ttl == 40
    fresh = await by_suffix(Zone(data), "example.com")
    assert (fresh.ttl, fresh.is_stale) == (40, False)


# --- alignment (4.4, 5.3) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "header_from", "mode", "is_aligned"),
    [
        ("example.com", "example.com", "s", True),
        ("Example.COM.", "example.com", "s", True),
        ("b\u00fccher.example", "xn--bcher-kva.example", "s", True),
        ("mail.example.com", "example.com", "s", False),
        ("mail.example.com", "example.com", "r", True),
        ("example.com", "news.example.com", "r", True),
        ("a.example.com", "b.example.com", "r", True),
        ("badexample.com", "example.com", "r", False),
        ("example.net", "example.com", "r", False),
        ("one.github.io", "two.github.io", "r", False),
        ("github.io", "one.github.io", "r", False),
        ("", "example.com", "r", False),
        ("", "", "r", False),
        ("", "", "s", False),
    ],
)
def test_alignment_by_suffix_list(identifier: str, header_from: str, mode: Mode, is_aligned: bool) -> None:
    assert aligned(identifier, header_from, mode, domains.organizational) is is_aligned


async def test_alignment_by_tree_walk() -> None:
    records = zone(example__com=R, shop__example__com=Q + "; psd=n")
    names = ("example.com", "mail.example.com", "shop.example.com", "a.shop.example.com")
    organizations = {name: await org(records, name) for name in names}
    assert aligned("mail.example.com", "example.com", "r", organizations.__getitem__)
    assert aligned("a.shop.example.com", "shop.example.com", "r", organizations.__getitem__)
    assert not aligned("shop.example.com", "example.com", "r", organizations.__getitem__)


def test_what_is_not_known_is_not_aligned() -> None:
    assert not aligned("a.example.com", "b.example.com", "r", lambda _: "")
