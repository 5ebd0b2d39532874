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


class Volume:
    """Messages by domain. `clock`: seconds, monotonic."""

    def __init__(self, threshold: int, clock: Callable[[], float]) -> None:
        self.threshold = threshold
        self._clock = clock
        self._hours: OrderedDict[str, dict[int, int]] = OrderedDict()

    def count(self, domain: str, messages: int) -> bool:
        """Count so many more, one for each recipient; whether the domain is a bulk sender now."""
        hour = int(self._clock() // HOUR_S)
        hours = self._hours.get(domain)
        if hours is None:
            hours = self._hours[domain] = {}
            if len(self._hours) > MAX_DOMAINS:
                self._hours.popitem(last=False)
        self._hours.move_to_end(domain)
        hours[hour] = hours.get(hour, 0) + messages
        for old in [known for known in hours if known <= hour - HOURS]:
            del hours[old]
        return sum(hours.values()) >= self.threshold
