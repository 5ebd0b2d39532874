"""Adversarial strings against patterns: what an operator writes is linear in time, and so is every one of ours.

`re` backtracks, so each of our own patterns that it compiles is run here against strings made to hurt it: a text twice
as long may take about twice as long, not four times.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from typing import Final

import pytest

import smtpguard
from smtpguard.classify import load
from smtpguard.classify.rules import RuleError, parse
from smtpguard.mail.reply import Reply, Verb

EVIL: Final = (
    "a",
    " ",
    "a ",
    "aA0",
    "(",
    "((",
    "<a@",
    "a.",
    "\t",
    "=",
    ";",
    "550-",
    "0",
    "\\",
    '"',
    "a@a.",
    "x=x;",
    "-",
)
LIMIT_S: Final = 0.25  # for 16,000 characters; a pattern that is quadratic takes seconds


def patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    """Every compiled pattern that a module of ours holds, with its place."""
    for module in pkgutil.walk_packages(smtpguard.__path__, "smtpguard."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


ALL: Final = dict(patterns())


def seconds(pattern: re.Pattern[str] | re.Pattern[bytes], text: str) -> float:
    """The shortest of two searches: the machine may be busy."""
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        if isinstance(pattern.pattern, bytes):
            pattern.search(text.encode("latin-1"))  # type: ignore[arg-type]
        else:
            pattern.search(text)  # type: ignore[arg-type]
        taken.append(time.perf_counter() - began)
    return min(taken)


def test_the_patterns_were_found() -> None:
    assert len(ALL) > 60


@pytest.mark.parametrize("place", ALL)
def test_no_pattern_of_ours_is_slow(place: str) -> None:
    pattern = ALL[place]
    for piece in EVIL:
        for end in ("", "!", "\n", "\0"):
            text = piece * (16_000 // len(piece)) + end
            assert seconds(pattern, text) < LIMIT_S, f"{pattern.pattern!r} on {piece!r} * n + {end!r}"


EVIL_RULES: Final = ("(a+)+$", "(a|a)*b", "(.*a){20}", "(x+x+)+y", "([a-z]+)*[0-9]", "(?:a?){50}a{50}")


@pytest.mark.parametrize("pattern", EVIL_RULES)
def test_no_pattern_of_an_operator_is_slow(pattern: str) -> None:
    text = (
        f'[[rule]]\nid = "own.evil"\ncategory = "content.spam"\nmatch = [\'{pattern}\']\n'
        'examples = [{ reply = "550 5.7.1 %s" }]\n' % ("a" * 60)
    )
    try:
        parse(text, "own.toml", own=True)
    except RuleError:
        pass  # refused at the start is fine as well; slow is not
    classifier = load()
    for piece in EVIL:
        reply = Reply(550, (piece * (16_000 // len(piece)),), None, Verb.RCPT)
        began = time.perf_counter()
        classifier.match(reply, "mx.example.net")
        assert time.perf_counter() - began < LIMIT_S, piece


def test_rules_are_compiled_by_re2_alone() -> None:
    """Nothing in the classifier compiles a pattern of a rule file with `re`."""
    source = ast.parse(
        (importlib.import_module("smtpguard.classify.rules").__loader__.get_source("smtpguard.classify.rules"))
    )  # type: ignore[union-attr]
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile"]
    assert all(isinstance(call.args[0], ast.Constant) for call in calls)
