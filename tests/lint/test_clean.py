"""Every rule of every family that needs only the message and its transaction, asked of messages that are clean."""

from __future__ import annotations

import pytest

from smtpguard.lint import Report, Ruleset, Severity, Stage
from smtpguard.lint.bulk import is_bulk
from smtpguard.lint.facts import ByProvider, Now, Offers
from smtpguard.mail.header import date
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope, Recipient
from tests.lint.clean import SHAPES
from tests.lint.clean.writing import NOON, Shape

NEXT_HOP = Offers(frozenset({"8BITMIME", "SIZE", "SMTPUTF8", "PIPELINING"}), 50 << 20)
NAMES = [shape.name for shape in SHAPES]


def judged(shape: Shape, *, bulk: bool | None = None) -> Report:
    """What the rules of all stages say of it; `bulk`: as the message's marks say, unless given."""
    message = Message(shape.raw)
    envelope = Envelope(shape.mail_from, smtputf8=shape.smtputf8, eight_bit=True, rcpts=[Recipient(b"bob@example.org")])
    given = (message, envelope, envelope.rcpts[0], NEXT_HOP, ByProvider({"other": 1}), Now(date(NOON) or 0.0))
    report = Report()
    for stage in Stage:
        Ruleset("enforce", {}).run(
            stage,
            {type(fact): fact for fact in given},
            report,
            is_bulk=is_bulk(message) if bulk is None else bulk,
        )
    return report


def test_there_are_as_many_shapes_as_promised() -> None:
    assert len(SHAPES) >= 50
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_a_clean_message_has_notes_at_most(shape: Shape) -> None:
    report = judged(shape)
    assert [(f.rule, f.message, f.evidence) for f in report.findings if f.severity is not Severity.INFO] == []
    assert [skipped for skipped in report.skipped if skipped.why.startswith("fault")] == []


def test_the_rules_were_asked() -> None:
    """A message that is not clean, judged in the same way, has findings of several families."""
    found = {
        finding.rule
        for finding in judged(Shape("junk", b"Hello\xff\r\n\r\n" + b"x" * 1000 + b"\n"), bulk=True).findings
    }
    assert found >= {"HDR001", "HDR003", "HDR004", "HDR005", "MIM001", "MIM002", "BLK001"}


@pytest.mark.parametrize("name", ["newsletter, one-click", "newsletter, Japanese", "AMP"])
def test_newsletters_count_as_bulk(name: str) -> None:
    assert is_bulk(Message(next(shape.raw for shape in SHAPES if shape.name == name)))


@pytest.mark.parametrize(
    "name", ["Gmail reply", "receipt with a logo", "mailing list, Mailman", "vacation", "Postfix DSN"]
)
def test_what_is_no_bulk_mail_does_not(name: str) -> None:
    assert not is_bulk(Message(next(shape.raw for shape in SHAPES if shape.name == name)))
