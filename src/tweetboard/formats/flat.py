"""The plainest shape, for one's own producers: `{"username": "alice", "hashtags": ["redis", "python"]}`."""

from typing import Final

import msgspec

from tweetboard.formats.decoding import Decoded, Format, decoded
from tweetboard.posts import Skip


class Record(msgspec.Struct, gc=False):
    """One line; `hashtags` may also be absent, null or one string, and what is no text in the list is dropped."""

    username: str | None = None
    hashtags: list[object] | str | None = None


def post(record: Record) -> Decoded:
    """Turn a record into a post; it has neither id nor time, so it counts as of its arrival."""
    if not record.username:
        return Skip("no_author")
    found = record.hashtags
    if found is None:
        return decoded("", 0, record.username, [])
    if isinstance(found, str):
        return decoded("", 0, record.username, [found])
    tags = [tag for tag in found if isinstance(tag, str)]
    return decoded("", 0, record.username, tags, invalid=len(found) - len(tags))


FORMAT: Final = Format("flat", Record, post, frozenset({"username", "hashtags"}), stall_timeout_s=0)
