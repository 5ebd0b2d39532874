"""One transaction under the lint: asked about at MAIL and RCPT, looked at after the dot, or earlier where it may act.

    at_mail   the questions about the sender go out; waited for only where a rule of MAIL may refuse
    at_rcpts  the same for each recipient
    at_dot    the message is read, its own questions go out, all is waited for, every rule is asked
    finish    a transaction that ended before the dot: what can be said of it without waiting

The waits of a transaction are `lint.budget` in all. A message up to 256 KiB is read here and now; a larger one in a
thread, one at a time: it is mapped into memory, and so is never held twice. The thread sees the message and the facts,
and fills a report of its own: what the transaction and others change meanwhile is the loop's alone.

Whatever goes wrong here, `then` is told: the lint does without, and mail goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from smtpguard.edge.gather import (
    MAX_SENDERS,
    Addresses,
    Gather,
    Sender,
    Standing,
    dns_faults,
    entries_of,
    had,
    settled,
)
from smtpguard.edge.judged import alignment, by_provider, verified
from smtpguard.edge.own import Own, Read, reading
from smtpguard.edge.volume import Volume
from smtpguard.flow import Body, NextHop
from smtpguard.lint import Action, Finding, Report, Ruleset, Skipped, Stage, marks
from smtpguard.lint.bulk import is_bulk as is_marked_bulk
from smtpguard.lint.facts import (
    ByProvider,
    Dkim,
    Dmarc,
    DnsFaults,
    LinkListings,
    Missing,
    Now,
    Offers,
    RcptDomain,
    SenderListings,
    Signatures,
    Signing,
    Spf,
)
from smtpguard.mail.domain import to_ascii
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope, Recipient

LINT: Final = "lint"
"""Stands for all rules where none could be asked."""
IN_LOOP: Final = 256 * 1024
"""Octets of a message that is read in the event loop."""
READ_WITHIN_S: Final = 30.0
"""How long a message waits for its turn in the thread, and is read or looked at there; then the lint does without."""
_ACTS: Final = (Action.REJECT, Action.DEFER)

T = TypeVar("T")


class Inspections:
    """What the inspections of all transactions share. `now`: seconds since the epoch; `clock`: monotonic.

    `on_fault` is told of each fault of ours; the mail it befell goes on.
    """

    def __init__(
        self,
        ruleset: Ruleset,
        gather: Gather,
        volume: Volume,
        *,
        signing: Signing,
        budget_s: float,
        now: Callable[[], float],
        clock: Callable[[], float],
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.on_fault = on_fault
        self.ruleset = ruleset
        self.gather = gather
        self.volume = volume
        self.signing = signing
        self.budget_s = budget_s
        self.now = now
        self.clock = clock
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="lint")
        self._tasks: set[asyncio.Task[None]] = set()
        self._offers: dict[str, tuple[int, Offers]] = {}
        self.silent: dict[tuple[int, int, bool], Sender] = {}
        """Senders of whom the rules of MAIL have nothing to say: by identity, marks, and whether no next hop is known.
        They are held, so that the identity stays."""

    def open(self, envelope: Envelope, hop: NextHop | None, addresses: Addresses) -> Inspection:
        """The inspection of a transaction that goes by this next hop (None: not known yet), out of these addresses."""
        return Inspection(self, envelope, hop, addresses)

    def offers(self, hop: NextHop) -> Offers:
        """What a next hop offers; made anew when it offers something else."""
        news, offers = self._offers.get(hop.name, (-1, _NOTHING))
        if news != hop.news:
            offers = Offers(hop.keywords(), hop.size_limit() or None)
            self._offers[hop.name] = (hop.news, offers)
        return offers

    def hush(self, key: tuple[int, int, bool], sender: Sender) -> None:
        """The rules of MAIL have nothing to say of these."""
        if len(self.silent) >= MAX_SENDERS:
            self.silent.clear()
        self.silent[key] = sender

    def reads_here(self, body: Body) -> bool:
        """Whether a message is small enough to be read in the event loop."""
        return body.size <= IN_LOOP

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Read a large message, when its turn comes; TimeoutError after READ_WITHIN_S, RuntimeError after `close`."""
        async with asyncio.timeout(READ_WITHIN_S):
            return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Go on with an inspection when what it waits for is there."""
        task = asyncio.get_running_loop().create_task(work, name="inspection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """No more messages are read but those that wait."""
        self._readers.shutdown(wait=False)


class _Asked(NamedTuple):
    """What was asked for a message; values are facts, or tasks that find them."""

    own: Own
    standing: Standing
    keys: Mapping[str, Any]
    """By the name at which a key of DKIM stands."""
    links: Mapping[str, Any]
    """The blocklists' entries of the hosts that links lead to."""


class _Rcpt(NamedTuple):
    """A recipient, its domain as written, and what is known of that, or a task that finds it."""

    rcpt: Recipient
    domain: str
    fact: Any


class Inspection:
    """One transaction. `report` holds what was found so far."""

    def __init__(self, shared: Inspections, envelope: Envelope, hop: NextHop | None, addresses: Addresses) -> None:
        self.report = Report()
        self._shared = shared
        self._envelope = envelope
        self._hop = hop
        self._addresses = addresses
        self._left_s = shared.budget_s
        self._sender = _UNASKED
        self._domain = ""  # MAIL FROM's, A-labels
        self._rcpts: list[_Rcpt] = []
        self._seen = 0  # recipients whose rules were asked
        self._is_mail_seen = False
        self._task: asyncio.Task[None] | None = None

    # -- the stages --------------------------------------------------------------------------------------------------

    def at_mail(self, then: Callable[[Finding | None], None]) -> None:
        """flow.Inspection."""
        self._begin()
        if not self._shared.ruleset.acts(Stage.MAIL):
            then(None)
            return
        self._when(_waiting(self._sender.facts.values()), lambda: then(self._acting(self._look_at_mail)))

    def at_rcpts(self, rcpts: Sequence[Recipient], then: Callable[[Sequence[Finding | None]], None]) -> None:
        """flow.Inspection."""
        for rcpt in rcpts:
            domain = rcpt.domain
            if not self._rcpts or domain != self._rcpts[-1].domain:
                name = to_ascii(domain)
                fact: Any = self._shared.gather.domain(name) if name else Missing("no domain")
            else:
                fact = self._rcpts[-1].fact
            self._rcpts.append(_Rcpt(rcpt, domain, fact))
        if not self._shared.ruleset.acts(Stage.RCPT):
            then([None] * len(rcpts))
            return

        def judged() -> None:
            before = len(self.report.findings)
            self._acting(self._look_at_rcpts)
            acting = {each.rcpt: each for each in reversed(self.report.findings[before:]) if each.action in _ACTS}
            then([acting.get(rcpt.path) for rcpt in rcpts])

        self._when(_waiting(rcpt.fact for rcpt in self._rcpts), judged)

    def at_dot(self, body: Body, then: Callable[[Finding | None], None]) -> None:
        """flow.Inspection."""
        if not self._shared.reads_here(body):
            self._task = self._shared.spawn(self._at_dot_of_large(body, then))
            return
        try:
            read = reading(body)
            asked = self._ask(read.own)
        except Exception as fault:
            self._skip(fault)
            then(None)
            return
        look = partial(self._look_at_message, read.message, asked)
        waiting = _waiting(self._facts_of(asked))
        if waiting:
            self._when(waiting, lambda: then(self._acting(look)))
        else:
            then(self._acting(look))

    async def _at_dot_of_large(self, body: Body, then: Callable[[Finding | None], None]) -> None:
        before = len(self.report.findings)
        try:
            await self._look_at_large(await self._shared.in_thread(partial(_reading_large, body)))
        except Exception as fault:
            self._skip(fault)
        then(self._first_acting(before))

    async def _look_at_large(self, read: Read) -> None:
        try:
            asked = self._ask(read.own)
            await self._settled(_waiting(self._facts_of(asked)))
            given = self._facts()
            facts, is_bulk = self._facts_of_message(given, read.message, asked)
            self._look_at_mail(given)
            self._look_at_rcpts(given)
            found = Report()

            def judge() -> None:
                self._run(Stage.DATA, facts, found, marks.of_message(facts), is_bulk=is_bulk)
                read.message.rest()

            await self._shared.in_thread(judge)
            self.report.findings += found.findings
            self.report.skipped += found.skipped
        finally:
            read.message.let_go()

    def _skip(self, fault: Exception) -> None:
        """A fault of ours, or a spool that cannot be read."""
        self.report.skipped.append(Skipped(LINT, f"fault: {type(fault).__name__}"))
        self._shared.on_fault(fault)

    def _when(self, waiting: Sequence[asyncio.Task[Any]], go: Callable[[], None]) -> None:
        """Go on when these tasks are done, or the budget is used up: at once where there is none."""
        if not waiting or self._left_s <= 0:
            go()
            return

        async def later() -> None:
            await self._settled(waiting)
            go()

        self._task = self._shared.spawn(later())

    async def _settled(self, facts: Iterable[object]) -> None:
        started = self._shared.clock()
        await settled(facts, self._left_s)
        self._left_s -= self._shared.clock() - started

    def finish(self) -> None:
        """flow.Inspection."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        if not self._is_mail_seen:
            self._acting(self._look_at_mail)
        if self._seen < len(self._rcpts):
            self._acting(self._look_at_rcpts)

    # -- questions ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        envelope = self._envelope
        self._domain = to_ascii(envelope.sender_domain)
        self._sender = self._shared.gather.sender(self._domain, envelope.mail_from, self._addresses)

    def _ask(self, own: Own) -> _Asked:
        """What a message gives to ask for."""
        gather = self._shared.gather
        domains = [self._domain, own.header_from]
        keys: dict[str, Any] = {}
        for each in own.signatures:
            domains.append(each.domain)
            if each.needs_key:
                name = each.key_name
                if name not in keys:
                    keys[name] = self._key(name)
        links = {domain: gather.listings(domain) for domain in own.links}
        return _Asked(own, gather.standing(own.header_from, domains), keys, links)

    def _facts_of(self, asked: _Asked) -> list[object]:
        """All that a message wants to know, what MAIL and RCPT had asked included; tasks among it."""
        known = [rcpt.fact for rcpt in self._rcpts]
        known += asked.keys.values()
        known += asked.links.values()
        if not self._sender.until:
            known += self._sender.facts.values()
        if not asked.standing.until:
            known += asked.standing.waiting()
        return known

    def _key(self, name: str) -> Any:
        keys = self._shared.gather.keys
        known = keys.peek(name, "TXT")
        return known if known is not None else asyncio.get_running_loop().create_task(keys.txt(name))

    # -- facts and rules ---------------------------------------------------------------------------------------------

    def _facts(self) -> dict[type, Any]:
        """What the rules of MAIL ask for, which those of later stages do too."""
        shared, sender = self._shared, self._sender
        facts = dict(sender.facts) if sender.until else {kind: had(fact) for kind, fact in sender.facts.items()}
        facts[Envelope] = self._envelope
        facts[Signing] = shared.signing
        facts[Now] = Now(shared.now())
        if self._hop is not None:
            facts[Offers] = shared.offers(self._hop)
        return facts

    def _facts_of_message(
        self, given: Mapping[type, Any], message: Message, asked: _Asked
    ) -> tuple[dict[type, Any], bool]:
        """What the rules of DATA ask for, and whether it is bulk mail; it is counted as sent by this."""
        facts = {**given}
        own, standing = asked.own, asked.standing
        facts[ByProvider] = by_provider(rcpt.domain for rcpt in self._rcpts)
        facts[Message] = message
        facts[Signatures] = Signatures(own.signatures)
        facts[Dkim] = verdicts = verified(message, own.signatures, asked.keys, self._shared.now())
        facts[Dmarc] = alignment(given.get(Spf), standing, verdicts)
        facts[SenderListings] = standing.listed or entries_of(SenderListings, standing.listings)
        facts[LinkListings] = entries_of(LinkListings, asked.links)
        facts[DnsFaults] = dns_faults([*facts.values(), *[had(rcpt.fact) for rcpt in self._rcpts]])
        domain = standing.organization
        is_over = bool(domain) and self._shared.volume.count(domain, len(self._envelope.rcpts))
        return facts, is_over or is_marked_bulk(message)

    def _look_at_message(self, message: Message, asked: _Asked) -> None:
        given = self._facts()
        facts, is_bulk = self._facts_of_message(given, message, asked)
        self._look_at_mail(given)
        self._look_at_rcpts(given)
        self._run(Stage.DATA, facts, self.report, marks.of_message(facts), is_bulk=is_bulk)
        message.let_go()

    def _look_at_mail(self, given: Mapping[type, Any] | None = None) -> None:
        if not self._is_mail_seen:
            self._is_mail_seen = True
            seen = marks.of_sender(self._envelope)
            key = (id(self._sender), seen, self._hop is None)
            if key not in self._shared.silent:
                has_nothing = self._run(Stage.MAIL, given or self._facts(), self.report, seen)
                if has_nothing and self._sender.until and not self._shared.ruleset.exemptions:
                    self._shared.hush(key, self._sender)

    def _look_at_rcpts(self, given: Mapping[type, Any] | None = None) -> None:
        if self._seen == len(self._rcpts):
            return
        facts = {**(given or self._facts())}
        silent: tuple[Any, int] | None = None  # a domain of which nothing is to be said, where these marks are there
        for rcpt, _, fact in self._rcpts[self._seen :]:
            seen = marks.of_recipient(rcpt, self._envelope)
            if silent is not None and fact is silent[0] and seen == silent[1]:
                continue
            facts[Recipient] = rcpt
            facts[RcptDomain] = had(fact)
            has_nothing = self._run(Stage.RCPT, facts, self.report, seen, rcpt=rcpt)
            silent = (fact, seen) if has_nothing else None
        self._seen = len(self._rcpts)

    def _run(
        self,
        stage: Stage,
        facts: Mapping[type, Any],
        report: Report,
        seen: int,
        *,
        is_bulk: bool = False,
        rcpt: Recipient | None = None,
    ) -> bool:
        ruleset = self._shared.ruleset
        exempt = _NO_CODES
        if ruleset.exemptions:
            domains = [rcpt.domain] if rcpt else [each.domain for each in self._rcpts]
            exempt = ruleset.exempt(self._envelope.sender_domain, domains)
        path = rcpt.path if rcpt else None
        has_nothing = ruleset.run(stage, facts, report, seen=seen, is_bulk=is_bulk, exempt=exempt, rcpt=path)
        while report.faults:
            self._shared.on_fault(report.faults.pop())
        return has_nothing and exempt is _NO_CODES

    def _acting(self, look: Callable[[], None]) -> Finding | None:
        before = len(self.report.findings)
        try:
            look()
        except Exception as fault:
            self._skip(fault)
        return self._first_acting(before)

    def _first_acting(self, before: int) -> Finding | None:
        """The finding that refuses, of those behind the first `before`."""
        found = self.report.findings
        if len(found) > before:
            for finding in found[before:]:
                if finding.action in _ACTS:
                    return finding
        return None


def _waiting(facts: Iterable[object]) -> list[asyncio.Task[Any]]:
    return [fact for fact in facts if isinstance(fact, asyncio.Task) and not fact.done()]


def _reading_large(body: Body) -> Read:
    """Read it; others may be read before its turn comes again, and it holds no memory meanwhile."""
    read = reading(body)
    read.message.rest()
    return read


_NO_CODES: Final[frozenset[str]] = frozenset()
_NOTHING: Final = Offers(frozenset())
_UNASKED: Final = Sender({}, 0.0)
