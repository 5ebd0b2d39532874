"""What is made of a message's own words with what the DNS said: verified signatures, alignment, recipients' providers.

Nothing here waits or decides: what is not known by now is `Missing`, or temperror, and rules do without.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from smtpguard.classify import provider_of
from smtpguard.edge.gather import Standing, had
from smtpguard.lint.facts import ByProvider, Dkim, Dmarc, Missing, Spf
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim import DkimStatus, judge
from smtpguard.mailauth.dkim_field import Signature

MOST_LEGS: Final = 16
"""Ways to pass, of the mail of one set of domains, that are remembered."""


def verified(message: Message, signatures: Iterable[Signature], keys: Mapping[str, Any], now: float) -> Dkim:
    """The signatures judged, by what is known at their `key_name`; one whose key did not come in time is temperror."""
    verdicts = []
    for each in signatures:
        answer = had(keys[each.key_name]) if each.key_name in keys else None
        verdicts.append(judge(message, each, None if isinstance(answer, Missing) else answer, now))
    return Dkim(tuple(verdicts))


def alignment(spf: Spf | Missing | None, standing: Standing, signatures: Dkim) -> Dmarc | Missing:
    """What alignment is judged by; Missing where one leg of it is not known."""
    policy = had(standing.policy)
    if isinstance(policy, Missing):
        return policy
    passing = []
    is_doubtful = False
    for verdict in signatures.verdicts:
        if verdict.status is DkimStatus.PASS:
            passing.append(verdict.signature.domain)
        elif verdict.status is DkimStatus.TEMPERROR:
            is_doubtful = True
    if not isinstance(spf, Spf):
        return spf or Missing("no MAIL FROM domain")
    if is_doubtful:
        return Missing("dns: a DKIM key could not be had")
    key = (spf.passing, tuple(passing))
    known = standing.judged.get(key) if standing.until else None
    if known is None:
        walked, suffixed = policy
        given = {name: had(found) for name, found in standing.organizations.items()}
        organizations = {name: found for name, found in given.items() if not isinstance(found, Missing)}
        known = Dmarc(standing.header_from, walked, suffixed, *key, organizations)
        if len(standing.judged) < MOST_LEGS:
            standing.judged[key] = known
    return known


def by_provider(domains: Iterable[str]) -> ByProvider:
    """How many recipients each provider has, by the recipients' domains."""
    counts: dict[str, int] = {}
    for domain in domains:
        provider = provider_of(domain)
        counts[provider] = counts.get(provider, 0) + 1
    return ByProvider(counts)
