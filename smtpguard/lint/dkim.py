"""DKM: the message's DKIM signatures, before a receiver verifies them (RFC 6376, 8301, 8463).

What is wrong with the body hash, the coverage or the times shows without any DNS; the rest needs the key. One signature
that passes is enough for a receiver: a broken one beside it is worth a note and no more (mailing lists leave such).
`lint.dkim.signed` says whether we see the signature at all: with "after" a later host signs, and none is missed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.evidence import at_offset, of_field
from smtpguard.lint.facts import Dkim, Now, Offers, Signatures, Signing
from smtpguard.lint.finding import Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim import MIN_BITS, Cause, DkimStatus, Verdict
from smtpguard.mailauth.dkim_field import Signature

_DKIM: Final = "auth.dkim"
_BULK: Final = "support.google.com/mail/answer/81126, 2026-03-21"
_GOOGLE: Final = ("Google", "421 4.7.30 / 550 5.7.30 (support.google.com/a/answer/3726730, 2026-02-15)")
_UNSIGNED: Final = ("all receivers", "counts as unsigned (RFC 6376 6.1)")


def _named(signature: Signature) -> str:
    """A signature in a message: whose it is."""
    return f"the signature of {signature.domain} (s={signature.selector})" if signature.domain else "a DKIM signature"


def _about(signature: Signature, words: str, severity: Severity | None = None) -> Hit:
    """A hit that begins with the signature's name and shows its field."""
    return Hit(f"{_named(signature)} {words}", of_field(signature.field), severity=severity)


@rule(
    "DKM001",
    "dkim-none",
    Severity.WARNING,
    Stage.DATA,
    category=_DKIM,
    reference=f"RFC 6376 2.7; {_BULK}",
    predicts=[_GOOGLE, ("Google", "550 5.7.26 (support.google.com/a/answer/3726730, 2026-02-15)")],
    answer="550 5.7.20",
    when=marks.UNSIGNED,
)
def dkim_none(found: Signatures, signing: Signing) -> Hits:
    """A message is signed with DKIM.

    Gmail, Yahoo and Microsoft require SPF or DKIM of every sender and both of bulk senders, and forwarded mail keeps
    only DKIM. Set `lint.dkim.signed = "after"` where a later host signs: then this is not checked.

    Fix: sign with the From domain: OpenDKIM or rspamd beside the MTA, or the provider's DKIM setting, and publish the
    key as `selector._domainkey.example.com. TXT "v=DKIM1; k=rsa; p=..."`.
    """
    if not found.signatures and signing.signed != "after":
        yield Hit("the message has no DKIM-Signature field")


@rule(
    "DKM002",
    "dkim-body-hash",
    Severity.ERROR,
    Stage.DATA,
    category=_DKIM,
    reference="RFC 6376 6.1.3",
    predicts=[_UNSIGNED, _GOOGLE],
    answer="550 5.7.20",
    when=marks.BODY_HASH,
)
def dkim_body_hash(found: Signatures) -> Hits:
    """The body is still the one that was signed.

    Something changed the body after signing: a disclaimer, a virus scanner's note, a change of the transfer encoding, a
    line folded at 998 octets. The signature no longer verifies at any receiver.

    Fix: sign last, after every filter that changes mail; sign with `c=relaxed/relaxed`; let no hop convert 8-bit mail.
    """
    is_spare = any(signature.body_matches for signature in found.signatures)
    for signature in found.signatures:
        if signature.body_matches is False:
            yield Hit(
                f"the body was changed after {_named(signature)} was made: {signature.body_problem}",
                of_field(signature.field),
                severity=Severity.INFO if is_spare else None,
            )


@rule(
    "DKM003",
    "dkim-signature-bad",
    Severity.ERROR,
    Stage.DATA,
    category=_DKIM,
    reference="RFC 6376 6.1.1, 6.1.3",
    predicts=[_UNSIGNED, _GOOGLE],
    answer="550 5.7.20",
    when=marks.VERDICT,
)
def dkim_signature_bad(dkim: Dkim) -> Hits:
    """A signature verifies with the key that its domain publishes.

    A signed header field was changed after signing, the private key does not belong to the published one, or the
    signature field itself is malformed.

    Fix: compare the published key with the signer's (`opendkim-testkey -vvv`); sign after whatever rewrites To,
    Subject, Date or Message-ID; use `c=relaxed/relaxed`.
    """
    for verdict in dkim.verdicts:
        if verdict.cause in (Cause.SIGNATURE, Cause.SYNTAX):
            yield _judged(verdict, f"{_named(verdict.signature)} does not verify: {verdict.problem}", dkim.verdicts)


def _judged(verdict: Verdict, message: str, all_: Iterable[Verdict], fix: str = "") -> Hit:
    """A hit about one signature; a note only where another one passes."""
    is_spare = any(other.status is DkimStatus.PASS for other in all_)
    return _of_key(verdict, message, fix, Severity.INFO if is_spare else None)


def _of_key(verdict: Verdict, message: str, fix: str, severity: Severity | None) -> Hit:
    """A hit that rests on what the DNS says of a signature's key."""
    where = of_field(verdict.signature.field)
    return Hit(message, where, fix, severity, ttl=verdict.ttl, is_stale=verdict.is_stale)


@rule(
    "DKM004",
    "dkim-key-missing",
    Severity.ERROR,
    Stage.DATA,
    category=_DKIM,
    reference="RFC 6376 3.6.1, 3.6.2.2, 6.1.2",
    predicts=[_GOOGLE, ("Microsoft", "550 5.7.515 Dkim= Fail (learn.microsoft.com, 2026-06-15)")],
    answer="550 5.7.20",
    when=marks.VERDICT,
)
def dkim_key_missing(dkim: Dkim) -> Hits:
    """The key of a signature is in the DNS, is the only one there, and suits the signature.

    There is no key at the selector, it is revoked (empty `p=`) or meant for another algorithm or service, or there are
    several keys and a receiver may take any of them.

    Fix: publish exactly one TXT record at `selector._domainkey.example.com` with the public key of the signer, or sign
    with a selector that has one.
    """
    for verdict in dkim.verdicts:
        signature = verdict.signature
        publish = f'publish exactly one {signature.key_name}. TXT "v=DKIM1; k={_key_type(signature)}; p=<public key>"'
        if verdict.cause is Cause.KEY:
            message = f"{_named(signature)} has no usable key: {verdict.problem}"
            yield _judged(verdict, message, dkim.verdicts, f"{publish}, that of the private key in use")
        elif verdict.key_records > 1:
            words = f"there are {verdict.key_records} keys at {signature.key_name}: which one is used is undefined"
            yield _of_key(verdict, words, f"{publish}, and remove the others", Severity.WARNING)
        elif verdict.is_testing:
            words = f"the key at {signature.key_name} is marked as a test (t=y): receivers may ignore it"
            yield _of_key(verdict, words, f"publish the record at {signature.key_name} without t=y", Severity.INFO)


def _key_type(signature: Signature) -> str:
    return signature.algorithm.partition("-")[0]


_GOOD_BITS: Final = 2048
"""RFC 8301 3.2: signers SHOULD use at least so many."""


@rule(
    "DKM005",
    "dkim-weak",
    Severity.WARNING,
    Stage.DATA,
    category=_DKIM,
    reference=f"RFC 8301 3.1, 3.2; RFC 8463 2; {_BULK}",
    predicts=[("Google", f"a key under 1024 bits counts as none ({_BULK})"), _UNSIGNED],
    answer="550 5.7.21",
    when=marks.VERDICT,
)
def dkim_weak(dkim: Dkim) -> Hits:
    """A signature is made with an algorithm and a key that receivers accept.

    RSA keys under 1024 bits and rsa-sha1 count as no signature; 1024 bits are on their way out; many receivers cannot
    verify Ed25519 yet.

    Fix: make an RSA key of 2048 bits under a new selector, publish it, and sign with `a=rsa-sha256`; an Ed25519
    signature may stand beside it.
    """
    for verdict in dkim.verdicts:
        signature, bits = verdict.signature, verdict.key_bits
        if _key_type(signature) == "rsa" and 0 < bits < _GOOD_BITS:
            yield _of_key(
                verdict,
                f"the key at {signature.key_name} has {bits} bits",
                f"make an RSA key of {_GOOD_BITS} bits and publish it under a new selector of {signature.domain}",
                Severity.ERROR if bits < MIN_BITS else Severity.INFO,
            )
        if signature.algorithm == "rsa-sha1":
            yield _about(signature, "uses rsa-sha1: it counts as none")
    algorithms = {verdict.signature.algorithm for verdict in dkim.verdicts if not verdict.signature.problem}
    if algorithms == {"ed25519-sha256"}:
        yield Hit(
            "all signatures are Ed25519, which many receivers do not verify", of_field(dkim.verdicts[0].signature.field)
        )


_CORE: Final = frozenset({b"to", b"subject", b"date", b"list-unsubscribe", b"list-unsubscribe-post"})
"""Fields that receivers miss under a signature (RFC 6376 5.4.1, RFC 8058 4); From is under all (RFC 6376 5.4)."""
_MIME: Final = frozenset({b"content-type", b"mime-version"})


@rule(
    "DKM006",
    "dkim-coverage",
    Severity.WARNING,
    Stage.DATA,
    category=_DKIM,
    reference="RFC 6376 5.4.1, 8.2, 8.15; RFC 8058 4",
    predicts=[("Google, Yahoo", f"no unsubscribe button where its fields are not signed ({_BULK})")],
    when=marks.COVERAGE,
)
def dkim_coverage(message: Message, found: Signatures) -> Hits:
    """A signature covers the fields that people see, and the whole body.

    Fields that are not in h= can be changed, or added a second time, and the signature still passes: that is how signed
    mail is replayed as spam. With l= the body can be continued by anyone.

    Fix: sign From, To, Subject, Date, MIME-Version, Content-Type and List-Unsubscribe*, name From once more than it
    occurs (OpenDKIM `OversignHeaders From`), and do not use l= (OpenDKIM `BodyLengths no`).
    """
    sound = [signature for signature in found.signatures if not signature.problem]
    if not sound:
        return
    best = min(sound, key=lambda signature: len(_unsigned(message, signature, _CORE)))
    if missing := _unsigned(message, best, _CORE):
        yield _about(best, f"does not cover {', '.join(missing)}")
    if all(signature.length is not None for signature in sound):
        left = best.body_octets - (best.length or 0)
        yield _about(best, f"has l=: the body may be continued ({left} octets are not signed)")
    if loose := _unsigned(message, best, _MIME):
        yield _about(best, f"does not cover {', '.join(loose)}", Severity.INFO)
    if best.headers.count(b"from") <= len(message.all(b"from")):
        yield _about(best, "lets a second From: be added", Severity.INFO)


def _unsigned(message: Message, signature: Signature, names: frozenset[bytes]) -> list[str]:
    """Those of the fields that the message has and the signature does not cover, as the message writes them."""
    open_ = sorted((names & message.by_name.keys()).difference(signature.headers))
    return [message.by_name[name][0].name.decode() for name in open_]


_SKEW_S: Final = 300
_SOON_S: Final = 86_400


@rule(
    "DKM007",
    "dkim-time",
    Severity.WARNING,
    Stage.DATA,
    category=_DKIM,
    reference="RFC 6376 3.5",
    predicts=[("all receivers", "an expired signature counts as none (RFC 6376 3.5 x=)")],
    when=marks.TIMES,
)
def dkim_time(found: Signatures, now: Now) -> Hits:
    """A signature holds now and for as long as mail may wait in queues.

    An x= that is past, or less than a day ahead, ends the signature before a greylisted or deferred message arrives. A
    t= in the future means that the signer's clock is wrong.

    Fix: set the signature's life to a week or more, or leave x= out (OpenDKIM `SignatureTTL`); set the signer's clock
    by NTP.
    """
    for signature in found.signatures:
        if signature.expires is not None and signature.expires < now + _SOON_S:
            left = signature.expires - now
            when = f"expired {_span(-left)} ago" if left < 0 else f"expires in {_span(left)}"
            yield _about(signature, when)
        if signature.timestamp is not None and signature.timestamp > now + _SKEW_S:
            yield _about(signature, f"is dated {_span(signature.timestamp - now)} in the future")


def _span(seconds: float) -> str:
    """A time for a message, in the largest unit that fits."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@rule(
    "DKM008",
    "dkim-fragile",
    Severity.WARNING,
    Stage.DATA,
    category=_DKIM,
    reference="RFC 6376 5.3, 3.4",
    predicts=[("receivers behind a relay that rewrites", "counts as unsigned (RFC 6376 6.1)")],
    when=marks.FRAGILE | marks.EIGHT_BIT | marks.LINES,
)
def dkim_fragile(message: Message, found: Signatures, offers: Offers) -> Hits:
    """A signed message has nothing that a later hop must rewrite.

    An 8-bit body is converted by a next hop without 8BITMIME and lines over 998 octets are folded: both break the body
    hash. With c=simple for the header even a refolded field does.

    Fix: have the program encode such bodies (quoted-printable or base64) before signing; sign with `c=relaxed/relaxed`.
    """
    sound = [signature for signature in found.signatures if signature.body_matches]
    if not sound:
        return
    if message.body_8bit_at is not None and "8BITMIME" not in offers.keywords:
        where = at_offset(message, message.body_8bit_at)
        yield Hit("the signed body is 8-bit, and the next hop lacks 8BITMIME: it will be converted", where)
    if message.long_lines is not None:
        where = at_offset(message, message.long_lines.offset)
        yield Hit("a line of the signed message is over 998 octets: it will be folded", where)
    if all(signature.canonical[0] == "simple" for signature in sound):
        yield _about(sound[0], "has c=simple for the header: a refolded field breaks it", Severity.INFO)
