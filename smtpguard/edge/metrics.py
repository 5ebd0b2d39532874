"""Prometheus metrics (contract 5): each is declared once, here, with its words.

An attribute is called like its metric without `smtpguard_`, `_total` and `_seconds`: `metrics.sessions` is
`smtpguard_sessions_total`, `metrics.event_loop_lag` is `smtpguard_event_loop_lag_seconds`. Only what exists is
declared: what comes with another capability (lint, policy, DNS, suppression) is declared with it.

Fewer than MAX_SERIES series, whatever the world says: labels come from closed sets; the two that do not, the codes of
next hops and the names of configured next hops, have a limit and then `other`. No label is ever an address, an IP, free
text or a recipient's domain.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Final, TypeVar, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder

from smtpguard import __version__
from smtpguard.classify import CATEGORIES, PROVIDERS, provider_of
from smtpguard.edge import tally
from smtpguard.edge.tally import Family, Spread, Tally
from smtpguard.mail.reply import EnhancedCode, Reply
from smtpguard.mail.session import DoorName
from smtpguard.record import Accepted, Outcome, Record, Refusal, Source

MAX_SERIES: Final = 1500
MAX_REPLIES: Final = 100  # pairs of code and enhanced code
MAX_NEXT_HOPS: Final = 12  # names; a next hop has up to 15 series

DOORS: Final[tuple[str, ...]] = get_args(DoorName)
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
SOURCES: Final[tuple[str, ...]] = get_args(Source)
STAGES: Final = ("receive", "lint", "next_hop")
SINKS: Final = ("log", "metrics", "history", "alerts")
ACTIONS: Final = ("defer", "reroute", "throttle", "suppress")
CONNECTION_RESULTS: Final = ("opened", "reused", "failed", "refused")
GOT: Final = {2: "accepted", 4: "deferred", 5: "rejected"}  # what a recipient got, by the reply's first digit

# Coarse on purpose: one histogram has as many series as buckets, and two
SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)
LAG_SECONDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
OCTETS: Final = (4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864)

# The IANA registry of enhanced status codes (RFC 5248) has no gaps: the highest detail of each subject
# (X.1.10 is RFC 7505's, X.3.6 RFC 6710's, X.7.30 RFC 8689's)
REGISTERED: Final = {0: 0, 1: 10, 2: 4, 3: 6, 4: 7, 5: 6, 6: 10, 7: 30}

_PROVIDERS: Final = frozenset(PROVIDERS)
_UNREGISTERED: Final = EnhancedCode(0, 0, 0)  # stands for them all
_Series = TypeVar("_Series", Tally, Spread)


def is_registered(code: EnhancedCode) -> bool:
    """Whether IANA lists this enhanced code, in any of its three classes."""
    return code.detail <= REGISTERED.get(code.subject, -1)


class ByNextHop:
    """A metric whose first label is the name of a next hop; names beyond MAX_NEXT_HOPS share `other`."""

    def __init__(self, family: Family[Tally], names: set[str]) -> None:
        self._family = family
        self._names = names

    def labels(self, next_hop: str, *others: str) -> Tally:
        """The series of one next hop; keep it where it is used often."""
        if next_hop not in self._names:
            if len(self._names) >= MAX_NEXT_HOPS:
                next_hop = "other"
            else:
                self._names.add(next_hop)
        return self._family.labels(next_hop, *others)


class Metrics:
    """The metrics of a process, in a registry of their own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there
        self.registry = CollectorRegistry()

        self.sessions = self._counter("sessions", "Connections from MTAs that ended.", "door", "result")
        self.sessions_in_progress = self._gauge("sessions_in_progress", "Connections from MTAs that are open.", "door")
        self.transactions = self._counter("transactions", "Transactions that ended.", "door", "outcome")
        self.recipients = self._counter("recipients", "Recipients by what the MTA got.", "outcome")
        self.rejections = self._counter("rejections", "5xx said, by the next hop or by us.", "category")
        self.deferrals = self._counter("deferrals", "4xx said, by the next hop or by us.", "category")
        self.refusals_by_source = self._counter("refusals_by_source", "Refusals by who refused.", "source", "class")
        self.provider_recipients = self._counter(
            "provider_recipients", "Recipients by who received for them.", "provider", "outcome"
        )
        self.provider_refusals = self._counter(
            "provider_refusals", "Refusals by who received and what they are about.", "provider", "group"
        )
        self.next_hop_replies = self._counter(
            "next_hop_replies", "Final replies of next hops, as they said them.", "code", "enhanced"
        )
        self.unclassified_replies = self._counter(
            "unclassified_replies", "Refusals of next hops that no rule explains."
        ).labels()

        self.lint_findings = self._counter("lint_findings", "What the lint found.", "rule", "action")
        self.lint_skipped = self._counter("lint_skipped", "Rules that lacked a fact.", "rule")
        self.lint_confirmed = self._counter(
            "lint_confirmed", "Findings by what the next hop then said to the mail.", "rule", "outcome"
        )
        self.policy_actions = self._counter("policy_actions", "What policy did about refusals.", "action")
        self.suppression_hits = self._counter(
            "suppression_hits", "Recipients that were refused because they are suppressed."
        ).labels()
        self.suppressed_addresses = self._gauge("suppressed_addresses", "Addresses that are suppressed.").labels()
        self.dns_lookups = self._counter(
            "dns_lookups", "Names looked up, in the cache or by asking.", "purpose", "result"
        )
        self.blocklist_listed = self._gauge(
            "blocklist_listed", "1 while a list has one of our egress addresses.", "list", "subject"
        )

        self.tls_policies = self._counter("tls_policies", "TLS under a receiver's own policy.", "policy", "result")

        names: set[str] = set()
        self.next_hop_connections = ByNextHop(
            self._counter("next_hop_connections", "Connections for a transaction.", "next_hop", "result"), names
        )
        self.next_hop_connections_in_use = ByNextHop(
            self._gauge("next_hop_connections_in_use", "Connections that carry a transaction now.", "next_hop"), names
        )
        self.next_hop_failures = ByNextHop(
            self._counter("next_hop_failures", "Times a next hop gave no usable reply.", "next_hop", "kind"), names
        )
        self.next_hop_breaker_open = ByNextHop(
            self._gauge(
                "next_hop_breaker_open",
                "1 while a next hop is given up for a while; of mx, how many mail hosts are.",
                "next_hop",
            ),
            names,
        )

        self.transaction_duration = self._histogram(
            "transaction_duration_seconds", "From MAIL to the end of the transaction.", SECONDS, "outcome"
        )
        self.stage_duration = self._histogram(
            "stage_duration_seconds", "Time spent in one stage of a transaction.", SECONDS, "stage"
        )
        self.message_size_bytes = self._histogram(
            "message_size_bytes", "Size of messages as received.", OCTETS
        ).labels()
        # Counted from any thread, so with a lock
        self.events_dropped = Counter(
            "smtpguard_events_dropped",
            "Lines or records that a sink could not take.",
            ("sink",),
            registry=self.registry,
        )
        self.event_loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes a timer.", LAG_SECONDS
        ).labels()
        self.config_last_reload_successful = self._gauge(
            "config_last_reload_successful", "1 if the last load of the configuration was taken, 0 if it was refused."
        ).labels()
        self.config_last_reload_successful.set(1)  # nothing starts with a bad one
        self.tls_certificate_expiry_timestamp = self._gauge(
            "tls_certificate_expiry_timestamp_seconds", "When our own certificate expires; 0: there is none."
        ).labels()
        self.build_info = self._gauge("build_info", "1, labelled with what is running.", "version", "python")
        self.build_info.labels(__version__, platform.python_version()).set(1)

        # Every child of a closed set is made now: it starts at 0, and the hot path looks it up in a dict
        for door in DOORS:
            self.sessions_in_progress.labels(door)
        for action in ACTIONS:
            self.policy_actions.labels(action)
        for sink in SINKS:
            self.events_dropped.labels(sink)
        self._transactions = {(door, of): self.transactions.labels(door, of) for door in DOORS for of in OUTCOMES}
        self._durations = {of: self.transaction_duration.labels(of) for of in OUTCOMES}
        self._receive, self._lint, self._next_hop = (self.stage_duration.labels(stage) for stage in STAGES)
        self._recipients = {klass: self.recipients.labels(got) for klass, got in GOT.items()}
        self._refused = {
            4: {category: self.deferrals.labels(category) for category in CATEGORIES},
            5: {category: self.rejections.labels(category) for category in CATEGORIES},
        }
        self._sources = {
            (source, klass): self.refusals_by_source.labels(source, str(klass))
            for source in SOURCES
            for klass in (4, 5)
        }
        # ... and these when they first count: most of them never do
        self._by_provider: dict[tuple[str, int], Tally] = {}
        self._by_group: dict[tuple[str, str], Tally] = {}
        self._replies: dict[tuple[int, EnhancedCode | None], Tally] = {}

    def _declare(self, family: Family[_Series]) -> Family[_Series]:
        self.registry.register(family)
        return family

    def _counter(self, name: str, words: str, *labels: str) -> Family[Tally]:
        return self._declare(tally.counter(f"smtpguard_{name}", words, *labels))

    def _gauge(self, name: str, words: str, *labels: str) -> Family[Tally]:
        return self._declare(tally.gauge(f"smtpguard_{name}", words, *labels))

    def _histogram(self, name: str, words: str, bounds: Sequence[float], *labels: str) -> Family[Spread]:
        return self._declare(tally.histogram(f"smtpguard_{name}", words, bounds, *labels))

    def write(self, record: Record) -> None:
        """Count a finished transaction. Never raises.

        `rejections`, `deferrals` and what is counted by source, group and code are counted once for each refusal, also
        where it stands for a message with many recipients; `recipients` and `provider_recipients` once a recipient. A
        reply shared by several recipients is one reply.
        """
        try:
            self._write(record)
        except Exception:  # the record decides nothing: a fault here is counted, and mail goes on
            self.events_dropped.labels("metrics").inc()

    def _write(self, record: Record) -> None:
        outcome = record.outcome
        self._transactions[record.session.door, outcome].value += 1
        self._durations[outcome].observe(record.duration_s)
        if record.size:
            self.message_size_bytes.observe(record.size)
            self._receive.observe(record.receive_s)
        if record.lint_s:
            self._lint.observe(record.lint_s)
        if record.findings or record.skipped:
            self._inspected(record)
        if record.diverted:
            self._diverted(record.diverted)
        if record.next_hop_s:
            self._next_hop.observe(record.next_hop_s)
        if record.accepted:
            self._accepted(record.accepted)
        for refusal in record.refusals:
            self._refusal(refusal)

    def _diverted(self, refusals: Sequence[Refusal]) -> None:
        """What a next hop said, though the MTA was not told: another one was tried."""
        self.policy_actions.labels("reroute").value += len(refusals)
        for refusal in refusals:
            self._said(refusal)
            self._reply(refusal.said or refusal.answer)

    def _said(self, refusal: Refusal) -> str:
        """Count it by class, category and source; the category, "unknown" for one that is none of ours."""
        klass = 4 if (refusal.said or refusal.answer).klass == 4 else 5
        category = refusal.classification.category
        if category not in self._refused[klass]:
            category = "unknown"
        self._refused[klass][category].value += 1
        self._sources[refusal.source, klass].value += 1
        return category

    def _inspected(self, record: Record) -> None:
        for finding in record.findings:
            self.lint_findings.labels(finding.rule, finding.action.value).value += 1
            if agreement := record.agreement(finding):
                self.lint_confirmed.labels(finding.rule, agreement).value += 1
        for skipped in record.skipped:
            self.lint_skipped.labels(skipped.rule).value += 1

    def _accepted(self, recipients: Sequence[Accepted]) -> None:
        """Those of one next hop share a reply, and stand side by side."""
        self._recipients[2].value += len(recipients)
        reply = None
        by_provider = self._provider(provider_of(recipients[0].hop.host), 2)
        for accepted in recipients:
            if accepted.reply is not reply:
                reply = accepted.reply
                self._reply(reply)
                by_provider = self._provider(provider_of(accepted.hop.host), 2)
            by_provider.value += 1

    def _refusal(self, refusal: Refusal) -> None:
        category = self._said(refusal)
        self._recipients[refusal.answer.klass].value += refusal.count
        if refusal.source == "suppression":
            self.suppression_hits.value += 1
        elif refusal.action:
            self.policy_actions.labels(refusal.action).value += 1
        if refusal.said is None:
            return  # no provider and no next hop said anything
        self._reply(refusal.said)
        if category == "unknown":
            self.unclassified_replies.value += 1
        provider = refusal.classification.provider
        if provider not in _PROVIDERS:
            provider = "other"
        self._provider(provider, refusal.answer.klass).value += refusal.count
        key = (provider, category.partition(".")[0])
        by_group = self._by_group.get(key)
        if by_group is None:
            by_group = self._by_group[key] = self.provider_refusals.labels(*key)
        by_group.value += 1

    def _provider(self, provider: str, klass: int) -> Tally:
        found = self._by_provider.get((provider, klass))
        if found is None:
            found = self._by_provider[provider, klass] = self.provider_recipients.labels(provider, GOT[klass])
        return found

    def _reply(self, reply: Reply) -> None:
        code = reply.enhanced
        if code is not None and not is_registered(code):
            code = _UNREGISTERED
        found = self._replies.get((reply.code, code))
        if found is None:
            found = self._new_reply(reply.code, code)
        found.value += 1

    def _new_reply(self, code: int, enhanced: EnhancedCode | None) -> Tally:
        if len(self._replies) >= MAX_REPLIES:
            return self.next_hop_replies.labels("other", "other")
        words = "none" if enhanced is None else "other" if enhanced is _UNREGISTERED else str(enhanced)
        found = self._replies[code, enhanced] = self.next_hop_replies.labels(str(code), words)
        return found

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as Prometheus reads them, and their Content-Type: OpenMetrics where `accept` asks for it.

        Takes some milliseconds: call it in a thread.
        """
        try:
            encode, content_type = choose_encoder(accept)
            return encode(self.registry), content_type
        except (TypeError, ValueError):  # prometheus_client met a version in `accept` that is none
            encode, content_type = choose_encoder("")
            return encode(self.registry), content_type
