"""The rows of the history and the SQL made from them: one source for both databases.

A row is a NamedTuple whose fields are the columns of its table, in order (migrations/*.sql says what they hold), so
that it can be given to a database as it is, and made from what a query gives. What policy remembers is its own
(policy/standing.py) and kept as it is. Statements are written with `?`; where SQLite and PostgreSQL differ, the
database's own file knows (sqlite.py, postgres.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar, get_type_hints

from smtpguard.policy import Hold, Route, Strike, Suppression, Throttle

SLOT_S: Final = 600
"""Seconds that counts are summed over; the period of a report begins with a slot."""


def slot_of(at: float) -> int:
    """The beginning of the slot that holds a time."""
    return int(at) // SLOT_S * SLOT_S


# --- rows --------------------------------------------------------------------------------------------------------


class TransactionRow(NamedTuple):
    """A transaction; `sender` as it may be shown, `ms*` in milliseconds, `size` in octets."""

    id: str
    at: float
    outcome: str
    door: str
    queue_id: str
    message_id: str
    sender: str
    sender_id: str
    sender_domain: str
    next_hop: str
    accepted: int
    refused: int
    size: int
    ms: float
    ms_receive: float
    ms_next_hop: float
    client_gone: int


class RefusalRow(NamedTuple):
    """A refusal. `code`, `enhanced`, `text`: what was said (0 and what went wrong, where there was no usable reply).

    `answer` is the code that the MTA got, 0: it was not told, for another next hop was tried at once. `failure` is the
    kind of a hop failure, `rcpts` how many recipients it stands for; `rcpt` is "" for a refusal of MAIL, DATA or the
    message. `action` is what policy made of it ("" it passed), `detour` the next hop that was tried instead.
    """

    id: str
    position: int
    at: float
    verb: str
    code: int
    enhanced: str
    text: str
    answer: int
    category: str
    rule: str
    confidence: float
    provider: str
    cause: str
    fix: str
    reference: str
    source: str
    rcpt: str
    rcpt_id: str
    rcpt_domain: str
    rcpts: int
    host: str
    next_hop: str
    failure: str
    action: str
    detour: str


class FindingRow(NamedTuple):
    """What lint found, and what became of that mail: `outcome` is rejected, deferred or accepted by the next hop.

    It is "" where the next hop was not asked. `answer` is the code that enforcing the rule gives, 0: it never refuses.
    """

    id: str
    position: int
    at: float
    rule: str
    severity: str
    action: str
    answer: int
    message: str
    rcpt: str
    rcpt_id: str
    outcome: str


class NoticeRow(NamedTuple):
    """What a DSN or a complaint told of one recipient; `code` is 0 where it told none."""

    id: str
    at: float
    kind: str
    action: str
    event_id: str
    queue_id: str
    message_id: str
    sender: str
    sender_id: str
    rcpt: str
    rcpt_id: str
    rcpt_domain: str
    code: int
    enhanced: str
    text: str
    category: str
    rule: str
    provider: str
    host: str
    feedback: str


class AcceptanceCount(NamedTuple):
    """Recipients that the next hop took in a slot."""

    slot: int
    provider: str
    sender_domain: str
    n: int


class RefusalCount(NamedTuple):
    """Refusals in a slot, a recipient each (at least one); `code` is what was said, or our own."""

    slot: int
    category: str
    provider: str
    sender_domain: str
    code: int
    enhanced: str
    answer: int
    source: str
    n: int


class VerdictCount(NamedTuple):
    """Findings in a slot by what became of the mail."""

    slot: int
    rule: str
    severity: str
    action: str
    answer: int
    outcome: str
    n: int


class TlsPolicyRow(NamedTuple):
    """An MTA-STS policy of a domain (`key`); `id` is that of its record, `mx` has a space between its names."""

    key: str
    since: float
    until: float
    id: str
    mode: str
    mx: str


# --- tables --------------------------------------------------------------------------------------------------------

Row = TypeVar("Row", bound=tuple[Any, ...])


@dataclass(frozen=True, eq=False)
class Table(Generic[Row]):
    """A table: its rows, its key, and what a row does that is there already."""

    name: str
    row: type[Row]
    key: tuple[str, ...]
    again: Literal["keep", "replace", "add"] = "keep"
    """keep the old row; replace it; add `n` to the old row's."""

    @property
    def columns(self) -> tuple[str, ...]:
        fields: tuple[str, ...] = self.row._fields  # type: ignore[attr-defined]
        return fields

    @cached_property
    def types(self) -> tuple[type, ...]:
        """Of the columns: str, int or float."""
        return tuple(get_type_hints(self.row).values())

    def select(self, rest: str) -> str:
        """`SELECT` of all columns; `rest` is what follows the table's name."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} {rest}"  # noqa: S608

    def insert(self, values: str) -> str:
        """`INSERT`; `values` is what gives the rows. Of two with one key the database may refuse both: give one."""
        set_ = {
            "keep": "NOTHING",
            "replace": "UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in self.columns if name not in self.key),
            "add": f"UPDATE SET n = {self.name}.n + excluded.n",
        }[self.again]
        return (
            f"INSERT INTO {self.name} ({', '.join(self.columns)}) {values} "
            f"ON CONFLICT ({', '.join(self.key)}) DO {set_}"
        )


TRANSACTIONS: Final = Table("transactions", TransactionRow, ("id",))
REFUSALS: Final = Table("refusals", RefusalRow, ("id", "position"))
FINDINGS: Final = Table("findings", FindingRow, ("id", "position"))
NOTICES: Final = Table("notices", NoticeRow, ("id",))
ACCEPTANCES: Final = Table("acceptances", AcceptanceCount, ("slot", "provider", "sender_domain"), "add")
TALLIES: Final = Table("tallies", RefusalCount, RefusalCount._fields[:-1], "add")
VERDICTS: Final = Table("verdicts", VerdictCount, VerdictCount._fields[:-1], "add")
SUPPRESSIONS: Final = Table("suppressions", Suppression, ("key",), "replace")
STRIKES: Final = Table("strikes", Strike, ("key", "message"))
HOLDS: Final = Table("holds", Hold, ("key",), "replace")
THROTTLES: Final = Table("throttles", Throttle, ("key",), "replace")
ROUTES: Final = Table("routes", Route, ("key",), "replace")
TLS_POLICIES: Final = Table("tls_policies", TlsPolicyRow, ("key",), "replace")

EVENTS: Final[tuple[Table[Any], ...]] = (TRANSACTIONS, REFUSALS, FINDINGS, NOTICES)
COUNTS: Final[tuple[Table[Any], ...]] = (ACCEPTANCES, TALLIES, VERDICTS)
REMEMBERED: Final[tuple[Table[Any], ...]] = (SUPPRESSIONS, STRIKES, HOLDS, THROTTLES, ROUTES, TLS_POLICIES)
