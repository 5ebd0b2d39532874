"""How a rule is declared, and the registry of all.

    @rule("HDR001", "from-missing-or-many", ERROR, DATA, answer="550 5.6.0", certain=True, category="message.malformed",
          reference="RFC 5322 3.6", predicts=[("Google", "550 5.7.1")])
    def from_missing_or_many(message: Message) -> Hits:
        \"\"\"A message has one From: field, with an address in it.

        Receivers cannot tell who wrote a message with none or several ...

        Fix: write exactly one From: field ...
        \"\"\"

The docstring is what `rules show` and the reference page print: its first line the title, the paragraph that begins
with `Fix:` the fix where a hit has none of its own, the rest the reason. Codes are never used again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

from smtpguard.lint.finding import Answer, Hit, Predicted, Severity, Stage
from smtpguard.mail.reply import EnhancedCode

Hits = Iterable[Hit]

_CODE = re.compile(r"[A-Z]{3}[0-9]{3}")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule's constants. `is_certain` marks those that `lint.mode = "enforce"` rejects for, (R) in the catalogue."""

    code: str
    name: str
    severity: Severity
    stage: Stage
    check: Callable[..., Hits]
    needs: tuple[type, ...]
    title: str
    reason: str
    fix: str
    category: str
    reference: str
    predicts: tuple[Predicted, ...]
    answer: Answer | None
    is_certain: bool
    is_bulk: bool
    """Asked only of mail that counts as bulk."""
    by_default: bool
    """Whether it is on without being named; those that are not cost more than they tell most people."""
    when: int = 0
    """The marks of which one must be there for it to have anything to say (`marks.py`); 0: it is always asked."""

    @property
    def family(self) -> str:
        """Its first three letters."""
        return self.code[:3]

    @property
    def can_refuse(self) -> bool:
        """Whether mail can be refused for it: it has an answer, and is asked of mail."""
        return self.answer is not None and self.stage is not Stage.BACKGROUND


RULES: Final[dict[str, Rule]] = {}
"""Every rule by code, in the order of their families' files; `lint.ruleset` imports those."""


def rule(
    code: str,
    name: str,
    severity: Severity,
    stage: Stage,
    *,
    category: str,
    reference: str,
    predicts: Sequence[tuple[str, str]] = (),
    answer: str = "",
    certain: bool = False,
    bulk: bool = False,
    by_default: bool = True,
    when: int = 0,
) -> Callable[[Callable[..., Hits]], Callable[..., Hits]]:
    """Register a function as a rule; ValueError on a mistake. `answer`: `"550 5.6.0"`, "" where it never refuses."""

    def register(check: Callable[..., Hits]) -> Callable[..., Hits]:
        if not (_CODE.fullmatch(code) and _NAME.fullmatch(name)):
            raise ValueError(f"{code} {name}: a code is three letters and three digits, a name is kebab-case")
        if code in RULES or any(known.name == name for known in RULES.values()):
            raise ValueError(f"{code} {name} is taken")
        title, reason, fix = _words(check)
        hints = get_type_hints(check)
        hints.pop("return", None)
        RULES[code] = Rule(
            code,
            name,
            severity,
            stage,
            check,
            tuple(hints.values()),
            title,
            reason,
            fix,
            category,
            reference,
            tuple(Predicted(by, says) for by, says in predicts),
            _answer(answer),
            certain,
            bulk,
            by_default,
            when,
        )
        return check

    return register


def _words(check: Callable[..., Any]) -> tuple[str, str, str]:
    """Title, reason and fix out of a docstring; ValueError where one is missing."""
    title, *rest = [" ".join(part.split()) for part in (inspect.getdoc(check) or "").split("\n\n")]
    fix = " ".join(part.removeprefix("Fix: ") for part in rest if part.startswith("Fix: "))
    reason = "\n\n".join(part for part in rest if not part.startswith("Fix: "))
    if not (title and fix and reason):
        raise ValueError(f"{check.__name__}: its docstring needs a title, a reason and a paragraph `Fix: ...`")
    return title, reason, fix


def _answer(text: str) -> Answer | None:
    if not text:
        return None
    code, enhanced = text.split()
    klass, subject, detail = enhanced.split(".")
    return Answer(int(code), EnhancedCode(int(klass), int(subject), int(detail)))
