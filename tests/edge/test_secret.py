"""A password in what a next hop says."""

from __future__ import annotations

from base64 import b64encode

import pytest
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


def test_without_a_password_nothing_is_hidden() -> None:
    assert hidden("5.7.8 wrong", "", "") == "5.7.8 wrong"


@given(st.text(max_size=40), st.text(max_size=40), st.text(st.characters(codec="utf-8"), min_size=6, max_size=20))
def test_it_stands_nowhere(before: str, behind: str, password: str) -> None:
    assert password not in hidden(f"{before}{password}{behind}", "guard", password).replace("[hidden]", "\n" * 9)
