"""The plainest shape, for one's own producers: `{"username": "alice", "hashtags": ["redis", "python"]}`."""

from typing import Final

import msgspec

from tweetboard.formats.decoding import Format
from tweetboard.posts import Post, Skip


class Record(msgspec.Struct, gc=False):
    """One line; `hashtags` may also be absent, null or one string, and what is no text in the list is dropped."""

    username: str | None = None
    hashtags: list[object] | str | None = None


def post(record: Record) -> Post | Skip:
    """Turn a record into a post; it has neither id nor time, so it counts as of its arrival."""
    if not record.username:
        return Skip("no_author")
    found = record.hashtags
    if found is None:
        return Post("", 0, record.username)
    spellings = [found] if isinstance(found, str) else found
    return Post("", 0, record.username, tuple([tag if isinstance(tag, str) else "" for tag in spellings]))


FORMAT: Final = Format(
    name="flat",
    record=Record,
    new_post=lambda: post,
    signature=frozenset({"username", "hashtags"}),
)
