"""Certificates for tests: made when needed, kept nowhere.

Keys are P-256: made in a millisecond. Names are DNS names or IP addresses and stand in subjectAltName
(RFC 6125). Files are PEM; a key file holds one unencrypted key.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class CaAndServer(NamedTuple):
    """Paths: the authority's certificate, and a server's certificate and key issued by it."""

    ca: Path
    cert: Path
    key: Path


def self_signed(names: Sequence[str], *, directory: Path, expired: bool = False) -> tuple[Path, Path]:
    """A certificate for these names, signed by itself: (certificate path, key path)."""
    key = ec.generate_private_key(ec.SECP256R1())
    cert = _certificate(names, key, issuer=None, issuer_key=key, expired=expired, authority=True)
    return _write(directory, "self-signed", cert, key)


def ca_and_server(names: Sequence[str], *, directory: Path, expired: bool = False) -> CaAndServer:
    """An authority, and a server's certificate for these names issued by it (`expired`: the server's is)."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate(
        ["Test authority"], ca_key, issuer=None, issuer_key=ca_key, expired=False, authority=True, alternative=False
    )
    key = ec.generate_private_key(ec.SECP256R1())
    cert = _certificate(names, key, issuer=ca, issuer_key=ca_key, expired=expired, authority=False)
    ca_path, _ = _write(directory, "ca", ca, ca_key)
    return CaAndServer(ca_path, *_write(directory, "server", cert, key))


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """A server's TLS context."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


def client_context(ca: Path) -> ssl.SSLContext:
    """A client's TLS context that trusts this authority, or this self-signed certificate, and nobody else."""
    return ssl.create_default_context(cafile=str(ca))


def _certificate(
    names: Sequence[str],
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    expired: bool,
    authority: bool,
    alternative: bool = True,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * day)
        .not_valid_after(now - day if expired else now + day)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=authority,
                crl_sign=authority,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), False)
    return builder.sign(issuer_key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(directory: Path, stem: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    cert_path, key_path = directory / f"{stem}.cert.pem", directory / f"{stem}.key.pem"
    cert_path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path
