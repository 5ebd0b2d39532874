"""Domain patterns as the configuration writes them: `example.org`, `*.example.org` (its subdomains only), `*`.

Patterns are A-labels in lower case (`config.values.domains` makes them so); the domain of a path may be in U-labels,
where the mail has SMTPUTF8 (RFC 6531 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence

from smtpguard.mail.domain import to_ascii


def matches(patterns: Sequence[str], domain: str) -> bool:
    """Whether a domain in lower case is among the patterns; it always is where there is none."""
    if not patterns:
        return True
    name = domain if domain.isascii() else to_ascii(domain) or domain  # what is no name is taken as it stands
    return any(_is_meant(pattern, name) for pattern in patterns)


def _is_meant(pattern: str, domain: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return domain.endswith(pattern[1:])
    return domain == pattern
