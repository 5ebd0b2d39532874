"""The service's history: where it is kept, and who hashes addresses.

The default place is there where the package or systemd made it; elsewhere (`make run`, a try) the history is kept in
memory, and that is said once. A place that was configured is insisted on: while it is away mail goes on with what is
remembered, and what happens waits (`history.Store`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from smtpguard.config import Settings, host_key
from smtpguard.history import Store, engine_of

IN_MEMORY: Final = ""
_SQLITE: Final = "sqlite:///"


def place(settings: Settings) -> tuple[str, str]:
    """The `store.url` that is used, and why it is not the default one ("": it is, or was chosen)."""
    url = settings.store.url
    if "url" in settings.store.model_fields_set or not url.startswith(_SQLITE):
        return url, ""
    folder = Path(url.removeprefix(_SQLITE)).parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        return url, ""
    return IN_MEMORY, f"the history is kept in memory, for {folder} cannot be written: set store.url to keep it"


def store(
    url: str,
    settings: Settings,
    *,
    on_drop: Callable[[int], None],
    on_away: Callable[[str], None],
    clock: Callable[[], float],
) -> Store:
    """The history, not started yet; StoreError where it can never be used."""
    return Store(
        engine_of(url),
        seed=host_key(),
        mode=settings.privacy.addresses,
        retention_s=settings.privacy.retention,
        max_size=settings.store.max_size,
        on_drop=on_drop,
        on_away=on_away,
        clock=clock,
    )
