"""The organizational domain of a name, by list, as receivers of DMARC find it.

RFC 7489 3.2 (organizational domain by public suffix list). The list is the one that the publicsuffixlist package
brings, its private section included; it is loaded when first asked for and never fetched. RFC 9989 finds the same
domain without a list: `dmarc.org`.
"""

from __future__ import annotations

from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=8192)
def organizational(domain: str) -> str:
    """The public suffix of a domain (A-labels) and one label more; a public suffix is its own (RFC 7489 3.2)."""
    return _suffixes().privatesuffix(domain) or domain.lower().removesuffix(".")
