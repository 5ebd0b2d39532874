"""The JSON Schema of the configuration file, made from settings.py: for editors that complete and check TOML.

Types that values.py reads have their written form here, in a table; all others, with their limits, come from pydantic.
A schema says less than `config test`: nothing of files that must exist, or of keys that contradict each other.
Dialect: https://json-schema.org/draft/2020-12/schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, get_origin

from pydantic import BeforeValidator, TypeAdapter

from smtpguard.config import values
from smtpguard.config.section import Section, extra, keys, table_of
from smtpguard.config.settings import RESTART_KEYS, Settings
from smtpguard.config.show import reader_of

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_TEXTS: Final[Schema] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}

# How a type of values.py is written. Patterns are no stricter than values.py, which has the last word.
_WRITTEN: Final[Mapping[Callable[..., object], Schema]] = {
    values.duration: {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$"},
    values.size: {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": values.MAX_SIZE},
            {"type": "string", "pattern": "^[0-9]{1,16} ?([KkMmGg][Ii]?)?[Bb]?$"},
        ]
    },
    values.mode: {"type": "string", "pattern": "^0?[0-7]{3}$"},
    values.listen_addresses: _TEXTS,
    values.http_address: _TEXT,
    values.networks: _TEXTS,
    values.public_addresses: _TEXTS,
    values.name_servers: _TEXTS,
    values.names: _TEXTS,
    values.categories: _TEXTS,
    values.permanences: _TEXTS,
    values.verbs: _TEXTS,
    values.address_patterns: _TEXTS,
    values.store_url: _TEXT,
    values.web_address: _TEXT,
    values.hosts: _TEXTS,
    values.domains: _TEXTS,
    values.keywords: _TEXTS,
    values.files: _TEXTS,
    values.host_name: {"type": "string", "maxLength": 253},
    values.source_address: _TEXT,
    values.line: {"type": "string", "maxLength": 200},
    values.file: _TEXT,
}


def schema() -> Schema:
    """The schema as an object that `json.dumps` takes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smtpguard.toml",
        **_of_table(Settings, ""),
    }


def _of_table(table: type[Section], above: str) -> Schema:
    properties = {name: _of_key(table, name, above) for name in keys(table)}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _of_key(table: type[Section], name: str, above: str) -> Schema:
    field = keys(table)[name]
    doc: Schema = {"description": field.description or name}
    inner = table_of(field.annotation)
    if inner is not None:
        found = _of_table(inner, f"{above}{name}.")
        if get_origin(field.annotation) is dict:
            found = {"type": "object", "additionalProperties": found}
        elif get_origin(field.annotation) is tuple:
            found = {"type": "array", "items": found}
        return doc | found
    if above + name in RESTART_KEYS:
        doc["description"] += " (needs a restart)"
    reader = reader_of(field)
    ours = _WRITTEN.get(reader) if reader is not None else None
    found = ours or _of_type(field.annotation, field.metadata)
    return doc | found | {"default": extra(field)["shown"]}


def _of_type(annotation: Any, marks: list[Any]) -> Schema:
    """What pydantic says of a type and its limits."""
    limits = tuple(mark for mark in marks if not isinstance(mark, BeforeValidator))
    found: Schema = TypeAdapter(Annotated[(annotation, *limits)] if limits else annotation).json_schema()
    if found.get("type") == "array":  # a list of texts may be one text
        return {"anyOf": [_TEXT, found]}
    return found
