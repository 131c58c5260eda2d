"""A simulation of DESIGN section 3 that runs the project's own code through weather no test bed could order.

One seed is one run: daemons (whole pipes: publisher, journal, subscribers, boards, leases) on an upstream and a Redis
of which everything may go wrong, in virtual time. After each change of Redis the invariant is checked, and at the end,
when the weather has calmed, that nothing is missing. The same seed takes the same course, however often it is run.

    python tests/model.py 1234                 # one seed again, with its trace
    python tests/model.py 1234 journal 0       # and without the first guard of journal.lua
"""

import asyncio
import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec

from model_invariant import Broken
from model_loop import Clock, Deadlock
from model_world import WatchedOutbox, World
from tweetboard import boards, journal, lease, outbox, publisher, store, subscriber
from tweetboard.journal import Session


class TraceHandler(logging.Handler):
    """Puts what the project logs into the trace."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.happened(record.levelname.lower() + ":", record.getMessage())


class Outcome(msgspec.Struct, frozen=True):
    """How a run went: what occurred how often, and the failure with the last events, "" where all held."""

    seed: int
    counts: dict[str, int]
    failure: str


def simulate(seed: int, missing: tuple[str, int] | None = None) -> Outcome:
    """Run one seed; `missing` names a guard to leave out."""
    world = World(seed, missing)
    with substituted(world):
        main = world.loop.create_task(world.run())
        try:
            world.loop.run_until_complete(main)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this seed
            failure = report(world, world.loop.failure or error, missing)
        else:
            failure = ""
        finally:
            unwind(world)
    return Outcome(seed, dict(world.counts), failure)


@contextlib.contextmanager
def substituted(world: World) -> Iterator[None]:
    """Give the project's modules virtual time, countable tokens, this run's bounds and a log that goes to the trace."""
    clock = Clock(world.loop)
    again = publisher.Publisher._begin_again  # noqa: SLF001 - only to count how often
    tokens = iter(range(1, sys.maxsize))

    async def begin_again(self: publisher.Publisher, session: Session, owner: str) -> int:
        world.happened("takes its session up again")
        seq = await again(self, session, owner)
        world.count("begun again")
        return seq

    log = logging.getLogger("tweetboard")
    handler = TraceHandler(world)
    with contextlib.ExitStack() as stack:
        WatchedOutbox.world = world
        stack.enter_context(mock.patch.object(publisher, "Outbox", WatchedOutbox))
        for module in (publisher, store):
            stack.enter_context(mock.patch.object(module, "time", clock))
        secrets = SimpleNamespace(token_hex=lambda _: f"{world.running}-{next(tokens)}")
        stack.enter_context(mock.patch.object(journal, "secrets", secrets))
        stack.enter_context(mock.patch.object(publisher.Publisher, "_begin_again", begin_again))
        for module in (boards, outbox, subscriber, lease, publisher):
            for name in vars(module).keys() & world.plan.bounds.keys():
                stack.enter_context(mock.patch.object(module, name, world.plan.bounds[name]))
        stack.enter_context(mock.patch.object(log, "propagate", new=False))
        log.addHandler(handler)
        stack.callback(log.removeHandler, handler)
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.INFO)
        yield


def unwind(world: World) -> None:
    """Cancel whatever a failed run left, and close the loop."""
    loop = world.loop
    loop.failure = loop.failure or Deadlock()  # one is enough: what goes wrong from here on does not matter
    world.end()
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(_gone(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _gone(tasks: set[asyncio.Task[Any]]) -> None:
    done, left = await asyncio.wait(tasks, timeout=10)
    assert not left, f"they do not end when cancelled: {left}"
    for task in done:
        if not task.cancelled():
            task.exception()  # whatever it was, the run has failed already


def report(world: World, error: BaseException, missing: tuple[str, int] | None) -> str:
    """Say what failed, with the way to see it again and the last events."""
    command = " ".join(map(str, ("python tests/model.py", world.seed, *(missing or ()))))
    lines = [f"{type(error).__name__}: {error}", f"again: {command}", f"{world.plan}", *map(told, world.trace)]
    if not isinstance(error, Broken):
        lines.append("".join(traceback.format_exception(error)))
    return "\n".join([*lines, lines[0]])


def told(event: tuple[float, str, tuple[object, ...]]) -> str:
    """Make a line of the trace of an event; commands show their verb and what follows their keys."""
    time_s, process, words = event
    shown = [f"{word:.3f}" if isinstance(word, float) else short(word) for word in words]
    return f"{time_s - 1000:9.4f} {process:4} {' '.join(shown)}"


def short(word: object) -> str:
    """Shorten a command to what matters: no digest, no keys."""
    if isinstance(word, tuple) and word and word[0] in ("EVAL", "EVALSHA"):
        word = word[3 + int(word[2]) :]
    text = " ".join(map(str, word)) if isinstance(word, tuple) else str(word)
    return text if len(text) < 300 else text[:300] + "..."


if __name__ == "__main__":
    words = sys.argv[1:]
    outcome = simulate(int(words[0]), (words[1], int(words[2])) if words[1:] else None)
    sys.stdout.write((outcome.failure or f"all held: {outcome.counts}") + "\n")
    sys.exit(bool(outcome.failure))
