"""What the MTA gets: the next hop's refusal as it is, as another code, or our own words. Pure; tables, not ifs.

`own` and `of_failure` say what *we* answer where no next hop's reply exists; `after` decides which of a next hop's
refusals may not be passed as they are (contract 1.4); `explained` writes cause and fix into a refusal (contract 1.5).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from smtpguard.classify import Classification
from smtpguard.classify.categories import BY_NAME, guide
from smtpguard.mail.reply import (
    MAX_LINE_OCTETS,
    MAX_LINES,
    MAX_OCTETS,
    EnhancedCode,
    FailureKind,
    HopFailure,
    Reply,
    Verb,
    clean,
    fold,
)
from smtpguard.policy.words import OWN, Own

_BY_KIND: Final[dict[FailureKind, Own]] = {
    FailureKind.CONNECT: Own.CONNECT,
    FailureKind.TLS: Own.TLS,
    FailureKind.TIMEOUT: Own.TIMEOUT,
    FailureKind.PROTOCOL: Own.PROTOCOL,
    FailureKind.LOOP: Own.LOOP,
    FailureKind.DISCONNECT: Own.DROPPED,
    FailureKind.SATURATED: Own.SATURATED,
    FailureKind.STOPPING: Own.STOPPING,
    FailureKind.INTERNAL: Own.INTERNAL,
}
_BY_KEYWORD: Final[dict[str, Own]] = {
    "8BITMIME": Own.LACKS_8BITMIME,
    "SMTPUTF8": Own.LACKS_SMTPUTF8,
    "SIZE": Own.LACKS_SIZE,
    "DSN": Own.LACKS_DSN,
    "AUTH": Own.LACKS_AUTH,
    **{own: own for own in (Own.NULL_MX, Own.NO_DOMAIN, Own.NO_MAIL_HOST, Own.INWARD, Own.OURSELVES, Own.DNS)},
}


class Said(NamedTuple):
    """A reply of ours with its meaning."""

    reply: Reply
    classification: Classification


def stated(category: str, *, cause: str = "", fix: str = "") -> Classification:
    """The meaning of a refusal of ours: certain, as we said it ourselves."""
    known = BY_NAME[category]
    return Classification(
        category,
        confidence=1.0,
        permanence=known.permanence,
        responsible=known.responsible,
        scope=known.scope,
        cause=cause or _CAUSES[category],
        fix=fix or _FIXES[category],
    )


# With nothing to fill in: we have no words of others here
_CAUSES: Final = {name: guide(category.cause, {}) for name, category in BY_NAME.items()}
_FIXES: Final = {name: guide(category.guidance, {}) for name, category in BY_NAME.items()}


def own(reason: Own, verb: Verb, about: str = "") -> Said:
    """Our own refusal at this verb; `about` is appended to the text in brackets."""
    words = OWN[reason]
    reply = Reply(words.code, (f"{words.text} ({about})" if about else words.text,), words.enhanced, verb)
    return Said(reply, stated(words.category, cause=words.cause, fix=words.fix))


def of_failure(failure: HopFailure, verb: Verb, host: str) -> Said:
    """What is said at `verb` because the next hop at `host` gave no usable reply (contract 1.4 "No reply")."""
    if failure.keyword:
        return own(_BY_KEYWORD[failure.keyword], verb, host)
    if failure.kind is FailureKind.TIMEOUT and failure.verb is Verb.CONNECT:
        return own(Own.CONNECT, verb, host)
    return own(_BY_KIND[failure.kind], verb, host)


# Contract 1.4 "Codes that are not passed as they are": faults of the set-up, not of the mail.
_SETUP_VERBS: Final = frozenset({Verb.EHLO, Verb.STARTTLS, Verb.AUTH})
_DIALOGUE_VERBS: Final = frozenset({Verb.MAIL, Verb.RCPT, Verb.DATA, Verb.BDAT})
_SETUP_CODES: Final = frozenset({500, 501, 502, 503, 504, 530, 535, 538, 555})
_PARAMETER_CODES: Final = frozenset({501, 504, 555})
"""Of these, the ones that a parameter of the client's own can cause (RFC 5321 4.2.2, 4.1.1.11)."""


def after(said: Reply, *, greeting_5xx: Literal["defer", "bounce"] = "defer", own_parameters: bool = False) -> Reply:
    """The reply the MTA gets for a refusal of the next hop: `said` itself, or the same text under a code that is true.

    `own_parameters`: the client gave ESMTP parameters with this command, so a complaint about one may be its own.
    """
    if said.code == 421 or said.verb in _SETUP_VERBS:
        return _as_451(said)
    if said.klass != 5:
        return said
    if said.verb is Verb.CONNECT:
        return said if greeting_5xx == "bounce" else _as_451(said)
    if said.verb in _DIALOGUE_VERBS and said.code in _SETUP_CODES:
        caused = said.code in _PARAMETER_CODES and (own_parameters or _is_about_address(said))
        return said if caused else _as_451(said)
    return said


def _is_about_address(said: Reply) -> bool:
    """501 5.1.x and its like: the path itself is what they do not take (RFC 3463 3.2)."""
    return said.enhanced is not None and said.enhanced.subject == 1


def _as_451(said: Reply) -> Reply:
    enhanced = said.enhanced._replace(klass=4) if said.enhanced else None
    return Reply(451, said.lines, enhanced, said.verb)


_TAG: Final = "[smtpguard] "
_TAGGED_OCTETS: Final = 320
"""Each of our two lines is cut there, so that theirs keep half of the room."""


def explained(
    reply: Reply,
    classification: Classification,
    *,
    id: str,
    host: str = "",
    explain: bool = True,
    contact: str = "",
) -> Reply:
    """The refusal as the MTA gets it: the text first, behind the true next hop's name, then fix, then cause and id.

    At most 6 lines and 1,200 octets with codes and line ends; what is cut is the middle of the text, never our last
    line, which clients that keep one line show.
    """
    enhanced = reply.enhanced or EnhancedCode(reply.klass, 0, 0)
    lead = len(f"{reply.code}-{enhanced} ")
    tagged: list[str] = []
    if explain:
        cause = f"{_TAG}Cause: {classification.category}"
        if classification.cause:
            cause += f" ({_cut(classification.cause, _TAGGED_OCTETS - 80)})"
        if classification.fix:
            fix = _cut(classification.fix, _TAGGED_OCTETS - 100)
            tagged.append(f"{_TAG}Fix: {fix}" + (f" Contact: {_cut(contact, 80)}" if contact else ""))
        tagged.append(f"{cause} Id: {id}")
    room = MAX_LINE_OCTETS - lead
    left = MAX_OCTETS - sum(lead + len(line.encode()) + 2 for line in tagged)
    lines: list[str] = []
    said = [line for line in reply.lines if line.strip()] or ["no reason given"]
    if host:
        said[0] = f"{host} said: {said[0]}"
    pieces = _folded(said, room)
    if len(pieces) > MAX_LINES - len(tagged):  # many short lines, as Google sends them: filled up, more of it fits
        pieces = _folded([" ".join(said)], room)
    for piece in pieces:
        left -= lead + len(piece.encode()) + 2
        if len(lines) == MAX_LINES - len(tagged) or left < 0:
            lines[-1] = _cut(lines[-1], room - 4) + " ..."
            break
        lines.append(piece)
    return Reply(reply.code, (*lines, *tagged), enhanced, reply.verb)


def unexplained(reply: Reply) -> str:
    """The text of a refusal without what `explained` wrote behind it: log and history have that by itself."""
    return " ".join(line for line in reply.lines if not line.startswith(_TAG))


def _folded(lines: list[str], room: int) -> list[str]:
    return [piece.decode() for line in lines for piece in fold(clean(line, utf8=True), room)]


def _cut(text: str, octets: int) -> str:
    data = text.encode()
    return text if len(data) <= octets else data[: octets - 3].decode(errors="ignore") + "..."
