"""One open connection to a next hop: commands pipelined, replies watched, no doubt which reply is whose.

RFC 5321 (commands and replies), RFC 2920 (PIPELINING), RFC 3030 (BDAT), RFC 1870 (SIZE), RFC 1047 (the lost answer).

Rules of this file:
- Each command sent leaves one entry in `_due`; each reply takes one. A reply that cannot be the answer (surplus, a 2xx
  to DATA, a 3xx to anything else, a 2xx before the message was sent) ends the connection: nothing after it is believed.
- Nothing is raised for what the hop does. An answer is a `Reply` or a `HopFailure`; a dead connection answers all later
  commands with how it died.
- Nothing waits here: answers are told (`Hears`) within the call that brought them. Telling is the last thing done, for
  who hears an answer may ask anew, finish, abort, or begin the next transaction before it returns.
- One timer, armed anew only when it has run out: a kept connection makes none in a transaction.
- No octet is changed: the message goes out as the body gives it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from smtpguard.config.settings import TimeoutSettings
from smtpguard.edge import burst
from smtpguard.edge.connect import Connected
from smtpguard.edge.reader import FAMILIAR, ReplyReader, learn
from smtpguard.edge.sending import AT_ONCE, Sending, at_once
from smtpguard.edge.slots import Groups
from smtpguard.flow import Body
from smtpguard.mail.reply import Answer, FailureKind, HopFailure, Reply, ReplyError, Verb

QUIT_S: Final = 2.0  # how long we wait for the answer to QUIT
NEVER: Final = float("inf")

# A receiver that dislikes the command, not the message (contract 1.4); to BDAT one reply answers both.
_NO_SUCH_COMMAND: Final = frozenset({500, 501, 502, 503, 504, 530, 535, 538, 555})

# RFC 5321 3.8: 421 may be said at any time; 221 unasked says the same, and answers nothing but QUIT
_GOODBYES: Final = (b"421", b"221")


class Hears(Protocol):
    """Whose transaction a connection carries."""

    def heard(self, verb: Verb, answer: Answer) -> None:
        """The answer to MAIL, to the next of the RCPTs, or (verb DOT) to the message. Never raises."""


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
        self.held: Groups | None = None
        """What its slot was taken under, while it carries a transaction; the pool's to use."""
        self._pipelining = "PIPELINING" in keywords
        self._chunking = "CHUNKING" in keywords
        self.size_limit = size_of(keywords)
        self._timeout = timeout
        self._on_free = on_free
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._reader = ReplyReader()
        self._hears: Hears | None = None  # None: whoever asked does not want to know any more
        self._due: deque[Verb | None] = deque()  # None: RSET
        self._unsent: deque[tuple[bytes, Verb | None]] = deque()  # without PIPELINING
        self._told: list[tuple[Hears, Verb, Answer]] | None = None  # while octets are matched: answers not told yet
        self._message: tuple[bytes, Body] | None = None  # to be sent when nothing is due
        self._is_asked_for = False  # by 354
        self._open = False  # MAIL was taken, and the message not yet answered
        self._spent = False  # it said 421: no further transaction
        self._busy = False  # between `begin` and `finish`
        self._is_over = False  # dead, or leaving
        self._dead: HopFailure | None = None
        self._deadline = NEVER
        self._limit = NEVER  # when patience ends
        self._tick_s = min(timeout.command, timeout.data, timeout.final)
        self._timer: asyncio.TimerHandle | None = None
        self._ticks_at = NEVER
        self._sending: Sending | None = None  # the kernel has not yet got all of the message
        self._transport = connected.transport
        self._write = partial(burst.of(self._loop).write, self._transport)
        # Low water 0: "resumed" means that the kernel has it all, so that the wait for the answer begins then.
        self._transport.set_write_buffer_limits(high=AT_ONCE, low=0)
        self._transport.set_protocol(self)

    @property
    def is_alive(self) -> bool:
        """Whether it may be used: neither dead, nor leaving, nor known to be closed by the other side."""
        return not (self._is_over or self._spent or self._transport.is_closing())

    @property
    def failure(self) -> HopFailure | None:
        """How it died, if it did."""
        return self._dead

    @property
    def _verb_of_body(self) -> Verb:
        return Verb.BDAT if self._chunking else Verb.DATA

    # One transaction

    def begin(self, lines: Sequence[bytes], deadline: float, hears: Hears) -> None:
        """MAIL and RCPTs (with CRLF), in one write where it offers PIPELINING. `hears` is told the answers, in order.

        A MAIL that is refused or not answered is the last that it is told: its RCPTs are moot.
        """
        self._busy = True
        self.transactions += 1
        self._deadline = deadline
        self._hears = hears
        self._command(lines, Verb.MAIL)

    def more(self, rcpts: Sequence[bytes]) -> None:
        """Further RCPTs, in one write where it offers PIPELINING.

        Each has the time of a command: `begin`'s deadline was for what was given to `begin`.
        """
        self._deadline = NEVER
        self._command(rcpts, Verb.RCPT)

    def message(self, head: bytes, body: Body, deadline: float) -> None:
        """`head` and `body` by BDAT or DATA, to be answered by `deadline`. Refused half-way, the connection ends."""
        self._deadline = deadline
        self._message = head, body
        if not self._due:  # else a reply still out could be taken for the message's
            self._hand_over()

    def finish(self) -> None:
        """The transaction is over: on_free now, or when the state is clean (RSET answered); QUIT where it is spent."""
        self._hears = None
        if self._dead is not None or not self._busy:
            return
        self._deadline = NEVER
        self._busy = False
        self._unsent.clear()
        if not self._due:
            self._settle()

    def abort(self) -> None:
        """Reset the socket: nothing more is sent, nothing read; what is due is told as lost."""
        self._die(None, "given up")

    def quit(self) -> None:
        """QUIT (RFC 5321 4.1.1.10), and the end within QUIT_S whatever it answers."""
        if self._is_over:
            return
        self._is_over = True
        self._write(b"QUIT\r\n")
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(QUIT_S, self.abort)

    # Commands out

    def _command(self, lines: Sequence[bytes], first: Verb | None) -> None:
        """Lines of which the first is this verb, the others RCPT."""
        if self._is_over:
            self._tell_all([first, *[Verb.RCPT] * (len(lines) - 1)], self._epitaph)
        elif self._pipelining:
            self._due.append(first)
            if len(lines) > 1:
                self._due.extend([Verb.RCPT] * (len(lines) - 1))
                self._write(b"".join(lines))
            else:
                self._write(lines[0])
            self._watch(self._timeout.command)
        else:
            self._unsent.append((lines[0], first))
            self._unsent.extend((line, Verb.RCPT) for line in lines[1:])
            self._send_next()

    def _send_next(self) -> None:
        if self._unsent and not self._due:
            line, verb = self._unsent.popleft()
            self._due.append(verb)
            self._write(line)
            self._watch(self._timeout.command)

    def _settle(self) -> None:
        """All is answered and the transaction over: what now?"""
        if self._spent or not self._reader.is_between:  # it began to say what nobody asked
            self.quit()
        elif self._open:
            self._command([b"RSET\r\n"], None)  # its answer leads back here
        else:
            self._on_free(self)

    # The message out

    def _hand_over(self) -> None:
        """Nothing is due: DATA, or the message itself."""
        if self._is_over:
            self._message = None
            self._tell(Verb.DOT, self._epitaph(self._verb_of_body))
        elif self._chunking:
            self._send_message()
        else:
            self._due.append(Verb.DATA)
            self._write(b"DATA\r\n")
            self._watch(self._timeout.command)

    def _send_message(self) -> None:
        assert self._message is not None
        head, body = self._message
        self._message, self._is_asked_for = None, False
        self._due.append(Verb.DOT)
        try:
            if len(head) + body.size <= AT_ONCE:
                octets = at_once(head, body, chunking=self._chunking)
                if len(octets) <= burst.SMALL:
                    self._write(octets)
                else:  # nothing is due, so that nothing else of ours waits
                    self._transport.write(octets)
                self._watch(self._timeout.final)
            else:
                self._sending = Sending(
                    self._transport, head, body, self._sent, self._cannot_send, chunking=self._chunking
                )
                self._watch(self._timeout.data)
                self._sending.begin()
        except (OSError, ValueError) as error:
            self._cannot_send(error)

    def _sent(self) -> None:
        """The kernel has all of the message."""
        self._sending = None
        self._watch(self._timeout.final)

    def _cannot_send(self, error: Exception) -> None:
        """The body cannot be read, or is not what it said: no end is sent."""
        self._die(FailureKind.INTERNAL, str(error))

    def pause_writing(self) -> None:
        """The transport holds enough."""
        if self._sending is not None:
            self._sending.is_full = True

    def resume_writing(self) -> None:
        """The transport holds nothing."""
        if self._sending is not None:
            self._sending.is_full = False
            self._sending.go_on()

    # Replies in

    def data_received(self, data: bytes) -> None:
        """Match all that came with what is due, then send what its turn is, then tell.

        Nobody who hears an answer and asks anew may be given for one what came before.
        """
        if self._is_over:
            self._transport.abort()  # 221, or whatever else it answers to QUIT; closing inside TLS may raise here
            return
        if self._takes(data):
            return
        told = self._told = []
        is_news = not self._due
        try:
            for lines in self._reader.feed(data):
                is_news = True
                if self._due:
                    self._answered(lines)
                else:
                    self._unasked(lines)
                if self._dead is not None:
                    break
            else:
                if is_news:  # part of a reply gains it no time
                    self._what_next()
        except ReplyError as error:
            self._die(FailureKind.PROTOCOL, str(error))
            self._doubt()
        self._told = None
        for hears, verb, answer in told:
            if hears is not self._hears:
                continue  # the transaction ended with the answer before
            if verb is Verb.MAIL:
                self._tell(verb, answer)
            else:
                hears.heard(verb, answer)

    def _takes(self, data: bytes) -> bool:
        """The yes to the only command that is out, in octets that were one before: nearly all that ever comes."""
        if len(self._due) != 1 or self._unsent or self._sending is not None or not self._reader.is_between:
            return False
        verb = self._due[0]
        if verb is None or (reply := FAMILIAR[verb].get(data)) is None:
            return False
        if verb is Verb.DATA:
            self._due.clear()
            self._send_message()
            return True
        hears = self._hears
        if hears is None or self._message is not None:
            return False
        self._due.clear()
        self._open = verb is not Verb.DOT
        hears.heard(verb, reply)
        return True

    def _answered(self, lines: list[bytes]) -> None:
        verb = self._due[0]
        reply = Reply.parse(lines, verb or Verb.MAIL)
        code = reply.code
        klass = code // 100
        if not (code == 354 or klass > 3 if verb is Verb.DATA else klass != 3):
            raise ReplyError(f"{code} is no answer to {verb}")
        if verb is Verb.DOT and klass == 2 and self._sending is not None:
            raise ReplyError("taken before it was sent")
        self._due.popleft()
        if code < 400 and verb is not None and len(lines) == 1:
            learn(lines[0], reply)
        elif code == 421:
            self._spent = True
        if verb is Verb.DATA:
            self._is_asked_for = klass == 3
            if klass == 3:
                return
            self._message = None
            verb = Verb.DOT
        elif verb is Verb.MAIL:
            self._open = klass == 2
            if klass != 2:
                self._unsent.clear()
        elif verb is Verb.DOT:
            # After a refused BDAT the state is indeterminate until RSET (RFC 3030 2); after the dot it is not.
            self._open = self._chunking and klass != 2
            if self._chunking and code in _NO_SUCH_COMMAND:
                reply = replace(reply, verb=Verb.BDAT)
        elif verb is None:
            self._open = False
            self._spent |= klass != 2
            return
        if self._hears is not None and self._told is not None:
            self._told.append((self._hears, verb, reply))
        if verb is Verb.DOT and self._sending is not None:  # refused: the rest is not worth sending
            self._die(None, "given up")

    def _what_next(self) -> None:
        """All that came is matched."""
        self._limit = NEVER
        if self._due:
            self._watch(self._timeout.command)
        elif self._unsent:
            self._send_next()
        elif self._is_asked_for:
            self._send_message()
        elif self._message is not None:
            self._hand_over()
        elif not self._busy:
            self._settle()

    def _tell(self, verb: Verb, answer: Answer) -> None:
        hears = self._hears
        if hears is None:
            return
        if self._told is not None:
            self._told.append((hears, verb, answer))
            return
        if verb is Verb.MAIL and not (isinstance(answer, Reply) and answer.code < 300):
            self._hears = None  # that is the answer to its RCPTs too; what it says to them is not wanted
        hears.heard(verb, answer)

    def _tell_all(self, verbs: Sequence[Verb | None], failure: Callable[[Verb], HopFailure]) -> None:
        for verb in verbs:
            if verb is not None:
                self._tell(Verb.DOT if verb is Verb.DATA else verb, failure(verb))

    def _unasked(self, lines: list[bytes]) -> None:
        if lines[0][:3] in _GOODBYES:
            self._die(FailureKind.DISCONNECT, lines[0][:200].decode("latin-1"))
        else:
            self._die(FailureKind.PROTOCOL, f"{lines[0][:40]!r} without a question")
            self._doubt()

    def _doubt(self) -> None:
        """What came is no answer: a refusal that came with it may have been meant for another command, or for none."""
        if self._told is not None:
            self._told[:] = [(hears, verb, self._doubted(answer)) for hears, verb, answer in self._told]

    def _doubted(self, answer: Answer) -> Answer:
        if isinstance(answer, HopFailure) or answer.klass <= 3:
            return answer
        return replace(self._epitaph(answer.verb), unknown=answer.verb is Verb.DOT)  # it has the whole message

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
        verb = self._due[0] if self._due else None
        if verb is Verb.DOT and (self._sending is not None or kind is FailureKind.INTERNAL):
            verb = self._verb_of_body
        failure = HopFailure(kind or FailureKind.DISCONNECT, verb or Verb.MAIL, detail, unknown=verb is Verb.DOT)
        self._dead = failure
        self._is_over = True
        is_under_way = self._busy and (self._open or bool(self._due))
        due = [*self._due, *(verb for _, verb in self._unsent)]
        is_unsent = self._message is not None and Verb.DATA not in due  # its turn had not come
        self._due.clear()
        self._unsent.clear()
        self._message, self._is_asked_for = None, False
        if self._sending is not None:
            self._sending.stop()
            self._sending = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()
        self._on_gone(self, failure if kind is not None and is_under_way else None)
        self._tell_all(due, lambda _: failure)
        if is_unsent:
            self._tell(Verb.DOT, self._epitaph(self._verb_of_body))

    def _epitaph(self, verb: Verb) -> HopFailure:
        """What a command gets that was not sent because the connection is dead."""
        dead = self._dead or HopFailure(FailureKind.DISCONNECT, Verb.MAIL, "leaving")
        return replace(dead, verb=verb, unknown=False)

    # Time

    def _watch(self, limit_s: float) -> None:
        """Be patient for so long from now, but not beyond the deadline."""
        now = self._loop.time()
        limit = now + limit_s
        self._limit = limit = min(limit, self._deadline)
        if self._ticks_at > limit or self._sending is not None:
            self._arm(now)

    def _arm(self, now: float) -> None:
        # While sending, look often enough to know when the last octet was taken.
        step = min(self._tick_s, self._timeout.data / 8) if self._sending is not None else self._tick_s
        when = min(self._limit, now + step)
        if self._timer is not None:
            if self._ticks_at <= when:
                return
            self._timer.cancel()
        self._ticks_at = when
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._ticks_at = NEVER
        if not self._due:
            return
        now = self._loop.time()
        if self._sending is not None and self._sending.has_progressed():
            self._limit = min(now + self._timeout.data, self._deadline)
        if now < self._limit:
            self._arm(now)
        else:
            self._die(FailureKind.TIMEOUT, "no answer in time")


def size_of(keywords: dict[str, str]) -> int | None:
    """RFC 1870 4: the parameter of SIZE, 0 where it gives none; None where SIZE is not offered."""
    offered = keywords.get("SIZE")
    if offered is None:
        return None
    return int(offered) if offered.isascii() and offered.isdigit() else 0
