"""The annotated sample file: every key with its default and doc, made from settings.py.

`python -m smtpguard.config.sample` prints it; `config/smtpguard.toml` in the repository is that output, and a test
keeps it so. It is a valid configuration: what it sets are the defaults, but for the one host that nobody can guess.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Final, get_origin

from pydantic.fields import FieldInfo

from smtpguard.config.section import Section, extra, keys, table_of
from smtpguard.config.settings import RESTART_KEYS, Settings

_HEAD: Final = """\
# smtpguard.toml: every key with its default.
#
# Looked for at: --config FILE, $SMTPGUARD_CONFIG, ./smtpguard.toml, /etc/smtpguard/smtpguard.toml.
# Any key can be set by the environment, lists as JSON: SMTPGUARD__NEXT_HOP__DEFAULT__HOST='["a.example", "b.example"]'.
# Durations: "500ms" "30s" "5m" "2h" "30d". Sizes: "512KiB" "25MiB" "10MB", or a number of octets.
# `smtpguard config test` says all that is wrong with a file. SIGHUP reads it again, all or nothing;
# keys that need a restart say so.
"""

# What stands in the sample where the default could not be used, or would show nothing.
_EXAMPLES: Final = {
    "next_hop.default.host": ["smtp.example.net"],
    "route.recipient_domain": ["*.example.org"],
    "route.next_hop": "other",
    "policy.category": ["recipient.unknown", "recipient.disabled", "recipient.domain"],
    "policy.class": 5,
    "policy.action": "suppress",
    "lint.rules": '# SPF = "observe"',
    "lint.except.rules": ["DMA"],
    "lint.except.sender_domain": ["lists.example.com"],
}
_COLUMN: Final = 40  # where docs begin


def sample() -> str:
    """The sample file. All of it is active but arrays of tables such as [[route]], which need something to name."""
    return "\n".join([_HEAD, *_tables(Settings, "")])


def _tables(table: type[Section], above: str) -> Iterator[str]:
    """The tables within a table that have a header of their own, and theirs in turn."""
    for name, field in keys(table).items():
        inner = table_of(field.annotation)
        if get_origin(field.annotation) is dict and inner is None:  # a table of free keys
            yield f"# {field.description}\n[{above}{name}]\n{_EXAMPLES[above + name]}\n"
        if inner is None or _is_inline(field):
            continue
        origin = get_origin(field.annotation)
        path = above + (f"{name}.default" if origin is dict else name)
        lines = [f"[[{path}]]" if origin is tuple else f"[{path}]", *_lines(inner, path)]
        if origin is tuple:
            lines = ["# " + line for line in lines]
        yield "\n".join([f"# {field.description}", *lines]) + "\n"
        yield from _tables(inner, f"{path}.")


def _is_table(field: FieldInfo) -> bool:
    return table_of(field.annotation) is not None or get_origin(field.annotation) is dict


def _is_inline(field: FieldInfo) -> bool:
    return bool(extra(field).get("inline"))


def _lines(table: type[Section], path: str) -> Iterator[str]:
    plain = {name: field for name, field in keys(table).items() if _is_inline(field) or not _is_table(field)}
    all_restart = all(f"{path}.{name}" in RESTART_KEYS for name in plain)
    for name, field in plain.items():
        full = f"{path}.{name}"
        inner = table_of(field.annotation)
        value = _written(inner) if inner else _literal(_EXAMPLES.get(full, extra(field)["shown"]))
        alone = full in RESTART_KEYS and not all_restart  # a table where all do says so itself
        doc = (field.description or "") + (" (needs a restart)" if alone else "")
        setting = f"{name} = {value}"
        if len(setting) >= _COLUMN - 1 or len(doc) > 78:
            yield f"# {name}: {doc}"
            yield setting
        else:
            yield f"{setting:<{_COLUMN - 1}} # {doc}"


def _written(table: type[Section]) -> str:
    """A table within a table, on one line."""
    pairs = (f"{name} = {_literal(extra(field)['shown'])}" for name, field in keys(table).items())
    return "{ " + ", ".join(pairs) + " }"


def _literal(value: object) -> str:
    """A default as TOML: strings, numbers, truths and lists of strings are written as in JSON."""
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(sample())
