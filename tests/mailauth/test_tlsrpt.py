"""TLSRPT and BIMI: records and nothing else (RFC 8460)."""

from __future__ import annotations

import pytest

from smtpguard.mailauth import bimi, tlsrpt


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"v=TLSRPTv1;rua=mailto:reports@example.com", ""),  # RFC 8460 3
        (b"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt", ""),
        (b"v=TLSRPTv1; rua=mailto:a@a.test,https://b.test/x", ""),
        (b"v=TLSRPTv1; rua=reports@example.com", "neither mailto: nor https:"),
        (b"v=TLSRPTv1; rua=http://b.test/x", "neither"),
        (b"v=TLSRPTv1; rua=mailto:a@a.test,", "no rua="),
        (b"v=TLSRPTv1", "no rua="),
        (b"v=TLSRPTv1; rua", "cannot be read"),
    ],
)
def test_tlsrpt(text: bytes, problem: str) -> None:
    found = tlsrpt.parse_record([b"v=spf1 -all", text])
    assert (problem in found.problem) if problem else not found.problem
    assert bool(found.tags) is not bool(problem)
    assert found.is_there


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"v=BIMI1; l=https://a.test/l.svg; a=https://a.test/c.pem", ""),
        (b"v=BIMI1; l=; a=;", ""),
        (b"v=BIMI1; a=https://a.test/c.pem", "no l="),
        (b"v=BIMI1; l=http://a.test/l.svg", "its l= is no https://"),
        (b"v=BIMI1; l=https://a.test/l.svg; a=self", "its a= is no https://"),
    ],
)
def test_bimi(text: bytes, problem: str) -> None:
    found = bimi.parse_record([text])
    assert (problem in found.problem) if problem else not found.problem
    assert bool(found.tags) is not bool(problem)


def test_names_and_what_is_not_there() -> None:
    assert (tlsrpt.name_of("a.test"), bimi.name_of("a.test")) == ("_smtp._tls.a.test", "default._bimi.a.test")
    assert not tlsrpt.parse_record([b"v=TLSRPTv2; rua=mailto:a@a.test"]).is_there
    assert not bimi.parse_record([]).is_there
    assert "2 records" in bimi.parse_record([b"v=BIMI1; l=", b"v=BIMI1; l="]).problem


def test_foreign_text_is_made_printable() -> None:
    assert tlsrpt.parse_record([b"v=TLSRPTv1; rua=\xff\x1b"]).text.isprintable()
