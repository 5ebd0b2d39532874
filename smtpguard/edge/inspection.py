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
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from smtpguard.classify import provider_of
from smtpguard.edge.gather import Addresses, Gather, dns_faults, had, settled
from smtpguard.edge.own import Own, Read, reading
from smtpguard.edge.volume import Volume
from smtpguard.flow import Body, NextHop
from smtpguard.lint import Action, Finding, Report, Ruleset, Skipped, Stage
from smtpguard.lint.bulk import is_bulk as is_marked_bulk
from smtpguard.lint.facts import (
    ByProvider,
    Dkim,
    Dmarc,
    DnsFaults,
    Egress,
    LinkListings,
    Missing,
    Now,
    Offers,
    RcptDomain,
    SenderDomain,
    SenderListings,
    Signatures,
    Signing,
    Spf,
)
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth import dkim
from smtpguard.mailauth.domains import organizational, to_ascii
from smtpguard.mailauth.spf import SpfStatus

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

    def open(self, envelope: Envelope, hop: NextHop | None, addresses: Addresses) -> Inspection:
        """The inspection of a transaction that goes by this next hop (None: not known yet), out of these addresses."""
        return Inspection(self, envelope, hop, addresses)

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
    senders: tuple[str, ...]
    """The organizations that stand for the sender: MAIL FROM's, From's, the signers'."""
    policy: Any
    organizations: Mapping[str, Any]
    """Of each domain that stands for the sender, its organization by tree walk."""
    keys: Mapping[str, Any]
    listed: Mapping[str, Any]

    def facts(self, inspection: Inspection) -> Iterator[object]:
        """All that is waited for, what MAIL and RCPT had asked included."""
        yield from inspection.asked_before()
        yield self.policy
        yield from self.organizations.values()
        yield from self.keys.values()
        yield from self.listed.values()


class Inspection:
    """One transaction. `report` holds what was found so far."""

    def __init__(self, shared: Inspections, envelope: Envelope, hop: NextHop | None, addresses: Addresses) -> None:
        self.report = Report()
        self._shared = shared
        self._envelope = envelope
        self._hop = hop
        self._addresses = addresses
        self._left_s = shared.budget_s
        self._asked: dict[type, Any] = {}
        self._rcpts: list[tuple[Recipient, Any]] = []
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
        self._when(self._asked.values(), lambda: then(self._acting(self._look_at_mail)))

    def at_rcpts(self, rcpts: Sequence[Recipient], then: Callable[[Sequence[Finding | None]], None]) -> None:
        """flow.Inspection."""
        gather = self._shared.gather
        for rcpt in rcpts:
            domain = to_ascii(rcpt.domain)
            self._rcpts.append((rcpt, gather.domain(domain) if domain else Missing("no domain")))
        if not self._shared.ruleset.acts(Stage.RCPT):
            then([None] * len(rcpts))
            return

        def judged() -> None:
            before = len(self.report.findings)
            self._acting(self._look_at_rcpts)
            acting = {each.rcpt: each for each in reversed(self.report.findings[before:]) if each.action in _ACTS}
            then([acting.get(rcpt.path) for rcpt in rcpts])

        self._when((fact for _, fact in self._rcpts), judged)

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
        self._when(asked.facts(self), lambda: then(self._acting(look)))

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
            await self._settled(asked.facts(self))
            facts, is_bulk = self._facts_of_message(self._facts(), read.message, asked)
            self._look_at_mail()
            self._look_at_rcpts()
            found = Report()

            def judge() -> None:
                self._run(Stage.DATA, facts, found, is_bulk=is_bulk)
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

    def _when(self, facts: Iterable[object], go: Callable[[], None]) -> None:
        """Go on when these facts are there, or the budget is used up: at once where nothing is waited for."""
        waiting = [fact for fact in facts if isinstance(fact, asyncio.Task) and not fact.done()]
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
        self._acting(self._look_at_mail)
        self._acting(self._look_at_rcpts)

    # -- questions ---------------------------------------------------------------------------------------------------

    def asked_before(self) -> Iterator[object]:
        """What was asked at MAIL and RCPT."""
        yield from self._asked.values()
        yield from (fact for _, fact in self._rcpts)

    def _begin(self) -> None:
        envelope, gather = self._envelope, self._shared.gather
        domain = to_ascii(envelope.sender_domain)
        if domain:
            self._asked[SenderDomain] = gather.domain(domain)
        if domain or not envelope.mail_from:
            local = envelope.mail_from.rpartition(b"@")[0].decode("utf-8", "replace")
            self._asked[Spf] = gather.spf(domain, local, self._addresses)
        self._asked[Egress] = gather.egress(self._addresses)

    def _ask(self, own: Own) -> _Asked:
        """What a message gives to ask for."""
        gather = self._shared.gather
        named = (to_ascii(self._envelope.sender_domain), own.header_from, *(each.domain for each in own.signatures))
        domains = tuple(dict.fromkeys(domain for domain in named if domain))
        senders = tuple(dict.fromkeys(map(organizational, domains)))
        return _Asked(
            own,
            senders,
            gather.policy(own.header_from) if own.header_from else Missing("no From domain"),
            {domain: gather.organization(domain) for domain in domains} if own.header_from else {},
            {each.key_name: self._key(each.key_name) for each in own.signatures if each.needs_key},
            {domain: gather.listings(domain) for domain in (*senders, *own.links)},
        )

    def _key(self, name: str) -> Any:
        keys = self._shared.gather.keys
        known = keys.peek(name, "TXT")
        return known if known is not None else asyncio.get_running_loop().create_task(keys.txt(name))

    # -- facts and rules ---------------------------------------------------------------------------------------------

    def _facts(self) -> dict[type, Any]:
        facts: dict[type, Any] = {kind: had(fact) for kind, fact in self._asked.items()}
        facts[Envelope] = self._envelope
        facts[Signing] = self._shared.signing
        facts[Now] = Now(self._shared.now())
        if self._hop is not None:
            facts[Offers] = Offers(self._hop.keywords(), self._hop.size_limit() or None)
        facts[ByProvider] = ByProvider(Counter(provider_of(rcpt.domain) for rcpt, _ in self._rcpts))
        return facts

    def _facts_of_message(
        self, given: Mapping[type, Any], message: Message, asked: _Asked
    ) -> tuple[dict[type, Any], bool]:
        """What the rules of DATA ask for, and whether it is bulk mail; it is counted as sent by this."""
        facts = {**given}
        own = asked.own
        facts[Message] = message
        facts[Signatures] = Signatures(own.signatures)
        facts[Dkim] = verdicts = self._dkim(message, asked)
        facts[Dmarc] = self._dmarc(asked, verdicts)
        facts[SenderListings] = _listings(SenderListings, asked.senders, asked.listed)
        facts[LinkListings] = _listings(LinkListings, own.links, asked.listed)
        facts[DnsFaults] = dns_faults((*facts.values(), *(had(fact) for _, fact in self._rcpts)))
        domain = organizational(own.header_from) if own.header_from else ""
        is_over = bool(domain) and self._shared.volume.count(domain, len(self._envelope.rcpts))
        return facts, is_over or is_marked_bulk(message)

    def _look_at_message(self, message: Message, asked: _Asked) -> None:
        given = self._facts()
        facts, is_bulk = self._facts_of_message(given, message, asked)
        self._look_at_mail(given)
        self._look_at_rcpts(given)
        self._run(Stage.DATA, facts, self.report, is_bulk=is_bulk)
        message.let_go()

    def _look_at_mail(self, given: Mapping[type, Any] | None = None) -> None:
        if not self._is_mail_seen:
            self._is_mail_seen = True
            self._run(Stage.MAIL, given or self._facts(), self.report)

    def _look_at_rcpts(self, given: Mapping[type, Any] | None = None) -> None:
        if self._seen == len(self._rcpts):
            return
        facts = {**(given or self._facts())}
        for rcpt, fact in self._rcpts[self._seen :]:
            facts[Recipient] = rcpt
            facts[RcptDomain] = had(fact)
            self._run(Stage.RCPT, facts, self.report, rcpt=rcpt)
        self._seen = len(self._rcpts)

    def _run(
        self,
        stage: Stage,
        facts: Mapping[type, Any],
        report: Report,
        *,
        is_bulk: bool = False,
        rcpt: Recipient | None = None,
    ) -> None:
        ruleset = self._shared.ruleset
        exempt: frozenset[str] = frozenset()
        if ruleset.exemptions:
            domains = [rcpt.domain] if rcpt else [each.domain for each, _ in self._rcpts]
            exempt = ruleset.exempt(self._envelope.sender_domain, domains)
        path = rcpt.path if rcpt else None
        ruleset.run(stage, facts, report, is_bulk=is_bulk, exempt=exempt, rcpt=path)
        while report.faults:
            self._shared.on_fault(report.faults.pop())

    def _acting(self, look: Callable[[], None]) -> Finding | None:
        before = len(self.report.findings)
        try:
            look()
        except Exception as fault:
            self._skip(fault)
        return self._first_acting(before)

    def _first_acting(self, before: int) -> Finding | None:
        """The finding that refuses, of those behind the first `before`."""
        return next((each for each in self.report.findings[before:] if each.action in _ACTS), None)

    def _dkim(self, message: Message, asked: _Asked) -> Dkim:
        """The signatures judged; one whose key did not come in time is temperror."""
        now = self._shared.now()
        verdicts = []
        for each in asked.own.signatures:
            answer = had(asked.keys[each.key_name]) if each.key_name in asked.keys else None
            verdicts.append(dkim.judge(message, each, None if isinstance(answer, Missing) else answer, now))
        return Dkim(tuple(verdicts))

    def _dmarc(self, asked: _Asked, judged: Dkim) -> Dmarc | Missing:
        """What alignment is judged by; Missing where one leg of it is not known."""
        policy = had(asked.policy)
        if isinstance(policy, Missing):
            return policy
        walked, suffixed = policy
        passing = tuple(each.signature.domain for each in judged.verdicts if each.status is dkim.DkimStatus.PASS)
        spf = had(self._asked[Spf]) if Spf in self._asked else Missing("no MAIL FROM domain")
        domain = ""
        if isinstance(spf, Spf) and all(result.status is SpfStatus.PASS for result in spf.results.values()):
            domain = spf.domain
        is_doubtful = isinstance(spf, Missing) or any(
            each.status is dkim.DkimStatus.TEMPERROR for each in judged.verdicts
        )
        if is_doubtful:
            return Missing(spf.why if isinstance(spf, Missing) else "dns: a DKIM key could not be had")
        known = {name: had(found) for name, found in asked.organizations.items()}
        organizations = {name: found for name, found in known.items() if not isinstance(found, Missing)}
        return Dmarc(asked.own.header_from, walked, suffixed, domain, passing, organizations)


def _reading_large(body: Body) -> Read:
    """Read it; others may be read before its turn comes again, and it holds no memory meanwhile."""
    read = reading(body)
    read.message.rest()
    return read


def _listings(kind: type[Any], domains: Sequence[str], listed: Mapping[str, Any]) -> Any:
    """The entries of those domains that are known; Missing where of none."""
    known = {domain: had(listed[domain]) for domain in domains}
    entries = {domain: found for domain, found in known.items() if not isinstance(found, Missing)}
    if domains and not entries:
        return next(iter(known.values()))
    return kind(entries)
