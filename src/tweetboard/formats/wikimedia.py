"""Wikimedia's EventStreams: `recentchange`, one edit of a page an event (DESIGN section 6)."""

import re
from functools import lru_cache
from typing import Final

import msgspec

from tweetboard.formats.decoding import Format
from tweetboard.formats.text import hashtags_in
from tweetboard.posts import Post, Skip


class Meta(msgspec.Struct, gc=False):
    """What an event says of itself."""

    id: str = ""
    domain: str = ""


class Record(msgspec.Struct, gc=False):
    """One change; `user` is absent where a name was hidden, `comment` is what the editor wrote about it.

    A hidden name's hashtags still count.
    """

    meta: Meta | None = None
    user: str | None = None
    comment: str | None = None
    bot: object = None
    timestamp: int | float | None = None


def post(record: Record) -> Post | Skip:
    """Turn a change into a post; canaries, which only show that the stream is alive, are none."""
    meta = record.meta
    if meta is None:
        return Skip("not_a_post")
    if meta.domain == "canary":
        return Skip("canary")
    comment = record.comment
    found = hashtags_in(comment) if comment else []
    hashtags = tuple([one.tag for one in found]) if found else ()
    if not record.user and not hashtags:
        return Skip("no_author")
    time = record.timestamp or 0
    return Post(
        meta.id,
        int(time) if 0 < time < _FAR_FUTURE_S else 0,
        record.user or "",
        hashtags,
        languages=_language(meta.domain),
        is_bot=record.bot is True,
    )


@lru_cache(maxsize=4096)
def _language(domain: str) -> str | None:
    wiki = _WIKI.fullmatch(domain)
    return wiki[1] if wiki else None


def resume_id(position: str) -> str:
    """Make a Last-Event-ID of the last event's id: what came in the same millisecond is asked for again.

    An event's id already names the millisecond after it, so a connection that goes on from there would leave out what
    else that millisecond brought; repeats are known by `meta.id`. Of a topic that has been quiet for so long that its
    last event's may be forgotten all of that has come. What is no such id is sent back as it stands.
    """
    try:
        places = _PLACES.decode(position)
    except msgspec.DecodeError:
        return position
    times = [place.get("timestamp") for place in places]
    newest = max((time for time in times if isinstance(time, int)), default=0)
    for place, time in zip(places, times, strict=True):
        if isinstance(time, int) and time > newest - QUIET_MS:
            place["timestamp"] = time - 1
    return msgspec.json.encode(places).decode()


QUIET_MS: Final = 10_000
"""A topic without an event for so long while others have some has nothing more of that millisecond."""

_FAR_FUTURE_S: Final = 1 << 40
# Of the projects that have a wiki a language; Commons, Wikidata and the like have none.
_WIKI: Final = re.compile(r"([a-z-]+)\.wik(?:ipedia|tionary|iquote|ibooks|isource|inews|iversity|ivoyage)\.org")
_PLACES: Final = msgspec.json.Decoder(list[dict[str, str | int]])

FORMAT: Final = Format(
    name="wikimedia",
    record=Record,
    new_post=lambda: post,
    signature=frozenset({"$schema", "wiki"}),
    resume_id=resume_id,
    keep_ids_s=60,
)
