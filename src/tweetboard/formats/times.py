"""How sources write a moment, turned into whole Unix seconds; 0 for what cannot be read.

The parsers remember what they have seen, for in a live stream the same second comes thousands of times; of what is
longer than a moment can be they remember only the beginning.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

X_EPOCH_MS: Final = 1_288_834_974_657
"""The moment X's ids count from (4 November 2010): an id's upper 42 bits are milliseconds since then."""

_X_V1_CHARS: Final = len("Sun Aug 31 00:29:15 +0000 2014") + 1  # one more, so that a longer text is none


def from_iso(text: str) -> int:
    """Read `2021-04-01T15:52:31.000Z`; its fraction does not matter."""
    return _iso_second(text[:19])


def from_x_v1(text: str) -> int:
    """Read `Sun Aug 31 00:29:15 +0000 2014`."""
    return _x_v1_second(text[:_X_V1_CHARS])


def from_snowflake(post_id: str) -> int:
    """Read the moment out of an X id; older ids than the epoch's are plain counters and give 0."""
    if not (post_id.isascii() and post_id.isdigit() and 17 <= len(post_id) <= 20):
        return 0
    return ((int(post_id) >> 22) + X_EPOCH_MS) // 1000


@lru_cache(maxsize=4096)
def _iso_second(text: str) -> int:
    try:
        return max(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()), 0)
    except ValueError:
        return 0


@lru_cache(maxsize=4096)
def _x_v1_second(text: str) -> int:
    try:
        return max(int(datetime.strptime(text, "%a %b %d %H:%M:%S %z %Y").timestamp()), 0)
    except ValueError:
        return 0
