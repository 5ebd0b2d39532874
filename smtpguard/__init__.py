"""smtpguard: a smarthost that says why mail is refused.

One message's way through the rooms is told by `flow.py`; start reading there.
"""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Literal

__version__ = "0.1.0"


def build() -> Literal["compiled", "plain"]:
    """Whether the hot path runs compiled (deploy/compile.py) or as plain Python, which is slower and nothing else."""
    spec = find_spec("smtpguard.edge.reader")
    is_compiled = spec is not None and spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES))
    return "compiled" if is_compiled else "plain"
