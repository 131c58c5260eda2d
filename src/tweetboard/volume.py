"""Whether a stream that is alive still brings posts, as X advises to watch, and whether they are of now. Pure.

What lives here: what is usual, how much less is no chance, and how old is none. What must not: clocks, or saying it to
anybody.
"""

import math
from collections import deque
from collections.abc import Collection
from typing import Final, NamedTuple

BUCKET_S: Final = 15.0
"""Posts are counted in stretches of so much time."""

USUAL_BUCKETS: Final = 240
"""An hour of them says what is usual."""

CALM: Final = 0.9
"""But for bursts: a stream that resumes sends in seconds what it brought in hours.

The least busy nine tenths say what is no burst: up to `BURST` times as much, and 3 posts.
"""

BURST: Final = 4.0

QUIET_S: Final = 60.0
"""No shorter time is worth a warning."""

EXPECTED: Final = 20.0
"""Nor is one in which fewer posts than this would have come: by chance alone, all stay out once in e**20 such times."""

NEARLY_NOTHING, ENOUGH = 0.05, 0.1
"""So small a part of what is usual is as good as nothing, and so much no longer is."""

FIRST_POST_S: Final = 600.0
"""A stream that has brought nothing for so long from its start on is said to be quiet too."""


LATE_S: Final = 60.0
"""Posts older than this when they come are what was missed: they come faster than is usual."""

LATE_LOOKS, NONE_LOOKS = 3, 5
"""A single old post is no sign of it, and where none has come for a while none that was missed is left."""


class Lag:
    """How far behind a stream is that brings what was missed; looked at every second. `behind_s` is 0 where it is not.

    A fresh post says that it is not: among them old ones may be that others were late with.
    """

    def __init__(self) -> None:
        self.behind_s = 0.0
        self._least_s: float | None = None
        self._late = self._none = 0

    def came(self, age_s: float) -> None:
        """Note that a post came so long after it was written."""
        self._least_s = age_s if self._least_s is None else min(self._least_s, age_s)

    def look(self) -> None:
        """Take in what came since the last look."""
        least_s, self._least_s = self._least_s, None
        self._none = self._none + 1 if least_s is None else 0
        if least_s is not None and least_s >= LATE_S:
            self._late += 1
        elif least_s is not None or self._none >= NONE_LOOKS:
            self._late = 0
        if self._late < LATE_LOOKS:
            self.behind_s = 0.0
        elif least_s is not None:
            self.behind_s = least_s


class Stretch(NamedTuple):
    """How many posts came in how many seconds."""

    posts: int
    seconds: float


class Volume:
    """Watches how many posts have come, looked at every second or so.

    `posts_per_s` is what is usual; `quiet` is whether next to nothing comes any more; `silent_s` is how long ago the
    last post came. Time that says nothing, without a connection, held up or catching up, does not count.
    """

    def __init__(self) -> None:
        self.posts_per_s = 0.0
        self.quiet = False
        self.silent_s = 0.0
        self._posts = 0
        self._at_s: float | None = None
        self._now = Stretch(0, 0.0)
        self._last = deque[Stretch](maxlen=USUAL_BUCKETS)
        self._usual = deque[Stretch](maxlen=USUAL_BUCKETS)

    def look(self, posts: int, now_s: float, *, live: bool) -> bool:
        """Take in how many posts there were in all by now; returns whether `quiet` has changed."""
        elapsed_s = now_s - self._at_s if self._at_s is not None and live else 0.0
        new, self._posts, self._at_s = posts - self._posts, posts, now_s
        self.silent_s = 0.0 if new else self.silent_s + elapsed_s
        self._now = Stretch(self._now.posts + new * live, self._now.seconds + elapsed_s)
        if self._now.seconds >= BUCKET_S:
            self._last.append(self._now)
            if self.silent_s < FIRST_POST_S:  # nothing at all must not become usual
                self._usual.append(self._now)
                self.posts_per_s = _usual_rate(self._usual)
            self._now = Stretch(0, 0.0)
        before, self.quiet = self.quiet, self._is_quiet()
        return self.quiet != before

    def _is_quiet(self) -> bool:
        if not self._posts:
            return self.silent_s >= FIRST_POST_S
        if not self.posts_per_s:
            return False
        wanted_s = max(QUIET_S, EXPECTED / self.posts_per_s)
        count, seconds = self._now
        for stretch in reversed(self._last):
            if seconds >= wanted_s:
                break
            count, seconds = count + stretch.posts, seconds + stretch.seconds
        part = ENOUGH if self.quiet else NEARLY_NOTHING
        return seconds >= wanted_s and count <= part * self.posts_per_s * seconds


def _usual_rate(stretches: Collection[Stretch]) -> float:
    """Say how many posts a second are usual, of each burst counting only as much as is none."""
    counts = sorted(stretch.posts for stretch in stretches)
    calm = counts[: math.ceil(CALM * len(counts)) - 1]
    if not calm:
        return 0.0
    most = BURST * sum(calm) / len(calm) + 3
    return sum(min(count, most) for count in counts) / sum(stretch.seconds for stretch in stretches)
