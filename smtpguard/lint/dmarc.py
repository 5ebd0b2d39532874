"""DMA: will the From domain's DMARC policy let this mail through (RFC 9989, RFC 7489).

A mail passes if SPF or DKIM passes for a domain that is aligned with From. SPF counts only where it passes for every
address that the mail may leave from. Where a later host signs (`lint.dkim.signed = "after"`) nobody can tell yet, and
nothing is said; where we see no signature but one may be added ("either"), it is a warning.
"""

from __future__ import annotations

from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.facts import Dmarc, Egress, Signatures, Signing
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule
from smtpguard.mailauth.dmarc import Discovered
from smtpguard.mailauth.domains import organizational

_DMARC: Final = "auth.dmarc"
_CODES: Final = "support.google.com/a/answer/3726730, 2026-02-15"
_BULK: Final = "support.google.com/mail/answer/81126, 2026-03-21"
_MICROSOFT: Final = ("Microsoft, bulk senders", "550 5.7.515 (learn.microsoft.com, 2026-06-15)")


def _hit(dmarc: Dmarc, message: str, fix: str = "", severity: Severity | None = None) -> Hit:
    """A hit with the policy's record as evidence."""
    found = dmarc.walked
    policy = found.policy
    evidence = f'_dmarc.{policy.domain}. TXT "{policy.record}"' if policy else f"_dmarc.{dmarc.header_from}"
    return Hit(message, Evidence(evidence), fix, severity, ttl=found.ttl, is_stale=found.is_stale)


def _unaligned(dmarc: Dmarc, found: Signatures, signing: Signing) -> tuple[str, Severity | None] | None:
    """What passes instead, and how sure we are that nothing aligned does; None where something does, or may yet."""
    if dmarc.walked.fault or signing.signed == "after" or any(dmarc.legs):
        return None
    passing = [f"SPF passes for {dmarc.spf_domain}"] if dmarc.spf_domain else ["SPF does not pass"]
    others = ", ".join(dict.fromkeys(dmarc.dkim_domains[:3]))
    passing.append(f"DKIM passes for {others}" if others else "no DKIM signature passes")
    may_be_signed = signing.signed == "either" and not found.signatures
    return " and ".join(passing), Severity.WARNING if may_be_signed else None


def _align(domain: str) -> str:
    return (
        f"sign with d={domain} (key at selector._domainkey.{domain}), "
        f"or send with an envelope sender @{domain} from an address in its SPF record"
    )


@rule(
    "DMA001",
    "dmarc-will-fail",
    Severity.ERROR,
    Stage.DATA,
    category=_DMARC,
    reference="RFC 9989 4.10, 5.3",
    predicts=[
        ("Google", f"550 5.7.26 domain's DMARC policy ({_CODES})"),
        ("Yahoo", "554 5.7.9 (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
        ("Microsoft", "550 5.7.509 (learn.microsoft.com, 2026-06-15)"),
    ],
    answer="550 5.7.26",
    when=marks.UNALIGNED,
)
def dmarc_will_fail(dmarc: Dmarc, found: Signatures, signing: Signing) -> Hits:
    """Mail passes DMARC where the From domain asks receivers to refuse or quarantine mail that fails.

    The owner of the From domain has published p=quarantine or p=reject, and neither SPF nor DKIM passes for an aligned
    domain: receivers do as they are asked.

    Fix: sign with d= the From domain, or send with an envelope sender of that domain from an address in its SPF record;
    mail from an address that is not yours goes out with a From of your own and the other in Reply-To.
    """
    unaligned = _unaligned(dmarc, found, signing)
    if unaligned and dmarc.walked.disposition != "none":
        passing, severity = unaligned
        yield _hit(
            dmarc,
            f"DMARC of {dmarc.header_from} asks to {dmarc.walked.disposition} this mail: {passing}, neither is aligned",
            _align(dmarc.header_from),
            severity,
        )


@rule(
    "DMA002",
    "dmarc-unaligned",
    Severity.WARNING,
    Stage.DATA,
    category=_DMARC,
    reference=f"RFC 9989 4.4; {_BULK}",
    predicts=[("Google, bulk senders", f"421 4.7.32 / 550 5.7.32 ({_CODES})"), _MICROSOFT],
    answer="550 5.7.26",
    when=marks.UNALIGNED,
)
def dmarc_unaligned(dmarc: Dmarc, found: Signatures, signing: Signing) -> Hits:
    """Mail has an aligned SPF or DKIM pass even where the From domain's policy asks for nothing.

    With p=none no receiver is asked to refuse it, but Gmail, Yahoo and Microsoft require alignment of bulk senders, and
    the mail will fail as soon as the policy is tightened.

    Fix: sign with d= the From domain, or send with an envelope sender of that domain from an address in its SPF record.
    """
    unaligned = _unaligned(dmarc, found, signing)
    if unaligned and dmarc.walked.policy is not None and dmarc.walked.disposition == "none":
        yield _hit(
            dmarc,
            f"nothing that passes is aligned with From {dmarc.header_from}: {unaligned[0]}",
            _align(dmarc.header_from),
        )


@rule(
    "DMA003",
    "dmarc-none",
    Severity.WARNING,
    Stage.DATA,
    category=_DMARC,
    reference=f"RFC 9989 4.10.1; {_BULK}",
    predicts=[("Google, bulk senders", f"421 4.7.40 / 550 5.7.40 ({_CODES}; 4.7.31 before)"), _MICROSOFT],
    answer="550 5.7.26",
)
def dmarc_none(dmarc: Dmarc) -> Hits:
    """The From domain has a DMARC policy.

    Gmail, Yahoo and Microsoft require one of bulk senders, if only p=none. Without it anybody may use the domain in
    From.

    Fix: publish `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:dmarc@example.com"` and read the reports before
    tightening the policy.
    """
    if dmarc.walked.policy is None and not dmarc.walked.fault:
        owner = organizational(dmarc.header_from)
        yield _hit(
            dmarc,
            f"the From domain {dmarc.header_from} has no DMARC policy",
            f'publish _dmarc.{owner}. TXT "v=DMARC1; p=none; rua=mailto:dmarc@{owner}"',
        )


@rule(
    "DMA004",
    "dmarc-record-bad",
    Severity.WARNING,
    Stage.BACKGROUND,
    category=_DMARC,
    reference="RFC 9989 4.7, 4.10",
    predicts=[("all receivers", "as if there were no record (RFC 9989 4.10)")],
)
def dmarc_record_bad(dmarc: Dmarc) -> Hits:
    """The DMARC record of the From domain is read by every receiver as it is meant.

    Of two records both are discarded; a record that does not begin with v=DMARC1, or has no valid p=, is ignored; a bad
    sp= or np= is read as something else.

    Fix: keep exactly one TXT record at `_dmarc.example.com`, in the form `v=DMARC1; p=reject; rua=mailto:...`.
    """
    for problem in dict.fromkeys((*dmarc.walked.problems, *dmarc.suffixed.problems)):
        yield _hit(dmarc, f"DMARC of {dmarc.header_from}: {problem}")


@rule(
    "DMA005",
    "dmarc-single-leg",
    Severity.INFO,
    Stage.DATA,
    category=_DMARC,
    reference="RFC 7960 3",
    predicts=[("receivers of forwarded mail", "550 5.7.26 where the one leg breaks (RFC 7960 3.2)")],
)
def dmarc_single_leg(dmarc: Dmarc, signing: Signing) -> Hits:
    """Mail passes DMARC by both SPF and DKIM.

    With SPF alone it fails when somebody forwards it; with DKIM alone, when something changes it on the way.

    Fix: have both: sign with d= the From domain, and use an envelope sender of that domain from an address in its SPF
    record.
    """
    legs = dmarc.legs
    if dmarc.walked.policy is None or dmarc.walked.fault:
        return
    if legs.spf and not legs.dkim and signing.signed != "after":
        yield _hit(
            dmarc,
            f"only SPF is aligned with From {dmarc.header_from}: the mail fails DMARC where it is forwarded",
            f"sign with d={dmarc.header_from}",
        )
    elif legs.dkim and not legs.spf:
        yield _hit(
            dmarc,
            f"only DKIM is aligned with From {dmarc.header_from}: the mail fails DMARC where it is changed on the way",
            f"use an envelope sender @{dmarc.header_from} from an address in its SPF record",
        )


@rule(
    "DMA006",
    "dmarc-orgdomain-divergence",
    Severity.WARNING,
    Stage.BACKGROUND,
    category=_DMARC,
    reference="RFC 9989 4.10.2; RFC 7489 3.2",
    predicts=[("some receivers", "another policy than others, pass here and fail there (RFC 9989 C.3)")],
)
def dmarc_orgdomain_divergence(dmarc: Dmarc) -> Hits:
    """The From domain means the same to receivers of either DMARC standard.

    Older receivers find the organizational domain in the public suffix list, newer ones by a walk up the DNS. Where the
    two differ, so do alignment and policy.

    Fix: publish a record at the organizational domain too, and `psd=n` in it where it should end the walk; publish the
    wanted p= at the From domain itself.
    """
    walked, suffixed = dmarc.walked, dmarc.suffixed
    if walked.fault or suffixed.fault or (walked.policy is None and suffixed.policy is None):
        return
    views = [_view(walked), _view(suffixed)]
    if views[0] != views[1]:
        yield _hit(dmarc, f"DMARC of {dmarc.header_from} by tree walk is {views[0]}, by public suffix list {views[1]}")


def _view(found: Discovered) -> str:
    policy = found.disposition if found.policy else "no policy"
    return f"{policy} under {found.organizational}"


_MAILBOXES: Final = {
    "Google": ("gmail.com", "googlemail.com"),
    "Yahoo": ("yahoo.com", "yahoo.co.uk", "yahoo.de", "yahoo.fr", "ymail.com", "rocketmail.com", "aol.com"),
    "Yahoo Japan": ("yahoo.co.jp",),
    "Microsoft": ("outlook.com", "outlook.de", "hotmail.com", "hotmail.co.uk", "hotmail.fr", "live.com", "msn.com"),
    "Apple": ("icloud.com", "me.com", "mac.com"),
    "Proton": ("proton.me", "protonmail.com", "pm.me"),
    "GMX": ("gmx.net", "gmx.de", "gmx.at", "gmx.ch", "web.de"),
    "Telekom": ("t-online.de",),
    "Orange": ("orange.fr", "wanadoo.fr"),
    "Libero": ("libero.it",),
    "Comcast": ("comcast.net",),
    "VK": ("mail.ru", "bk.ru", "list.ru", "inbox.ru"),
    "Yandex": ("yandex.ru", "yandex.com", "ya.ru"),
    "Tencent": ("qq.com",),
    "NetEase": ("163.com", "126.com"),
    "Naver": ("naver.com",),
}
"""Domains in which people have mailboxes, and whose mail leaves from the provider's own hosts only."""
_PROVIDERS: Final = {domain: provider for provider, domains in _MAILBOXES.items() for domain in domains}


@rule(
    "DMA007",
    "from-impersonates-freemail",
    Severity.ERROR,
    Stage.DATA,
    category=_DMARC,
    reference=_BULK,
    predicts=[("Google", f"550 5.7.26 ({_CODES})")],
    answer="550 5.7.26",
)
def from_impersonates_freemail(dmarc: Dmarc, egress: Egress) -> Hits:
    """Mail from an address at a mailbox provider is sent through that provider.

    Mail From gmail.com, yahoo.com or outlook.com that leaves from our own addresses cannot be authenticated: receivers
    take it for forged. Contact forms that put the visitor's address in From make such mail.

    Fix: write From with an address of your own domain, and the visitor's in Reply-To; or send through the provider's
    own submission server.
    """
    provider = _PROVIDERS.get(dmarc.header_from)
    if provider and egress.addresses and not any(dmarc.legs):
        ours = egress.addresses[0].address
        yield _hit(dmarc, f"From is an address at {dmarc.header_from} ({provider}), but the mail leaves from {ours}")
