"""The page config/lint.md, made from the rules' own words: `python -m smtpguard.lint.reference > that file`.

A table of all rules by family, then each with its reason, its fix, what receivers say and what we would. A test keeps
the page equal to the rules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby

from smtpguard.lint import RULES, Rule

FAMILIES = {
    "ENV": "the envelope's sender",
    "RCP": "recipients",
    "SPF": "SPF",
    "DKM": "DKIM",
    "DMA": "DMARC",
    "NET": "our own address and name",
    "RBL": "blocklists",
    "HDR": "header fields",
    "MIM": "octets, structure and size",
    "CNT": "content",
    "BLK": "bulk mail",
    "DNS": "the DNS itself",
}
"""What a family's rules are about."""

_HEAD = """\
# What the lint looks at

Made from the rules by `python -m smtpguard.lint.reference`; do not edit. `smtpguard rules show SPF003` prints one of
them, `smtpguard lint FILE` asks those that a message and the DNS can answer. Severity says how sure a refusal is; what
is done about a finding is yours to say, in `[lint]` and `[lint.rules]`: shipped, every rule only observes. Rules marked
(R) refuse under `lint.mode = "enforce"`.
"""


def page() -> str:
    """The whole page, in Markdown."""
    rules = in_order()
    return "\n".join([_HEAD, *_table(rules), *_each(rules)]) + "\n"


def in_order() -> list[Rule]:
    """All rules: families as in FAMILIES, codes rising."""
    places = list(FAMILIES)
    return sorted(RULES.values(), key=lambda rule: (places.index(rule.family), rule.code))


def _table(rules: list[Rule]) -> Iterator[str]:
    yield "| rule | name | severity | asked at | what it wants |"
    yield "| --- | --- | --- | --- | --- |"
    for rule in rules:
        mark = " (R)" if rule.is_certain else ""
        link = f"[{rule.code}](#{rule.code.lower()})"
        yield f"| {link}{mark} | `{rule.name}` | {rule.severity} | {rule.stage} | {rule.title} |"


def _each(rules: list[Rule]) -> Iterator[str]:
    for family, members in groupby(rules, key=lambda rule: rule.family):
        yield f"\n## {family}: {FAMILIES[family]}"
        for rule in members:
            yield f"\n### {rule.code}\n\n**{rule.name}** ({rule.severity}): {rule.title}\n\n{rule.reason}\n"
            yield f"Fix: {rule.fix}\n"
            if rule.predicts:
                yield "Receivers say: " + "; ".join(f"{each.by} {each.says}" for each in rule.predicts) + "\n"
            if rule.answer is not None:
                yield f"We would say: `{rule.answer}` ([{rule.category}](classification.md#categories))\n"
            yield f"Reference: {rule.reference}"


if __name__ == "__main__":
    sys.stdout.write(page())
