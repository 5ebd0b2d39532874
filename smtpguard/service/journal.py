"""Where a finished transaction is told: log, metrics, history, and who is to be alerted.

A moment later, and several at once: the client does not wait for what is written down about its mail, and the same
work for many records in a row costs half of what it costs between the octets of other mail, one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smtpguard.config import Settings
from smtpguard.edge.alerts import Alerts
from smtpguard.edge.log import Log
from smtpguard.edge.metrics import Metrics
from smtpguard.history import Store
from smtpguard.record import Record

GATHER_S: Final = 0.01
MOST: Final = 32
"""Records that wait, at most: so many hold up the loop for a millisecond or two."""


class Journal:
    """flow.Journal: the log, the metrics and the history, each of which never raises.

    `later` calls back in so many seconds, as a loop's `call_later`.
    """

    def __init__(
        self,
        log: Log,
        metrics: Metrics,
        store: Store,
        alerts: Alerts,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._store = store
        self._alerts = alerts
        self._later = later
        self._waiting: list[Record] = []

    def write(self, record: Record) -> None:
        """Tell of it within GATHER_S."""
        waiting = self._waiting
        waiting.append(record)
        if len(waiting) == 1:
            self._later(GATHER_S, self.flush)
        elif len(waiting) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Log what waits, count it, keep it, tell of it."""
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._metrics.write(record)
            self._log.write(record)
            self._store.write(record, record.findings)
            if record.refusals or record.diverted:
                self._alerts.write(record)


def webhook(settings: Settings) -> tuple[str, bytes]:
    """The webhook and the key of its signature."""
    secret = settings.alerts.secret
    return settings.alerts.webhook, secret.get_secret_value().encode() if secret else b""
