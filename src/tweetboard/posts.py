"""The vocabulary between a format and the publisher: a post, why a record was none, and what a channel takes of posts.

What must not come here: how any source spells a post (formats/), or how posts are gathered (publisher.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec


class Post(msgspec.Struct, frozen=True, gc=False):
    """One post, as far as a leaderboard cares.

    `id` is the source's own, "" where it has none; `time` is Unix time in whole seconds, 0 where the source does not
    say. `author` is as the source spells it, "" where nobody is named; `hashtags` come without their sign, in the
    post's order and spelling, once each after folding; `fields` has, for each path that some board counts, the names
    that stand there. A format hands over all of them as they stand; its decoder cleans them. `display` is what to show
    for an author who is counted under something that nobody reads. `languages` is as the source writes it, for
    `languages_of` to read; a repost only passes on what another has posted. One that `is_gone` is only its id: what the
    source says is no more, at that place among the others.
    """

    id: str
    time: int
    author: str
    hashtags: tuple[str, ...] = ()
    display: str = ""
    languages: object = None
    is_bot: bool = False
    is_repost: bool = False
    fields: tuple[tuple[str, ...], ...] = ()
    is_gone: bool = False


def languages_of(post: Post) -> list[str]:
    """Read a post's languages, BCP 47 tags, where its source writes one, or a list, or nothing that makes sense."""
    found = post.languages if isinstance(post.languages, list) else [post.languages]
    return [one for one in found if isinstance(one, str)]


class Skip(msgspec.Struct, frozen=True, gc=False):
    """A record that is no post, and why, in a few fixed words (the metric's label): never the record's own text.

    `undelivered` is how many posts the stream says in it that it has left out since the connection was made; `gone` the
    id of a post that it says is no more.
    """

    reason: str
    undelivered: int = 0
    gone: str = ""


@dataclass(frozen=True)
class Channel:
    """What one channel carries: `names` takes them out of posts, in order; without `reposts` those are left out.

    With `with_authors` it also says who wrote each of them, with `with_ids` in which post. A name of it goes into so
    many `sets` in Redis.
    """

    name: str
    names: Callable[[Sequence[Post]], list[str]]
    reposts: bool = True
    with_authors: bool = False
    with_ids: bool = False
    sets: int = 1


def authors(posts: Sequence[Post]) -> list[str]:
    """Name who posted."""
    return [post.author for post in posts if post.author]


def hashtags(posts: Sequence[Post]) -> list[str]:
    """Name the posts' hashtags."""
    return [tag for post in posts for tag in post.hashtags]


def field(place: int) -> Callable[[Sequence[Post]], list[str]]:
    """Make what names the values of one of the posts' `fields`."""
    return lambda posts: [name for post in posts for name in post.fields[place]]
