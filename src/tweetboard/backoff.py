"""How long to wait before the next attempt to connect to a stream. Pure: chance and clock are passed in.

The ladders are X's own (DESIGN section 6), with jitter, so that many clients cut off at once do not come back at once.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple


class Ladder(NamedTuple):
    """Delays in seconds: the first, the longest, and whether each doubles the one before or adds the first to it.

    `least` is the part of a rung that is always waited; `jitter` is the part that chance adds.
    """

    first_s: float
    longest_s: float
    doubles: bool
    least: float
    jitter: float

    def rung(self, attempt: int) -> float:
        """Return the delay before retry number `attempt`, counted from 1."""
        steps = min(attempt, 64)
        delay_s = self.first_s * (2 ** (steps - 1) if self.doubles else steps)
        return min(delay_s, self.longest_s)


LADDERS: Final = {
    "network": Ladder(0.25, 16, doubles=False, least=0, jitter=1),
    "http": Ladder(5, 320, doubles=True, least=0.5, jitter=0.5),
    "encoding": Ladder(5, 320, doubles=True, least=0.5, jitter=0.5),
    # Whoever comes sooner than X wants is kept out for longer.
    "rate_limit": Ladder(60, 960, doubles=True, least=1, jitter=0.25),
}


class Backoff:
    """Counts attempts that brought no data, each cause on its own ladder; `chance` returns a number from 0 to 1."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._failures = Counter[str]()

    def data_flowed(self) -> None:
        """Start from the bottom again: only data proves a connection, not the fact that one was made."""
        self._failures.clear()

    def delay_s(self, cause: str, retry_after_s: float | None = None) -> float:
        """Say how long to wait now; the first retry after a network failure is immediate.

        `retry_after_s`, the upstream's own word, is never undercut.
        """
        self._failures[cause] += 1
        attempt = self._failures[cause] - (cause == "network")
        if attempt == 0:
            return 0.0
        ladder = LADDERS[cause]
        jittered = ladder.rung(attempt) * (ladder.least + ladder.jitter * self._chance())
        return jittered if retry_after_s is None else retry_after_s + min(jittered, 5)
