"""Names as the DNS has them."""

from __future__ import annotations

import pytest

from smtpguard.mail.domain import to_ascii


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("_spf.Example.com", "_spf.example.com"),
        ("B\u00fccher.example", "xn--bcher-kva.example"),
        ("stra\u00dfe.example", "xn--strae-oqa.example"),
        ("\u4f8b\u3048\u3002example", "xn--r8jz45g.example"),
        ("_dmarc.b\u00fccher.example", "_dmarc.xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("", ""),
        (".", ""),
        ("a..example", ""),
        ("example..", ""),
        (".example", ""),
        ("\u2028.example", ""),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("a" * 64 + ".example", ""),
        ("a." * 126 + "b", "a." * 126 + "b"),
        ("a." * 126 + "b.", "a." * 126 + "b"),
        ("a." * 126 + "bc", ""),
        ("\u00fc." * 40, ""),  # 40 A-labels of 7 octets
    ],
)
def test_a_name_is_what_can_be_asked_for_or_nothing(typed: str, name: str) -> None:
    assert to_ascii(typed) == name
