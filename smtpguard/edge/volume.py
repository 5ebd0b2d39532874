"""How much mail each sender domain sent in the last 24 hours: who counts as a bulk sender (`lint.bulk_threshold`).

Google, Yahoo and Microsoft draw the line at 5,000 messages a day to their users, counted by the From domain's
organization. Counts are kept by the hour, of at most MAX_DOMAINS domains; they begin anew with the process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

HOURS: Final = 24
HOUR_S: Final = 3600.0
MAX_DOMAINS: Final = 10_000


class _Day:
    """Of one domain: how many by the hour, and in all of the hours that count."""

    __slots__ = ("hour", "hours", "total")

    def __init__(self) -> None:
        self.hour = -1
        self.hours: dict[int, int] = {}
        self.total = 0

    def begin(self, hour: int) -> None:
        """Another hour than the last: what is a day past counts no more."""
        self.hours = {each: count for each, count in self.hours.items() if each > hour - HOURS}
        self.total = sum(self.hours.values())
        self.hours.setdefault(hour, 0)
        self.hour = hour


class Volume:
    """Messages by domain. `clock`: seconds, monotonic."""

    def __init__(self, threshold: int, clock: Callable[[], float]) -> None:
        self.threshold = threshold
        self._clock = clock
        self._days: OrderedDict[str, _Day] = OrderedDict()

    def count(self, domain: str, messages: int) -> bool:
        """Count so many more, one for each recipient; whether the domain is a bulk sender now."""
        hour = int(self._clock() // HOUR_S)
        day = self._days.get(domain)
        if day is None:
            day = self._days[domain] = _Day()
            if len(self._days) > MAX_DOMAINS:
                self._days.popitem(last=False)
        self._days.move_to_end(domain)
        if hour != day.hour:
            day.begin(hour)
        day.hours[hour] += messages
        day.total += messages
        return day.total >= self.threshold
