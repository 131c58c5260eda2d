"""Which boards there are, and what each takes of a post."""

import pytest

from tweetboard.blocklist import MAX_NAMES
from tweetboard.board.rows import RANKED
from tweetboard.boards import LEADERS, boards_of, bucket_s_of
from tweetboard.formats.paths import Path
from tweetboard.posts import Post
from tweetboard.settings import STORES, BoardSettings, Settings, StreamSettings

POSTS = [
    Post("1", 0, "alice", ("Tea", "bread"), fields=(("en",), ("N", "S"))),
    Post("2", 0, "", ("tea",), is_repost=True, fields=((), ("S",))),
]


def settings(*formats: str, **fields: str) -> Settings:
    """Make settings of one stream a format, and of the two boards and more of these fields."""
    boards = {name: BoardSettings(key=name, field=fields.pop(name, "")) for name in ("usernames", "hashtags")}
    boards |= {name: BoardSettings(key=name, field=field) for name, field in fields.items()}
    streams = {f"s{number}": StreamSettings(url="wikimedia", format=name) for number, name in enumerate(formats)}
    return Settings(streams=streams, boards=boards)


def taken(chosen: Settings) -> dict[str, list[str]]:
    return {name: board.channel.names(POSTS) for name, board in boards_of(chosen)[0].items()}


def test_each_board_takes_what_its_field_says() -> None:
    chosen = settings("auto", languages="lang", venues="venues[].name", also="hashtags")
    assert taken(chosen) == {
        "usernames": ["alice"],
        "hashtags": ["Tea", "bread", "tea"],
        "languages": ["en"],
        "venues": ["N", "S", "S"],
        "also": ["Tea", "bread", "tea"],
    }
    assert boards_of(chosen)[1] == [Path("lang"), Path("venues[].name")]


def test_names_are_folded_where_they_are_hashtags() -> None:
    chosen = settings("fields", hashtags="tags[]", usernames="user.name")
    boards, paths = boards_of(chosen)
    assert [board.fold is not None for board in boards.values()] == [False, True]
    assert paths == [Path("user.name"), Path("tags[]", are_tags=True)]


@pytest.mark.parametrize(
    ("formats", "names"),
    [(["fields"], ["x"]), (["fields", "fields"], ["x"]), (["fields", "x-v2"], ["hashtags", "usernames", "x"])],
)
def test_where_nothing_knows_authors_and_hashtags_there_are_no_boards_of_them(
    formats: list[str], names: list[str]
) -> None:
    assert sorted(boards_of(settings(*formats, x="a.b"))[0]) == names


def test_a_board_of_leaders_is_told_how_many() -> None:
    boards = {name: BoardSettings(key=name, field="author", store=name) for name in STORES}
    assert {name: board.kept.leaders for name, board in boards_of(Settings(boards=boards))[0].items()} == {
        "zset": 0,
        "leaders": 12_000,
    }


def test_leaders_are_enough_though_many_are_hidden() -> None:
    assert MAX_NAMES + RANKED < LEADERS


def test_posts_are_gathered_in_buckets_that_all_windows_are_made_of() -> None:
    assert bucket_s_of(Settings()) == 5
    assert bucket_s_of(Settings(boards={"usernames": BoardSettings(key="k", windows=[])})) == 60
    once = BoardSettings(key="k", windows=["24h"], once_per_author="1h")
    assert bucket_s_of(Settings(boards={"usernames": once})) == 1
    nothing = BoardSettings(key="k", windows=[], trending="")
    assert bucket_s_of(Settings(boards={"usernames": nothing})) == 1
