"""The lint's rules on a terminal: their part of `smtpguard rules list` and `rules show`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from smtpguard.lint import RULES, Rule
from smtpguard.lint.reference import in_order
from smtpguard.mail.reply import clean


def found(id: str) -> Rule | None:
    """The rule of a code (in whatever case) or a name."""
    rule = RULES.get(id.upper())
    return rule or next((rule for rule in RULES.values() if rule.name == id.lower()), None)


def listed(family: str) -> list[Rule]:
    """The rules of a family (in whatever case); "": all."""
    return [rule for rule in in_order() if family.upper() in ("", rule.family)]


def show(rule: Rule, *, as_json: bool) -> None:
    """One rule with all its knowledge."""
    if as_json:
        print(json.dumps(described(rule), ensure_ascii=False))
        return
    print(f"{rule.code} {rule.name}")
    rows: list[tuple[str, Iterable[str]]] = [
        ("Wants", [rule.title]),
        ("Severity", [f"{rule.severity}{' (certain: refuses under lint.mode = enforce)' if rule.is_certain else ''}"]),
        ("Asked at", [rule.stage.value + (", of bulk mail" if rule.is_bulk else "")]),
        ("Why", rule.reason.split("\n\n")),
        ("Fix", [rule.fix]),
        ("Receivers say", [f"{each.by} {each.says}" for each in rule.predicts]),
        ("We would say", [str(rule.answer) if rule.answer else ""]),
        ("Category", [rule.category]),
        ("Reference", [rule.reference]),
    ]
    for label, values in rows:
        for number, value in enumerate(value for value in values if value):
            print(f"  {label if number == 0 else '':<14} {clean(value, utf8=True)}")


def described(rule: Rule) -> dict[str, Any]:
    """One rule as JSON; what it has not is left out."""
    whole: dict[str, Any] = {
        "id": rule.code,
        "name": rule.name,
        "kind": "lint",
        "severity": rule.severity.value,
        "stage": rule.stage.value,
        "certain": rule.is_certain,
        "bulk": rule.is_bulk,
        "title": rule.title,
        "reason": rule.reason,
        "fix": rule.fix,
        "predicts": [{"by": each.by, "says": each.says} for each in rule.predicts],
        "answer": str(rule.answer or ""),
        "category": rule.category,
        "reference": rule.reference,
    }
    return {key: value for key, value in whole.items() if value not in ("", [], False)}
