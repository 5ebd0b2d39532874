"""The audit of DKIM: the keys of a domain, at the selectors that are known or that most people use.

The DNS does not tell which selectors there are. It tells whether there is any name below `_domainkey`: if not, there is
no key at all (RFC 8020 2). Whether mail is signed shows in a message only: `smtpguard lint FILE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from smtpguard.audit.line import Line, State, unknown
from smtpguard.mailauth.dkim import MIN_BITS
from smtpguard.mailauth.dkim_key import Key, parse_key
from smtpguard.mailauth.dns import Answer, Resolver, Status

GOOD_BITS: Final = 2048
"""RFC 8301 3.2: signers should use at least these."""

USUAL: Final = (
    "google",  # Google Workspace
    "selector1",  # Microsoft 365, as the next
    "selector2",
    "s1",  # SendGrid and many others
    "s2",
    "k1",  # Mailchimp
    "k2",
    "k3",
    "mandrill",
    "mailjet",
    "krs",  # Mailgun
    "pm",  # Postmark
    "cm",  # Campaign Monitor
    "ctct1",  # Constant Contact
    "ctct2",
    "zoho",
    "fm1",  # Fastmail
    "fm2",
    "fm3",
    "protonmail",
    "protonmail2",
    "protonmail3",
    "sig1",  # iCloud
    "default",
    "mail",
    "dkim",
    "dkim1",
    "dk",
    "smtp",
    "mx",
    "mta",
    "key1",
)
"""Selectors tried where none is named; a comment names whose they are."""


class Selector(NamedTuple):
    """What stands at a selector's name."""

    selector: str
    name: str
    answer: Answer[bytes]


class Found(NamedTuple):
    """`are_given`: the selectors were named by somebody; else they are the usual ones. `below`: of `_domainkey`."""

    domain: str
    selectors: tuple[Selector, ...]
    below: Answer[bytes]
    are_given: bool


async def ask(resolver: Resolver, domain: str, given: Sequence[str]) -> Found:
    """Ask for the keys at the given selectors, or the usual ones."""
    below = await resolver.txt(f"_domainkey.{domain}")
    chosen = tuple(dict.fromkeys(given)) or USUAL
    if below.status is Status.NXDOMAIN and not given:
        chosen = ()
    names = [f"{selector}._domainkey.{domain}" for selector in chosen]
    answers = await asyncio.gather(*(resolver.txt(name) for name in names))
    return Found(domain, tuple(map(Selector, chosen, names, answers)), below, bool(given))


def lines(found: Found) -> Iterator[Line]:
    """A line for each key; without any, what that means."""
    answered = [each for each in found.selectors if each.answer.records]
    if not found.are_given:
        yield from _of_usual(found, answered)
        return
    for each in found.selectors:
        if not each.answer.is_known:
            yield unknown("dkim", f"the key at {each.name}", each.answer.fault)
        elif not each.answer.records:
            what = "there is no such name" if each.answer.status is Status.NXDOMAIN else "the name has no TXT record"
            yield Line("dkim", "fail", f"no key at {each.name}: {what}", _publish(each), "DKM004")
    yield from _keys(answered)


def _of_usual(found: Found, answered: Sequence[Selector]) -> Iterator[Line]:
    failed = next((each for each in found.selectors if not each.answer.is_known), None)
    if not found.below.is_known or (failed is not None and not answered):
        fault = found.below.fault or (failed.answer.fault if failed else "")
        yield unknown("dkim", f"the keys below _domainkey.{found.domain}", fault)
    elif found.below.status is Status.NXDOMAIN:
        yield Line(
            "dkim",
            "warn",
            f"{found.domain} has no DKIM key: there is no name below _domainkey.{found.domain}",
            f'sign, and publish SELECTOR._domainkey.{found.domain}. TXT "v=DKIM1; k=rsa; p=..."',
            "DKM001",
        )
    elif answered and len(answered) == len(found.selectors) and len({each.answer.records for each in answered}) == 1:
        yield Line(
            "dkim",
            "skip",
            f"every selector has the same record (a wildcard at *._domainkey.{found.domain}): name yours by --selector",
        )
    elif not answered:
        yield Line(
            "dkim",
            "skip",
            f"no key at the {len(USUAL)} usual selectors: name yours by --selector, or in [sender] dkim_selectors "
            "(s= in the DKIM-Signature of a message)",
        )
    else:
        yield from _keys(answered)


def _keys(answered: Sequence[Selector]) -> Iterator[Line]:
    usable: list[Key] = []
    for each in answered:
        keys = [key for record in each.answer.records if (key := parse_key(record)).has_key]
        if len(keys) == 1 and not keys[0].problem:
            usable.append(keys[0])
        yield _key(each, keys)
    if usable and all(key.kind == "ed25519" for key in usable):
        yield Line(
            "dkim",
            "warn",
            "all keys are Ed25519, which many receivers cannot verify (RFC 8463)",
            "sign with an RSA key of 2048 bits besides",
            "DKM005",
        )


def _key(each: Selector, keys: Sequence[Key]) -> Line:
    behind = f" (behind {each.answer.canonical})" if each.answer.canonical else ""
    if len(keys) != 1:
        what = f"{len(keys)} keys stand at one name" if keys else "the TXT record has no p=: it is no key"
        return Line("dkim", "fail", f"{each.name}: {what}", f"leave one there: {_publish(each)}", "DKM004")
    (key,) = keys
    if key.is_revoked:
        fix = f"sign with another selector, or publish its key: {_publish(each)}"
        return Line("dkim", "warn", f"{each.name}: revoked (p= is empty){behind}", fix, "DKM004")
    if key.problem:
        return Line("dkim", "fail", f"{each.name}: {key.problem}{behind}", _publish(each), "DKM004")
    if not key.services & {b"*", b"email"}:
        return Line("dkim", "fail", f"{each.name}: s= does not allow it for email", _publish(each), "DKM004")
    said = f"{each.name}: {'Ed25519' if key.kind == 'ed25519' else f'RSA, {key.bits} bits'}{behind}"
    if key.kind == "rsa" and key.bits < GOOD_BITS:
        state: State = "fail" if key.bits < MIN_BITS else "warn"
        worth = "receivers ignore it" if key.bits < MIN_BITS else "2048 are recommended (RFC 8301)"
        fix = "make a key of 2048 bits, publish it under a new selector, then sign with that"
        return Line("dkim", state, f"{said}: {worth}", fix, "DKM005")
    if key.is_testing:
        fix = "take t=y out of the record once mail is signed as it should be"
        return Line("dkim", "warn", f"{said}, marked as a test (t=y): some receivers count it for nothing", fix)
    return Line("dkim", "ok", said)


def _publish(each: Selector) -> str:
    return f'publish {each.name}. TXT "v=DKIM1; k=rsa; p=..." with the signer\'s public key'
