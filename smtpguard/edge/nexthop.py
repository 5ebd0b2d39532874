"""A configured next hop: its hosts in order, and when to go on to the next one (flow.NextHop).

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
Of several answers the last refusal is given, or the last failure where nobody refused. On a kept connection `begin`
makes no task and no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final, Literal, Protocol

from smtpguard.config.settings import NextHopSettings
from smtpguard.edge.breaker import Breaker
from smtpguard.edge.connect import Names, connect, tls_context
from smtpguard.edge.exchange import HopExchange, mail_line, rcpt_lines, settled
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.pipeline import Connection, size_of
from smtpguard.edge.pool import Pool
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Reply, Verb, clean
from smtpguard.mail.session import Envelope, Recipient

SAY_AGAIN_S: Final = 10.0  # a host that comes and goes is logged at most so often


class Log(Protocol):
    """edge.log.Log.event."""

    def __call__(
        self,
        action: str,
        message: str,
        *,
        level: Literal["info", "warning"] = ...,
        fields: Mapping[str, object] | None = ...,
    ) -> None: ...


_GIVEN_UP: Final = HopFailure(FailureKind.CONNECT, Verb.CONNECT, "given up for a while after repeated failures")


class _Host:
    """One host: whether it is down, what it offered."""

    __slots__ = ("breaker", "hop", "is_ill", "offered", "quiet_until")

    def __init__(self, hop: Hop) -> None:
        self.hop = hop
        self.breaker = Breaker()
        self.offered: dict[str, str] | None = None
        self.is_ill = False  # the log says so
        self.quiet_until = 0.0


class NextHop:
    """flow.NextHop over SMTP. OSError or ssl.SSLError if a TLS file of the settings is no good."""

    def __init__(self, name: str, settings: NextHopSettings, *, hostname: str, metrics: Metrics, log: Log) -> None:
        self.name = name
        self._settings = settings
        self._hostname = hostname
        self._log = log
        self._context = tls_context(settings)
        self._names = Names()
        self._hosts = [_Host(Hop(name, host, settings.port)) for host in settings.host]
        self._pool = Pool(settings, metrics.next_hop_connections_in_use.labels(name), self._count)
        self._opened, self._reused, self._failed, self._refused = (
            metrics.next_hop_connections.labels(name, result) for result in ("opened", "reused", "failed", "refused")
        )
        self._failures = {kind: metrics.next_hop_failures.labels(name, kind.value) for kind in FailureKind}
        self._breaker_open = metrics.next_hop_breaker_open.labels(name)
        self._breaker_open.set(0)

    # What it offers

    def offers(self, keyword: str) -> bool | None:
        """Whether every host offered this EHLO keyword when last asked; None while none was asked."""
        asked = [host.offered for host in self._hosts if host.offered is not None]
        return all(keyword in offered for offered in asked) if asked else None

    def size_limit(self) -> int | None:
        """The smallest SIZE that a host offered: 0 no fixed limit, None unknown or not offered (RFC 1870 4)."""
        asked = [size_of(host.offered) for host in self._hosts if host.offered is not None]
        limits = [limit for limit in asked if limit is not None]
        return min((limit for limit in limits if limit), default=0) if limits else None

    async def ask(self) -> None:
        """Open a connection to each host to learn what it offers, and keep it. Never raises."""
        await asyncio.gather(*(self._ask(host) for host in self._hosts))

    async def _ask(self, host: _Host) -> None:
        now = monotonic()
        timeout = self._settings.timeout
        if not await self._pool.slot(now + self._settings.queue_wait):
            return
        try:
            got = await self._connection(host, now + timeout.connect + 2 * timeout.command)
            if isinstance(got, Connection):
                self._pool.keep(got)
            else:
                self._say_ill(host, got, now)
        finally:
            self._pool.release()

    # A transaction

    async def begin(
        self, envelope: Envelope, rcpts: Sequence[Recipient], deadline: float, *, size: int | None = None
    ) -> HopExchange:
        """MAIL and the given RCPTs to the first host that takes MAIL; at MAIL's answer, by `deadline` (loop time).

        `finish` or `abort` of the exchange must be called. `size` (octets) goes out as SIZE= where it is offered.
        """
        try:
            mail, lines = mail_line(envelope), rcpt_lines(rcpts)
        except ValueError as error:
            return self._nothing(HopFailure(FailureKind.INTERNAL, Verb.MAIL, str(error)), rcpts)
        now = monotonic()
        if self._pool.is_closing:
            return self._nothing(HopFailure(FailureKind.STOPPING, Verb.CONNECT), rcpts)
        if all(host.breaker.is_barred(now) for host in self._hosts):  # nobody need wait for that
            return self._nothing(_GIVEN_UP, rcpts)
        if not await self._pool.slot(min(now + self._settings.queue_wait, deadline)):
            kind = FailureKind.STOPPING if self._pool.is_closing else FailureKind.SATURATED
            return self._nothing(HopFailure(kind, Verb.CONNECT, "no connection was free in time"), rcpts)
        exchange = None
        try:
            exchange = await self._first_taker(envelope, mail, lines, rcpts, deadline, size)
        finally:
            if exchange is None or not exchange.is_held:
                self._pool.release()
        return exchange

    def _nothing(self, failure: HopFailure, rcpts: Sequence[Recipient]) -> HopExchange:
        return _over(self._hosts[0].hop, self._count(failure), rcpts)

    async def _first_taker(
        self,
        envelope: Envelope,
        mail: bytes,
        lines: list[bytes],
        rcpts: Sequence[Recipient],
        deadline: float,
        size: int | None,
    ) -> HopExchange:
        last: HopExchange | None = None
        for host in self._hosts:
            now = monotonic()
            if now >= deadline:
                break
            if not host.breaker.allow(now):
                continue
            exchange = None
            try:
                exchange = await self._try(host, envelope, mail, lines, deadline, size)
            finally:
                self._judge(host, None if exchange is None else exchange.mail)
            if exchange.is_begun:
                return exchange
            if last is None or isinstance(exchange.mail, Reply) or isinstance(last.mail, HopFailure):
                last = exchange
            if not _goes_on(exchange.mail):
                break
        if last is not None:
            return _over(last.hop, last.mail, rcpts)
        late = monotonic() >= deadline
        return self._nothing(
            HopFailure(FailureKind.TIMEOUT, Verb.CONNECT, "no time left") if late else _GIVEN_UP, rcpts
        )

    async def _try(
        self, host: _Host, envelope: Envelope, mail: bytes, lines: list[bytes], deadline: float, size: int | None
    ) -> HopExchange:
        """One host. The exchange is begun where MAIL was answered 2xx or 5xx; else it only holds the answer."""
        connection = self._pool.newest(host.hop.host)
        while True:
            is_kept = connection is not None
            if connection is not None:
                self._reused.inc()
            else:
                got = await self._connection(host, deadline)
                if not isinstance(got, Connection):
                    return HopExchange(host.hop, got, [])
                connection = got
            lacking = _lacking(connection, envelope, size)
            if lacking is not None:
                self._pool.keep(connection)
                return HopExchange(connection.hop, self._count(lacking), [])
            end = b"\r\n" if size is None or connection.size_limit is None else b" SIZE=%d\r\n" % size
            try:
                taken, *answers = connection.begin([mail + end, *lines], deadline)
                answer = await taken
            except BaseException:  # the caller went away
                connection.abort()
                raise
            if is_kept and _is_goodbye(answer):
                connection.abort()
                connection = None
            elif isinstance(answer, Reply) and answer.klass != 4:
                self._pool.hold(connection)
                return HopExchange(connection.hop, answer, answers, connection)
            else:
                if isinstance(answer, HopFailure):
                    self._count(answer)
                connection.finish()
                return HopExchange(connection.hop, answer, [])

    def _judge(self, host: _Host, answer: Answer | None) -> None:
        """What an attempt says of the host, for its breaker, and for the log where that is news."""
        was_closed = host.breaker.is_closed
        now = monotonic()
        if answer is None:
            host.breaker.withdrawn()
        elif answer.verb is Verb.MAIL and (isinstance(answer, Reply) or answer.kind is FailureKind.CAPABILITY):
            host.breaker.answered()
            if host.is_ill:
                host.is_ill = False
                self._log("next-hop-recovered", f"{host.hop.host} takes mail again", fields=self._about(host))
        else:
            if isinstance(answer, Reply) and answer.verb is not Verb.AUTH:
                host.breaker.answered()
            else:
                host.breaker.failed(now)
            self._say_ill(host, answer, now)
        if host.breaker.is_closed != was_closed:
            self._breaker_open.set(0 if any(each.breaker.is_closed for each in self._hosts) else 1)

    def _say_ill(self, host: _Host, answer: Answer, now: float) -> None:
        if host.is_ill or now < host.quiet_until:
            return
        host.is_ill = True
        host.quiet_until = now + SAY_AGAIN_S
        fields = self._about(host) | {"smtp.verb": answer.verb.value}
        if isinstance(answer, Reply):
            fields |= {"error.type": "refused", "smtp.reply.code": answer.code, "smtp.reply.text": clean(answer.text)}
            what = f"refused {answer.verb.value}: {answer}"
        else:
            fields |= {"error.type": answer.kind.value}
            what = f"failed at {answer.verb.value}: {answer.kind.value} {answer.keyword or answer.detail}"
        self._log("next-hop-failed", clean(f"{host.hop.host} {what}".rstrip()), level="warning", fields=fields)

    def _about(self, host: _Host) -> dict[str, object]:
        return {"smtpguard.next_hop": self.name, "server.address": host.hop.host, "server.port": host.hop.port}

    def _count(self, failure: HopFailure) -> HopFailure:
        self._failures[failure.kind].inc()
        return failure

    async def _connection(self, host: _Host, deadline: float) -> Connection | Answer:
        """A new one; the caller has a slot for it."""
        self._pool.make_room()
        got = await connect(
            host.hop.host,
            self._settings,
            self._hostname,
            deadline,
            next_hop=self.name,
            names=self._names,
            context=self._context,
        )
        if isinstance(got, HopFailure):
            self._failed.inc()
            return self._count(got)
        if isinstance(got, Reply):
            self._refused.inc()
            return got
        self._opened.inc()
        host.offered = got.keywords
        return self._pool.adopt(got)

    async def close(self, within_s: float = 0.0) -> None:
        """Take no more; let the transactions under way end within so many seconds, reset the rest. Idempotent."""
        await self._pool.close(within_s)


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


def _lacking(connection: Connection, envelope: Envelope, size: int | None) -> HopFailure | None:
    """What the message needs and this host does not offer: RFC 6152 8BITMIME, RFC 6531, RFC 3461 DSN, RFC 1870."""
    needs = (("8BITMIME", envelope.eight_bit), ("SMTPUTF8", envelope.smtputf8), ("DSN", envelope.dsn))
    for keyword, is_needed in needs:
        if is_needed and keyword not in connection.keywords:
            return HopFailure(FailureKind.CAPABILITY, Verb.MAIL, f"{keyword} is not offered", keyword)
    if size is not None and connection.size_limit and size > connection.size_limit:
        return HopFailure(FailureKind.CAPABILITY, Verb.MAIL, f"{size} octets, SIZE {connection.size_limit}", "SIZE")
    return None


def _over(hop: Hop, answer: Answer, rcpts: Sequence[Recipient]) -> HopExchange:
    return HopExchange(hop, answer, settled(answer, len(rcpts)))
