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

MAX_ROWS: Final = 2_000
"""So many rows go into one step, or one page of any size."""

HISTORY_ROWS: Final = 16
"""A row with its history takes Redis as long as so many without."""


class Question(NamedTuple):
    """A page of some scores, with the counts in some window's buckets or None: `limit` rows from an offset on.

    Or around a name, with as many on each side of it.
    """

    scores: Sequence[object]
    history: Sequence[object] | None
    at: int | str
    limit: int

    @property
    def weight(self) -> int:
        """How many rows would take as long: with a history each takes as long as some."""
        rows = self.limit if isinstance(self.at, int) else 2 * self.limit + 1
        return rows if self.history is None else HISTORY_ROWS * rows


class Waiting(msgspec.Struct, eq=False):
    """A question, and what becomes of it."""

    question: Question
    answer: asyncio.Future[Reading]


class Reads:
    """Answers questions by `ask`, one step after the other, with all that wait by then in the next.

    One of those who wait asks for the others too; where it is cancelled, the next does. Where Redis is away, all who
    wait hear of it; what it refuses is asked for one by one, so that no page suffers for another.
    """

    def __init__(self, ask: Callable[[Sequence[Question]], Awaitable[Sequence[Reading]]]) -> None:
        self._ask = ask
        self._turn = asyncio.Lock()
        self._waiting: list[Waiting] = []
        self._apart = 0

    async def answer(self, question: Question) -> Reading:
        """Wait for the answer; raises what `ask` raises."""
        ours = Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting.append(ours)
        try:
            async with self._turn:
                while not ours.answer.done():
                    await self._step()
        except BaseException:
            if not ours.answer.cancel():
                ours.answer.exception()  # which nobody else would look at
            self._waiting = [one for one in self._waiting if one is not ours]
            raise
        return ours.answer.result()

    async def _step(self) -> None:
        together = self._next()
        try:
            answers = await self._ask([one.question for one in together])
        except StoreRefused as error:
            if len(together) == 1:
                _fail(together, error)
            else:
                self._waiting = together + self._waiting
                self._apart = len(together)
        except StoreError as error:
            _fail(together + self._waiting, error)
            self._waiting = []
        except BaseException:
            self._waiting = together + self._waiting
            raise
        else:
            for one, answer in zip(together, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    def _next(self) -> list[Waiting]:
        """Take those that have waited longest, as many as go into one step; at least one."""
        number = weight = 0
        for one in self._waiting:
            weight += one.question.weight
            if number and (weight > MAX_ROWS or self._apart):
                break
            number += 1
        self._apart = max(self._apart - 1, 0)
        together, self._waiting = self._waiting[:number], self._waiting[number:]
        return together


def _fail(together: Sequence[Waiting], error: StoreError) -> None:
    for one in together:
        if not one.answer.done():
            one.answer.set_exception(error)
