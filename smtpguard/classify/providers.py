"""Who answered: a provider's name from the next hop's host name.

The set is closed, because the name is a metric label: what is not in providers.toml is `other`. The tables also hold
how a provider's own text betrays it; the classifier uses that where the host name says nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Final, NotRequired, TypedDict

OTHER: Final = "other"


class _Marks(TypedDict):
    page: NotRequired[str]
    hosts: list[str]
    names: list[str]
    marks: NotRequired[list[str]]
    says: NotRequired[list[str]]


def _read() -> dict[str, _Marks]:
    text = files(__package__).joinpath("providers.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


_TABLE: Final[Mapping[str, _Marks]] = _read()
_BY_SUFFIX: Final = {suffix: name for name, marks in _TABLE.items() for suffix in marks["hosts"]}
_BY_NAME: Final = {word: name for name, marks in _TABLE.items() for word in marks["names"]}

PAGES: Final[Mapping[str, str]] = {name: marks["page"] for name, marks in _TABLE.items() if "page" in marks}
"""Where a provider explains its replies."""
PROVIDERS: Final[tuple[str, ...]] = (*_TABLE, OTHER)
MARKS: Final[Mapping[str, Sequence[str]]] = {
    f"#{name}": marks["marks"] for name, marks in _TABLE.items() if "marks" in marks
}
"""By sign, the pieces of host names and pages that give a provider away."""
SAYINGS: Final[Sequence[tuple[str, str]]] = [
    (name, phrase)
    for name, marks in _TABLE.items()
    for phrase in [*marks.get("says", ()), *([f"#{name}"] if "marks" in marks else [])]
]
"""(provider, phrase that only its servers write)."""


@lru_cache(maxsize=4096)
def provider_of(host: str) -> str:
    """The provider behind a next hop's host name or a display name ("mx.google.com", "Yahoo Inc"); else `other`."""
    name = host.strip().rstrip(".").lower()
    if (known := _BY_NAME.get("".join(filter(str.isalnum, name)))) is not None:
        return known
    while name:
        if (known := _BY_SUFFIX.get(name)) is not None:
            return known
        name = name.partition(".")[2]
    return OTHER
