"""Windows and trending scores are what a count by hand makes of the same posts, whatever time and processes do."""

import asyncio
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from by_hand import first_live
from tweetboard.board import scoreboard
from tweetboard.board.rows import RANKED, Page, Row
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import MINUTE_S, Kept, Window, window
from tweetboard.channel import Message
from tweetboard.errors import StoreRefused
from tweetboard.formats.hashtags import fold
from tweetboard.lease import Lease
from tweetboard.store import Store

KEY: Final = "hashtags_scoreboard"
NOW: Final = 1_763_805_600
KEPT: Final = Kept(tuple(map(window, ("5s", "90s", "2m", "1h"))), 60)


class Clock:
    """Time as a test wants it, whole seconds."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return float(self.now)


class Board:
    """A board that a test applies posts to, given as (time, name); `again` makes another process's view of it."""

    def __init__(self, store: Store, clock: Clock | None, kept: Kept = KEPT) -> None:
        self.store, self.clock, self.kept = store, clock, kept
        self.seq = 0
        self.again()

    def again(self, kept: Kept | None = None) -> None:
        self.kept = kept or self.kept
        self.scores = Scoreboard(self.store, "hashtags", KEY, fold, kept=self.kept, clock=self.clock)

    async def begin(self) -> None:
        await self.store.execute("FLUSHALL")
        await self.store.execute("HSET", "tweetboard:x", "owner", "me", "seq", 10**6)
        await self.store.execute("HSET", f"{KEY}:applied", "x", 0)

    async def apply(self, posts: Sequence[tuple[int, str]]) -> None:
        self.seq += 1
        times = [(start, len(list(run))) for start, run in itertools.groupby(time for time, _ in posts)]
        message = Message("x", "me", self.seq, times, [name for _, name in posts])
        await self.scores.apply("tweetboard:x", "me", [message])

    async def age(self) -> None:
        while await self.scores.age():
            pass

    async def read(self, name: str) -> dict[str, float]:
        return {row.name: row.score for row in (await self.scores.top(limit=1000, window=name)).rows}

    async def check_sums(self) -> None:
        """Compare each window's running scores with the sum of the buckets in its index, which they always are."""
        for one in self.kept.windows:
            buckets = Counter[bytes]()
            for start in cast("list[bytes]", await self.store.execute("ZRANGE", f"{KEY}:buckets:{one.name}", 0, -1)):
                bucket = await self.store.execute("HGETALL", f"{KEY}:bucket:{one.name}:{start.decode()}")
                counts = {name: int(count) for name, count in cast("dict[bytes, bytes]", bucket).items()}
                assert counts
                buckets.update(counts)
            running = await self.store.execute("ZRANGE", f"{KEY}:window:{one.name}", 0, -1, "WITHSCORES")
            flat = cast("list[bytes]", running)
            assert dict(zip(flat[::2], map(int, flat[1::2]), strict=True)) == buckets


@dataclass
class ByHand:
    """One window, counted by keeping every post."""

    window: Window
    start: int | None = None
    posts: list[tuple[int, str]] = field(default_factory=list)
    cleared: int = 0

    def pass_to(self, now: int) -> None:
        """Let go of what has left, or of all where the clock is behind the first bucket."""
        if self.start is None:
            return
        first = first_live(self.window, now)
        if self.start > now - now % self.window.bucket_s:
            self.start, self.posts = first, []
            self.cleared += 1
        self.posts = [post for post in self.posts if post[0] >= max(self.start, first)]

    def apply(self, posts: Sequence[tuple[int, str]], now: int) -> None:
        width = self.window.bucket_s
        if self.start is None:
            self.start = first_live(self.window, now)
        elif self.start > now - now % width:
            self.pass_to(now)
        self.start = max(self.start, first_live(self.window, now))
        starts = [(min(time - time % width, now - now % width), fold(name)) for time, name in posts]
        self.posts += [post for post in starts if post[0] >= self.start]

    @property
    def counts(self) -> Counter[str]:
        return Counter(name for _, name in self.posts)


NAMES = st.sampled_from(["tea", "Tea", "coffee", "bread", "salt", "#x", "日本"])
GAPS = st.one_of(st.integers(-3, 8), st.integers(-200, 200), st.integers(-10_000, 10_000))
POSTS = st.lists(st.tuples(st.one_of(st.integers(-8, 3), st.integers(-4_000, 200)), NAMES), max_size=8)
STEPS = st.one_of(
    st.tuples(st.just("pass"), GAPS),
    st.tuples(st.just("apply"), POSTS),
    st.tuples(st.just("apply"), POSTS),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("read"), st.none()),
)


@given(st.lists(STEPS, max_size=25))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_windows_are_what_a_count_by_hand_says(store: Store, steps: list[tuple[str, object]]) -> None:
    """With gaps, late and early posts, a clock that jumps both ways, and processes that end between any two steps."""
    clock = Clock()
    board = Board(store, clock)
    by_hand = [ByHand(one) for one in KEPT.windows]
    await board.begin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoreboard, "AGE_NAMES", 2)
        for step, what in [*steps, ("read", None)]:
            if step == "pass":
                clock.now += cast("int", what)
            elif step == "apply":
                posts = [(clock.now + offset, name) for offset, name in cast("list[tuple[int, str]]", what)]
                await board.apply(posts)
                for one in by_hand:
                    one.apply(posts, clock.now)
            elif step == "restart":
                board.again()
            elif step == "step":
                await board.scores.age()
                await follow(by_hand, board, clock.now)
            else:
                for one in by_hand:
                    one.pass_to(clock.now)
                    assert await board.read(one.window.name) == one.counts
                await follow(by_hand, board, clock.now)
            await board.check_sums()


async def test_what_is_left_of_a_bucket_is_not_live_again_when_the_clock_goes_back(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW, f"tag{number}") for number in range(10_000)])
    clock.now += 5
    await board.apply([(clock.now, "tea")])
    clock.now += 295
    assert await board.scores.age(), "there is more to be taken out"
    clock.now -= 5
    await board.apply([(NOW, "late")])
    assert await store.execute("ZSCORE", f"{KEY}:window:5m", "late") is None
    assert await board.read("5m") == {"tea": 1}
    clock.now += 5
    assert await board.read("5m") == {"tea": 1}
    await board.check_sums()


async def follow(by_hand: list[ByHand], board: Board, now: int) -> None:
    """Let each window by hand come as far as the board has come by one step, which is no further than it may."""
    for one in by_hand:
        if one.start is None:
            continue
        reply = await board.store.execute("GET", f"{KEY}:from:{one.window.name}")
        start = int(cast("bytes", reply))
        if one.start > now - now % one.window.bucket_s and start <= now:
            one.start, one.posts = start, []
        assert one.start <= start <= max(one.start, first_live(one.window, now))
        one.start = start
        one.posts = [post for post in one.posts if post[0] >= start]


HALF_LIFE_S: Final = 60
SWEPT: Final = 2.0**-10
"""A score below this may be gone."""

FLOWS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 90), st.integers(0, 40_000)),
        st.lists(st.tuples(st.integers(-700, 50), NAMES), max_size=6),
    ),
    max_size=12,
)


@given(FLOWS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_trending_scores_fade_by_half_in_each_half_life(
    store: Store, flows: list[tuple[int, list[tuple[int, str]]]]
) -> None:
    """However long it goes on: the landmark moves without a jump, and what has faded away is swept."""
    clock = Clock()
    board = Board(store, clock, Kept((), HALF_LIFE_S))
    await board.begin()
    posts: list[tuple[int, str]] = []
    for gap, batch in flows:
        clock.now += gap
        batch_posts = [(clock.now + offset, name) for offset, name in batch]
        await board.apply(batch_posts)
        posts += [(min(time, clock.now), fold(name)) for time, name in batch_posts]
        if gap % 2:
            await board.age()
        expected = Counter[str]()
        for moment, name in posts:
            expected[name] += 2.0 ** ((moment - clock.now) / HALF_LIFE_S)
        found = await board.read("trending")
        unsure = len(posts) * SWEPT
        assert found.keys() >= {name for name, score in expected.items() if score > unsure + SWEPT}
        for name, score in found.items():
            assert math.isclose(score, expected[name], rel_tol=1e-5, abs_tol=unsure)


async def test_trending_stays_exact_when_its_landmark_moves(store: Store) -> None:
    """For longer than a number could grow: the next landmark takes the place without a jump, and in no time."""
    clock = Clock()
    board = Board(store, clock, Kept((), HALF_LIFE_S))
    await board.begin()
    landmarks = set[bytes]()
    for turn in range(4_000):  # half-lives
        await board.apply([(clock.now, "tea"), (clock.now, "tea"), (clock.now, "salt")])
        if turn % 7 == 0:
            await board.age()
            landmarks.add(cast("bytes", await store.execute("HGET", f"{KEY}:from:trending", "landmark")))
            found = await board.read("trending")
            whole = 2 - 2.0**-turn
            assert found == {"tea": pytest.approx(2 * whole, rel=1e-5), "salt": pytest.approx(whole, rel=1e-5)}
        clock.now += HALF_LIFE_S
    assert len(landmarks) == 3
    clock.now += 70 * HALF_LIFE_S
    assert await board.read("trending") == {}, "of so long ago nothing is left"


async def test_what_has_faded_takes_no_room(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((), HALF_LIFE_S))
    await board.begin()
    await board.apply([(clock.now, f"tag{number}") for number in range(10_000)] + [(clock.now, "tea")] * 100)
    clock.now += 11 * HALF_LIFE_S
    await board.age()
    assert await store.execute("ZCARD", f"{KEY}:trending") == 1
    assert await board.read("trending") == {"tea": pytest.approx(100 * 2.0**-11, rel=1e-5)}


async def test_a_clock_that_went_back_far_begins_trending_anew(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((), HALF_LIFE_S))
    await board.begin()
    await board.apply([(clock.now, "tea")])
    clock.now -= HALF_LIFE_S + 1
    assert await board.read("trending") == {}
    await board.apply([(clock.now, "salt")])
    assert await board.read("trending") == {"salt": 1.0}
    assert board.scores.cleared == 1


async def test_posts_that_come_late_weigh_as_much_as_if_they_had_come_in_time(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((), HALF_LIFE_S))
    await board.begin()
    await board.apply([(NOW - 12 * HALF_LIFE_S, "tea")] * 10_000)
    assert await board.read("trending") == {"tea": pytest.approx(10_000 * 2.0**-12, rel=1e-5)}


# --- What is kept changes ---


async def test_with_another_half_life_trending_begins_anew(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((), HALF_LIFE_S))
    await board.begin()
    await board.apply([(NOW, "tea"), (NOW, "salt")])
    board.again(Kept((), 3600))
    assert await board.read("trending") == {}, "before the next post too"
    await board.apply([(NOW, "tea")])
    assert await board.read("trending") == {"tea": 1.0}
    board.again(Kept((window("5m"),), 0))
    await board.apply([(NOW, "tea")])
    board.again(Kept((), 3600))
    await board.apply([(NOW, "salt")])
    assert await board.read("trending") == {"salt": 1.0}


async def test_a_window_that_is_configured_later_begins_empty_and_one_that_was_taken_out_leaves_nothing(
    store: Store,
) -> None:
    clock = Clock()
    one, both = Kept((window("5m"),), 60), Kept((window("5m"), window("1h")))
    board = Board(store, clock, one)
    await board.begin()
    await board.apply([(NOW, "tea")])
    board.again(both)
    await board.apply([(NOW, "salt")])
    assert await board.read("5m") == {"tea": 1, "salt": 1}
    assert await board.read("1h") == {"salt": 1}
    assert await store.execute("EXISTS", f"{KEY}:trending", f"{KEY}:from:trending") == 0
    board.again(one)
    await board.apply([(NOW, "tea")])
    keys = cast("list[bytes]", await store.execute("KEYS", f"{KEY}:*1h*"))
    assert keys == []
    board.again(both)
    await board.apply([(NOW, "bread")])
    assert await board.read("1h") == {"bread": 1}
    assert await board.read("all") == {"tea": 2, "salt": 1, "bread": 1}


async def test_a_board_that_keeps_nothing_more_has_no_more_keys(store: Store) -> None:
    board = Board(store, None, Kept())
    await board.begin()
    await board.apply([(NOW, "tea")])
    assert not await board.scores.age()
    assert sorted(cast("list[bytes]", await store.execute("KEYS", f"{KEY}*"))) == [
        KEY.encode(),
        f"{KEY}:applied".encode(),
    ]


async def test_a_reset_leaves_nothing(store: Store) -> None:
    board = Board(store, None)
    await board.begin()
    await board.apply([(NOW - 5, "Tea"), (NOW, "tea"), (NOW, "Tea")])
    await board.scores.reset()
    assert await store.execute("KEYS", f"{KEY}*") == [f"{KEY}:applied".encode()]
    await board.apply([(NOW, "tea")])
    assert await board.read("5s") == {"tea": 1}


@pytest.mark.parametrize("kind", ["windows", "window:1h", "from:1h", "buckets:1h", f"bucket:1h:{NOW}", "trending"])
async def test_a_window_of_another_type_is_refused_and_nothing_is_written(store: Store, kind: str) -> None:
    board = Board(store, Clock())
    await board.begin()
    await store.execute("RPUSH", f"{KEY}:{kind}", "something else")
    keys = cast("list[bytes]", await store.execute("KEYS", "*"))
    before = {key: await store.execute("DUMP", key) for key in keys}
    with pytest.raises(StoreRefused, match=r"refused apply on .*WRONGTYPE"):
        await board.apply([(NOW, "tea"), (NOW, "Tea")])
    after = cast("list[bytes]", await store.execute("KEYS", "*"))
    assert {key: await store.execute("DUMP", key) for key in after} == before


# --- Without a clock, and by hand ---


async def test_without_a_clock_the_newest_post_says_how_late_it_is(store: Store) -> None:
    board = Board(store, None, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW, "tea"), (NOW + 100, "salt")])
    await board.apply([(NOW + 50, "tea")])
    assert await board.read("5m") == {"tea": 2, "salt": 1}
    await board.apply([(NOW + 345, "bread")])
    assert await board.read("5m") == {"tea": 1, "salt": 1, "bread": 1}


async def test_names_published_by_hand_count_as_of_now(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),), 60))
    await board.begin()
    await Lease(store, "tweetboard:bare", "me").hold()
    assert await board.scores.add_bare("tweetboard:bare", "me", ["Tea", "tea"])
    assert await board.read("5m") == await board.read("trending") == {"tea": 2}
    clock.now += 300
    assert await board.read("5m") == {}


async def test_time_is_due_at_the_first_post_of_each_bucket(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW, "tea")])
    assert board.scores.due.is_set()
    await board.age()
    assert not board.scores.due.is_set()
    await board.apply([(NOW, "tea")])
    assert not board.scores.due.is_set()
    clock.now += 5
    await board.apply([(NOW, "tea")])
    assert board.scores.due.is_set()


async def test_a_window_of_many_names_leaves_in_small_steps(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW, f"tag{number}") for number in range(10_000)])
    await board.apply([(NOW + 5, "tea")])
    clock.now += 300
    await board.apply([(clock.now, "tea")])
    assert await board.scores.age()
    await board.check_sums()
    left = cast("int", await store.execute("ZCARD", f"{KEY}:window:5m"))
    assert 8_000 < left < 9_500
    assert await board.read("5m") == {"tea": 1}


async def test_each_window_goes_on_where_the_last_step_has_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning each step would look through all that the ones before have taken out."""
    monkeypatch.setattr(scoreboard, "AGE_NAMES", 100)
    steps = []
    for kept in (Kept((window("1h"),)), Kept((window("5m"), window("1h")))):
        clock = Clock()
        board = Board(store, clock, kept)
        await board.begin()
        await board.apply([(NOW, f"tag{number}") for number in range(4_000)])
        clock.now += 3_600
        await board.apply([(clock.now, "tea")])
        steps.append(1)
        while await board.scores.age():
            steps[-1] += 1
        assert await board.read("1h") == {"tea": 1}
    assert steps[1] <= 2.2 * steps[0]


async def test_readers_wait_together_and_not_for_long_for_what_leaves_a_window(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoreboard, "AGE_NAMES", 1)
    monkeypatch.setattr(scoreboard, "AGING_S", 0.0)
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW, f"tag{number}") for number in range(10_000)])
    clock.now += 300
    await board.apply([(clock.now, "tea")] * 2)
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(board.scores.top(limit=1, window="5m")) for _ in range(4)]
    assert {page.result().rows[0].score for page in reads} == {2}
    assert min(page.result().total for page in reads) > 9_000, "what is a little old is better than nothing"
    await board.check_sums()


async def test_a_window_that_is_over_is_gone_in_one_step(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW - 7 * number, f"tag{number}") for number in range(40)])
    clock.now += 86_400
    assert not await board.scores.age()
    assert await store.execute("KEYS", f"{KEY}:*[wb][iu][nc][dk][oe][wt]*:5m*") == []


# --- What came when, and how ranks have changed ---


@pytest.mark.parametrize(("name", "number"), [("RANKED", RANKED), ("MINUTE", MINUTE_S)])
def test_the_steps_go_by_the_same_numbers(name: str, number: int) -> None:
    assert re.findall(rf"^local {name} = ([0-9]+)", scoreboard.SCRIPT.text, re.MULTILINE) == [str(number)]


async def test_a_names_history_is_its_count_in_each_bucket(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("9s"),)))
    await board.begin()
    await board.apply([(NOW - 8, "tea"), (NOW - 4, "tea"), (NOW - 4, "salt"), (NOW, "tea"), (NOW, "Tea")])
    page = await board.scores.top(window="9s", history=True)
    assert {row.name: row.history for row in page.rows} == {
        "tea": [1, 0, 0, 0, 1, 0, 0, 0, 2],
        "salt": [0, 0, 0, 0, 1, 0, 0, 0, 0],
    }
    clock.now += 2
    row, _ = await board.scores.near("tea", window="9s", history=True)
    assert row is not None
    assert row.history == [0, 0, 1, 0, 0, 0, 2, 0, 0]
    assert row.score == 3
    (row, *_) = (await board.scores.top(history=True)).rows
    assert (row.score, row.history) == (4, [0, 0, 1, 0, 0, 0, 2, 0, 0]), "of the longest window"
    (row, *_) = (await board.scores.top()).rows
    assert row.history is UNSET


@given(st.lists(st.tuples(st.integers(0, 40), POSTS), max_size=10))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_history_adds_up_to_the_score(store: Store, flows: list[tuple[int, list[tuple[int, str]]]]) -> None:
    clock = Clock()
    board = Board(store, clock)
    await board.begin()
    for gap, posts in flows:
        clock.now += gap
        await board.apply([(clock.now + offset, name) for offset, name in posts])
    for one in KEPT.windows:
        for row in (await board.scores.top(window=one.name, history=True)).rows:
            assert isinstance(row.history, list)
            assert len(row.history) == one.buckets
            assert sum(row.history) == row.score


async def test_what_came_before_a_clock_went_back_a_little_is_in_the_history_as_of_now(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    clock.now += 60
    await board.apply([(clock.now, "tea")])
    clock.now -= 10
    await board.apply([(clock.now, "tea")])
    (row,) = (await board.scores.top(window="5m", history=True)).rows
    assert (row.score, row.history) == (2, [0] * 59 + [2])


@pytest.mark.parametrize(("name", "bucket_s"), [("5m", 5), ("all", 60), ("trending", 60)])
async def test_a_change_is_of_the_ranks_a_bucket_before_the_unfinished_one(
    store: Store, name: str, bucket_s: int
) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),), 3600))
    await board.begin()

    async def changes() -> dict[str, object]:
        return {row.name: row.change for row in (await board.scores.top(window=name)).rows}

    await board.apply([(NOW, "tea"), (NOW, "tea"), (NOW, "salt")])
    await board.age()
    assert await changes() == {"tea": UNSET, "salt": UNSET}, "nothing is known of a bucket before"
    clock.now += bucket_s
    await board.age()
    await board.apply([(clock.now, "bread")] * 5)
    assert await changes() == {"bread": "new", "tea": -1, "salt": -1}
    clock.now += bucket_s
    await board.age()
    await board.apply([(clock.now, "salt")] * 3)
    assert await changes() == {"bread": "new", "salt": 0, "tea": -2}
    clock.now += bucket_s
    await board.age()
    assert await changes() == {"bread": 0, "salt": 1, "tea": -1}
    clock.now += 3 * bucket_s
    await board.age()
    assert set((await changes()).values()) == {UNSET}, "what was noted is too old"


async def test_of_a_tie_that_goes_on_beyond_the_first_thousand_nobody_is_new(store: Store) -> None:
    """Which of them were noted is chance; all that is known is the rank they shared."""
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW, f"tag{number}") for number in range(1_500)] + [(NOW, "tea")] * 2)
    for _ in range(2):
        clock.now += 5
        await board.age()
    await board.apply([(clock.now, "bread")] * 3)
    pages = [await board.scores.top(offset=offset, limit=1_000, window="5m") for offset in (0, 1_000)]
    changes = {row.name: row.change for page in pages for row in page.rows}
    assert changes["tea"] == changes["tag1499"] == -1
    assert changes["bread"] is UNSET, "it might have been among those"
    assert set(changes.values()) == {-1, UNSET}


@pytest.mark.parametrize(("names", "change"), [(999, "new"), (1_000, "new"), (1_001, UNSET)])
async def test_what_was_not_among_the_first_thousand_is_new(store: Store, names: int, change: object) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    await board.apply([(NOW, f"tag{number}") for number in range(names)])
    for _ in range(2):
        clock.now += 5
        await board.age()
    await board.apply([(clock.now, "bread")] * 3)
    assert (await board.scores.top(limit=1, window="5m")).rows[0].change == change


async def test_of_changes_too_hidden_names_are_as_if_they_were_not_there(store: Store) -> None:
    clock = Clock()
    board = Board(store, clock, Kept((window("5m"),)))
    await board.begin()
    hidden: list[str] = ["spam"]
    board.scores = Scoreboard(store, "hashtags", KEY, fold, kept=board.kept, clock=clock, hidden=lambda: hidden)
    await board.apply([(NOW, "spam")] * 9 + [(NOW, "tea"), (NOW, "tea"), (NOW, "salt")])
    for _ in range(2):
        clock.now += 5
        await board.age()
    rows = (await board.scores.top(window="5m")).rows
    assert [(row.name, row.rank, row.change) for row in rows] == [("tea", 1, 0), ("salt", 2, 0)]


# --- One name ---

TIED = {"a": 9, "c": 7, "b": 7, "z": 3, "y": 3, "x": 3, "w": 1}


@pytest.mark.parametrize(
    ("name", "around", "rank", "names"),
    [
        ("a", 0, 1, "a"),
        ("a", 2, 1, "acb"),
        ("c", 1, 2, "acb"),
        ("b", 1, 2, "cbz"),
        ("x", 1, 4, "yxw"),
        ("w", 1, 7, "xw"),
        ("y", 100, 4, "acbzyxw"),
    ],
)
async def test_a_name_stands_among_its_neighbours(store: Store, name: str, around: int, rank: int, names: str) -> None:
    board = Board(store, None, Kept())
    await board.begin()
    await board.apply([(NOW, name) for name, score in TIED.items() for _ in range(score)])
    row, page = await board.scores.near(name, around=around)
    assert row == Row(rank, name, name, TIED[name])
    assert "".join(row.name for row in page.rows) == names
    assert page.total == len(TIED)


async def test_a_name_that_is_not_there_has_no_row(store: Store) -> None:
    board = Board(store, None, Kept())
    await board.begin()
    await board.apply([(NOW, name) for name in TIED])
    assert await board.scores.near("q", around=5) == (None, Page(7, []))


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(1, 4), min_size=1, max_size=12),
    st.sets(st.text("abcdef", min_size=1, max_size=2), max_size=5),
    st.integers(0, 4),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_neighbours_are_those_of_the_page_where_hidden_names_are_not(
    store: Store, scores: dict[str, int], hidden: set[str], around: int
) -> None:
    board = Board(store, None, Kept())
    await board.begin()
    await board.apply([(NOW, name) for name, score in scores.items() for _ in range(score)])
    shown = Scoreboard(store, "hashtags", KEY, fold, hidden=lambda: tuple(hidden))
    rows = (await shown.top(limit=1000)).rows
    for name in scores:
        row, page = await shown.near(name, around=around)
        if name in hidden:
            assert row is None
            continue
        place = [row.name for row in rows].index(name)
        assert row == rows[place]
        assert page.rows == rows[max(place - around, 0) : place + around + 1]
