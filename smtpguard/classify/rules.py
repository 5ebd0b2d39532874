"""A rule: the conditions that a reply must meet, and the category it then has. Read from TOML and checked here.

    [[rule]]
    id = "google.spf"                 # unique, lower case
    category = "auth.spf"             # of categories.toml
    provider = "google"               # conditions: all that are given must hold; a list means any of
    verb = ["MAIL", "DOT"]
    code = [550, "4xx"]
    enhanced = ["5.7.27", "x.7.27", "5.7.606-649"]   # x: any
    says = ["SPF ... (fail*|not pass*)"]  # readings.py: what is said, in any words
    patterns = ['SPF .* did not pass']  # or pattern = '...': RE2, any case, searched in the text after the codes
    unless = ["sender"]                 # the rule does not hold where one of these phrases is found: of plain words,
                                      # in their own clause, of others anywhere
    telling = true                    # these words name the cause itself: they beat others in the same text
    vague = true                      # these words hint at the cause only: any plain text beats them
    empty = true                      # these words say that, not why: a telling code beats them too
    examples = ["550 5.7.27 ...", {reply = "...", host = "mx.example", verb = "MAIL"}]
    reference = "..."                 # the rest is optional; what is absent comes from the category
    cause = "..."
    fix = "..."
    scope = "sender"
    confidence = 0.9

An operator's own rule wins over ours; then the most specific, in this order: provider, text (telling, plain, vague; a
rule without text that is telling; empty), enhanced code, code, verb; then the category that the reply's enhanced code
stands for, and then how many characters its words themselves have, without gaps such as ` ... ` or `.*`, unless all
words together speak clearly for another rule as specific (likely.py; never of dead addresses). Of two alike the one
with guidance of its own is told, then one of a file `generic-*`, which names no sayer. The order of rules and files
means nothing. What a rule of ours says of recipients is not heard before RCPT, nor of a message before
MAIL, but where it is telling or names its verbs. All mistakes are RuleError: where, what, and what to do.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from smtpguard.classify import words
from smtpguard.classify.categories import BY_NAME, SCOPES, group_of, places
from smtpguard.classify.providers import PROVIDERS
from smtpguard.classify.readings import PhraseError, beside, parts_of, readings
from smtpguard.classify.regex import PatternError, finder, lowered, plain
from smtpguard.mail.reply import EnhancedCode, Reply, ReplyError, Verb

LIKELY: Final = "likely"
"""The id in answers that no rule gave, but all words together (likely.py); no rule may have it."""


class RuleError(ValueError):
    """A rule that cannot be used: `file: rule id: what is wrong; what to do`."""

    def __init__(self, file: str, rule: str, problem: str, remedy: str) -> None:
        super().__init__(f"{file}: {rule}: {problem}; {remedy}")
        self.file, self.rule, self.problem, self.remedy = file, rule, problem, remedy


class ShippedRuleError(RuleError):
    """A rule of ours that cannot be used: no configuration is to blame, and none helps."""


class Rank(NamedTuple):
    """How specific a rule is; the greater wins. `own`: 1 for an operator's; `text`: one of the numbers below."""

    own: int
    provider: int
    text: int
    enhanced: int
    code: int
    verb: int


TELLING: Final = 5
PLAIN: Final = 4
VAGUE: Final = 3
TELLING_CODE: Final = 2
EMPTY: Final = 1
NO_TEXT: Final = 0
"""What the words of a rule say of the cause, as `Rank.text`; a code that stands for it says more than empty words."""

_NO_MAIL_YET: Final = (Verb.CONNECT, Verb.EHLO, Verb.STARTTLS, Verb.AUTH)
# RFC 5321 3.3: by group, the verbs that are answered before the transaction has named what the group is about
_TOO_EARLY: Final[Mapping[str, tuple[Verb, ...]]] = {
    "recipient": (*_NO_MAIL_YET, Verb.MAIL),
    "content": _NO_MAIL_YET,
    "message": _NO_MAIL_YET,
}


def too_early(category: str) -> tuple[Verb, ...]:
    """The verbs at which what a category is about has not been named yet."""
    return _TOO_EARLY.get(group_of(category), ())


EnhancedMask = tuple[int | None, int | None, int | None]
"""An enhanced code, or all that have the parts which are not None."""


@functools.lru_cache(maxsize=1024)
def masks_of(code: EnhancedCode) -> frozenset[EnhancedMask]:
    """All that cover a code."""
    klass, subject, detail = code
    return frozenset(itertools.product((klass, None), (subject, None), (detail, None)))


@dataclass(frozen=True, slots=True)
class Example:
    """A real reply that a rule must win; host and verb as the next hop gave them (None: not known)."""

    reply: Reply
    host: str = ""
    verb: Verb | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One checked rule; empty conditions hold always. `codes` may hold 4 or 5 for a whole class."""

    id: str
    category: str
    file: str
    providers: frozenset[str] = frozenset()
    verbs: frozenset[Verb] = frozenset()
    codes: frozenset[int] = frozenset()
    enhanced: tuple[EnhancedMask, ...] = ()
    patterns: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    vague: bool = False
    telling: bool = False
    empty: bool = False
    examples: tuple[Example, ...] = ()
    reference: str = ""
    cause: str = ""
    fix: str = ""
    scope: str = ""
    confidence: float = 0.0
    is_own: bool = False
    rank: Rank = field(init=False)
    order: int = field(init=False)
    """The rank as one number."""
    is_free: bool = field(init=False)
    """Whether it has no conditions but its text."""
    tier: int = field(init=False)
    """What must be equal for another category to count as an alternative: the rank down to its text."""
    told_by: tuple[bool, bool] = field(init=False)
    """Of two that say as much, the greater is told: one with words or a page of its own, then one of no sayer."""
    premature: tuple[Verb, ...] = field(init=False)
    """The verbs at which nothing of its kind can be wrong yet: no recipient before RCPT, no message before DATA.

    Rules that name their verbs know better, and words that name the cause itself are believed at any.
    """

    def __post_init__(self) -> None:
        rank = Rank(
            own=int(self.is_own),
            provider=int(bool(self.providers)),
            text=self._text_rank(),
            enhanced=max((sum(part is not None for part in mask) for mask in self.enhanced), default=0),
            code=2 if any(code > 99 for code in self.codes) else int(bool(self.codes)),
            verb=int(bool(self.verbs)),
        )
        object.__setattr__(self, "rank", rank)  # the class is frozen
        order = functools.reduce(lambda whole, part: whole * 10 + part, rank)
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "tier", order // 1000)
        object.__setattr__(self, "is_free", not (self.providers or self.verbs or self.codes or self.enhanced))
        explains = bool(self.cause or self.fix or self.reference)
        object.__setattr__(self, "told_by", (explains, self.file.startswith("generic-")))
        knows = self.verbs or self.telling or self.is_own
        object.__setattr__(self, "premature", () if knows else too_early(self.category))

    def _text_rank(self) -> int:
        if not self.patterns and not self.phrases:
            return TELLING_CODE if self.telling else NO_TEXT
        return EMPTY if self.empty else VAGUE if self.vague else TELLING if self.telling else PLAIN

    def holds(self, provider: str, verb: Verb | None, code: int, enhanced: EnhancedCode | None) -> bool:
        """Whether all conditions but the text hold."""
        return (
            (not self.providers or provider in self.providers)
            and (not self.verbs or verb in self.verbs)
            and (not self.codes or code in self.codes or code // 100 in self.codes)
            and (not self.enhanced or (enhanced is not None and not masks_of(enhanced).isdisjoint(self.enhanced)))
        )


def parse(text: str, file: str, *, own: bool = False) -> list[Rule]:
    """The rules of one TOML file; `file` is for messages. `own`: an operator's. RuleError at the first mistake."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(file, "-", f"not TOML: {error}", "mend the syntax there") from None
    if strange := sorted(set(document) - {"rule"}):
        raise RuleError(file, "-", f"unknown key {strange[0]!r}", "a rule file holds [[rule]] tables only")
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RuleError(file, "-", "'rule' is not a list of tables", "write [[rule]] above each rule")
    return [_rule(table, file, number, own=own) for number, table in enumerate(tables, 1)]


def check_unique(rules: Iterable[Rule]) -> None:
    """RuleError where two rules share an id."""
    seen: dict[str, Rule] = {}
    for rule in rules:
        if (first := seen.setdefault(rule.id, rule)) is not rule:
            raise RuleError(rule.file, rule.id, f"id already used in {first.file}", "give one of the two another id")


# --- one table -> one rule -------------------------------------------------------------------------------------------

_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")
_ENHANCED = re.compile(r"([245x])\.(\d{1,3}|x)\.(?:(\d{1,3})(?:-(\d{1,3}))?|x)")

# key: the types it may have. What a key means stands in the module's docstring.
_KEYS: Final[Mapping[str, tuple[type, ...]]] = {
    "id": (str,),
    "category": (str,),
    "provider": (str, list),
    "verb": (str, list),
    "code": (int, str, list),
    "enhanced": (str, list),
    "pattern": (str,),
    "patterns": (list,),
    "says": (str, list),
    "unless": (str, list),
    "vague": (bool,),
    "telling": (bool,),
    "empty": (bool,),
    "examples": (list,),
    "reference": (str,),
    "cause": (str,),
    "fix": (str,),
    "scope": (str,),
    "confidence": (int, float),
}


class _BadError(Exception):
    """What is wrong with a value, and the remedy."""


def _rule(table: Mapping[str, Any], file: str, number: int, *, own: bool) -> Rule:
    name = table.get("id")
    label = name if isinstance(name, str) and name else f"rule number {number}"
    try:
        return _build(table, file, own=own)
    except _BadError as bad:
        raise RuleError(file, label, *bad.args) from None


def _build(table: Mapping[str, Any], file: str, *, own: bool) -> Rule:
    for key, value in table.items():
        if key not in _KEYS:
            raise _BadError(f"unknown key {key!r}", _did_you_mean(key, _KEYS))
        if not isinstance(value, _KEYS[key]) or (isinstance(value, bool) and bool not in _KEYS[key]):
            kinds = " or ".join(kind.__name__ for kind in _KEYS[key])
            raise _BadError(f"{key} is {value!r}", f"it must be {kinds}")
    for key in ("id", "category", "examples"):
        if not table.get(key):
            raise _BadError(f"no {key}", "a rule needs an id, a category, and at least one real reply as its example")
    if not _ID.fullmatch(table["id"]):
        raise _BadError(f"id {table['id']!r}", "use lower-case letters, digits, dots, dashes and underscores")
    if table["id"] == LIKELY:
        raise _BadError(f"id {LIKELY!r}", "it is what answers without a rule have; use another")
    if "pattern" in table and "patterns" in table:
        raise _BadError("both pattern and patterns", "use one of them")
    if not table.keys() & {"provider", "verb", "code", "enhanced", "pattern", "patterns", "says"}:
        raise _BadError("no condition", "give a pattern, an enhanced code, a code, a verb or a provider")
    patterns = tuple(map(_pattern, _listed(table, "patterns") or _listed(table, "pattern")))
    return Rule(
        id=table["id"],
        category=_one_of("category", table["category"], BY_NAME),
        file=file,
        providers=frozenset(_one_of("provider", word, PROVIDERS) for word in _listed(table, "provider")),
        verbs=frozenset(Verb(_one_of("verb", word, Verb.__members__)) for word in _listed(table, "verb")),
        codes=frozenset(map(_code, _listed(table, "code"))),
        enhanced=tuple(mask for word in _listed(table, "enhanced") for mask in _masks(word)),
        patterns=patterns,
        phrases=tuple(p for word in _listed(table, "says") for p in _phrases(word)),
        unless=tuple(p for word in _listed(table, "unless") for p in _phrases(word)),
        vague=table.get("vague", False),
        telling=table.get("telling", False),
        empty=table.get("empty", False),
        examples=tuple(map(_example, table["examples"])),
        reference=table.get("reference", ""),
        cause=_sentence(table, "cause"),
        fix=_sentence(table, "fix"),
        scope=_one_of("scope", table["scope"], SCOPES) if "scope" in table else "",
        confidence=_confidence(table),
        is_own=own,
    )


def _listed(table: Mapping[str, Any], key: str) -> list[Any]:
    value = table.get(key, [])
    return value if isinstance(value, list) else [value]


def _one_of(key: str, word: Any, words: Collection[str]) -> str:
    if not isinstance(word, str) or word not in words:
        raise _BadError(f"unknown {key} {word!r}", _did_you_mean(str(word), words))
    return word


def _did_you_mean(word: str, words: Iterable[str]) -> str:
    known = list(words)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"


def _code(value: Any) -> int:
    if value in ("4xx", "5xx"):
        return int(value[0])
    if isinstance(value, int) and 400 <= value <= 599:
        return value
    raise _BadError(f"code {value!r}", 'use a number from 400 to 599, "4xx" or "5xx"')


def _masks(value: Any) -> list[EnhancedMask]:
    found = _ENHANCED.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _BadError(f"enhanced code {value!r}", 'write it as "5.1.1", "x.1.1", "5.7.x" or "5.7.606-649"')
    klass, subject = (None if part == "x" else int(part) for part in found.group(1, 2))
    if found[3] is None:
        return [(klass, subject, None)]
    return [(klass, subject, detail) for detail in range(int(found[3]), int(found[4] or found[3]) + 1)]


def _example(value: Any) -> Example:
    table = {"reply": value} if isinstance(value, str) else value
    if (
        not isinstance(table, dict)
        or not isinstance(table.get("reply"), str)
        or table.keys() - {"reply", "host", "verb"}
    ):
        raise _BadError(f"example {value!r}", "write a reply, or a table of reply, host and verb")
    verb = Verb(_one_of("verb", table["verb"], Verb.__members__)) if "verb" in table else None
    try:
        return Example(Reply.of(table["reply"], verb or Verb.MAIL), str(table.get("host", "")), verb)
    except ReplyError as error:
        raise _BadError(f"example {table['reply']!r}: {error}", "begin it with its code") from None


def _sentence(table: Mapping[str, Any], key: str) -> str:
    sentence: str = table.get(key, "")
    try:
        places(sentence)
    except ValueError as error:
        raise _BadError(f"{key} {sentence!r}: {error}", "write places as {ip|the sending IP}") from None
    return sentence


def _confidence(table: Mapping[str, Any]) -> float:
    value = float(table.get("confidence", 0.0))
    if not 0.0 <= value <= 1.0:
        raise _BadError(f"confidence {value}", "use a number from 0 to 1")
    return value


def _pattern(pattern: Any) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise _BadError(f"pattern {pattern!r}", "a pattern is a string that is not empty")
    whole = lowered(pattern)
    try:
        found = finder(whole)(b"")
    except PatternError as error:
        raise _BadError(f"pattern {pattern!r}: {error}", "RE2 knows no look-around and no back-references") from None
    if found != (-1, -1):
        raise _BadError(f"pattern {pattern!r} matches everything", "let it need some words")
    return whole


def _phrases(phrase: Any) -> list[str]:
    """The phrase, or the phrases that stand side by side in it with a bar between."""
    if not isinstance(phrase, str) or not phrase:
        raise _BadError(f"phrase {phrase!r}", "a phrase is a string that is not empty")
    whole = beside(plain(phrase))
    try:
        for one in whole:
            for part in parts_of(one):
                readings(part)
    except words.UnknownError as error:
        remedy = _did_you_mean(str(error), words.FAMILIES)
        raise _BadError(f"phrase {phrase!r}: no words {{{error}}}", remedy) from None
    except PhraseError as error:
        raise _BadError(
            f"phrase {phrase!r}: {error}", "write words, (a|b), x?, word*, {family}, and ... between"
        ) from None
    return whole
