"""Whether a stream that is alive still brings posts; X advises to watch for those that only keep alive. Pure.

What lives here: what is usual, and how long less than that is chance. What must not: clocks, or saying it to anybody.
"""

import math
from typing import Final

USUAL_S: Final = 600.0
"""What came within so long says what is usual; older posts count for less and less."""

QUIET_S: Final = 60.0
"""No shorter silence is worth a warning."""

UNLIKELY: Final = 20.0
"""So many posts would have come meanwhile: by chance alone none comes once in e**20 such times."""


class Volume:
    """Watches how many posts have come, looked at every second or so.

    `posts_per_s` is what is usual; `quiet` is whether nothing has come for longer than that allows, `silent_s` for how
    long. Time without a connection does not count: that is another trouble.
    """

    def __init__(self) -> None:
        self.posts_per_s = 0.0
        self.quiet = False
        self.silent_s = 0.0
        self._posts = 0
        self._since_s: float | None = None

    def look(self, posts: int, now_s: float, *, live: bool) -> bool:
        """Take in how many posts there were in all by now; returns whether `quiet` has changed."""
        before = self.quiet
        if self._since_s is None or not live:
            self._since_s = now_s
        elapsed_s = now_s - self._since_s
        if posts > self._posts:
            if elapsed_s > 0:
                weight = 1 - math.exp(-elapsed_s / USUAL_S)
                self.posts_per_s += weight * ((posts - self._posts) / elapsed_s - self.posts_per_s)
            self._posts, self._since_s, elapsed_s = posts, now_s, 0.0
        self.silent_s = elapsed_s
        self.quiet = self.posts_per_s * elapsed_s > UNLIKELY and elapsed_s > QUIET_S
        return self.quiet != before
