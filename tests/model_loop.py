"""Virtual time: an event loop whose clock jumps to the next timer, and processes in it that can be stopped and killed.

What lives here: time, and which process a step belongs to. What must not: Redis (model_redis.py), faults
(model_network.py).
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, TypeAlias, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Coro: TypeAlias = Generator[Any, None, T] | Coroutine[Any, Any, T]

WALL_CLOCK = 1_763_805_600
"""The Unix time at which every run begins; the monotonic clock begins at 1,000."""


class Deadlock(Exception):
    """Nothing is ready and no timer is set: whoever still waits, waits for ever."""


class Process:
    """One simulated operating system process: steps that its tasks cause belong to it, by their context.

    While `stopped` (SIGSTOP) none of them runs; they are kept in their order, timers that came due among them.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        self.dead = False
        self.unreachable = False
        self.held: list[_Step] = []


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)
"""The process that the running code belongs to; None is the world outside."""


class _Step(asyncio.TimerHandle):
    __slots__ = ("process",)

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: "VirtualLoop", context: Context
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.process = context.get(PROCESS)

    def run(self) -> None:
        self._run()


class _Task(asyncio.Task[T]):
    """A task that stands in a set where its number puts it, not its address: a seed always takes the same course."""

    def __init__(
        self, number: int, coro: Coro[T], *, loop: "VirtualLoop", name: object, context: Context | None
    ) -> None:
        self._number = number
        super().__init__(coro, loop=loop, name=None if name is None else str(name), context=context)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop in which nothing waits: when no step is ready, the clock is put forward to the next timer.

    `failure` is the first exception that nobody handled; it stops the loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self._now_s = 1000.0
        self._numbers = count()
        self._soon: deque[_Step] = deque()
        self._later: list[tuple[float, int, _Step]] = []

    def time(self) -> float:
        return self._now_s

    def create_task(self, coro: Coro[T], *, name: object = None, context: Context | None = None) -> asyncio.Task[T]:
        return _Task(next(self._numbers), coro, loop=self, name=name, context=context)

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> _Step:
        step = _Step(self._now_s, callback, args, self, copy_context() if context is None else context)
        self._soon.append(step)
        return step

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> _Step:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> _Step:
        step = _Step(when, callback, args, self, copy_context() if context is None else context)
        heapq.heappush(self._later, (when, next(self._numbers), step))
        return step

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.failure is None:
            self.failure = context.get("exception") or RuntimeError(context["message"])
            self.stop()

    def cont(self, process: Process) -> None:
        """Let a stopped process go on (SIGCONT): everything that came due meanwhile runs now, in its order."""
        process.stopped = False
        self._soon.extend(process.held)
        process.held.clear()

    def _run_once(self) -> None:
        """Run all that is ready: what asyncio's own loop does between two looks at its sockets."""
        if not self._soon:
            self._advance()
        for _ in range(len(self._soon)):
            step = self._soon.popleft()
            if step.cancelled():
                continue
            if step.process is not None and step.process.stopped:
                step.process.held.append(step)
            else:
                step.run()

    def _advance(self) -> None:
        while self._later:
            when, _, step = heapq.heappop(self._later)
            if step.cancelled():
                continue
            self._now_s = max(self._now_s, when)
            self._soon.append(step)
            if not self._later or self._later[0][0] > when:
                return
        if not self._soon:
            raise Deadlock


class Clock:
    """Stands in for the module `time` while a run lasts."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()

    def time(self) -> float:
        return WALL_CLOCK - 1000 + self._loop.time()
