"""Phrases: what they are read as, and what they find in a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.classify import load
from smtpguard.classify.phrases import MAX_TOKEN, MAX_WORDS, Found, Phrasebook
from smtpguard.classify.readings import GAP, PhraseError, beside, readings
from smtpguard.classify.regex import plain
from smtpguard.classify.words import FAMILIES, UnknownError

CLASSIFIER = load()


def told(book: Phrasebook, text: str) -> list[Found]:
    """All of a book whose phrases weigh 1 that is in a text."""
    return book.heaviest(book.read(text), 2, (), lambda _: True)[1]


def book_of(*phrases: str) -> Phrasebook:
    return Phrasebook(phrases, [1] * len(phrases))


def found(phrase: str, text: str) -> bool:
    return bool(told(book_of(plain(phrase)), plain(text)))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("mail ?box", {("mail", "box"), ("mailbox",)}),
        ("users?", {("user",), ("users",)}),
        (
            "(is |was )?(full|closed)",
            {("is", "full"), ("was", "full"), ("full",), ("is", "closed"), ("was", "closed"), ("closed",)},
        ),
        ("anti-spam", {("anti", "spam")}),
        ("black[- ]list*", {("black", "list*")}),
        ("已满", {("已", "满")}),
        ("user's", {("users",)}),
    ],
)
def test_a_part_is_written_out(part: str, words: set[tuple[str, ...]]) -> None:
    assert set(readings(part)) == words


@pytest.mark.parametrize(
    "part", ["(a", "a)", "a?", "", "a+b", "(a|)", "(a|b|c|d|e)?" * 6 + "x", "you.re", "full. try", "a...b", "^a", "a$"]
)
def test_what_is_no_phrase_is_refused(part: str) -> None:
    with pytest.raises(PhraseError):
        readings(part)


def test_what_would_never_be_found_is_refused_with_a_remedy() -> None:
    with pytest.raises(PhraseError, match=r"a dot ends a sentence.*write a space"):
        readings("mailbox full. try later")


def test_a_family_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownError, match="nonsense"):
        readings("{nonsense} x")


def test_phrases_beside_each_other_are_parted_outside_of_brackets_only() -> None:
    assert beside("a (b|c)|d ... e") == ["a (b|c)", "d ... e"]


@pytest.mark.parametrize(
    ("phrase", "text", "is_there"),
    [
        ("user ... unknown", "550 User <a@example.com> is UNKNOWN here", True),
        ("user ... unknown", "unknown user", False),  # order counts
        ("user ... unknown", "Send to the user. Reason unknown", False),  # a gap ends with the sentence
        ("user ... unknown", "user at mx.example.com: unknown", True),  # the dots of a name end nothing
        ("user unknown", "user is unknown", False),  # no gap, no words between
        ("user ... unknown", "superuser unknown", False),  # whole words
        ("black*", "blacklisted", True),
        ("black*", "bla", False),
        ("from #ip", "mail from [192.0.2.1] refused", True),
        ("from #ip", "mail from 2001:db8::1 refused", True),
        ("from @", "mail from <a@example.com>:", True),
        ("see #list", "see https://www.spamhaus.org/query/ip/192.0.2.1", True),
        ("see #list", "see https://www.example.com/", False),
        ("see #url", "see https://www.example.com/", True),
        ("does not exist", "it doesn't exist", True),
        ("can not", "we cannot", True),
        ("email", "your e-mail", True),
        ("boite pleine", "Boîte pleine", True),
        ("Boîte pleine", "boite pleine", True),
        ("用户 ... 不存在", "该用户名不存在", True),
        ("ящик* ... переполнен", "Ящик получателя переполнен", True),
        ("unknown user", "unknown user<a@example.com>", True),
        ("a ... b ... c ... d", "a x b x c x d", True),
        ("a ... b ... c ... d", "a x c x b x d", False),
    ],
)
def test_what_a_phrase_finds(phrase: str, text: str, is_there: bool) -> None:
    assert found(phrase, text) is is_there


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("mailbox full", [0, 0]),
        ("mailbox full. try later", [0, 0, 0, 1, 1]),
        ("mailbox full, please try later", [0, 0, 1, 1, 1]),
        ("mailbox full - try later", [0, 0, 1, 1]),
        ("your mail was rejected: mailbox full", [0, 0, 0, 0, 0, 1, 1]),
        ("recipient address rejected: mailbox full", [0, 0, 0, 0, 0]),
        ("mail rejected", [0, 0]),
        ("", []),
    ],
)
def test_where_a_clause_ends(text: str, clauses: list[int]) -> None:
    assert book_of("mailbox").read(text).clauses() == clauses  # a stop stands in the clause that it ends


def test_what_only_says_that_mail_was_rejected_is_a_sentence_of_its_own() -> None:
    assert not found("rejected ... full", "Mail rejected: mailbox full")
    assert found("mail rejected", "Mail rejected: mailbox full")


def test_the_longest_wording_is_told() -> None:
    (*_, longest) = sorted(told(book_of("(too many|many) (users|users here)"), "too many users here"))
    assert longest == (0, len("toomanyusershere"), 0, 4)
    assert told(book_of("(too many|many) ... (here|not here)"), "too many are not here") == [(0, 14, 0, 5)]


def test_the_heaviest_that_is_meant_is_told() -> None:
    book = Phrasebook(["beside", "user unknown", "user", "user ... unknown", "unknown"], [-1, 1, 2, 3, 3])
    read = book.read("beside the user unknown")
    always, never = (lambda _: True), (lambda _: False)
    assert book.heaviest(read, 9, (), always) == (3, [(4, 7, 3, 4), (3, 11, 2, 4)])
    assert book.heaviest(read, 9, {4}, never) == (3, [(3, 11, 2, 4)])
    assert book.heaviest(read, 9, {3, 4}, never) == (2, [(2, 4, 2, 3)])
    assert book.heaviest(read, 2, (), always) == (1, [(1, 11, 2, 4)])
    assert book.heaviest(read, 1, (), always) == (0, [])
    assert book.find(read, book.bits([0])) == [(0, 6, 0, 1)]


def test_what_a_host_name_gives_away_is_a_word() -> None:
    assert found("blocked by #list", "blocked by zen.spamhaus.org")
    assert found("#google", "see https://support.google.com/mail/?p=NoSuchUser")
    assert not found("#google", "see https://www.example.com/mail/")


def test_a_text_beyond_measure_is_not_read_to_its_end() -> None:
    assert not found("user unknown", "word " * (MAX_WORDS + 10) + "user unknown")


def test_what_repeats_itself_is_read_as_far_as_a_word_may_go() -> None:
    assert not found("user unknown", "a." * MAX_TOKEN + ",user,unknown")
    assert found("user unknown", "a." * 10 + ",user,unknown")


def test_what_is_remembered_of_a_token_is_bounded() -> None:
    book = book_of("user unknown")
    text = f"user unknown {'x' * 4000}."
    assert told(book, text)
    assert max(map(len, book.read(text).written)) == MAX_TOKEN


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_written_out(name: str) -> None:
    assert readings("{" + name + "}")


def test_every_phrase_of_the_rules_is_found_in_its_own_words() -> None:
    phrases = sorted({phrase for rule in CLASSIFIER.rules for phrase in (*rule.phrases, *rule.unless)})
    book = book_of(*phrases)
    for number, phrase in enumerate(phrases):
        words = [
            word.replace("*", "")
            .replace("#ip", "192.0.2.1")
            .replace("#num", "7")
            .replace("#arpa", "2.0.192.in-addr.arpa")
            for part in phrase.split(GAP)
            for word in min(readings(part))
        ]
        signs = {
            "#host": "mx.example.com",
            "#url": "https://example.com/",
            "#list": "bl.example.org",
            "#spf": "www.openspf.org",
            "#barelf": "https://example.com/smtplf.html",
            "#virus": "win.trojan.agent",
        }
        text = " ".join(signs.get(word, "dbl.example.org" if word == "#domainlist" else word) for word in words)
        text = text.replace("@", "a@example.com")
        assert number in {one for one, *_ in told(book, text)}, (phrase, text)


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    simple = plain(" ".join(text.split()))
    book = CLASSIFIER.book
    read = book.read(simple)
    assert len(read.words) <= MAX_WORDS + 1
    for start, stop, _ in read.told:
        first, last = read.tokens(start, stop)
        assert 0 <= first < last <= len(read.written)
