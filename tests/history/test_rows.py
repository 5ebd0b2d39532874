"""What is kept of a record and of a notice, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.classify import Classification
from smtpguard.classify.notice import Notice
from smtpguard.history.rows import TEXT_LIMIT, Kept, of_notice, of_record, shown_domain
from smtpguard.history.tables import (
    ACCEPTANCES,
    FINDINGS,
    NOTICES,
    REFUSALS,
    TALLIES,
    TRANSACTIONS,
    VERDICTS,
    FindingRow,
    NoticeRow,
    RefusalRow,
    slot_of,
)
from smtpguard.mail.reply import FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.policy import explained
from smtpguard.record import AddressMode, Masker, Record
from tests.history.stores import AT, SEED, Code, Found, delivered, numbered
from tests.records import SENDER, UNKNOWN, record, refusal

MASK = Masker("mask", SEED)
SLOT = slot_of(AT)


def row_of(kept: Kept, number: int = 0) -> RefusalRow:
    rows = [row for table, row in kept.rows if table is REFUSALS]
    return RefusalRow(*rows[number])


def outcome(kept: Kept) -> str:
    ((_, row),) = [(table, row) for table, row in kept.rows if table is FINDINGS]
    return FindingRow(*row).outcome


def test_a_delivery_is_a_count_and_no_row() -> None:
    kept = of_record(delivered(1, b"a@example.org", b"b@example.org"), (), MASK)
    assert kept == Kept([], {(ACCEPTANCES, (SLOT, "other", "example.com")): 2})


def test_deliveries_are_counted_by_provider() -> None:
    given = delivered(1, b"a@gmail.com", hop=Hop("default", "gmail-smtp-in.l.google.com", 25))
    assert of_record(given, (), MASK).counts == {(ACCEPTANCES, (SLOT, "google", "example.com")): 1}


def test_a_refusal_is_kept_with_its_transaction() -> None:
    kept = of_record(numbered(7), (), MASK)
    assert [table for table, _ in kept.rows] == [TRANSACTIONS, REFUSALS]
    row = row_of(kept)
    assert (row.id, row.code, row.enhanced, row.text, row.answer) == ("000000000007", 550, "5.1.1", "User unknown", 550)
    assert (row.rcpt, row.rcpt_id, row.rcpt_domain) == (
        "j***@example.org",
        MASK.id(b"jane.doe@example.org"),
        "example.org",
    )
    assert (row.cause, row.fix, row.host, row.verb) == ("no such user", "Check the spelling.", "mx.example.net", "RCPT")
    tally = (SLOT, "recipient.unknown", "google", "example.com", 550, "5.1.1", 550, "next_hop")
    assert kept.counts == {(TALLIES, tally): 1}


def test_a_refused_message_counts_its_recipients_and_names_none() -> None:
    kept = of_record(numbered(1, refusal(rcpt=None, verb=Verb.DOT, count=3)), (), MASK)
    assert list(kept.counts.values()) == [3]
    assert (row_of(kept).rcpt, row_of(kept).rcpt_id, row_of(kept).rcpts) == ("", "", 3)


def test_a_refusal_before_any_recipient_counts_once() -> None:
    assert list(of_record(numbered(1, refusal(rcpt=None, count=0)), (), MASK).counts.values()) == [1]


def test_what_the_mta_got_stands_beside_what_was_said() -> None:
    row = row_of(of_record(numbered(1, refusal("550 5.7.1 go away", answer="451 4.7.1 later")), (), MASK))
    assert (row.code, row.answer) == (550, 451)


def test_a_failure_has_no_code_but_says_what_went_wrong() -> None:
    failure = HopFailure(FailureKind.TIMEOUT, Verb.RCPT, "no answer in 120 s")
    given = refusal(None, answer="451 4.4.2 next hop lost", failure=failure)
    kept = of_record(numbered(1, given), (), MASK)
    row = row_of(kept)
    assert (row.code, row.text, row.failure, row.answer) == (0, "no answer in 120 s", "timeout", 451)
    ((_, tally),) = kept.counts
    assert tally[4:7] == (451, "4.4.2", 451)


def test_a_refusal_of_ours_is_kept_without_its_explanation() -> None:
    reply = Reply.of("450 4.7.1 held until noon: 550 5.7.1 listed", Verb.RCPT)
    given = replace(
        refusal(None, answer="450 4.7.1 held", source="policy", action="defer"),
        answer=explained(reply, UNKNOWN, id="01JD5Z8Q7KX3"),
    )
    assert "[smtpguard]" in given.answer.text
    row = row_of(of_record(numbered(1, given), (), MASK))
    assert (row.code, row.text, row.answer) == (0, "held until noon: 550 5.7.1 listed", 450)


def test_what_policy_made_of_a_refusal_is_kept() -> None:
    row = row_of(of_record(numbered(1, refusal("550 5.7.1 no", answer="451 4.7.1 held", action="defer")), (), MASK))
    assert (row.action, row.detour, row.answer) == ("defer", "", 451)
    assert row_of(of_record(numbered(1), (), MASK)).action == ""


JANE, BEN = b"jane.doe@example.org", b"ben@example.org"
SECOND = Hop("second", "mx2.example.net", 25)


@pytest.mark.parametrize(
    ("rcpt", "told", "detour"),
    [
        (None, record(accepted=[JANE], hop=SECOND), "second"),
        (JANE, record(accepted=[BEN], hop=SECOND), ""),
        (JANE, record(refusal(rcpt=JANE, hop=SECOND), outcome="refused"), "second"),
        (JANE, record(refusal(rcpt=None, hop=SECOND), outcome="refused"), "second"),
        (JANE, record(refusal(None, answer="451 4.4.1 no", hop=None), outcome="deferred"), ""),
    ],
)
def test_a_refusal_before_a_detour_is_kept_though_nobody_was_told(
    rcpt: bytes | None, told: Record, detour: str
) -> None:
    before = refusal("554 5.7.1 listed", rcpt, count=2, action="reroute")
    kept = of_record(replace(told, diverted=[before]), (), MASK)
    assert kept.rows[0][0] is TRANSACTIONS
    row = row_of(kept)  # the first: what was tried first
    assert (row.position, row.code, row.answer, row.action, row.detour) == (0, 554, 0, "reroute", detour)
    tally = (slot_of(told.at), "recipient.unknown", "google", "example.com", 554, "5.7.1", 0, "next_hop")
    assert kept.counts[TALLIES, tally] == 2


def test_an_aborted_transaction_is_kept_if_it_had_recipients() -> None:
    with_one = record(outcome="aborted")
    assert of_record(with_one, (), MASK).rows == []
    with_one.envelope.rcpts = delivered(1).envelope.rcpts
    assert [table for table, _ in of_record(with_one, (), MASK).rows] == [TRANSACTIONS]


def test_long_text_is_cut() -> None:
    assert len(row_of(of_record(numbered(1, refusal("550 " + "x" * 5000)), (), MASK)).text) == TEXT_LIMIT


LOCAL = st.text("jqwxyz", min_size=9, max_size=20)


@given(LOCAL, LOCAL, st.sampled_from(["mask", "hash", "domain"]))
def test_no_address_is_kept_in_clear(rcpt: str, sender: str, mode: AddressMode) -> None:
    path, mail_from = f"{rcpt}@receiver.example".encode(), f"{sender}@sender.example".encode()
    given = numbered(
        1,
        refusal(f"550 5.1.1 <{path.decode()}>: unknown, <{mail_from.decode()}> told so", path),
        mail_from=mail_from,
    )
    found = Found(message=f"{path.decode()} is odd", rcpt=path)
    kept = of_record(given, [found], Masker(mode, SEED))
    whole = repr(kept)
    assert rcpt not in whole
    assert sender not in whole
    assert ("receiver.example" in whole) == (mode != "hash")


def test_domains_are_hashed_where_they_may_not_be_seen() -> None:
    hidden = Masker("hash", SEED)
    assert shown_domain(hidden, "example.org") == hidden.id(b"example.org")
    assert shown_domain(MASK, "example.org") == "example.org"
    assert shown_domain(hidden, "") == ""


# --- findings ------------------------------------------------------------------------------------------------------


def test_a_finding_keeps_even_mail_that_was_accepted() -> None:
    kept = of_record(delivered(1), [Found()], MASK)
    assert [table for table, _ in kept.rows] == [TRANSACTIONS, FINDINGS]
    assert outcome(kept) == "accepted"
    assert kept.counts[VERDICTS, (SLOT, "SPF003", "error", "observe", 550, "accepted")] == 1


def test_a_finding_meets_the_refusal() -> None:
    assert outcome(of_record(numbered(1), [Found()], MASK)) == "rejected"
    assert outcome(of_record(numbered(1, refusal("451 4.7.1 later")), [Found()], MASK)) == "deferred"
    ours = refusal("550 5.7.1 no", source="lint")
    assert outcome(of_record(numbered(1, ours), [Found()], MASK)) == ""


def test_a_finding_about_a_recipient_meets_its_own_answer() -> None:
    given = numbered(1, refusal(rcpt=b"bad@example.org"), accepted=[b"good@example.org"])
    assert outcome(of_record(given, [Found(rcpt=b"bad@example.org")], MASK)) == "rejected"
    assert outcome(of_record(given, [Found(rcpt=b"good@example.org")], MASK)) == "accepted"
    assert outcome(of_record(given, [Found(rcpt=b"other@example.org")], MASK)) == ""


def test_a_rule_that_never_refuses_has_no_answer() -> None:
    kept = of_record(delivered(1), [Found(answer=None), Found(answer=Code(451))], MASK)
    assert [FindingRow(*row).answer for table, row in kept.rows if table is FINDINGS] == [0, 451]


# --- notices -------------------------------------------------------------------------------------------------------

NOTICE = Notice(
    "dsn",
    "failed",
    Reply.of("550 5.1.1 <jane.doe@example.org> unknown", Verb.RCPT),
    recipient="jane.doe@example.org",
    sender=SENDER.decode(),
    host="gmail-smtp-in.l.google.com",
    when=AT - 100,
    message_id="<m1@example.com>",
)


def noticed(notice: Notice, meaning: Classification | None = UNKNOWN) -> tuple[NoticeRow, int]:
    kept = of_notice(notice, meaning, MASK, AT)
    ((table, row),) = kept.rows
    assert table is NOTICES
    return NoticeRow(*row), sum(kept.counts.values())


def test_a_dsn_is_kept_and_counted_as_a_refusal() -> None:
    row, counted = noticed(NOTICE)
    assert (row.at, row.code, row.text) == (AT - 100, 550, "<j***@example.org> unknown")
    assert (row.category, row.provider, counted) == ("recipient.unknown", "google", 1)
    assert row.rcpt_id == MASK.id(b"jane.doe@example.org")


def test_what_we_refused_ourselves_was_counted_then() -> None:
    assert noticed(replace(NOTICE, id="01JD5Z8Q7KX3"))[1] == 0
    assert noticed(replace(NOTICE, inbound=True))[1] == 0


def test_a_complaint_is_no_refusal_and_a_date_to_come_is_now() -> None:
    row, counted = noticed(Notice("arf", "complaint", feedback="abuse", when=AT + 9e9), None)
    assert (row.kind, row.feedback, row.code, row.at, counted) == ("arf", "abuse", 0, AT, 0)


def test_the_same_notice_has_the_same_id() -> None:
    assert noticed(NOTICE)[0].id == noticed(NOTICE)[0].id
    assert noticed(NOTICE)[0].id != noticed(replace(NOTICE, recipient="x@example.org"))[0].id
