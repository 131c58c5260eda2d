"""The plainest shape, for one's own producers: `{"username": "alice", "hashtags": ["redis"], "lang": "en"}`."""

from typing import Final

import msgspec

from tweetboard.formats.decoding import Format
from tweetboard.posts import Post, Skip


class Record(msgspec.Struct, gc=False):
    """One line; `hashtags` may also be absent, null or one string, and what is no text in the list is dropped.

    `lang` is wanted only where posts are chosen by it.
    """

    username: str | None = None
    hashtags: list[object] | str | None = None
    lang: object = None


def post(record: Record) -> Post | Skip:
    """Turn a record into a post; it has neither id nor time, so it counts as of its arrival."""
    if not record.username:
        return Skip("no_author")
    found = record.hashtags
    if not found:
        return Post("", 0, record.username, languages=record.lang)
    spellings = [found] if isinstance(found, str) else found
    hashtags = tuple([tag if isinstance(tag, str) else "" for tag in spellings])
    return Post("", 0, record.username, hashtags, languages=record.lang)


FORMAT: Final = Format(
    name="flat",
    record=Record,
    new_post=lambda: post,
    signature=frozenset({"username", "hashtags"}),
)
