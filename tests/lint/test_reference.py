"""The page of the lint's rules is made from the rules."""

from __future__ import annotations

from pathlib import Path

from smtpguard.lint import RULES
from smtpguard.lint.reference import FAMILIES, in_order, page

PAGE = Path(__file__).parents[2] / "config" / "lint.md"


def test_the_page_is_the_rules() -> None:
    assert PAGE.read_text() == page(), "run `make format`"


def test_every_rule_is_there_in_order() -> None:
    codes = [rule.code for rule in in_order()]
    assert set(codes) == set(RULES)
    families = [code[:3] for code in codes]
    assert [family for family in FAMILIES if family in families] == list(dict.fromkeys(families))
    assert all(f"### {code}\n" in page() for code in codes)
