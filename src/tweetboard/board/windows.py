"""The arithmetic of sliding windows: how long one is, and how it is cut into buckets of time.

What must not come here: a clock, I/O, keys of Redis. Everything takes numbers or a text and gives numbers.
"""

import math
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

ALL: Final = "all"
"""What is asked for where no window is: the scores of all time."""

TRENDING: Final = "trending"
"""What the decaying scores are asked for by."""

BUCKETS_PER_WINDOW = 60
"""A window loses its oldest bucket whole, so its edge is true to a sixtieth of its length."""

_WINDOW = re.compile(r"([1-9][0-9]{0,8})([smhd])")  # nine digits of days are seconds that a 64-bit integer holds
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_window(text: str) -> int:
    """Read a window's name, such as `5m` or `24h`, as its length.

    Seconds. Raises ValueError where the text is not a number of at least 1 with s, m, h or d behind it; a leading zero
    is refused too, for `05m` and `5m` would be two names of one window.
    """
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 5m, 24h or 7d")
    return int(match[1]) * _UNIT_S[match[2]]


def bucket_s(window_s: int) -> int:
    """Width of the buckets that a window of this length is made of; both in whole seconds, at least 1."""
    return -(-window_s // BUCKETS_PER_WINDOW)  # rounded up, so that there are never more buckets than that


MINUTE_S: Final = 60
"""What goes for a bucket of scores that are in none."""


class Window(NamedTuple):
    """A sliding window: its name, the width of its buckets, and how many it is made of, the unfinished one included."""

    name: str
    bucket_s: int
    buckets: int

    @property
    def length_s(self) -> int:
        """How long it is, in whole buckets."""
        return self.bucket_s * self.buckets


class Kept(NamedTuple):
    """What a board keeps besides the scores of all time, and what of all that.

    That is windows; trending scores with a half-life; an author adds to a name only once in `once_s`; names beyond the
    first `max_members` may be let go; for `forget_s` what a post has added can be taken away; beyond twice as many
    names as `leaders`, the lowest are kept beside the sorted set. 0 is none of it.
    """

    windows: tuple[Window, ...] = ()
    half_life_s: int = 0
    once_s: int = 0
    max_members: int = 0
    forget_s: int = 0
    leaders: int = 0

    @property
    def names(self) -> list[str]:
        """All that can be asked for."""
        return [ALL, *(window.name for window in self.windows), *([TRENDING] if self.half_life_s else [])]

    @property
    def sets(self) -> int:
        """How many sets and hashes of scores a name goes into; one that may be let go again takes as long as two."""
        more = [self.half_life_s, self.once_s, self.forget_s, self.max_members]
        return 1 + 2 * len(self.windows) + sum(one > 0 for one in more)

    @property
    def finest_s(self) -> int:
        """Width, in seconds, of the finest bucket that any of it goes by; 0 where time does not matter."""
        widths = [window.bucket_s for window in self.windows] + [bucket_s(self.half_life_s)] * (self.half_life_s > 0)
        return min([*widths, MINUTE_S]) if widths else 0


NOTHING_MORE: Final = Kept()


def window(text: str) -> Window:
    """Make a window of its name; raises ValueError as `parse_window` does."""
    length_s = parse_window(text)
    width_s = bucket_s(length_s)
    return Window(text, width_s, -(-length_s // width_s))


def finest_bucket_s(windows_s: Iterable[int]) -> int:
    """Width, in seconds, of the buckets that posts are gathered in for all of these windows; 1 where there are none.

    It divides every window's own bucket width, so the start of a finest bucket falls into exactly one bucket of each.
    """
    return math.gcd(*map(bucket_s, windows_s)) or 1
