"""Bluesky's Jetstream: JSON over a WebSocket; new `app.bsky.feed.post` records are posts (DESIGN section 6)."""

import re
from collections import OrderedDict
from collections.abc import Callable
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


class Change(msgspec.Struct, gc=False):
    """Which of an account's records has changed, and how."""

    operation: str = ""
    collection: str = ""
    rkey: str = ""


class Commit(Change, gc=False):
    """A change, and what the record says now."""

    record: Content | None = None


class Identity(msgspec.Struct, gc=False):
    """What an account is called now."""

    handle: str = ""


class Time(msgspec.Struct, gc=False):
    """When a message is from, in microseconds."""

    time_us: int = 0


class Record(Time, gc=False):
    """One message; its time is when Jetstream saw it, and its cursor."""

    did: str = ""
    kind: str = ""
    commit: Commit | None = None
    identity: Identity | None = None


class Envelope(Time, gc=False):
    """A message in which what has changed is not read."""

    did: str = ""
    kind: str = ""
    commit: Change | None = None
    identity: Identity | None = None


def new_post() -> Callable[[Record], Post | Skip]:
    """Make what turns messages into posts; an author is the account's DID, shown by its handle where one was seen.

    A handle may change, and not every process has heard it: under both names an account would stand on a board twice.
    """
    handles: OrderedDict[str, str] = OrderedDict()

    def post(record: Record) -> Post | Skip:
        change, did = record.commit, record.did
        if record.kind != "commit" or change is None:
            if record.kind == "identity" and record.identity is not None:
                _name(did, record.identity.handle, handles)
            return _OTHER_KINDS.get(record.kind, _NOT_A_POST)
        if change.collection != POSTS:
            return _NOT_A_POST
        if not did:
            return _NO_AUTHOR
        if change.operation == "delete":
            return Skip("delete", gone=f"{did}/{change.rkey}")
        if change.operation != "create":
            return _EDIT if change.operation == "update" else _NOT_A_POST
        hashtags: tuple[str, ...] = ()
        content = change.record or _NO_CONTENT
        if content.facets:
            tags = [one.tag for facet in content.facets for one in facet.features if one.type == TAG]
            hashtags = tuple([tag if isinstance(tag, str) else "" for tag in tags])
        time_us = record.time_us if 0 < record.time_us < FAR_FUTURE_US else 0
        return Post(f"{did}/{change.rkey}", time_us // 1_000_000, did, hashtags, handles.get(did, ""), content.langs)

    return post


def _name(did: str, spelled: str, handles: OrderedDict[str, str]) -> None:
    """Note what an account is called now; of too many those seen last are kept."""
    handle = clean(spelled)
    handles.pop(did, None)
    handles[did] = handle if handle and handle != NO_HANDLE else did
    if len(handles) > MAX_HANDLES:
        handles.popitem(last=False)


def lenient(data: bytes) -> Record:
    """Decode a message that says of something posted what is no such thing: its one hashtag counts as no name.

    Raises what msgspec raises where it is the message itself that has another shape.
    """
    envelope = _ENVELOPE.decode(data)
    change = envelope.commit
    commit = None if change is None else Commit(change.operation, change.collection, change.rkey, _STRANGE)
    return Record(envelope.time_us, envelope.did, envelope.kind, commit, envelope.identity)


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
_ENVELOPE: Final = msgspec.json.Decoder(Envelope, float_hook=float)
_STRANGE: Final = Content(facets=[Facet(features=[Feature(type=TAG)])])
_NO_CONTENT: Final = Content()
_NO_AUTHOR: Final = Skip("no_author")
_NOT_A_POST: Final = Skip("not_a_post")
_OTHER_KINDS: Final = {"identity": Skip("identity"), "account": Skip("account")}
_EDIT: Final = Skip("edit")

FORMAT: Final = Format(
    name="bluesky",
    record=Record,
    new_post=new_post,
    signature=frozenset({"did"}),
    stall_timeout_s=30,
    position=position,
    resume_id=resume_id,
    lenient=lenient,
    keep_ids_s=60,
)
