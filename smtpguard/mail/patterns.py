"""Domain patterns as the configuration writes them: `example.org`, `*.example.org` (its subdomains only), `*`."""

from __future__ import annotations

from collections.abc import Sequence


def matches(patterns: Sequence[str], domain: str) -> bool:
    """Whether a domain in lower case is among the patterns; it always is where there is none."""
    return not patterns or any(_is_meant(pattern, domain) for pattern in patterns)


def _is_meant(pattern: str, domain: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return domain.endswith(pattern[1:])
    return domain == pattern
