"""Pages that are asked for while others are being read go to Redis together, in one step. Pure.

What lives here: who asks for whom. What must not: what is asked (scoreboard.py), or that the same page is asked for
once (answers.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from tweetboard.board.rows import Reading
from tweetboard.errors import StoreError, StoreRefused

STEPS: Final = 2
"""While Redis takes one step, what the one before has answered is written out and the next gathers."""

MAX_STEP_US: Final = 6_000
"""So long a step holds Redis up, or one page of any size."""

PAGE_US, ROW_US, HISTORY_ROW_US = 60.0, 0.7, 16.0
"""What a page takes Redis, and each row of it, without the counts in sixty buckets and with them; as measured."""


class Question(NamedTuple):
    """A page of some scores, with the counts in some window's buckets or None: `limit` rows from an offset on.

    Or around a name, with as many on each side of it.
    """

    scores: Sequence[object]
    history: Sequence[object] | None
    at: int | str
    limit: int

    @property
    def cost_us(self) -> float:
        """How long it takes Redis, more or less."""
        rows = self.limit if isinstance(self.at, int) else 2 * self.limit + 1
        return PAGE_US + rows * (ROW_US if self.history is None else HISTORY_ROW_US)


class Waiting(msgspec.Struct, eq=False):
    """A question, and what becomes of it."""

    question: Question
    answer: asyncio.Future[Reading]


class _Abandoned(Exception):
    """Tells who waits that the one who asked for them was cancelled."""


class Reads:
    """Answers questions by `ask`, in `STEPS` steps at once at most, with all that wait by then in the next.

    One of those who wait asks for the others too; where it is cancelled, they ask again. Where Redis is away, all who
    wait hear of it; what it refuses is asked for one by one, so that no page suffers for another.
    """

    def __init__(self, ask: Callable[[Sequence[Question]], Awaitable[Sequence[Reading]]]) -> None:
        self._ask = ask
        self._turns = asyncio.Semaphore(STEPS)
        self._waiting: list[Waiting] = []

    async def answer(self, question: Question) -> Reading:
        """Wait for the answer; raises what `ask` raises."""
        while True:
            ours = Waiting(question, asyncio.get_running_loop().create_future())
            try:
                return await self._answer(ours)
            except _Abandoned:
                continue
            finally:
                if not ours.answer.cancel() and not ours.answer.cancelled():
                    ours.answer.exception()  # which nobody else would look at
                if ours in self._waiting:
                    self._waiting.remove(ours)

    async def _answer(self, ours: Waiting) -> Reading:
        self._waiting.append(ours)
        async with self._turns:
            if ours in self._waiting:
                await self._step(self._next())
        return await ours.answer

    async def _step(self, together: list[Waiting]) -> None:
        groups = [together]
        try:
            while groups:
                group = groups.pop(0)
                try:
                    answers = await self._ask([one.question for one in group])
                except StoreRefused as error:
                    if len(group) == 1:
                        _fail(group, error)
                    else:
                        groups = [[one] for one in group]
                else:
                    for one, answer in zip(group, answers, strict=True):
                        if not one.answer.done():
                            one.answer.set_result(answer)
        except StoreError as error:
            _fail([*together, *self._waiting], error)
            self._waiting = []
        except BaseException:
            _fail(together, _Abandoned())
            raise

    def _next(self) -> list[Waiting]:
        """Take those that have waited longest, as many as go into one step; at least one."""
        number, cost_us = 0, 0.0
        for one in self._waiting:
            cost_us += one.question.cost_us
            if number and cost_us > MAX_STEP_US:
                break
            number += 1
        together, self._waiting = self._waiting[:number], self._waiting[number:]
        return together


def _fail(waiting: Sequence[Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.answer.done():
            one.answer.set_exception(error)
