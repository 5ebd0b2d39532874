"""DANE for SMTP (RFC 7672): what a mail host's signed TLSA records ask of its certificate, and whether it has that.

Records count where the resolver has validated them, and with them the names of the mail hosts and their addresses. Then
mail goes to that host in TLS or not at all; the public authorities are not asked. Records that cannot be looked up make
the host one that cannot be delivered to (RFC 7672 2.1.1): an attacker may be holding them back.

    usage           | what must fit the record          | name and expiry
    3, DANE-EE      | the host's certificate or its key | do not matter (RFC 7672 3.1.1)
    2, DANE-TA      | an authority in its chain         | must fit the mail host
    0 and 1, others | unusable in SMTP (RFC 7672 3.1.3) |

Where all records are unusable, TLS is needed, with any certificate (RFC 7672 2.2).
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from smtpguard.edge.destination import MailHost
from smtpguard.mailauth.dns import Resolver, Status, Tlsa

DANE_TA: Final = 2
DANE_EE: Final = 3
PORT: Final = 25
MAX_CHAIN: Final = 10

# RFC 6698 2.1.3, with the octets of each
_MATCHING: Final[dict[int, tuple[Callable[[bytes], bytes], int]]] = {
    0: (bytes, 0),
    1: (lambda octets: hashlib.sha256(octets).digest(), 32),
    2: (lambda octets: hashlib.sha512(octets).digest(), 64),
}


class Unknown(Exception):
    """The records cannot be looked up now."""


async def records(resolver: Resolver, host: MailHost) -> tuple[Tlsa, ...]:
    """The signed TLSA records of a mail host whose addresses are signed; none: DANE asks nothing of it.

    Those of the name behind a CNAME come first, then its own (RFC 7671 7). Unknown where that cannot be told.
    """
    for name in dict.fromkeys((host.base, host.name)):
        answer = await resolver.tlsa(f"_{PORT}._tcp.{name}")
        if answer.status is Status.TEMPFAIL:
            raise Unknown(f"TLSA of {name}: {answer.fault}")
        if answer.status is Status.POSITIVE:
            return answer.records if answer.is_secure else ()
    return ()


def is_usable(record: Tlsa) -> bool:
    """Whether a record asks what we can check."""
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (0, 1) or record.matching not in _MATCHING:
        return False
    length = _MATCHING[record.matching][1]
    return len(record.data) == length if length else bool(record.data)


def check(asked: Sequence[Tlsa], names: Sequence[str]) -> Callable[[ssl.SSLObject], str]:
    """connect.Demand.check for these records, which are not none; `names`: what an authority must have vouched for."""
    return partial(_wrong, [record for record in asked if is_usable(record)], names)


def _wrong(asked: Sequence[Tlsa], names: Sequence[str], tls: ssl.SSLObject) -> str:
    if not asked:
        return ""
    try:
        leaf, *others = [x509.load_der_x509_certificate(octets) for octets in _chain(tls)]
        if any(record.usage == DANE_EE and fits(record, leaf) for record in asked):
            return ""
        authorities = [record for record in asked if record.usage == DANE_TA]
        anchors = [each for each in others if any(fits(record, each) for record in authorities)]
        anchors += [found for record in authorities if (found := _given(record)) is not None]
    except ValueError as error:
        return f"its certificate cannot be read: {error}"
    if any(_vouches(anchor, leaf, others, name) for anchor in anchors for name in names):
        return ""
    return "its certificate fits none of its TLSA records"


def fits(record: Tlsa, certificate: x509.Certificate) -> bool:
    """Whether a certificate is what the record names (RFC 6698 2.1)."""
    if record.selector == 0:
        octets = certificate.public_bytes(Encoding.DER)
    else:
        octets = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _MATCHING[record.matching][0](octets) == record.data


def _given(record: Tlsa) -> x509.Certificate | None:
    """The authority's certificate where the record holds all of it: the host need not send it then."""
    return x509.load_der_x509_certificate(record.data) if (record.selector, record.matching) == (0, 0) else None


def _vouches(anchor: x509.Certificate, leaf: x509.Certificate, others: Sequence[x509.Certificate], name: str) -> bool:
    verifier = PolicyBuilder().store(Store([anchor])).build_server_verifier(x509.DNSName(name))
    try:
        verifier.verify(leaf, list(others))
    except VerificationError:
        return False
    return True


def _chain(tls: ssl.SSLObject) -> list[bytes]:
    """What the host sent, its own certificate first, in DER."""
    if hasattr(tls, "get_unverified_chain"):  # Python 3.13
        given: Sequence[bytes] = tls.get_unverified_chain()
    else:
        held = tls._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]  # the same, not yet public
        given = [certificate.public_bytes(2) for certificate in held]  # _ssl.ENCODING_DER
    return list(given[:MAX_CHAIN])
