"""What a check finds: the result of RFC 7208 2.6, which term decided, what went wrong, and every step on the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class SpfStatus(StrEnum):
    """RFC 7208 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105 - a result, no password
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class Step(NamedTuple):
    """One term as it was evaluated, in the order in which a reader meets them: an include stands before its terms."""

    depth: int
    domain: str
    """Whose record holds the term."""
    term: str
    outcome: str
    """`match`, `no match`, `void` (no match, and the DNS had nothing), `temperror`, `permerror`."""
    lookups: int
    """Terms that asked the DNS so far, this one included."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a receiver finds for one address. All texts are one line but `record`, which has one for each SPF record."""

    status: SpfStatus
    domain: str
    """The identity's, in A-labels."""
    term: str = ""
    """The one that decided; `... in record of other.example` where it is another's. "" where none matched."""
    problem: str = ""
    """What caused permerror or temperror, or none for want of a proper domain name."""
    record: str = ""
    """Of the identity's domain."""
    lookups: int = 0
    """Terms that asked the DNS until it was decided, of 10; an address that nothing matches gives the most."""
    voids: int = 0
    """Questions that the DNS had nothing for, of 2."""
    ttl: int = 0
    """Seconds for which it holds: the least of all answers that it rests on, 0 where nothing was asked."""
    trace: tuple[Step, ...] = ()
    uses_sender: bool = False
    """%{s} or %{l} was expanded: another local part may give another result."""
    is_stale: bool = False
    explanation: str = ""
    """What the domain says to a fail (`exp=`): its words, untrusted."""
