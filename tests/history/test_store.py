"""The store at work: what is given to it is written, whatever the database does; beyond the bounds it is counted."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smtpguard.history import Away, Database, Store, engine_of, report
from smtpguard.history import store as module
from smtpguard.history.sqlite import FileEngine
from smtpguard.history.state import Change
from smtpguard.history.tables import HOLDS
from smtpguard.mail.reply import Reply
from smtpguard.record import AddressMode, Masker
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
    until,
)
from tests.records import refusal

SUPPRESSION = suppression()


def ids(url: str) -> list[str]:
    with migrated(url) as database:
        return [row[0] for row in database.query("SELECT id FROM transactions ORDER BY id")]


def test_what_is_written_can_be_asked(any_url: str) -> None:
    with started(any_url) as store:
        store.write(numbered(1), [Found()])
        store.write(delivered(2))
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            event = report.event(database, "000000000001")
            found = report.summary(database, AT - DAY, AT)
        assert event is not None
        assert event.transaction.queue_id == "4Abc"
        assert [row.text for row in event.refusals] == ["User unknown"]
        assert [row.rule for row in event.findings] == ["SPF003"]
        assert (found.accepted, found.rejected) == (1, 1)
        assert store.standing == ("", 0, 3, 0)


def test_many_records_at_once(any_url: str) -> None:
    with started(any_url) as store:
        for number in range(5000):
            store.write(numbered(number))
        assert store.flush(60.0)
        with store.reading() as database:
            assert database.query("SELECT COUNT(*) FROM refusals") == [(5000,)]
            assert database.query("SELECT SUM(n) FROM tallies") == [(5000,)]


def test_closing_writes_what_waits(url: str) -> None:
    with started(url) as store:
        for number in range(300):
            store.write(numbered(number))
    assert len(ids(url)) == 300


def test_a_restart_loses_nothing_of_what_is_remembered(url: str) -> None:
    with started(url) as store:
        store.state.suppressions.put(SUPPRESSION)
    with started(url) as store:
        assert store.state.suppressions.get("k") == SUPPRESSION


def test_what_was_said_is_kept_without_addresses(any_url: str) -> None:
    said = "<Jane.Doe@Example.org> is unknown\x1b[2J, ask postmaster@example.net."
    with started(any_url) as store:
        store.state.suppressions.put(suppression(text=said))
        store.state.holds.put(hold(text=said))
        store.write(numbered(1, refusal(f"550 5.1.1 {said}", b"somebody@else.example")))
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            kept = [database.query(f"SELECT text FROM {name}") for name in ("suppressions", "holds", "refusals")]
    assert kept == [[("<J***@example.org> is unknown [2J, ask p***@example.net.",)]] * 3


def test_the_key_of_hashes_is_the_first_nodes(url: str) -> None:
    with started(url) as first, started(url, seed=b"another host") as second:
        assert first.key == second.key == SEED
        first.write(numbered(1))
        second.write(numbered(2))
        assert first.flush(PATIENCE_S)
        assert second.flush(PATIENCE_S)
        with first.reading() as database:
            assert len(database.query("SELECT DISTINCT rcpt_id FROM refusals")) == 1


def test_settings_count_from_the_next_record_on(tmp_path: Path) -> None:
    with started(f"sqlite:///{tmp_path}/h.db") as store:
        store.write(numbered(1))
        assert store.flush(PATIENCE_S)
        store.settle(mode="full", retention_s=DAY)
        store.write(numbered(2))
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            shown = database.query("SELECT rcpt FROM refusals ORDER BY id")
    assert shown == [("j***@example.org",), ("jane.doe@example.org",)]


# --- the store is away ---------------------------------------------------------------------------------------------


class Told:
    """What the store said of being away, and of what it dropped."""

    def __init__(self) -> None:
        self.away: list[str] = []
        self.dropped = 0
        self.changed = threading.Event()

    def on_away(self, why: str) -> None:
        self.away.append(why)
        self.changed.set()

    def on_drop(self, count: int) -> None:
        self.dropped += count

    def wait(self) -> str:
        """What it says next."""
        assert self.changed.wait(PATIENCE_S)
        self.changed.clear()
        return self.away[-1]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes, and does not come to an end."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.close()


def test_a_locked_file_delays_and_loses_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "h.db", Told()
    engine = FileEngine(str(path), patience_s=0.01)
    with started(engine, on_away=told.on_away, on_drop=told.on_drop) as store:
        store.write(numbered(1))
        assert store.flush(PATIENCE_S)
        with locked(path):
            store.state.suppressions.put(SUPPRESSION)
            for number in range(2, 50):
                store.write(numbered(number))
            assert "locked" in told.wait()
            assert not store.flush(0.0)
            assert store.standing.away
            assert store.state.suppressions.get("k")  # the memory goes on
        assert told.wait() == ""
        assert store.flush(PATIENCE_S)
        assert store.standing.away == ""
    assert len(ids(f"sqlite:///{path}")) == 49
    assert told.dropped == 0


def test_what_is_beyond_the_bound_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    path, told = tmp_path / "h.db", Told()
    engine = FileEngine(str(path), patience_s=0.01)
    with started(engine, on_away=told.on_away, on_drop=told.on_drop) as store:
        with locked(path):
            for number in range(20):  # two rows each
                store.write(numbered(number))
            told.wait()
            until(lambda: store.standing.dropped == 15, store)
        assert store.flush(PATIENCE_S)
    assert ids(f"sqlite:///{path}") == [f"{number:012d}" for number in range(5)]  # the oldest, in order
    assert told.dropped == 15


@pytest.mark.parametrize("most", [50_000, 3])
def test_accepted_mail_is_counted_when_the_store_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """All of it, or as many different counts as may wait; the rest is counted as dropped."""
    monkeypatch.setattr(module, "MAX_COUNTS", most)
    path, told = tmp_path / "h.db", Told()
    engine = FileEngine(str(path), patience_s=0.01)
    with started(engine, on_away=told.on_away, on_drop=told.on_drop) as store:
        with locked(path):
            store.state.suppressions.put(SUPPRESSION)
            told.wait()
            for number in range(60):
                store.write(delivered(number, mail_from=b"s@s%d.example" % (number % 6)))
        assert told.wait() == ""
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            counted, senders = database.query("SELECT SUM(n), COUNT(*) FROM acceptances")[0]
    assert counted + told.dropped == 60
    assert 0 < senders <= most
    assert (told.dropped == 0) is (most > 6)


class Full(FileEngine):
    """A disk with room for `pages` pages of the file. `connected`: how often."""

    pages = 100_000
    connected = 0

    def connect(self, *, create: bool = True) -> Database:
        self.connected += 1
        database = super().connect(create=create)
        database.query(f"PRAGMA max_page_count = {self.pages}")
        return database


def test_a_full_disk_delays_and_loses_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "h.db", Told()
    engine = Full(str(path))
    with migrated(f"sqlite:///{path}") as database:
        engine.pages = database.query("PRAGMA page_count")[0][0] + 3
    with started(engine, on_away=told.on_away, on_drop=told.on_drop) as store:
        for number in range(500):
            store.write(numbered(number))
        assert "full" in told.wait()
        until(lambda: engine.connected > 2, store)
        assert len(told.away) == 1  # to connect is not yet to be there again
        engine.pages = 100_000
        assert told.wait() == ""
        assert store.flush(PATIENCE_S)
    assert len(ids(f"sqlite:///{path}")) == 500
    assert told.dropped == 0


def test_records_wait_for_a_store_that_was_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 10)
    told = Told()
    store = module.Store(
        FileEngine(str(tmp_path / "later" / "h.db")),
        seed=SEED,
        mode="mask",
        retention_s=DAY,
        on_away=told.on_away,
        on_drop=told.on_drop,
        clock=lambda: AT,
    )
    assert not store.start()
    assert "the folder must exist" in told.wait()
    for number in range(12):
        store.write(numbered(number))
    assert told.dropped == 2
    (tmp_path / "later").mkdir()
    assert told.wait() == ""
    assert store.flush(PATIENCE_S)
    store.close()
    assert len(ids(f"sqlite:///{tmp_path}/later/h.db")) == 10


def test_what_was_hashed_with_another_key_meanwhile_is_dropped(tmp_path: Path) -> None:
    path, told = tmp_path / "h.db", Told()
    with started(f"sqlite:///{path}"):
        pass
    engine = FileEngine(str(path), patience_s=0.01)
    store = module.Store(
        engine, seed=b"another", mode="mask", retention_s=DAY, on_away=told.on_away, on_drop=told.on_drop
    )
    with locked(path):
        store.start()
        assert "locked" in told.wait()
        store.state.suppressions.put(SUPPRESSION)
    assert told.wait() == ""
    assert store.flush(PATIENCE_S)
    assert (store.key, told.dropped) == (SEED, 1)
    assert not store.state.suppressions.get("k")
    store.close()


def test_a_close_without_a_store_counts_what_is_lost(tmp_path: Path) -> None:
    told = Told()
    engine = FileEngine(str(tmp_path / "no" / "h.db"))
    store = module.Store(engine, seed=SEED, mode="mask", retention_s=DAY, on_away=told.on_away, on_drop=told.on_drop)
    store.start()
    told.wait()
    store.write(numbered(1))
    store.state.suppressions.put(SUPPRESSION)
    store.close(0.01)
    assert told.dropped == 2


def test_a_close_counts_accepted_mail_that_is_lost(tmp_path: Path) -> None:
    path, told = tmp_path / "h.db", Told()
    engine = FileEngine(str(path), patience_s=0.01)
    store = module.Store(engine, seed=SEED, mode="mask", retention_s=DAY, on_away=told.on_away, on_drop=told.on_drop)
    assert store.start(PATIENCE_S)
    with locked(path):
        store.state.suppressions.put(SUPPRESSION)
        told.wait()
        for number in range(5):
            store.write(delivered(number))
        store.close(0.01)
    assert told.dropped == 6


# --- one event is no reason to lose the others ------------------------------------------------------------------------


def test_what_the_database_never_takes_is_dropped_alone(any_url: str, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    with started(any_url, on_drop=told.on_drop) as store:
        for number in range(20):
            store.write(dataclasses.replace(numbered(number), size=2**70 if number == 7 else 1))
        store.state.suppressions.put(SUPPRESSION)
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            found = [int(row[0]) for row in database.query("SELECT id FROM transactions ORDER BY id")]
            assert database.query("SELECT SUM(n) FROM tallies") == [(20,)]
            assert database.query("SELECT key FROM suppressions") == [("k",)]
    assert found == [number for number in range(20) if number != 7]
    assert told.dropped == 1
    assert "takes an event never" in caplog.text


def test_a_remembered_row_that_the_database_never_takes_is_dropped_alone(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    with started(postgres_url, on_drop=told.on_drop, on_away=told.on_away) as store:
        store.state.change(Change(HOLDS, "put", "long", hold("".join(map(chr, range(0x20000, 0x20000 + 5000))))))
        store.state.suppressions.put(suppression())
        assert store.flush(PATIENCE_S)
        with store.reading() as database:
            assert database.query("SELECT key FROM suppressions") == [("k",)]
    assert (told.dropped, told.away) == (1, [])
    assert "takes an event never" in caplog.text


def test_a_record_that_cannot_be_told_is_dropped_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    broken = numbered(1, refusal())
    broken.refusals[0] = None  # type: ignore[call-overload]
    with started(f"sqlite:///{tmp_path}/h.db", on_drop=told.on_drop) as store:
        store.write(broken)
        store.write(numbered(2))
        assert store.flush(PATIENCE_S)
    assert ids(f"sqlite:///{tmp_path}/h.db") == ["000000000002"]
    assert told.dropped == 1
    assert "could not be kept" in caplog.text


class Deaf:
    """A connection that is lost after each commit of events, before the answer is heard; `times` times."""

    def __init__(self, database: Database, engine: Lossy) -> None:
        self._database = database
        self._engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._database.transaction():
            yield
        if self._engine.is_armed and self._engine.times:
            self._engine.times -= 1
            raise Away("the connection was lost")


class Lossy(FileEngine):
    times = 1
    is_armed = False

    def connect(self, *, create: bool = True) -> Database:
        return Deaf(super().connect(create=create), self)  # type: ignore[return-value]


def test_a_commit_that_was_not_heard_of_is_not_written_twice(tmp_path: Path) -> None:
    engine = Lossy(str(tmp_path / "h.db"))
    with started(engine) as store:
        engine.is_armed = True
        store.write(numbered(1))
        assert store.flush(PATIENCE_S)
        assert engine.times == 0
        with store.reading() as database:
            assert database.query("SELECT SUM(n) FROM tallies") == [(1,)]
        assert store.standing.written == 2


def test_a_fault_of_ours_does_not_end_the_writer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Lossy):
        def connect(self, *, create: bool = True) -> Database:
            if self.times:
                self.times -= 1
                raise ZeroDivisionError
            return FileEngine.connect(self, create=create)

    with started(Faulty(str(tmp_path / "h.db"))) as store:
        store.write(numbered(1))
        assert store.flush(PATIENCE_S)
    assert "a fault in the history's writer" in caplog.text


def test_a_fault_while_the_store_is_away_does_not_end_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are made while the writer waits for its next try: here who is told of what is dropped fails."""
    monkeypatch.setattr(module, "MAX_ROWS", 4)
    path, told = tmp_path / "h.db", Told()

    def on_drop(count: int) -> None:
        told.on_drop(count)
        raise ZeroDivisionError

    with started(FileEngine(str(path), patience_s=0.01), on_away=told.on_away, on_drop=on_drop) as store:
        with locked(path):
            store.write(numbered(1))
            assert "locked" in told.wait()
            for number in range(2, 5):
                store.write(numbered(number))
            until(lambda: "a fault in the history's writer" in caplog.text, store)
        assert store.flush(PATIENCE_S)
    assert ids(f"sqlite:///{path}") == ["000000000001", "000000000002"]
    assert told.dropped >= 2


def test_the_writer_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PRUNE_S", 0.0)
    monkeypatch.setattr(module, "PRUNE_EVERY_S", 0.0)
    with started(f"sqlite:///{tmp_path}/h.db", retention_s=DAY) as store:
        store.write(numbered(1, at=AT - 2 * DAY))
        store.write(numbered(2, at=AT))
        store.state.suppressions.put(SUPPRESSION._replace(until=AT - 1))
        until(lambda: len(store.state.suppressions) == 0, store)
    assert ids(f"sqlite:///{tmp_path}/h.db") == ["000000000002"]


def test_hostile_text_is_kept(any_url: str) -> None:
    said = Reply(550, ("\x00\x1b[2J \ud800 \u2028 %s ? {} '; DROP TABLE refusals; --",))
    with started(any_url) as store:
        store.write(numbered(1, dataclasses.replace(refusal(), said=said), queue_id="\x00%?'"))
        assert store.flush(PATIENCE_S)
        assert store.standing.dropped == 0
        with store.reading() as database:
            ((text,),) = database.query("SELECT text FROM refusals")
            assert [event.transaction.id for event in report.by_queue_id(database, " %?'")] == ["000000000001"]
    assert text.isprintable()
    assert "DROP TABLE" in text


def test_addresses_are_shown_by_the_settings_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload while the other thread makes what hides addresses by the settings of before."""
    store = Store(engine_of(""), seed=b"key of this test", mode="full", retention_s=DAY)

    def overtaken(mode: AddressMode, key: bytes) -> Masker:
        if mode == "full":
            store.settle(mode="hash", retention_s=DAY)
        return Masker(mode, key)

    monkeypatch.setattr(module, "Masker", overtaken)
    store._mask()
    assert store._mask().mode == "hash"
    store.close()
