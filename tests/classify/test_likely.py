"""What all words together say: the table as a file, what is learned from replies, and when it is believed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.classify import CATEGORIES, Classification, Classifier, likely, load, rules_of
from smtpguard.classify.learn import learned, lesson, spoken
from smtpguard.classify.likely import MAX_WEIGHT, MAX_WORDS, UNIT, Likely, dumped, packed, parsed, share, worded, words
from smtpguard.classify.rules import parse
from smtpguard.mail.reply import EnhancedCode, Reply, Verb

CLASSIFIER = load()
SHIPPED = likely.load()
DEAD = {"recipient.unknown", "recipient.disabled", "recipient.domain", "recipient.syntax"}


def packed_all(table: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {feature: packed(weights) for feature, weights in table.items()}


def match(text: str, verb: Verb | None = None) -> Classification:
    return CLASSIFIER.match(Reply.of(text, verb or Verb.MAIL), verb_known=verb is not None)


def best(table: Likely, text: str) -> str:
    sums = table.weigh(text.split(), None, 550, None)
    return CATEGORIES[sums.index(max(sums))] if sums else ""


# --- features --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "features"),
    [
        ("rejected", ["rejec", "rejecte"]),
        ("(policy)", ["polic", "policy"]),
        ("<user@example.com>:", ["#@"]),
        ("(https://example.com/why)", ["#url"]),
        ("[192.0.2.7]", ["#ip"]),
        ("mx.example.com.", ["#host"]),
        ("5.7.1", ["0", "0"]),
        ("user's", ["users"]),
        ("dns/mx", ["dns", "mx"]),
        ("--", []),
        ("не", ["не"]),
    ],
)
def test_a_written_word_is_a_stem_and_more_of_it_or_one_of_its_kind(token: str, features: list[str]) -> None:
    assert [feature for word in words(token) for feature in word] == features


def test_words_are_features_alone_and_with_the_one_before_each_once() -> None:
    found = ["no", "^ no", "such", "no such", "mailb", "mailbox", "such mailb", "mailb no"]
    assert worded(["no", "such", "mailbox", "no", "such"]) == found


# --- the table -------------------------------------------------------------------------------------------------------

TABLE = {
    "junk": {"content.spam": 60, "recipient.unknown": -20},
    "^ junk": {"content.spam": 7},
    "user": {"recipient.unknown": 50},
    "no user": {"recipient.unknown": 30},
    "=550": {"recipient.unknown": 5},
    "=x.7.1": {"content.spam": 90},
    "=DOT": {"content.spam": 50},
}


def test_a_table_is_read_as_it_was_written() -> None:
    assert parsed(dumped(TABLE)) == packed_all(TABLE)


def test_all_that_is_there_adds_up() -> None:
    place = {category: number for number, category in enumerate(CATEGORIES)}
    table = Likely(packed_all(TABLE))

    def weighed(text: str, verb: Verb | None = None, enhanced: EnhancedCode | None = None) -> tuple[int, int]:
        sums = table.weigh(text.split(), verb, 550, enhanced)
        zero = sums[place["unknown"]]
        return sums[place["content.spam"]] - zero, sums[place["recipient.unknown"]] - zero

    assert weighed("junk user") == (67, 35)
    assert weighed("is junk no user") == (60, 65)
    assert weighed("junk junk", Verb.DOT, EnhancedCode(5, 7, 1)) == (207, -15)
    assert table.weigh(["neither"], None, 550, None) == ()


def test_shares_are_those_of_the_odds() -> None:
    sums = (100, 100 + UNIT, 100 - 2000)
    assert share(sums, sums[1]) / share(sums, 100) == pytest.approx(2.718, abs=1e-3)
    assert share(sums, sums[1]) + share(sums, 100) == pytest.approx(1.0)
    assert share(sums, -1900) < 1e-30


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_have_room(sign: int) -> None:
    letters = [chr(place) for place in range(0x4E00, 0x4E00 + 2 * MAX_WORDS)]
    written = [f"{one}abcde-{other}abcde" for one, other in zip(letters[::2], letters[1::2], strict=True)]
    found = worded(written)
    assert len(found) == 6 * len(written)
    table = Likely({feature: packed(dict.fromkeys(CATEGORIES, sign * MAX_WEIGHT)) for feature in found})
    assert table.weigh(written, None, 550, None) == (32768 + sign * len(found) * MAX_WEIGHT,) * len(CATEGORIES)


@given(st.lists(st.text(min_size=1), max_size=50), st.integers(0, 999))
def test_any_words_are_weighed(written: list[str], code: int) -> None:
    sums = SHIPPED.weigh(written, None, code, None)
    assert len(sums) in (0, len(CATEGORIES))


def test_the_shipped_table_reads_what_is_plain() -> None:
    assert best(SHIPPED, "this mail is spam and unsolicited junk") == "content.spam"
    assert best(SHIPPED, "you have sent too many messages in this hour") == "rate.limited"
    assert best(SHIPPED, "qwertz asdfg") == ""


# --- learning --------------------------------------------------------------------------------------------------------

REPLIES = [
    ("550 no such user", "recipient.unknown"),
    ("550 user is not there", "recipient.unknown"),
    ("550 who is this user", "recipient.unknown"),
    ("550 this is junk", "content.spam"),
    ("550 we take no junk", "content.spam"),
    ("550 junk is not read there", "content.spam"),
]


def test_what_was_learned_is_told_again_and_of_other_words_too() -> None:
    known = [lesson(Reply.of(text), None, category) for text, category in REPLIES]
    table = Likely(packed_all(learned(known)))
    assert [best(table, text[4:]) for text, _ in REPLIES] == [category for _, category in REPLIES]
    assert best(table, "some user is not ours") == "recipient.unknown"
    assert best(table, "some junk is not ours") == "content.spam"


def test_the_same_replies_give_the_same_table() -> None:
    known = [lesson(Reply.of(text), None, category) for text, category in REPLIES]
    assert learned(known) == learned(known)
    assert learned(known, rounds=1) != learned(known)


def test_the_phrases_of_rules_are_learned_too() -> None:
    rules = parse(
        "[[rule]]\nid = 'x'\ncategory = 'content.spam'\nsays = '(junk|trash*) ... from @'\nexamples = ['550 x']\n",
        "x.toml",
    )
    told = list(spoken(rules))
    assert told
    assert {category for _, category in told} == {"content.spam"}
    for versions, _ in told:
        assert all({"from", "from #@"} < set(found) and {"junk", "trash"} & set(found) for found in versions)
    known = [lesson(Reply.of(text), None, category) for text, category in REPLIES]
    table = Likely(packed_all(learned([*told, *known])))
    assert best(table, "from some@example.com in the bin: junk") == "content.spam"  # in another order, too


def test_a_feature_of_one_reply_is_none() -> None:
    assert "who" not in learned([lesson(Reply.of(text), None, category) for text, category in REPLIES])


# --- when it is believed ---------------------------------------------------------------------------------------------


def test_where_no_rule_holds_all_words_decide() -> None:
    answer = match("554 it scores like gambling and pharmacy letters", Verb.DOT)
    assert (answer.category, answer.rule, answer.confidence) == ("content.spam", "likely", 0.5)
    assert (answer.matched, answer.alternatives) == ("", ())


def test_where_a_rule_says_little_its_category_stays_the_alternative() -> None:
    answer = match("421 you open more sessions than we like", Verb.CONNECT)
    assert (answer.category, answer.rule, answer.confidence) == ("rate.limited", "likely", 0.4)
    assert answer.alternatives == ("server.error",)


@pytest.mark.parametrize(
    "text",
    [
        "550 qwertz asdfg yxcvb",
        "550 5.7.27 x",
        "599 gnarl",
    ],
)
def test_of_words_it_does_not_know_it_says_nothing(text: str) -> None:
    assert match(text).rule != "likely"


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("550 there was a mailbox of that sort once", "recipient.unknown"),
        # a rule says something else
        ("550 there was a mailbox of that sort once, rejected by policy", "policy.unspecified"),
        ("450 there was a mailbox of that sort once", "recipient.full"),  # what may pass is not dead
        ("451 4.4.3 there was a mailbox of that sort once", "server.error"),
    ],
)
def test_an_address_is_dead_where_it_is_sure_and_no_rule_says_else(text: str, category: str) -> None:
    assert match(text).category == category
    assert best(SHIPPED, text[4:].partition(" by ")[0]) in DEAD


@pytest.mark.parametrize(("dead", "category"), [(45, "unknown"), (60, "recipient.unknown")])
def test_no_code_makes_an_address_dead(dead: int, category: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"gnarl": {"recipient.unknown": dead}, "wards": {"content.spam": 55}, "=550": {"recipient.unknown": 60}}
    table = Likely(packed_all(weights))
    classifier = load()
    monkeypatch.setattr(classifier, "_likely", table)
    assert classifier.match(Reply.of("550 gnarl wards", Verb.RCPT)).category == category


@pytest.mark.parametrize(
    ("condition", "own", "category"),
    [
        ('says = "gambling"', False, "content.spam"),
        ('says = "scores like gambling and"', False, "rate.limited"),
        ('says = "gambling"\ntelling = true', False, "rate.limited"),
        ('says = "gambling"\nprovider = "google"', False, "rate.limited"),
        ('says = "gambling"', True, "rate.limited"),
    ],
)
def test_a_rule_that_says_enough_is_not_doubted(condition: str, own: bool, category: str) -> None:
    text = "554 it scores like gambling and pharmacy letters"
    table = f"[[rule]]\nid = 'x'\ncategory = 'rate.limited'\nexamples = ['{text}']\n{condition}\n"
    classifier = Classifier([*rules_of(), *parse(table, "x.toml", own=own)])
    assert classifier.match(Reply.of(text, Verb.DOT), "aspmx.l.google.com").category == category


def test_a_rule_whose_code_says_the_same_is_not_doubted() -> None:
    text = "it scores like gambling and pharmacy letters"
    table = f"[[rule]]\nid = 'x'\ncategory = 'rate.limited'\nexamples = ['554 {text}']\nsays = 'gambling'\n"
    classifier = Classifier([*rules_of(), *parse(table, "x.toml")])
    assert classifier.match(Reply.of(f"554 {text}", Verb.DOT)).category == "content.spam"
    assert classifier.match(Reply.of(f"554 5.7.28 {text}", Verb.DOT)).category == "rate.limited"


def test_it_says_nothing_of_what_was_not_named_yet() -> None:
    text = "554 it scores like gambling and pharmacy letters"
    assert match(text, Verb.DOT).category == "content.spam"
    assert not match(text, Verb.CONNECT).category.startswith("content.")
