"""Header fields out of raw octets, and the trace field that goes in front."""

from __future__ import annotations

import pytest

from smtpguard.mail.message import header_field, queue_id_of, received_field
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
def test_header_field(head: bytes, value: str) -> None:
    assert header_field(head, b"message-id") == value


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
    assert queue_id_of(b"Received: " + received + b"\r\nReceived: x id OTHER1234;\r\n\r\n") == queue_id
    assert queue_id_of(b"Subject: id 123456789\r\n\r\n") == ""


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
