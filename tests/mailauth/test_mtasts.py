"""MTA-STS: the record and the policy file (RFC 8461)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mailauth.mtasts import MAX_POLICY, Policy, name_of, parse_policy, parse_record, url_of

GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


def test_where_things_stand() -> None:
    assert name_of("a.test") == "_mta-sts.a.test"
    assert url_of("a.test") == "https://mta-sts.a.test/.well-known/mta-sts.txt"


@pytest.mark.parametrize(
    ("records", "id_", "problem"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z", ""),  # RFC 8461 3.1
        ([b"other", b"v=STSv1;id=1"], "1", ""),
        ([], None, ""),
        ([b"v=STSv10; id=1"], None, ""),
        ([b"v=STSv1; id=1", b"v=STSv1; id=2"], None, "2 records"),
        ([b"v=STSv1"], None, "id="),
        ([b"v=STSv1; id=" + b"1" * 33], None, "id="),
        ([b"v=STSv1; id"], None, "cannot be read"),
    ],
)
def test_the_record(records: list[bytes], id_: str | None, problem: str) -> None:
    found = parse_record(records)
    assert found.tags.get("id") == id_
    assert (problem in found.problem) if problem else not found.problem
    assert found.is_there is bool(id_ or problem)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_policy(end: bytes) -> None:
    assert parse_policy(GOOD.replace(b"\r\n", end)) == Policy("enforce", ("mail.example.com", "*.example.net"), 604800)


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("mail.example.com", True),
        ("a.example.net", True),
        ("example.net", False),
        ("a.b.example.net", False),  # RFC 8461 4.1: one label only
        ("mail.example.org", False),
    ],
)
def test_which_hosts_it_allows(host: str, is_allowed: bool) -> None:
    assert parse_policy(GOOD).allows(host) is is_allowed


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"version: STSv1\r\n", b"", "version: STSv1"),
        (b"enforce", b"force", "mode is none of"),
        (b"mx: mail.example.com\r\nmx: *.example.net\r\n", b"", "names no mx"),
        (b"mail.example.com", b"mail.*.com", "no name of a host"),
        (b"604800", b"31557601", "max_age"),
        (b"604800", b"-1", "max_age"),
        (b"max_age: 604800\r\n", b"", "max_age"),
        (b"mode: ", b"mode ", "no line of the form"),
        (b"mail", b"m" * MAX_POLICY, "octets"),
    ],
)
def test_a_policy_with_a_fault(old: bytes, new: bytes, problem: str) -> None:
    assert any(problem in found for found in parse_policy(GOOD.replace(old, new)).problems)


def test_the_first_of_two_holds_and_unknown_keys_do_not_matter() -> None:
    found = parse_policy(GOOD + b"mode: none\r\nx-new: y\r\n")
    assert (found.mode, found.problems) == ("enforce", ())


def test_a_policy_of_none_needs_no_mx() -> None:
    assert parse_policy(b"version: STSv1\nmode: none\nmax_age: 86400\n").problems == ()


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_octets_give_a_policy_or_problems(octets: bytes) -> None:
    found = parse_policy(octets)
    assert found.problems or octets.count(b"version")
    assert all(text.isprintable() for text in found.problems)
