"""What is remembered of refusals, and how time and answers change it. Pure: values in, values out, the time passed in.

    Hold         a 5xx that the MTA got as 4xx: answered here, one attempt a `probe`, the true 5xx after `hold`
    Throttle     a provider that wants less: answered here until the pause is over, then one attempt opens it
    Strike       one refusal for good of an address; as many as configured make a suppression
    Suppression  an address that is refused here, with the words of the one that refused it
    Route        a recipient whose next attempt goes by another next hop

They are flat, as `history` keeps them and shares them between nodes. Times are seconds since the epoch: what is
remembered outlives the process. The key of a hold or a throttle is `rules.Subject.key`; that of a strike and a
suppression is the recipient's keyed hash. No address is in any key.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from smtpguard.classify import PROVIDERS, Classification
from smtpguard.config import PolicySettings, SuppressionSettings
from smtpguard.mail.reply import EnhancedCode, Reply, Verb
from smtpguard.policy.replies import stated

PROBE_WITHIN_S: Final = 60.0
"""A throttle's attempt that has not come back after that time does not bar the next one."""
ROUTED_S: Final = 3600.0
"""How long a route is remembered: the retry of an MTA comes within the hour."""
QUOTED: Final = 300
"""Characters of a refusal that are kept, and of what it means."""


class Hold(NamedTuple):
    """A scope whose refusals are held back. `code`, `enhanced` and `text` are what was said last.

    `provider`, `cause` and `fix` are what that meant, with the names that it gave; "" in what an older version kept.
    """

    key: str
    since: float
    until: float
    probe_at: float
    """When the next attempt may be made."""
    probe_s: float
    code: int
    enhanced: str
    text: str
    category: str
    provider: str = ""
    cause: str = ""
    fix: str = ""

    def is_spent(self, now: float) -> bool:
        """Whether it was held for long enough: the true 5xx passes, until something is accepted or it is forgotten."""
        return now >= self.until

    @property
    def forgotten_at(self) -> float:
        """When nothing of it counts any more: a refusal after that is a new one."""
        return 2 * self.until - self.since


class Throttle(NamedTuple):
    """A pause for one provider's mail by one next hop; `delay` is its length in seconds. The rest is as in Hold."""

    key: str
    since: float
    until: float
    probe_at: float
    """Until then an attempt is under way; 0: none."""
    delay: float
    code: int
    enhanced: str
    text: str
    category: str
    provider: str = ""
    cause: str = ""
    fix: str = ""

    def is_opened_by(self, accepted_at: float) -> bool:
        """Whether an acceptance ends it; one in the pause is of mail that was under way when the pause began."""
        return accepted_at >= self.until

    def is_barred(self, now: float) -> bool:
        """Whether mail is answered here: the pause is not over, or an attempt is under way."""
        return now < self.until or now < self.probe_at


class Suppression(NamedTuple):
    """A recipient that is refused here. `address` is shown as `privacy.addresses` lets it be kept.

    `code`, `enhanced` and `text` are the refusal that it stands for; `source` is policy, manual or import.
    """

    key: str
    since: float
    until: float
    address: str
    code: int
    enhanced: str
    text: str
    category: str
    source: str


class Strike(NamedTuple):
    """A refusal for good of an address, by one message."""

    key: str
    message: str
    at: float


class Route(NamedTuple):
    """The next hop that the retry of a recipient takes."""

    key: str
    since: float
    until: float
    next_hop: str


def held(old: Hold | None, key: str, said: Reply, meaning: Classification, rule: PolicySettings, now: float) -> Hold:
    """The hold after a refusal: a new one, or the old one with its next attempt later."""
    is_new = old is None or now >= old.forgotten_at
    since = now if is_new or old is None else old.since
    until = now + rule.hold if is_new or old is None else old.until
    return Hold(key, since, until, now + rule.probe, rule.probe, *_words(said), *_meant(meaning))


def throttled(
    old: Throttle | None,
    key: str,
    said: Reply,
    meaning: Classification,
    rule: PolicySettings,
    now: float,
    *,
    jitter: float = 0.0,
) -> Throttle:
    """The throttle after a refusal: twice as long as the last one, or as long as the text asks, `rule.max` at most.

    `jitter` (0 to 1) lengthens it by up to a fifth, so that nodes do not come back at once.
    """
    if old is not None and now < old.until and now >= old.probe_at:
        return old  # of a message that was under way when the pause began
    is_next = old is not None and now < old.until + rule.max
    delay = min(rule.max, old.delay * 2) if is_next and old is not None else rule.initial
    if meaning.retry_after is not None:
        delay = min(rule.max, max(delay, meaning.retry_after))
    return Throttle(key, now, now + delay * (1 + jitter / 5), 0.0, delay, *_words(said), *_meant(meaning))


def is_strike(strikes: Sequence[Strike], new: Strike, settings: SuppressionSettings) -> bool:
    """Whether a refusal counts: another message's, `strike_gap` after the last, the earlier ones within `ttl`."""
    return not strikes or (
        all(strike.message != new.message for strike in strikes) and new.at - strikes[-1].at >= settings.strike_gap
    )


def is_out(strikes: Sequence[Strike], now: float, settings: SuppressionSettings) -> bool:
    """Whether these are enough to suppress the address."""
    return sum(now - strike.at < settings.ttl for strike in strikes) >= settings.strikes


def suppression(
    key: str, address: str, said: Reply, category: str, settings: SuppressionSettings, now: float
) -> Suppression:
    """The suppression of an address by policy."""
    return Suppression(key, now, now + settings.ttl, address, *_words(said), category, "policy")


def may_suppress(path: bytes, settings: SuppressionSettings) -> bool:
    """Whether an address is not among `suppression.never`."""
    text = path.decode("utf-8", "replace").lower()
    return not any(fnmatchcase(text, pattern) for pattern in settings.never)


def _words(said: Reply) -> tuple[int, str, str]:
    return said.code, str(said.enhanced or ""), said.text[:QUOTED]


def _meant(meaning: Classification) -> tuple[str, str, str, str]:
    return meaning.category, meaning.provider, meaning.cause[:QUOTED], meaning.fix[:QUOTED]


def reply_for(kept: Hold | Throttle | Suppression, verb: Verb, when: str) -> Reply:
    """Our answer at `verb` for what is remembered, the original quoted. `when` is the time to name, for a person.

    A hold and a throttle are 450 at RCPT, 451 elsewhere; a suppression is the code that the address was refused with.
    """
    words = " ".join(part for part in (str(kept.code), kept.enhanced, kept.text) if part)
    text = f"{_LEADS[type(kept)]} {when}: {words}"
    if isinstance(kept, Suppression):
        return Reply(kept.code, (text,), _enhanced(kept.enhanced, 5), verb)
    return Reply(450 if verb is Verb.RCPT else 451, (text,), _enhanced(kept.enhanced, 4), verb)


def meaning_of(kept: Hold | Throttle | Suppression) -> Classification:
    """What our answer means: what the refusal did that it stands for, with the same provider, cause and fix."""
    if isinstance(kept, Suppression):
        return stated(kept.category)
    again = stated(kept.category, cause=kept.cause, fix=kept.fix)
    return again._replace(provider=kept.provider) if kept.provider in PROVIDERS else again


_LEADS: Final = {Hold: "held until", Throttle: "slowed down until", Suppression: "suppressed since"}


def _enhanced(text: str, klass: int) -> EnhancedCode:
    _, _, rest = text.partition(".")
    subject, _, detail = rest.partition(".")
    return EnhancedCode(klass, int(subject or 0), int(detail or 0))
