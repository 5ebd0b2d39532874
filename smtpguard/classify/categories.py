"""The closed set of causes, and what is known of each: read once from categories.toml.

A category is `group.leaf`; `CATEGORIES` and `GROUPS` are the closed label sets of the metrics, in the file's order.
Guidance is a sentence with places `{name|words}` that `guide` fills with what a reply's text gave.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final, Literal, get_args

Permanence = Literal["permanent", "until_fixed", "transient", "message", "unknown"]
Scope = Literal["recipient", "message", "sender", "egress", "session", "account"]

PERMANENCES: Final[tuple[str, ...]] = get_args(Permanence)
SCOPES: Final[tuple[str, ...]] = get_args(Scope)
PLACES: Final = frozenset({"delisting", "domain", "ip", "limit", "list", "retry"})
"""What guidance may ask for; `extract.facts` gives it."""


@dataclass(frozen=True, slots=True)
class Category:
    """One cause of refusals, with the words that explain it (see the head of categories.toml)."""

    name: str
    title: str
    cause: str
    responsible: str
    permanence: str
    scope: str
    guidance: str

    @property
    def group(self) -> str:
        """The part before the dot, as in the metric label `group`."""
        return group_of(self.name)


def group_of(category: str) -> str:
    """`auth` of `auth.spf`; `unknown` of `unknown`."""
    return category.partition(".")[0]


_PLACE = re.compile(r"\{([a-z]+)\|([^{}]*)\}")


def guide(sentence: str, given: Mapping[str, str]) -> str:
    """The sentence with each `{name|words}` replaced by `given[name]`, or by the words where nothing was given."""
    if "{" not in sentence:
        return sentence
    words, places = _parted(sentence)
    filled = words.copy()
    for at, name in places:
        if value := given.get(name):
            filled[at] = value
    return "".join(filled)


@lru_cache(maxsize=1024)
def _parted(sentence: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The sentence in pieces, each place as its own words; and which pieces are places, by name."""
    words: list[str] = []
    names: list[tuple[int, str]] = []
    for number, piece in enumerate(_PLACE.split(sentence)):  # text, name, words, text, name, words, ... text
        if number % 3 == 1:
            names.append((len(words), piece))
        else:
            words.append(piece)
    return words, names


@lru_cache(maxsize=1024)
def places(sentence: str) -> tuple[str, ...]:
    """The names a sentence asks for; ValueError where it asks for one that nobody gives, or is not well formed."""
    found = tuple(name for name, _ in _PLACE.findall(sentence))
    if strange := set(found) - PLACES:
        raise ValueError(f"no such place: {', '.join(sorted(strange))}")
    if "{" in _PLACE.sub("", sentence) or "}" in _PLACE.sub("", sentence):
        raise ValueError("a brace that is no {name|words}")
    return found


def _read() -> dict[str, Category]:
    text = files(__package__).joinpath("categories.toml").read_text(encoding="utf-8")
    return {name: Category(name, **fields) for name, fields in tomllib.loads(text).items()}


BY_NAME: Final[Mapping[str, Category]] = _read()
CATEGORIES: Final[tuple[str, ...]] = tuple(BY_NAME)
GROUPS: Final[tuple[str, ...]] = tuple(dict.fromkeys(map(group_of, CATEGORIES)))
