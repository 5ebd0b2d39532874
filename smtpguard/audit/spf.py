"""The audit of SPF: the record as a tree with its look-ups counted, and what it says to each of our addresses.

The tree is of an address that nothing matches, for which a receiver has to go through all of it (RFC 7208 4.6.4): that
is the worst that can happen to anybody's mail. The addresses that mail leaves from are evaluated each by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from itertools import groupby
from typing import Final, NamedTuple

from smtpguard.audit.line import Branch, Line, judged, unknown
from smtpguard.lint.facts import Spf
from smtpguard.mailauth import spf
from smtpguard.mailauth.dns import IpAddress, Resolver
from smtpguard.mailauth.spf import Mechanism, Modifier, Result, SpfStatus, SpfSyntaxError, Step, parse
from smtpguard.mailauth.spf.evaluation import MAX_LOOKUPS
from smtpguard.mailauth.spf.record import is_spf

NOBODY: Final = IPv4Address("0.0.0.0")  # noqa: S104 - no host has it, and no network but that of everybody
MAX_RECORDS: Final = 50
"""That are read to count on beyond the limit."""
MAX_NETWORKS: Final = 3
"""Neighbouring ip4 and ip6 terms that are shown one by one."""
_OF_RECORD: Final = ("SPF002", "SPF006", "SPF007")
_OF_ADDRESSES: Final = ("SPF003", "SPF004", "SPF008")


class Cost(NamedTuple):
    """A term of the domain's own record, and the look-ups that it takes with all that is below it."""

    term: str
    lookups: int


class Found(NamedTuple):
    """`worst`: for the address that nothing matches; `results`: for our own; `costs`: of a record over the limit."""

    domain: str
    worst: Result
    results: Mapping[IpAddress, Result]
    costs: Sequence[Cost] = ()


async def ask(resolver: Resolver, domain: str, addresses: Sequence[IpAddress], helo: str) -> Found:
    """Evaluate the domain's record. `helo`: the name that we announce."""
    results = await spf.check(resolver, (NOBODY, *addresses), domain=domain, helo=helo)
    worst = results.pop(NOBODY)
    costs = await _Costs(resolver).of(domain, ()) if worst.lookups > MAX_LOOKUPS else []
    return Found(domain, worst, results, costs)


def lines(found: Found) -> Iterator[Line]:
    """The record first, then each address."""
    worst = found.worst
    if worst.status is SpfStatus.TEMPERROR:
        yield unknown("spf", f"SPF of {found.domain}", worst.problem)
        return
    if worst.status is SpfStatus.NONE:
        yield _none(found)
        return
    problems = list(judged("spf", _OF_RECORD, Spf("mailfrom", found.domain, {NOBODY: worst})))
    first = Line("spf", "ok", f"{worst.record}: {_counted(worst)}{_purpose(worst)}")
    if problems:
        first = problems[0]._replace(message=problems[0].message + _costly(found.costs))
    yield first._replace(tree=tuple(tree(worst)))
    yield from problems[1:]
    if worst.status is not SpfStatus.PERMERROR:
        yield from _addresses(found)


def _none(found: Found) -> Line:
    if found.results:
        for line in judged("spf", ("SPF001",), Spf("mailfrom", found.domain, found.results)):
            return line
    record = f'{found.domain}. TXT "v=spf1 mx ~all"'
    return Line(
        "spf",
        "warn",
        f"{found.domain} has no SPF record",
        f'publish {record}, with every other host that sends for it; or, if none does, "v=spf1 -all"',
        "SPF001",
    )


def _costly(costs: Sequence[Cost]) -> str:
    """What the record takes in all, the dearest terms first."""
    if not costs:
        return ""
    dearest = sorted(costs, key=lambda cost: -cost.lookups)
    each = ", ".join(f"{cost.term} {cost.lookups}" for cost in dearest)
    return f"; it takes {sum(cost.lookups for cost in costs)}: {each}"


def _counted(result: Result) -> str:
    return f"{result.lookups} of 10 look-ups, {result.voids} of 2 that find nothing"


def _purpose(result: Result) -> str:
    if result.record.lower().split() == ["v=spf1", "-all"]:
        return "; no host sends mail for it"
    return "; it asks for the part before the @ (postmaster was taken)" if result.uses_sender else ""


def _addresses(found: Found) -> Iterator[Line]:
    for address, result in found.results.items():
        if result.status is SpfStatus.TEMPERROR:
            yield unknown("spf", f"SPF for {address}", result.problem)
        elif result.status is SpfStatus.PASS:
            yield Line("spf", "ok", f"{address} passes by {result.term} ({_counted(result)})")
    yield from judged("spf", _OF_ADDRESSES, Spf("mailfrom", found.domain, found.results))


# --- the costs -------------------------------------------------------------------------------------------------------


class _Costs:
    """Counts on where receivers stop: what each term takes, for who has to take some out."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._left = MAX_RECORDS

    async def of(self, domain: str, above: tuple[str, ...]) -> list[Cost]:
        """The terms that ask the DNS, up to `all` (RFC 7208 5.1, 6.1); none of a record that cannot be read."""
        self._left -= 1
        texts = [text for text in (await self._resolver.txt(domain)).records if is_spf(text)]
        try:
            terms = parse(texts[0]).terms if texts else ()
        except SpfSyntaxError:
            return []
        end = next((at for at, term in enumerate(terms) if term.name == "all"), None)
        costs = []
        for term in terms[:end]:
            if term.name in _ASKS and not (end is not None and term.name == "redirect"):
                costs.append(Cost(term.text, 1 + await self._below(term, (*above, domain))))
        return costs

    async def _below(self, term: Mechanism | Modifier, above: tuple[str, ...]) -> int:
        target = term.value if isinstance(term, Modifier) else term.target
        if term.name not in _NESTED or target is None or not target.name:  # with macros it depends on who sends
            return 0
        if target.name in above or self._left <= 0:
            return 0
        return sum(cost.lookups for cost in await self.of(target.name, above))


# --- the tree --------------------------------------------------------------------------------------------------------


def tree(result: Result) -> Iterator[Branch]:
    """Each term as it was evaluated, an include above its own; at the side the running count and what came of it."""
    yield Branch(0, result.domain)
    for (depth, are_networks), steps in groupby(result.trace, key=lambda step: (step.depth, _is_network(step))):
        if are_networks:
            yield from _networks(depth + 1, [step.term for step in steps])
        else:
            yield from _terms(depth + 1, steps)


def _is_network(step: Step) -> bool:
    return step.outcome == "no match" and step.term.lstrip("+-~?").lower().startswith(("ip4:", "ip6:"))


def _networks(depth: int, terms: Sequence[str]) -> Iterator[Branch]:
    shown = MAX_NETWORKS if len(terms) > MAX_NETWORKS + 1 else len(terms)
    yield from (Branch(depth, term) for term in terms[:shown])
    if terms[shown:]:
        yield Branch(depth, f"and {len(terms) - shown} more networks")


_ASKS: Final = ("include", "a", "mx", "ptr", "exists", "redirect")
_NESTED: Final = ("include", "redirect")  # what finds nothing is a term below
_SAID: Final = {"void": "finds nothing", "permerror": "ends it here", "temperror": "could not be looked up"}


def _terms(depth: int, steps: Iterable[Step]) -> Iterator[Branch]:
    for step in steps:
        name = step.term.lstrip("+-~?").lower().replace("=", ":").replace("/", ":").partition(":")[0]
        notes = [f"{step.lookups}/10"] if name in _ASKS else []
        if step.outcome in _SAID and not (step.outcome == "void" and name in _NESTED):
            notes.append(_SAID[step.outcome])
        yield Branch(depth, step.term, ", ".join(notes))
