"""Whether the parts of a daemon get on with what they have to do, as the service manager is told it.

What lives here: telling work from waiting. What must not: what a part's work is (pipe.py), or how it is told
(systemd.py).
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, NamedTuple

from tweetboard.systemd import Notifier

LOOK_S: Final = 2.0
"""So often it is looked, and the state told anew where it is another."""

log = logging.getLogger(__name__)


class Work(NamedTuple):
    """What one part has to do: whether there is any, what is another once some of it is done, and how soon it must be.

    Where there is nothing to do, or nothing that could be done at present, `due` is false, and time does not count.
    """

    due: bool
    done: Hashable
    limit_s: float


class Watchdog:
    """Finds the parts that have had work to do for too long and done none of it."""

    def __init__(self) -> None:
        self._moved: dict[str, tuple[Hashable, float]] = {}

    def stuck(self, parts: Mapping[str, Work], now_s: float) -> list[str]:
        """Look at all parts at a moment; returns the names of those that do not get on."""
        found = []
        for name, work in parts.items():
            done, since_s = self._moved.get(name, (None, now_s))
            if not work.due or done != work.done or name not in self._moved:
                self._moved[name] = work.done, now_s
            elif now_s - since_s > work.limit_s:
                found.append(name)
        return found


async def keep_telling(
    notifier: Notifier,
    work: Callable[[], Mapping[str, Work]],
    state: Callable[[], str],
    note_stuck: Callable[[Sequence[str]], None],
) -> None:
    """Feed the service manager's watchdog while all parts get on, and tell it the state, until cancelled.

    The names of those that do not get on are noted, also where there is no service manager.
    """
    clock, watchdog = asyncio.get_running_loop().time, Watchdog()
    pause_s = min(notifier.watchdog_s / 3, LOOK_S) or LOOK_S
    told, stuck_before = "", list[str]()
    while True:
        stuck = watchdog.stuck(work(), clock())
        note_stuck(stuck)
        if stuck and stuck != stuck_before:
            so = ": the service manager's watchdog is not fed any more" if notifier.watchdog_s else ""
            log.error("no progress of %s%s", ", ".join(stuck), so)
        stuck_before = stuck
        if notifier.watchdog_s and not stuck:
            notifier.alive()
        if (now := state()) != told:
            notifier.status(now)
            told = now
        await asyncio.sleep(pause_s)
