"""One open connection to a next hop: commands pipelined, replies watched, no doubt which reply is whose.

RFC 5321 (commands and replies), RFC 2920 (PIPELINING), RFC 3030 (BDAT), RFC 1870 (SIZE), RFC 1047 (the lost answer).

Rules of this file:
- Each command sent leaves one entry in `_due`; each reply takes one. A reply that cannot be the answer (surplus, a 2xx
  to DATA, a 3xx to anything else, a 2xx before the message was sent) ends the connection: nothing after it is believed.
- Nothing is raised for what the hop does. An answer is a `Reply` or a `HopFailure`; a dead connection answers all later
  commands with how it died.
- One timer, armed anew only when it has run out: a kept connection makes none in a transaction.
- No octet is changed: the message goes out as the body gives it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from smtpguard.config.settings import TimeoutSettings
from smtpguard.edge.connect import Connected
from smtpguard.edge.reader import ReplyReader
from smtpguard.flow import Body
from smtpguard.mail.reply import Answer, FailureKind, HopFailure, Reply, ReplyError, Verb

AT_ONCE: Final = 64 * 1024  # a message up to this size is one write
QUIT_S: Final = 2.0  # how long we wait for the answer to QUIT
NEVER: Final = float("inf")

# A receiver that dislikes the command, not the message (contract 1.4); to BDAT one reply answers both.
_NO_SUCH_COMMAND: Final = frozenset({500, 501, 502, 503, 504, 530, 535, 538, 555})

_Due = tuple[Verb | None, "asyncio.Future[Answer]"]  # None: RSET


class Connection(asyncio.Protocol):
    """The open session as an asyncio protocol. `on_free` when it may carry the next transaction, `on_gone` at its end.

    `on_gone` is called once, with the failure where there was one in a transaction, else None.
    """

    def __init__(
        self,
        connected: Connected,
        timeout: TimeoutSettings,
        on_free: Callable[[Connection], None],
        on_gone: Callable[[Connection, HopFailure | None], None],
    ) -> None:
        self.hop = connected.hop
        self.keywords = keywords = connected.keywords
        self.transactions = 0
        self.idle_since = 0.0
        self.is_held = False
        """Whether it counts among the busy ones of its next hop; the next hop's to use."""
        self._pipelining = "PIPELINING" in keywords
        self._chunking = "CHUNKING" in keywords
        self.size_limit = size_of(keywords)
        self._timeout = timeout
        self._on_free = on_free
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._reader = ReplyReader()
        self._due: deque[_Due] = deque()
        self._unsent: deque[tuple[bytes, Verb | None, asyncio.Future[Answer]]] = deque()  # without PIPELINING
        self._open = False  # MAIL was taken, and the message not yet answered
        self._spent = False  # it said 421: no further transaction
        self._busy = False  # between `begin` and `finish`
        self._quitting = False
        self._dead: HopFailure | None = None
        self._deadline = NEVER
        self._limit = NEVER  # when patience ends
        self._tick_s = min(timeout.command, timeout.data, timeout.final)
        self._timer: asyncio.TimerHandle | None = None
        self._sending = False  # the kernel has not yet got all of the message
        self._last_piece = False  # the transport has
        self._written = 0
        self._accepted = 0
        self._full = False  # pause_writing
        self._wake: asyncio.Future[None] | None = None
        self._transport = connected.transport
        # Low water 0: "resumed" means that the kernel has it all, so that the wait for the answer begins then.
        self._transport.set_write_buffer_limits(high=AT_ONCE, low=0)
        self._transport.set_protocol(self)

    @property
    def is_alive(self) -> bool:
        """Whether it may be used: neither dead, nor leaving, nor known to be closed by the other side."""
        return not (self._is_over() or self._spent or self._transport.is_closing())

    @property
    def failure(self) -> HopFailure | None:
        """How it died, if it did."""
        return self._dead

    @property
    def _verb_of_body(self) -> Verb:
        return Verb.BDAT if self._chunking else Verb.DATA

    def _is_over(self) -> bool:
        return self._dead is not None or self._quitting

    # One transaction

    def begin(self, lines: Sequence[bytes], deadline: float) -> list[asyncio.Future[Answer]]:
        """MAIL and RCPTs (with CRLF), in one write where it offers PIPELINING: the futures of the answers, in order."""
        self._busy = True
        self.transactions += 1
        self._deadline = deadline
        return self._command(lines, [Verb.MAIL] + [Verb.RCPT] * (len(lines) - 1))

    def more(self, rcpts: Sequence[bytes]) -> list[asyncio.Future[Answer]]:
        """Further RCPTs, in one write where it offers PIPELINING.

        Each has the time of a command: `begin`'s deadline was for what was given to `begin`.
        """
        self._deadline = NEVER
        return self._command(rcpts, [Verb.RCPT] * len(rcpts))

    async def message(self, head: bytes, body: Body, deadline: float) -> Answer:
        """`head` and `body` by BDAT or DATA; the answer, by `deadline`. Refused half-way, the connection ends."""
        try:
            return await self._message(head, body, deadline)
        except BaseException:
            self.abort()
            raise

    async def _message(self, head: bytes, body: Body, deadline: float) -> Answer:
        self._deadline = deadline
        while self._due:  # a reply still out could be taken for the message's
            await self._news()
        if not self._chunking:
            [asked] = self._command([b"DATA\r\n"], [Verb.DATA])
            said = await asked
            if isinstance(said, HopFailure) or said.code != 354:
                return said
        if self._dead is not None:
            return self._epitaph(self._verb_of_body)
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._due.append((Verb.DOT, answer))
        try:
            if len(head) + body.size <= AT_ONCE:
                self._send_at_once(head, body)
            else:
                await self._send_in_pieces(head, body, answer)
            said = await answer
        except (OSError, ValueError) as error:  # the body cannot be read, or is not what it said: no end is sent
            self._die(FailureKind.INTERNAL, str(error))
            said = await answer
        if self._sending:  # refused: the rest is not worth sending
            self.abort()
        if isinstance(said, Reply) and self._chunking and said.code in _NO_SUCH_COMMAND:
            return replace(said, verb=Verb.BDAT)
        return said

    def finish(self) -> None:
        """The transaction is over: on_free now, or when the state is clean (RSET answered); QUIT where it is spent."""
        if self._dead is not None or not self._busy:
            return
        self._deadline = NEVER
        self._busy = False
        self._forget_unsent()
        if not self._due:
            self._settle()

    def abort(self) -> None:
        """Reset the socket: nothing more is sent, nothing read."""
        self._die(None, "given up")

    def quit(self) -> None:
        """QUIT (RFC 5321 4.1.1.10), and the end within QUIT_S whatever it answers."""
        if self._is_over():
            return
        self._quitting = True
        self._transport.write(b"QUIT\r\n")
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(QUIT_S, self.abort)

    # Commands out

    def _command(self, lines: Sequence[bytes], verbs: Sequence[Verb | None]) -> list[asyncio.Future[Answer]]:
        make = self._loop.create_future
        answers: list[asyncio.Future[Answer]] = [make() for _ in lines]
        if self._is_over():
            for verb, answer in zip(verbs, answers, strict=True):
                answer.set_result(self._epitaph(verb))
        elif self._pipelining:
            self._due.extend(zip(verbs, answers, strict=True))
            self._transport.write(b"".join(lines))
            self._watch(self._timeout.command)
        else:
            self._unsent.extend(zip(lines, verbs, answers, strict=True))
            self._send_next()
        return answers

    def _send_next(self) -> None:
        if self._unsent and not self._due:
            line, verb, answer = self._unsent.popleft()
            self._due.append((verb, answer))
            self._transport.write(line)
            self._watch(self._timeout.command)

    def _forget_unsent(self) -> None:
        while self._unsent:
            self._unsent.popleft()[2].cancel()

    def _settle(self) -> None:
        """All is answered and the transaction over: what now?"""
        if self._spent:
            self.quit()
        elif self._open:
            self._command([b"RSET\r\n"], [None])  # its answer leads back here
        else:
            self._on_free(self)

    # The message out

    def _send_at_once(self, head: bytes, body: Body) -> None:
        if self._chunking:
            message = b"".join((head, *body.content()))
            _check(message, len(message) - body.size - len(head))
            self._transport.write(b"BDAT %d LAST\r\n%b" % (len(message), message))
        else:
            message = b"".join((head, *body.wire()))
            _check(message, min(0, len(message) - body.size - len(head)))
            self._transport.write(message + b".\r\n")
        self._watch(self._timeout.final)

    async def _send_in_pieces(self, head: bytes, body: Body, answer: asyncio.Future[Answer]) -> None:
        """As fast as it takes them, until it answers or dies."""
        self._sending, self._last_piece = True, False
        self._written = self._accepted = 0
        self._watch(self._timeout.data)
        size = len(head) + body.size
        if self._chunking:
            self._transport.write(b"BDAT %d LAST\r\n" % size)
        sent, piece = 0, head
        for chunk in body.content() if self._chunking else body.wire():
            if not piece or not chunk:
                piece += chunk
                continue
            sent += len(piece)
            if self._chunking and sent >= size:
                break
            self._transport.write(piece)
            self._written += len(piece)
            if self._full:
                await self._news()
            else:
                await asyncio.sleep(0)  # a fast hop must not keep the others waiting
            if self._dead is not None or answer.done():
                return
            piece = chunk  # one behind, so that we know which is the last
        over = sent + len(piece) - size
        _check(piece, over if self._chunking else min(0, over))
        self._last_piece = True
        self._transport.write(piece if self._chunking else piece + b".\r\n")
        self._written += len(piece)
        if self._full:
            await self._news()
        else:
            self._sending = False
        if self._dead is None and not answer.done():
            self._watch(self._timeout.final)

    async def _news(self) -> None:
        """Until the transport holds nothing, the hop has answered, or the connection is dead."""
        self._wake = self._loop.create_future()
        await self._wake
        self._wake = None

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self._full = True

    def resume_writing(self) -> None:
        """The transport holds nothing."""
        self._full = False
        if self._last_piece:
            self._sending = False
        self._awaken()

    def _awaken(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # Replies in

    def data_received(self, data: bytes) -> None:
        """Match replies with what is due."""
        if self._is_over():
            self._transport.abort()  # 221, or whatever else it answers to QUIT; closing inside TLS may raise here
            return
        try:
            for lines in self._reader.feed(data):
                if self._due:
                    self._answered(lines)
                else:
                    self._unasked(lines)
                if self._is_over():
                    return
        except ReplyError as error:
            self._die(FailureKind.PROTOCOL, str(error))

    def _answered(self, lines: list[bytes]) -> None:
        verb, answer = self._due[0]
        reply = Reply.parse(lines, verb or Verb.MAIL)
        klass = reply.klass
        if not (reply.code == 354 or klass > 3 if verb is Verb.DATA else klass != 3):
            raise ReplyError(f"{reply.code} is no answer to {verb}")
        if verb is Verb.DOT and klass == 2 and self._sending:
            raise ReplyError("taken before it was sent")
        self._due.popleft()
        if verb is Verb.MAIL:
            self._open = klass == 2
            if klass != 2:
                self._moot(reply)
        elif verb is Verb.DOT:
            # After a refused BDAT the state is indeterminate until RSET (RFC 3030 2); after the dot it is not.
            self._open = self._chunking and klass != 2
        elif verb is None:
            self._open = False
            self._spent |= klass != 2
        self._spent |= reply.code == 421
        if not answer.done():  # else its caller went away
            answer.set_result(reply)
        if self._wake is not None:
            self._awaken()
        self._limit = NEVER
        if self._due:
            self._watch(self._timeout.command)
        elif self._unsent:
            self._send_next()
        elif not self._busy:
            self._settle()

    def _moot(self, refusal: Reply) -> None:
        """MAIL was refused: that is the answer to its RCPTs too, sent or not; what it says to them is not wanted."""
        for answer in (*(due[-1] for due in self._due), *(unsent[-1] for unsent in self._unsent)):
            if not answer.done():
                answer.set_result(refusal)
        self._unsent.clear()

    def _unasked(self, lines: list[bytes]) -> None:
        if lines[0][:3] == b"421":  # RFC 5321 3.8: it may say so at any time
            self._die(FailureKind.DISCONNECT, lines[0][:200].decode("latin-1"))
        else:
            self._die(FailureKind.PROTOCOL, f"{lines[0][:40]!r} without a question")

    # The end

    def eof_received(self) -> None:
        """It closes: what is due will not come."""
        self._die(FailureKind.DISCONNECT, "closed by the next hop")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._die(FailureKind.DISCONNECT, str(exc) if exc else "closed")

    def _die(self, kind: FailureKind | None, detail: str) -> None:
        """Abort; every answer still out becomes the failure. No kind: our own wish, which is no failure of the hop."""
        if self._dead is not None:
            return
        verb = self._due[0][0] if self._due else None
        if verb is Verb.DOT and (self._sending or kind is FailureKind.INTERNAL):
            verb = self._verb_of_body
        failure = HopFailure(kind or FailureKind.DISCONNECT, verb or Verb.MAIL, detail, unknown=verb is Verb.DOT)
        self._dead = failure
        is_under_way = self._busy and (self._open or bool(self._due))
        for answer in (*(due[-1] for due in self._due), *(unsent[-1] for unsent in self._unsent)):
            if not answer.done():
                answer.set_result(failure)
        self._due.clear()
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._awaken()
        self._transport.abort()
        self._on_gone(self, failure if kind is not None and is_under_way else None)

    def _epitaph(self, verb: Verb | None) -> HopFailure:
        """What a command gets that was not sent because the connection is dead."""
        dead = self._dead or HopFailure(FailureKind.DISCONNECT, Verb.MAIL, "leaving")
        return replace(dead, verb=verb or Verb.MAIL, unknown=False)

    # Time

    def _watch(self, limit_s: float) -> None:
        """Be patient for so long from now, but not beyond the deadline."""
        now = self._loop.time()
        self._limit = min(now + limit_s, self._deadline)
        self._arm(now)

    def _arm(self, now: float) -> None:
        # While sending, look often enough to know when the last octet was taken.
        step = min(self._tick_s, self._timeout.data / 8) if self._sending else self._tick_s
        when = min(self._limit, now + step)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._due:
            return
        now = self._loop.time()
        if self._sending:
            accepted = self._written - self._transport.get_write_buffer_size()
            if accepted > self._accepted:
                self._accepted = accepted
                self._limit = min(now + self._timeout.data, self._deadline)
        if now < self._limit:
            self._arm(now)
        else:
            self._die(FailureKind.TIMEOUT, "no answer in time")


def _check(end: bytes, over: int) -> None:
    """ValueError where a message is `over` octets longer than it said (or shorter), or does not end a line."""
    if over:
        raise ValueError(f"the body is {over:+} octets off its size")
    if end and not end.endswith(b"\r\n"):  # else the dot would not stand alone, and the message run on into the next
        raise ValueError("the message does not end in CRLF")


def size_of(keywords: dict[str, str]) -> int | None:
    """RFC 1870 4: the parameter of SIZE, 0 where it gives none; None where SIZE is not offered."""
    offered = keywords.get("SIZE")
    if offered is None:
        return None
    return int(offered) if offered.isascii() and offered.isdigit() else 0
