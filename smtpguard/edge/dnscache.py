"""What the DNS said, kept for as long as it may be: one entry a question; no I/O, the time passed in.

    said              | holds for                     | after that
    records           | their TTL, from 60 s to 24 h  | 24 h more as stale, while no fresh ones can be had (RFC 8767)
    none of this type | the SOA's, from 30 s to 5 min | nothing: a fault must not become "none" (RFC 2308 5)
    no such name      | the same                      | the same
    not to be known   | 5, 10, 20, then 30 s          | nothing

A name that had records and is gone is believed when it is still gone 30 s later; until then the old records are given,
as stale. So a zone that is loaded badly for a moment refuses no mail.

Times are seconds of one clock that does not go back. An answer's `ttl` is what is left of it, right to a second.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final

from smtpguard.edge.dnsquery import Rdtype
from smtpguard.mailauth.dns import Answer, Status

POSITIVE_S: Final = (60, 86_400)
NEGATIVE_S: Final = (30, 300)  # short: a sender who has just mended a record wants it seen
FAILED_S: Final = (5.0, 10.0, 20.0, 30.0)  # by failures in a row
STALE_S: Final = 86_400.0
CONFIRM_S: Final = 30.0
REFRESH_AT: Final = 0.8  # of the TTL

MAX_ENTRIES: Final = 20_000
MAX_OCTETS: Final = 32 << 20
_RECORD_OCTETS: Final = 100  # about what a record costs beside its text

Key = tuple[str, Rdtype]


class Entry:
    """What is known of one question."""

    __slots__ = (
        "_answer",
        "_expires",
        "_failures",
        "_fault",
        "_given",
        "_given_until",
        "_is_doubted",
        "_refresh_at",
        "_retry_at",
        "octets",
    )

    def __init__(self) -> None:
        self._answer: Answer[Any] | None = None
        self._expires = 0.0
        self._refresh_at = 0.0
        self._retry_at = 0.0  # not to be asked again before it: it failed, or awaits confirmation
        self._fault = ""
        self._failures = 0  # in a row
        self._is_doubted = False  # its name was said to be gone, once
        self._given: Answer[Any] | None = None  # made once a second, for hits
        self._given_until = 0.0
        self.octets = _RECORD_OCTETS

    def given(self, now: float) -> Answer[Any] | None:
        """What is to be answered without a question; None: ask."""
        if now < self._given_until:
            return self._given
        if now < self._expires:
            self._given = self._left(self._expires - now)
            self._given_until = min(now + 1.0, self._expires)
            return self._given
        if now >= self._retry_at:
            return None
        return self.stale(now) or Answer(
            Status.TEMPFAIL, ttl=round(self._retry_at - now), fault=self._fault, is_cached=True
        )

    def stale(self, now: float) -> Answer[Any] | None:
        """The records as last seen, where they may still be given."""
        if self._answer is None or self._answer.status is not Status.POSITIVE or now >= self._expires + STALE_S:
            return None
        return replace(self._answer, ttl=0, is_cached=True, is_stale=True)

    def is_due(self, now: float) -> bool:
        """Whether it is time to ask ahead of the expiry."""
        return self._refresh_at <= now < self._expires

    def learn(self, said: Answer[Any], now: float) -> Answer[Any]:
        """Take in what a question brought; what is to be answered now."""
        self._given_until = 0.0
        if said.status is Status.TEMPFAIL:
            self._hold(now, FAILED_S[min(self._failures, len(FAILED_S) - 1)])
            self._failures += 1
            self._fault = said.fault
            return self._unless_known(replace(said, ttl=round(self._retry_at - now)), now)
        if said.status is Status.NXDOMAIN and not self._is_doubted and self.stale(now) is not None:
            self._is_doubted = True
            self._expires = min(self._expires, now)
            self._hold(now, CONFIRM_S)
            return self._unless_known(said, now)
        return self._take(said, now)

    def _unless_known(self, said: Answer[Any], now: float) -> Answer[Any]:
        known = self.given(now)
        return said if known is None or known.status is Status.TEMPFAIL else known

    def _hold(self, now: float, pause_s: float) -> None:
        self._retry_at = self._refresh_at = now + pause_s

    def _take(self, said: Answer[Any], now: float) -> Answer[Any]:
        least, most = POSITIVE_S if said.status is Status.POSITIVE else NEGATIVE_S
        ttl = min(max(said.ttl, least), most)
        self._answer = replace(said, ttl=ttl)
        self._expires = now + ttl
        self._refresh_at = now + REFRESH_AT * ttl
        self._retry_at = 0.0
        self._failures = 0
        self._is_doubted = False
        texts = sum(len(record) for record in said.records if isinstance(record, bytes | str))
        self.octets = _RECORD_OCTETS * (1 + len(said.records)) + texts
        return self._answer

    def _left(self, seconds: float) -> Answer[Any] | None:
        return None if self._answer is None else replace(self._answer, ttl=round(seconds), is_cached=True)


class Cache:
    """Entries by question; beyond either bound the longest unused go."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_octets: int = MAX_OCTETS) -> None:
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._max_entries, self._max_octets = max_entries, max_octets
        self._octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """The entry of a question, which counts as used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def learn(self, key: Key, said: Answer[Any], now: float) -> Answer[Any]:
        """Take in what a question brought; what is to be answered now."""
        entry = self._entries.pop(key, None)
        if entry is None:
            entry = Entry()
        else:
            self._octets -= entry.octets
        answer = entry.learn(said, now)
        self._entries[key] = entry
        self._octets += entry.octets
        while len(self._entries) > self._max_entries or self._octets > self._max_octets:
            _, oldest = self._entries.popitem(last=False)
            self._octets -= oldest.octets
        return answer
