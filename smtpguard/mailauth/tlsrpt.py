"""TLSRPT (RFC 8460): the record by which a domain asks for reports of deliveries to it that failed for want of TLS."""

from __future__ import annotations

import re
from collections.abc import Iterable

from smtpguard.mailauth.versioned import Versioned, only

# tlsrpt-rua = "rua" *WSP "=" *WSP tlsrpt-uri *(*WSP "," *WSP tlsrpt-uri), of RFC 8460 3: mailto or https
_URI = re.compile(r"mailto:[^\s@,!;]+@[^\s@,!;]+|https://[^\s,!;]+", re.IGNORECASE)


def name_of(domain: str) -> str:
    """Where a domain's record stands."""
    return f"_smtp._tls.{domain}"


def parse_record(records: Iterable[bytes]) -> Versioned:
    """The TXT records at `name_of`; the tag that counts is `rua` (RFC 8460 3)."""
    found = only(records, "TLSRPTv1")
    if not found.tags:
        return found
    uris = [uri.strip() for uri in found.tags.get("rua", "").split(",")]
    wrong = next((uri for uri in uris if not _URI.fullmatch(uri)), None)
    if wrong is None:
        return found
    problem = f"its rua= has '{wrong}', which is neither mailto: nor https:" if wrong else "it has no rua="
    return found._replace(tags={}, problem=problem)
