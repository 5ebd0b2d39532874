"""The rules are proved by their own examples; a rule that cannot be used says where, what, and what to do."""

from __future__ import annotations

import random
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

import smtpguard.classify
from smtpguard.classify import CATEGORIES, GROUPS, Classifier, RuleError, ShippedRuleError, load
from smtpguard.classify.categories import BY_NAME, PERMANENCES, SCOPES, guide, places
from smtpguard.classify.regex import lowered, measuring, uncaptured
from smtpguard.classify.rules import parse
from smtpguard.mail.reply import Reply

CLASSIFIER = load()

GOOD = 'id = "own.one"\ncategory = "content.spam"\npattern = "purple prose"\nexamples = ["550 purple prose"]\n'


def rule(text: str) -> str:
    return f"[[rule]]\n{text}"


def test_ours_are_phrases_not_patterns() -> None:
    # each pattern is a search of its own in every reply; all phrases together are one
    assert [rule.id for rule in CLASSIFIER.rules if rule.patterns] == []


def test_every_example_is_won_by_its_rule() -> None:
    assert CLASSIFIER.prove() == []


def test_ids_are_unique_and_every_rule_is_there() -> None:
    counted = Counter(rule.id for rule in CLASSIFIER.rules)
    assert [name for name, count in counted.items() if count > 1] == []
    written = sum(
        len(re.findall(r"^\[\[rule\]\]$", entry.read_text("utf-8"), re.M))
        for entry in files("smtpguard.classify").joinpath("rules").iterdir()
        if entry.name.endswith(".toml")
    )
    assert len(CLASSIFIER.rules) == written


def test_the_order_of_rules_means_nothing() -> None:
    shuffled = list(CLASSIFIER.rules)
    random.Random(7).shuffle(shuffled)
    other = Classifier(shuffled)
    for one in CLASSIFIER.rules:
        for example in one.examples:
            asked = example.reply, example.host
            assert other.match(*asked, verb_known=example.verb is not None) == CLASSIFIER.match(
                *asked, verb_known=example.verb is not None
            )


def test_every_enhanced_code_of_the_registry_has_its_rule() -> None:
    # RFC 3463 and the IANA registry: how many details each subject has, and those that mean success only
    details = {0: 0, 1: 10, 2: 4, 3: 6, 4: 7, 5: 6, 6: 10, 7: 30}
    success = {"x.1.5", "x.3.6"}
    registered = {f"x.{subject}.{detail}" for subject, last in details.items() for detail in range(last + 1)} - success
    ids = {one.id.removeprefix("enhanced.") for one in CLASSIFIER.rules if one.file == "enhanced.toml"}
    assert registered <= ids


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_category_says_what_to_do(name: str) -> None:
    category = BY_NAME[name]
    assert category.permanence in PERMANENCES
    assert category.scope in SCOPES
    assert category.title
    assert category.cause
    assert category.responsible
    for sentence in (category.guidance, category.cause):
        places(sentence)  # raises on a place that nobody fills
        assert "{" not in guide(sentence, {})
    assert len(guide(category.guidance, {})) <= 200
    assert category.guidance.endswith(".")


def test_groups_are_the_parts_before_the_dot() -> None:
    assert set(GROUPS) == {name.split(".")[0] for name in CATEGORIES}
    assert len(CATEGORIES) == 35


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            rule(GOOD.replace("content.spam", "content.span")),
            "unknown category 'content.span'; did you mean 'content.spam'?",
        ),
        (rule(GOOD + 'patern = "x"\n'), "unknown key 'patern'; did you mean 'pattern'?"),
        (rule(GOOD.replace("own.one", "likely")), "id 'likely'"),
        (rule(GOOD) + rule(GOOD), "id already used"),
        (rule(GOOD.replace("purple prose", "(purple", 1)), "missing )"),
        (rule(GOOD.replace("purple prose", "(?=a)b", 1)), "no look-around"),
        (rule(GOOD.replace("purple prose", "x*", 1)), "matches everything"),
        (rule(GOOD.split("examples")[0]), "no examples"),
        (rule(GOOD.replace('["550 purple prose"]', "[]")), "no examples"),
        (rule(GOOD.replace('"550 purple', '"purple')), "begin it with its code"),
        (rule(GOOD.replace('"550 purple prose"', "5")), "write a reply, or a table"),
        (rule(GOOD.replace('id = "own.one"\n', "")), "rule number 1: no id"),
        (rule(GOOD.replace("own.one", "Own One")), "lower-case letters"),
        (rule(GOOD.replace("category", "#")), "no category"),
        (rule(GOOD.replace('pattern = "purple prose"\n', "")), "no condition"),
        (rule(GOOD + 'patterns = ["a"]\n'), "both pattern and patterns"),
        (rule(GOOD + 'says = "(a"\n'), "a bracket is not closed"),
        (rule(GOOD + 'says = "a?"\n'), "may be no word at all"),
        (rule(GOOD + 'says = "a ... b ... c ... d ... e"\n'), "more than 4 parts"),
        (rule(GOOD + 'says = "TS[1-4]"\n'), "is a range"),
        (rule(GOOD + 'says = "{mailbux} x"\n'), "no words {mailbux}; did you mean 'mailbox'?"),
        (rule(GOOD + "says = [1]\n"), "a phrase is a string"),
        (rule(GOOD + 'unless = "b*"\n'), "characters before its *"),
        (rule(GOOD.replace('pattern = "purple prose"', "patterns = [1]")), "a pattern is a string"),
        (rule(GOOD + 'provider = "gogle"\n'), "did you mean 'google'?"),
        (rule(GOOD + 'verb = "RCTP"\n'), "did you mean 'RCPT'?"),
        (rule(GOOD + "code = 250\n"), "from 400 to 599"),
        (rule(GOOD + "code = true\n"), "it must be"),
        (rule(GOOD + 'enhanced = "5.1"\n'), 'write it as "5.1.1"'),
        (rule(GOOD + "confidence = 7\n"), "from 0 to 1"),
        (rule(GOOD + 'scope = "world"\n'), "unknown scope"),
        (rule(GOOD + 'fix = "Call {them|you}."\n'), "no such place: them"),
        (rule(GOOD + 'fix = "Call {ip}."\n'), "a brace"),
        ("[[rule]\n", "not TOML"),
        ("[rules]\n", "unknown key 'rules'"),
        ('rule = "x"\n', "not a list of tables"),
    ],
)
def test_a_bad_rule_says_where_what_and_what_to_do(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RuleError) as caught:
        load([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"absent\.toml.*cannot be read"):
        load([tmp_path / "absent.toml"])


def test_a_broken_rule_of_ours_is_not_laid_on_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "google.toml").write_text("[[rule]\n", encoding="utf-8")
    monkeypatch.setattr(smtpguard.classify, "files", lambda package: tmp_path)
    smtpguard.classify._shipped.cache_clear()
    try:
        with pytest.raises(ShippedRuleError, match=r"^smtpguard's own google\.toml: -: not TOML.*report it"):
            load()
    finally:
        smtpguard.classify._shipped.cache_clear()


def test_an_operator_s_rule_is_used_and_proved(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(rule(GOOD + 'fix = "Write plainly to {domain|them}."\nscope = "account"\nconfidence = 0.5\n'))
    classifier = load([path])
    found = classifier.match(Reply.of("550 PURPLE  prose"))
    assert (found.category, found.rule, found.matched) == ("content.spam", "own.one", "PURPLE prose")
    assert (found.fix, found.scope, found.confidence) == ("Write plainly to them.", "account", 0.5)
    assert classifier.prove([one for one in classifier.rules if one.id == "own.one"]) == []


def test_prove_finds_a_wrong_example_and_a_draw() -> None:
    rules = parse(
        rule(GOOD.replace("550 purple prose", "550 plain prose"))
        + rule('id = "a"\ncategory = "content.virus"\npattern = "red ink"\nexamples = ["550 red ink"]\n')
        + rule('id = "b"\ncategory = "content.spam"\npattern = "red ink"\nexamples = ["550 red ink, red ink"]\n'),
        "own.toml",
    )
    faults = Classifier(rules).prove()
    assert [fault for fault in faults if "is not what the rule says" in fault]
    assert [fault for fault in faults if "is won by b, content.spam" in fault or "is a draw of" in fault]


@pytest.mark.parametrize(
    ("pattern", "measured", "plain"),
    [
        ("user (name )?.*unknown", "user (?:name )?(.*)unknown", "user (?:name )?.*unknown"),
        (r"a\.*(b|c)", r"a\.*(?:b|c)", r"a\.*(?:b|c)"),
        (r"<[^>]+> no", r"<([^>]+)> no", r"<[^>]+> no"),
        (r"\(x\) [(]y (?:z)", r"\(x\) [(]y (?:z)", r"\(x\) [(]y (?:z)"),
        (r"at \S+ .{0,40}?end", r"at (\S+) (.{0,40}?)end", r"at \S+ .{0,40}?end"),
    ],
)
def test_gaps_are_what_a_pattern_does_not_say(pattern: str, measured: str, plain: str) -> None:
    assert measuring(pattern) == measured
    assert uncaptured(pattern) == plain


def test_escapes_keep_their_case() -> None:
    assert lowered(r"RESOLVER\.RST \S+ \D\pL\p{Lu}X") == r"resolver\.rst \S+ \D\pL\p{Lu}x"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"generic-a.toml": "", "zebra.toml": ""}, "generic-a.toml"),  # no name of a sayer that it may not be
        ({"generic-a.toml": "", "acme.toml": 'reference = "https://acme.example/why"\n'}, "acme.toml"),
    ],
)
def test_of_two_rules_that_say_as_much_the_more_helpful_is_told(files: dict[str, str], told: str) -> None:
    rules = [
        rule
        for number, (file, more) in enumerate(files.items())
        for rule in parse(f"[[rule]]\n{GOOD.replace('own.one', f'rule.{number}')}{more}", file)
    ]
    won = Classifier(rules).match(Reply.of("550 purple prose")).rule
    assert next(rule.file for rule in rules if rule.id == won) == told
