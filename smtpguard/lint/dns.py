"""DNS: what could not be looked up, and so was not judged.

A timeout is never taken for "no such record": the rules that wanted the answer are skipped, and this says why. Mail
passes, unless `[lint.rules]` says `DNS001 = "defer"`.
"""

from __future__ import annotations

from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.facts import DnsFaults
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule

_NAMED: Final = 3
"""Questions that a message names."""


@rule(
    "DNS001",
    "dns-temperror",
    Severity.INFO,
    Stage.DATA,
    category="server.network",
    reference="RFC 7208 8.6; RFC 8767 4",
    predicts=[
        ("Google", "451 4.7.26, if it cannot look it up either (support.google.com/a/answer/3726730, 2026-02-15)")
    ],
    answer="451 4.4.3",
    when=marks.UNKNOWN,
)
def dns_temperror(faults: DnsFaults) -> Hits:
    """The DNS answers what is asked about a message.

    A name server failed, refused or did not answer in time, so that some rules could not judge. Receivers that meet the
    same fault defer the mail.

    Fix: look it up by hand (`dig +trace`): if that fails too, the domain's name servers are at fault; if not, look at
    the resolver in `lint.dns.resolvers`.
    """
    if faults.faults:
        named = "; ".join(f"{question} ({fault})" for question, fault in faults.faults[:_NAMED])
        more = f" and {len(faults.faults) - _NAMED} more" if len(faults.faults) > _NAMED else ""
        yield Hit(f"could not be looked up: {named}{more}", Evidence(faults.faults[0][0]))
