"""What a request asks with: its query by a table of parameters, its body by its Content-Type, and nothing unasked for.

A mistake is 400 and names the parameter and the remedy, as the configuration does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from smtpguard.classify import CATEGORIES, PROVIDERS
from smtpguard.classify.categories import GROUPS
from smtpguard.classify.notice.asked import EVENT_ID
from smtpguard.config.values import duration
from smtpguard.history.by_hand import is_key, path_of
from smtpguard.history.report import MAX_REJECTIONS
from smtpguard.mail.reply import clean
from smtpguard.web.answers import Refused, bad

DAY_S: Final = 86_400.0
MAX_WORD: Final = 320  # characters: the longest address (RFC 5321 4.5.3.1) is shorter
BYS: Final = ("category", "provider", "sender", "code", "rule")

Read = Callable[[str, float], Any]
"""(text, now) -> the value; ValueError completes "the parameter X: ..."."""


class Parameter(NamedTuple):
    """A parameter of a query: what it is for, how it is read, what it is when it is not given (None: unknown)."""

    name: str
    words: str
    read: Read
    default: str = ""


def _since(text: str, now: float) -> float:
    try:
        return max(0.0, now - duration(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("give a duration such as 24h or 7d, or a time such as 2026-02-03T04:05:06Z") from None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _limit(text: str, _: float) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_REJECTIONS):
        raise ValueError(f"give a whole number from 1 to {MAX_REJECTIONS}")
    return int(text)


def _one_of(words: Iterable[str], kind: str) -> Read:
    known = tuple(dict.fromkeys(words))

    def read(text: str, _: float) -> str:
        if text in known:
            return text
        near = get_close_matches(text, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"not a {kind}{hint}")

    return read


def _event_id(text: str, _: float) -> str:
    if not EVENT_ID.fullmatch(text):
        raise ValueError("give an event id: the twelve letters and digits behind Id: in a reply, event.id in the log")
    return text


def _word(text: str, _: float) -> str:
    if not text.isprintable():
        raise ValueError("give printable text")
    return text


def _key(text: str, _: float) -> str:
    if not is_key(text):
        raise ValueError("give the 16 hex digits of smtp.rcpt_id in the log")
    return text


def _address(text: str, _: float) -> bytes:
    return path_of(text)


SINCE: Final = Parameter(
    "since", "how far back, unless an id is given: 24h, 7d, or a time as 2026-02-03T04:05:06Z", _since, "24h"
)
LIMIT: Final = Parameter("limit", f"at most so many, the newest: 1 to {MAX_REJECTIONS}", _limit, "100")
CATEGORY: Final = Parameter(
    "category", "a category, as auth.dmarc, or a group, as auth", _one_of((*CATEGORIES, *GROUPS), "category or group")
)
PROVIDER: Final = Parameter("provider", "who refused: google, microsoft, ..., other", _one_of(PROVIDERS, "provider"))
ID: Final = Parameter("id", "the event id in a reply or the log", _event_id)
QUEUE_ID: Final = Parameter("queue_id", "the MTA's queue id", _word)
RCPT_ID: Final = Parameter("rcpt_id", "the keyed hash of a recipient: smtp.rcpt_id in the log", _key)
BY: Final = Parameter("by", ", ".join(BYS), _one_of(BYS, f"sum: one of {', '.join(BYS)}"), "category")
ADDRESS: Final = Parameter("address", "a recipient", _address)
KEY: Final = Parameter("key", "its keyed hash, as the list shows it", _key)


def asked(request: web.Request, parameters: Iterable[Parameter], now: float) -> dict[str, Any]:
    """The values of a query, by name; None where one is neither given nor has a default. Refused for a mistake."""
    known = {parameter.name: parameter for parameter in parameters}
    for name in request.query:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise bad(f"{clean(name[:MAX_WORD], utf8=True)} is no parameter of this path; {takes}", name)
        if len(request.query.getall(name)) > 1:
            raise bad(f"{name} was given more than once: give it once", name)
    return {name: _value(parameter, request.query, now) for name, parameter in known.items()}


def _value(parameter: Parameter, query: Mapping[str, str], now: float) -> Any:
    text = query.get(parameter.name, "").strip() or parameter.default
    if not text:
        return None
    if len(text) > MAX_WORD:
        raise bad(f"{parameter.name} is longer than {MAX_WORD} characters", parameter.name)
    try:
        return parameter.read(text, now)
    except (ValueError, OverflowError) as error:  # of this file's own words, or another's for a person
        raise bad(f"{parameter.name}: {clean(str(error), utf8=True)}", parameter.name) from None


async def body(request: web.Request, *types: str) -> bytes:
    """The body of a request of one of these Content-Types; 415 for another: what a page's form can send is none."""
    if request.content_type not in types:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send Content-Type: {' or '.join(types)}")
    return await request.read()


def members(octets: bytes, known: Iterable[str]) -> dict[str, str]:
    """The members of a JSON object whose values are strings, those of `known` alone. Refused for a mistake."""
    try:
        found = orjson.loads(octets)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise bad("the body is no JSON object")
    names = tuple(known)
    for name, value in found.items():
        if name not in names:
            raise bad(f"{clean(name[:MAX_WORD], utf8=True)} is no member of this body; it takes {', '.join(names)}")
        if not isinstance(value, str):
            raise bad(f"{name} is not a string")
    return found
