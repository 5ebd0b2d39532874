"""The audit of one domain: everything asked, side by side, judged, and summed up in a verdict.

fail     receivers refuse its mail, or will
warn     its mail passes, and there is something to mend
ok       nothing to mend
unknown  the DNS did not answer what matters: nothing can be said
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from smtpguard.audit import dkim, dmarc, egress, inbound, spf, views
from smtpguard.audit.line import Line
from smtpguard.mail.domain import to_ascii
from smtpguard.mailauth.dns import IpAddress, Resolver

Verdict = Literal["ok", "warn", "fail", "unknown"]

_CORE: Final = ("spf", "dmarc", "mx")
"""Without all of these nothing can be said."""


class Terms(NamedTuple):
    """What an audit is made with. `addresses`: our own as receivers see them. `selectors`: none: the usual ones.

    `second`: another resolver, and what it is called.
    """

    resolver: Resolver
    lists: egress.Lists
    fetch: inbound.Fetch
    addresses: Sequence[IpAddress] = ()
    helo: str = ""
    selectors: Sequence[str] = ()
    second: Resolver | None = None
    second_name: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found of a domain (A-labels)."""

    domain: str
    lines: tuple[Line, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst that was found."""
        states = {line.state for line in self.lines}
        if "fail" in states:
            return "fail"
        known = {line.about for line in self.lines if not line.is_temporary}
        if not known.intersection(_CORE):
            return "unknown"
        return "warn" if "warn" in states else "ok"

    @property
    def is_temporary(self) -> bool:
        """Whether some answer may come by itself, later."""
        return any(line.is_temporary for line in self.lines)

    @property
    def summary(self) -> str:
        """The verdict in one sentence."""
        failed, warned = ([line for line in self.lines if line.state == state] for state in ("fail", "warn"))
        unsaid = sum(line.is_temporary for line in self.lines)
        later = f"; {_many(unsaid, 'question')} the DNS did not answer" if unsaid else ""
        match self.verdict:
            case "fail":
                more = f" ({_many(len(failed) - 1, 'more error')})" if failed[1:] else ""
                return f"mail is refused, or will be: {failed[0].message}{more}{later}"
            case "warn":
                return f"mail passes; {_many(len(warned), 'thing')} to mend{later}"
            case "ok":
                return f"all is well{later}"
            case "unknown":
                return "nothing can be said: the DNS does not answer"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


async def audit(domain: str, terms: Terms) -> Audit:
    """Ask and judge all that concerns the domain. ValueError for what is no domain name of two labels or more."""
    name = to_ascii(domain)
    if "." not in name:
        raise ValueError(f"{domain!r} is no domain name")
    noted = views.Noted(terms.resolver)
    records, keys, policy, mail, listings = await asyncio.gather(
        spf.ask(noted, name, terms.addresses, terms.helo),
        dkim.ask(noted, name, terms.selectors),
        dmarc.ask(noted, name),
        inbound.ask(noted, name, terms.fetch),
        terms.lists.domain(name),
    )
    if mail.mail.is_missing:  # all else follows from it
        return Audit(name, tuple(inbound.mx_lines(mail.mail)))
    lines = [*spf.lines(records), *dkim.lines(keys), *dmarc.lines(policy), *inbound.lines(mail, policy.facts.walked)]
    lines += egress.domain_lines(name, listings)
    lines += views.inside_lines(noted, name)
    if terms.second is not None:
        found = await views.differences(noted, terms.second, name)
        lines += views.difference_lines(found, terms.second_name)
    return Audit(name, tuple(lines))


async def own_addresses(terms: Terms) -> tuple[Line, ...]:
    """What receivers see of our own addresses, whatever the domain."""
    if not terms.addresses:
        return ()
    return tuple(egress.lines(await egress.ask(terms.resolver, terms.lists, terms.addresses, terms.helo)))
