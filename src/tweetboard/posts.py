"""The vocabulary between a format and the publisher: a post, and why a record was none.

What must not come here: how any source spells a post (formats/), or how posts are gathered (publisher.py).
"""

import msgspec


class Post(msgspec.Struct, frozen=True, gc=False):
    """One post, as far as a leaderboard cares.

    `id` is the source's own, "" where it has none; `time` is Unix time in whole seconds, 0 where the source does not
    say. `author` is as the source spells it, "" where that is no name; `hashtags` come without their sign, in the
    post's order and spelling, once each after folding. A format hands over both as they stand; its decoder cleans them.
    """

    id: str
    time: int
    author: str
    hashtags: tuple[str, ...] = ()


class Skip(msgspec.Struct, frozen=True, gc=False):
    """A record that is no post, and why, in a few fixed words (the metric's label): never the record's own text.

    `undelivered` is how many posts the stream says in it that it has left out since the connection was made.
    """

    reason: str
    undelivered: int = 0
