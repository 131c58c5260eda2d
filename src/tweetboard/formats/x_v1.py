"""X API v1.1 streams and archives: one status a line, control lines between (DESIGN section 6)."""

from typing import Final

import msgspec

from tweetboard.formats import times
from tweetboard.formats.decoding import Format
from tweetboard.posts import Post, Skip


class Hashtag(msgspec.Struct, gc=False):
    """One entry of `entities.hashtags`."""

    text: str = ""


class Entities(msgspec.Struct, gc=False):
    """What X found in the text."""

    hashtags: list[Hashtag] | None = None


class Extended(msgspec.Struct, gc=False):
    """The whole of a post that is longer than 140 characters."""

    entities: Entities | None = None


class User(msgspec.Struct, gc=False):
    """The account that posted."""

    screen_name: str = ""


class Status(msgspec.Struct, gc=False):
    """A post inside another."""

    entities: Entities | None = None
    truncated: bool = False
    extended_tweet: Extended | None = None


_ABSENT: Final = msgspec.Raw()  # false; msgspec does not take a Raw for one side of a union


class Record(Status, gc=False):
    """One line of the stream: a post, or one of the control lines, of which only the name matters."""

    id_str: str = ""
    created_at: str = ""
    lang: object = None
    user: User | None = None
    retweeted_status: Status | None = None
    delete: msgspec.Raw = _ABSENT
    scrub_geo: msgspec.Raw = _ABSENT
    limit: msgspec.Raw = _ABSENT
    status_withheld: msgspec.Raw = _ABSENT
    user_withheld: msgspec.Raw = _ABSENT
    disconnect: msgspec.Raw = _ABSENT
    warning: msgspec.Raw = _ABSENT


class Limit(msgspec.Struct, gc=False):
    """What `limit` says: so many posts that the filter found were more than it delivers, since the connection began."""

    track: int = 0


class Deleted(msgspec.Struct, gc=False):
    """The post that is no more."""

    id_str: str = ""


class Delete(msgspec.Struct, gc=False):
    """What `delete` says."""

    status: Deleted = msgspec.field(default_factory=Deleted)


_DELETE: Final = msgspec.json.Decoder(Delete)
_LIMIT: Final = msgspec.json.Decoder(Limit)

CONTROL_LINES: Final = ("delete", "scrub_geo", "limit", "status_withheld", "user_withheld", "disconnect", "warning")
_CONTROL_SKIPS: Final = {name: Skip(name) for name in CONTROL_LINES}


def post(record: Record) -> Post | Skip:
    """Turn a record into a post; a retweet has the hashtags of its original, whose text is not cut off."""
    user = record.user
    if user is None or not user.screen_name:
        for name, skip in _CONTROL_SKIPS.items():
            if getattr(record, name):
                if name == "delete":
                    return Skip("delete", gone=_gone(record.delete))
                return skip if name != "limit" else Skip("limit", _undelivered(record.limit))
        return Skip("no_author") if record.id_str else Skip("not_a_post")
    status = record.retweeted_status or record
    entities = status.entities
    if status.truncated and status.extended_tweet is not None:
        entities = status.extended_tweet.entities or entities
    hashtags = () if entities is None or not entities.hashtags else tuple([entry.text for entry in entities.hashtags])
    time = times.from_x_v1(record.created_at) if record.created_at else times.from_snowflake(record.id_str)
    return Post(
        record.id_str,
        time,
        user.screen_name,
        hashtags,
        languages=record.lang,
        is_repost=record.retweeted_status is not None,
    )


def _gone(delete: msgspec.Raw) -> str:
    try:
        return _DELETE.decode(delete).status.id_str
    except (msgspec.MsgspecError, UnicodeError):
        return ""


def _undelivered(limit: msgspec.Raw) -> int:
    try:
        return max(_LIMIT.decode(limit).track, 0)
    except (msgspec.MsgspecError, UnicodeError):
        return 0


FORMAT: Final = Format(
    name="x-v1",
    record=Record,
    new_post=lambda: post,
    signature=frozenset({"id_str", "entities", *CONTROL_LINES}),
    stall_timeout_s=90,
)
