"""Clean messages: what honest programs send. No rule that needs only the message may find more in them than a note."""

from __future__ import annotations

from typing import Final

from tests.lint.clean import people, programs, senders
from tests.lint.clean.writing import Shape

SHAPES: Final[tuple[Shape, ...]] = (*people.SHAPES, *programs.SHAPES, *senders.SHAPES)
