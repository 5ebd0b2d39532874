"""Writes of one turn of the loop: their order, their bounds, and that one transport's fault is no other's."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from smtpguard.edge import burst
from smtpguard.edge.burst import MOST, Burst


class Line(asyncio.Transport):
    """A transport that keeps what is written to it, or raises."""

    def __init__(self, heard: list[tuple[str, bytes]], name: str, *, is_broken: bool = False) -> None:
        super().__init__()
        self.heard = heard
        self.name = name
        self.is_broken = is_broken
        self.is_over = False

    def write(self, data: Any) -> None:
        if self.is_broken:
            raise RuntimeError("broken")
        self.heard.append((self.name, bytes(data)))

    def is_closing(self) -> bool:
        return self.is_over

    def abort(self) -> None:
        self.is_over = True


async def test_what_one_turn_writes_goes_out_at_its_end_in_order() -> None:
    heard: list[tuple[str, bytes]] = []
    ours, a, b = Burst(), Line(heard, "a"), Line(heard, "b")
    for line, octets in ((a, b"1"), (b, b"2"), (a, b"3")):
        ours.write(line, octets)
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    ours.write(b, b"4")  # and the next turn has its own
    ours.flush()
    assert heard[-1] == ("b", b"4")
    await asyncio.sleep(0)
    assert len(heard) == 4


async def test_no_more_than_so_many_wait() -> None:
    heard: list[tuple[str, bytes]] = []
    ours, line = Burst(), Line(heard, "a")
    for number in range(MOST):
        assert heard == []
        ours.write(line, b"%d" % number)
    assert [octets for _, octets in heard] == [b"%d" % number for number in range(MOST)]


async def test_a_transport_that_closed_or_broke_costs_the_others_nothing() -> None:
    heard: list[tuple[str, bytes]] = []
    ours, broken, closed, good = Burst(), Line(heard, "x", is_broken=True), Line(heard, "c"), Line(heard, "g")
    for line in (broken, closed, good):
        ours.write(line, b"1")
    closed.abort()
    await asyncio.sleep(0)
    assert heard == [("g", b"1")]
    assert broken.is_over


async def test_a_loop_has_one_and_is_not_held_by_it() -> None:
    loop = asyncio.get_running_loop()
    assert burst.of(loop) is burst.of(loop)
    other = asyncio.new_event_loop()
    assert burst.of(other) is not burst.of(loop)
    held = weakref.ref(other)
    other.close()
    del other
    gc.collect()
    assert held() is None
