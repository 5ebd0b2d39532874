"""Where a finished transaction is told: log, metrics, history, and who is to be alerted."""

from __future__ import annotations

from smtpguard.config import Settings
from smtpguard.edge.alerts import Alerts
from smtpguard.edge.log import Log
from smtpguard.edge.metrics import Metrics
from smtpguard.history import Store
from smtpguard.record import Record


class Journal:
    """flow.Journal: the log, the metrics and the history, each of which never raises."""

    def __init__(self, log: Log, metrics: Metrics, store: Store, alerts: Alerts) -> None:
        self._log = log
        self._metrics = metrics
        self._store = store
        self._alerts = alerts

    def write(self, record: Record) -> None:
        """Log it, count it, keep it, tell of it."""
        self._metrics.write(record)
        self._log.write(record)
        self._store.write(record, record.findings)
        if record.refusals or record.diverted:
            self._alerts.write(record)


def webhook(settings: Settings) -> tuple[str, bytes]:
    """The webhook and the key of its signature."""
    secret = settings.alerts.secret
    return settings.alerts.webhook, secret.get_secret_value().encode() if secret else b""
