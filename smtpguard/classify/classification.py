"""What is told of a refusal: the category's words, or a rule's where it says better, filled in from the reply's text.

The words of each rule are made ready once (`Words.of`); `explained` then looks only for what the category makes worth
looking for. A value that the text does not give is "".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from smtpguard.classify import extract
from smtpguard.classify.categories import BY_NAME, Category, group_of, guide, places
from smtpguard.classify.providers import OTHER, PAGES
from smtpguard.classify.rules import EMPTY, LIKELY, NO_TEXT, PLAIN, TELLING, TELLING_CODE, VAGUE, Rule

# by what a rule says at its most specific: (provider, text) of Rank; a rule may state its own
_CONFIDENCE: Final = {
    (1, TELLING): 0.97,
    (1, PLAIN): 0.95,
    (0, TELLING): 0.93,
    (0, PLAIN): 0.88,
    (1, VAGUE): 0.7,
    (0, VAGUE): 0.6,
    (1, TELLING_CODE): 0.8,
    (0, TELLING_CODE): 0.7,
    (1, EMPTY): 0.6,
    (0, EMPTY): 0.5,
    (1, NO_TEXT): 0.8,
    (0, NO_TEXT): 0.4,
}
_CODE_ONLY: Final = 0.25
_DOUBT: Final = 0.8
"""What is left of the confidence when words of another category stand in the same text."""
_LIKELY: Final = 0.5
"""The confidence in what no rule says (likely.py)."""


class Classification(NamedTuple):
    """What a refusal is about, who can fix it, how.

    `category` is of the closed set; `confidence` 0 to 1; `rule` the id of the rule ("" none matched; "likely" all words
    outweighed the rules, see likely.py) and `matched` the text that it matched. `permanence` is what is true in fact,
    whatever class the code has. `alternatives` are other categories that equally specific rules saw, likeliest first,
    or what the rule that was outweighed said. What the text itself says, "" where it does not:
    `retry_after` in seconds (None), `blocklist` and the page for `delisting`, the `ip` and the sender's `domain` it is
    about, a `limit` with its unit, `auth_results` ("SPF fail, DKIM pass"), the `provider_code` ("TSS04", "S3150",
    "p=DmarcPolicy") and the first `url`.
    """

    category: str
    confidence: float = 0.0
    rule: str = ""
    matched: str = ""
    provider: str = OTHER
    permanence: str = "unknown"
    responsible: str = "unknown"
    scope: str = "message"
    cause: str = ""
    fix: str = ""
    alternatives: tuple[str, ...] = ()
    retry_after: float | None = None
    blocklist: str = ""
    delisting: str = ""
    reference: str = ""
    ip: str = ""
    domain: str = ""
    limit: str = ""
    auth_results: str = ""
    provider_code: str = ""
    url: str = ""

    @property
    def group(self) -> str:
        """The part of the category before the dot."""
        return group_of(self.category)


# what a text is asked for, and in which categories or groups that makes sense
_LOOKED_UP: Final[Mapping[str, tuple[Callable[[str], str], frozenset[str]]]] = {
    "ip": (extract.sending_ip, frozenset({"identity", "auth", "reputation", "rate.limited", "content.spam"})),
    "domain": (extract.sender_domain, frozenset({"auth", "sender.invalid", "reputation.domain_listed"})),
    "limit": (extract.limit, frozenset({"message.too_large", "rate.limited", "rate.too_many_recipients"})),
    "auth_results": (extract.auth_results, frozenset({"auth"})),
}
_LISTINGS: Final = frozenset({"reputation.ip_listed", "reputation.domain_listed", "reputation.poor"})


class Words(NamedTuple):
    """What is said of a category, or of a rule where it says better; with the places to be filled from the text."""

    category: Category
    rule: str
    confidence: float
    doubtful: float
    """The confidence where words of another category stand in the same text."""
    cause: str
    fix: str
    scope: str
    reference: str
    bare_cause: str  # with nothing to fill in
    bare_fix: str
    has_places: bool
    may_pass: bool
    may_be_listed: bool
    looked_up: tuple[tuple[str, Callable[[str], str]], ...]

    @classmethod
    def of(cls, rule: Rule) -> Words:
        """The words for a rule."""
        return cls.about(
            BY_NAME[rule.category],
            rule.id,
            _confidence(rule),
            cause=rule.cause,
            fix=rule.fix,
            scope=rule.scope,
            reference=rule.reference,
        )

    @classmethod
    def about(
        cls,
        category: Category,
        rule: str = "",
        confidence: float = 0.0,
        *,
        cause: str = "",
        fix: str = "",
        scope: str = "",
        reference: str = "",
    ) -> Words:
        """The category's own words where none better are given."""
        cause, fix = cause or category.cause, fix or category.guidance
        return cls(
            category=category,
            rule=rule,
            confidence=round(confidence, 2),
            doubtful=round(confidence * _DOUBT, 2),
            cause=cause,
            fix=fix,
            scope=scope or category.scope,
            reference=reference,
            bare_cause=guide(cause, {}),
            bare_fix=guide(fix, {}),
            has_places=bool(places(cause) or places(fix)),
            may_pass=category.permanence == "transient",
            may_be_listed=category.name in _LISTINGS,
            looked_up=tuple(
                (name, find)
                for name, (find, where) in _LOOKED_UP.items()
                if category.name in where or category.group in where
            ),
        )


def _confidence(rule: Rule) -> float:
    if rule.confidence:
        return rule.confidence
    if not rule.patterns and not rule.phrases and not rule.enhanced:
        return _CODE_ONLY
    return _CONFIDENCE[rule.rank.provider, rule.rank.text]


def explained(words: Words, text: str, provider: str, matched: str, alternatives: tuple[str, ...]) -> Classification:
    """The classification of the reply `text` (on one line), its words filled in from it."""
    category = words.category
    ip = domain = limit = results = listed = delisting = ""
    retry = extract.retry_after(text) if words.may_pass else None
    cause, fix = words.bare_cause, words.bare_fix
    if words.looked_up or words.has_places:
        given = {name: find(text) for name, find in words.looked_up}
        if words.may_be_listed:
            listed, delisting = extract.blocklist(text)
        if words.has_places:
            given |= {"list": listed, "delisting": delisting, "retry": extract.spoken(retry) if retry else ""}
            cause, fix = guide(words.cause, given), guide(words.fix, given)
        ip, domain, limit = given.get("ip", ""), given.get("domain", ""), given.get("limit", "")
        if results := given.get("auth_results", ""):
            cause = f"{cause} ({results})"
    url = extract.url(text) if "://" in text else ""
    # in the order of the fields: names cost as much as all the rest
    fields = (
        category.name,
        words.doubtful if alternatives else words.confidence,
        words.rule,
        matched,
        provider,
        category.permanence,
        category.responsible,
        words.scope,
        cause,
        fix,
        alternatives,
        retry,
        listed,
        delisting,
        words.reference or url or PAGES.get(provider, ""),
        ip,
        domain,
        limit,
        results,
        extract.provider_code(text),
        url,
    )
    return Classification._make(fields)


NO_RULE: Final = Words.about(BY_NAME["unknown"])
BY_ALL_WORDS: Final = {name: Words.about(category, LIKELY, _LIKELY) for name, category in BY_NAME.items()}
"""By category, for what no rule says."""
