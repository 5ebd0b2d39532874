"""Settings from the environment: `SMTPGUARD__SECTION__KEY`, laid over those of the file.

Scalars as they are, lists and tables as JSON: `SMTPGUARD__LISTEN__SMTP=0.0.0.0:25`,
`SMTPGUARD__LISTEN__ALLOW='["10.0.0.0/8"]'`, `SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD=...`. The name of a next hop
is matched without regard to case, and `_` also means `-` and `.`. Keys are not checked here but for what the way
to them needs: `load` judges the whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from smtpguard.config.problems import ENVIRONMENT, PREFIX, Origin, Problem, is_secret
from smtpguard.config.section import KeyPath
from smtpguard.config.settings import field_at

# Begins as a JSON list or table of ours does; "[::1]:25" does not.
_JSON = re.compile(r"\s*(?:\{|\[\s*[\"{\]])")


def overlay(data: dict[str, Any], environ: Mapping[str, str], origin: Origin) -> list[Problem]:
    """Lay the variables over `data`, in place, and note them in `origin`; the problems of those that cannot be laid."""
    problems: list[Problem] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        path = _path(variable, data)
        try:
            _put(data, path, _typed(environ[variable], path))
        except ValueError as error:
            problems.append(Problem(ENVIRONMENT, None, variable, str(error)))
        else:
            origin.variables[path] = variable
    return problems


def _path(variable: str, data: Mapping[str, Any]) -> KeyPath:
    steps = variable.removeprefix(PREFIX).lower().split("__")
    hops = data.get("next_hop")
    if len(steps) > 1 and steps[0] == "next_hop" and isinstance(hops, dict):
        named = (name for name in hops if re.sub("[-.]", "_", name).lower() == steps[1])
        steps[1] = next(named, steps[1])
    return tuple(steps)


def _typed(text: str, path: KeyPath) -> object:
    """What TOML would have given for this text: the key's type decides between a number, a truth and a string."""
    field = field_at(path)
    if field is None or is_secret(path):
        return text
    if _JSON.match(text):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("begins as JSON and is not") from None
    if field.annotation is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if field.annotation is int and not _has_own_form(field) and re.fullmatch("-?[0-9]{1,9}", text):
        return int(text)
    return text


def _has_own_form(field: FieldInfo) -> bool:
    """Whether values.py reads this key: then a string is what it wants ("0660" is not six hundred and sixty)."""
    return any(isinstance(mark, BeforeValidator) for mark in field.metadata)


def _put(data: dict[str, Any], path: KeyPath, value: object) -> None:
    """Set a value where `path` leads, with the tables on the way; ValueError where something else is in the way."""
    if not all(path):
        raise ValueError("names no key")
    table: Any = data
    for step in path[:-1]:
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            raise ValueError(f"names no key: {step} is not a table")
    table[path[-1]] = value
