"""Mastodon's streaming API: Server-Sent Events, of which `update` alone is a new post (DESIGN section 6)."""

from typing import Final

import msgspec

from tweetboard.formats import times
from tweetboard.formats.decoding import Format
from tweetboard.posts import Post, Skip


class Boosted(msgspec.Struct, gc=False):
    """The status that another passes on."""


class Account(msgspec.Struct, gc=False):
    """Who posted; `acct` has the server behind an @ where it is another than the one that is asked."""

    acct: str = ""
    bot: object = None


class Tag(msgspec.Struct, gc=False):
    """One hashtag, as the post spells it."""

    name: str = ""


class Record(msgspec.Struct, gc=False):
    """A status; one with `reblog` only passes another on."""

    id: str = ""
    created_at: str = ""
    account: Account | None = None
    tags: list[Tag] | None = None
    language: object = None
    reblog: Boosted | None = None


def post(record: Record) -> Post | Skip:
    """Turn a status into a post; a boost is none."""
    if record.reblog is not None:
        return Skip("boost")
    account = record.account
    if account is None or not account.acct:
        return Skip("no_author") if record.id else Skip("not_a_post")
    hashtags = tuple([tag.name for tag in record.tags]) if record.tags else ()
    return Post(
        record.id,
        times.from_iso(record.created_at),
        account.acct,
        hashtags,
        languages=record.language,
        is_bot=account.bot is True,
    )


EVENTS: Final = {
    "status.update": Skip("edit"),
    "delete": Skip("delete"),  # its data is a bare id
    "notification": Skip("notification"),
    "filters_changed": Skip("filters_changed"),  # its data is the word `undefined`
    "conversation": Skip("conversation"),
    "announcement": Skip("announcement"),
    "announcement.reaction": Skip("announcement"),
    "announcement.delete": Skip("announcement"),
    "encrypted_message": Skip("not_a_post"),
}
"""What else a stream says; other events than these and `update` count as not_a_post."""

FORMAT: Final = Format(
    name="mastodon",
    record=Record,
    new_post=lambda: post,
    signature=frozenset({"account"}),
    stall_timeout_s=60,
    event_type="update",
    other_events=EVENTS,
    gone_event="delete",
)
