"""The keys of memory and policy: what is done about a refusal, what is remembered, who is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from smtpguard.config import values
from smtpguard.config.section import Domains, File, Names, Pause, Section, Size, internal, key
from smtpguard.mail.reply import Verb

ActionName = Literal["pass", "defer", "reroute", "throttle", "suppress"]
ACTION_KEYS = {
    "pass": (),
    "defer": ("hold", "probe"),
    "reroute": ("to",),
    "throttle": ("initial", "max"),
    "suppress": (),
}
"""The keys that only one action heeds."""


class PolicySettings(Section):
    """[[policy]]: all conditions must hold; an empty one always does."""

    klass: Literal[0, 4, 5] = key(0, "4 or 5: deferred or rejected by the next hop; 0 = both", named="class")
    category: Annotated[tuple[str, ...], BeforeValidator(values.categories)] = key(
        [], "as `smtpguard rules list` names them; reputation.* for a group"
    )
    permanence: Annotated[tuple[str, ...], BeforeValidator(values.permanences)] = key(
        [], "permanent | until_fixed | transient | message | unknown"
    )
    provider: Names = key([], "google, microsoft, ..., other")
    from_hop: Names = key([], "names of next hops")
    verb: Annotated[tuple[Verb, ...], BeforeValidator(values.verbs)] = key([], "CONNECT, MAIL, RCPT, DATA, DOT, ...")
    sender_domain: Domains = key([], "example.org, or *.example.org for all below it")
    action: ActionName = key("pass", "pass | defer | reroute | throttle | suppress")
    alert: bool = key(False, "notify alerts.webhook")
    to: str = key("", "reroute: the name of another [next_hop.NAME]")
    hold: Pause = key("24h", "defer: for so long; then the true 5xx is passed on")
    probe: Pause = key("15m", "defer: the pause between two attempts meanwhile")
    initial: Pause = key("30s", "throttle: the first pause")
    max: Pause = key("1h", "throttle: the longest")


class SuppressionSettings(Section):
    """[suppression]"""

    strikes: Annotated[int, Field(ge=1, le=100)] = key(2, "refusals until an address is suppressed")
    strike_gap: Pause = key("24h", "the least time between two of them; retries of one message count once")
    ttl: Pause = key("90d", "then it is tried again")
    never: Annotated[tuple[str, ...], BeforeValidator(values.address_patterns)] = key(
        ["postmaster@*", "abuse@*"], "addresses that are never suppressed"
    )


class StoreSettings(Section):
    """[store]"""

    url: Annotated[str, BeforeValidator(values.store_url)] = key(
        "sqlite:////var/lib/smtpguard/smtpguard.db",
        '"" = in memory only; "postgresql://..." for many nodes',
        restart=True,
    )
    max_size: Size = key("1GiB", "of an SQLite file; beyond it the oldest events go")


class AlertSettings(Section):
    """[alerts]"""

    webhook: Annotated[str, BeforeValidator(values.web_address)] = key("", "https address that is notified")
    secret_file: File = key("", "key that signs the notifications; required with webhook")
    secret: SecretStr | None = internal()
