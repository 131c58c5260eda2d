"""Bluesky's Jetstream: JSON over a WebSocket; new `app.bsky.feed.post` records are posts (DESIGN section 6)."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tweetboard.formats.decoding import Format
from tweetboard.formats.hashtags import clean
from tweetboard.posts import Post, Skip

POSTS: Final = "app.bsky.feed.post"
TAG: Final = "app.bsky.richtext.facet#tag"

NO_HANDLE: Final = "handle.invalid"
"""What stands in for the handle of an account that has lost it."""

MAX_HANDLES: Final = 100_000
"""So many accounts' handles are remembered, the last ones seen: some 20 MB."""

STEP_BACK_US: Final = 5_000_000
"""Times are not quite in order (3 ms off in 80 events): so much is asked for again, and known by the posts' ids."""


FAR_FUTURE_US: Final = 10**17
"""No message is from the year 5138; positions have at most 17 digits."""


class Feature(msgspec.Struct, gc=False):
    """What a stretch of the text is: a tag, a link, a mention."""

    type: str = msgspec.field(default="", name="$type")
    tag: object = ""  # records are as their authors write them


class Facet(msgspec.Struct, gc=False):
    """A stretch of the text."""

    features: list[Feature] = []


class Content(msgspec.Struct, gc=False):
    """What was posted."""

    facets: list[Facet] | None = None
    langs: object = None


class Commit(msgspec.Struct, gc=False):
    """A change of an account's records; `record` may be of any shape unless it is a post."""

    operation: str = ""
    collection: str = ""
    rkey: str = ""
    record: msgspec.Raw = msgspec.Raw(b"{}")


class Identity(msgspec.Struct, gc=False):
    """What an account is called now."""

    handle: str = ""


class Time(msgspec.Struct, gc=False):
    """A message, as far as its time goes."""

    time_us: int = 0


class Record(msgspec.Struct, gc=False):
    """One message; `time_us` is when Jetstream saw it, in microseconds, and its cursor."""

    did: str = ""
    time_us: int = 0
    kind: str = ""
    commit: Commit | None = None
    identity: Identity | None = None


def new_post() -> Callable[[Record], Post | Skip]:
    """Make what turns messages into posts; an author is the account's DID, shown by its handle where one was seen.

    A handle may change, and not every process has heard it: under both names an account would stand on a board twice.
    """
    handles: OrderedDict[str, str] = OrderedDict()

    def post(record: Record) -> Post | Skip:
        if record.kind == "identity" and record.identity is not None:
            handle = clean(record.identity.handle)
            handles.pop(record.did, None)
            handles[record.did] = handle if handle and handle != NO_HANDLE else record.did
            if len(handles) > MAX_HANDLES:
                handles.popitem(last=False)
        commit = record.commit
        if record.kind != "commit" or commit is None:
            return _OTHER_KINDS.get(record.kind, _NOT_A_POST)
        if commit.collection == POSTS and commit.operation == "delete" and record.did:
            return Skip("delete", gone=f"{record.did}/{commit.rkey}")
        if commit.collection != POSTS or commit.operation != "create":
            return _OTHER_OPERATIONS.get(commit.operation, _NOT_A_POST) if commit.collection == POSTS else _NOT_A_POST
        return _created(record, commit, handles) if record.did else Skip("no_author")

    return post


def _created(record: Record, commit: Commit, handles: Mapping[str, str]) -> Post | Skip:
    try:
        content = _CONTENT.decode(commit.record)
    except msgspec.ValidationError:
        content = _STRANGE
    except (msgspec.DecodeError, UnicodeError):
        return Skip("broken_json")
    hashtags: tuple[str, ...] = ()
    if content.facets:
        tags = [one.tag for facet in content.facets for one in facet.features if one.type == TAG]
        hashtags = tuple([tag if isinstance(tag, str) else "" for tag in tags])
    return Post(
        f"{record.did}/{commit.rkey}",
        record.time_us // 1_000_000 if 0 < record.time_us < FAR_FUTURE_US else 0,
        record.did,
        hashtags,
        display=handles.get(record.did, ""),
        languages=content.langs,
    )


def position(data: bytes) -> str:
    """Read a message's time, which is the stream's position after it; "" where it has none."""
    if found := _BEGINNING.match(data):
        return found[1].decode()
    try:
        time_us = _TIME.decode(data).time_us
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
    return str(time_us) if 0 < time_us < FAR_FUTURE_US else ""


def resume_id(position: str) -> str:
    """Make a cursor of the last message's time."""
    is_time = position.isascii() and position.isdigit() and len(position) <= len(str(FAR_FUTURE_US))
    return str(max(int(position) - STEP_BACK_US, 0)) if is_time else ""


_BEGINNING: Final = re.compile(rb'\{"did":"[a-z0-9:.-]*","time_us":([1-9][0-9]{0,16}),')
"""How Jetstream begins nearly every message."""

_TIME: Final = msgspec.json.Decoder(Time)
_CONTENT: Final = msgspec.json.Decoder(Content)
_STRANGE: Final = Content(facets=[Facet(features=[Feature(type=TAG)])])  # whose one hashtag counts as no name
_NOT_A_POST: Final = Skip("not_a_post")
_OTHER_KINDS: Final = {"identity": Skip("identity"), "account": Skip("account")}
_OTHER_OPERATIONS: Final = {"delete": Skip("delete"), "update": Skip("edit")}

FORMAT: Final = Format(
    name="bluesky",
    record=Record,
    new_post=new_post,
    signature=frozenset({"did"}),
    stall_timeout_s=30,
    position=position,
    resume_id=resume_id,
    keep_ids_s=60,
)
