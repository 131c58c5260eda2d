"""From the settings to the boards: what each counts of a post, and which of its names are the same.

What lives here: choosing. What must not: how a board is kept (scoreboard.py), or how a name is found (formats/).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from tweetboard.board.windows import Kept, finest_bucket_s, parse_window, window
from tweetboard.formats.hashtags import fold
from tweetboard.formats.paths import Path
from tweetboard.posts import Channel, authors, field, hashtags
from tweetboard.settings import FIELDS, Settings, streams_of

LEADERS: Final = 12_000
"""So many names, or up to twice as many, stand in the sorted set of a board that keeps only its leaders there.

With all names hidden that a blocklist can have, there are still as many as one page and its ranks before need.
"""


class Board(NamedTuple):
    """One board: its unprefixed Redis `key`, its channel, `fold`, which maps a name to its identity, what is `kept`."""

    key: str
    channel: Channel
    fold: Callable[[str], str] | None
    kept: Kept


def boards_of(settings: Settings) -> tuple[dict[str, Board], list[Path]]:
    """Give the boards by name, and the paths at which a post's `fields` are to be found for them.

    Where nothing but the format `fields` is read, there are no authors and hashtags, and so no boards of them.
    """
    paths: list[Path] = []
    boards: dict[str, Board] = {}
    any_json = all(stream.settings.format == "fields" for stream in streams_of(settings).values())
    for name, board in settings.boards.items():
        what = board.field or FIELDS[name]
        of_tags = "hashtags" in (what, name)
        if what not in FIELDS.values():
            names = field(len(paths))
            paths.append(Path(what, are_tags=of_tags))
        elif any_json:
            continue
        else:
            names = hashtags if what == "hashtags" else authors
        kept = Kept(
            tuple(map(window, board.windows)),
            parse_window(board.trending) if board.trending else 0,
            parse_window(board.once_per_author) if board.once_per_author else 0,
            board.max_members,
            parse_window(board.forget) if board.forget else 0,
            LEADERS if board.store == "leaders" else 0,
        )
        channel = Channel(name, names, board.reposts, kept.once_s > 0, kept.forget_s > 0, kept.sets)
        boards[name] = Board(board.key, channel, fold if of_tags else None, kept)
    return boards, paths


def bucket_s_of(settings: Settings) -> int:
    """Give the width of the buckets that posts are gathered in, which every window's is a multiple of.

    Trending scores tell posts apart as a window of their half-life would; where an author counts once in a while, each
    second matters.
    """
    boards = settings.boards.values()
    if any(board.once_per_author for board in boards):
        return 1
    return finest_bucket_s(parse_window(text) for board in boards for text in (*board.windows, board.trending) if text)
