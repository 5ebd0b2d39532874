"""MTA-STS policies, fetched and kept (RFC 8461): which mail hosts a domain lets us deliver to, and in what TLS.

A policy is fetched when the domain's TXT record names one that we do not have, and holds for its `max_age` whatever the
DNS or the web server say later; a day old, it is fetched again behind the mail. A policy that cannot be fetched is none
(RFC 8461 5.1): mail waits for it WAIT_S at most, and it is asked for again RETRY_S later. Certificates are verified, no
redirect is followed, no cookie kept, no address spoken to that mail would not be sent to. Policies live in memory:
after a start each is fetched anew.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable
from socket import AddressFamily
from typing import Final, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from smtpguard.edge.connect import Look
from smtpguard.mailauth.dns import Resolver, Status
from smtpguard.mailauth.mtasts import MAX_POLICY, Policy, name_of, parse_policy, parse_record, url_of

FETCH_S: Final = 10.0
WAIT_S: Final = 5.0
RETRY_S: Final = 300.0
RENEW_S: Final = 86_400.0
MAX_KEPT: Final = 10_000
MAX_FETCHES: Final = 20


class _Kept(NamedTuple):
    """A policy (None: it was not to be had), the `id` that it was fetched for, and when; seconds of our clock."""

    policy: Policy | None
    id: str
    renew: float
    until: float


class Policies:
    """The policies of the domains that mail goes to.

    `names`: addresses of policy hosts. `context`: which authorities are believed. `clock`: seconds, monotonic.
    `failed(result)` is called for each fetch in vain, with its result type of RFC 8460 4.3.
    """

    def __init__(
        self,
        resolver: Resolver,
        names: Look,
        context: ssl.SSLContext,
        *,
        clock: Callable[[], float],
        failed: Callable[[str], object],
    ) -> None:
        self._resolver = resolver
        self._names = names
        self._context = context
        self._clock = clock
        self._failed = failed
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def of(self, domain: str) -> Policy | None:
        """The policy in force for a domain (A-labels, lower case); None: there is none. Never raises."""
        answer = await self._resolver.txt(name_of(domain))
        id = parse_record(answer.records).tags.get("id", "") if answer.status is Status.POSITIVE else ""
        kept, now = self._kept.get(domain), self._clock()
        if kept is not None and now >= kept.until:
            del self._kept[domain]
            kept = None
        if id and (kept is None or kept.id != id):
            fetch = self._fetch(domain, id)
            if fetch is not None:
                await asyncio.wait({fetch}, timeout=WAIT_S)
                kept = self._kept.get(domain)
        elif id and kept is not None and now >= kept.renew:
            self._fetch(domain, id)
        policy = kept.policy if kept is not None else None
        return policy if policy is not None and policy.mode != "none" else None

    def _fetch(self, domain: str, id: str) -> asyncio.Task[None] | None:
        """The fetch that is under way, or a new one; None where too many are."""
        task = self._fetching.get(domain)
        if task is None and len(self._fetching) < MAX_FETCHES:
            task = asyncio.get_running_loop().create_task(self._learn(domain, id), name="mta-sts")
            self._fetching[domain] = task
            task.add_done_callback(lambda _: self._fetching.pop(domain, None))
        return task

    async def _learn(self, domain: str, id: str) -> None:
        policy = await self._fetched(domain)
        now = self._clock()
        before = self._kept.get(domain)
        if policy is None:  # what was known still holds; the rest is as if there were no policy
            until = before.until if before is not None and before.policy is not None else now + RETRY_S
            known = before.policy if before is not None else None
            kept = _Kept(known, id, now + RETRY_S, until)
        else:
            kept = _Kept(policy, id, now + min(RENEW_S, policy.max_age_s / 2), now + policy.max_age_s)
        self._kept[domain] = kept
        self._kept.move_to_end(domain)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    async def _fetched(self, domain: str) -> Policy | None:
        """RFC 8461 3.3."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_Hosts(self._names), ssl=self._context, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=FETCH_S),
            )
        try:
            async with self._session.get(url_of(domain), allow_redirects=False) as response:
                if response.status != 200 or response.content_type != "text/plain":
                    self._failed("sts-policy-fetch-error")
                    return None
                file = await response.content.read(MAX_POLICY + 1)
                while len(file) <= MAX_POLICY and not response.content.at_eof():
                    file += await response.content.read(MAX_POLICY + 1 - len(file))
        except aiohttp.ClientConnectorCertificateError:
            self._failed("sts-webpki-invalid")
            return None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            self._failed("sts-policy-fetch-error")
            return None
        policy = parse_policy(file)
        if policy.problems:
            self._failed("sts-policy-invalid")
            return None
        return policy

    async def close(self) -> None:
        """End what is being fetched."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()


class _Hosts(AbstractResolver):
    """Our own names for aiohttp."""

    def __init__(self, names: Look) -> None:
        self._names = names

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: AddressFamily = AddressFamily.AF_INET,  # noqa: ARG002 (we take either)
    ) -> list[ResolveResult]:
        """aiohttp's protocol; OSError where there is no address."""
        found = await self._names.addresses(host, port)
        if not found:
            raise OSError(f"{host} has no address")
        return [ResolveResult(hostname=host, host=at[0], port=at[1], family=of, proto=0, flags=0) for of, at in found]

    async def close(self) -> None:
        """Nothing to give back."""
