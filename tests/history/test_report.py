"""Questions to the history: sums, what lint foresaw, single events."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from smtpguard.history import Database, report
from smtpguard.history.rows import of_notice, of_record
from smtpguard.history.tables import SLOT_S, slot_of
from smtpguard.history.writing import keep
from smtpguard.mail.reply import Verb
from smtpguard.record import Masker, Record
from tests.history.stores import AT, DAY, SEED, Code, Found, delivered, migrated, numbered
from tests.history.test_rows import NOTICE
from tests.records import UNKNOWN, refusal

MASK = Masker("mask", SEED)
LISTED = UNKNOWN._replace(category="reputation.ip_listed", provider="microsoft")


@pytest.fixture
def database(any_url: str) -> Iterator[Database]:
    with migrated(any_url) as database:
        yield database


def told(database: Database, record: Record, *findings: Found, masker: Masker = MASK) -> None:
    kept = of_record(record, findings, masker)
    with database.transaction():
        for table, row in kept.rows:
            database.insert(table, [row])
        for (table, key), count in kept.counts.items():
            database.insert(table, [(*key, count)])


def fill(database: Database) -> None:
    told(database, numbered(1))
    told(database, numbered(2, at=AT - 10))
    told(database, numbered(3, refusal("451 4.7.1 listed", meaning=LISTED), mail_from=b"a@other.example"))
    told(database, delivered(4, b"a@x", b"b@x"))
    told(database, numbered(5, at=AT - 2 * DAY))
    told(database, delivered(6, mail_from=b"", at=AT))


def lines(found: report.Summary) -> list[tuple[str, int, int, int | None]]:
    return [(line.name, line.rejected, line.deferred, line.accepted) for line in found.lines]


def test_a_summary_by_category(database: Database) -> None:
    fill(database)
    found = report.summary(database, AT - DAY, AT)
    assert lines(found) == [("recipient.unknown", 2, 0, None), ("reputation.ip_listed", 0, 1, None)]
    assert (found.accepted, found.rejected, found.deferred, found.refused) == (3, 2, 1, 3)
    assert (found.since, found.until) == (slot_of(AT - DAY), AT)


def test_a_summary_by_provider_and_by_sender_has_rates(database: Database) -> None:
    fill(database)
    by_provider = report.summary(database, AT - DAY, AT, "provider")
    assert lines(by_provider) == [("google", 2, 0, 0), ("microsoft", 0, 1, 0), ("other", 0, 0, 3)]
    assert [line.most for line in by_provider.lines] == ["recipient.unknown", "reputation.ip_listed", ""]
    by_sender = report.summary(database, AT - DAY, AT, "sender")
    assert lines(by_sender) == [("example.com", 2, 0, 2), ("other.example", 0, 1, 0), ("", 0, 0, 1)]


def test_a_summary_by_code(database: Database) -> None:
    fill(database)
    assert lines(report.summary(database, AT - DAY, AT, "code")) == [
        ("550 5.1.1", 2, 0, None),
        ("451 4.7.1", 0, 1, None),
    ]


def test_a_period_begins_with_a_slot_and_ends_when_it_says(database: Database) -> None:
    start = slot_of(AT)
    told(database, numbered(1, at=start))
    told(database, numbered(2, at=start - 1))
    told(database, numbered(3, at=start + SLOT_S))
    assert report.summary(database, start + 5, start + SLOT_S - 1).refused == 1
    assert report.summary(database, start - 1, start + SLOT_S).refused == 3


def test_nothing_happened(database: Database) -> None:
    assert report.summary(database, 0, AT) == (0, AT, "category", 0, 0, 0, ())
    assert report.rules(database, 0, AT) == ()
    assert report.would_reject(database, 0, AT)[2:] == ((0, 0, 0), (0, 0, 0), ())
    assert report.event(database, "000000000001") is None
    assert report.rejections(database) == []


# --- lint ------------------------------------------------------------------------------------------------------------


def test_a_rule_against_what_the_next_hop_said(database: Database) -> None:
    told(database, numbered(1), Found())
    told(database, numbered(2), Found())
    told(database, delivered(3), Found())
    told(database, numbered(4, refusal("451 4.7.1 x")), Found())
    told(database, delivered(5), Found("BLK001", "warning", answer=None))
    told(database, numbered(6, refusal("550 no", source="lint")), Found(action="reject"))
    first, second = report.rules(database, AT - DAY, AT)
    assert (first.rule, first.findings, first.rejected, first.accepted, first.deferred) == ("SPF003", 5, 2, 1, 1)
    assert first.would_reject == 4
    assert first.precision == pytest.approx(2 / 3)
    assert (second.rule, second.severity, second.would_reject, second.precision) == ("BLK001", "warning", 0, 0.0)


def test_a_rule_that_was_neither_confirmed_nor_denied_has_no_precision(database: Database) -> None:
    told(database, numbered(1, refusal("451 4.7.1 x")), Found(answer=Code(451)))
    (line,) = report.rules(database, AT - DAY, AT)
    assert (line.precision, line.would_reject, line.would_defer) == (None, 0, 1)


def test_what_enforcing_would_have_rejected_counts_messages(database: Database) -> None:
    told(database, numbered(1), Found(), Found("HDR001"))
    told(database, delivered(2), Found("HDR001"))
    told(database, delivered(3), Found(answer=Code(451)), Found(answer=None), Found(action="reject"))
    found = report.would_reject(database, AT - DAY, AT)
    assert found.every == (2, 1, 1)
    assert [(line.rule, line.would_reject) for line in found.by_rule] == [("HDR001", 2), ("SPF003", 1)]


def test_enforcing_refuses_only_for_what_is_certain(database: Database) -> None:
    told(database, numbered(1), Found())
    told(database, numbered(2), Found(), Found("HDR001"))
    told(database, delivered(3), Found())
    told(database, delivered(4), Found("ENV001", "warning"))  # milder than the rule: such a hit is observed still
    told(database, delivered(5), Found("XYZ999"))  # a rule that this version has not
    found = report.would_reject(database, AT - DAY, AT)
    assert (found.enforcing, found.every) == ((1, 1, 0), (5, 2, 3))
    assert [(line.rule, line.is_certain) for line in found.by_rule] == [
        ("ENV001", True),
        ("HDR001", True),
        ("SPF003", False),
        ("XYZ999", False),
    ]
    (warned,) = report.event(database, "000000000004").findings  # type: ignore[union-attr]
    assert not report.is_enforced(warned)
    assert report.is_enforced(warned._replace(severity="error"))


# --- single events -------------------------------------------------------------------------------------------------


def test_an_event_has_all_that_was_said(database: Database) -> None:
    told(database, numbered(1, refusal(), refusal("452 4.2.2 full", b"b@example.org")), Found())
    found = report.event(database, "000000000001")
    assert found is not None
    assert [row.code for row in found.refusals] == [550, 452]
    assert [row.rule for row in found.findings] == ["SPF003"]


def test_a_queue_id_has_all_its_attempts_the_newest_first(database: Database) -> None:
    told(database, numbered(1, at=AT - 300))
    told(database, numbered(2))
    told(database, numbered(3, queue_id="4Other"))
    told(database, numbered(4, queue_id=""))
    assert [event.transaction.id for event in report.by_queue_id(database, "4Abc")] == ["000000000002", "000000000001"]
    assert report.by_queue_id(database, "") == []


def test_rejections_of_a_kind(database: Database) -> None:
    fill(database)
    assert [int(found.refusal.id) for found in report.rejections(database)] == [1, 3, 2, 5]
    assert [int(found.refusal.id) for found in report.rejections(database, limit=1)] == [1]
    assert [int(found.refusal.id) for found in report.rejections(database, AT - 5)] == [1, 3]
    assert [int(found.refusal.id) for found in report.rejections(database, category="reputation")] == [3]
    assert [int(found.refusal.id) for found in report.rejections(database, category="reputation.ip_listed")] == [3]
    assert report.rejections(database, category="reput") == []
    assert [int(found.refusal.id) for found in report.rejections(database, provider="microsoft")] == [3]
    mine = MASK.id(b"jane.doe@example.org")
    assert len(report.rejections(database, rcpt_id=mine)) == 4
    assert report.rejections(database)[1].sender_domain == "other.example"


def test_refusals_that_no_rule_explained(database: Database) -> None:
    fill(database)
    told(database, numbered(7, refusal(meaning=UNKNOWN._replace(category="unknown", rule=""))))
    told(database, numbered(8, refusal(meaning=UNKNOWN._replace(rule="likely"))))
    assert [int(found.refusal.id) for found in report.rejections(database, unexplained=True)] == [7, 8]


def test_the_same_cause_lately(database: Database) -> None:
    fill(database)
    found = report.rejections(database)[0]
    assert report.lately(database, found.refusal, found.sender_domain, AT - DAY) == 2
    assert report.lately(database, found.refusal, "other.example", AT - DAY) == 0


def test_a_notice_is_counted_once_however_often_it_is_read(database: Database) -> None:
    kept = [of_notice(NOTICE, UNKNOWN, MASK, AT)]
    assert keep(database, kept) == 1
    assert keep(database, kept) == 0
    again = dataclasses.replace(NOTICE, recipient="x@example.org", verb=Verb.RCPT)
    assert keep(database, [*kept, of_notice(again, UNKNOWN, MASK, AT)]) == 1
    assert report.summary(database, AT - DAY, AT).rejected == 2
