"""The page config/classification.md, made from the rules: `python -m smtpguard.classify.reference > that file`.

First every category with what it means, who can fix it and how; then the rules by sayer, each with its category and a
reply that it reads. A test keeps the page equal to the rules.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator

from smtpguard.classify import Rule, rules_of
from smtpguard.classify.categories import BY_NAME, guide

_HEAD = """\
# What a refusal can be about, and how it is recognised

Made from the rules by `python -m smtpguard.classify.reference`; do not edit. `smtpguard explain` says which rule read a
reply. `likely` is no rule: where rules say little or nothing, all words together may speak for a cause (for a dead
address only where no rule names a cause). An operator's own rule files use the same notation, see the head of
smtpguard/classify/rules.py.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_HEAD, *_categories(), "", *_rules(rules_of())]) + "\n"


def _categories() -> Iterator[str]:
    yield "## Categories"
    yield ""
    yield "| category | meaning | who acts | permanence | what to do |"
    yield "| --- | --- | --- | --- | --- |"
    for name, category in BY_NAME.items():
        advice = guide(category.guidance, {})
        yield f"| `{name}` | {category.title} | {category.responsible} | {category.permanence} | {advice} |"


def _rules(rules: list[Rule]) -> Iterator[str]:
    by_file: defaultdict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        by_file[rule.file].append(rule)
    yield "## Rules"
    for file in sorted(by_file):
        yield ""
        yield f"### {file.removesuffix('.toml')}"
        yield ""
        yield "| rule | category | for example |"
        yield "| --- | --- | --- |"
        for rule in sorted(by_file[file], key=lambda rule: rule.id):
            yield f"| `{rule.id}` | `{rule.category}` | {_cell(str(rule.examples[0].reply))} |"


def _cell(text: str) -> str:
    """Foreign text as code in a table's cell."""
    return "`" + text.replace("|", "/").replace("`", "'").replace("\n", " ") + "`"


if __name__ == "__main__":
    sys.stdout.write(page())
