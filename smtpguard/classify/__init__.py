"""What a refusal means: `load()` the rules once, then `match` each reply.

The categories are a closed set (categories.toml), the rules are data with their proof beside them (rules/*.toml). Pure:
files are read at load only, nothing waits, and `match` never raises.

    classifier = load()
    classifier.match(Reply.of("550 5.1.1 <x@example.com>: User unknown", Verb.RCPT), "mx.example.com").category
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from smtpguard.classify.categories import CATEGORIES, GROUPS
from smtpguard.classify.classification import Classification
from smtpguard.classify.classifier import Classifier, Hit
from smtpguard.classify.providers import PROVIDERS, provider_of
from smtpguard.classify.rules import Rule, RuleError, ShippedRuleError, check_unique, parse

__all__ = [
    "CATEGORIES",
    "GROUPS",
    "PROVIDERS",
    "Classification",
    "Classifier",
    "Hit",
    "Rule",
    "RuleError",
    "ShippedRuleError",
    "load",
    "provider_of",
    "rules_of",
]


def load(extra: Sequence[Path] = ()) -> Classifier:
    """The shipped rules, and an operator's own, of the TOML files `extra`, made ready to match. RuleError as below."""
    is_collecting = gc.isenabled()
    gc.disable()  # what is built here stays: to look through it again and again is a sixth of the time
    try:
        return Classifier(rules_of(extra))
    finally:
        if is_collecting:
            gc.enable()


def rules_of(extra: Sequence[Path] = ()) -> list[Rule]:
    """The shipped rules, and those of the TOML files `extra`, checked one by one and against each other.

    RuleError names the file, the rule, what is wrong and what to do; ShippedRuleError where a file of ours is broken.
    A rule of `extra` must have an id of its own; where it holds, it wins over all shipped ones.
    """
    rules = list(_shipped())
    for path in extra:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RuleError(str(path), "-", f"cannot be read: {error}", "name a readable UTF-8 file") from None
        rules += parse(text, str(path), own=True)
    check_unique(rules)
    return rules


@cache
def _shipped() -> tuple[Rule, ...]:
    folder = files(__package__).joinpath("rules")
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda e: e.name)
    try:
        return tuple(rule for entry in entries for rule in parse(entry.read_text(encoding="utf-8"), entry.name))
    except RuleError as error:
        ours = f"smtpguard's own {error.file}"
        raise ShippedRuleError(
            ours, error.rule, error.problem, "install smtpguard anew; if it stays, report it"
        ) from None
