"""One host of a next hop: whether it is down, what it offered, and what the log says of it.

A host that gives no usable reply is failing, and its breaker leaves it alone for a while; one that refuses is not down.
News only: the log hears when a host falls ill and when it is well again, at most so often.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Final, Literal, Protocol

from smtpguard.edge.breaker import Breaker
from smtpguard.edge.connect import Demand
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Reply, Verb, clean
from smtpguard.mail.trouble import readable

_ABSENT: Final = frozenset({FailureKind.CONNECT, FailureKind.TIMEOUT})
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


class Host:
    """`offered` are its EHLO keywords when last asked; None before. `demand`: what TLS it is held to by itself.

    `absence_weighs`: for how many failures it counts that nobody was there, or gave no answer in time.
    """

    __slots__ = ("_absence_weighs", "_is_ill", "_log", "_quiet_until", "breaker", "demand", "hop", "is_well", "offered")

    def __init__(
        self,
        hop: Hop,
        log: Log,
        *,
        breaker: Breaker | None = None,
        demand: Demand | None = None,
        absence_weighs: int = 1,
    ) -> None:
        self.hop = hop
        self.breaker = breaker or Breaker()
        self.demand = demand
        self._absence_weighs = absence_weighs
        self.offered: dict[str, str] | None = None
        self.is_well = True  # the last attempt was answered: another answer is no news
        self._log = log
        self._is_ill = False  # the log says so
        self._quiet_until = 0.0

    def judge(self, answer: Answer | None) -> bool:
        """What an attempt says of it, None being one that was given up; whether its breaker opened or closed."""
        was_closed = self.breaker.is_closed
        self.is_well = False
        if answer is None:
            self.breaker.withdrawn()
        elif answer.verb is Verb.MAIL and (isinstance(answer, Reply) or answer.kind is FailureKind.CAPABILITY):
            self.breaker.answered()
            self.is_well = True
            if self._is_ill:
                self._is_ill = False
                self._log("next-hop-recovered", f"{self.hop.host} takes mail again", fields=self._about())
        else:
            now = monotonic()
            if isinstance(answer, Reply) and answer.verb is not Verb.AUTH:
                self.breaker.answered()
            else:
                is_absent = isinstance(answer, HopFailure) and answer.kind in _ABSENT
                self.breaker.failed(now, weight=self._absence_weighs if is_absent else 1)
            self.fell_ill(answer, now)
        return self.breaker.is_closed != was_closed

    def fell_ill(self, answer: Answer, now: float) -> None:
        """Log why it takes no mail, where that is news."""
        if self._is_ill or now < self._quiet_until:
            return
        self._is_ill = True
        self._quiet_until = now + SAY_AGAIN_S
        fields = self._about() | {"smtp.verb": answer.verb.value}
        if isinstance(answer, Reply):
            fields |= {"error.type": "refused", "smtp.reply.code": answer.code, "smtp.reply.text": clean(answer.text)}
            what = f"refused {answer.verb.value}: {answer}"
        else:
            fields |= {"error.type": answer.kind.value}
            what = f"failed at {answer.verb.value}: {answer.kind.value} {answer.keyword or readable(answer.detail)}"
        self._log("next-hop-failed", clean(f"{self.hop.host} {what}".rstrip()), level="warning", fields=fields)

    def _about(self) -> dict[str, object]:
        hop = self.hop
        return {"smtpguard.next_hop": hop.next_hop, "server.address": hop.host, "server.port": hop.port}
