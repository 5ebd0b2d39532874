"""What is wrong with a configuration, in words: one line a problem, with its file and line, or the variable.

The wording of every pydantic error that a setting can cause is the table here; no message repeats a value that
may be a secret. Nothing here decides whether something is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final

from pydantic_core import ErrorDetails

from smtpguard.config.section import KeyPath, keys, table_of
from smtpguard.config.settings import Settings, field_at, table_at
from smtpguard.config.values import shown
from smtpguard.mail.reply import clean

ENVIRONMENT: Final = "environment"
PREFIX: Final = "SMTPGUARD__"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, or one warning. `file` is "" for the defaults and "environment" for a variable (`key` names it)."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        if self.file == ENVIRONMENT:
            parts = [f"{self.file} {self.key}", self.message]
        else:
            parts = [place, self.key, self.message]
        return clean(": ".join(part for part in parts if part), utf8=True)


class ConfigError(Exception):
    """A configuration that cannot be used: all that is wrong with it, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class Origin:
    """Where each key came from: a line of the file, or a variable (its name)."""

    file: str = ""
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    variables: dict[KeyPath, str] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem at a key; where it was not written, at the nearest table that was."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.variables:
                inside = f"{dotted(path[end:])}: " if path[end:] else ""  # of a table given as JSON
                return Problem(ENVIRONMENT, None, self.variables[path[:end]], inside + message)
            if path[:end] in self.lines:
                return Problem(self.file, self.lines[path[:end]], dotted(path), message)
            if any(below[:end] == path[:end] for below in self.variables):
                return Problem(ENVIRONMENT, None, variable_of(path), message)
        return Problem(self.file, None, dotted(path), message)

    def unknown_key(self, path: KeyPath) -> Problem:
        """A key that its table does not have, with the one that was probably meant, or the tables that have it."""
        problem = self.problem(path, "unknown key")
        meant = _near(path)
        elsewhere = () if meant else _elsewhere(path)
        if len(path) == 1 and len(elsewhere) == 1:  # the line above it is missing, the one that names the table
            meant = (*elsewhere[0], _word(path))
        if meant is not None:
            name = variable_of(meant) if problem.file == ENVIRONMENT else dotted(meant[len(path) - 1 :])
            return replace(problem, message=f"unknown key; did you mean '{name}'?")
        if elsewhere:
            tables = " and ".join(f"[{dotted(table)}]" for table in elsewhere)
            return replace(problem, message=f"unknown key here; known in {tables}")
        return problem


def variable_of(path: KeyPath) -> str:
    """The variable that sets a key."""
    return PREFIX + "__".join(map(str, path)).upper()


def dotted(path: KeyPath) -> str:
    """`next_hop.default.tls`, `route[0].next_hop`; keys that TOML would quote are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if re.fullmatch("[A-Za-z0-9_-]+", step) else json.dumps(step))
    return text


def _word(path: KeyPath) -> str:
    return str(path[-1]).lower().replace("-", "_")


def _near(path: KeyPath) -> KeyPath | None:
    """The key of the same table that an unknown one resembles."""
    table = table_at(path[:-1])
    near = get_close_matches(_word(path), keys(table), n=1, cutoff=0.7) if table else []
    return (*path[:-1], near[0]) if near else None


def _elsewhere(path: KeyPath) -> tuple[KeyPath, ...]:
    """The tables that have a key of that name, where another one has not."""
    tables = ((name, table_of(found.annotation)) for name, found in keys(Settings).items())
    having = [name for name, table in tables if table is not None and _word(path) in keys(table)]
    return tuple((name, "default") if name == "next_hop" else (name,) for name in having)


# pydantic's error type -> what is said after the value; {…} are filled from the error's own context.
_WORDS: Final = {
    "int_type": "is not a whole number",
    "bool_type": "is not true or false",
    "string_type": "is not text in quotes",
    "model_type": "is not a table",
    "dict_type": "is not a table",
    "tuple_type": "is not a list of tables: write [[{key}]]",
    "literal_error": "is not one of {choices}",
    "greater_than_equal": "is less than {ge}",
    "less_than_equal": "is more than {le}",
}


def wording(error: ErrorDetails, path: KeyPath, value: object) -> str:
    """What a pydantic error means to who wrote `value` at `path`."""
    context = dict(error.get("ctx", {}))
    if error["type"] == "value_error":  # ours, from values.py: a whole sentence
        return str(context["error"])
    words = _WORDS.get(error["type"])
    if words is None:
        return error["msg"]
    if error["type"] == "model_type" and len(path) == 2 and path[0] == "next_hop":
        return "is not a table: write it below [next_hop.default]"
    choices = context.get("expected", "").replace("'", "").replace(" or ", ", ")
    filled = words.format(
        key=path[-1],
        choices=choices,
        ge=_bound(context.get("ge")),
        le=_bound(context.get("le")),
    )
    if isinstance(value, str) and _is_quoted(value, error["type"], choices):
        filled += f": write {value.lower()}, without quotes"
    return filled if is_secret(path) else f"{shown(value)} {filled}"


def _is_quoted(value: str, kind: str, choices: str) -> bool:
    """Whether a text would do, if it were not one."""
    match kind:
        case "int_type":
            return value.isdecimal()
        case "bool_type":
            return value.lower() in ("true", "false")
        case _:
            return value in choices.split(", ")


def _bound(value: Any) -> str:
    return f"{value:g}s" if isinstance(value, float) else str(value)  # floats are durations here


def is_secret(path: KeyPath) -> bool:
    """Whether a value at this key is, or may by mistake be, a secret: never repeated."""
    found = field_at(path)
    return found is not None and (found.exclude is True or str(path[-1]).endswith("_file"))
