"""Families of words that mean the same to a postmaster, by name, for the rules' patterns: read once from words.toml.

`{mailbox} .*{unknown}` in a pattern stands for every noun and every predicate of the two families, so that a rule says
once what thirty servers word in thirty ways.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from smtpguard.classify.regex import GAP

_NAME = re.compile(r"\{([a-z_]+)\}")  # a quantifier has digits


class UnknownError(KeyError):
    """No such family; the text is its name."""

    def __str__(self) -> str:
        return str(self.args[0])


def expanded(pattern: str) -> str:
    """The pattern with each `{name}` replaced by its family, and ` ... ` by a gap; UnknownError names a missing one."""
    pattern = pattern.replace(" ... ", GAP)
    while "{" in pattern and (wider := _NAME.sub(_family, pattern)) != pattern:  # families hold families
        pattern = wider
    return pattern


def _family(found: re.Match[str]) -> str:
    try:
        return FAMILIES[found[1]]
    except KeyError:
        raise UnknownError(found[1]) from None


def _read() -> Mapping[str, str]:
    text = files(__package__).joinpath("words.toml").read_text(encoding="utf-8")
    return {name: f"({'|'.join(member.replace(' ... ', GAP) for member in members)})" for name, members in tomllib.loads(text).items()}


FAMILIES: Final = _read()
