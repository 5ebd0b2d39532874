"""A message that is nothing but text is known as such only where its outline and its links say no more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mail.message import WORDS_LIMIT, Message

HEAD = b"From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
FIELDS = [
    *(b"MIME-Version: 1.0", b"From: a@b.example", b"Content-Type: text/plain; charset=utf-8"),
    *(
        b"Content-Type: text/plain",
        b"Content-Type: TEXT/plain; charset=ISO-8859-1",
        b"Content-Type: text/plain; name=a",
    ),
    *(
        b"Content-Type: text/plain; charset=odd",
        b"Content-Type: text/html",
        b"Content-Type: text",
        b"Content-Type: a/b",
    ),
    *(b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: text/plain; charset=", b"Content-Type:"),
    *(b"Content-Transfer-Encoding: 8bit", b"Content-Transfer-Encoding: Base64", b"Content-Transfer-Encoding: odd"),
    *(
        b"Content-Disposition: inline",
        b"Content-Disposition: attachment; filename=a",
        b"Content-Transfer-Encoding: 7bit",
    ),
]
BODIES = [
    b"",
    b"Hello\r\n",
    b"caf\xc3\xa9 \xff\r\n",
    b"see www.a.example\r\n",
    b"https://a.example/\r\n",
    b"--b\r\n\r\nx\r\n",
]


def test_nothing_but_text() -> None:
    assert Message(HEAD + b"\r\nHello,\r\n\r\nAnn\r\n").words == "Hello,\r\n\r\nAnn\r\n"
    assert Message(b"From: a@b.example\r\n\r\ncaf\xe9").words == "caf\ufffd"
    assert Message(b"From: a@b.example\r\n").words == ""


@pytest.mark.parametrize("body", [b"see https://a.example/\r\n", b"x" * WORDS_LIMIT])
def test_what_is_looked_at_closer(body: bytes) -> None:
    assert Message(HEAD + b"\r\n" + body).words is None


@settings(max_examples=400)
@given(st.lists(st.sampled_from(FIELDS), max_size=5), st.sampled_from(BODIES))
def test_the_outline_says_no_more(fields: list[bytes], body: bytes) -> None:
    message = Message(b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body)
    if (words := message.words) is None:
        return
    root, (texts, pages) = message.root, message.bodies
    assert (root.parts, root.faults, root.filename) == ((), (), "")
    assert root.encoding != "base64"
    assert [(text.text, text.links) for text in texts] == [(words, ())]
    assert pages == ()
