"""Asks blocklists whether they list an address or a domain of ours, and watches over the lists themselves.

What is asked and what an answer means is data (`lint/lists.py`). A list is used only while its test entries are as they
must be (RFC 5782 5); they are asked for at its first use and every three quarters of an hour:

    state       | because                                              | is it used    | its test entries again in
    unchecked   | nobody has asked yet                                 | after them    | at once
    ok          | they are right                                       | yes           | 45 min
    unreachable | they could not be had, and never had been            | no            | 1 min
    blocked     | it refuses us (127.0.0.1)                            | no            | 30 min
    error       | it says that we ask wrongly, or too often            | no            | 30 min
    broken      | it does not list its test entry, or lists everything | no            | 30 min

An answer about a subject that is one of the last three says so too. What could not be had is `Missing`, never "not
listed", and an answer past its time counts as not had. Subjects that are watched (our own addresses, the domains of our
senders) are asked for again when their answers end.

A key of a list's owner is part of the names that are asked for, and of nothing else that leaves this file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from pydantic import SecretStr

from smtpguard.edge.resolver import View
from smtpguard.lint.facts import Listing, Missing
from smtpguard.lint.lists import LISTS, Blocklist, Fault, unmapped
from smtpguard.mailauth.dns import Answer, IpAddress

Subject = IpAddress | str
Listings = tuple[Listing, ...] | Missing
State = Literal["unchecked", "ok", "unreachable", "blocked", "error", "broken"]

CHECK_S: Final[Mapping[State, float]] = {
    "ok": 45 * 60,
    "unreachable": 60,
    "blocked": 30 * 60,
    "error": 30 * 60,
    "broken": 30 * 60,
}
MIN_REFRESH_S: Final = 60.0
TICK_S: Final = 15.0
MAX_AT_ONCE: Final = 8  # subjects that are refreshed
HOLD_S: Final = 5.0  # a conclusion is drawn again after it: mail comes faster than lists change
MAX_HELD: Final = 4096

_KEY: Final = re.compile(r"[A-Za-z0-9]{1,63}")


class Health(NamedTuple):
    """How a list is: reported by `status`, and to `on_change` when it changes."""

    list: str
    state: State
    detail: str = ""


class Change(NamedTuple):
    """What a list says of a watched subject, when it begins or ceases to list it, or for other reasons."""

    subject: Subject
    list: str
    listings: tuple[Listing, ...]


class _Used:
    """A list in use. No repr: `_suffix` may hold a key."""

    __slots__ = ("_suffix", "blocklist", "check", "check_at", "health")

    def __init__(self, blocklist: Blocklist, keys: Mapping[str, SecretStr]) -> None:
        self.blocklist = blocklist
        self._suffix = blocklist.zone
        key = keys.get(blocklist.owner)
        if blocklist.keyed and key is not None:
            self._suffix = blocklist.keyed.replace("{key}", key.get_secret_value())
        self.health = Health(blocklist.zone, "unchecked")
        self.check_at = 0.0
        self.check: asyncio.Task[None] | None = None

    def name(self, label: str) -> str:
        """What to ask for."""
        return f"{label}.{self._suffix}"


class _Watched:
    """A subject that is watched: when it is due, what lists say of it."""

    __slots__ = ("due", "listings")

    def __init__(self, now: float) -> None:
        self.due = now
        self.listings: dict[str, tuple[Listing, ...]] = {}


class _Question(NamedTuple):
    used: _Used
    name: str


class Blocklists:
    """The lists that the configuration names, as zones of `lint.lists.LISTS` (see `lint.lists.mistake`).

    `keys`: by owner ("spamhaus"). `clock`: seconds, monotonic. `on_change` is told of a list whose state changes and of
    a watched subject that is listed or no more; it must not raise. ValueError for a key that is none.
    """

    def __init__(
        self,
        resolver: View,
        lists: Iterable[str],
        *,
        keys: Mapping[str, SecretStr] | None = None,
        clock: Callable[[], float],
        on_change: Callable[[Health | Change], object],
    ) -> None:
        for owner, key in (keys or {}).items():
            if not _KEY.fullmatch(key.get_secret_value()):
                raise ValueError(f"the key of {owner} is not made of letters and digits")
        self._resolver = resolver
        self._used = tuple(_Used(LISTS[zone], keys or {}) for zone in lists)
        self._clock = clock
        self._on_change = on_change
        self._watched: dict[Subject, _Watched] = {}
        self._held: dict[Subject, tuple[float, Listings]] = {}  # until when, what was concluded

    async def ip(self, address: IpAddress) -> Listings:
        """Where an address is listed; Missing if a list that is in use did not say, and no other lists it."""
        return await self._look_up(unmapped(address))

    async def domain(self, name: str) -> Listings:
        """Where a domain (A-labels, lower case) is listed, as `ip`; as its host, its organizational domain, or both."""
        return await self._look_up(name)

    def status(self) -> tuple[Health, ...]:
        """How each list is, in the order of the configuration."""
        return tuple(used.health for used in self._used)

    def watch_ip(self, address: IpAddress) -> None:
        """Keep what lists say of one of our addresses fresh, from now on."""
        self._watch(unmapped(address))

    def watch_domain(self, name: str) -> None:
        """The same of a domain that we send from (A-labels, lower case)."""
        self._watch(name)

    def _watch(self, subject: Subject) -> None:
        if not self._unasked(subject):
            self._watched.setdefault(subject, _Watched(self._clock()))

    async def run(self) -> None:
        """Refresh for ever; for a task of the service."""
        while True:
            await self.refresh()
            await asyncio.sleep(TICK_S)

    async def refresh(self) -> None:
        """Check each list that is due, and ask for each watched subject whose answers have ended."""
        now = self._clock()
        await asyncio.gather(*(self._checked(used) for used in self._used))
        room = asyncio.Semaphore(MAX_AT_ONCE)
        due = [(subject, watched) for subject, watched in self._watched.items() if watched.due <= now]
        await asyncio.gather(*(self._refresh(subject, watched, room) for subject, watched in due))

    async def close(self) -> None:
        """End the checks under way."""
        checks = [used.check for used in self._used if used.check is not None]
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    async def _refresh(self, subject: Subject, watched: _Watched, room: asyncio.Semaphore) -> None:
        async with room:
            questions = await self._questions(subject)
            answers = await self._answers(questions)
        said = self._judge(subject, questions, answers)
        self._conclude(subject, said)
        watched.due = self._clock() + max(MIN_REFRESH_S, min((answer.ttl for answer in answers), default=0))
        for zone, listings in said.items():
            if not isinstance(listings, Missing) and listings != watched.listings.get(zone, ()):
                watched.listings[zone] = listings
                self._on_change(Change(subject, zone, listings))

    # --- one subject -------------------------------------------------------------------------------------------------

    async def _look_up(self, subject: Subject) -> Listings:
        settled = self._settled(subject)
        if settled is not None:
            return settled
        questions = await self._questions(subject)
        return self._conclude(subject, self._judge(subject, questions, await self._answers(questions)))

    def _settled(self, subject: Subject) -> Listings | None:
        """What was concluded a moment ago, or why nothing is asked for a subject; else None."""
        until, listings = self._held.get(subject, (0.0, None))
        if listings is not None and self._clock() < until:
            return listings
        why = self._unasked(subject)
        return Missing(why) if why else None

    def _conclude(self, subject: Subject, said: Mapping[str, Listings]) -> Listings:
        """What all lists say: their entries; without one, Missing if a list did not say, or none is in use."""
        listings = tuple(entry for known in said.values() if not isinstance(known, Missing) for entry in known)
        unknown = next((missing for missing in said.values() if isinstance(missing, Missing)), None)
        if not said:
            return Missing("no list in use")
        if unknown is not None:
            return listings or unknown
        if len(self._held) >= MAX_HELD:
            self._held.clear()
        self._held[subject] = self._clock() + HOLD_S, listings
        return listings

    def _unasked(self, subject: Subject) -> str:
        """Why nothing is asked for a subject; "" if something is."""
        if isinstance(subject, str) and self._resolver.is_internal(subject):
            return "internal"
        if not any(used.blocklist.labels(subject) for used in self._used):
            return "no list for it"
        return ""

    async def _questions(self, subject: Subject) -> list[_Question]:
        """What to ask for a subject, when the lists that are to be checked for it have been."""
        await asyncio.gather(*(self._checked(used) for used in self._used if used.blocklist.labels(subject)))
        return [
            _Question(used, used.name(label))
            for used in self._used
            if used.health.state == "ok"
            for label in used.blocklist.labels(subject)
        ]

    async def _answers(self, questions: Sequence[_Question]) -> list[Answer[Any]]:
        return await asyncio.gather(*(self._resolver.a(question.name) for question in questions))

    def _judge(
        self, subject: Subject, questions: Sequence[_Question], answers: Sequence[Answer[Any]]
    ) -> dict[str, Listings]:
        """By list, what its answers about a subject mean: the entries at all names; without one, why it is Missing."""
        said: dict[str, Listings] = {}
        for question, answer in zip(questions, answers, strict=True):
            zone = question.used.blocklist.zone
            before, now = said.get(zone, ()), self._read(question.used, subject, answer)
            entries = [entry for known in (before, now) if not isinstance(known, Missing) for entry in known]
            why = next((missing for missing in (before, now) if isinstance(missing, Missing)), ())
            said[zone] = tuple(dict.fromkeys(entries)) or why
        return said

    def _read(self, used: _Used, subject: Subject, answer: Answer[Any]) -> Listings:
        zone = used.blocklist.zone
        if not answer.is_known or answer.is_stale:
            return Missing(f"{zone}: {answer.fault or 'stale'}")
        codes = used.blocklist.read(answer.records)
        if isinstance(codes, Fault):
            self._found(used, Health(zone, codes.state, codes.detail))
            return Missing(f"{zone}: {codes.state}")
        return tuple(used.blocklist.listing(subject, code) for code in codes)

    # --- the lists ---------------------------------------------------------------------------------------------------

    async def _checked(self, used: _Used) -> None:
        """See to it that a list has been checked: wait where that decides whether it is used, else do it behind."""
        if used.check is None and self._clock() >= used.check_at:
            used.check = asyncio.get_running_loop().create_task(self._check(used), name=used.blocklist.zone)
        if used.check is not None and used.health.state != "ok":
            await asyncio.wait({used.check})  # it goes on when we are cancelled

    async def _check(self, used: _Used) -> None:
        try:
            health = await self._canaries(used)
            if health.state == "unreachable" and used.health.state != "unchecked":
                used.check_at = self._clock() + CHECK_S["unreachable"]  # that says nothing new
            else:
                self._found(used, health)
        finally:
            used.check = None

    async def _canaries(self, used: _Used) -> Health:
        zone = used.blocklist.zone
        for label, is_listed in used.blocklist.canaries():
            answer = await self._resolver.a(used.name(label))
            if not answer.is_known or answer.is_stale:
                return Health(zone, "unreachable", answer.fault or "stale")
            codes = used.blocklist.read(answer.records)
            if isinstance(codes, Fault):
                return Health(zone, codes.state, codes.detail)
            if is_listed and not codes:
                return Health(zone, "broken", f"it does not list {label}, as it must")
            if codes and not is_listed:
                return Health(zone, "broken", f"it lists {label}, as it must not")
        return Health(zone, "ok")

    def _found(self, used: _Used, health: Health) -> None:
        used.check_at = self._clock() + CHECK_S[health.state]
        if health != used.health:
            used.health = health
            self._held.clear()  # it was concluded with other lists
            self._on_change(health)
