"""Adversarial strings against patterns: what an operator writes is linear in time, and so is every one of ours.

`re` backtracks, so each of our own patterns that it compiles is run here, as its module runs it, against strings made
to hurt it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest

import smtpguard
from smtpguard.classify import Classifier
from smtpguard.classify.rules import parse
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
LENGTH: Final = 8_192  # twice what is read of a reply
LIMIT_S: Final = 2.0  # a pattern that is cubic takes minutes


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every compiled pattern that a module of ours holds, with its place and how it is used there."""
    for found in pkgutil.walk_packages(smtpguard.__path__, "smtpguard."):
        if found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                for use in sorted(set(re.findall(rf"\b{re.escape(name)}\.(\w+)", source)) & _USES.keys()):
                    yield f"{found.name}.{name}.{use}", value


_USES: Final[Mapping[str, Callable[[re.Pattern[Any], Any], object]]] = {
    "match": lambda pattern, text: pattern.match(text),
    "fullmatch": lambda pattern, text: pattern.fullmatch(text),
    "search": lambda pattern, text: pattern.search(text),
    "finditer": lambda pattern, text: list(pattern.finditer(text)),
    "findall": lambda pattern, text: pattern.findall(text),
    "split": lambda pattern, text: pattern.split(text),
    "sub": lambda pattern, text: pattern.sub(lambda found: found[0], text),
}


ALL: Final = dict(patterns())


def seconds(place: str, text: str) -> float:
    """The shorter of two runs: the machine may be busy."""
    pattern, use = ALL[place], _USES[place.rpartition(".")[2]]
    given = text.encode("latin-1") if isinstance(pattern.pattern, bytes) else text
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        use(pattern, given)
        taken.append(time.perf_counter() - began)
        if taken[0] < LIMIT_S / 10:
            break
    return min(taken)


def test_the_patterns_were_found() -> None:
    assert len(ALL) > 60


@pytest.mark.parametrize("place", ALL)
def test_no_pattern_of_ours_is_slow(place: str) -> None:
    for piece in EVIL:
        for end in ("", "!", "\n", "\0"):
            text = piece * (LENGTH // len(piece)) + end
            assert seconds(place, text) < LIMIT_S, f"{ALL[place].pattern!r} on {piece!r} * n + {end!r}"


EVIL_RULES: Final = ("(a+)+$", "(a|a)*b", "(.*a){20}", "(x+x+)+y", "([a-z]+)*[0-9]", "(?:a?){50}a{50}")


@pytest.mark.parametrize("pattern", EVIL_RULES)
def test_no_pattern_of_an_operator_is_slow(pattern: str) -> None:
    text = (
        f'[[rule]]\nid = "own.evil"\ncategory = "content.spam"\npattern = \'{pattern}\'\n'
        'examples = ["550 5.7.1 %s"]\n' % ("a" * 60)
    )
    classifier = Classifier(parse(text, "own.toml", own=True))
    for piece in EVIL:
        reply = Reply(550, (piece * (LENGTH // len(piece)),), None, Verb.RCPT)
        began = time.perf_counter()
        classifier.match(reply, "mx.example.net")
        assert time.perf_counter() - began < LIMIT_S, piece


def test_rules_are_compiled_by_re2_alone() -> None:
    """Nothing in the classifier compiles a pattern of a rule file with `re`."""
    for name in ("rules", "classifier", "regex", "phrases"):
        tree = ast.parse(inspect.getsource(importlib.import_module(f"smtpguard.classify.{name}")))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        compiled = [call for call in calls if ast.unparse(call.func) == "re.compile"]
        assert all(isinstance(call.args[0], ast.Constant | ast.JoinedStr) for call in compiled), name
