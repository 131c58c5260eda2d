"""X API v2 streams: `{"data": {...}, "includes": {...}}` (DESIGN section 6)."""

from typing import Final

import msgspec

from tweetboard.formats import times
from tweetboard.formats.decoding import Format
from tweetboard.formats.text import hashtags_in
from tweetboard.posts import Post, Skip

_NO_TEXT: Final = msgspec.Raw(b'""')
_TEXT: Final = msgspec.json.Decoder(str)
_FULL_WIDTH: Final = "＃".encode()

_PROBLEMS: Final = {
    "operational-disconnect": Skip("operational_disconnect"),
    "streaming-connection": Skip("connection_refused"),
}


class Hashtag(msgspec.Struct, gc=False):
    """One entry of `entities.hashtags`."""

    tag: str = ""


class Entities(msgspec.Struct, gc=False):
    """What X found in the text."""

    hashtags: list[Hashtag] | None = None


class Note(msgspec.Struct, gc=False):
    """The whole of a post that is longer than 280 characters."""

    entities: Entities | None = None


class Reference(msgspec.Struct, gc=False):
    """A post that this one quotes, answers or repeats."""

    type: str
    id: str


class Tweet(msgspec.Struct, gc=False):
    """The part of a post that counts."""

    id: str = ""
    author_id: str = ""
    created_at: str = ""
    entities: Entities | None = None
    text: msgspec.Raw = _NO_TEXT
    lang: object = None
    note_tweet: Note | None = None
    referenced_tweets: list[Reference] | None = None
    edit_history_tweet_ids: list[str] | None = None


class User(msgspec.Struct, gc=False):
    """An account named in `includes`."""

    id: str = ""
    username: str = ""


class Includes(msgspec.Struct, gc=False):
    """Objects that `data` refers to by id."""

    users: list[User] | None = None
    tweets: list[Tweet] | None = None


class Problem(msgspec.Struct, gc=False):
    """An entry of an in-stream `errors` list; a partial error beside `data` looks the same."""

    type: str = ""


class Record(msgspec.Struct, gc=False):
    """One line of the stream; a ConnectionException has only its own `type`."""

    data: Tweet | None = None
    includes: Includes | None = None
    errors: list[Problem] | None = None
    type: str = ""


def post(record: Record) -> Post | Skip:
    """Turn a record into a post; the author's name comes from `includes`, else it is `id:<author_id>`."""
    tweet = record.data
    if tweet is None:
        return _problem(record)
    author_id = tweet.author_id
    if not author_id:
        return Skip("no_author")
    history = tweet.edit_history_tweet_ids
    if history and history[0] != tweet.id:
        return Skip("edit")
    author, source = "", tweet
    repeated, includes = _repeated(tweet.referenced_tweets) if tweet.referenced_tweets else "", record.includes
    if includes is not None:
        for user in includes.users or ():
            if user.id == author_id and user.username:
                author = user.username
                break
        if repeated and includes.tweets:
            source = _by_id(includes.tweets, repeated) or tweet
    entities = source.entities if source.note_tweet is None else source.note_tweet.entities
    if entities is not None:
        hashtags = tuple([entry.tag for entry in entities.hashtags]) if entities.hashtags else ()
    else:
        # A retweet's text is cut off somewhere, and with it perhaps its last hashtag.
        hashtags = () if repeated and source is tweet else _in_text(source.text)
    time = times.from_iso(tweet.created_at) if tweet.created_at else times.from_snowflake(tweet.id)
    return Post(
        tweet.id,
        time,
        author or f"id:{author_id}",
        hashtags,
        languages=tweet.lang,
        is_repost=bool(repeated),
    )


def _in_text(text: msgspec.Raw) -> tuple[str, ...]:
    """Find the hashtags of a post without entities: X leaves them out where there are none or nobody asked for them."""
    raw = bytes(text)
    if b"#" not in raw and _FULL_WIDTH not in raw and b"\\u" not in raw:  # escaped it may be either
        return ()
    try:
        return tuple([found.tag for found in hashtags_in(_TEXT.decode(raw))])
    except (msgspec.MsgspecError, UnicodeError):
        return ()


def _repeated(references: list[Reference]) -> str:
    """Name the post that a retweet repeats: the retweet's own text and entities are cut off."""
    for reference in references:
        if reference.type == "retweeted":
            return reference.id
    return ""


def _by_id(tweets: list[Tweet], post_id: str) -> Tweet | None:
    for tweet in tweets:
        if tweet.id == post_id:
            return tweet
    return None


def _problem(record: Record) -> Skip:
    types = [problem.type for problem in record.errors or []] + [record.type]
    for kind in types:
        known = _PROBLEMS.get(kind.rpartition("/")[2])
        if known is not None:
            return known
    return Skip("upstream_error") if any(types) else Skip("not_a_post")


FORMAT: Final = Format(
    name="x-v2",
    record=Record,
    new_post=lambda: post,
    signature=frozenset({"data"}),
    stall_timeout_s=30,
)
