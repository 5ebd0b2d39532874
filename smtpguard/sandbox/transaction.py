"""From a command to its answer, and from MAIL to the end of the message: turns, and what they have effect on.

Each command becomes a turn: the reply that is due and its effect, kept apart so that a script may have the one without
the other. DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030) end alike: with a turn at DOT, whose effect is the message kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from smtpguard.sandbox.message import Dots, Message, Spool
from smtpguard.sandbox.script import Action, After
from smtpguard.sandbox.wire import House, Step, Wire

NO_ORDER: Final = b"503 5.5.1 Error: bad sequence of commands\r\n"


@dataclass(slots=True)
class Transaction:
    mail_from: bytes
    params: tuple[bytes, ...]
    spool: Spool
    rcpts: list[tuple[bytes, tuple[bytes, ...]]] = field(default_factory=list)
    last_word: Action | None = None  # what an address asked for after the message
    via: Literal["DATA", "BDAT"] = "DATA"
    begun: bool = False  # octets of the message came, or 354 went out
    failed: bool = False  # RFC 3030 4.2: after a failed chunk only RSET helps
    answered: bool = False


class _Turn:
    """One command that waits for its answer: `script.Turn`."""

    __slots__ = ("_receiver", "_take", "_wish", "reply")

    def __init__(self, receiver: Receiver, reply: bytes, take: Step | None, wish: Action | None) -> None:
        self.reply = reply
        self._receiver = receiver
        self._take = take
        self._wish = wish

    def normal(self) -> None:
        wish, self._wish = self._wish, None
        if wish is not None:
            wish.play(self)
        else:
            self.send(self.reply)
            self.take()

    def take(self) -> None:
        take, self._take = self._take, None
        if take is not None:
            take()

    def send(self, octets: bytes) -> None:
        self._receiver.outbox.append(octets)

    def drip(self, octets: bytes, interval_s: float) -> None:
        self._receiver.drip(octets, interval_s)

    def pour(self, pieces: Iterator[bytes]) -> None:
        self._receiver.pour(pieces)

    def close(self) -> None:
        self._receiver.close()

    def reset(self) -> None:
        self._receiver.reset()

    def hang(self) -> None:
        self._receiver.ignore()

    def stop_reading(self) -> None:
        self._receiver.hold()

    def later(self, delay_s: float, then: Step) -> None:
        self._receiver.hold_for(delay_s, then)

    def upon_octets(self, then: Step) -> None:
        self._receiver.upon_octets(then)

    def answered(self) -> None:
        self._receiver.answer_no_more()


class Receiver(Wire):
    """One connection's transaction. The commands that open it are the dialogue's."""

    def __init__(self, house: House, number: int) -> None:
        super().__init__(house, number)
        self.mode: Callable[[], bool] = self.read_command
        self.helo = b""
        self.login = ""
        self.transaction: Transaction | None = None
        self._ended: Transaction | None = None  # after its end, until its answer was decided
        self._occurrences: dict[str, int] = {}
        self._dots = Dots()
        self._chunk_left = 0
        self._chunk_last = False
        self._chunk_refusal = b""
        self._in_body: Action | None = None
        self._in_body_after = 0
        self._body_octets = 0

    @abstractmethod
    def read_command(self) -> bool:
        """Use a command line of `inbox`; False where there is none yet."""

    def read(self) -> bool:
        return self.mode()

    # -- turns

    def answer(self, verb: str, reply: bytes, take: Step | None = None, wish: Action | None = None) -> None:
        action = self.house.cue(verb, self.number, self._occurrences) or wish
        if action is None:
            self.outbox.append(reply)
            if take is not None:
                take()
        else:
            action.play(_Turn(self, reply, take, None if action is wish else wish))
        if not self.held:
            self.settle()

    def settle(self) -> None:
        if self._ended is not None:
            self._ended.spool.drop()  # nothing happens where it was kept
            self._ended = None
        if self.deaf:
            self.forget()

    def say(self, reply: bytes) -> None:
        self.outbox.append(reply)

    def forget(self) -> None:
        if self.transaction is not None:
            self.transaction.spool.drop()
            self.transaction = None

    def upon_octets(self, then: Step) -> None:
        def read() -> bool:
            if self.inbox:
                self.mode = self.read_command
                self.inbox.clear()
                then()
            return False

        self.mode = read

    # -- the message

    def begin_data(self) -> None:
        self._dots = Dots()
        self.mode = self._read_data
        self._begin_message("DATA")

    def _begin_message(self, via: Literal["DATA", "BDAT"]) -> None:
        assert self.transaction is not None
        self.transaction.begun = True
        self.transaction.via = via
        self._body_octets = 0
        action = self.house.cue("BODY", self.number, self._occurrences)
        self._in_body_after = action.octets if isinstance(action, After) else 0
        self._in_body = action

    def _play_in_body(self, octets: int) -> bool:
        """Count octets of the message and play what the script has for them; False where they must wait."""
        seen = self._body_octets + octets
        action = self._in_body
        if action is not None and seen > self._in_body_after:
            self._in_body = None
            action.play(_Turn(self, b"", None, None))
        if self.held or self.deaf:
            return False
        self._body_octets = seen
        return True

    def _read_data(self) -> bool:
        if not self.inbox or not self._play_in_body(len(self.inbox)):
            return False
        transaction = self.transaction
        assert transaction is not None
        octets, rest = self._dots.feed(bytes(self.inbox))
        self.inbox.clear()
        transaction.spool.write(octets)
        if rest is None:
            return False
        self.inbox += rest
        self.mode = self.read_command
        self._end(transaction)
        return True

    def begin_chunk(self, octets: int, refusal: bytes, *, last: bool) -> None:
        """Read a chunk. Where it is refused its octets are thrown away first (RFC 3030 2)."""
        self._chunk_left, self._chunk_last, self._chunk_refusal = octets, last, refusal
        if not refusal and self.transaction is not None and not self.transaction.begun:
            self._begin_message("BDAT")
        self.mode = self._read_chunk

    def _read_chunk(self) -> bool:
        transaction = self.transaction
        if self._chunk_left:
            count = min(len(self.inbox), self._chunk_left)
            if not count or (not self._chunk_refusal and not self._play_in_body(count)):
                return False
            if transaction is not None and not self._chunk_refusal:
                transaction.spool.write(bytes(self.inbox[:count]))
            del self.inbox[:count]
            self._chunk_left -= count
            if self._chunk_left:
                return False
        self.mode = self.read_command
        if self._chunk_refusal or transaction is None:
            if transaction is not None:
                transaction.failed = True
            self.answer("DOT" if self._chunk_last else "BDAT", self._chunk_refusal)
        elif self._chunk_last:
            self._end(transaction)
        elif transaction.answered:
            transaction.failed = True
        else:
            self.answer("BDAT", b"250 2.0.0 Ok: %d octets so far\r\n" % transaction.spool.size)
        return True

    def _end(self, transaction: Transaction) -> None:
        self.transaction, self._ended = None, transaction
        self._in_body = None
        if transaction.answered:
            return self.settle()
        if transaction.spool.too_large:
            return self.answer("DOT", b"552 5.3.4 Message size exceeds fixed limit\r\n")
        name = self.house.queue_id()
        reply = f"250 2.0.0 Ok: queued as {name}\r\n".encode()
        return self.answer("DOT", reply, partial(self._take, transaction, name), transaction.last_word)

    def _take(self, transaction: Transaction, name: str) -> None:
        data, path = transaction.spool.keep(name)
        self.house.accept(
            Message(
                id=name,
                mail_from=transaction.mail_from,
                params=transaction.params,
                rcpts=transaction.rcpts,
                data=data,
                size=transaction.spool.size,
                via=transaction.via,
                tls=self.tls,
                login=self.login,
                helo=self.helo,
                connection=self.number,
                path=path,
            )
        )

    def answer_no_more(self) -> None:
        """The message under way has had its answer."""
        if self.transaction is not None:
            self.transaction.answered = True
