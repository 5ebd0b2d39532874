"""BIMI (draft-brand-indicators-for-message-identification): the record that names the logo of a domain.

Only the record is read: neither the picture nor the certificate is fetched, and what a mailbox provider thinks of them
cannot be known from here.
"""

from __future__ import annotations

from collections.abc import Iterable

from smtpguard.mailauth.versioned import Versioned, only


def name_of(domain: str) -> str:
    """Where a domain's record stands, for mail that names no other selector."""
    return f"default._bimi.{domain}"


def parse_record(records: Iterable[bytes]) -> Versioned:
    """The TXT records at `name_of`; the tags that count are `l`, the picture, and `a`, the certificate.

    Both empty is a domain's word that it takes no part.
    """
    found = only(records, "BIMI1")
    if not found.tags:
        return found
    if "l" not in found.tags:
        return found._replace(tags={}, problem="it has no l=, the address of the picture")
    wrong = [tag for tag in ("l", "a") if found.tags.get(tag) and not found.tags[tag].lower().startswith("https://")]
    if wrong:
        return found._replace(tags={}, problem=f"its {wrong[0]}= is no https:// address")
    return found
