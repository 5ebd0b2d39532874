"""The audit of mail to a domain: its mail hosts, and what protects the way to them (MTA-STS, DANE, TLSRPT), and BIMI.

A sender that cannot be answered is refused by many; the rest is about mail that comes in, and costs nobody a refusal:
what is not published there is said and no more. The findings POL001 to POL005 of the catalogue are made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, NamedTuple

from smtpguard.audit.line import Branch, Line, State, judged, unknown
from smtpguard.lint.facts import SenderDomain
from smtpguard.lint.recipients import mx_fault, unreachable
from smtpguard.mailauth import bimi, mtasts, tlsrpt
from smtpguard.mailauth.dmarc import Discovered
from smtpguard.mailauth.dns import Answer, IpAddress, Resolver, Tlsa

MAX_HOSTS: Final = 20
"""Mail hosts that are looked at."""
MIN_AGE_S: Final = 86_400
"""Of an MTA-STS policy: a shorter one is forgotten before the next mail (RFC 8461 3.2 wants weeks)."""


class NoFile(NamedTuple):
    """Why a policy file could not be had."""

    why: str


Fetch = Callable[[str], Awaitable[bytes | NoFile]]
"""Gets the file at an https address: no redirect followed, the certificate checked (RFC 8461 3.3)."""


class Found(NamedTuple):
    """`file`: the MTA-STS policy, fetched where the record asks for it. `tlsa`: by mail host."""

    mail: SenderDomain
    tlsa: Mapping[str, Answer[Tlsa]]
    sts: Answer[bytes]
    file: bytes | NoFile | None
    tlsrpt: Answer[bytes]
    bimi: Answer[bytes]


async def ask(resolver: Resolver, domain: str, fetch: Fetch) -> Found:
    """Ask for the mail hosts with their addresses, and for each of the records."""
    mail, sts, reports, logo = await asyncio.gather(
        _mail(resolver, domain),
        resolver.txt(mtasts.name_of(domain)),
        resolver.txt(tlsrpt.name_of(domain)),
        resolver.txt(bimi.name_of(domain)),
    )
    tlsa = await asyncio.gather(*(resolver.tlsa(f"_25._tcp.{host}") for host in mail.hosts))
    file = await fetch(mtasts.url_of(domain)) if mtasts.parse_record(sts.records).tags else None
    return Found(mail, dict(zip(mail.hosts, tlsa, strict=True)), sts, file, reports, logo)


async def _mail(resolver: Resolver, domain: str) -> SenderDomain:
    mx = await resolver.mx(domain)
    names = [each.host for each in mx.records[:MAX_HOSTS] if each.host]
    hosts = await asyncio.gather(*(addresses(resolver, name) for name in names))
    own = () if mx.records or not mx.is_known else await addresses(resolver, domain)
    return SenderDomain(domain, mx, own, dict(zip(names, hosts, strict=True)))


async def addresses(resolver: Resolver, name: str) -> tuple[Answer[IpAddress], ...]:
    """A and AAAA of a name."""
    return tuple(await asyncio.gather(resolver.a(name), resolver.aaaa(name)))


def lines(found: Found, policy: Discovered) -> Iterator[Line]:
    """All of it; `policy` is the domain's DMARC, which BIMI hangs on."""
    yield from mx_lines(found.mail)
    if not found.mail.is_null_mx:
        yield from _sts(found)
        yield from _dane(found.tlsa)
        yield from _tlsrpt(found)
    yield from _bimi(found, policy)


# --- mail hosts ------------------------------------------------------------------------------------------------------


def mx_lines(mail: SenderDomain) -> Iterator[Line]:
    """Where mail to the domain goes."""
    failed = next((answer for answer in (mail.mx, *mail.addresses) if not answer.is_known), None)
    if failed is not None:
        yield unknown("mx", f"the mail hosts of {mail.name}", failed.fault)
        return
    yield from judged("mx", ("ENV002", "ENV003"), mail)
    if mail.is_null_mx or mail.is_missing or mail.is_hostless:
        return
    if not mail.mx.records:
        where = ", ".join(str(address) for answer in mail.addresses for address in answer.records)
        yield Line("mx", "ok", f"no MX: mail goes to the domain's own address {where} (RFC 5321 5.1)")
        return
    faults = {mx.host: mx_fault(mx.host, mail.hosts.get(mx.host, ())) for mx in mail.mx.records}
    tree = tuple(Branch(0, f"{mx.preference} {mx.host}", _where(mail, mx.host)) for mx in mail.mx.records)
    is_dead = all(unreachable(mx.host, mail.hosts.get(mx.host, ())) for mx in mail.mx.records)
    if not any(faults.values()):
        yield Line("mx", "ok", f"{_many(len(faults), 'mail host')}", tree=tree)
    for number, (host, fault) in enumerate((host, fault) for host, fault in faults.items() if fault):
        message = f"MX {host}: {fault}"
        fix = f"publish {mail.name}. MX with the name of a host that has a public A or AAAA record"
        shown = tree if not number else ()
        rule = "POL005" if is_dead else "RCP005"
        yield Line("mx", "fail" if is_dead else "warn", message, fix, rule, shown)


def _where(mail: SenderDomain, host: str) -> str:
    answers = mail.hosts.get(host, ())
    found = [str(address) for answer in answers for address in answer.records]
    failed = next((answer.fault for answer in answers if not answer.is_known), "")
    return ", ".join(found) or (f"not to be looked up ({failed})" if failed else "")


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


# --- MTA-STS ---------------------------------------------------------------------------------------------------------


def _sts(found: Found) -> Iterator[Line]:
    domain = found.mail.name
    name = mtasts.name_of(domain)
    record = mtasts.parse_record(found.sts.records)
    if not found.sts.is_known:
        yield unknown("mta-sts", f"TXT of {name}", found.sts.fault)
    elif not record.is_there:
        yield Line("mta-sts", "skip", "not published: who delivers to you need not insist on TLS")
    elif record.problem:
        fix = f'publish one record: {name}. TXT "v=STSv1; id=20260101000000"'
        yield Line("mta-sts", "warn", f"{name}: {record.problem}", fix, "POL001")
    elif isinstance(found.file, NoFile):
        fix = (
            f"serve the policy at {mtasts.url_of(domain)} with a certificate for mta-sts.{domain}, or take {name} away"
        )
        yield Line("mta-sts", "warn", f"there is a record and no policy: {found.file.why}", fix, "POL001")
    elif found.file is not None:
        yield from _policy(found.mail, mtasts.parse_policy(found.file))


def _policy(mail: SenderDomain, policy: mtasts.Policy) -> Iterator[Line]:
    if policy.problems:
        fix = f"correct the file at {mtasts.url_of(mail.name)}: senders take it for none"
        yield Line("mta-sts", "warn", f"the policy has a fault: {'; '.join(policy.problems)}", fix, "POL001")
        return
    left_out = [mx.host for mx in mail.mx.records if policy.mode != "none" and mx.host and not policy.allows(mx.host)]
    if left_out:
        lines = ", ".join(f"`mx: {host}`" for host in left_out)
        fix = f"add {lines} to the policy, then change id= in {mtasts.name_of(mail.name)}"
        state: State = "fail" if policy.mode == "enforce" and len(left_out) == len(mail.mx.records) else "warn"
        yield Line("mta-sts", state, f"the policy does not name the MX {', '.join(left_out)}", fix, "POL001")
        return
    said = f"mode {policy.mode}, max_age {policy.max_age_s / 86_400:.4g} days"
    if policy.mode != "none" and policy.max_age_s < MIN_AGE_S:
        yield Line("mta-sts", "warn", f"{said}: too short to protect anything", "set max_age: 604800 or more", "POL001")
    elif policy.mode == "testing":
        fix = "set mode: enforce when the reports (TLSRPT) are clean, and change id= in the record"
        yield Line("mta-sts", "warn", f"{said}: nothing is enforced yet", fix)
    else:
        yield Line("mta-sts", "ok", said)


# --- DANE, TLSRPT, BIMI ----------------------------------------------------------------------------------------------


def _dane(answers: Mapping[str, Answer[Tlsa]]) -> Iterator[Line]:
    published = {host: answer for host, answer in answers.items() if answer.records}
    for host, answer in published.items():
        # RFC 7672 3.1.3: usages 0 and 1 are not for SMTP; RFC 6698 2.1: selectors 0, 1, matchings 0 to 2
        usable = [each for each in answer.records if each.usage in (2, 3) and each.selector < 2 and each.matching < 3]
        if not usable:
            fix = f"publish _25._tcp.{host}. TLSA 3 1 1 with the SHA-256 of its public key"
            yield Line("dane", "warn", f"{host}: no TLSA record that SMTP can use", fix, "POL002")
        elif answer.is_secure:
            yield Line("dane", "ok", f"{host}: {_many(len(usable), 'TLSA record')}, signed")
        else:
            said = f"{host}: {_many(len(usable), 'TLSA record')}; whether they are signed this resolver does not say"
            yield Line("dane", "skip", said)


def _tlsrpt(found: Found) -> Iterator[Line]:
    domain = found.mail.name
    name = tlsrpt.name_of(domain)
    record = tlsrpt.parse_record(found.tlsrpt.records)
    fix = f'publish {name}. TXT "v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"'
    is_wanted = mtasts.parse_record(found.sts.records).is_there or any(each.records for each in found.tlsa.values())
    if not found.tlsrpt.is_known:
        yield unknown("tlsrpt", f"TXT of {name}", found.tlsrpt.fault)
    elif record.problem:
        yield Line("tlsrpt", "warn", f"{name}: {record.problem}", fix, "POL003")
    elif record.tags:
        yield Line("tlsrpt", "ok", f"reports go to {record.tags['rua']}")
    elif is_wanted:
        said = "nobody is told when TLS fails, and then mail does not arrive (MTA-STS or DANE is published)"
        yield Line("tlsrpt", "warn", said, fix, "POL003")
    else:
        yield Line("tlsrpt", "skip", "not published, nor what it would report on")


def _bimi(found: Found, policy: Discovered) -> Iterator[Line]:
    name = bimi.name_of(found.mail.name)
    record = bimi.parse_record(found.bimi.records)
    if not found.bimi.is_known:
        yield unknown("bimi", f"TXT of {name}", found.bimi.fault)
    elif not record.is_there:
        yield Line("bimi", "skip", "not published")
    elif record.problem:
        yield Line("bimi", "warn", f"{name}: {record.problem}", f"correct the record at {name}")
    elif not record.tags["l"]:
        yield Line("bimi", "skip", "the domain says that it has no logo")
    elif not policy.fault and policy.disposition == "none":
        fix = f'publish _dmarc.{found.mail.name}. TXT "v=DMARC1; p=quarantine; ..." when all your mail passes'
        yield Line("bimi", "warn", "no provider shows the logo: DMARC asks for nothing (p=none)", fix, "POL004")
    else:
        certificate = "" if record.tags.get("a") else "; without a certificate (a=) Gmail and Apple do not show it"
        yield Line("bimi", "ok", f"{record.tags['l']}{certificate}")
