"""DMARC: the policy that holds for a From domain, and which identifiers are aligned with it.

Two views of the same records, because receivers differ: `walk` is RFC 9989 (DNS tree walk, `np=`, `t=`, `psd=`), and
`by_suffix` is RFC 7489 (public suffix list, `pct=`, none of those three). Where they disagree, mail passes at one
receiver and fails at another.

No reports are made or received here, and no message is judged: that takes the results of SPF and DKIM besides. What the
DNS could not say is a `fault`, never "no policy".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeVar

from smtpguard.mail.domain import to_ascii
from smtpguard.mailauth import domains
from smtpguard.mailauth.dns import Answer, Resolver, Status

Disposition = Literal["none", "quarantine", "reject"]
Mode = Literal["r", "s"]
Psd = Literal["y", "n", "u"]
Tag = Literal["p", "sp", "np"]
View = Literal["walk", "suffix"]
"""Which of the two RFCs a record is read by."""

T = TypeVar("T")

_DISPOSITIONS: Final[dict[str, Disposition]] = {"none": "none", "quarantine": "quarantine", "reject": "reject"}
_MODES: Final[dict[str, Mode]] = {"r": "r", "s": "s"}
_PSD: Final[dict[str, Psd]] = {"y": "y", "n": "n", "u": "u"}
_TEST: Final = {"y": True, "n": False}
_PERCENT: Final = {str(number): number for number in range(101)}
_LOWER: Final[dict[Disposition, Disposition]] = {"reject": "quarantine", "quarantine": "none", "none": "none"}
WALK_LABELS: Final = 7
"""A name of more labels is cut to so many after the first question, which makes eight (RFC 9989 4.10)."""

# dmarc-version = "v" *WSP "=" *WSP %s"DMARC1";  dmarc-sep = *WSP ";" *WSP
_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
# dmarc-tag = 1*ALPHA *WSP "=" *WSP 1*dmarc-value; names of RFC 6376 3.2 and an empty value are let through
_TAG = re.compile(r"([A-Za-z][A-Za-z0-9_]*)[ \t]*=[ \t]*([\t\x20-\x3a\x3c-\x7e]*)")
# RFC 3986 3.1, 3.3, with the size that RFC 7489 6.4 lets follow; mailto wants an address (RFC 6068 2)
_URI = re.compile(r"(?:mailto:[^\s@,!]+@[^\s@,!]+|(?!mailto:)[a-z][a-z0-9+.-]*:[^\s,!]+)(?:![0-9]+[kmgt]?)?", re.I)


@dataclass(frozen=True, slots=True)
class Policy:
    """A record that can be applied, as one of the two RFCs reads it. `sp` and `np` are "" where they are not given."""

    p: Disposition
    sp: Disposition | Literal[""] = ""
    np: Disposition | Literal[""] = ""
    adkim: Mode = "r"
    aspf: Mode = "r"
    t: bool = False
    psd: Psd = "u"
    rua: tuple[str, ...] = ()
    """URIs that are well-formed."""
    pct: int = 100
    """RFC 7489 only."""
    domain: str = ""
    """Where the record stands, without `_dmarc`."""
    record: str = ""
    problems: tuple[str, ...] = ()
    ttl: int = 0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """The policy for one From domain. With a `fault`, what is empty is not known."""

    policy: Policy | None
    organizational: str
    """The organizational domain; "" where a fault hides it."""
    applies: Tag = "p"
    """The tag that the disposition comes from."""
    disposition: Disposition = "none"
    """What is asked for mail that fails: the tag that applies, lowered by `t=y` (or `pct=0`)."""
    fault: str = ""
    """The question that the DNS could not answer now, and why. If it asks whether the domain exists, np= may hold."""
    problems: tuple[str, ...] = ()
    """What is wrong with the records at the domain and above it, up to the organizational domain; one line each."""
    ttl: int = 0
    """Seconds for which it holds."""
    asked: tuple[str, ...] = ()
    is_stale: bool = False


async def walk(resolver: Resolver, domain: str) -> Discovered:
    """Policy and organizational domain by DNS tree walk (RFC 9989 4.10)."""
    name = to_ascii(domain)
    if not name:
        return _nameless(domain)
    questions = _Questions(resolver, "walk")
    places = await _climb(questions, name)
    records = {place.domain: place for place in places if place.is_record}
    organization = "" if questions.fault else _organizational(name, places)
    # RFC 9989 4.10.1: of the From domain, else of the organizational domain, else of the public suffix above it
    psd = next((place for place in records.values() if place.psd == "y"), None)
    place = records.get(name) or (None if questions.fault else records.get(organization) or psd)
    policy = place.policy if place else None
    applies: Tag = "p"
    if policy is not None and policy.domain != name:
        applies = "sp" if policy.sp else "p"
        if policy.np and policy.np != (policy.sp or policy.p) and await questions.is_missing(name):
            applies = "np"
    problems = _problems(place for place in places if len(place.domain) >= len(organization))
    return questions.result(policy, organization, applies, problems=problems)


async def by_suffix(resolver: Resolver, domain: str) -> Discovered:
    """Policy by public suffix list (RFC 7489 6.6.3)."""
    name = to_ascii(domain)
    if not name:
        return _nameless(domain)
    organization = domains.organizational(name)
    questions = _Questions(resolver, "suffix")
    places: list[_Place] = []
    for target in dict.fromkeys((name, organization)):
        place = await questions.place(target)
        if place is None:
            return questions.result(None, organization, problems=_problems(places))
        places.append(place)
        if place.records:  # RFC 7489 6.6.3 (5): several of them end the discovery, too
            break
    policy = places[-1].policy
    applies: Tag = "sp" if policy and policy.sp and policy.domain != name else "p"
    return questions.result(policy, organization, applies, problems=_problems(places))


async def org(resolver: Resolver, domain: str) -> str:
    """The organizational domain of any identifier by tree walk (RFC 9989 4.10.2); "" where the DNS hides it now."""
    name = to_ascii(domain)
    questions = _Questions(resolver, "walk")
    places = await _climb(questions, name) if name else []
    return "" if questions.fault else _organizational(name, places)


def aligned(identifier: str, header_from: str, mode: Mode, organizational: Callable[[str], str]) -> bool:
    """Whether an authenticated domain stands for the From domain (RFC 9989 4.4, RFC 7489 3.1).

    `organizational` tells a name's organizational domain, "" for one not known: `domains.organizational` for RFC 7489,
    for RFC 9989 the look-up in what `org` said before. It is asked only where the names differ and `mode` is relaxed.
    """
    one, other = to_ascii(identifier), to_ascii(header_from)
    if mode == "s" or one == other:
        return one == other != ""
    return organizational(one) == organizational(other) != ""


# --- records ---------------------------------------------------------------------------------------------------------


class _Tags(NamedTuple):
    """A record's tags by lower-case name, and what is wrong with its form."""

    values: dict[str, str]
    problems: tuple[str, ...]


@lru_cache(maxsize=4096)
def _tags(record: bytes) -> _Tags:
    """The tags behind `v=DMARC1`. What is no tag is left out; the first of two with one name holds."""
    values: dict[str, str] = {}
    problems = []
    for piece in record.decode("latin-1").split(";")[1:]:
        text = piece.strip(" \t")
        found = _TAG.fullmatch(text)
        if found is None:
            if text:
                problems.append(f"{_shown(text)} is not a tag")
        elif found[1].lower() in values:
            problems.append(f"there is a second {found[1]}=")
        else:
            values[found[1].lower()] = found[2].rstrip()
    return _Tags(values, tuple(problems))


def parse(record: bytes, *, domain: str = "", ttl: int = 0, view: View = "walk") -> Policy | None:
    """A record as a policy; None where no receiver applies it: another version, or p= invalid and no rua=.

    RFC 9989 4.7, 4.10.1 or RFC 7489 6.3, 6.6.3: an invalid p=, sp= or np= counts as p=none if there is a valid rua=.
    """
    return _policy(record, domain, ttl, view)[0] if _VERSION.match(record) else None


def _policy(record: bytes, domain: str, ttl: int, view: View) -> tuple[Policy | None, tuple[str, ...]]:
    """The policy and what is wrong with the record."""
    values, form = _tags(record)
    problems = list(form)
    rua = _uris(values.get("rua", ""), problems)
    asked = _dispositions(values, ("p", "sp", "np") if view == "walk" else ("p", "sp"), problems, has_rua=bool(rua))
    if asked is None:
        return None, tuple(problems)
    adkim = _choice(values, "adkim", _MODES, "r", problems)
    aspf = _choice(values, "aspf", _MODES, "r", problems)
    is_test, psd, pct = False, _PSD["u"], 100
    if view == "walk":
        is_test = _choice(values, "t", _TEST, False, problems)
        psd = _choice(values, "psd", _PSD, "u", problems)
    else:
        pct = _choice(values, "pct", _PERCENT, 100, problems)
    policy = Policy(
        asked["p"],
        asked.get("sp", ""),
        asked.get("np", ""),
        adkim,
        aspf,
        is_test,
        psd,
        rua,
        pct,
        domain,
        _shown(record.decode("latin-1")),
        tuple(problems),
        ttl,
    )
    return policy, policy.problems


def _dispositions(
    values: dict[str, str], tags: tuple[str, ...], problems: list[str], *, has_rua: bool
) -> dict[str, Disposition] | None:
    """What p=, sp= and np= ask for; None where no receiver applies the record (RFC 9989 4.10.1, RFC 7489 6.6.3 (6))."""
    asked: dict[str, Disposition] = {}
    wrong = [] if "p" in values else ["p= is missing"]
    for tag in tags:
        disposition = _DISPOSITIONS.get(values.get(tag, "").lower())
        if disposition is not None:
            asked[tag] = disposition
        elif tag in values:
            wrong.append(f"{tag}={_shown(values[tag])} is not none, quarantine or reject")
    if not wrong:
        return asked
    effect = "it counts as p=none" if has_rua else "without rua= no receiver applies the record"
    problems += [f"{what}: {effect}" for what in wrong]
    return {"p": "none"} if has_rua else None


def _choice(values: dict[str, str], tag: str, choices: Mapping[str, T], default: T, problems: list[str]) -> T:
    """A tag's value; RFC 9989 4.7: the default in place of one that is wrong."""
    if tag not in values:
        return default
    value = choices.get(values[tag].lower())
    if value is None:
        problems.append(f"{tag}={_shown(values[tag])} is not known")
        return default
    return value


def _uris(value: str, problems: list[str]) -> tuple[str, ...]:
    uris = [uri for uri in (part.strip(" \t") for part in value.split(",")) if uri]
    problems += [f"rua: {_shown(uri)} is not a URI" for uri in uris if not _URI.fullmatch(uri)]
    return tuple(uri for uri in uris if _URI.fullmatch(uri))


def _shown(text: str) -> str:
    return ascii(text)[1:-1]


# --- discovery -------------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """What stands at `_dmarc.` of a domain."""

    domain: str
    records: int
    """How many begin with v=DMARC1; only one alone is a record."""
    policy: Policy | None = None
    psd: Psd = "u"
    problems: tuple[str, ...] = ()

    @property
    def is_record(self) -> bool:
        return self.records == 1


class _Questions:
    """What one discovery asks the DNS, and what the answers have in common."""

    def __init__(self, resolver: Resolver, view: View) -> None:
        self._resolver = resolver
        self._view = view
        self._asked: list[str] = []
        self._ttls: list[int] = []
        self._is_stale = False
        self.fault = ""

    async def place(self, domain: str) -> _Place | None:
        """The record at a domain; None for a fault."""
        name = f"_dmarc.{domain}"
        answer = await self._resolver.txt(name)
        if not self._note(answer, f"TXT of {name}", name):
            return None
        found = [record for record in answer.records if _VERSION.match(record)]
        problems = [
            f"{name}: ignored, for it does not begin with v=DMARC1 and a semicolon: {_shown(record.decode('latin-1'))}"
            for record in answer.records
            if record not in found and b"dmarc1" in record.lower()
        ]
        if len(found) != 1:
            if found:
                problems.append(f"{name}: {len(found)} DMARC records, receivers discard them all")
            return _Place(domain, len(found), problems=tuple(problems))
        policy, wrong = _policy(found[0], domain, answer.ttl, self._view)
        problems += [f"{name}: {what}" for what in wrong]
        psd = _PSD.get(_tags(found[0]).values.get("psd", "u").lower(), "u")  # it ends a walk whatever p= says
        return _Place(domain, 1, policy, psd, tuple(problems))

    async def is_missing(self, domain: str) -> bool:
        """Whether there is no such name (RFC 9989 3.2, RFC 8020); False for a fault."""
        answer = await self._resolver.a(domain)
        return self._note(answer, f"A of {domain}", domain) and answer.status is Status.NXDOMAIN

    def _note(self, answer: Answer[object], question: str, name: str) -> bool:
        self._asked.append(name)
        self._ttls.append(answer.ttl)
        self._is_stale = self._is_stale or answer.is_stale
        if not answer.is_known:
            self.fault = f"{question} could not be looked up ({answer.fault})"
        return answer.is_known

    def result(
        self,
        policy: Policy | None,
        organizational: str,
        applies: Tag = "p",
        *,
        problems: tuple[str, ...],
    ) -> Discovered:
        disposition: Disposition = "none"
        if policy is not None:
            disposition = {"p": policy.p, "sp": policy.sp, "np": policy.np}[applies] or policy.p
            if policy.t or policy.pct == 0:  # RFC 9989 4.7 t=, RFC 7489 6.6.4
                disposition = _LOWER[disposition]
        return Discovered(
            policy,
            organizational,
            applies,
            disposition,
            self.fault,
            problems,
            min(self._ttls),
            tuple(self._asked),
            self._is_stale,
        )


def _ascending(name: str) -> Iterator[str]:
    """The names that a tree walk asks, eight at most (RFC 9989 4.10)."""
    labels = name.split(".")
    yield name
    for left in range(max(1, len(labels) - WALK_LABELS), len(labels)):
        yield ".".join(labels[left:])


async def _climb(questions: _Questions, name: str) -> list[_Place]:
    """The places of a tree walk from a name upwards, until psd= ends it or a fault does."""
    places = []
    for target in _ascending(name):
        place = await questions.place(target)
        if place is None:
            break
        places.append(place)
        if place.is_record and place.psd != "u":
            break
    return places


def _organizational(name: str, places: list[_Place]) -> str:
    """RFC 9989 4.10.2, longest name first."""
    records = [place for place in places if place.is_record]
    if not records:
        return name
    last = records[-1]  # psd=n and psd=y end the walk, so only the last one has them
    if last.psd == "y":  # one label more, where the name has one
        return ".".join(name.split(".")[-(last.domain.count(".") + 2) :])
    return last.domain


def _nameless(domain: str) -> Discovered:
    return Discovered(None, "", problems=(f"{_shown(domain)} is no domain name",))


def _problems(places: Iterable[_Place]) -> tuple[str, ...]:
    return tuple(problem for place in places for problem in place.problems)
