"""What a post has added goes when the post does, from everything that is kept of a board: as if it had never been."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from by_hand import first_live
from tweetboard.channel import Message
from tweetboard.formats.hashtags import fold
from tweetboard.scoreboard import Scoreboard
from tweetboard.store import Store
from tweetboard.windows import Kept, window

KEY: Final = "hashtags_scoreboard"
NOW: Final = 1_763_805_600
FORGET_S: Final = 600
HALF_LIFE_S: Final = 60
KEPT: Final = Kept((window("30s"), window("1h")), HALF_LIFE_S, 0, 0, FORGET_S)


class Board:
    """A board that a test applies posts to, given as (time, id, names); `gone` are ids."""

    def __init__(self, store: Store, kept: Kept = KEPT) -> None:
        self.now = NOW
        self.seq = 0
        self.store = store
        self.kept = kept
        self.again()

    def again(self) -> None:
        """Go on as another process does."""
        self.scores = Scoreboard(self.store, "hashtags", KEY, fold, kept=self.kept, clock=lambda: float(self.now))

    async def begin(self) -> "Board":
        await self.store.execute("FLUSHALL")
        await self.store.execute("HSET", "tweetboard:x", "owner", "me", "seq", 10**6)
        await self.store.execute("HSET", f"{KEY}:applied", "x", 0)
        return self

    async def apply(self, posts: Sequence[tuple[int, str, Sequence[str]]], gone: Sequence[str] = ()) -> None:
        self.seq += 1
        times = [(time, len(names)) for time, _, names in posts if names]
        ids = [(post_id, len(names)) for _, post_id, names in posts if names]
        message = Message("x", "me", self.seq, times, [name for _, _, names in posts for name in names])
        message.posts, message.gone = ids, list(gone)
        await self.scores.apply("tweetboard:x", "me", [message])

    async def read(self, name: str = "all") -> dict[str, float]:
        return {row.name: row.score for row in (await self.scores.top(limit=1000, window=name)).rows}


NAMES = st.lists(st.sampled_from(["tea", "Tea", "TEA", "salt", "Salt", "bread"]), max_size=3, unique_by=fold)
STEPS = st.one_of(
    st.tuples(st.just("posts"), st.lists(st.tuples(st.integers(-45, 5), NAMES), max_size=5)),
    st.tuples(st.just("gone"), st.lists(st.integers(0, 30), max_size=4)),
    st.tuples(st.just("pass"), st.integers(0, 25)),
    st.tuples(st.just("restart"), st.none()),
)


class Post(NamedTuple):
    """A post as a count by hand keeps it: its time, when it came, its names."""

    time: int
    came: int
    names: list[str]


async def carried_out(board: Board, steps: list[tuple[str, object]]) -> list[Post]:
    """Do what the steps say; returns the posts that are left."""
    posts: dict[str, Post] = {}
    number = 0
    for step, what in steps:
        if step == "pass":
            board.now += cast("int", what)
        elif step == "restart":
            board.again()
        elif step == "posts":
            new = []
            for offset, names in cast("list[tuple[int, list[str]]]", what):
                new.append((board.now + offset, f"id{number}", names))
                posts[f"id{number}"] = Post(board.now + min(offset, 0), board.now, names)
                number += 1
            await board.apply(new)
        else:
            gone = [f"id{one}" for one in cast("list[int]", what)]
            await board.apply([], gone)
            for one in gone:
                posts.pop(one, None)
    return list(posts.values())


@given(st.lists(STEPS, max_size=16))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_post_that_is_gone_has_never_been(store: Store, steps: list[tuple[str, object]]) -> None:
    """All time, windows, trending and spellings are those of the posts that are left, whatever went in between."""
    board = await Board(store).begin()
    posts = await carried_out(board, steps)
    assert await board.read() == Counter(fold(name) for post in posts for name in post.names)
    for one in KEPT.windows:
        # What was too old for a window when it came was never in it.
        living = [post for post in posts if post.time >= max(first_live(one, board.now), first_live(one, post.came))]
        assert await board.read(one.name) == Counter(fold(name) for post in living for name in post.names)
    for name, score in (await board.read("trending")).items():
        times = [post.time for post in posts if name in map(fold, post.names)]
        assert score == pytest.approx(sum(2.0 ** ((time - board.now) / HALF_LIFE_S) for time in times), rel=1e-4)
    met = Counter(name for post in posts for name in post.names)
    for row in (await board.scores.top()).rows:
        if any(fold(name) == row.name != name for name in met):
            assert met[row.display] == max(count for name, count in met.items() if fold(name) == row.name)


async def test_a_post_can_go_in_the_batch_that_brings_it(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply([(NOW, "1", ["tea"]), (NOW, "2", ["tea"])], gone=["1"])
    assert await board.read() == await board.read("1h") == {"tea": 1}


async def test_a_post_goes_once(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply([(NOW, "1", ["tea"]), (NOW, "2", ["tea"])])
    await board.apply([], gone=["1", "1"])
    await board.apply([], gone=["1"])
    assert await board.read() == {"tea": 1}


async def test_a_name_that_nobody_has_any_more_leaves_nothing(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply([(NOW, "1", ["Tea"])])
    await board.apply([(NOW, "2", ["TEA"])])
    await board.apply([], gone=["1", "2"])
    for kind in ("", ":spelling", ":spellings", ":window:1h", ":trending"):
        assert await store.execute("EXISTS", KEY + kind) == 0, kind


async def test_what_is_too_old_stays(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply([(NOW, "1", ["tea"])])
    board.now += 2 * FORGET_S
    await board.apply([], gone=["1"])
    assert await board.read() == {"tea": 1}
    for turn in range(8):
        board.now += FORGET_S
        await board.apply([(board.now, f"x{turn}", ["salt"])])
    kept = cast("list[bytes]", await store.execute("KEYS", f"{KEY}:posts:*"))
    assert len(kept) <= 5, "and its memory does not"


async def test_of_an_author_who_counts_once_only_what_has_counted_goes(store: Store) -> None:
    board = await Board(store, Kept((), 0, 3600, 0, FORGET_S)).begin()
    message = Message("x", "me", 1, [(NOW, 2)], ["tea", "tea"], {}, ["ann", "ann"], [("1", 1), ("2", 1)])
    await board.scores.apply("tweetboard:x", "me", [message])
    board.seq = 1
    await board.apply([], gone=["2"])
    assert await board.read() == {"tea": 1}
    await board.apply([], gone=["1"])
    assert await board.read() == {}
