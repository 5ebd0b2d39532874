"""Header fields out of raw octets, the trace field that goes in front, and the message as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mail.fields import HEADER_LIMIT
from smtpguard.mail.message import Message, header_fields, queue_id_in, received_field
from smtpguard.mail.session import Envelope, Recipient, Session, domain_of


@pytest.mark.parametrize(
    ("head", "value"),
    [
        (b"Message-ID: <a@b>\r\n\r\nbody", "<a@b>"),
        (b"Subject: x\r\nMESSAGE-ID:<a@b>\r\n\r\n", "<a@b>"),
        (b"Subject: x\r\nMessage-ID:\r\n <a@b>\r\n\r\n", "<a@b>"),
        (b"X-Message-ID: <no@b>\r\nmessage-id: <a@b>\r\n", "<a@b>"),
        (b"Subject: message-id: <no@b>\r\n\r\nMessage-ID: <body@b>", ""),
        (b"Message-ID: <a\x1b[31m@b>\r\n\r\n", "<a [31m@b>"),
        (b"Message-ID: \xff\r\n\r\n", "\ufffd"),
        (b"Message-ID: <cut", "<cut"),
        (b"", ""),
    ],
)
def test_header_fields(head: bytes, value: str) -> None:
    assert header_fields(head, b"message-id") == [value]


@pytest.mark.parametrize(
    ("received", "queue_id"),
    [
        (
            b"by mail.s.example (Postfix, from userid 0)\r\n\tid 4dF2Tq0Xn5z1; Sun, 22 Nov 2026 10:00:00 +0000",
            "4dF2Tq0Xn5z1",
        ),
        (b"from a (b [192.0.2.1])\r\n\tby c (Postfix) with ESMTP id 8A1B2C3D4E\r\n\tfor <d@e>; Sun, 22", "8A1B2C3D4E"),
        (b"from a by c with esmtp (Exim 4.96)\r\n\tid 1xV6OT-00027i-0W\r\n\tfor d@e; Sun, 22", "1xV6OT-00027i-0W"),
        (b"from a by c (8.17/8.17) with ESMTP id 5AM1bcd2001234; Sun, 22", "5AM1bcd2001234"),
        (b"from a by c with SMTP; Sun, 22", ""),
        (b"from id x by c; Sun", ""),
    ],
)
def test_the_queue_id_of_the_mta_before_us(received: bytes, queue_id: str) -> None:
    head = b"Received: " + received + b"\r\nReceived: x id OTHER1234;\r\n\r\n"
    assert queue_id_in(*header_fields(head, b"received")) == queue_id
    assert queue_id_in("") == ""


SESSIONS = [
    (
        Session("S", "smtp", "192.0.2.1", 99, "mta.example", True),
        False,
        "from mta.example ([192.0.2.1])",
        "with ESMTP id",
    ),
    (Session("S", "smtp", "2001:db8::1", 99, "[2001:db8::1]"), False, "([IPv6:2001:db8::1])", "with SMTP id"),
    (Session("S", "lmtp", "", 0, "mta.example", True), True, "from mta.example (local)", "with UTF8LMTP id"),
    (Session("S", "smtp", "192.0.2.1", 9, "a", True, "TLSv1.3", "joe"), False, "from a (", "with ESMTPSA id"),
    (Session("S", "smtp", "192.0.2.1", 9, "a(b)\r\nX:", True), False, "from unknown (", "with ESMTP id"),
]


@pytest.mark.parametrize(("session", "utf8", "source", "kind"), SESSIONS)
def test_received_field(session: Session, utf8: bool, source: str, kind: str) -> None:
    field = received_field(
        session, hostname="guard.example", id="01ID", date="Mon, 1 Jan 2024 00:00:00 +0000", utf8=utf8
    )
    assert field.startswith(b"Received: from ")
    assert field.endswith(b"\tMon, 1 Jan 2024 00:00:00 +0000\r\n")
    assert source in field.decode()
    assert f"by guard.example (smtpguard) {kind} 01ID;" in field.decode()
    assert field.count(b"\r\n") == 3
    assert field.replace(b"\r\n\t", b"").count(b"\n") == 1


def test_domains() -> None:
    assert Recipient(b'"a@b"@Example.ORG').domain == "example.org"
    assert Envelope(b"").sender_domain == ""
    assert domain_of(b"postmaster") == ""
    assert domain_of(b"a@\xff") == "\ufffd"


# --- the message as a whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody", [b"A", b"B"], b"body"),
        (b"A: 1\r\n\r\n", [b"A"], b""),
        (b"A: 1\r\nB: 2\r\n", [b"A", b"B"], b""),
        (b"A: 1", [b"A"], b""),
        (b"\r\nbody: x", [], b"body: x"),
        (b"", [], b""),
    ],
)
def test_header_and_body(raw: bytes, names: list[bytes], body: bytes) -> None:
    message = Message(raw)
    assert [field.name for field in message.fields] == names
    assert message.raw[message.body_offset :] == body
    assert message.size == len(raw)


def test_a_header_without_an_end_is_cut() -> None:
    message = Message(b"A: 1\r\n" * (HEADER_LIMIT // 3))
    assert len(message.header) <= HEADER_LIMIT
    assert message.body_offset == HEADER_LIMIT


def test_what_the_body_is_made_of() -> None:
    message = Message(b"A: \xe9\r\n\r\nab\r\nc\xe9\r\n" + b"x" * 1000)
    assert message.body_8bit_at == 13
    assert message.long_lines == (1, 16, 1000)
    assert message.line_of(13) == 4
    plain = Message(b"A: \xe9\r\n\r\nab\r\n")
    assert plain.body_8bit_at is None
    assert plain.long_lines is None


def test_mailboxes_of_all_fields_of_a_name() -> None:
    message = Message(b"To: a@x.example\r\nTo: B <b@y.example>\r\n\r\n")
    assert [box.address for box in message.mailboxes(b"to")] == ["a@x.example", "b@y.example"]
    assert message.mailboxes(b"cc") == ()


@settings(max_examples=150)
@given(st.lists(st.sampled_from([b"\r\n", b"A: 1", b" ", b"\n", b"\0", b"From: a@b.example", b"\xff"])).map(b"".join))
def test_any_octets_are_a_message(raw: bytes) -> None:
    message = Message(raw)
    assert raw.startswith(message.header)
    assert len(message.header) <= message.body_offset <= message.size
    for field in message.fields:
        assert raw[field.offset :].startswith(field.name)
        assert message.line_of(field.offset) == field.line + raw.count(b"\n", 0, field.offset) - raw.count(
            b"\r\n", 0, field.offset
        )
    assert isinstance(message.mailboxes(b"from"), tuple)
