"""Lines for a person: folded between words where they go to a terminal, whole where they go to a pipe or a file.

What has no blank (a URL, a command's option) is never broken, so that it can be copied. Terminal escapes must not be in
the text: they would count as columns.
"""

from __future__ import annotations

import sys
from shutil import get_terminal_size
from textwrap import fill
from typing import Final

MOST: Final = 120
"""Columns of a terminal that are used: longer lines are hard to read."""


def columns() -> int:
    """The columns of standard output, at most MOST; 0 where it is no terminal."""
    return min(get_terminal_size().columns, MOST) if sys.stdout.isatty() else 0


def folded(text: str, width: int, indent: int = 0) -> str:
    """`text` in lines of at most `width` columns, the further ones indented; as it is where `width` is 0."""
    if not width:
        return text
    return fill(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
