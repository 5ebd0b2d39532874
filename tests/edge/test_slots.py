"""Rights to connections under several limits: who gets one, who waits, whom nobody holds up."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from smtpguard.edge.slots import Slots

A, B = ("", "a"), ("", "b")


def soon(within_s: float = 3.0) -> float:
    return monotonic() + within_s


def test_there_must_be_room_under_each_name() -> None:
    slots = Slots({"": 3, "a": 2})
    assert [slots.take(groups) for groups in (A, A, A, B, B)] == [True, True, False, True, False]
    assert (slots.taken(""), slots.taken("a"), slots.taken("b")) == (3, 2, 1)
    slots.release(A)
    assert slots.take(B)
    assert not slots.take(A)


async def test_the_first_of_those_who_may_have_it_is_served() -> None:
    slots = Slots({"": 2, "a": 1})
    assert slots.take(A)
    assert slots.take(B)
    waiting = [asyncio.create_task(slots.slot(groups, soon())) for groups in (A, B, B)]
    await asyncio.sleep(0)
    slots.release(B)  # the total has room now, `a` has none
    assert await waiting[1]
    assert [task.done() for task in waiting] == [False, True, False]
    slots.release(A)
    assert await waiting[0]
    slots.release(B)
    assert await waiting[2]


async def test_who_waits_too_long_goes_without() -> None:
    slots = Slots({"": 1})
    assert slots.take(("",))
    assert not await slots.slot(("",), soon(0.01))
    slots.release(("",))
    assert slots.take(("",))


async def test_a_higher_limit_serves_those_who_wait_and_a_lower_one_takes_nothing_away() -> None:
    slots = Slots({"": 10, "a": 1})
    assert slots.take(A)
    waiting = [asyncio.create_task(slots.slot(A, soon())) for _ in range(3)]
    await asyncio.sleep(0)
    slots.limit("a", 3)
    assert [await waiting[0], await waiting[1]] == [True, True]
    slots.limit("a", 1)
    assert slots.taken("a") == 3
    slots.release(A)
    assert not waiting[2].done()
    slots.limit("a", None)
    assert await waiting[2]


@pytest.mark.parametrize("is_served", [False, True])
async def test_a_slot_is_not_lost_with_the_one_who_waited(is_served: bool) -> None:
    slots = Slots({"": 1})
    assert slots.take(("",))
    waiting = asyncio.create_task(slots.slot(("",), soon()))
    await asyncio.sleep(0)
    if is_served:
        slots.release(("",))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not is_served:
        slots.release(("",))
    assert slots.take(("",))


async def test_nobody_waits_any_more_when_it_is_given_up() -> None:
    slots = Slots({"": 1})
    assert slots.take(("",))
    waiting = [asyncio.create_task(slots.slot(("",), soon())) for _ in range(2)]
    await asyncio.sleep(0)
    slots.give_up()
    assert await asyncio.gather(*waiting) == [False, False]


async def test_who_goes_as_all_are_given_up_goes_quietly() -> None:
    """Its place in the row was looked for after `give_up` had emptied it: a ValueError that nobody saw."""
    slots = Slots({"": 1})
    assert slots.take(("",))
    waiting = asyncio.create_task(slots.slot(("",), soon()))
    await asyncio.sleep(0)
    waiting.cancel()
    slots.give_up()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    slots.release(("",))
    assert slots.take(("",))
