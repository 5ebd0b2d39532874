"""Our own certificate: the TLS that the doors offer by STARTTLS (RFC 3207), and when it expires."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from smtpguard.config.settings import ListenSettings


class NoCertificate(Exception):
    """The files are no pair that can be used; the text names them."""


class Certificate:
    """`expires` is told when the certificate at hand expires, in seconds since the epoch."""

    def __init__(self, expires: Callable[[float], None]) -> None:
        self._expires = expires

    def context(self, settings: ListenSettings) -> ssl.SSLContext | None:
        """What STARTTLS is done with; None where no certificate is set. NoCertificate as `load`."""
        if not settings.tls_cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context, settings)
        return context

    def load(self, context: ssl.SSLContext, settings: ListenSettings) -> None:
        """From the files as they are now; NoCertificate if they are no pair."""
        from cryptography.x509 import load_pem_x509_certificate  # only where TLS is used

        try:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
            certificate = load_pem_x509_certificate(Path(settings.tls_cert).read_bytes())
        except (OSError, ValueError) as error:
            raise NoCertificate(f"listen.tls_cert, listen.tls_key: not a usable pair: {error}") from error
        self._expires(certificate.not_valid_after_utc.timestamp())
