"""The next hop that misbehaves: every fault, at every point of the dialogue, and an account of what it took.

It is the sandbox with a script: `FAULTS` are its ways to misbehave by name, `at` says which of them make sense where,
`Dice` plays them by chance. What is taken and then not answered in time goes through `Cut`, which tells the ledger.
"""

from __future__ import annotations

import random
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from smtpguard.sandbox import (
    DEFAULT_KEYWORDS,
    Action,
    Close,
    Drip,
    EarlySay,
    FalseTls,
    Flood,
    Garbage,
    Half,
    Hang,
    Message,
    Mixed,
    Reset,
    Sandbox,
    Say,
    Script,
    Surplus,
    Turn,
)
from tests.chaos.ledger import ABOUT_THIS_MAIL, Ledger

VERBS: Final = ("CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "QUIT")
_SET_UP: Final = frozenset({"CONNECT", "EHLO", "STARTTLS", "AUTH", "RSET", "QUIT"})
FLOOD_OCTETS: Final = 2 << 20


class Hop(Sandbox):
    """The sandbox, with a ledger in the place of its messages. `script` may be changed at any time."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        keywords: Sequence[str] = DEFAULT_KEYWORDS,
        tls: ssl.SSLContext | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(keywords=keywords, tls=tls, users=users)
        self.ledger = ledger
        self.is_cut = False

    def accept(self, message: Message) -> None:
        """Into the books; nothing is kept."""
        super().accept(message)
        self.messages.clear()
        self.ledger.takes([path for path, _ in message.rcpts], message.data, is_cut=self.is_cut)


@dataclass(frozen=True, slots=True)
class Cut:
    """Take what was asked for, and give no answer, half of one, or one that comes too late."""

    hop: Hop
    then: Literal["close", "reset", "hang", "half", "drip"]

    def play(self, turn: Turn) -> None:
        self.hop.is_cut = True
        try:
            turn.take()
        finally:
            self.hop.is_cut = False
        if self.then == "close":
            turn.close()
        elif self.then == "reset":
            turn.reset()
        elif self.then == "hang":
            turn.hang()
        elif self.then == "half":
            turn.send(turn.reply[:7])
            turn.hang()
        else:
            turn.drip(turn.reply, 0.4)


def _refusal(code: str) -> Callable[[str, Hop], Action]:
    def made(verb: str, _: Hop) -> Action:
        return Say(f"{code} {'chaos in the set-up' if verb in _SET_UP else ABOUT_THIS_MAIL}")

    return made


def _commit(then: Literal["close", "reset", "hang", "half", "drip"]) -> Callable[[str, Hop], Action]:
    return lambda _, hop: Cut(hop, then)


FAULTS: Final[Mapping[str, Callable[[str, Hop], Action]]] = {
    "defer": _refusal("450 4.7.1"),
    "reject": _refusal("550 5.7.1"),
    "goodbye": _refusal("421 4.3.2"),
    "close": lambda *_: Close(),
    "reset": lambda *_: Reset(),
    "hang": lambda *_: Hang(),
    "garbage": lambda *_: Garbage(),
    "half": lambda *_: Half(),
    "half, then close": lambda *_: Half(then="close"),
    "drip": lambda verb, hop: Cut(hop, "drip") if verb == "DOT" else Drip(interval_s=0.4),
    "mixed": lambda *_: Mixed(),
    "surplus": lambda *_: Surplus(),
    "flood": lambda *_: Flood(FLOOD_OCTETS),
    "commit, then close": _commit("close"),
    "commit, then reset": _commit("reset"),
    "commit, then hang": _commit("hang"),
    "commit, then half": _commit("half"),
    "early no": lambda *_: EarlySay(f"552 5.3.4 {ABOUT_THIS_MAIL}"),
    "early no, then close": lambda *_: EarlySay(f"552 5.3.4 {ABOUT_THIS_MAIL}", then="close"),
    "early no, reads no more": lambda *_: EarlySay(f"552 5.3.4 {ABOUT_THIS_MAIL}", then="stop"),
    "early goodbye": lambda *_: EarlySay("421 4.3.2 chaos"),
    "early yes": lambda *_: EarlySay("250 2.0.0 taken before it was sent", then="stop"),
    "false TLS": lambda *_: FalseTls(),
}

_EARLY: Final = tuple(name for name in FAULTS if name.startswith("early"))
_COMMIT: Final = tuple(name for name in FAULTS if name.startswith("commit"))
_ANYWHERE: Final = tuple(name for name in FAULTS if name not in (*_EARLY, *_COMMIT, "false TLS"))


def at(verb: str) -> tuple[str, ...]:
    """The faults that make sense there."""
    if verb == "BODY":
        # "early yes" is left to messages larger than what sockets hold (cases.large): once the kernel has taken all of
        # one, nobody can tell it from a true answer
        return (*(name for name in _EARLY if name != "early yes"), "close", "reset", "hang")
    if verb == "DOT":
        return (*_ANYWHERE, *_COMMIT)
    if verb == "STARTTLS":
        return (*_ANYWHERE, "false TLS")
    if verb == "QUIT":
        return tuple(name for name in _ANYWHERE if name != "surplus")  # it has closed by then
    return _ANYWHERE


class Dice(Script):
    """A fault with probability `share` at each turn of each of `verbs`; what was played is counted."""

    def __init__(self, hop: Hop, rng: random.Random, share: float, verbs: Sequence[str]) -> None:
        super().__init__({})
        self._hop = hop
        self._rng = rng
        self._share = share
        self._choices = {verb: at(verb) for verb in verbs}
        self.played: Counter[str] = Counter()

    def action(self, verb: str, occurrence: int) -> Action | None:
        """By chance; None: as usual."""
        choices = self._choices.get(verb)
        if choices is None or self._rng.random() >= self._share:
            return None
        name = self._rng.choice(choices)
        self.played[f"{verb} {name}"] += 1
        return FAULTS[name](verb, self._hop)
