"""Mail hosts, MTA-STS, DANE, TLSRPT and BIMI in an audit."""

from __future__ import annotations

from typing import Any

import pytest

from smtpguard.audit import Branch, Line
from smtpguard.audit.inbound import ask, lines, mx_lines
from smtpguard.mailauth.dmarc import Discovered
from smtpguard.mailauth.dns import Answer, Status, Tlsa
from tests.audit.world import Files, told
from tests.mailauth.zone import Zone

MX: dict[str, Any] = {"a.test": [{"MX": [10, "mx.a.test"]}], "mx.a.test": [{"A": "192.0.2.25"}]}
URL = "https://mta-sts.a.test/.well-known/mta-sts.txt"
STS: dict[str, Any] = {"_mta-sts.a.test": [{"TXT": "v=STSv1; id=20260101"}]}
POLICY = "version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {age}\n"
REPORTS: dict[str, Any] = {"_smtp._tls.a.test": [{"TXT": "v=TLSRPTv1; rua=mailto:t@a.test"}]}
REJECT = Discovered(None, "a.test", disposition="reject")


def policy(mode: str = "enforce", mx: str = "mx.a.test", age: int = 604800) -> dict[str, bytes]:
    return {URL: POLICY.format(mode=mode, mx=mx, age=age).encode()}


async def audited(
    zone: dict[str, Any], files: dict[str, bytes] | None = None, dmarc: Discovered = REJECT
) -> dict[str, list[Line]]:
    """By what they are about."""
    found = await ask(Zone(zone), "a.test", Files(files))
    every = list(lines(found, dmarc))
    return {
        about: [line for line in every if line.about == about] for about in ("mx", "mta-sts", "dane", "tlsrpt", "bimi")
    }


async def mail_hosts(zone: dict[str, Any]) -> list[Line]:
    return list(mx_lines((await ask(Zone(zone), "a.test", Files())).mail))


# --- mail hosts ------------------------------------------------------------------------------------------------------


async def test_good_mail_hosts_are_shown_with_their_addresses() -> None:
    (line,) = await mail_hosts(MX)
    assert (line.state, line.message) == ("ok", "1 mail host")
    assert line.tree == (Branch(0, "10 mx.a.test", "192.0.2.25"),)


@pytest.mark.parametrize(
    ("zone", "expected", "words"),
    [
        ({"x.test": [{"A": "192.0.2.1"}]}, [("fail", "ENV002")], "does not exist"),
        ({"a.test": [{"TXT": "x"}]}, [("fail", "ENV002")], "no MX, A or AAAA"),
        ({"a.test": [{"MX": [0, ""]}]}, [("warn", "ENV003")], "null MX"),
        ({"a.test": [{"A": "192.0.2.1"}]}, [("ok", "")], "its own address 192.0.2.1".replace("its", "domain's")),
        ({"a.test": [{"MX": [10, "mx.a.test"]}], "mx.a.test": [{"A": "10.0.0.1"}]}, [("fail", "POL005")], "private"),
        ({"a.test": [{"MX": [10, "gone.test"]}]}, [("fail", "POL005")], "no such name"),
        (
            {**MX, "a.test": [{"MX": [10, "mx.a.test"]}, {"MX": [20, "c.test"]}], "c.test": [{"CNAME": "mx.a.test"}]},
            [("warn", "RCP005")],
            "MX c.test: an alias",
        ),
        (
            {**MX, "a.test": [{"MX": [20, "c.test"]}], "c.test": [{"CNAME": "mx.a.test"}]},
            [("warn", "RCP005")],  # mail arrives all the same
            "MX c.test: an alias",
        ),
    ],
    ids=["missing", "empty", "null", "implicit", "private", "gone", "alias", "only an alias"],
)
async def test_a_domain_and_its_mail_hosts(zone: dict[str, Any], expected: list[Any], words: str) -> None:
    found = await mail_hosts(zone)
    assert told(found) == expected
    assert words in found[0].message


@pytest.mark.parametrize("zone", [{"a.test": ["TIMEOUT"]}, {"a.test": [{"TXT": "x"}, {"SERVFAIL": "AAAA"}]}])
async def test_a_domain_that_does_not_answer_is_not_judged(zone: dict[str, Any]) -> None:
    (line,) = await mail_hosts(zone)
    assert (line.state, line.is_temporary) == ("skip", True)


async def test_a_mail_host_that_does_not_answer_is_not_at_fault() -> None:
    (line,) = await mail_hosts({**MX, "mx.a.test": ["SERVFAIL"]})
    assert line.state == "ok"
    assert line.tree[0].note == "not to be looked up (servfail)"


# --- MTA-STS ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "file", "expected", "words"),
    [
        (None, {}, ("skip", ""), "not published"),
        ("v=STSv1; id=20260101", policy(), ("ok", ""), "mode enforce, max_age 7 days"),
        ("v=STSv1; id=20260101", policy(mx="*.a.test"), ("ok", ""), "enforce"),
        ("v=STSv1; id=20260101", policy("none"), ("ok", ""), "mode none"),
        ("v=STSv1; id=20260101", policy("testing"), ("warn", ""), "nothing is enforced yet"),
        ("v=STSv1; id=20260101", policy(age=3600), ("warn", "POL001"), "too short"),
        ("v=STSv1; id=20260101", policy(mx="other.test"), ("fail", "POL001"), "does not name the MX mx.a.test"),
        ("v=STSv1; id=20260101", policy("testing", "other.test"), ("warn", "POL001"), "does not name"),
        ("v=STSv1; id=20260101", policy("force"), ("warn", "POL001"), "mode is none of"),
        ("v=STSv1; id=20260101", {}, ("warn", "POL001"), "it answers 404"),
        ("v=STSv1; id=2026-01-01", policy(), ("warn", "POL001"), "id="),
    ],
)
async def test_mta_sts(record: str | None, file: dict[str, bytes], expected: tuple[str, str], words: str) -> None:
    zone: dict[str, Any] = dict(MX)
    if record:
        zone["_mta-sts.a.test"] = [{"TXT": record}]
    (line,) = (await audited(zone, file))["mta-sts"]
    assert (line.state, line.rule) == expected
    assert words in line.message


async def test_a_policy_is_fetched_only_where_a_record_asks_for_it() -> None:
    files = Files(policy())
    await ask(Zone(MX), "a.test", files)
    assert files.fetched == []
    await ask(Zone({**MX, **STS}), "a.test", files)
    assert files.fetched == [URL]


async def test_some_of_the_mail_hosts_left_out() -> None:
    zone = {**MX, **STS, "a.test": [{"MX": [10, "mx.a.test"]}, {"MX": [20, "mx2.a.test"]}]}
    (line,) = (await audited(zone, policy()))["mta-sts"]
    assert (line.state, line.rule) == ("warn", "POL001")
    assert "add `mx: mx2.a.test` to the policy" in line.fix


# --- DANE, TLSRPT, BIMI ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tlsa", "expected"),
    [(None, []), ([3, 1, 1, "ab" * 32], [("skip", "")]), ([1, 0, 1, "ab" * 32], [("warn", "POL002")])],
)
async def test_dane(tlsa: list[Any] | None, expected: list[Any]) -> None:
    zone: dict[str, Any] = {**MX, **({"_25._tcp.mx.a.test": [{"TLSA": tlsa}]} if tlsa else {})}
    assert told((await audited(zone))["dane"]) == expected


async def test_dane_that_the_resolver_has_validated() -> None:
    found = await ask(Zone(MX), "a.test", Files())
    signed = Answer(Status.POSITIVE, (Tlsa(3, 1, 1, b"x" * 32),), is_secure=True)
    (line,) = [line for line in lines(found._replace(tlsa={"mx.a.test": signed}), REJECT) if line.about == "dane"]
    assert (line.state, line.message) == ("ok", "mx.a.test: 1 TLSA record, signed")


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({}, ("skip", "")),
        (STS, ("warn", "POL003")),
        ({"_25._tcp.mx.a.test": [{"TLSA": [3, 1, 1, "ab" * 32]}]}, ("warn", "POL003")),
        (REPORTS, ("ok", "")),
        ({"_smtp._tls.a.test": [{"TXT": "v=TLSRPTv1; rua=t@a.test"}]}, ("warn", "POL003")),
        ({"_smtp._tls.a.test": ["TIMEOUT"]}, ("skip", "")),
    ],
    ids=["nothing to report", "sts", "dane", "good", "bad", "away"],
)
async def test_tlsrpt(zone: dict[str, Any], expected: tuple[str, str]) -> None:
    (line,) = (await audited({**MX, **zone}))["tlsrpt"]
    assert (line.state, line.rule) == expected
    if line.rule:
        assert line.records == ('_smtp._tls.a.test. TXT "v=TLSRPTv1; rua=mailto:tlsrpt@a.test"',)


@pytest.mark.parametrize(
    ("text", "disposition", "expected", "words"),
    [
        (None, "reject", ("skip", ""), "not published"),
        ("v=BIMI1; l=https://a.test/l.svg; a=https://a.test/c.pem", "reject", ("ok", ""), "https://a.test/l.svg"),
        ("v=BIMI1; l=https://a.test/l.svg", "reject", ("ok", ""), "without a certificate"),
        ("v=BIMI1; l=https://a.test/l.svg", "none", ("warn", "POL004"), "p=none"),
        ("v=BIMI1; l=; a=", "none", ("skip", ""), "no logo"),
        ("v=BIMI1; l=http://a.test/l.svg", "reject", ("warn", ""), "https"),
    ],
)
async def test_bimi(text: str | None, disposition: Any, expected: tuple[str, str], words: str) -> None:
    zone: dict[str, Any] = {**MX, **({"default._bimi.a.test": [{"TXT": text}]} if text else {})}
    (line,) = (await audited(zone, dmarc=Discovered(None, "a.test", disposition=disposition)))["bimi"]
    assert (line.state, line.rule) == expected
    assert words in line.message


async def test_a_domain_without_mail_needs_no_protection_of_it() -> None:
    found = await audited({"a.test": [{"MX": [0, ""]}]})
    assert (found["mta-sts"], found["dane"], found["tlsrpt"]) == ([], [], [])
