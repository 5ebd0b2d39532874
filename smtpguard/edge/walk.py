"""Hosts tried in turn until one takes MAIL, and when to go on to the next one.

    answer to the attempt                       | next host? | the host is
    no connection, TLS not to be had            | yes        | failing
    greeting, EHLO or STARTTLS refused          | yes        | up
    AUTH refused                                | no         | failing: each try counts against the account
    no answer to MAIL                           | yes        | failing
    4xx to MAIL                                 | yes        | up
    2xx or 5xx to MAIL                          | no         | up
    it lacks what the message needs             | no         | up

A failing host is left alone by its breaker. Once RCPTs are answered no other host is tried, since `begin` is over by
then. A kept connection may have died unseen: if it says nothing but goodbye, the same host is asked once more, afresh.
Of several answers the last refusal is given, or the last failure where nobody refused.

On a kept connection `begin` makes no task and no timer: MAIL has left when it returns, and all that follows is called
by the octets that come in. Only a free slot and a new connection are waited for, in a task that the exchange holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from random import sample
from time import monotonic
from typing import Final

from smtpguard.edge.exchange import HopExchange, has_dsn, mail_line, rcpt_lines
from smtpguard.edge.health import Host
from smtpguard.edge.pipeline import Connection
from smtpguard.edge.slots import Groups
from smtpguard.edge.trunk import Trunk
from smtpguard.flow import Hears
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient

_GIVEN_UP: Final = HopFailure(FailureKind.CONNECT, Verb.CONNECT, "given up for a while after repeated failures")


class Walk:
    """Over the hosts of `ranks`, by `trunk`: those of one rank in an order that changes from one time to the next.

    `groups` are what its slots are taken under. `turned` is called with a host to which a connection was opened, or
    whose breaker opened or closed.
    """

    def __init__(
        self, trunk: Trunk, ranks: Sequence[Sequence[Host]], *, groups: Groups, turned: Callable[[Host], object]
    ) -> None:
        self.hosts: Final = tuple(host for rank in ranks for host in rank)
        self.queue_wait_s = trunk.settings.queue_wait
        """How long mail waits for a free connection."""
        self._ranks = ranks
        self._trunk = trunk
        self._pool = trunk.pool
        self._groups = groups
        self._turned = turned
        self._has_equals = any(len(rank) > 1 for rank in ranks)

    def _in_turn(self) -> Iterator[Host]:
        for rank in self._ranks:  # RFC 5321 5.1: equals share the load
            yield from rank if len(rank) == 1 else sample(rank, len(rank))

    # A transaction

    def begin(
        self, envelope: Envelope, rcpts: Sequence[Recipient], deadline: float, hears: Hears, *, size: int | None = None
    ) -> HopExchange:
        """MAIL and the given RCPTs to the first host that takes MAIL, by `deadline` (loop time).

        `hears` is told, perhaps before this returns. `finish` or `abort` of the exchange must be called, at any time.
        `size` (octets) goes out as SIZE= where it is offered.
        """
        hosts = self._in_turn() if self._has_equals else iter(self.hosts)
        exchange = HopExchange(self, self.hosts[0].hop, hosts, envelope, deadline, size, hears)
        try:
            exchange.lines.append(mail_line(envelope))
            if rcpts:
                exchange.lines += rcpt_lines(rcpts)
                exchange.needs_dsn = envelope.dsn or has_dsn(rcpts)
        except ValueError as error:
            self._nothing(exchange, HopFailure(FailureKind.INTERNAL, Verb.MAIL, str(error)))
            return exchange
        if self._pool.is_closing:
            self._nothing(exchange, HopFailure(FailureKind.STOPPING, Verb.CONNECT))
        elif self._pool.slots.take(self._groups):
            exchange.has_slot = True
            self._next_host(exchange)
        elif all(host.breaker.is_barred(monotonic()) for host in self.hosts):  # nobody need wait for that
            self._nothing(exchange, _GIVEN_UP)
        else:
            exchange.task = asyncio.get_running_loop().create_task(self._queue(exchange))
        return exchange

    async def _queue(self, exchange: HopExchange) -> None:
        """All connections are busy: wait for our turn."""
        until = min(monotonic() + self.queue_wait_s, exchange.deadline)
        exchange.has_slot = await self._pool.slots.slot(self._groups, until)
        exchange.task = None
        try:
            if exchange.has_slot:
                self._next_host(exchange)
            else:
                kind = FailureKind.STOPPING if self._pool.is_closing else FailureKind.SATURATED
                self._nothing(exchange, HopFailure(kind, Verb.CONNECT, "no connection was free in time"))
        except Exception as error:
            exchange.broke(error)

    def _next_host(self, exchange: HopExchange) -> None:
        """Ask the next host that may be asked: on a kept connection at once, else a task opens one."""
        now = monotonic()
        for host in exchange.hosts:
            if now >= exchange.deadline:
                break
            if host.breaker.allow(now):
                exchange.host = host
                connection = self._pool.newest(host)
                if connection is None:
                    self._open_for(exchange, host)
                else:
                    self._trunk.reused.value += 1
                    exchange.is_kept = True
                    self._ask_for_mail(exchange, connection)
                return
        if exchange.last is not None:
            self._over(exchange, exchange.last)
        elif now >= exchange.deadline:
            self._nothing(exchange, HopFailure(FailureKind.TIMEOUT, Verb.CONNECT, "no time left"))
        else:
            self._nothing(exchange, _GIVEN_UP)

    def _open_for(self, exchange: HopExchange, host: Host) -> None:
        exchange.is_kept = False
        exchange.task = asyncio.get_running_loop().create_task(self._open(exchange, host))

    async def _open(self, exchange: HopExchange, host: Host) -> None:
        try:
            got = await self._trunk.connection(host, exchange.deadline)
            if exchange.is_begun:  # given up; Python 3.11's wait_for, within, loses a cancel that comes with the result
                if isinstance(got, Connection):
                    got.quit()
                return
            exchange.task = None
            if isinstance(got, Connection):
                self._turned(host)
                self._ask_for_mail(exchange, got)
            else:
                self._not_taken(exchange, host, host.hop, got)
        except Exception as error:
            exchange.task = None
            exchange.broke(error)

    def _ask_for_mail(self, exchange: HopExchange, connection: Connection) -> None:
        size, envelope = exchange.size, exchange.envelope
        needs_more = size is not None or envelope.eight_bit or envelope.smtputf8 or exchange.needs_dsn
        lacking = _lacking(connection, exchange) if needs_more else None
        if lacking is not None:
            assert exchange.host is not None
            self._pool.keep(connection)
            self._not_taken(exchange, exchange.host, connection.hop, self._trunk.count(lacking))
            return
        exchange.connection = connection
        lines = exchange.lines.copy()  # another host may offer something else
        lines[0] += b"\r\n" if size is None or connection.size_limit is None else b" SIZE=%d\r\n" % size
        connection.begin(lines, exchange.deadline, exchange)

    def at_mail(self, exchange: HopExchange, answer: Answer) -> None:
        """What a host said to MAIL. The exchange has begun where that was 2xx or 5xx; else it goes on."""
        connection, host = exchange.connection, exchange.host
        if connection is None or host is None:
            return
        if isinstance(answer, Reply) and answer.klass != 4:
            if not host.is_well:
                self._judge(host, answer)
            exchange.is_begun = True
            exchange.hop = connection.hop
            if self._pool.hold(connection, self._groups):
                exchange.has_slot = False  # it is the connection's now
            else:
                self._give_back_slot(exchange)
            if exchange.hears is not None:
                exchange.hears.at_mail(exchange, answer)
            return
        exchange.connection = None
        if exchange.is_kept and _is_goodbye(answer):
            connection.abort()
            self._open_for(exchange, host)
            return
        if isinstance(answer, HopFailure):
            self._trunk.count(answer)
        connection.finish()
        self._not_taken(exchange, host, connection.hop, answer)

    def _not_taken(self, exchange: HopExchange, host: Host, hop: Hop, answer: Answer) -> None:
        """A host did not take MAIL: on to the next one, where that may help."""
        self._judge(host, answer)
        exchange.host = None
        last = exchange.last
        if last is None or isinstance(answer, Reply) or isinstance(last, HopFailure):
            exchange.last, exchange.hop = answer, hop
        if _goes_on(answer):
            self._next_host(exchange)
        else:
            self._over(exchange, exchange.last or answer)

    def _nothing(self, exchange: HopExchange, failure: HopFailure) -> None:
        self._over(exchange, self._trunk.count(failure))

    def _over(self, exchange: HopExchange, answer: Answer) -> None:
        """Nobody took it."""
        exchange.last = answer
        exchange.is_begun = True
        self._give_back_slot(exchange)
        if exchange.hears is not None:
            exchange.hears.at_mail(exchange, answer)

    def given_up(self, exchange: HopExchange) -> None:
        """Its transaction ended before it had begun."""
        exchange.is_begun = True
        if exchange.task is not None:
            exchange.task.cancel()
            exchange.task = None
        if exchange.host is not None:
            self._judge(exchange.host, None)
        self._give_back_slot(exchange)

    def _give_back_slot(self, exchange: HopExchange) -> None:
        if exchange.has_slot:
            self._pool.slots.release(self._groups)
        exchange.has_slot = False

    def _judge(self, host: Host, answer: Answer | None) -> None:
        if host.judge(answer):
            self._turned(host)


def _goes_on(answer: Answer) -> bool:
    """Whether the next host is tried after this (contract 1.4)."""
    if isinstance(answer, Reply):
        return answer.klass == 4 if answer.verb is Verb.MAIL else answer.verb is not Verb.AUTH
    return answer.kind not in (FailureKind.CAPABILITY, FailureKind.INTERNAL)


def _is_goodbye(answer: Answer) -> bool:
    """Whether a kept connection had ended before we used it."""
    if isinstance(answer, Reply):
        return answer.code == 421
    return answer.kind is FailureKind.DISCONNECT


def _lacking(connection: Connection, exchange: HopExchange) -> HopFailure | None:
    """What the message needs and this host does not offer: RFC 6152 8BITMIME, RFC 6531, RFC 3461 DSN, RFC 1870."""
    size, envelope = exchange.size, exchange.envelope
    needs = (("8BITMIME", envelope.eight_bit), ("SMTPUTF8", envelope.smtputf8), ("DSN", exchange.needs_dsn))
    for keyword, is_needed in needs:
        if is_needed and keyword not in connection.keywords:
            return HopFailure(FailureKind.CAPABILITY, Verb.MAIL, f"{keyword} is not offered", keyword)
    if size is not None and connection.size_limit and size > connection.size_limit:
        return HopFailure(FailureKind.CAPABILITY, Verb.MAIL, f"{size} octets, SIZE {connection.size_limit}", "SIZE")
    return None
