"""The annotated sample file: every key with its default and doc, made from settings.py.

`python -m smtpguard.config.sample` prints it; `config/smtpguard.toml` in the repository is that output, and a test
keeps it so. It is a valid configuration: what it sets are the defaults, but for the one host that nobody can guess.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Final, get_origin

from smtpguard.config.settings import RESTART_KEYS, Section, Settings, extra, keys, table_of

_HEAD: Final = """\
# smtpguard.toml: every key with its default.
#
# Looked for at: --config FILE, $SMTPGUARD_CONFIG, ./smtpguard.toml, /etc/smtpguard/smtpguard.toml.
# Any key can be set by the environment, lists as JSON: SMTPGUARD__NEXT_HOP__DEFAULT__HOST='["a.example", "b.example"]'.
# Durations: "500ms" "30s" "5m" "2h" "30d". Sizes: "512KiB" "25MiB" "10MB", or a number of octets.
# `smtpguard config test` says all that is wrong with a file. SIGHUP reads it again, all or nothing;
# some keys, as is said beside them, count from the next start.
"""

# What stands in the sample where the default could not be used, or would show nothing.
_EXAMPLES: Final = {
    "next_hop.default.host": ["smtp.example.net"],
    "route.recipient_domain": ["*.example.org"],
    "route.next_hop": "other",
}
_COLUMN: Final = 40  # where docs begin


def sample() -> str:
    """The sample file. All of it is active but [[route]], which needs a second next hop."""
    parts = [_HEAD]
    for name, field in keys(Settings).items():
        table = table_of(field.annotation)
        assert table is not None, name
        many = {tuple: f"[[{name}]]", dict: f"[{name}.default]"}
        origin = get_origin(field.annotation)
        path = f"{name}.default" if origin is dict else name
        header = many.get(origin, f"[{name}]") if origin else f"[{name}]"
        lines = [header, *_lines(table, path)]
        if origin is tuple:
            lines = ["# " + line for line in lines]
        parts.append("\n".join([f"# {field.description}", *lines]) + "\n")
    return "\n".join(parts)


def _lines(table: type[Section], path: str) -> Iterator[str]:
    all_restart = all(f"{path}.{name}" in RESTART_KEYS for name in keys(table))
    for name, field in keys(table).items():
        full = f"{path}.{name}"
        inner = table_of(field.annotation)
        value = _written(inner) if inner else _literal(_EXAMPLES.get(full, extra(field)["shown"]))
        alone = full in RESTART_KEYS and not all_restart  # a table where all do says so itself
        doc = (field.description or "") + (" (counts from the next start)" if alone else "")
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
