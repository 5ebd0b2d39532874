"""What was said against what was taken, copy by copy.

law | is broken when
--- | ---
L   | a recipient was answered 2xx and that attempt is not at the next hop
D   | a copy is there twice, or one is there that nobody was told of though no answer was cut off
B   | a 5xx reached the client that the next hop did not say about this mail
T   | a message arrived with other octets than were sent (under the field that we put on top)
W   | a reply is not `NNN[ -]text CRLF` in printable ASCII with one code, or is longer than 512 octets
V   | an answer took longer than its limit, or a message was never answered for good
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

ABOUT_THIS_MAIL: Final = "chaos says no"
"""Stands in every 5xx that the next hop says about a mail: no other may reach the client."""

_SHOWN: Final = 20  # violations told in full
_ATTEMPT: Final = re.compile(rb"^X-Attempt: (\d+)\.(\d+)\r\n", re.MULTILINE)
_LINE: Final = re.compile(rb"([2-5]\d\d)[ -][ -~]*\r\n")


class Copy(NamedTuple):
    """One recipient of one attempt."""

    message: int
    attempt: int
    rcpt: bytes


@dataclass(slots=True)
class Ledger:
    """One run's books. The client and the next hop write, `close` judges."""

    told: set[Copy] = field(default_factory=set)
    """Answered 2xx."""
    unsure: set[Copy] = field(default_factory=set)
    """Sent to the end, and answered by a 4xx or by nothing: RFC 1047 may have been at work."""
    taken: Counter[Copy] = field(default_factory=Counter)
    """At the next hop."""
    cut: set[Copy] = field(default_factory=set)
    """At the next hop, which then gave no answer in time, on purpose."""
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    is_killing: bool = False
    """A process of ours was killed in this run: what was in flight then may be there without an answer."""
    _digests: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def broke(self, law: str, what: str) -> None:
        """Write a violation down."""
        self.counts[f"violations of {law}"] += 1
        if len(self.violations) < _SHOWN:
            self.violations.append(f"{law}: {what}")

    # -- the client's part

    def sends(self, message: int, attempt: int, octets: bytes) -> None:
        """An attempt is made with these octets, dots not stuffed."""
        self._digests[message, attempt] = sha256(octets).digest()

    def reply(self, lines: list[bytes], seconds: float, limit_s: float, at: str) -> None:
        """The client got this reply, after so long."""
        self.counts["replies"] += 1
        self.longest_s = max(self.longest_s, seconds)
        codes = {found[1] if (found := _LINE.fullmatch(line)) else b"" for line in lines}
        if len(codes) != 1 or b"" in codes or max(map(len, lines)) > 512 or lines[-1][3:4] != b" ":
            self.broke("W", f"{lines!r} at {at}")
        if seconds > limit_s:
            self.broke("V", f"{seconds:.1f} s for the answer to {at}, {limit_s:g} allowed")

    def bounced(self, lines: list[bytes], at: str) -> None:
        """The client takes this 5xx for the last word about a recipient."""
        self.counts["bounced"] += 1
        if ABOUT_THIS_MAIL.encode() not in b" ".join(lines):
            self.broke("B", f"{lines!r} at {at}")

    # -- the next hop's part

    def takes(self, rcpts: list[bytes], octets: bytes, *, is_cut: bool) -> None:
        """The next hop took a message; `is_cut`: the client of it will not be told in time."""
        found = _ATTEMPT.search(octets)
        if found is None:
            return  # not one of ours: a case's own probe
        message, attempt = int(found[1]), int(found[2])
        own = octets[octets.find(b"From: <") :]
        if not octets.startswith(b"Received: ") or sha256(own).digest() != self._digests.get((message, attempt)):
            self.broke("T", f"message {message}, attempt {attempt}: other octets")
        for rcpt in rcpts:
            copy = Copy(message, attempt, rcpt)
            self.taken[copy] += 1
            if is_cut:
                self.cut.add(copy)

    # -- the judgement

    def close(self) -> None:
        """All is over: compare the books."""
        for copy in self.told - self.taken.keys():
            self.broke("L", f"{copy} was answered 250 and is not there")
        for copy, times in self.taken.items():
            if times > 1:
                self.broke("D", f"{copy} is there {times} times")
            if copy in self.told:
                continue
            is_window = copy in self.unsure and (copy in self.cut or self.is_killing)
            self.counts["copies in the window of RFC 1047"] += 1
            if not is_window:
                self.broke("D", f"{copy} is there, nobody was told, and no answer was cut off")
        delivered = Counter((copy.message, copy.rcpt) for copy in self.told)
        for (message, rcpt), times in delivered.items():
            if times > 1:
                self.broke("D", f"message {message} was answered 250 for {rcpt!r} {times} times")
        self.counts["delivered"] = len(delivered)
