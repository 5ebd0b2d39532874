"""What holds for all tests.

Hypothesis: no deadline a case (the machine may be busy with an MTA), and in CI (`CI` set) the same cases every time, so
that a red run there can be had again here.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
