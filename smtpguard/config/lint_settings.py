"""The keys of the lint: what is checked before mail is sent, and what is done about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from smtpguard.config.section import (
    Count,
    Domains,
    Duration,
    File,
    Names,
    Section,
    Servers,
    internal,
    key,
    section,
    tables,
)

Action = Literal["off", "observe", "defer", "reject"]


class SenderSettings(Section):
    """[sender]"""

    domains: Domains = key([], "our domains; watched on blocklists, audited by `check`")
    dkim_selectors: Names = key([], "the selectors of their DKIM keys")


class ExceptSettings(Section):
    """[[lint.except]]: both conditions must hold; an empty one always does."""

    rules: Names = key([], "by id, family or name")
    sender_domain: Domains = key([], "example.org, or *.example.org for all below it")
    recipient_domain: Domains = key([], "the same for recipients")


class DkimSettings(Section):
    """[lint.dkim]"""

    signed: Literal["before", "after", "either"] = key(
        "either", "before | after | either: is mail signed before it reaches us"
    )


class DnsSettings(Section):
    """[lint.dns]"""

    resolvers: Servers = key([], '[] = those of the system; "127.0.0.1:5353"')
    internal_zones: Domains = key([], "domains that are never looked up")


class BlocklistSettings(Section):
    """[lint.blocklists]"""

    ip: Names = key(["zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com"], "asked about our egress addresses")
    domain: Names = key(["dbl.spamhaus.org", "multi.surbl.org", "multi.uribl.com"], "asked about senders and links")
    spamhaus_key_file: File = key("", "Data Query Service key; for zen and dbl")
    spamhaus_key: SecretStr | None = internal()


class LintSettings(Section):
    """[lint]"""

    mode: Literal["off", "observe", "enforce"] = key(
        "observe", "off | observe | enforce: only report, or reject what is certain"
    )
    budget: Annotated[Duration, Field(le=60.0)] = key(
        "200ms", "how long mail waits for DNS; what comes later is remembered"
    )
    bulk_threshold: Count = key(5000, "messages a day that make a From domain a bulk sender")
    rules: dict[str, Action] = key(
        {}, "What is done about findings, by id, family or name of a rule: off | observe | defer | reject."
    )
    exempt: Annotated[tuple[ExceptSettings, ...], BeforeValidator(tables)] = section(
        tuple, "Rules that are off for some mail.", named="except"
    )
    dkim: DkimSettings = section(DkimSettings, "DKIM signatures.")
    dns: DnsSettings = section(DnsSettings, "Where names are looked up.")
    blocklists: BlocklistSettings = section(BlocklistSettings, "Blocklists that are asked.")
