"""The page of categories and rules is what the rules say."""

from __future__ import annotations

from pathlib import Path

from smtpguard.classify import CATEGORIES, rules_of
from smtpguard.classify.reference import page

_PAGE = Path(__file__).resolve().parents[2] / "config" / "classification.md"


def test_the_page_is_up_to_date() -> None:
    assert _PAGE.read_text(encoding="utf-8") == page()


def test_every_category_and_rule_is_on_it() -> None:
    text = page()
    assert [name for name in CATEGORIES if f"| `{name}` |" not in text] == []
    assert [rule.id for rule in rules_of() if f"| `{rule.id}` |" not in text] == []
