"""Organizational domains by the public suffix list."""

from __future__ import annotations

import pytest

from smtpguard.mailauth.domains import organizational


@pytest.mark.parametrize(
    ("domain", "organization"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("mail.example.co.uk", "example.co.uk"),
        ("a.someone.github.io", "someone.github.io"),  # the list's private section
        ("a.b.c.kawasaki.jp", "b.c.kawasaki.jp"),  # *.kawasaki.jp
        ("a.city.kawasaki.jp", "city.kawasaki.jp"),  # !city.kawasaki.jp
        ("a.xn--85x722f.com.cn", "xn--85x722f.com.cn"),
        ("co.uk", "co.uk"),
        ("com", "com"),
        ("mail.corp.unlisted", "corp.unlisted"),
        ("", ""),
    ],
)
def test_the_organizational_domain_is_one_label_above_a_public_suffix(domain: str, organization: str) -> None:
    assert organizational(domain) == organization
