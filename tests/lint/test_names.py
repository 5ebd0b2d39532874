"""Paths and names: the grammar of RFC 5321 with its limits, and names that mean nothing outside."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.lint.names import is_inside, literal, path_fault, why_local

RIGHT = [
    b"a@b.example",
    b"first.last+tag@sub.b-c.example",
    b"!#$%&'*+-/=?^_`{|}~@b.example",
    b'"a b@c"@b.example',
    b'"a\\"b"@b.example',
    b'""@b.example',
    b"a@[192.0.2.1]",
    b"a@[IPv6:2001:db8::1]",
    b"@relay.example,@other.example:a@b.example",
    b"a@localhost",
    b"a@xn--bcher-kva.example",
    b"a" * 64 + b"@" + b".".join([b"b" * 63, b"c" * 63, b"d" * 61]),
]
WRONG = [
    (b"a", "no @"),
    (b"a@", "empty label"),
    (b"@b.example", "is empty"),
    (b"a b@b.example", "need quotes"),
    (b'a"b"@b.example', "need quotes"),
    (b"a(b)@b.example", "need quotes"),
    (b"a@b@c.example", "need quotes"),
    (b"a" * 65 + b"@b.example", "65 octets, more than 64"),
    ("é".encode() * 33 + b"@b.example", "66 octets, more than 64"),
    (b"a@" + b"b" * 64 + b".example", "over 63 octets"),
    (b"a@" + b".".join([b"b" * 60] * 5), "more than 254"),
    (b"a@b..example", "empty label"),
    (b"a@-b.example", "other than letters"),
    (b"a@b!.example", "other than letters"),
    (b"a@[192.0.2.256]", "in brackets"),
    (b"a@[2001:db8::1]", "in brackets"),
    (b"a@[IPv6:192.0.2.1]", "in brackets"),
    (b"a@[x]", "in brackets"),
]


@pytest.mark.parametrize("path", RIGHT)
def test_paths_in_the_grammar(path: bytes) -> None:
    assert path_fault(path, utf8=False) is None


@pytest.mark.parametrize(("path", "words"), WRONG)
def test_paths_that_are_not(path: bytes, words: str) -> None:
    fault = path_fault(path, utf8=True)
    assert fault is not None
    assert words in fault.words
    assert not fault.is_odd


@pytest.mark.parametrize(
    "path", [b"a..b@b.example", b".a@b.example", b"a.@b.example", b"a@b_c.example", b"a@b.example.", b"a@192.0.2.1"]
)
def test_paths_that_are_odd_and_used(path: bytes) -> None:
    fault = path_fault(path, utf8=False)
    assert fault is not None
    assert fault.is_odd


@pytest.mark.parametrize("path", ["jörg@b.example", "a@bücher.example", '"jörg x"@b.example', "用户@例子.example"])
def test_other_scripts_need_smtputf8(path: str) -> None:
    assert path_fault(path.encode(), utf8=True) is None
    fault = path_fault(path.encode(), utf8=False)
    assert fault is not None
    assert "SMTPUTF8" in fault.words


@given(st.binary(max_size=80), st.booleans())
def test_any_octets_give_a_fault_or_none(path: bytes, utf8: bool) -> None:
    fault = path_fault(path, utf8=utf8)
    assert fault is None or fault.words


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("web1", True),
        ("localhost.localdomain", True),
        ("printer.local", True),
        ("a.home.arpa", True),
        ("a.internal", True),
        ("[127.0.0.1]", True),
        ("[10.1.2.3]", True),
        ("[ipv6:fe80::1]", True),
        ("[8.8.8.8]", False),
        ("[nonsense]", False),
        ("example.com", False),
        ("local.example.com", False),
        ("mylocal.example", False),
        ("mail.internal.example.com", False),
    ],
)
def test_names_of_this_network(host: str, is_local: bool) -> None:
    assert bool(why_local(host)) is is_local


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("172.31.255.255", True),
        ("172.32.0.1", False),
        ("100.64.1.1", True),
        ("192.0.2.1", False),
        ("::1", True),
        ("fd00::1", True),
        ("2001:db8::1", False),
    ],
)
def test_addresses_inside(address: str, inside: bool) -> None:
    assert is_inside(ip_address(address)) is inside


def test_address_literals() -> None:
    assert literal("[192.0.2.1]") == ip_address("192.0.2.1")
    assert literal("[ipv6:::1]") == ip_address("::1")
    assert literal("192.0.2.1") is None
