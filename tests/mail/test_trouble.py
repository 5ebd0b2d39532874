"""System errors in words."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.mail.trouble import readable


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        (
            f"192.0.2.1: [Errno {errno.ECONNREFUSED}] Connect call failed ('192.0.2.1', 25)",
            "192.0.2.1: Connection refused",
        ),
        (f"[Errno {errno.ECONNRESET}] Connection reset by peer", "Connection reset by peer"),
        ("[Errno -2] Name or service not known", "Name or service not known"),
        ("STARTTLS is not offered", "STARTTLS is not offered"),
        ("", ""),
    ],
)
def test_errors_of_the_system_have_names(detail: str, said: str) -> None:
    assert readable(detail) == said


@given(st.integers(), st.text(max_size=40))
def test_no_number_is_too_strange(number: int, text: str) -> None:
    assert isinstance(readable(f"x: [Errno {number}] {text}"), str)
