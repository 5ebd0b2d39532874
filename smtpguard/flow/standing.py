"""What is done about a refusal, and about the mail that comes after it: `[[policy]]` over what is remembered.

`at_mail`, `at_rcpt` and `at_dot` say whether an attempt is answered here, `refused` and `accepted` learn from what the
next hop said. Everything is synchronous: the memory is a cache, whatever store is behind it. With nothing remembered
and no policy configured each of them returns at once.

- Held and throttled mail gets one attempt at a time: whoever is let through has claimed the probe for its transaction.
- A suppressed recipient is refused with the words of the one that refused it; nothing is suppressed for the null
  sender's mail, whose recipients are senders of ours.
- Only a next hop's own 5xx is ever changed, and only into a 4xx (law B).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol, TypeVar

from smtpguard.classify import Classification
from smtpguard.config import PolicySettings, SuppressionSettings
from smtpguard.mail.reply import Reply, Verb
from smtpguard.policy import Hold, Policies, Refused, Route, Scope, Strike, Subject, Suppression, Throttle
from smtpguard.policy.standing import (
    PROBE_WITHIN_S,
    ROUTED_S,
    held,
    is_out,
    is_strike,
    may_suppress,
    meaning_of,
    reply_for,
    suppression,
    throttled,
)
from smtpguard.record import Source

R = TypeVar("R")


class Shelf(Protocol[R]):
    """What is remembered of one kind, by key."""

    @property
    def rows(self) -> Mapping[str, R]:
        """All of it, to look at; the same object always."""

    def get(self, key: str) -> R | None:
        """What is kept under this key, whether its time is over or not."""

    def put(self, row: R) -> None:
        """Keep it, in the place of what was there."""

    def drop(self, key: str) -> bool:
        """Forget it; whether there was any."""

    def __iter__(self) -> Iterator[R]: ...


class ProbedShelf(Shelf[R], Protocol[R]):
    """What lets an attempt through now and then."""

    def claim(self, key: str, now: float, every_s: float) -> bool:
        """Whether the caller may make the attempt that is due; the next one is due in `every_s`."""


class Strikes(Protocol):
    """Strikes by recipient."""

    @property
    def rows(self) -> Mapping[str, Sequence[Strike]]:
        """All of them, to look at; the same object always."""

    def of(self, key: str) -> Sequence[Strike]:
        """The strikes of a recipient, the oldest first."""

    def add(self, strike: Strike) -> bool:
        """Count it."""

    def clear(self, key: str) -> bool:
        """Forget them."""


class Memory(Protocol):
    """What is remembered: a cache that never waits, kept and shared by `history`."""

    @property
    def suppressions(self) -> Shelf[Suppression]: ...
    @property
    def strikes(self) -> Strikes: ...
    @property
    def holds(self) -> ProbedShelf[Hold]: ...
    @property
    def throttles(self) -> ProbedShelf[Throttle]: ...
    @property
    def routes(self) -> Shelf[Route]: ...


class Local(NamedTuple):
    """An answer of ours for what is remembered, and what it means."""

    reply: Reply
    classification: Classification
    source: Source
    action: str


class Verdict(NamedTuple):
    """What is done about a refusal that the MTA gets. `reply` None: it passes as it is."""

    action: str = ""
    reply: Reply | None = None
    alert: bool = False
    suppressed: Suppression | None = None
    """Added just now."""


PASSES: Final = Verdict()


class Standing:
    """Policy over memory. `when` shows a time to a person, `random` gives 0 to 1."""

    def __init__(
        self,
        policies: Policies,
        suppression: SuppressionSettings,
        memory: Memory,
        *,
        now: Callable[[], float],
        when: Callable[[float], str],
        random: Callable[[], float],
    ) -> None:
        self._policies = policies
        # What no policy asks for any more is not heeded: to take it out of the configuration ends it
        self._defers, self._throttles = "defer" in policies.actions, "throttle" in policies.actions
        self._suppression = suppression
        self._memory = memory
        self._now = now
        self._when = when
        self._random = random
        # Asked several times a message, and mostly all of them are empty
        self._suppressed, self._strikes = memory.suppressions.rows, memory.strikes.rows
        self._holds, self._throttled_now = memory.holds.rows, memory.throttles.rows
        self._routes = memory.routes.rows

    @property
    def is_idle(self) -> bool:
        """Whether nothing is remembered, so that no attempt can be answered here."""
        return not (self._suppressed or self._holds or self._throttled_now or self._routes)

    @property
    def has_routes(self) -> bool:
        """Whether any recipient's next attempt goes by another next hop."""
        return bool(self._routes)

    def has_routes_of(self, sender_domain: str) -> bool:
        """Whether that is so for mail of this sender."""
        return bool(self._routes) and any(route.key.startswith(f"{sender_domain} ") for route in self._memory.routes)

    @property
    def remembers_refusals(self) -> bool:
        """Whether an acceptance can change anything."""
        return bool(self._holds or self._throttled_now or self._strikes)

    # -- before the next hop is asked ------------------------------------------------------------------------------

    def at_mail(self, subject: Subject, claimed: set[str]) -> Local | None:
        """Whether a whole transaction is answered here: its egress or its sender is held or throttled.

        `claimed` takes the keys whose probe this transaction is; keys in it are not looked at again.
        """
        return self._barred(subject, (Scope.EGRESS, Scope.SENDER), Verb.MAIL, claimed)

    def at_rcpt(self, subject: Subject, claimed: set[str]) -> Local | None:
        """Whether one recipient is answered here."""
        now = self._now()
        kept = self._memory.suppressions.get(subject.rcpt)
        if kept is not None and now < kept.until:
            return self._local(kept, Verb.RCPT, kept.since, "suppression", "suppress")
        return self._barred(subject, (Scope.EGRESS, Scope.SENDER, Scope.RECIPIENT), Verb.RCPT, claimed)

    def at_dot(self, subject: Subject, claimed: set[str]) -> Local | None:
        """Whether the message is answered here: it was refused itself and is held."""
        return self._barred(subject, (Scope.MESSAGE,), Verb.DOT, claimed)

    def route(self, subject: Subject) -> str:
        """The next hop by which this recipient is tried now; "" for its usual one."""
        kept = self._memory.routes.get(_route_key(subject))
        return kept.next_hop if kept is not None and self._now() < kept.until else ""

    def _barred(self, subject: Subject, scopes: tuple[Scope, ...], verb: Verb, claimed: set[str]) -> Local | None:
        """The answer of the first that bars it; else it claims the attempt at all that let one through."""
        now, memory = self._now(), self._memory
        keys = [key for scope in scopes if (key := subject.key(scope)) and key not in claimed]
        throttles = [throttle for key in keys if self._throttles and (throttle := memory.throttles.get(key))]
        holds = [hold for key in keys if self._defers and (hold := memory.holds.get(key)) and not hold.is_spent(now)]
        for throttle in throttles:
            if throttle.is_barred(now):
                return self._throttled(throttle, verb)
        for hold in holds:
            if now < hold.probe_at:
                return self._held(hold, verb)
        for throttle in throttles:  # none is claimed for an attempt that another one bars
            if not memory.throttles.claim(throttle.key, now, PROBE_WITHIN_S):
                return self._throttled(throttle, verb)
        for hold in holds:
            if not memory.holds.claim(hold.key, now, hold.probe_s):
                return self._held(hold, verb)
        claimed.update(throttle.key for throttle in throttles)
        claimed.update(hold.key for hold in holds)
        return None

    def _throttled(self, throttle: Throttle, verb: Verb) -> Local:
        return self._local(throttle, verb, max(throttle.until, throttle.probe_at), "policy", "throttle")

    def _held(self, hold: Hold, verb: Verb) -> Local:
        return self._local(hold, verb, hold.until, "policy", "defer")

    def _local(self, kept: Hold | Throttle | Suppression, verb: Verb, at: float, source: Source, action: str) -> Local:
        reply = reply_for(kept, verb, self._when(at))
        return Local(reply, meaning_of(kept), source, action)

    # -- what the next hop said --------------------------------------------------------------------------------------

    def refused(
        self,
        subject: Subject,
        said: Reply,
        meaning: Classification,
        verb: Verb,
        *,
        passes_5xx: bool,
        path: bytes | None = None,
        shown: str = "",
        words: str = "",
        is_mixed: bool = False,
    ) -> Verdict:
        """What is done about the refusal `said`, which the MTA would get at `verb`.

        `passes_5xx`: the MTA would get it as a 5xx. `path`: the one recipient it hit, unless the sender is null;
        `shown` is that address as it may be kept, `words` the refusal's text: others are told of it. `is_mixed`: others
        of the transaction were taken, so that a detour must wait for the retry.
        """
        rule = self._match(subject, said, meaning)
        kept = replace(said, lines=(words or said.text,))
        match rule.action:
            case "defer" if passes_5xx:
                verdict = self._defer(rule, subject, kept, meaning, verb)
            case "throttle":
                verdict = self._throttle(rule, subject, kept, meaning, verb, passes_5xx=passes_5xx)
            case "suppress" if passes_5xx and path is not None:
                verdict = self._strike(subject, kept, meaning, path, shown)
            case "reroute" if is_mixed:
                verdict = self._route(rule, subject, said, verb)
            case _:
                verdict = PASSES
        return verdict._replace(alert=True) if rule.alert else verdict

    def detour(self, subject: Subject, said: Reply, meaning: Classification) -> str:
        """The next hop that is tried before the MTA is told of this refusal; "" for none."""
        rule = self._match(subject, said, meaning)
        return rule.to if rule.action == "reroute" and rule.to != subject.next_hop else ""

    def alerts(self, subject: Subject, said: Reply, meaning: Classification) -> bool:
        """Whether a refusal that takes a detour is to be told to the webhook."""
        return self._match(subject, said, meaning).alert

    @property
    def is_governed(self) -> bool:
        """Whether there is any policy, so that a refusal may not pass as it is."""
        return bool(self._policies)

    @property
    def reroutes(self) -> bool:
        """Whether any policy may give a detour."""
        return "reroute" in self._policies.actions

    def _match(self, subject: Subject, said: Reply, meaning: Classification) -> PolicySettings:
        return self._policies.match(
            Refused(
                said.klass,
                meaning.category,
                meaning.permanence,
                meaning.provider,
                subject.next_hop,
                said.verb,
                subject.sender_domain,
            )
        )

    def _route(self, rule: PolicySettings, subject: Subject, said: Reply, verb: Verb) -> Verdict:
        """The retry of this recipient goes by the other next hop."""
        self.remember_route(subject, rule.to)
        enhanced = said.enhanced._replace(klass=4) if said.enhanced else None
        return Verdict("reroute", Reply(450 if verb is Verb.RCPT else 451, said.lines, enhanced, verb))

    def _defer(
        self, rule: PolicySettings, subject: Subject, said: Reply, meaning: Classification, verb: Verb
    ) -> Verdict:
        key = subject.key(Scope.of(meaning.scope))
        if not key:
            return PASSES
        now = self._now()
        hold = held(self._memory.holds.get(key), key, said, meaning, rule, now)
        self._memory.holds.put(hold)
        if hold.is_spent(now):
            return PASSES
        return Verdict("defer", reply_for(hold, verb, self._when(hold.until)))

    def _throttle(
        self,
        rule: PolicySettings,
        subject: Subject,
        said: Reply,
        meaning: Classification,
        verb: Verb,
        *,
        passes_5xx: bool,
    ) -> Verdict:
        key = subject.key(Scope.EGRESS)
        throttle = throttled(
            self._memory.throttles.get(key), key, said, meaning, rule, self._now(), jitter=self._random()
        )
        self._memory.throttles.put(throttle)
        reply = reply_for(throttle, verb, self._when(throttle.until)) if passes_5xx else None
        return Verdict("throttle", reply)

    def _strike(self, subject: Subject, said: Reply, meaning: Classification, path: bytes, shown: str) -> Verdict:
        settings, key, memory = self._suppression, subject.rcpt, self._memory
        if not may_suppress(path, settings):
            return PASSES
        now = self._now()
        new = Strike(key, subject.message or f"at {now}", now)
        if is_strike(memory.strikes.of(key), new, settings):
            memory.strikes.add(new)
        if not is_out(memory.strikes.of(key), now, settings):
            return Verdict("suppress")
        suppressed = suppression(key, shown, said, meaning.category, settings, now)
        memory.suppressions.put(suppressed)
        memory.strikes.clear(key)
        return Verdict("suppress", suppressed=suppressed)

    def remember_route(self, subject: Subject, to: str) -> None:
        """The next attempt for this recipient goes by the next hop `to`."""
        now = self._now()
        self._memory.routes.put(Route(_route_key(subject), now, now + ROUTED_S, to))

    def accepted(self, subject: Subject) -> None:
        """The next hop took the message for this recipient: nothing is held against it any more."""
        now, memory = self._now(), self._memory
        for key in subject.every_key():
            memory.holds.drop(key)
            throttle = self._throttled_now.get(key)
            if throttle is not None and throttle.is_opened_by(now):
                memory.throttles.drop(key)
        memory.strikes.clear(subject.rcpt)

    def ended(self, claimed: Iterable[str]) -> None:
        """A transaction that was let through as the attempt is over: where that settled nothing, the next one may go.

        As when it was refused for another reason, or the connection was lost.
        """
        for key in claimed:
            throttle = self._throttled_now.get(key)
            if throttle is not None and throttle.probe_at:
                self._memory.throttles.put(throttle._replace(probe_at=0.0))


def _route_key(subject: Subject) -> str:
    return f"{subject.sender_domain} {subject.rcpt}"
