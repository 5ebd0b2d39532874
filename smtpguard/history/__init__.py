"""History and memory: what was refused, asked later; what policy remembers, shared by all nodes (contract `[store]`).

    store = Store(engine_of(settings.store.url), seed=host_key(), mode=..., retention_s=...)
    store.start(); store.write(record); store.state.suppressions.get(key); store.close()

The rooms:
store.py     the queue and its one writer thread    writing.py   a batch, and how it is written
state.py     suppressions, strikes, holds, ... in memory
turns.py     of many nodes, who makes an attempt    account.py   what happened to one message
rows.py      a record or a notice as rows           tables.py    the rows, and the SQL made from them
report.py    sums, single events, refusals          upkeep.py    retention, size, forgetting, figures
database.py  what is asked of a database            schema.py    migrations, the key of hashed addresses
sqlite.py    a file, or memory                      postgres.py  shared by many nodes (extra `postgres`)
No file here but those two knows which database it is. Mail never waits for any of it, and goes on without.
"""

from __future__ import annotations

from smtpguard.history.database import Away, Database, Engine, StoreError, engine_of
from smtpguard.history.state import State
from smtpguard.history.store import Standing, Store

__all__ = [
    "Away",
    "Database",
    "Engine",
    "Standing",
    "State",
    "Store",
    "StoreError",
    "engine_of",
]
