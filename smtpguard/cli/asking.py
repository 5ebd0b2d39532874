"""What `audit` and `check` ask the DNS with: the resolver, the blocklists and the key of the configuration.

It is open as long as the context lasts:

    async with asking(settings) as given:
        found = await audit("example.com", given.terms("example.com", addresses))
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from smtpguard.audit import Terms
from smtpguard.cli.policyfile import PolicyFiles
from smtpguard.config import Settings
from smtpguard.config.secrets import FileError, read_secret
from smtpguard.edge.blocklist import Blocklists
from smtpguard.edge.host import own_name
from smtpguard.edge.resolver import Resolver
from smtpguard.mail.patterns import matches
from smtpguard.mailauth.dns import IpAddress


class Asking(NamedTuple):
    """Everything that is asked with, for as long as the context lasts."""

    settings: Settings
    resolver: Resolver
    second: Resolver | None
    second_name: str
    lists: Blocklists
    files: PolicyFiles
    helo: str

    def terms(self, domain: str, addresses: Sequence[IpAddress], selectors: Sequence[str] = ()) -> Terms:
        """For the audit of a domain. No `selectors`: those of [sender] if it is ours; else the usual ones."""
        sender = self.settings.sender
        return Terms(
            self.resolver.about("other"),
            self.lists,
            self.files,
            addresses,
            self.helo,
            selectors or (sender.dkim_selectors if matches(sender.domains, domain) else ()),
            self.second.about("other") if self.second is not None else None,
            self.second_name,
        )


def own_addresses_of(settings: Settings) -> tuple[IpAddress, ...]:
    """Those of all next hops, each once."""
    return tuple(dict.fromkeys(address for hop in settings.next_hop.values() for address in hop.egress_ips))


@asynccontextmanager
async def asking(settings: Settings, *, public_resolver: str = "", is_here: bool = True) -> AsyncIterator[Asking]:
    """Open what is asked with. FileError: the key of the blocklists cannot be read.

    `is_here`: mail leaves from this machine, so that its name is the one in EHLO where `relay.hostname` names none.
    """
    lint = settings.lint
    key_file = lint.blocklists.spamhaus_key_file
    try:
        keys = {"spamhaus": read_secret(key_file)} if key_file else {}
    except FileError as error:
        raise FileError(f"{key_file} {error}") from None
    resolver = _resolver(lint.dns.resolvers, lint.dns.internal_zones)
    second = _resolver((public_resolver,), ()) if public_resolver else None
    lists = Blocklists(
        resolver.about("blocklist"),
        (*lint.blocklists.ip, *lint.blocklists.domain),
        keys=keys,
        clock=time.monotonic,
        on_change=lambda _: None,
    )
    files = PolicyFiles(resolver.about("other"))
    helo = settings.relay.hostname or (own_name() if is_here else "")
    try:
        yield Asking(settings, resolver, second, public_resolver, lists, files, helo)
    finally:
        await lists.close()
        await resolver.close()
        if second is not None:
            await second.close()


def _resolver(servers: Sequence[str], internal_zones: Sequence[str]) -> Resolver:
    clock = time.monotonic
    # AD only tells a person whether DANE works: nothing is trusted for it
    return Resolver(servers, internal_zones=internal_zones, clock=clock, count=lambda *_: None, trust_ad=True)
