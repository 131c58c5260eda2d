"""The ids of the last posts, by which what an upstream sends again is known. Pure.

What must not come here: which upstreams do so (presets.py, sources.py), or where ids are stored (journal.lua).
"""

from collections.abc import Iterable
from typing import Final

from tweetboard.posts import Post

LONGEST_TICK_S: Final = 1.0
"""Ids grow older by no more than this from block to block."""


class RecentIds:
    """The ids of the last posts, so that what an upstream sends again is counted once; bounded by age.

    An id is forgotten `keep_s` seconds after it last came; 0 keeps none. Only new posts make ids older: what comes
    again after a pause, or over and over because connections do not last, came just before it.
    """

    def __init__(self, keep_s: int) -> None:
        self.keep_s = keep_s
        self._seen: dict[str, float] = {}
        self._again: dict[str, None] = {}
        self._age_s = 0.0
        self._at_s = 0.0

    def load(self, ids: Iterable[str], now_s: float) -> None:
        """Start over with ids that an earlier session has stored."""
        self._at_s = now_s
        self._seen = dict.fromkeys(ids, self._age_s)
        self._again.clear()

    def new(self, posts: list[Post], now_s: float) -> list[Post]:
        """Leave out the posts that were there already; they are as young as new ones from here on.

        The id of one that is gone may be another's, or has to come again before it is gone once more.
        """
        if not self.keep_s:
            return posts
        fresh = []
        for post in posts:
            known = self._seen.pop(post.id, None) is not None
            if post.is_gone or not known:
                fresh.append(post)
            else:
                self._again[post.id] = None
            if post.id and not post.is_gone:
                self._seen[post.id] = self._age_s  # behind all others, as the last one that came
        if fresh:
            self._age_s += min(now_s - self._at_s, LONGEST_TICK_S)
            self._at_s = now_s
            oldest_s = self._age_s - self.keep_s
            while self._seen and self._seen[post_id := next(iter(self._seen))] <= oldest_s:
                del self._seen[post_id]
        return fresh

    def again(self) -> list[str]:
        """Give out the ids that have come again since this was asked last: they are to be stored anew."""
        ids = list(self._again)
        self._again.clear()
        return ids
