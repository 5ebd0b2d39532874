"""Where MTA-STS policies outlive the process: in the history, beside what policy remembers (edge.mtasts.Memory).

They are read at start and written by the history's own thread, so that neither side waits; nodes that share a store
share them. Without a store that lasts (`store.url = ""`) they are forgotten by a restart, and fetched anew. In the
store a policy ends with its `max_age`, by the clock on the wall: one that was set back makes none last longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

from smtpguard.edge.mtasts import MAX_KEPT, Remembered
from smtpguard.history.state import Shelf
from smtpguard.history.tables import TlsPolicyRow
from smtpguard.mailauth.mtasts import Mode, Policy

MOST: Final = 2 * MAX_KEPT
"""Those of before the start that nobody asked for yet, beside as many as are in use: new ones do not push those out."""
MAX_MX: Final = 4_096
"""Characters of the names of mail hosts: a policy with more is fetched anew after a start."""


class TlsPolicies:
    """`shelf`: of the history. `now`: seconds since the epoch."""

    def __init__(self, shelf: Shelf[TlsPolicyRow], now: Callable[[], float]) -> None:
        self._shelf = shelf
        self._now = now

    def recall(self, domain: str) -> Remembered | None:
        """edge.mtasts.Memory."""
        row = self._shelf.get(domain)
        mode: Mode | None = next((mode for mode in get_args(Mode) if row is not None and mode == row.mode), None)
        if row is None or mode is None:  # of a newer version
            return None
        lasts_s = row.until - row.since
        age_s = max(0.0, self._now() - row.since)
        if age_s >= lasts_s:
            return None
        return Remembered(Policy(mode, tuple(row.mx.split()), int(lasts_s)), row.id, age_s, lasts_s - age_s)

    def keep(self, domain: str, id: str, policy: Policy) -> None:
        """edge.mtasts.Memory. Beyond MOST the one that was fetched longest ago goes."""
        mx = " ".join(policy.mx)
        if len(mx) > MAX_MX:
            self._shelf.drop(domain)  # the former one is no longer true
            return
        if len(self._shelf) >= MOST and self._shelf.get(domain) is None:
            self._shelf.drop(min(self._shelf, key=lambda row: row.since).key)
        now = self._now()
        self._shelf.put(TlsPolicyRow(domain, now, now + policy.max_age_s, id, policy.mode, mx))

    def forget(self, domain: str) -> None:
        """edge.mtasts.Memory."""
        self._shelf.drop(domain)
