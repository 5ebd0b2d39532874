"""Settings written out again, each with where it came from: what `config show` prints, and `init` writes.

A value is written as its key is written in the file: durations and sizes with the largest unit that leaves a whole
number, networks and addresses as text. The text is a configuration itself: loaded, it gives the same settings. Secrets
are not in it; that they are set is said in a comment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from smtpguard.config import values
from smtpguard.config.problems import Origin, dotted
from smtpguard.config.section import KeyPath, Section, table_of
from smtpguard.config.settings import Settings

SET: Final = "(set)"
"""Stands for a secret."""
DEFAULT: Final = "default"


class Shown(NamedTuple):
    """One key: where it stands, its value as TOML and JSON write it, and its origin (`is_default`: nobody set it).

    `origin` is `smtpguard.toml:9`, `environment SMTPGUARD__...` or `default`. A secret's value is SET.
    """

    path: KeyPath
    value: object
    origin: str
    is_default: bool
    is_secret: bool = False


def shown(settings: Settings, origin: Origin) -> Iterator[Shown]:
    """Every key in force, in the order of the sample file."""
    yield from _table(settings, (), origin)


def _table(table: Section, above: KeyPath, origin: Origin) -> Iterator[Shown]:
    fields = type(table).model_fields
    for name in sorted(fields, key=lambda name: table_of(fields[name].annotation) is not None):  # TOML: keys first
        field = fields[name]
        path: KeyPath = (*above, field.alias or name)
        value = getattr(table, name)
        if field.exclude:
            if value is not None:
                yield Shown(path, SET, _secret_origin(table, name, path, origin), is_default=False, is_secret=True)
        elif isinstance(value, Section):
            yield from _table(value, path, origin)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, Section):
                    yield from _table(inner, (*path, key), origin)
                else:
                    yield Shown((*path, key), inner, _origin((*path, key), origin), is_default=False)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for index, inner in enumerate(value):
                yield from _table(inner, (*path, index), origin)
        elif table_of(field.annotation) is None:  # an array of no tables has nothing to show
            where = _origin(path, origin)
            yield Shown(path, written(field, value), where, is_default=where == DEFAULT)


def _origin(path: KeyPath, origin: Origin) -> str:
    """The environment lies over the file; a table may have been given as a whole, as JSON or in one line."""
    for end in range(len(path), 0, -1):
        if path[:end] in origin.variables:
            return f"environment {origin.variables[path[:end]]}"
    return f"{origin.file}:{origin.lines[path]}" if path in origin.lines else DEFAULT


def _secret_origin(table: Section, name: str, path: KeyPath, origin: Origin) -> str:
    if file := getattr(table, f"{name}_file", ""):
        return str(file)
    found = _origin(path, origin)
    return "systemd credential" if found == DEFAULT else found


# --- values as they are written --------------------------------------------------------------------------------

_DURATIONS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))  # in milliseconds
_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def _duration(value: Any) -> str:
    """`"90s"`, not `"1.5m"`; minutes and more only where they read as what was meant."""
    milliseconds = round(value * 1000)
    if 0 < milliseconds <= 600_000 and milliseconds % 1000 == 0:  # "300s" is how the sample writes it
        return f"{milliseconds // 1000}s"
    days, *others = _DURATIONS
    units = _DURATIONS if milliseconds >= 2 * days[1] else others  # "24h" is one day as it is written
    unit, size = next((unit, size) for unit, size in units if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}" if milliseconds else "0s"


def _size(value: Any) -> object:
    return next((f"{value // size}{unit}" for unit, size in _SIZES if value and value % size == 0), value)


def _one_or_many(value: Any) -> object:
    """As is written most: one address alone, several as a list, none as ""."""
    texts = [str(one) for one in value]
    return texts[0] if len(texts) == 1 else texts or ""


# How a type of values.py is written; all else is written as it is.
_WRITTEN: Final[Mapping[Callable[..., object], Callable[[Any], object]]] = {
    values.duration: _duration,
    values.size: _size,
    values.mode: lambda value: f"{value:04o}",
    values.listen_addresses: _one_or_many,
    values.http_address: lambda value: str(value or ""),
    values.networks: lambda value: [str(net) for net in value],
    values.public_addresses: lambda value: [str(address) for address in value],
}


def written(field: FieldInfo, value: object) -> object:
    """A setting's value as its key is written in the file, and in JSON."""
    reader = reader_of(field)
    if reader is not None and reader in _WRITTEN:
        return _WRITTEN[reader](value)
    return list(value) if isinstance(value, tuple) else value


def reader_of(field: FieldInfo) -> Callable[..., object] | None:
    """The function of values.py that reads a key; None where pydantic alone does."""
    return next((mark.func for mark in field.metadata if isinstance(mark, BeforeValidator)), None)


# --- as TOML ---------------------------------------------------------------------------------------------------

_COLUMN: Final = 47  # where origins begin


def toml(found: list[Shown]) -> str:
    """The keys as a file, with their origins as comments."""
    lines: list[str] = []
    table: KeyPath = ()
    for one in found:
        if one.path[:-1] != table:
            table = one.path[:-1]
            lines += ["", header(table)]
        text = f"{dotted(one.path[-1:])} = {json.dumps(one.value, ensure_ascii=False)}"
        if one.is_secret:
            text = f"# {one.path[-1]} {one.value}"
        lines.append(f"{text:<{_COLUMN}} # {one.origin}")
    return "\n".join([*lines[1:], ""])


def header(table: KeyPath) -> str:
    """`[next_hop.default]`; `[[route]]` for an element of an array."""
    if isinstance(table[-1], int):
        return f"[[{dotted(table[:-1])}]]"
    return f"[{dotted(table)}]"


def as_json(found: list[Shown]) -> dict[str, dict[str, object]]:
    """The keys by their dotted names, as an object: `{"listen.smtp": {"value": ..., "origin": ...}}`."""
    return {dotted(one.path): {"value": one.value, "origin": one.origin} for one in found}
