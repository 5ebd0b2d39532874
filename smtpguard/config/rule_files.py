"""An operator's own classification rules: from `classify.rules` to the files, and whether they can be used.

A name may be a file, a folder (its *.toml) or a pattern. A file named outright must be there; a folder or a pattern may
be empty, so that rules can be dropped in later.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from smtpguard.config.section import KeyPath
from smtpguard.config.settings import Settings

_KEY: Final[KeyPath] = ("classify", "rules")


def rule_files(names: Sequence[str]) -> tuple[Path, ...]:
    """The files behind the names, each once, sorted within a folder or a pattern. A file that is absent is kept."""
    found: dict[Path, None] = {}
    for name in names:
        if Path(name).is_dir():
            found |= dict.fromkeys(sorted(Path(name).glob("*.toml")))
        elif glob.has_magic(name):
            found |= dict.fromkeys(sorted(path for path in map(Path, glob.glob(name)) if path.is_file()))
        else:
            found[Path(name)] = None
    return tuple(found)


def own_rules(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """A mistake in a rule file, with file, rule and remedy."""
    if not settings.classify.rules:
        return
    from smtpguard.classify import (
        RuleError,
        ShippedRuleError,
        rules_of,
    )  # 0.1 s that nobody without rules of their own need pay

    try:
        rules_of(rule_files(settings.classify.rules))
    except ShippedRuleError:
        return  # no mistake of this file: the start says what it is
    except RuleError as error:
        yield _KEY, str(error)
