"""Metrics: names and labels of contract 5, what a record counts, and a bound on the series that nothing gets over."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from smtpguard.classify import CATEGORIES, GROUPS, PROVIDERS, Classification
from smtpguard.edge.metrics import (
    CONNECTION_RESULTS,
    DOORS,
    MAX_REPLIES,
    MAX_SERIES,
    OUTCOMES,
    SOURCES,
    Metrics,
    is_registered,
)
from smtpguard.edge.mx import TLS_RESULTS, TlsPolicy
from smtpguard.edge.resolver import PURPOSES, RESULTS
from smtpguard.lint import RULES, Action, Evidence, Finding, Severity, Skipped
from smtpguard.lint.lists import LISTS
from smtpguard.mail.reply import EnhancedCode, FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.record import Outcome, Source
from tests.records import record, refusal

METRICS = Metrics()  # where nothing is counted

CONTRACT: dict[str, tuple[str, frozenset[str]]] = {
    "sessions": ("counter", frozenset({"door", "result"})),
    "sessions_in_progress": ("gauge", frozenset({"door"})),
    "transactions": ("counter", frozenset({"door", "outcome"})),
    "recipients": ("counter", frozenset({"outcome"})),
    "rejections": ("counter", frozenset({"category"})),
    "deferrals": ("counter", frozenset({"category"})),
    "refusals_by_source": ("counter", frozenset({"source", "class"})),
    "provider_recipients": ("counter", frozenset({"provider", "outcome"})),
    "provider_refusals": ("counter", frozenset({"provider", "group"})),
    "next_hop_replies": ("counter", frozenset({"code", "enhanced"})),
    "unclassified_replies": ("counter", frozenset()),
    "lint_findings": ("counter", frozenset({"rule", "action"})),
    "lint_skipped": ("counter", frozenset({"rule"})),
    "lint_confirmed": ("counter", frozenset({"rule", "outcome"})),
    "policy_actions": ("counter", frozenset({"action"})),
    "suppression_hits": ("counter", frozenset()),
    "suppressed_addresses": ("gauge", frozenset()),
    "tls_policies": ("counter", frozenset({"policy", "result"})),
    "dns_lookups": ("counter", frozenset({"purpose", "result"})),
    "blocklist_listed": ("gauge", frozenset({"list", "subject"})),
    "next_hop_connections": ("counter", frozenset({"next_hop", "result"})),
    "next_hop_connections_in_use": ("gauge", frozenset({"next_hop"})),
    "next_hop_failures": ("counter", frozenset({"next_hop", "kind"})),
    "next_hop_breaker_open": ("gauge", frozenset({"next_hop"})),
    "transaction_duration_seconds": ("histogram", frozenset({"outcome"})),
    "stage_duration_seconds": ("histogram", frozenset({"stage"})),
    "message_size_bytes": ("histogram", frozenset()),
    "events_dropped": ("counter", frozenset({"sink"})),
    "event_loop_lag_seconds": ("histogram", frozenset()),
    "config_last_reload_successful": ("gauge", frozenset()),
    "tls_certificate_expiry_timestamp_seconds": ("gauge", frozenset()),
    "build_info": ("gauge", frozenset({"version", "python"})),
}


def series(metrics: Metrics) -> dict[str, float]:
    """Every sample by what it looks like on the page: `smtpguard_recipients_total{outcome="accepted"}`."""
    lines = metrics.exposition()[0].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def openmetrics(page: bytes) -> list[Metric]:
    return list(parse_openmetrics(page.decode()))  # type: ignore[no-untyped-call]  # untyped there


def counted(metrics: Metrics) -> dict[str, float]:
    """What is not 0, without the histograms and what is set at the start."""
    start = series(Metrics())
    return {
        name.removeprefix("smtpguard_"): value
        for name, value in series(metrics).items()
        if value != start.get(name, 0) and not any(part in name for part in ("_bucket", "_sum", "_count"))
    }


def filled() -> Metrics:
    """All that a long life in a hostile world can fill."""
    metrics = Metrics()
    for door in DOORS:
        for ending in range(8):
            metrics.sessions.labels(door, str(ending)).inc()
    for number in range(500):
        hop = f"hop{number}"
        metrics.next_hop_connections_in_use.labels(hop).inc()
        metrics.next_hop_breaker_open.labels(hop).set(1)
        for result in CONNECTION_RESULTS:
            metrics.next_hop_connections.labels(hop, result).inc()
        for kind in FailureKind:
            metrics.next_hop_failures.labels(hop, kind.value).inc()
    hosts = ["mx.google.com", "mail.protection.outlook.com", "mx.example.net"]
    for provider in PROVIDERS:
        for category in CATEGORIES:
            for said in ("450 4.1.1 x", "550 5.1.1 x"):
                meaning = Classification(category, provider=provider)
                metrics.write(record(refusal(said, meaning=meaning), accepted=[b"a@b"]))
    for outcome in get_args(Outcome):
        for source in get_args(Source):
            for host in hosts:
                written = record(refusal(source=source), accepted=[b"a@b"], outcome=outcome, hop=Hop("x", host, 25))
                metrics.write(written)
                written.session.door = "lmtp"
                metrics.write(written)
    for rule in RULES.values():
        for action in (Action.OBSERVE, Action.DEFER, Action.REJECT):
            written = record(accepted=[b"a@b"])
            written.findings = [finding(rule.code, action)]
            written.skipped = [Skipped(rule.code, "dns: timeout")]
            metrics.write(written)
            refused = record(refusal())
            refused.findings = written.findings
            metrics.write(refused)
    for policy in get_args(TlsPolicy):
        for how in TLS_RESULTS:
            metrics.tls_policies.labels(policy, how).inc()
    for purpose in PURPOSES:
        for result in RESULTS:
            metrics.dns_lookups.labels(purpose, result).inc()
    for zone in LISTS:
        for index in range(8):
            metrics.blocklist_listed.labels(zone, str(index)).set(1)
    return metrics


def finding(rule: str, action: Action = Action.OBSERVE, rcpt: bytes | None = None) -> Finding:
    return Finding(
        rule, "name", Severity.ERROR, "wrong", "mend", "RFC", (), Evidence(), action, None, "auth.spf", rcpt=rcpt
    )


def test_what_lint_and_policy_did_is_counted() -> None:
    metrics = Metrics()
    written = record(refusal(rcpt=b"a@b"), accepted=[b"c@d"])
    written.findings = [finding("RCP002", rcpt=b"a@b"), finding("RCP007", rcpt=b"c@d"), finding("SPF003")]
    written.skipped = [Skipped("DMA001", "budget")]
    written.refusals[0] = replace(written.refusals[0], action="defer")
    written.refusals.append(refusal(rcpt=b"e@f", said=None, answer="550 5.1.1 suppressed", source="suppression"))
    written.diverted = [refusal()]
    metrics.write(written)
    found = {name: value for name, value in counted(metrics).items() if name.startswith(("lint", "policy", "supp"))}
    assert found == {
        'lint_findings_total{action="observe",rule="RCP002"}': 1,
        'lint_findings_total{action="observe",rule="RCP007"}': 1,
        'lint_findings_total{action="observe",rule="SPF003"}': 1,
        'lint_confirmed_total{outcome="rejected",rule="RCP002"}': 1,
        'lint_confirmed_total{outcome="accepted",rule="RCP007"}': 1,
        'lint_confirmed_total{outcome="rejected",rule="SPF003"}': 1,
        'lint_skipped_total{rule="DMA001"}': 1,
        'policy_actions_total{action="defer"}': 1,
        'policy_actions_total{action="reroute"}': 1,
        "suppression_hits_total": 1,
    }


def test_names_types_and_labels_are_the_contracts() -> None:
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for family in openmetrics(filled().exposition("application/openmetrics-text; version=1.0.0")[0]):
        labels = frozenset(label for sample in family.samples for label in sample.labels if label != "le")
        found[family.name.removeprefix("smtpguard_")] = (family.type, labels)
        assert family.name.startswith("smtpguard_")
        assert family.documentation.endswith((".", "running.", "0: there is none."))
    assert found == CONTRACT


def test_attributes_are_named_after_their_metrics() -> None:
    metrics = Metrics()
    for name in CONTRACT:
        assert hasattr(metrics, name.removesuffix("_seconds")), name


def test_closed_single_label_sets_start_at_zero() -> None:
    start = series(Metrics())
    for category in CATEGORIES:
        assert start[f'smtpguard_rejections_total{{category="{category}"}}'] == 0
        assert start[f'smtpguard_deferrals_total{{category="{category}"}}'] == 0
    for outcome in ("accepted", "rejected", "deferred"):
        assert start[f'smtpguard_recipients_total{{outcome="{outcome}"}}'] == 0
    for door in DOORS:
        assert start[f'smtpguard_sessions_in_progress{{door="{door}"}}'] == 0
    for stage in ("receive", "lint", "next_hop"):
        assert start[f'smtpguard_stage_duration_seconds_count{{stage="{stage}"}}'] == 0
    for outcome in OUTCOMES:
        assert start[f'smtpguard_transaction_duration_seconds_count{{outcome="{outcome}"}}'] == 0
    assert start['smtpguard_events_dropped_total{sink="log"}'] == 0
    assert start["smtpguard_unclassified_replies_total"] == 0
    assert start["smtpguard_config_last_reload_successful"] == 1
    assert [value for name, value in start.items() if name.startswith("smtpguard_build_info")] == [1]


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_there_are_no_created_series(accept: str) -> None:
    assert b"_created" not in filled().exposition(accept)[0]


def test_every_enum_of_the_record_is_a_label() -> None:
    assert set(get_args(Outcome)) == set(OUTCOMES)
    assert set(get_args(Source)) == set(SOURCES)
    assert {category.partition(".")[0] for category in CATEGORIES} == set(GROUPS)


def test_an_accepted_message() -> None:
    metrics = Metrics()
    metrics.write(record(accepted=[b"a@example.org", b"b@example.org"], hop=Hop("x", "aspmx.l.google.com", 25)))
    assert counted(metrics) == {
        'transactions_total{door="smtp",outcome="accepted"}': 1,
        'recipients_total{outcome="accepted"}': 2,
        'provider_recipients_total{outcome="accepted",provider="google"}': 2,
        'next_hop_replies_total{code="250",enhanced="2.0.0"}': 1,  # one reply, for both
    }
    found = series(metrics)
    assert found["smtpguard_message_size_bytes_sum"] == 2048
    assert found['smtpguard_transaction_duration_seconds_sum{outcome="accepted"}'] == 0.25
    assert found['smtpguard_stage_duration_seconds_sum{stage="receive"}'] == 0.002
    assert found['smtpguard_stage_duration_seconds_sum{stage="next_hop"}'] == 0.1


def test_a_refusal_counts_by_what_was_said_and_its_recipients_by_what_the_mta_got() -> None:
    metrics = Metrics()
    meaning = Classification("access.auth_required", provider="microsoft")
    written = record(
        refusal("535 5.7.8 bad login", None, verb=Verb.AUTH, answer="451 5.7.8 later", meaning=meaning, count=3),
        outcome="deferred",
    )
    metrics.write(written)
    assert counted(metrics) == {
        'transactions_total{door="smtp",outcome="deferred"}': 1,
        'recipients_total{outcome="deferred"}': 3,
        'rejections_total{category="access.auth_required"}': 1,
        'refusals_by_source_total{class="5",source="next_hop"}': 1,
        'provider_recipients_total{outcome="deferred",provider="microsoft"}': 3,
        'provider_refusals_total{group="access",provider="microsoft"}': 1,
        'next_hop_replies_total{code="535",enhanced="5.7.8"}': 1,
    }


def test_a_hop_failure_is_nobodys_reply() -> None:
    metrics = Metrics()
    failure = HopFailure(FailureKind.CONNECT, Verb.CONNECT)
    written = record(
        refusal(
            None, answer="451 4.4.1 x", meaning=Classification("server.network"), source="internal", failure=failure
        ),
        outcome="deferred",
    )
    written.next_hop_s = written.size = 0
    metrics.write(written)
    assert counted(metrics) == {
        'transactions_total{door="smtp",outcome="deferred"}': 1,
        'recipients_total{outcome="deferred"}': 1,
        'deferrals_total{category="server.network"}': 1,
        'refusals_by_source_total{class="4",source="internal"}': 1,
    }
    assert series(metrics)["smtpguard_message_size_bytes_count"] == 0


def test_what_no_rule_explains_is_counted() -> None:
    metrics = Metrics()
    metrics.write(record(refusal(meaning=Classification("unknown"))))
    assert counted(metrics)["unclassified_replies_total"] == 1


def test_a_strange_category_or_provider_makes_no_series() -> None:
    metrics = Metrics()
    metrics.write(record(refusal(meaning=Classification("made.up", provider="made up"))))
    found = counted(metrics)
    assert found['rejections_total{category="unknown"}'] == 1
    assert found['provider_refusals_total{group="unknown",provider="other"}'] == 1


def test_a_broken_record_is_counted_as_dropped_and_raises_nothing() -> None:
    metrics = Metrics()
    written = record()
    written.outcome = "no such outcome"  # type: ignore[assignment]
    metrics.write(written)
    assert counted(metrics) == {'events_dropped_total{sink="metrics"}': 1}


def test_a_full_house_has_fewer_series_than_the_limit() -> None:
    metrics = filled()
    throw_replies(metrics, 1000)
    assert len(series(metrics)) < MAX_SERIES


def throw_replies(metrics: Metrics, count: int) -> None:
    """Replies with random codes, of random hosts, classified as random things."""
    pick = random.Random(1)
    for _ in range(count):
        klass = pick.choice((4, 5))
        enhanced = EnhancedCode(klass, pick.randrange(1000), pick.randrange(1000)) if pick.random() < 0.7 else None
        registered = EnhancedCode(klass, pick.randrange(1, 8), pick.randrange(5))
        said = Reply(klass * 100 + pick.randrange(100), ("x",), pick.choice((enhanced, registered)), Verb.RCPT)
        host = Hop("default", f"mx{pick.randrange(10**9)}.example.net", 25)
        meaning = Classification(f"group{pick.random()}.leaf", provider=f"provider{pick.random()}")
        metrics.write(record(replace(refusal(meaning=meaning, hop=host), said=said, answer=said), hop=host))


def test_ten_thousand_random_codes_and_hosts_make_no_more_series() -> None:
    metrics = Metrics()
    throw_replies(metrics, 3000)
    before = series(metrics)
    assert sum(name.startswith("smtpguard_next_hop_replies_total") for name in before) == MAX_REPLIES + 1
    throw_replies(metrics, 10_000)
    after = series(metrics)
    assert after.keys() == before.keys()
    other = 'smtpguard_next_hop_replies_total{code="other",enhanced="other"}'
    assert after[other] > before[other]


@pytest.mark.parametrize(
    ("code", "known"),
    [("5.7.26", True), ("4.3.2", True), ("5.1.10", True), ("5.7.31", False), ("5.7.515", False), ("5.8.0", False)],
)
def test_registered_codes_are_ianas(code: str, known: bool) -> None:
    klass, subject, detail = map(int, code.split("."))
    assert is_registered(EnhancedCode(klass, subject, detail)) is known


@pytest.mark.parametrize(
    ("said", "enhanced"), [("550 5.7.515 x", "other"), ("550 x", "none"), ("550 5.7.1 x", "5.7.1")]
)
def test_unregistered_and_missing_codes_share_a_label(said: str, enhanced: str) -> None:
    metrics = Metrics()
    metrics.write(record(refusal(said)))
    assert counted(metrics)[f'next_hop_replies_total{{code="550",enhanced="{enhanced}"}}'] == 1


def test_next_hops_beyond_the_limit_share_a_name() -> None:
    metrics = filled()
    names = {name for name in series(metrics) if name.startswith("smtpguard_next_hop_connections_in_use")}
    assert 'smtpguard_next_hop_connections_in_use{next_hop="other"}' in names
    assert 'smtpguard_next_hop_connections_in_use{next_hop="hop0"}' in names
    assert len(names) < 40


def test_both_formats_parse() -> None:
    metrics = filled()
    text, kind = metrics.exposition("text/plain")
    assert kind.startswith("text/plain")
    assert len(list(parse_text(text.decode()))) >= len(CONTRACT)
    text, kind = metrics.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert len(openmetrics(text)) == len(CONTRACT)


@given(st.text() | st.from_regex(r"(application/openmetrics-text|text/plain);\s?(version|escaping)=[0-9a-z.,;=-]{0,9}"))
@example("text/plain;version=:")  # a TypeError inside prometheus_client
def test_any_accept_header_is_answered(accept: str) -> None:
    body, kind = METRICS.exposition(accept)
    assert b"smtpguard_build_info" in body
    assert kind.partition(";")[0] in ("text/plain", "application/openmetrics-text")
