"""Waiting for one of several things, without a task that anybody could lose.

asyncio.wait_for is not used in this project: on Python 3.11 it can swallow a cancellation, and a TaskGroup hangs.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of `waits` has ended, the others cancelled; a failure comes as an exception group."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait) for wait in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


def pass_cancellation() -> None:
    """Raise `CancelledError` where the running task has been told to end; for behind every `except*` that goes on.

    On Python 3.11 and 3.12 a TaskGroup whose child fails in the same turn of the loop in which the group's own task is
    cancelled raises the failure alone: whoever handles that would never hear of the cancellation.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event, but no longer than `seconds`; True where it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()
