"""How refusals are read: the classification rules of the settings, made ready once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from smtpguard.classify import Classifier
from smtpguard.classify import load as load_rules
from smtpguard.config import Settings, rule_files


def classifier(settings: Settings) -> Classifier:
    """The classification rules, the operator's own among them; RuleError or OSError for a file that cannot be used."""
    return _made_ready(tuple((path, path.read_bytes()) for path in rule_files(settings.classify.rules)))


@lru_cache(maxsize=2)
def _made_ready(own: tuple[tuple[Path, bytes], ...]) -> Classifier:
    """Once for the same files with the same content: it takes 0.2 s."""
    return load_rules([path for path, _ in own])
