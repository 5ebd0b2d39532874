"""Paths and parameters: taken octet for octet or refused, never written anew."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpguard.mail.address import SyntaxRefused, parse_mail, parse_rcpt, parse_xforward

FRAMED = [
    b"user@example.com",
    b"postmaster",
    b"USER+tag@Example.COM",
    b".odd..dots.@example.com",
    b"a'b!#$%&*-/=?^_`{|}~@example.com",
    b'"quoted local"@example.com',
    b'"with \\" quote and > bracket"@example.com',
    b"@relay.example,@two.example:user@example.com",
    b"user@[192.0.2.1]",
    b"user@[IPv6:2001:db8::1]",
    b"a" * 300 + b"@example.com",
    b"back\\slash@example.com",
]
UNFRAMED = [
    b"FROM:user@example.com",
    b"FROM:<user@example.com",
    b"FROM:<user@example.com>x",
    b"FROM:<a b@example.com>",
    b'FROM:<"open@example.com>',
    b"FROM:<a\\>@example.com>",
    b"FROM:<a<b@example.com>",
    b"FROM:<<a@example.com>>",
    b"FROM <a@example.com>",
    b"TO:<a@example.com>",
    b"",
    b"FROM:",
    b"FROM:<a\x01@example.com>",
]


@pytest.mark.parametrize("path", FRAMED)
def test_paths_that_can_be_framed_pass_as_they_are(path: bytes) -> None:
    assert parse_mail(b"FROM:<" + path + b">").mail_from == path
    assert parse_rcpt(b"to: <" + path + b">").path == path


def test_the_null_sender_is_the_empty_path() -> None:
    assert parse_mail(b"FROM:<>").mail_from == b""


@pytest.mark.parametrize("argument", UNFRAMED)
def test_paths_that_cannot_be_framed_are_refused(argument: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_mail(argument)
    assert str(refused.value.reply).startswith("501 5.1.7 ")


def test_a_recipient_that_cannot_be_framed_is_refused_with_its_own_code() -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_rcpt(b"TO:<a b@example.com>")
    assert str(refused.value.reply).startswith("501 5.1.3 ")
    assert refused.value.category == "recipient.syntax"


@given(st.binary(max_size=60))
@example(b'<"a>b"@x> SIZE=1')
def test_whatever_is_framed_is_framed_octet_for_octet(octets: bytes) -> None:
    argument = b"FROM:" + octets
    try:
        envelope = parse_mail(argument)
    except SyntaxRefused:
        return
    path = b"<" + envelope.mail_from + b">"
    assert octets.lstrip(b" ").startswith(path)
    assert not set(envelope.mail_from) & set(b"\r\n\0")


@given(st.text(min_size=1, max_size=30))
def test_utf8_needs_smtputf8(text: str) -> None:
    path = text.encode("utf-8", "ignore") + b"@example.com"
    argument = b"FROM:<" + path + b">"
    try:
        envelope = parse_mail(argument + b" SMTPUTF8")
    except SyntaxRefused:
        return
    assert envelope.mail_from == path
    if not path.isascii():
        with pytest.raises(SyntaxRefused) as refused:
            parse_mail(argument)
        assert str(refused.value.reply).startswith("553 5.6.7 ")


def test_parameters_keep_their_case_and_order() -> None:
    envelope = parse_mail(b"FROM:<a@example.com> ret=Full SIZE=123 body=8bitmime ENVID=QQ+2B1a SMTPUTF8")
    assert envelope.params == (b"ret=Full", b"body=8bitmime", b"ENVID=QQ+2B1a", b"SMTPUTF8")
    assert (envelope.size, envelope.eight_bit, envelope.smtputf8, envelope.dsn) == (123, True, True, True)
    rcpt = parse_rcpt(b"TO:<B@Example.com> NOTIFY=success,FAILURE ORCPT=rfc822;B@Example.com")
    assert rcpt.params == (b"NOTIFY=success,FAILURE", b"ORCPT=rfc822;B@Example.com")
    assert rcpt.domain == "example.com"


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"FROM:<a@b.example> SIZE=", "501 5.5.4"),
        (b"FROM:<a@b.example> SIZE=1x", "501 5.5.4"),
        (b"FROM:<a@b.example> SIZE=" + b"9" * 21, "501 5.5.4"),
        (b"FROM:<a@b.example> SIZE=1 size=2", "501 5.5.4"),
        (b"FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        (b"FROM:<a@b.example> SMTPUTF8=yes", "501 5.5.4"),
        (b"FROM:<a@b.example> BY=1;R", "555 5.5.4"),
        (b"FROM:<a@b.example> AUTH=<>", "555 5.5.4"),
        (b"FROM:<a@b.example> RET=FULL", "555 5.5.4"),
        (b"FROM:<a@b.example> -X=1", "501 5.5.4"),
    ],
)
def test_bad_or_unoffered_parameters(argument: bytes, reply: str) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_mail(argument, offered=frozenset({"SIZE", "8BITMIME"}))
    assert str(refused.value.reply).startswith(reply)


def test_dsn_parameters_of_a_recipient_need_dsn() -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_rcpt(b"TO:<a@b.example> NOTIFY=NEVER", offered=frozenset())
    assert str(refused.value.reply).startswith("555 5.5.4")


def test_the_null_path_is_no_recipient() -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_rcpt(b"TO:<>")
    assert str(refused.value.reply).startswith("501 5.1.3")


def test_xforward() -> None:
    given_ = b"NAME=mail.example.net ADDR=192.0.2.7 HELO=a+20b IDENT=4ABC [x]"
    with pytest.raises(ValueError, match="attributes are"):
        parse_xforward(given_)
    assert parse_xforward(b"name=mail.example.net ADDR=[UNAVAILABLE] HELO=a+20b ident=4ABC") == {
        "NAME": "mail.example.net",
        "HELO": "a b",
        "IDENT": "4ABC",
    }


@pytest.mark.parametrize("argument", [b"", b"IDENT", b"LOGIN=x", b"HELO=a+0Db", b"NAME=" + b"x" * 256])
def test_bad_xforward(argument: bytes) -> None:
    with pytest.raises(ValueError, match=r"attributes|syntax|value"):
        parse_xforward(argument)


def test_the_submitters_auth_parameter_is_taken_and_not_passed_on() -> None:
    envelope = parse_mail(b"FROM:<a@b.example> AUTH=<> RET=HDRS", offered=frozenset({"AUTH", "DSN"}))
    assert envelope.params == (b"RET=HDRS",)


def test_octets_that_are_not_utf8_are_refused_even_with_smtputf8() -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_mail(b"FROM:<\xff@b.example> SMTPUTF8")
    assert str(refused.value.reply).startswith("501 5.1.7 ")
    with pytest.raises(SyntaxRefused) as refused:
        parse_rcpt(b"TO:<\xff@b.example>", smtputf8=True)
    assert str(refused.value.reply).startswith("501 5.1.3 ")
