"""`smtpguard rules ...`: the rules that classify refusals, an operator's own among them, and those of the lint.

list  one a line    show  one with all its knowledge    test  rule files before they are used
What no rule explains: unmatched.py.
Exit codes: 0; 1 for a fault in a rule file; 2 for what is not there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smtpguard.classify import GROUPS, PROVIDERS, Classifier, Rule, RuleError, rules_of
from smtpguard.classify.categories import BY_NAME, group_of, guide
from smtpguard.classify.rules import LIKELY
from smtpguard.cli import lint_rules
from smtpguard.cli.options import EXIT_FINE, EXIT_FOUND, EXIT_USAGE
from smtpguard.cli.tally import many
from smtpguard.config import rule_files
from smtpguard.lint.reference import FAMILIES
from smtpguard.mail.reply import Reply, Verb, clean

MAX_SHOWN: Final = 200
"""Characters of an example that is read otherwise."""
MAX_NOTES: Final = 10
"""Of what `test` says is read otherwise."""
_LIKELY: Final = (
    "no rule, but all words of a reply weighed together, where the rules say nothing or little",
    "It cannot say why, and is less sure than a rule: `smtpguard rules unmatched` lists what it read, to write rules.",
)


# --- list and show -----------------------------------------------------------------------------------------------


def show_list(own: Sequence[Path], *, category: str, provider: str, family: str, as_json: bool, color: bool) -> int:
    """The rules of a category or group and of a provider, or those of a lint family; without any of these, all."""
    if family and family.upper() not in FAMILIES:
        return _unusable(f"--family: {family!r} is not one of {', '.join(FAMILIES)}")
    if category and category not in (*BY_NAME, *GROUPS):
        return _unusable(f"--category: {category!r} is neither a category nor one of {', '.join(GROUPS)}")
    if provider and provider not in PROVIDERS:
        return _unusable(f"--provider: {provider!r} is not one of {', '.join(PROVIDERS)}")
    try:
        found = rules_of(own)
    except RuleError as error:
        return _unusable(str(error))
    found = [
        rule
        for rule in sorted(found, key=lambda rule: (not rule.is_own, rule.id))
        if not family
        and (not category or category in (rule.category, group_of(rule.category)))
        and (not provider or provider in rule.providers)
    ]
    checks = [] if category or provider else lint_rules.listed(family)
    if as_json:
        described = [_described(rule) for rule in found] + [lint_rules.described(rule) for rule in checks]
        print(json.dumps(described, ensure_ascii=False))
        return EXIT_FINE
    rows = [(rule.id, rule.category, f"{_needs(rule)}{' (yours)' if rule.is_own else ''}") for rule in found] + [
        (rule.code, rule.name, f"{rule.severity}: {rule.title}") for rule in checks
    ]
    width = max((len(id) for id, _, _ in rows), default=0)
    for id, what, words in rows:
        name = f"{id:<{width}}"
        print(f"{_bold(name) if color else name}  {what:<24}  {words}")
    return EXIT_FINE


def show_rule(own: Sequence[Path], id: str, *, as_json: bool, color: bool) -> int:
    """One rule with all its knowledge; of `likely`, which is none, what it stands for."""
    if id == LIKELY:
        title, reason = _LIKELY
        described = json.dumps({"id": LIKELY, "kind": "reader", "title": title, "reason": reason})
        print(described if as_json else f"{_bold(LIKELY) if color else LIKELY}: {title}\n  {reason}")
        return EXIT_FINE
    try:
        rule = next((rule for rule in rules_of(own) if rule.id == id), None)
    except RuleError as error:
        return _unusable(str(error))
    check = lint_rules.found(id)
    if rule is None and check is not None:
        lint_rules.show(check, as_json=as_json)
        return EXIT_FINE
    if rule is None:
        return _unusable(f"no rule {clean(id)!r}: `smtpguard rules list` has all")
    if as_json:
        print(json.dumps(_described(rule), ensure_ascii=False))
        return EXIT_FINE
    category = BY_NAME[rule.category]
    print(_bold(rule.id) if color else rule.id)
    rows: list[tuple[str, Iterable[str]]] = [
        ("Category", [f"{rule.category}: {category.title}"]),
        ("Cause", [guide(rule.cause or category.cause, {})]),
        ("Who acts", [category.responsible]),
        ("What to do", [guide(rule.fix or category.guidance, {})]),
        ("Provider", [", ".join(sorted(rule.providers))]),
        ("Answer to", [", ".join(verb.value for verb in Verb if verb in rule.verbs)]),
        ("Code", [", ".join(_codes(rule))]),
        ("Enhanced", [", ".join(_enhanced(rule))]),
        ("Says", rule.phrases),
        ("Pattern (RE2)", rule.patterns),
        ("But not", rule.unless),
        (
            "Its words",
            [
                "are vague: plainer ones win"
                if rule.vague
                else "say no cause: a telling code wins"
                if rule.empty
                else "tell the cause itself"
                if rule.telling
                else ""
            ],
        ),
        ("Examples", (_example(example) for example in rule.examples)),
        ("Reference", [rule.reference]),
        ("File", [f"{rule.file}{'' if rule.is_own else ' (built in)'}"]),
    ]
    for label, values in rows:
        for number, value in enumerate(value for value in values if value):
            print(f"  {label if number == 0 else '':<18} {clean(value, utf8=True)}")
    return EXIT_FINE


def _described(rule: Rule) -> dict[str, Any]:
    category = BY_NAME[rule.category]
    whole: dict[str, Any] = {
        "id": rule.id,
        "category": rule.category,
        "provider": sorted(rule.providers),
        "verb": [verb.value for verb in Verb if verb in rule.verbs],
        "code": list(_codes(rule)),
        "enhanced": list(_enhanced(rule)),
        "says": list(rule.phrases),
        "patterns": list(rule.patterns),
        "unless": list(rule.unless),
        "vague": rule.vague,
        "telling": rule.telling,
        "empty": rule.empty,
        "cause": guide(rule.cause or category.cause, {}),
        "fix": guide(rule.fix or category.guidance, {}),
        "responsible": category.responsible,
        "permanence": category.permanence,
        "reference": rule.reference,
        "examples": [str(example.reply) for example in rule.examples],
        "file": rule.file,
        "own": rule.is_own,
    }
    return {key: value for key, value in whole.items() if value not in ("", [], False)}


def _needs(rule: Rule) -> str:
    """What a rule needs, in a few words."""
    texts = len(rule.phrases) + len(rule.patterns)
    words = [
        ", ".join(sorted(rule.providers)),
        "/".join(verb.value for verb in Verb if verb in rule.verbs),
        "/".join(_codes(rule)),
        _shortened(list(_enhanced(rule))),
        f"{texts} text{'s' if texts > 1 else ''}" if texts else "",
    ]
    return "; ".join(word for word in words if word)


def _shortened(words: list[str]) -> str:
    return ", ".join(words if len(words) <= 4 else [*words[:3], "..."])


def _codes(rule: Rule) -> Iterator[str]:
    for code in sorted(rule.codes):
        yield f"{code}xx" if code < 10 else str(code)


def _enhanced(rule: Rule) -> Iterator[str]:
    """As they are written in a rule, runs of details as 5.7.606-649."""
    run: list[tuple[int | None, int | None, int | None]] = []
    for mask in [*rule.enhanced, (None, None, None)]:
        if run and mask[2] is not None and mask[:2] == run[-1][:2] and mask[2] - 1 == run[-1][2]:
            run.append(mask)
            continue
        if run:
            parts = ["x" if part is None else str(part) for part in run[0]]
            yield ".".join(parts) + (f"-{run[-1][2]}" if len(run) > 1 else "")
        run = [mask]


def _example(example: Any) -> str:
    verb = f" (to {example.verb.value})" if example.verb is not None else ""
    return f"{example.reply}{verb}{f' [{example.host}]' if example.host else ''}"


# --- test --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a rule file."""

    file: str
    rule: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return clean(f"{self.file}: {self.rule}: {self.problem}; {self.remedy}", utf8=True)


def test(paths: Sequence[Path], *, as_json: bool, quiet: bool) -> int:
    """Rule files before they are used: each rule, its examples, and what is read otherwise from then on."""
    files = rule_files([str(path) for path in paths])
    if absent := [str(path) for path in files if not path.is_file()]:
        return _unusable(f"{absent[0]}: no such file")
    faults: list[Fault] = []
    sound: list[Path] = []
    for path in files:
        try:
            rules_of([path])
            sound.append(path)
        except RuleError as error:
            faults.append(Fault(error.file, error.rule, error.problem, error.remedy))
    own: list[Rule] = []
    taken: list[tuple[Rule, Rule, Reply]] = []
    try:
        rules = rules_of(sound)
        own = [rule for rule in rules if rule.is_own]
        classifier = Classifier(rules)
        faults += _unproven(classifier, own)
        taken = _taken(classifier)
    except RuleError as error:  # two files with one id
        faults.append(Fault(error.file, error.rule, error.problem, error.remedy))
    if as_json:
        moved = [{"rule": new.id, "from": old.id, "example": str(reply)} for new, old, reply in taken]
        listed = [{"file": f.file, "rule": f.rule, "problem": f.problem, "remedy": f.remedy} for f in faults]
        print(json.dumps({"ok": not faults, "rules": len(own), "faults": listed, "takes": moved}, ensure_ascii=False))
        return EXIT_FOUND if faults else EXIT_FINE
    for fault in faults:
        print(fault, file=sys.stderr)
    if not quiet:
        for new, old, reply in taken[:MAX_NOTES]:
            shown = clean(str(reply), utf8=True)[:MAX_SHOWN]
            print(f"note: {new.id} ({new.category}) takes from {old.id} ({old.category}): {shown}")
        if len(taken) > MAX_NOTES:
            print(f"note: and {len(taken) - MAX_NOTES} more (--json has all)")
        if not faults:
            count = sum(len(rule.examples) for rule in own)
            print(f"ok: {many(len(own), 'rule')}, {many(count, 'example')}, {many(len(files), 'file')}")
    return EXIT_FOUND if faults else EXIT_FINE


def _unproven(classifier: Classifier, own: Sequence[Rule]) -> Iterator[Fault]:
    """Examples that their own rule does not win."""
    for rule in own:
        for fault in classifier.prove([rule]):
            problem = fault.removeprefix(f"{rule.file}: {rule.id}: ")
            remedy = "let its conditions hold for the example, or give it more words than the other rule has"
            yield Fault(rule.file, rule.id, f"example {problem}", remedy)


def _taken(classifier: Classifier) -> list[tuple[Rule, Rule, Reply]]:
    """(own rule, built-in rule, example): what the own rules read as another category than the built-in ones do."""
    found = []
    for rule in classifier.rules:
        for example in () if rule.is_own else rule.examples:
            hits = classifier.hits(example.reply, example.host, example.verb)
            if hits and hits[0].rule.is_own and hits[0].rule.category != rule.category:
                found.append((hits[0].rule, rule, example.reply))
    return found


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m"


def _unusable(problem: str) -> int:
    print(f"smtpguard rules: {clean(problem, utf8=True)}", file=sys.stderr)
    return EXIT_USAGE
