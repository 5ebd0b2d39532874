"""MTA-STS policies, fetched and kept (RFC 8461): which mail hosts a domain lets us deliver to, and in what TLS.

A policy is fetched when the domain's TXT record names one that we do not have, and holds for its `max_age` whatever the
DNS or the web server say later; a day old, it is fetched again behind the mail. A policy that cannot be fetched is none
(RFC 8461 5.1): mail waits for it WAIT_S at most, and it is asked for again RETRY_S later. Certificates are verified, no
redirect is followed, no cookie kept, no address spoken to that mail would not be sent to.

Only so many are kept. A domain that mail goes to again and again keeps its policy though others come by the thousand,
as somebody can make them who has the names and writes to us from each (proven.py).

What was fetched is told to a `Memory` that outlives the process, and asked of it before the domain counts as one
without: who keeps the record or the web server from us must not win by a restart (RFC 8461 10.2). Nothing waits for it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from socket import AddressFamily
from typing import Final, NamedTuple, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from smtpguard.edge.connect import Look
from smtpguard.edge.proven import Proven
from smtpguard.mailauth.dns import Resolver, Status
from smtpguard.mailauth.mtasts import MAX_POLICY, Policy, name_of, parse_policy, parse_record, url_of

FETCH_S: Final = 10.0
WAIT_S: Final = 5.0
RETRY_S: Final = 300.0
RENEW_S: Final = 86_400.0
MAX_KEPT: Final = 10_000
MAX_NAMES: Final = 200_000
"""Names of mail hosts in all policies that are kept: one file may hold thousands."""
MAX_FETCHES: Final = 20


class Remembered(NamedTuple):
    """A policy of before, the `id` that it was fetched for, how old it is and for how long it holds yet, in seconds."""

    policy: Policy
    id: str
    age_s: float
    left_s: float


class Memory(Protocol):
    """Where policies outlive the process. None of these waits, none raises."""

    def recall(self, domain: str) -> Remembered | None:
        """The policy of a domain that still holds."""

    def keep(self, domain: str, id: str, policy: Policy) -> None:
        """One was fetched, just now."""

    def forget(self, domain: str) -> None:
        """There is no room for it any more."""


class _Kept(NamedTuple):
    """A policy (None: it was not to be had), the `id` that it was fetched for, and when; seconds of our clock."""

    policy: Policy | None
    id: str
    renew: float
    until: float

    @property
    def names(self) -> int:
        return len(self.policy.mx) if self.policy is not None else 0


class Policies:
    """The policies of the domains that mail goes to.

    `names`: addresses of policy hosts. `context`: which authorities are believed. `clock`: seconds, monotonic.
    `failed(result)` is called for each fetch in vain, with its result type of RFC 8460 4.3. Without a `memory` they are
    forgotten by a restart.
    """

    def __init__(
        self,
        resolver: Resolver,
        names: Look,
        context: ssl.SSLContext,
        *,
        clock: Callable[[], float],
        failed: Callable[[str], object],
        memory: Memory | None = None,
    ) -> None:
        self._resolver = resolver
        self._names = names
        self._context = context
        self._clock = clock
        self._failed = failed
        self._memory = memory
        self._kept = Proven[_Kept](MAX_KEPT, MAX_NAMES, lambda kept: kept.names)
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def of(self, domain: str) -> Policy | None:
        """The policy in force for a domain (A-labels, lower case); None: there is none. Never raises."""
        answer = await self._resolver.txt(name_of(domain))
        id = parse_record(answer.records).tags.get("id", "") if answer.status is Status.POSITIVE else ""
        now = self._clock()
        kept = self._known(domain, now)
        if id and (kept is None or kept.id != id):
            fetch = self._fetch(domain, id)
            if fetch is not None:
                await asyncio.wait({fetch}, timeout=WAIT_S)
                kept = self._known(domain, self._clock())
        elif id and kept is not None and now >= kept.renew:
            self._fetch(domain, id)
        policy = kept.policy if kept is not None else None
        return policy if policy is not None and policy.mode != "none" else None

    def _known(self, domain: str, now: float) -> _Kept | None:
        """What holds now, from here or from before the start."""
        kept = self._kept.ask(domain, now)
        if kept is not None and now < kept.until and kept.policy is not None:
            return kept
        before = self._memory.recall(domain) if self._memory is not None else None
        if before is not None:
            renew = now + _renewed_after(before.policy) - before.age_s
            return self._keep(domain, _Kept(before.policy, before.id, renew, now + before.left_s))
        return kept if kept is not None and now < kept.until else None

    def _keep(self, domain: str, kept: _Kept) -> _Kept:
        for gone in self._kept.put(domain, kept, self._clock()):
            if self._memory is not None:
                self._memory.forget(gone)
        return kept

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
        if policy is not None:
            self._keep(domain, _Kept(policy, id, now + _renewed_after(policy), now + policy.max_age_s))
            if self._memory is not None:
                self._memory.keep(domain, id, policy)
            return
        before = self._kept.get(domain)
        if before is not None and before.policy is not None and now < before.until:  # what was known still holds
            self._keep(domain, before._replace(id=id, renew=now + RETRY_S))
        else:  # as if there were no policy
            self._keep(domain, _Kept(None, id, now + RETRY_S, now + RETRY_S))

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


def _renewed_after(policy: Policy) -> float:
    """Seconds after which a policy is fetched again, though it still holds."""
    return min(RENEW_S, policy.max_age_s / 2)


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
