"""What a refusal means (interface sketch)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Classification:
    """What a refusal is about, who can fix it, how."""

    category: str
    confidence: float = 0.0
    rule: str = ""
    matched: str = ""
    provider: str = "other"
    permanence: str = "unknown"
    responsible: str = "unknown"
    scope: str = "message"
    cause: str = ""
    fix: str = ""
    alternatives: tuple[str, ...] = ()
    retry_after: float | None = None
    blocklist: str = ""
    delisting: str = ""
    reference: str = ""
