"""`host = "mx"`: its own defaults, what it needs, what it cannot have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from smtpguard.config.checks import MISTAKES, WARNINGS
from smtpguard.config.settings import NextHopSettings, Settings


def _settings(hop: Mapping[str, Any], **more: Any) -> Settings:
    return Settings.model_validate({"next_hop": {"default": {"host": "mx", **hop}}, **more})


def _said(settings: Settings) -> dict[str, str]:
    found: dict[str, str] = {}
    for check in (*MISTAKES, *WARNINGS):
        found |= {".".join(map(str, path)): sentence for path, sentence in check(settings)}
    return found


def test_it_has_defaults_of_its_own() -> None:
    hop = _settings({}).next_hop["default"]
    assert (hop.is_mx, hop.port, hop.tls, hop.connections, hop.allow_private) == (True, 25, "opportunistic", 250, False)
    assert _said(_settings({})) == {}
    usual = NextHopSettings.model_validate({"host": "smtp.example.net"})
    assert (usual.is_mx, usual.port, usual.tls, usual.connections) == (False, 587, "required", 50)


def test_it_stands_alone() -> None:
    with pytest.raises(ValueError, match="'mx' stands alone"):
        _settings({"host": ["mx", "smtp.example.net"]})


@pytest.mark.parametrize(
    ("hop", "more", "key", "words"),
    [
        ({}, {"listen": {"lmtp": ""}}, "listen.lmtp", "answer of its own"),
        ({"tls": "implicit"}, {}, "next_hop.default.tls", "no port with implicit TLS"),
        ({"username": "u", "password_file": "p"}, {}, "next_hop.default.username", "nobody logs in"),
        ({"tls": "required", "tls_name": "mx.example"}, {}, "next_hop.default.tls_name", "name of its own"),
        ({}, {"relay": {"hostname": "relay"}}, "relay.hostname", "not a full name"),
        ({"host": "smtp.example.net", "allow_private": True}, {}, "next_hop.default.allow_private", "no effect"),
    ],
)
def test_what_it_cannot_have_is_said(hop: Mapping[str, Any], more: Any, key: str, words: str) -> None:
    assert words in _said(_settings(hop, **more))[key]
