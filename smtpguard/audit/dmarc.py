"""The audit of DMARC: which policy holds, by both RFCs, and whether its reports can arrive (RFC 9989, RFC 7489).

Reports to an address of another organization are sent only if that one says so in its DNS (RFC 7489 7.1): without it
they are silently not sent, and the domain's owner believes that there is nothing to report.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from smtpguard.audit.line import Line, judged, unknown
from smtpguard.lint.facts import Dmarc
from smtpguard.mail.domain import to_ascii
from smtpguard.mailauth import dmarc
from smtpguard.mailauth.dmarc import Policy
from smtpguard.mailauth.dns import Answer, Resolver
from smtpguard.mailauth.domains import organizational
from smtpguard.mailauth.tags import TagError, parse_tags

_RULES: Final = ("DMA003", "DMA004", "DMA006")
_MAILTO: Final = re.compile(r"\s*mailto:[^@\s]+@([^\s!]+)", re.IGNORECASE)
_AGREES: Final = re.compile(rb"v\s*=\s*DMARC1\s*(;|\Z)")


class Found(NamedTuple):
    """`consents`: for each domain of another organization that is to get reports, what it says of that."""

    facts: Dmarc
    consents: Mapping[str, Answer[bytes]]


async def ask(resolver: Resolver, domain: str) -> Found:
    """Discover the policy both ways, and ask those who are to get its reports."""
    walked, suffixed = await asyncio.gather(dmarc.walk(resolver, domain), dmarc.by_suffix(resolver, domain))
    policy = walked.policy
    others = _others(policy) if policy else []
    answers = await asyncio.gather(*(resolver.txt(_consent(policy, other)) for other in others if policy))
    return Found(Dmarc(domain, walked, suffixed, "", ()), dict(zip(others, answers, strict=True)))


def _others(policy: Policy) -> list[str]:
    """The domains of other organizations that rua= and ruf= name."""
    uris = [*policy.rua, *_ruf(policy)]
    hosts = [to_ascii(found[1]) for uri in uris if (found := _MAILTO.match(uri))]
    own = organizational(policy.domain)
    return [host for host in dict.fromkeys(hosts) if host and organizational(host) != own]


def _ruf(policy: Policy) -> list[str]:
    try:
        return parse_tags(policy.record.encode()).get(b"ruf", b"").decode().split(",")
    except TagError:
        return []


def _consent(policy: Policy, other: str) -> str:
    """Where another domain says that it takes the reports (RFC 7489 7.1)."""
    return f"{policy.domain}._report._dmarc.{other}"


def lines(found: Found) -> Iterator[Line]:
    """The policy, what is wrong with it, and who gets its reports."""
    facts = found.facts
    fault = facts.walked.fault or facts.suffixed.fault
    if fault:
        yield Line("dmarc", "skip", fault, is_temporary=True)
        return
    policy = facts.walked.policy
    if policy is not None:
        yield _policy(facts, policy)
    yield from judged("dmarc", _RULES, facts)
    if policy is not None:
        yield from _reports(policy, found.consents)


def _policy(facts: Dmarc, policy: Policy) -> Line:
    walked, suffixed = facts.walked, facts.suffixed
    where = "" if policy.domain == facts.header_from else f" ({walked.applies}= of {policy.domain})"
    said = f"{policy.record}: {walked.disposition} for mail that fails{where}"
    if policy.t:
        return Line("dmarc", "warn", f"{said}, lowered by t=y", "take t=y out of the record when reports are clean")
    if walked.disposition == "none":
        fix = (
            "read the reports; when all your mail passes, set p=quarantine, later p=reject, as in "
            f'_dmarc.{facts.header_from}. TXT "v=DMARC1; p=quarantine; ..."'
        )
        return Line("dmarc", "warn", f"{said}: anybody may use the domain in From", fix)
    if suffixed.policy is not None and suffixed.policy.pct < 100:
        fix = "take pct= out of the record: RFC 9989 has no such tag"
        return Line("dmarc", "warn", f"{said}; older receivers apply it to {suffixed.policy.pct} % of it", fix)
    return Line("dmarc", "ok", said)


def _reports(policy: Policy, consents: Mapping[str, Answer[bytes]]) -> Iterator[Line]:
    if not policy.rua:
        yield Line(
            "dmarc",
            "warn",
            "nobody gets reports: there is no rua=",
            f"add rua=mailto:dmarc@{policy.domain} to _dmarc.{policy.domain}. TXT",
        )
    for other, answer in consents.items():
        name = _consent(policy, other)
        if not answer.is_known:
            yield unknown("dmarc", f"TXT of {name}", answer.fault)
        elif any(_AGREES.match(record) for record in answer.records):
            yield Line("dmarc", "ok", f"{other} takes reports about {policy.domain}")
        else:
            yield Line(
                "dmarc",
                "warn",
                f"reports to {other} are not sent: it does not say that it takes those about {policy.domain}",
                f'have {other} publish {name}. TXT "v=DMARC1", or name an address of {policy.domain}',
            )
