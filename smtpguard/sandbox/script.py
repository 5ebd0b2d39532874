"""What a scripted next hop does instead of answering: actions, and the `Script` that says when.

An action is a small value with one method, `play`, which is given the turn: one command of the client that waits for
its answer. `Sandbox` plays the script's action for the verb, else the one that the address asks for, else answers as
SMTP wants it. Every fault of reliability.md ("next hop faults") can be written as a literal:

    Script({"MAIL": [Say("451 4.3.0 later"), Ok()]})             the first MAIL of all is deferred, the others are not
    Script({"RCPT": Say("550 5.7.1 no")})                        every RCPT
    Script({"DOT": [CommitThenClose(), Ok()]})                   RFC 1047: taken, and nobody was told
    Script({"BODY": After(100_000, Reset())})                    in the middle of the message
    Script({"CONNECT": Close()}, connections=lambda n: n <= 2)   the first two connections

Nothing here touches a socket; tests may add actions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

# HELO counts as EHLO; `Script` says what the others mean.
VERBS: Final = frozenset(
    ("CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "BODY", "DOT", "RSET", "QUIT", "NOOP")
)

MAX_FLOOD_OCTETS: Final = 64 << 20  # a fault that ends: tests of it must not fill a disk or a log


class Turn(Protocol):
    """One command that waits for its answer, and what may be done about it. Steps happen in the order asked for."""

    reply: bytes
    """The answer that is due by the protocol, with CRLF; empty for BODY."""

    def normal(self) -> None:
        """Go on as if there were no script: the answer that the address asks for, else `reply`, and its effect."""

    def take(self) -> None:
        """The effect of a good answer alone (sender set, recipient added, message stored, TLS begun). Once."""

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""

    def drip(self, octets: bytes, interval_s: float) -> None:
        """Send octet by octet; what arrives meanwhile waits."""

    def pour(self, pieces: Iterator[bytes]) -> None:
        """Send as fast as the client reads, then close."""

    def close(self) -> None:
        """FIN after what was sent; nothing more is answered."""

    def reset(self) -> None:
        """RST, now; what was not yet sent is lost."""

    def hang(self) -> None:
        """Answer nothing from here on; what arrives is read and thrown away."""

    def stop_reading(self) -> None:
        """Leave what arrives in the socket, so that the client's writes come to a halt."""

    def later(self, delay_s: float, then: Callable[[], None]) -> None:
        """Do `then` after `delay_s`; what arrives meanwhile waits."""

    def upon_octets(self, then: Callable[[], None]) -> None:
        """Do `then` when the client next sends anything, in place of understanding it."""

    def answered(self) -> None:
        """BODY only: the message has had its answer; none is given at its end, and it is not stored."""


class Action(Protocol):
    """Something to do at a verb."""

    def play(self, turn: Turn) -> None: ...


def octets_of(text: str | bytes) -> bytes:
    """Octets as they are; text as reply lines: each line of it ends in CRLF."""
    return text if isinstance(text, bytes) else b"".join(line.encode() + b"\r\n" for line in text.splitlines())


def _speak(turn: Turn, octets: bytes) -> None:
    turn.send(octets)
    if octets[:1] == turn.reply[:1]:
        turn.take()


@dataclass(frozen=True, slots=True)
class Ok:
    """What would be done without a script. At the end of a list: "then as usual"."""

    def play(self, turn: Turn) -> None:
        turn.normal()


@dataclass(frozen=True, slots=True)
class Say:
    """Answer with this text (one line or several) or these raw octets. It has the usual effect where its first digit is
    the usual answer's (so 250 to DATA has none), else none.

    In BODY it is one reply too many: the answer to the dot follows all the same (see `EarlySay`).
    """

    text: str | bytes

    def play(self, turn: Turn) -> None:
        _speak(turn, octets_of(self.text))


@dataclass(frozen=True, slots=True)
class Close:
    """Close without an answer (FIN)."""

    def play(self, turn: Turn) -> None:
        turn.close()


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """Answer as usual, or with `text`, and close."""

    text: str | bytes = b""

    def play(self, turn: Turn) -> None:
        if self.text:
            _speak(turn, octets_of(self.text))
        else:
            turn.normal()
        turn.close()


@dataclass(frozen=True, slots=True)
class CommitThenClose:
    """Have the effect (DOT: store the message) and close without an answer."""

    def play(self, turn: Turn) -> None:
        turn.take()
        turn.close()


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection (RST)."""

    def play(self, turn: Turn) -> None:
        turn.reset()


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer again; go on reading."""

    def play(self, turn: Turn) -> None:
        turn.hang()


@dataclass(frozen=True, slots=True)
class StopReading:
    """Neither answer nor read, for `seconds` (None: for ever); after that as usual."""

    seconds: float | None = None

    def play(self, turn: Turn) -> None:
        if self.seconds is None:
            turn.stop_reading()
        else:
            turn.later(self.seconds, turn.normal)


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, then play another action."""

    seconds: float
    action: Action = Ok()

    def play(self, turn: Turn) -> None:
        turn.later(self.seconds, lambda: self.action.play(turn))


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answer with octets that are no reply; the dialogue goes on."""

    octets: bytes = b"\x16\x03\x00\xff\xfe\x1b[2Jno SMTP is spoken here\x00\r\n"

    def play(self, turn: Turn) -> None:
        turn.send(self.octets)


@dataclass(frozen=True, slots=True)
class Surplus:
    """Answer as usual and add lines that nobody asked for, in the same packet."""

    extra: str | bytes = "250 2.0.0 and one more"

    def play(self, turn: Turn) -> None:
        turn.normal()
        turn.send(octets_of(self.extra))


@dataclass(frozen=True, slots=True)
class Mixed:
    """One reply whose lines bear different codes (RFC 5321 4.2.1 forbids it); without effect."""

    text: str = "250-2.0.0 yes\n550 5.0.0 no"

    def play(self, turn: Turn) -> None:
        turn.send(octets_of(self.text))


@dataclass(frozen=True, slots=True)
class Half:
    """The beginning of a reply, then nothing more, or FIN; without effect."""

    octets: bytes = b"250 2.0"
    then: Literal["hang", "close"] = "hang"

    def play(self, turn: Turn) -> None:
        turn.send(self.octets)
        if self.then == "close":
            turn.close()
        else:
            turn.hang()


@dataclass(frozen=True, slots=True)
class Drip:
    """The usual answer, or `text`, octet by octet: one each `interval_s`, or all of it spread over `over_s`."""

    interval_s: float = 0.1
    over_s: float | None = None
    text: str | bytes = b""

    def play(self, turn: Turn) -> None:
        octets = octets_of(self.text) or turn.reply
        turn.drip(octets, self.interval_s if self.over_s is None else self.over_s / max(1, len(octets) - 1))
        if octets[:1] == turn.reply[:1]:
            turn.take()


@dataclass(frozen=True, slots=True)
class Flood:
    """Continuation lines without an end (`octets` of them, at most 64 MiB), then FIN."""

    octets: int = MAX_FLOOD_OCTETS
    line: bytes = b"250-and furthermore\r\n"

    def play(self, turn: Turn) -> None:
        turn.pour(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        piece = self.line * max(1, 65_536 // len(self.line))
        left = min(self.octets, MAX_FLOOD_OCTETS)
        while left > 0:
            yield piece[:left]
            left -= len(piece)


@dataclass(frozen=True, slots=True)
class EarlySay:
    """BODY: answer before the message is complete, then read on, stop reading, or close. It is not stored."""

    text: str | bytes = "552 5.3.4 too large"
    then: Literal["read", "stop", "close"] = "read"

    def play(self, turn: Turn) -> None:
        turn.send(octets_of(self.text))
        turn.answered()
        if self.then == "stop":
            turn.stop_reading()
        elif self.then == "close":
            turn.close()


@dataclass(frozen=True, slots=True)
class After:
    """BODY: play `action` once more than `octets` of the message arrived; a shorter message passes as usual."""

    octets: int
    action: Action

    def play(self, turn: Turn) -> None:
        self.action.play(turn)


@dataclass(frozen=True, slots=True)
class FalseTls:
    """STARTTLS: say 220 and answer the client's TLS hello with these octets."""

    octets: bytes = b"\x15\x03\x03\x00\x02\x02\x28"  # RFC 8446 6.2: alert, fatal, handshake_failure

    def play(self, turn: Turn) -> None:
        turn.send(turn.reply)

        def answer() -> None:
            turn.send(self.octets)
            turn.hang()

        turn.upon_octets(answer)


class Script:
    """When which action is played.

    `actions`: for a verb one action or a list of them: the nth occurrence of the verb plays the nth, the last one
    repeats. End the list with `Ok()` for "then as usual". Occurrences are counted over all connections, or, with
    `each_connection`, on each anew. `connections`: the numbers (from 1) of the connections to which the script applies,
    as a container (`range(1, 4)`, `{2}`) or a predicate; None for all.

    Verbs are those of `smtpguard.mail.reply.Verb`, with these meanings and additions:
    CONNECT the greeting; STARTTLS also the handshake of `implicit_tls` (there `reply` is empty); AUTH the AUTH command,
    not the lines after a challenge; BDAT a chunk that is not the last; DOT the end of data, or BDAT LAST; BODY the
    first octets of a message (see `After`); RSET, QUIT, NOOP. An unknown verb is a ValueError.
    """

    def __init__(
        self,
        actions: Mapping[str, Action | Sequence[Action]],
        *,
        connections: Container[int] | Callable[[int], bool] | None = None,
        each_connection: bool = False,
    ) -> None:
        strange = sorted(set(actions) - VERBS)
        if strange:
            raise ValueError(f"no such verb: {', '.join(strange)}; known are {', '.join(sorted(VERBS))}")
        self._actions = {
            str(verb): tuple(play) if isinstance(play, Sequence) else (play,) for verb, play in actions.items()
        }
        self._connections = connections
        self.each_connection = each_connection

    def action(self, verb: str, occurrence: int) -> Action | None:
        """The action for the nth occurrence (from 0) of a verb; None: as usual."""
        actions = self._actions.get(verb)
        if not actions:
            return None
        return actions[min(occurrence, len(actions) - 1)]

    def applies(self, connection: int) -> bool:
        """Whether it is about the connection of this number (from 1)."""
        chosen = self._connections
        if chosen is None:
            return True
        return chosen(connection) if callable(chosen) else connection in chosen
