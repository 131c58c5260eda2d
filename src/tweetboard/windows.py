"""The arithmetic of sliding windows: how long one is, and how it is cut into buckets of time.

What must not come here: a clock, I/O, keys of Redis. Everything takes numbers or a text and gives numbers.
"""

import math
import re
from collections.abc import Iterable

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


def finest_bucket_s(windows_s: Iterable[int]) -> int:
    """Width, in seconds, of the buckets that posts are gathered in for all of these windows; 1 where there are none.

    It divides every window's own bucket width, so the start of a finest bucket falls into exactly one bucket of each.
    """
    return math.gcd(*map(bucket_s, windows_s)) or 1
