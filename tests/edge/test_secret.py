"""A password in what a next hop says."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from aiosmtplib.auth import auth_crammd5_verify
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.edge.secret import hidden

PASSWORD = "correct horse"
PLAIN = b64encode(b"\0guard\0" + PASSWORD.encode()).decode()
LOGIN = b64encode(PASSWORD.encode()).decode()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("5.7.8 wrong password", "5.7.8 wrong password"),
        (f"AUTH PLAIN {PLAIN}: no", "AUTH PLAIN [hidden]: no"),
        (f"not {LOGIN}", "not [hidden]"),
        (f"not {PASSWORD}, {PASSWORD}", "not [hidden], [hidden]"),
        (f"not {PASSWORD.upper()}", "not [hidden]"),
        (f"{PLAIN[:9]}...", "[hidden]..."),
        (f"{PASSWORD[:7]}...", "[hidden]..."),
        (f"{PASSWORD[:5]}...", f"{PASSWORD[:5]}..."),
    ],
)
def test_what_was_sent_is_hidden(said: str, shown: str) -> None:
    assert hidden(said, "guard", PASSWORD) == shown


@pytest.mark.parametrize("username", ["u", "guard", "guard@d.example", "näme", "a name"])
@pytest.mark.parametrize("challenge", [b"PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2U+", b"PDFAeD4="])
def test_an_answer_of_cram_md5_is_hidden(username: str, challenge: bytes) -> None:
    sent = auth_crammd5_verify(username, PASSWORD, challenge).decode()
    answer = b64decode(sent).decode()
    for said in (sent, sent.upper(), answer, answer.upper()):
        assert hidden(f"no: {said}.", username, PASSWORD).rstrip("=.") == "no: [hidden]"
    assert hidden(f"no: {sent[: len(sent) - 20]}...", username, PASSWORD) == "no: [hidden]..."
    assert hidden(f"{answer[-32:]} is wrong", username, PASSWORD) == "[hidden] is wrong"
    for said in (f"no user {username} here", b64encode(username.encode()).decode(), "id 4f2a9c01d77e"):
        assert hidden(said, username, PASSWORD) == said


def test_without_a_password_nothing_is_hidden() -> None:
    assert hidden("5.7.8 wrong", "", "") == "5.7.8 wrong"


@given(st.text(max_size=40), st.text(max_size=40), st.text(st.characters(codec="utf-8"), min_size=6, max_size=20))
def test_it_stands_nowhere(before: str, behind: str, password: str) -> None:
    assert password not in hidden(f"{before}{password}{behind}", "guard", password).replace("[hidden]", "\n" * 9)
