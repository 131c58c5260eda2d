"""Waiting for the first of several things loses no task and no cancellation."""

import asyncio
import random
from collections.abc import Callable

import pytest
import uvloop

from tweetboard.waiting import first_of, pass_cancellation, within


class Wait:
    """Something to wait for, which remembers how the waiting ended."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.ended = ""

    async def run(self) -> None:
        self.ended = "running"
        try:
            await self.event.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_first_to_end_ends_the_waiting_and_the_others_are_cancelled() -> None:
    first, second, third = Wait(), Wait(), Wait()
    waiting = asyncio.create_task(first_of(first.run(), second.run(), third.run()))
    await ticks(3)
    assert [first.ended, second.ended, third.ended] == ["running"] * 3
    second.event.set()
    async with asyncio.timeout(10):
        await waiting
    assert [first.ended, second.ended, third.ended] == ["cancelled", "done", "cancelled"]


async def test_two_that_end_at_once_are_both_done() -> None:
    first, second = Wait(), Wait()
    first.event.set()
    second.event.set()
    await first_of(first.run(), second.run())
    assert [first.ended, second.ended] == ["done", "done"]


async def test_the_others_have_ended_before_the_waiting_does() -> None:
    ended = False

    async def slow_to_end() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await ticks(5)
            ended = True

    await first_of(slow_to_end(), asyncio.sleep(0))
    assert ended


async def test_a_failure_comes_as_a_group_and_cancels_the_others() -> None:
    async def fail() -> None:
        raise ValueError("no")

    other = Wait()
    with pytest.raises(ExceptionGroup) as caught:
        await first_of(other.run(), fail())
    assert caught.group_contains(ValueError, match="no", depth=1)
    assert other.ended == "cancelled"


async def test_whoever_is_cancelled_cancels_what_it_waits_for() -> None:
    first, second = Wait(), Wait()
    waiting = asyncio.create_task(first_of(first.run(), second.run()))
    await ticks(3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [first.ended, second.ended] == ["cancelled", "cancelled"]


async def test_an_event_that_is_set_in_time_is_true() -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(within(60, event))
    await ticks(2)
    event.set()
    assert await waiting


async def test_an_event_that_is_set_already_needs_no_time() -> None:
    event = asyncio.Event()
    event.set()
    assert await within(0, event)


async def test_an_event_that_stays_away_is_false() -> None:
    assert not await within(0, asyncio.Event())
    assert not await within(0.001, asyncio.Event())


async def test_a_cancellation_is_not_taken_for_the_end_of_the_time() -> None:
    waiting = asyncio.create_task(within(60, asyncio.Event()))
    await ticks(2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_cancellation_is_lost_at_whatever_tick_it_comes(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Also in the very tick in which the event is set or the time is up, where asyncio.wait_for would swallow it."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_cancel_at_random_ticks(random.Random(seed)))


async def _cancel_at_random_ticks(rng: random.Random) -> None:
    ours = asyncio.all_tasks()
    cancelled = 0
    for number in range(2000):
        event = asyncio.Event()
        ended = False

        async def wait_again_and_again(event: asyncio.Event = event) -> None:
            while not event.is_set():
                await within(rng.choice([0, 0.00001, 60]), event)
                await first_of(event.wait(), asyncio.sleep(rng.choice([0, 0.00001])))
            nonlocal ended
            ended = True

        waiting = asyncio.create_task(wait_again_and_again())
        await ticks(rng.randrange(12))
        if rng.random() < 0.5:
            event.set()
        waiting.cancel()
        await asyncio.wait([waiting], timeout=10)
        assert waiting.done(), f"run {number} hangs"
        assert waiting.cancelled() is not ended, f"run {number} went on after its cancellation"
        cancelled += waiting.cancelled()
        assert asyncio.all_tasks() == ours, f"run {number} has left a task"
    assert cancelled > 1000


async def test_a_cancellation_gets_through_a_failure_of_the_same_moment() -> None:
    """Behind an `except*`: on Python 3.11 the group tells of the failure alone."""
    broken, turns = asyncio.Event(), 0

    async def breaks() -> None:
        await broken.wait()
        raise ConnectionError

    async def again_and_again() -> None:
        nonlocal turns
        while turns < 3:
            turns += 1
            try:
                await first_of(breaks(), asyncio.Event().wait())
            except* ConnectionError:
                broken.clear()
            pass_cancellation()

    task = asyncio.create_task(again_and_again())
    await ticks(3)
    broken.set()
    await ticks(1)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert turns == 1


async def test_whoever_is_not_cancelled_goes_on() -> None:
    """Nor is anybody whose deadline has passed: that was no cancellation from outside."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    pass_cancellation()
