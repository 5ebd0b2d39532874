"""What happened to a message, asked of each kind of store; and a suppression by hand."""

from __future__ import annotations

import pytest

from smtpguard.classify.notice import Notice
from smtpguard.history import Store, by_hand, told
from smtpguard.history.account import accounts, notices
from smtpguard.history.rows import of_notice
from smtpguard.history.writing import keep
from smtpguard.mail.reply import Reply, Verb
from smtpguard.policy import Hold, Route, Suppression, Throttle
from smtpguard.record import Masker
from tests.history.stores import (
    AT,
    DAY,
    PATIENCE_S,
    SEED,
    Found,
    delivered,
    hold,
    migrated,
    numbered,
    started,
    suppression,
    throttle,
)
from tests.records import UNKNOWN, refusal

MASKER = Masker("mask", SEED)


def filled(store: Store) -> None:
    twice = (refusal(), refusal(rcpt=b"b@example.org"), refusal("554 5.7.1 no", meaning=UNKNOWN._replace(provider="x")))
    store.write(numbered(1, *twice, queue_id="4Abc"), [Found()])
    store.write(numbered(2, at=AT + 60, queue_id="4Abc"))
    store.write(numbered(3, at=AT - 2 * DAY, queue_id="000000000001"))  # as an event id reads
    store.write(delivered(4, queue_id="4Fine"))
    assert store.flush(PATIENCE_S)


def dsn(queue_id: str, id: str = "") -> Notice:
    reply = Reply.of("550 5.2.1 off", Verb.RCPT)
    return Notice("dsn", "failed", reply, "al@example.org", queue_id=queue_id, id=id, when=AT)


def test_an_event_id_is_one_and_a_queue_id_all_attempts(url: str) -> None:
    with started(url) as store:
        filled(store)
        with store.reading() as database:
            (one,) = accounts(database, "000000000001", AT - DAY)
            assert (one.event.transaction.id, one.event.transaction.queue_id) == ("000000000001", "4Abc")
            assert one.lately == (3, 3, 1)  # each recipient, at that provider, and not two days ago
            assert [account.event.transaction.id for account in accounts(database, "4Abc", AT)] == [
                "000000000002",
                "000000000001",
            ]
            assert accounts(database, "4Fine", AT) == accounts(database, "", AT) == []


def test_notices_are_found_by_either_id(url: str) -> None:
    with migrated(url) as database:
        rows = [dsn("4Fine"), dsn("4Other", "000000000001"), dsn("", "")]
        assert keep(database, [of_notice(row, UNKNOWN, MASKER, AT) for row in rows]) == 3
        assert [row.queue_id for row in notices(database, "4Fine")] == ["4Fine"]
        assert [row.event_id for row in notices(database, "000000000001")] == ["000000000001"]
        assert notices(database, "") == notices(database, "nobody") == ()


def test_what_is_unknown_is_not_told(url: str) -> None:
    with started(url) as store:
        filled(store)
        with store.reading() as database:
            (found,) = accounts(database, "000000000002", AT)
    whole = told.account(found)
    assert whole["refusals"][0]["reply"]["code"] == 550
    assert {"findings", "notices", "failure"}.isdisjoint(whole.keys() | whole["refusals"][0].keys())
    assert whole["client_gone"] is False
    assert None not in whole.values()


JANE = MASKER.id(b"jane.doe@example.org")
LISTED = UNKNOWN._replace(category="reputation.ip_listed")


def test_what_policy_remembers_still_stands_beside_the_refusal(url: str) -> None:
    held = [
        refusal(action="defer", answer="450 4.1.1 held"),
        refusal(action="defer", answer="450 4.7.1 held", meaning=LISTED),
        refusal(action="throttle", answer="451 4.7.1 slow", meaning=UNKNOWN._replace(category="rate.limited")),
        refusal(action="suppress"),
        refusal(action="reroute", answer="450 4.1.1 later"),
        refusal(action="defer", answer="450 4.1.1 held", meaning=UNKNOWN._replace(category="content.spam")),
        refusal(),
    ]
    remembered: list[Hold | Throttle | Suppression | Route | None] = [
        hold(f"recipient {JANE}", category="recipient.unknown"),
        hold("egress default google"),
        throttle("egress default google"),
        suppression(JANE),
        Route(f"example.com {JANE}", AT, AT + DAY, "other"),
        None,  # another message is held for that
        None,
    ]
    with started(url) as store:
        store.write(numbered(1, *held, queue_id="4Abc"))
        state = store.state
        for row in (*remembered, hold("message 4Other", category="content.spam"), hold("egress second google")):
            match row:
                case Hold():
                    state.holds.put(row)
                case Throttle():
                    state.throttles.put(row)
                case Suppression():
                    state.suppressions.put(row)
                case Route():
                    state.routes.put(row)
        later = hold("sender example.com google", category="content.spam")
        state.holds.put(later._replace(since=AT + DAY, until=AT + 2 * DAY))
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            (found,) = accounts(database, "000000000001", 0)
    assert list(found.standings) == remembered
    told_of = told.account(found)["refusals"]
    assert told_of[1]["standing"] == {
        "since": "2023-11-14T22:13:20.000Z",
        "until": "2023-11-15T22:13:20.000Z",
        "probe_at": "2023-11-14T22:13:20.000Z",
    }
    assert told_of[4]["standing"]["next_hop"] == "other"
    assert "standing" not in told_of[5]


def test_mail_that_was_answered_at_mail_is_held_for_some_egress(url: str) -> None:
    local = refusal(None, None, answer="451 4.7.1 held", verb=Verb.MAIL, meaning=LISTED, hop=None, action="defer")
    with started(url) as store:
        given = numbered(1, local)
        given.next_hop = ""
        store.write(given)
        store.state.holds.put(hold("egress default other"))
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            (found,) = accounts(database, "000000000001", 0)
    assert found.standings == (hold("egress default other"),)


@pytest.mark.parametrize("text", ["a@example.org", "<a@example.org>", " a@example.org "])
def test_an_address_by_hand(text: str) -> None:
    path = by_hand.path_of(text)
    row = by_hand.suppression(path, MASKER, AT, DAY, reason="a@example.org\x1b left")
    assert (row.key, row.address, row.text) == (MASKER.id(path), "a***@example.org", "a***@example.org  left")
    assert (row.since, row.until, row.source) == (AT, AT + DAY, "manual")
    assert by_hand.is_key(row.key)


@pytest.mark.parametrize("text", ["", "a", "a b@example.org", "a>b@c", "a@b\r\nx@c"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        by_hand.path_of(text)
