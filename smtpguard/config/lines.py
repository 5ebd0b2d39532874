"""On which line of a TOML text each key stands.

`tomllib` says what a text means but not where; tomlkit keeps the text but no positions either. So the text, once
tomllib has accepted it, is walked a second time here: table headers, keys, and how far a value reaches.
Nothing is checked (tomllib did), and no value is looked at but for what is inside arrays and inline tables.
Grammar: TOML 1.0.0, https://toml.io/en/v1.0.0.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections import Counter
from typing import Final

from smtpguard.config.section import KeyPath

# ws = *wschar; newline; comment = "#" *non-eol
_SPACE: Final = re.compile(r"[ \t]*")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
# simple-key = quoted-key / unquoted-key
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
# string = ml-basic-string / basic-string / ml-literal-string / literal-string; a multi-line one may end in up to
# two more quotes of its own.
_STRING: Final = re.compile(
    r'''"""(?:\\.|[^\\])*?""""{0,2}|"(?:\\.|[^"\\])*"'''
    r"""|\'\'\'.*?\'\'\''{0,2}|'[^']*'""",
    re.DOTALL,
)
# boolean, date-time, float, integer: all end where something else begins
_BARE: Final = re.compile(r"[^,\]}#\r\n]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of each key, table and array element of a text that `tomllib.loads` takes.

    A table made by its header stands at the header, one made by a dotted key at its first key.
    """
    walk = _Walk(text)
    walk.document()
    return walk.lines


class _Walk:
    """One pass over a text; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.ends = [found.start() for found in re.finditer("\n", text)]
        self.elements: Counter[KeyPath] = Counter()  # of each array of tables so far

    def skip(self, what: re.Pattern[str]) -> str:
        """Go past what matches here; the text gone past."""
        found = what.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found.group()

    def take(self, mark: str) -> bool:
        """Go past `mark` if it is next; whether it was."""
        found = self.text.startswith(mark, self.at)
        if found:
            self.at += len(mark)
        return found

    def line(self) -> int:
        return bisect_right(self.ends, self.at - 1) + 1 if self.at else 1

    def document(self) -> None:
        table: KeyPath = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            table = self.header() if self.text[self.at] == "[" else self.pair(table)
            self.skip(_BLANK)

    def dotted_key(self) -> list[str]:
        parts: list[str] = []
        while not parts or self.take("."):
            self.skip(_SPACE)
            raw = self.skip(_KEY)
            parts.append(tomllib.loads(f"k = {raw}")["k"] if raw[:1] in ("'", '"') else raw)
            self.skip(_SPACE)
        return parts

    def header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`; within it, the name of an array of tables means its last element."""
        line = self.line()
        is_array = self.take("[[")
        if not is_array:
            self.take("[")
        parts = self.dotted_key()
        self.take("]]" if is_array else "]")
        path: KeyPath = ()
        for part in parts[:-1]:
            path = (*path, part)
            self.lines.setdefault(path, line)
            if self.elements[path]:
                path = (*path, self.elements[path] - 1)
        path = (*path, parts[-1])
        if is_array:
            self.lines.setdefault(path, line)
            path = (*path, self.elements[path])
            self.elements[path[:-1]] += 1
        self.lines[path] = line
        return path

    def pair(self, table: KeyPath) -> KeyPath:
        """`key = value`, in a table or an inline one; the table again."""
        line = self.line()
        path = table
        for part in self.dotted_key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.take("=")
        self.value(path)
        return table

    def value(self, path: KeyPath) -> None:
        self.skip(_SPACE)
        if self.take("["):
            self.array(path)
        elif self.take("{"):
            self.skip(_BLANK)
            while self.at < len(self.text) and not self.take("}"):
                self.pair(path)
                self.skip(_BLANK)
                self.take(",")
                self.skip(_BLANK)
        elif not self.skip(_STRING):
            self.skip(_BARE)

    def array(self, path: KeyPath) -> None:
        index = 0
        self.skip(_BLANK)
        while self.at < len(self.text) and not self.take("]"):
            self.lines[(*path, index)] = self.line()
            self.value((*path, index))
            self.skip(_BLANK)
            self.take(",")
            self.skip(_BLANK)
            index += 1
