"""When to leave a host alone for a while: one breaker per host and port, pure, the time passed in.

    state       | may it be tried          | a failure                      | an answer
    closed      | yes                      | the fifth in a row: open, 1 s  | the row begins anew
    open        | no, until its time is up | nothing new                    | closed
    its time up | one at a time            | open, twice as long, 5 s most  | closed

A failure is a host that gives no usable reply; a host that refuses is not down, and its own words are worth more than
ours. So that a host that is back carries mail again within seconds, it is never left alone for more than 5 s, and a
probe that has not come back after that time does not bar the next one. A failure may weigh as much as several.
"""

from __future__ import annotations

from typing import Final

THRESHOLD: Final = 5
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 5.0


class Breaker:
    """Times are seconds of one clock that does not go back (loop time). The numbers of the table are its defaults."""

    __slots__ = ("_failures", "_first_pause_s", "_longest_pause_s", "_pause_s", "_probe_until", "_until")

    def __init__(
        self,
        *,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._first_pause_s = self._pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._failures = 0
        self._until: float | None = None  # None: closed
        self._probe_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether the host is in use as usual."""
        return self._until is None

    def is_barred(self, now: float) -> bool:
        """Whether `allow` would say no."""
        return self._until is not None and (now < self._until or now < self._probe_until)

    def allow(self, now: float) -> bool:
        """Whether the host may be tried now. A yes while it is open is the probe: report back."""
        if self._until is None:
            return True
        if self.is_barred(now):
            return False
        self._probe_until = now + self._longest_pause_s
        return True

    def answered(self) -> None:
        """It gave a usable reply."""
        self._failures = 0
        self._pause_s = self._first_pause_s
        self._until = None

    def failed(self, now: float, *, weight: int = 1) -> None:
        """It gave none. `weight`: for how many failures this one counts."""
        if self._until is None:
            self._failures += weight
            if self._failures >= THRESHOLD:
                self._open(now)
        elif now >= self._until:  # else a straggler from before it opened
            self._pause_s = min(self._pause_s * 2, self._longest_pause_s)
            self._open(now)

    def _open(self, now: float) -> None:
        self._until = now + self._pause_s
        self._probe_until = 0.0

    def withdrawn(self) -> None:
        """A try that `allow` let through ended without telling anything of the host (the client went away)."""
        self._probe_until = 0.0
