"""SPF: does the sender's domain allow the addresses that this mail leaves from (RFC 7208).

Judged by what a receiver will find, for each of our egress addresses: where some pass and others do not, that is
SPF008's to say and no mail is stopped for it. A result of temperror says nothing and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from smtpguard.lint.facts import HeloSpf, Spf
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule
from smtpguard.mailauth.dns import IpAddress
from smtpguard.mailauth.spf import MECHANISMS, Mechanism, Modifier, Record, Result, SpfStatus, SpfSyntaxError, parse

_SPF: Final = "auth.spf"
_GOOGLE: Final = "support.google.com/a/answer/3726730, 2026-02-15"
_MICROSOFT: Final = "learn.microsoft.com, 2026-06-15"
_GOOGLE_BULK: Final = ("Google, bulk senders", f"421 4.7.27 / 550 5.7.27 ({_GOOGLE})")
_GOOGLE_ALL: Final = ("Google", f"550 5.7.26 ({_GOOGLE})")


class _View:
    """The results that say something, and what several rules want of them."""

    def __init__(self, spf: Spf) -> None:
        self.domain = spf.domain
        self.who = "the envelope sender's domain" if spf.identity == "mailfrom" else "the HELO name"
        self.results = {
            address: result for address, result in spf.results.items() if result.status is not SpfStatus.TEMPERROR
        }

    def of(self, *statuses: SpfStatus) -> list[IpAddress]:
        """The addresses with one of those results."""
        return [address for address, result in self.results.items() if result.status in statuses]

    def hit(self, message: str, fix: str = "", severity: Severity | None = None) -> Hit:
        """A hit with the domain's record as evidence."""
        first = next(iter(self.results.values()))
        record = " / ".join(f'{self.domain}. TXT "{text}"' for text in first.record.split("\n") if text)
        return Hit(
            message,
            Evidence(record or self.domain),
            fix,
            severity,
            ttl=min(result.ttl for result in self.results.values()),
            is_stale=any(result.is_stale for result in self.results.values()),
        )

    def allowing(self, addresses: Sequence[IpAddress]) -> str:
        """The record to publish so that these addresses pass."""
        record = next(iter(self.results.values())).record
        return f'publish {self.domain}. TXT "{with_addresses(record, addresses)}"'


def _terms(addresses: Iterable[IpAddress]) -> str:
    return " ".join(f"ip{address.version}:{address}" for address in addresses)


def with_addresses(record: str, addresses: Iterable[IpAddress]) -> str:
    """A record with the addresses in it: before the term that catches all others, else at its end."""
    parsed = _parsed(record)
    if parsed is None:
        return f"v=spf1 {_terms(addresses)} ~all"
    last = next((term for term in parsed.terms if isinstance(term, Modifier) or term.name == "all"), None)
    if last is None:
        return f"{record.rstrip()} {_terms(addresses)}"
    return f"{record[: last.offset]}{_terms(addresses)} {record[last.offset :]}"


def _parsed(record: str) -> Record | None:
    try:
        return parse(record)
    except SpfSyntaxError:
        return None


def _named(addresses: Sequence[IpAddress]) -> str:
    """Addresses for a message, the first three."""
    more = f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""
    return ", ".join(map(str, addresses[:3])) + more


@rule(
    "SPF001",
    "spf-none",
    Severity.WARNING,
    Stage.MAIL,
    category=_SPF,
    reference="RFC 7208 4.5; support.google.com/mail/answer/81126, 2026-03-21",
    predicts=[_GOOGLE_ALL, _GOOGLE_BULK],
    answer="550 5.7.23",
)
def spf_none(spf: Spf) -> Hits:
    """The sender's domain has an SPF record.

    Gmail, Yahoo and Microsoft require SPF or DKIM of every sender and both of bulk senders. Without a record nothing
    tells a receiver which hosts may send for the domain.

    Fix: publish a TXT record at the domain that names every host that sends for it, ending in `~all` at first, for
    example `example.com. TXT "v=spf1 ip4:192.0.2.1 include:_spf.provider.example ~all"`.
    """
    view = _View(spf)
    bare = [address for address in view.of(SpfStatus.NONE) if not view.results[address].problem]  # no domain: ENV004
    if bare and len(bare) == len(view.results):
        yield view.hit(
            f"{view.who} {spf.domain} has no SPF record",
            f"{view.allowing(list(view.results))}, with every other host that sends for it",
            Severity.INFO if spf.identity == "helo" else None,
        )


@rule(
    "SPF002",
    "spf-permerror",
    Severity.ERROR,
    Stage.MAIL,
    category=_SPF,
    reference="RFC 7208 4.6.4, 8.7",
    predicts=[
        ("RFC 7372", "550 5.7.24 SPF validation error"),
        ("Microsoft", f"550 5.7.515 Spf= PermError ({_MICROSOFT})"),
    ],
    answer="550 5.7.24",
)
def spf_permerror(spf: Spf) -> Hits:
    """The SPF record of the sender's domain can be evaluated.

    More than 10 terms that ask the DNS, more than 2 that find nothing, a second record, a misspelled term, an include
    of a domain without a record: each makes the whole record void, and receivers treat the mail as failed.

    Fix: correct the term that is named; with too many look-ups, remove includes of services that are no longer used, or
    give a service a subdomain of its own as envelope sender.
    """
    view = _View(spf)
    broken = view.of(SpfStatus.PERMERROR)
    if broken:
        yield view.hit(f"SPF of {spf.domain} cannot be evaluated: {view.results[broken[0]].problem}")


@rule(
    "SPF003",
    "spf-fail",
    Severity.ERROR,
    Stage.MAIL,
    category=_SPF,
    reference="RFC 7208 8.4",
    predicts=[("Google", f"550 5.7.26 hard fail policy ({_GOOGLE})"), ("RFC 7372", "550 5.7.23 SPF validation failed")],
    answer="550 5.7.23",
)
def spf_fail(spf: Spf) -> Hits:
    """The SPF record of the sender's domain does not forbid the address that the mail leaves from.

    The domain's owner says with `-all` that no other host sends for it. Receivers refuse such mail outright.

    Fix: add the sending address to the record before its `-all`, or send through a host that the record names.
    """
    view = _View(spf)
    failed = view.of(SpfStatus.FAIL)
    if failed and not view.of(SpfStatus.PASS):
        term = view.results[failed[0]].term
        yield view.hit(f"SPF of {spf.domain} forbids {_named(failed)} ({term})", view.allowing(failed))


@rule(
    "SPF004",
    "spf-softfail-neutral",
    Severity.WARNING,
    Stage.MAIL,
    category=_SPF,
    reference="RFC 7208 8.2, 8.5",
    predicts=[_GOOGLE_BULK, ("Microsoft, bulk senders", f"550 5.7.515 ({_MICROSOFT})")],
    answer="550 5.7.23",
)
def spf_softfail_neutral(spf: Spf) -> Hits:
    """The SPF record of the sender's domain allows the address that the mail leaves from.

    With `~all`, `?all` or no `all` the record neither allows nor forbids it: that is no pass, and DMARC needs a pass.

    Fix: add the sending address to the record before its `all` term.
    """
    view = _View(spf)
    weak = view.of(SpfStatus.SOFTFAIL, SpfStatus.NEUTRAL)
    if weak and not view.of(SpfStatus.PASS, SpfStatus.FAIL):
        result = view.results[weak[0]]
        term = f" ({result.term})" if result.term else ""
        yield view.hit(
            f"SPF of {spf.domain} does not allow {_named(weak)}: {result.status}{term}",
            view.allowing(weak),
        )


@rule(
    "SPF005",
    "spf-helo-fail",
    Severity.INFO,
    Stage.BACKGROUND,
    category=_SPF,
    reference="RFC 7208 2.3",
    predicts=[
        ("receivers of bounces", "550 5.7.23, for mail without a sender is judged by its HELO name (RFC 7372 3.2)")
    ],
)
def spf_helo_fail(spf: HeloSpf) -> Hits:
    """The SPF record of the name in HELO allows our own addresses.

    Bounces and receipts have no envelope sender: what a receiver checks then is the host name that we announce.

    Fix: publish `mail.example.com. TXT "v=spf1 a -all"` for the HELO name, and an A record with the sending address.
    """
    view = _View(spf)
    failed = view.of(SpfStatus.FAIL, SpfStatus.SOFTFAIL, SpfStatus.PERMERROR)
    if failed:
        result = view.results[failed[0]]
        yield view.hit(
            f"SPF of the HELO name {spf.domain}: {result.status} for {_named(failed)}",
            f'publish {spf.domain}. TXT "v=spf1 a -all" with {_terms(failed)} among its addresses',
        )


_NEAR_LOOKUPS: Final = 8
_NEAR_VOIDS: Final = 2
_LONG_RECORD: Final = 450
"""Octets of name and record that still fit an answer of 512 (RFC 7208 3.4)."""


@rule(
    "SPF006",
    "spf-near-limit",
    Severity.INFO,
    Stage.BACKGROUND,
    category=_SPF,
    reference="RFC 7208 3.4, 4.6.4",
    predicts=[("all receivers", "permerror once an included domain adds a term (RFC 7208 4.6.4)")],
)
def spf_near_limit(spf: Spf) -> Hits:
    """The SPF record of the sender's domain is well below the limits.

    Of 10 terms that ask the DNS (and 2 that find nothing) nearly all are used up, partly by domains that others run: a
    change there makes the record void overnight. A record over 450 octets may not fit in one UDP answer.

    Fix: remove includes of services that are no longer used and hosts that are gone; replace `a` and `mx` by `ip4:`
    and `ip6:`; give a service a subdomain of its own.
    """
    view = _View(spf)
    counted = [result for result in view.results.values() if result.status is not SpfStatus.PERMERROR]
    if not counted:
        return
    lookups = max(result.lookups for result in counted)
    voids = max(result.voids for result in counted)
    octets = len(counted[0].record) + len(spf.domain)
    reasons = [
        *([f"{lookups} of 10 look-ups"] if lookups >= _NEAR_LOOKUPS else []),
        *([f"{voids} of 2 look-ups that find nothing"] if voids >= _NEAR_VOIDS else []),
        *([f"{octets} octets"] if octets > _LONG_RECORD else []),
    ]
    if reasons:
        yield view.hit(f"SPF of {spf.domain} is near a limit: {', '.join(reasons)}")


_WIDE: Final = {4: 8, 6: 16}
"""Prefix lengths up to which a network is as good as everybody."""


@rule(
    "SPF007",
    "spf-deprecated-or-open",
    Severity.WARNING,
    Stage.BACKGROUND,
    category=_SPF,
    reference="RFC 7208 5.5, 6, 11.1",
    predicts=[("Google", f"451 4.7.24 / 550 5.7.24 suspicious entries ({_GOOGLE})")],
)
def spf_deprecated_or_open(spf: Spf) -> Hits:
    """The SPF record of the sender's domain has no `ptr`, does not allow everybody, and says what it means.

    `ptr` is slow, and receivers may skip it. `+all` or a network of a whole continent lets anybody send for the domain,
    which receivers count against it. `include=` or `ip4=` instead of `include:` or `ip4:` is no error, but means
    nothing: the hosts that it should allow are not allowed.

    Fix: replace `ptr` by `ip4:` and `ip6:` terms; end the record in `~all` or `-all`; name only your own networks;
    write a colon after the name of a mechanism.
    """
    view = _View(spf)
    result = next(iter(view.results.values()), None)
    if result is None:
        return
    suspicious = [*_open_terms(result), *_ptr_terms(view.results.values()), *_void_terms(result)]
    if suspicious:
        yield view.hit(f"SPF of {spf.domain} has suspicious terms: {', '.join(dict.fromkeys(suspicious))}")


def _open_terms(result: Result) -> list[str]:
    parsed = _parsed(result.record)
    return [
        term.text
        for term in (parsed.terms if parsed else ())
        if isinstance(term, Mechanism) and term.status is SpfStatus.PASS and _is_open(term)
    ]


def _void_terms(result: Result) -> list[str]:
    """Mechanisms written as modifiers, which nobody heeds (RFC 7208 6)."""
    parsed = _parsed(result.record)
    terms = [term for term in (parsed.terms if parsed else ()) if isinstance(term, Modifier)]
    return [f"{term.text} (write {term.name}:)" for term in terms if term.name in MECHANISMS]


def _is_open(term: Mechanism) -> bool:
    if term.network is not None:
        return term.network.prefixlen <= _WIDE[term.network.version]
    return term.name == "all" or term.prefix4 <= _WIDE[4] or term.prefix6 <= _WIDE[6]


def _ptr_terms(results: Iterable[Result]) -> list[str]:
    """Those of the records that were read, as `ptr in record of example.com`."""
    return [
        f"{step.term} in record of {step.domain}"
        for result in results
        for step in result.trace
        if step.term.lstrip("+-~?").lower().partition(":")[0].partition("/")[0] == "ptr"
    ]


@rule(
    "SPF008",
    "spf-egress-partial",
    Severity.ERROR,
    Stage.BACKGROUND,
    category=_SPF,
    reference="RFC 7208 4.1",
    predicts=[("Google", f"550 5.7.26, now and then ({_GOOGLE})")],
)
def spf_egress_partial(spf: Spf) -> Hits:
    """The SPF record of the sender's domain allows all addresses that its mail leaves from.

    Some of our addresses pass and others do not, often the IPv6 one: the same mail is taken one time and refused the
    next, as the connection happens to be made.

    Fix: add the missing addresses to the record, or send this domain's mail through the allowed ones only.
    """
    view = _View(spf)
    passed = view.of(SpfStatus.PASS)
    other = [address for address in view.results if address not in passed]
    if passed and other:
        statuses = ", ".join(dict.fromkeys(str(view.results[address].status) for address in other))
        yield view.hit(
            f"SPF of {spf.domain} passes for {_named(passed)}, but not for {_named(other)} ({statuses})",
            view.allowing(other),
        )
