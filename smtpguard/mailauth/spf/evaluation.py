"""check_host() of RFC 7208 4, for one sender and several of our addresses, over a passed-in resolver.

All limits of 4.6.4 hold: 10 terms that ask the DNS, 10 names of an `mx` or `ptr`, 2 void look-ups. What the DNS could
not say is temperror wherever the result hangs on it, in `ptr` and `%{p}` too: RFC 7208 5.5 lets a receiver take that
for no match, but for a sender it would turn a fault of his own network into a fail.

An explanation (`exp=`) is looked up for a fail only, and nothing but the explanation depends on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from smtpguard.mail.domain import to_ascii
from smtpguard.mailauth.dns import Answer, IpAddress, Resolver, Status
from smtpguard.mailauth.spf import macro
from smtpguard.mailauth.spf.macro import MacroString
from smtpguard.mailauth.spf.record import Mechanism, Modifier, Networks, Record, SpfSyntaxError, is_spf, parse
from smtpguard.mailauth.spf.result import Result, SpfStatus, Step

T = TypeVar("T")

MAX_LOOKUPS: Final = 10  # RFC 7208 4.6.4, as the next two
MAX_NAMES: Final = 10
MAX_VOIDS: Final = 2
MAX_EXPLANATION: Final = 500
"""Characters of an explanation that are kept: what fits a line of a reply (RFC 5321 4.5.3.1.5)."""
_FOREVER: Final = 1 << 31  # RFC 2181 8: no TTL is that long


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who sends, and to whom: what macros may ask for."""

    domain: str
    local: str
    helo: str
    receiver: str
    now: float


class _Stop(Exception):
    """The check ends here with temperror or permerror."""

    def __init__(self, status: SpfStatus, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


async def check(
    resolver: Resolver,
    addresses: Sequence[IpAddress],
    *,
    domain: str,
    local: str = "postmaster",
    helo: str = "",
    receiver: str = "unknown",
    now: float = 0.0,
) -> dict[IpAddress, Result]:
    """The result for each address (RFC 7208 4). For HELO: its name as `domain`, no `local`.

    `receiver` and `now` (seconds since the epoch) are what %{r} and %{t} of an explanation say.
    """
    name = to_ascii(domain)
    if "." not in name or name[0] == "[":  # RFC 7208 4.3
        problem = f"{ascii(domain)[1:-1]} is not a domain name of two labels or more"
        nothing = Result(SpfStatus.NONE, domain, problem=problem)
        return dict.fromkeys(addresses, nothing)
    identity = _Identity(name, local or "postmaster", helo, receiver, now)
    return {address: await _Evaluation(resolver, address, identity).result() for address in addresses}


@lru_cache(maxsize=4096)
def _published(texts: tuple[bytes, ...]) -> tuple[Record | None, str, str]:
    """Of all TXT records of a name: the SPF record, its text, and what is wrong with it (RFC 7208 4.5)."""
    found = [text for text in texts if is_spf(text)]
    shown = "\n".join(ascii(text.decode("latin-1"))[1:-1] for text in found)
    if len(found) != 1:
        return None, shown, f"{len(found)} SPF records" if found else ""
    try:
        return parse(found[0]), shown, ""
    except SpfSyntaxError as error:
        return None, shown, str(error)


class _Evaluation:
    """One run of check_host() with its counters."""

    __slots__ = (
        "_address",
        "_bits",
        "_explanation",
        "_has_ended",
        "_identity",
        "_is_stale",
        "_lookups",
        "_record",
        "_resolver",
        "_trace",
        "_ttl",
        "_uses_sender",
        "_voids",
    )

    def __init__(self, resolver: Resolver, address: IpAddress, identity: _Identity) -> None:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # RFC 7208 5
        self._resolver = resolver
        self._address = address
        self._bits = int(address)
        self._identity = identity
        self._record = ""
        self._explanation: tuple[MacroString, str] | None = None
        self._lookups = 0
        self._voids = 0
        self._ttl = _FOREVER
        self._trace: list[Step] = []
        self._uses_sender = False
        self._is_stale = False
        self._has_ended = False

    async def result(self) -> Result:
        identity = self._identity
        problem = explanation = ""
        try:
            status, term = await self._host(identity.domain, 0, is_included=False)
        except _Stop as stop:
            status, problem, term = stop.status, stop.problem, self._stopped(stop.status)
        lookups, voids, ttl, is_stale = self._lookups, self._voids, self._ttl, self._is_stale
        if status is SpfStatus.FAIL and self._explanation is not None:
            self._has_ended = True
            explanation = await self._explained(*self._explanation)
        return Result(
            status,
            identity.domain,
            term,
            problem,
            self._record,
            lookups,
            voids,
            ttl,
            tuple(self._trace),
            self._uses_sender,
            is_stale,
            explanation,
        )

    # --- check_host() ------------------------------------------------------------------------------------------------

    async def _host(self, domain: str, depth: int, *, is_included: bool) -> tuple[SpfStatus, str]:
        """The result, and the term that decided ("" for none)."""
        record = await self._record_of(domain)
        if record is None:
            return SpfStatus.NONE, ""
        if not is_included:  # RFC 7208 6.2: an include's exp= is never used, a redirect's takes the place of ours
            exp = record.explanation
            self._explanation = None if exp is None else (exp.value, domain)
        for step in record.steps:
            if isinstance(step, Networks):
                mechanism = self._network(step, domain, depth)
                if mechanism is not None:
                    return mechanism.status, self._named(mechanism.text, domain)
            elif step.name == "all":
                self._trace.append(Step(depth, domain, step.text, "match", self._lookups))
                return step.status, self._named(step.text, domain)
            else:
                term = await self._tried(step, domain, depth)
                if term:
                    return step.status, term
        if record.redirect is None:
            return SpfStatus.NEUTRAL, ""  # RFC 7208 4.7
        return await self._redirected(record.redirect, domain, depth, is_included=is_included)

    async def _record_of(self, domain: str) -> Record | None:
        answer = await self._resolver.txt(domain)
        self._note(answer, "TXT", domain)
        record, shown, problem = _published(answer.records)
        if domain == self._identity.domain:
            self._record = shown
        if problem:
            raise _Stop(SpfStatus.PERMERROR, f"{domain}: {problem}")
        return record

    def _network(self, networks: Networks, domain: str, depth: int) -> Mechanism | None:
        index = networks.find(self._address.version, self._bits)
        missed = networks.texts if index < 0 else networks.texts[:index]
        lookups = self._lookups
        self._trace += [Step(depth, domain, text, "no match", lookups) for text in missed]
        if index < 0:
            return None
        self._trace.append(Step(depth, domain, networks.texts[index], "match", lookups))
        return networks.mechanisms[index]

    async def _tried(self, mechanism: Mechanism, domain: str, depth: int) -> str:
        """The term that decided if a mechanism that asks the DNS matches, "" if it does not."""
        at, voids = self._begin(mechanism, domain, depth), self._voids
        target = domain if mechanism.target is None else await self._name(mechanism.target, domain)
        term = ""
        if not target.isascii():
            pass  # RFC 8616 4: a local part beyond ASCII never makes a name
        elif mechanism.name == "include":
            term = await self._included(mechanism, target, domain, depth)
        elif await _MATCHES[mechanism.name](self, mechanism, target, domain):
            term = self._named(mechanism.text, domain)
        self._end(at, "match" if term else "void" if self._voids > voids else "no match")
        return term

    async def _included(self, mechanism: Mechanism, target: str, domain: str, depth: int) -> str:
        status, term = await self._host(target, depth + 1, is_included=True)
        if status is SpfStatus.NONE:  # RFC 7208 5.2
            raise _Stop(SpfStatus.PERMERROR, f"no SPF record at {target}: {self._named(mechanism.text, domain)}")
        return term if status is SpfStatus.PASS else ""

    async def _redirected(
        self, redirect: Modifier, domain: str, depth: int, *, is_included: bool
    ) -> tuple[SpfStatus, str]:
        at = self._begin(redirect, domain, depth)
        target = await self._name(redirect.value, domain)
        decided = SpfStatus.NONE, ""
        if target.isascii():
            decided = await self._host(target, depth + 1, is_included=is_included)
        if decided[0] is SpfStatus.NONE:  # RFC 7208 6.1
            raise _Stop(SpfStatus.PERMERROR, f"no SPF record at {target}: {self._named(redirect.text, domain)}")
        self._end(at, "match")
        return decided

    # --- mechanisms that ask the DNS ---------------------------------------------------------------------------------

    async def _matches_a(self, mechanism: Mechanism, target: str, _: str) -> bool:
        return await self._has_address(target, mechanism.prefix4, mechanism.prefix6)

    async def _matches_mx(self, mechanism: Mechanism, target: str, domain: str) -> bool:
        answer = await self._resolver.mx(target)
        self._note(answer, "MX", target, counts=True)
        if len(answer.records) > MAX_NAMES:
            raise _Stop(SpfStatus.PERMERROR, f"more than {MAX_NAMES} MX hosts: {self._named(mechanism.text, domain)}")
        for mx in answer.records:
            if mx.host and await self._has_address(mx.host, mechanism.prefix4, mechanism.prefix6):
                return True
        return False

    async def _matches_ptr(self, _: Mechanism, target: str, __: str) -> bool:
        names = await self._validated()
        return any(name == target or name.endswith("." + target) for name in names)

    async def _matches_exists(self, _: Mechanism, target: str, __: str) -> bool:
        answer = await self._resolver.a(target)  # RFC 7208 5.7: A, whatever the address is
        self._note(answer, "A", target, counts=True)
        return bool(answer.records)

    async def _has_address(self, name: str, prefix4: int, prefix6: int) -> bool:
        answer: Answer[IPv4Address] | Answer[IPv6Address]
        if self._address.version == 4:
            answer, unused = await self._resolver.a(name), 32 - prefix4
            self._note(answer, "A", name, counts=True)
        else:
            answer, unused = await self._resolver.aaaa(name), 128 - prefix6
            self._note(answer, "AAAA", name, counts=True)
        wanted = self._bits >> unused
        return any(int(address) >> unused == wanted for address in answer.records)

    async def _validated(self) -> list[str]:
        """The names of our address that lead back to it (RFC 7208 5.5)."""
        answer = await self._resolver.ptr(self._address)
        self._note(answer, "PTR", str(self._address), counts=True)
        return [name for name in answer.records[:MAX_NAMES] if await self._has_address(name, 32, 128)]

    # --- macros ------------------------------------------------------------------------------------------------------

    async def _name(self, spec: MacroString, domain: str) -> str:
        """The domain name that a domain-spec stands for."""
        return macro.domain_name(await self._expanded(spec, domain)) if spec.letters else spec.name

    async def _expanded(self, text: MacroString, domain: str) -> str:
        identity, address = self._identity, self._address
        if not text.letters.isdisjoint("sl"):
            self._uses_sender = True
        is_ip4 = address.version == 4
        values = {
            "s": f"{identity.local}@{identity.domain}",
            "l": identity.local,
            "o": identity.domain,
            "d": domain,
            "i": str(address) if is_ip4 else ".".join(f"{self._bits:032x}"),
            "h": identity.helo,
            "v": "in-addr" if is_ip4 else "ip6",
            "c": str(address),
            "r": identity.receiver,
            "t": str(int(identity.now)),
        }
        if "p" in text.letters:
            values["p"] = await self._own_name(domain)
        return text.expand(values)

    async def _own_name(self, domain: str) -> str:
        """%{p}: the best validated name of our address, `unknown` without one (RFC 7208 7.3)."""
        names = await self._validated()
        below = [name for name in names if name.endswith("." + domain)]
        return domain if domain in names else (below or names or ["unknown"])[0]

    async def _explained(self, spec: MacroString, domain: str) -> str:
        """The explanation, "" for whatever goes wrong (RFC 7208 6.2)."""
        try:
            answer = await self._resolver.txt(await self._name(spec, domain))
            if len(answer.records) != 1:
                return ""
            text = await self._expanded(macro.parse(answer.records[0].decode("ascii")), domain)
            return text[:MAX_EXPLANATION]
        except (_Stop, ValueError):
            return ""

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _begin(self, term: Mechanism | Modifier, domain: str, depth: int) -> int:
        """Count a term that asks the DNS; its place in the trace, where its outcome is still to be written."""
        self._lookups += 1
        self._trace.append(Step(depth, domain, term.text, "", self._lookups))
        if self._lookups > MAX_LOOKUPS:
            raise _Stop(SpfStatus.PERMERROR, f"more than {MAX_LOOKUPS} DNS look-ups: {self._named(term.text, domain)}")
        return len(self._trace) - 1

    def _end(self, at: int, outcome: str) -> None:
        depth, domain, term, _, lookups = self._trace[at]
        self._trace[at] = Step(depth, domain, term, outcome, lookups)

    def _stopped(self, status: SpfStatus) -> str:
        """Give every open term the outcome; the innermost one."""
        term = ""
        for at, step in enumerate(self._trace):
            if not step.outcome:
                term = self._named(step.term, step.domain)
                self._end(at, status)
        return term

    def _note(self, answer: Answer[T], kind: str, name: str, *, counts: bool = False) -> None:
        """Account for an answer; `counts`: as a void look-up if there is nothing in it."""
        if answer.ttl < self._ttl:
            self._ttl = answer.ttl
        if answer.is_stale:
            self._is_stale = True
        if answer.records:
            return
        if answer.status is Status.TEMPFAIL:
            raise _Stop(SpfStatus.TEMPERROR, f"{kind} of {name} could not be looked up ({answer.fault})")
        if counts and not self._has_ended:
            self._voids += 1
            if self._voids > MAX_VOIDS:
                raise _Stop(SpfStatus.PERMERROR, f"more than {MAX_VOIDS} void DNS look-ups: {kind} of {name}")

    def _named(self, term: str, domain: str) -> str:
        return term if domain == self._identity.domain else f"{term} in record of {domain}"


_MATCHES: Final[Mapping[str, Callable[[_Evaluation, Mechanism, str, str], Awaitable[bool]]]] = {
    "a": _Evaluation._matches_a,
    "mx": _Evaluation._matches_mx,
    "ptr": _Evaluation._matches_ptr,
    "exists": _Evaluation._matches_exists,
}
