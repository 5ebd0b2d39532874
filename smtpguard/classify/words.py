"""Families of words that mean the same to a postmaster, by name, for the rules' phrases: read once from words.toml.

`{mailbox} ... {unknown}` in a phrase stands for every noun and every predicate of the two families, so that a rule says
once what thirty servers word in thirty ways.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from smtpguard.classify.regex import plain


class UnknownError(KeyError):
    """No such family; the text is its name."""

    def __str__(self) -> str:
        return str(self.args[0])


def _read() -> Mapping[str, tuple[str, ...]]:
    text = files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
    return {name: tuple(map(plain, members)) for name, members in tomllib.loads(text).items()}


FAMILIES: Final = _read()
"""Members by the family's name, in plain form and in the notation of readings.py."""
