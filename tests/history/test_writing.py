"""A batch and how it is written: once, as a whole, or in parts of which each leaves it as soon as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from smtpguard.history import Away, Database
from smtpguard.history.database import Unfit
from smtpguard.history.rows import Counts, Kept, of_record
from smtpguard.history.state import Change
from smtpguard.history.tables import ACCEPTANCES, SUPPRESSIONS
from smtpguard.history.writing import Batch, is_written, write, write_parts
from smtpguard.record import Masker
from tests.history.stores import AT, SEED, migrated, numbered, suppression

MASK = Masker("mask", SEED)
COUNTS: Counts = {(ACCEPTANCES, (slot, "other", "a.example")): 3 for slot in range(3)}
CHANGE = Change(SUPPRESSIONS, "put", "k", suppression())
HUGE = 2**70  # more than a column holds


def kept(number: int, size: int = 1) -> Kept:
    record = numbered(number)
    record.size = size
    return of_record(record, (), MASK)


class Failing:
    """A connection that is lost at a transaction, after so many."""

    def __init__(self, database: Database, after: int) -> None:
        self._database = database
        self._left = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if not self._left:
            raise Away("the connection was lost")
        self._left -= 1
        with self._database.transaction():
            yield


def there(database: Database) -> tuple[int, int, int]:
    """Transactions, recipients counted, suppressions."""
    ((events,),) = database.query("SELECT COUNT(*) FROM transactions")
    ((counted,),) = database.query("SELECT COALESCE(SUM(n), 0) FROM acceptances")
    ((suppressed,),) = database.query("SELECT COUNT(*) FROM suppressions")
    return events, int(counted), suppressed


def test_a_batch_is_known_again_by_its_number(any_url: str) -> None:
    with migrated(any_url) as database:
        first, second = (Batch(number, [kept(number)], {}, ()) for number in (1, 2))
        assert not is_written(database, first, "node")
        write(database, first, MASK, AT, "node")
        assert is_written(database, first, "node")
        assert not is_written(database, second, "node")
        assert not is_written(database, first, "other")


def test_what_is_unfit_takes_nothing_with_it(any_url: str) -> None:
    with migrated(any_url) as database:
        batch = Batch(1, [kept(number, HUGE if number == 5 else 1) for number in range(9)], dict(COUNTS), (CHANGE,))
        with pytest.raises(Unfit):
            write(database, batch, MASK, AT, "node")
        assert there(database) == (0, 0, 0)
        parts = list(write_parts(database, batch, MASK, AT))
        assert there(database) == (8, 9, 1)
        assert [part.rows for part in parts if part.unfit is not None] == [2]  # a transaction and its refusal
        assert (batch.kept, batch.counts) == ([], {})


@pytest.mark.parametrize("after", range(9))  # transactions in all
def test_a_connection_lost_in_between_loses_and_doubles_nothing(any_url: str, after: int) -> None:
    with migrated(any_url) as database:
        batch = Batch(1, [kept(number, HUGE if number == 2 else 1) for number in range(4)], dict(COUNTS), (CHANGE,))
        with pytest.raises(Away):
            list(write_parts(Failing(database, after), batch, MASK, AT))  # type: ignore[arg-type]
        list(write_parts(database, batch, MASK, AT))
        assert there(database) == (3, 9, 1)
