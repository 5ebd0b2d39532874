"""The dates at the head of log lines: syslog's of RFC 3164, which knows no year and no zone, and those of RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_MONTHS: Final = {"Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6} | {
    "Jul": 7,
    "Aug": 8,
    "Sep": 9,
    "Oct": 10,
    "Nov": 11,
    "Dec": 12,
}
_SYSLOG = re.compile(r"(?:<\d{1,3}>)?([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)", re.ASCII)
# RFC 5424 puts "<priority>version" before it; Exim has a space for the T, and one before the zone
_ISO = re.compile(
    r"(?:<\d{1,3}>1? ?)?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?)\d*(?: ?(Z|[+-]\d\d:?\d\d))?", re.ASCII
)


class Dates:
    """Reads the stamps of one log; lines of one second are dated once.

    `today`, with a time zone: a stamp without a year is the latest time that is not after it; one without a zone is in
    its zone.
    """

    def __init__(self, today: datetime) -> None:
        self._today = today
        self._stamp = ""
        self._when: float | None = None

    def of(self, line: str) -> float | None:
        """Seconds since the epoch; None for a line without a stamp."""
        stamp = line[:19]
        if stamp != self._stamp:
            self._stamp, self._when = stamp, self._read(line[:40])
        return self._when

    def _read(self, stamp: str) -> float | None:
        found = _SYSLOG.match(stamp)
        if found is None:
            return rfc3339(stamp, self._today)
        month = _MONTHS.get(found[1], 0)
        day, hour, minute, second = (int(part) for part in found.groups()[1:])
        for year in (self._today.year, self._today.year - 1):
            try:
                when = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=self._today.tzinfo)
            except ValueError:  # 29 February of another year; no month
                continue
            if when <= self._today + timedelta(days=1):  # clocks differ
                return when.timestamp()
        return None


def rfc3339(stamp: str, today: datetime | None = None) -> float | None:
    """Seconds since the epoch; without a zone it is in that of `today`, else UTC."""
    found = _ISO.match(stamp)
    if found is None:
        return None
    try:
        when = datetime.fromisoformat(found[1] + (found[2] or ""))
        if when.tzinfo is None:
            when = when.replace(tzinfo=today.tzinfo if today is not None else UTC)
        return when.timestamp()
    except (ValueError, OverflowError):
        return None
