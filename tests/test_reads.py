"""Whoever asks gets its own answer, however many ask at once, and whoever of them gives up or fails."""

import asyncio
import random
import sys
from collections.abc import Sequence

import pytest

from conftest import wait_until
from tweetboard.board.reads import STEPS, Question, Reads
from tweetboard.board.rows import Reading
from tweetboard.errors import StoreRefused, StoreUnavailable


def page(number: int, limit: int = 10, history: Sequence[object] | None = None) -> Question:
    return Question(("all",), history, number, limit)


def reading(total: int) -> Reading:
    return Reading(0, total, total, 0, 0, [], 0, [], b"1", 0, [], [], b"0")


class Server:
    """Answers after the test has let it, with the offset as the total; `steps` are the offsets asked for together."""

    def __init__(self) -> None:
        self.steps: list[list[int | str]] = []
        self.may_answer = asyncio.Event()
        self.failure: Exception | None = None

    async def ask(self, questions: Sequence[Question]) -> list[Reading]:
        self.steps.append([one.at for one in questions])
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return [reading(int(one.at)) for one in questions]


async def asked(reads: Reads, numbers: Sequence[int]) -> list[asyncio.Task[Reading]]:
    tasks = [asyncio.create_task(reads.answer(page(number))) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def busy(reads: Reads) -> list[asyncio.Task[Reading]]:
    """Ask for so much that all further questions wait."""
    return await asked(reads, range(100, 100 + STEPS))


async def test_what_is_asked_while_steps_are_under_way_goes_into_the_next_together() -> None:
    server = Server()
    reads = Reads(server.ask)
    tasks = await busy(reads) + await asked(reads, range(5))
    assert server.steps == [[100], [101]], "each at once"
    server.may_answer.set()
    assert [(await task).total for task in tasks] == [100, 101, 0, 1, 2, 3, 4]
    assert server.steps == [[100], [101], [0, 1, 2, 3, 4]]
    assert (await reads.answer(page(7))).total == 7
    assert server.steps[-1] == [7], "alone, and at once"


@pytest.mark.parametrize(
    ("questions", "steps"),
    [
        ([page(number, 1_000) for number in range(9)], [[0, 1, 2, 3, 4, 5, 6], [7, 8]]),
        ([page(0, 1_000, ("5m", 5, 60)), page(1), page(2)], [[0], [1, 2]]),
        ([page(number, 100, ("5m", 5, 60)) for number in range(4)], [[0, 1, 2], [3]]),
        ([Question(("all",), None, "7", 4_000), page(1, 1_000)], [["7"], [1]]),
    ],
)
async def test_a_step_has_a_bound_but_for_a_single_page(
    questions: list[Question], steps: list[list[int | str]]
) -> None:
    server = Server()
    reads = Reads(server.ask)
    before = await busy(reads)
    tasks = [asyncio.create_task(reads.answer(question)) for question in questions]
    await asyncio.sleep(0)
    server.may_answer.set()
    await asyncio.gather(*before, *tasks)
    assert server.steps == [[100], [101], *steps]


async def test_where_whoever_asks_for_all_is_cancelled_the_others_ask_again() -> None:
    server = Server()
    reads = Reads(server.ask)
    before = await busy(reads)
    first, *rest = await asked(reads, range(4))
    server.may_answer.set()
    server.may_answer.clear()
    await asyncio.gather(*before)
    await wait_until(lambda: server.steps[-1] == [0, 1, 2, 3])
    first.cancel()
    server.may_answer.set()
    assert [(await task).total for task in rest] == [1, 2, 3]
    assert first.cancelled()
    assert sorted(number for step in server.steps[3:] for number in step) == [1, 2, 3]


async def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    server = Server()
    reads = Reads(server.ask)
    before = await busy(reads)
    second, third = await asked(reads, [1, 2])
    second.cancel()
    await asyncio.sleep(0)
    server.may_answer.set()
    assert [(await task).total for task in (*before, third)] == [100, 101, 2]
    assert server.steps == [[100], [101], [2]]


async def test_where_redis_is_away_all_who_wait_hear_of_it_at_once() -> None:
    """Each would else find it out by itself, one time limit after the other."""
    server = Server()
    reads = Reads(server.ask)
    tasks = await busy(reads) + await asked(reads, range(400))
    server.failure = StoreUnavailable("away")
    server.may_answer.set()
    for task in tasks:
        with pytest.raises(StoreUnavailable, match="away"):
            await task
    assert server.steps == [[100], [101]]
    server.failure = None
    assert (await reads.answer(page(3))).total == 3


async def test_what_is_refused_is_asked_for_one_by_one() -> None:
    """One window's key may be another program's: the others are there."""
    server = Server()

    async def ask(questions: Sequence[Question]) -> list[Reading]:
        answers = await server.ask(questions)
        if any(one.at == 3 for one in questions):
            raise StoreRefused("WRONGTYPE")
        return answers

    reads = Reads(ask)
    tasks = await busy(reads) + await asked(reads, range(1, 6))
    server.may_answer.set()
    await asyncio.wait(tasks)
    assert [task.exception() is None for task in tasks] == [True, True, True, True, False, True, True]
    assert server.steps == [[100], [101], [1, 2, 3, 4, 5], [1], [2], [3], [4], [5]]
    assert (await reads.answer(page(7))).total == 7


async def test_where_redis_goes_away_meanwhile_nobody_is_left_waiting() -> None:
    server = Server()

    async def ask(questions: Sequence[Question]) -> list[Reading]:
        answers = await server.ask(questions)
        if len(questions) > 1:
            raise StoreRefused("WRONGTYPE")
        if len(server.steps) > STEPS + 3:
            raise StoreUnavailable("away")
        return answers

    reads = Reads(ask)
    tasks = await busy(reads) + await asked(reads, range(1, 6))
    server.may_answer.set()
    async with asyncio.timeout(5):
        await asyncio.wait(tasks)
    assert [type(task.exception()) for task in tasks[STEPS:]] == [type(None)] * 2 + [StoreUnavailable] * 3


async def test_whatever_is_cancelled_everybody_else_has_its_answer() -> None:
    seed = 20251129
    rng = random.Random(seed)
    sys.stdout.write(f"seed {seed}\n")
    server = Server()
    server.may_answer.set()

    async def ask(questions: Sequence[Question]) -> list[Reading]:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        return await server.ask(questions)

    reads = Reads(ask)
    for _ in range(200):
        tasks = []
        for number in range(rng.randrange(1, 12)):
            tasks.append(asyncio.create_task(reads.answer(page(number))))
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            if rng.random() < 0.4:
                rng.choice(tasks).cancel()
        async with asyncio.timeout(5):
            await asyncio.wait(tasks)
        for number, task in enumerate(tasks):
            assert task.cancelled() or task.result().total == number
        assert (await reads.answer(page(99))).total == 99
        assert server.steps[-1] == [99], "nothing is left behind"
