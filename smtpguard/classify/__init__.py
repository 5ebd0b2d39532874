"""What a refusal means: `load()` the rules once, then `match` each reply.

The categories are a closed set (categories.toml), the rules are data with their proof beside them (rules/*.toml). Pure:
files are read at load only, nothing waits, and `match` never raises.

    classifier = load()
    classifier.match(Reply.of("550 5.1.1 <x@example.com>: User unknown", Verb.RCPT), "mx.example.com").category
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from smtpguard.classify.categories import CATEGORIES, GROUPS
from smtpguard.classify.classifier import Classification, Classifier, Hit
from smtpguard.classify.providers import PROVIDERS, provider_of
from smtpguard.classify.rules import Rule, RuleError, check_unique, parse

__all__ = [
    "CATEGORIES",
    "GROUPS",
    "PROVIDERS",
    "Classification",
    "Classifier",
    "Hit",
    "Rule",
    "RuleError",
    "load",
    "provider_of",
]


def load(extra: Sequence[Path] = ()) -> Classifier:
    """The shipped rules, and those of the TOML files `extra`, made ready to match.

    RuleError names the file, the rule, what is wrong and what to do. An extra rule must have an id of its own; where it
    is as specific as a shipped one and both hold, the longer match wins, so give it more words or a provider.
    """
    sources = [
        (entry.name, entry.read_text(encoding="utf-8"))
        for entry in files(__package__).joinpath("rules").iterdir()
        if entry.name.endswith(".toml")
    ]
    for path in extra:
        try:
            sources.append((str(path), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise RuleError(str(path), "-", f"cannot be read: {error}", "name a readable UTF-8 file") from None
    rules = [rule for name, text in sources for rule in parse(text, name)]
    check_unique(rules)
    return Classifier(rules)
