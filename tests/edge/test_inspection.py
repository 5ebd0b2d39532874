"""An inspection whose body cannot be read, whose reader is closed or slow: it is told, and mail goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest

from smtpguard.edge import inspection
from smtpguard.edge.gather import Gather
from smtpguard.edge.inspection import IN_LOOP, Inspection, Inspections
from smtpguard.edge.resolver import Resolver
from smtpguard.edge.volume import Volume
from smtpguard.lint import Action, Finding, Ruleset, Skipped
from smtpguard.lint.facts import Signing
from smtpguard.lint.finding import Hit
from smtpguard.lint.rule import RULES
from smtpguard.mail.octets import Buffer
from smtpguard.mail.session import Envelope, Recipient
from tests.edge.test_gather import OURS, World
from tests.edge.waiting import until
from tests.harness import PATIENCE_S

TWO_FROM = b"From: a@b.example\r\nFrom: c@b.example\r\n\r\nx\r\n"


class Body:
    """flow.Body; `raw` is what `give` returns."""

    def __init__(self, give: Callable[[], Buffer], size: int) -> None:
        self._give = give
        self.size = size

    def raw(self) -> Buffer:
        return self._give()

    def wire(self) -> Iterator[bytes]:
        yield bytes(self._give())

    content = wire


FAULTS: list[Exception] = []
"""What the inspections of a test told of faults of ours."""


@pytest.fixture
def shared() -> Iterator[Inspections]:
    resolver = Resolver(("127.0.0.1:1",), internal_zones=("example",), clock=time.monotonic, count=lambda *_: None)
    made = Inspections(
        Ruleset("observe", {"HDR001": Action.REJECT}),
        Gather(resolver, None, helo="relay.example", clock=time.monotonic, on_fault=FAULTS.append),
        Volume(5000, time.monotonic),
        signing=Signing(),
        budget_s=0.2,
        now=time.time,
        clock=time.monotonic,
        on_fault=FAULTS.append,
    )
    FAULTS.clear()
    yield made
    made.close()


def opened(shared: Inspections) -> Inspection:
    """Of mail from the null sender, by a next hop whose addresses are not known."""
    return shared.open(Envelope(b""), None, ())


async def told(inspected: Inspection, body: Body) -> Finding | None:
    """What `at_dot` tells."""
    found: asyncio.Future[Finding | None] = asyncio.get_running_loop().create_future()
    inspected.at_dot(body, found.set_result)
    async with asyncio.timeout(PATIENCE_S):
        return await found


def broken() -> bytes:
    raise OSError("the spool is gone")


@pytest.mark.parametrize("size", [100, IN_LOOP + 1])
async def test_a_message_is_refused_by_a_rule_that_is_set_to(shared: Inspections, size: int) -> None:
    finding = await told(opened(shared), Body(lambda: TWO_FROM, size))
    assert finding is not None
    assert finding.rule == "HDR001"


@pytest.mark.parametrize("size", [100, IN_LOOP + 1])
async def test_a_body_that_cannot_be_read_is_skipped(shared: Inspections, size: int) -> None:
    inspected = opened(shared)
    assert await told(inspected, Body(broken, size)) is None
    assert inspected.report.skipped == [Skipped("lint", "fault: OSError")]
    assert [type(fault) for fault in FAULTS] == [OSError]


@pytest.mark.parametrize("size", [100, IN_LOOP + 1])
async def test_a_rule_that_breaks_is_skipped_and_told(
    shared: Inspections, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def breaks(_: object) -> list[Hit]:
        raise ZeroDivisionError

    monkeypatch.setitem(RULES, "HDR001", replace(RULES["HDR001"], check=breaks))
    shared.ruleset = Ruleset("observe", {"HDR001": Action.REJECT})
    inspected = opened(shared)
    assert await told(inspected, Body(lambda: TWO_FROM, size)) is None
    assert Skipped("HDR001", "fault: ZeroDivisionError") in inspected.report.skipped
    assert [type(fault) for fault in FAULTS] == [ZeroDivisionError]


async def test_a_large_message_after_the_end_of_its_lint_is_skipped(shared: Inspections) -> None:
    shared.close()
    inspected = opened(shared)
    assert await told(inspected, Body(lambda: TWO_FROM, IN_LOOP + 1)) is None
    assert inspected.report.skipped == [Skipped("lint", "fault: RuntimeError")]
    assert [type(fault) for fault in FAULTS] == [RuntimeError]


async def test_a_large_message_that_takes_too_long_is_skipped(
    shared: Inspections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "READ_WITHIN_S", 0.05)
    go_on = threading.Event()

    def slow() -> bytes:
        go_on.wait(PATIENCE_S)
        return TWO_FROM

    inspected = opened(shared)
    try:
        assert await told(inspected, Body(slow, IN_LOOP + 1)) is None
        assert inspected.report.skipped == [Skipped("lint", "fault: TimeoutError")]
        assert [type(fault) for fault in FAULTS] == [TimeoutError]
    finally:
        go_on.set()


async def test_what_the_thread_finds_after_the_end_is_nobodys(shared: Inspections) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def slow() -> bytes:
        reading.set()
        go_on.wait(PATIENCE_S)
        return TWO_FROM

    heard: list[Finding | None] = []
    inspected = opened(shared)
    inspected.at_dot(Body(slow, IN_LOOP + 1), heard.append)
    await asyncio.to_thread(reading.wait, PATIENCE_S)
    inspected.finish()
    go_on.set()
    other = opened(shared)
    assert await told(other, Body(lambda: TWO_FROM, IN_LOOP + 1)) is not None  # the thread goes on with the next one
    assert heard == []
    assert all(finding.rule != "HDR001" for finding in inspected.report.findings)


async def test_a_large_message_is_free_when_its_finding_is_told(shared: Inspections, tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes(b"From: a@b.example\r\n\r\n" + b"x\r\n" * IN_LOOP)
    mapped: list[weakref.ref[mmap]] = []

    def give() -> Buffer:
        with file.open("rb") as stream:
            raw = mmap(stream.fileno(), 0, access=ACCESS_READ)
        mapped.append(weakref.ref(raw))
        return raw

    gc.disable()
    try:
        await told(opened(shared), Body(give, file.stat().st_size))
        await until(lambda: [each() for each in mapped] == [None])  # the thread puts it down a moment later
    finally:
        gc.enable()


async def test_what_is_remembered_of_a_sender_keeps_no_finding_back() -> None:
    world = World()
    warm = Inspections(
        Ruleset(),
        world.gather,
        Volume(5000, time.monotonic),
        signing=Signing(),
        budget_s=PATIENCE_S,
        now=time.time,
        clock=time.monotonic,
        on_fault=FAULTS.append,
    )

    async def said(path: bytes, rcpt: bytes = b"ben@good.test") -> set[str]:
        """The rules about the envelope that have found something."""
        envelope = Envelope(path, rcpts=[Recipient(b"ben@good.test"), Recipient(rcpt)])
        inspected = warm.open(envelope, None, OURS)
        inspected.at_mail(lambda _: None)
        inspected.at_rcpts(envelope.rcpts, lambda _: None)
        await told(inspected, Body(lambda: TWO_FROM, 100))
        found = [finding for finding in inspected.report.findings if finding.rule[:3] in ("ENV", "RCP", "SPF")]
        assert len({(finding.rule, finding.rcpt) for finding in found}) == len({finding.rule for finding in found})
        return {finding.rule for finding in found}

    FAULTS.clear()
    try:
        for _ in range(3):  # asked, known, and known to be silent
            assert await said(b"ann@good.test") == set()
            assert await said(b"a..b@good.test") == {"ENV001"}
            assert await said(b"ann@mx.good.test") == {"SPF001"}
            assert await said(b"ann@good.test", b"ben@gone.test") == {"RCP002"}
            assert await said(b"ann@good.test", b"b..n@good.test") == {"RCP001"}
            assert await said(b"") == {"ENV005", "SPF001"}
    finally:
        warm.close()
        await world.gather.close()
    assert FAULTS == []
