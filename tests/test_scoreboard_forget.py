"""What a post has added goes when the post does, from everything that is kept of a board: as if it had never been."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from by_hand import first_live
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import Kept, window
from tweetboard.channel import Message
from tweetboard.errors import StoreRefused
from tweetboard.formats.hashtags import fold
from tweetboard.store import Store

KEY: Final = "hashtags_scoreboard"
NOW: Final = 1_763_805_600
FORGET_S: Final = 600
HALF_LIFE_S: Final = 60
KEPT: Final = Kept((window("30s"), window("1h")), HALF_LIFE_S, 0, 0, FORGET_S)


Posts = Sequence[tuple[int, str, Sequence[str]]]
Events = Sequence[tuple[int, str, Sequence[str]] | str]


class Board:
    """A board that a test applies posts of the streams x and y to, given as (time, id, names); `gone` are ids."""

    def __init__(self, store: Store, kept: Kept = KEPT) -> None:
        self.now = NOW
        self.seq = Counter[str]()
        self.store = store
        self.kept = kept
        self.again()

    def again(self, kept: Kept | None = None) -> None:
        """Go on as another process does, with other settings perhaps."""
        self.kept = kept or self.kept
        self.scores = Scoreboard(self.store, "hashtags", KEY, fold, kept=self.kept, clock=lambda: float(self.now))

    async def begin(self) -> "Board":
        await self.store.execute("FLUSHALL")
        for stream in "xy":
            await self.store.execute("HSET", f"tweetboard:{stream}", "owner", "me", "seq", 10**6)
            await self.store.execute("HSET", f"{KEY}:applied", stream, 0)
        return self

    def message(self, posts: Posts, gone: Sequence[str] = (), *, author: str = "", stream: str = "x") -> Message:
        return self.batch([*posts, *gone], author=author, stream=stream)

    def batch(self, events: Events, *, author: str = "", stream: str = "x") -> Message:
        """Put posts, and ids of what is gone, into a message as they come."""
        self.seq[stream] += 1
        message = Message(stream, "me", self.seq[stream], [], [])
        for event in events:
            if isinstance(event, str):
                message.gone.append((event, len(message.names)))
            elif event[2]:
                time, post_id, names = event
                message.times.append((time, len(names)))
                message.posts.append((post_id, len(names)))
                message.names += names
        message.authors = [author] * len(message.names)
        return message

    async def apply(self, posts: Posts = (), gone: Sequence[str] = (), *, author: str = "", stream: str = "x") -> None:
        await self.take(self.message(posts, gone, author=author, stream=stream))

    async def take(self, *messages: Message) -> None:
        """Apply in one step."""
        await self.scores.apply(f"tweetboard:{messages[0].source}", "me", messages)

    async def read(self, name: str = "all") -> dict[str, float]:
        return {row.name: row.score for row in (await self.scores.top(limit=1000, window=name)).rows}


NAMES = st.lists(st.sampled_from(["tea", "Tea", "TEA", "salt", "Salt", "bread"]), max_size=3, unique_by=fold)
STEPS = st.one_of(
    st.tuples(st.just("posts"), st.lists(st.tuples(st.integers(-45, 5), NAMES, st.booleans()), max_size=5)),
    st.tuples(st.just("gone"), st.lists(st.integers(0, 30), max_size=4)),
    st.tuples(st.just("batch"), st.none()),
    st.tuples(st.just("apply"), st.none()),
    st.tuples(st.just("pass"), st.integers(0, 25)),
    st.tuples(st.just("restart"), st.none()),
)


class Post(NamedTuple):
    """A post as a count by hand keeps it: its time, when it came, its names."""

    time: int
    came: int
    names: list[str]


class History:
    """What happens to a board, and the posts that are left by hand; batches wait, to be applied as one step."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.posts: dict[str, Post] = {}
        self.free: list[str] = []
        self.number = 0
        self.events: list[tuple[int, str, Sequence[str]] | str] = []
        self.waiting: list[Message] = []

    def end_batch(self) -> None:
        self.waiting.append(self.board.batch(self.events))
        self.events = []

    async def apply(self) -> None:
        if self.events:
            self.end_batch()
        if self.waiting:
            await self.board.take(*self.waiting)
            self.waiting = []

    def post(self, posts: list[tuple[int, list[str], bool]]) -> None:
        """Bring posts, of which one may have the id of a post that is gone."""
        for offset, names, again in posts:
            post_id = self.free.pop() if again and self.free else f"id{self.number}"
            self.number += 1
            self.events.append((self.board.now + offset, post_id, names))
            self.posts[post_id] = Post(self.board.now + min(offset, 0), self.board.now, names)

    def lose(self, numbers: list[int]) -> None:
        gone = [f"id{number}" for number in numbers]
        self.events += gone
        self.free += [one for one in gone if self.posts.pop(one, None) is not None]


async def carried_out(board: Board, steps: list[tuple[str, object]]) -> list[Post]:
    """Do what the steps say; returns the posts that are left."""
    history = History(board)
    for step, what in steps:
        if step == "posts":
            history.post(cast("list[tuple[int, list[str], bool]]", what))
        elif step == "gone":
            history.lose(cast("list[int]", what))
        elif step == "batch":
            history.end_batch()
        else:
            await history.apply()
            if step == "pass":
                board.now += cast("int", what)
            elif step == "restart":
                board.again()
    await history.apply()
    return list(history.posts.values())


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
    assert len(kept) == 2, "and its memory does not"


async def test_of_an_author_who_counts_once_only_what_has_counted_goes(store: Store) -> None:
    board = await Board(store, Kept((), 0, 3600, 0, FORGET_S)).begin()
    await board.apply([(NOW, "1", ["tea"]), (NOW, "2", ["tea"])], author="ann")
    await board.apply([], gone=["2"])
    assert await board.read() == {"tea": 1}
    await board.apply([], gone=["1"])
    assert await board.read() == {}


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_author_whose_post_is_gone_counts_anew(store: Store, *, at_once: bool) -> None:
    board = await Board(store, Kept((), 0, 3600, 0, FORGET_S)).begin()
    messages = [
        board.message([(NOW, "1", ["tea"])], author="ann"),
        board.message([], ["1"]),
        board.message([(NOW + 1, "2", ["tea"]), (NOW + 1, "3", ["tea"])], author="ann"),
    ]
    for step in [messages] if at_once else [[message] for message in messages]:
        await board.take(*step)
    assert await board.read() == {"tea": 1}
    board.now += 60
    await board.apply([(board.now, "4", ["tea"])], author="ann")
    assert await board.read() == {"tea": 1}, "the one that counts now is remembered"


@pytest.mark.parametrize("at_once", [True, False])
async def test_it_makes_no_difference_which_batches_are_one_step(store: Store, *, at_once: bool) -> None:
    """An id may come again: accounts of Bluesky choose the keys of their posts."""
    board = await Board(store).begin()
    messages = [board.message([(NOW, "1", ["tea"])]), board.message([], ["1"]), board.message([(NOW, "1", ["tea"])])]
    for step in [messages] if at_once else [[message] for message in messages]:
        await board.take(*step)
    assert await board.read() == await board.read("1h") == {"tea": 1}
    await board.apply([], ["1"])
    assert await board.read() == await board.read("1h") == await board.read("trending") == {}


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_comes_twice_under_one_id_goes_with_it(store: Store, *, at_once: bool) -> None:
    """As posts do that an upstream sends again and nobody knows to be the same."""
    board = await Board(store, Kept((window("1h"),), 0, 60, 0, FORGET_S)).begin()
    messages = [
        board.message([(NOW - 4_000, "1", ["tea", "salt"])], author="ann"),
        board.message([(NOW, "1", ["tea"])], author="ben"),
    ]
    for step in [messages] if at_once else [[message] for message in messages]:
        await board.take(*step)
    assert await board.read() == {"tea": 2, "salt": 1}
    await board.apply([], ["1"])
    assert await board.read() == await board.read("1h") == {}
    await board.apply([(NOW, "2", ["tea"])], author="ben")
    assert await board.read() == {"tea": 1}, "whose post was gone may come again"


async def test_where_nothing_is_forgotten_any_more_what_is_gone_is_passed_over(store: Store) -> None:
    """Batches that were gathered with other settings may wait in the journal."""
    board = await Board(store, Kept(KEPT.windows, 0, 60, 0, 0)).begin()
    await board.take(board.batch([(NOW, "1", ["tea"]), "1", (NOW, "2", ["salt"])], author="ann"))
    assert await board.read() == await board.read("1h") == {"tea": 1, "salt": 1}


async def test_a_post_is_gone_from_the_stream_that_says_so(store: Store) -> None:
    """Servers choose ids as they like, and the same post may come over two streams."""
    board = await Board(store).begin()
    for stream, name in (("x", "tea"), ("y", "salt")):
        await board.apply([(NOW, "7", [name])], stream=stream)
    await board.apply([], ["7"], stream="x")
    assert await board.read() == await board.read("1h") == {"salt": 1}
    await board.apply([], ["7"], stream="y")
    assert await board.read() == {}


async def test_a_window_that_began_later_has_nothing_to_lose(store: Store) -> None:
    board = await Board(store, Kept((), 0, 0, 0, FORGET_S)).begin()
    await board.apply([(NOW, "before", ["tea"])])
    board.again(KEPT)
    board.now += 5
    await board.apply([(board.now, "after", ["tea"])])
    await board.apply([], ["before"])
    assert await board.read() == await board.read("1h") == {"tea": 1}
    assert await board.read("trending") == {"tea": 1}
    await board.apply([], ["after"])
    assert await board.read("1h") == await board.read("trending") == {}


async def test_trending_scores_of_another_half_life_have_nothing_to_lose(store: Store) -> None:
    board = await Board(store, Kept((), 60, 0, 0, FORGET_S)).begin()
    await board.apply([(NOW, "before", ["tea"])])
    board.again(Kept((), 3600, 0, 0, FORGET_S))
    await board.apply([(NOW, "after", ["tea"])])
    await board.apply([], ["before"])
    assert await board.read("trending") == {"tea": 1}


async def test_what_a_clock_that_went_back_has_cost_is_not_lost_twice(store: Store) -> None:
    board = await Board(store, Kept((window("5m"),), 0, 0, 0, 86_400)).begin()
    board.now = NOW + 3600
    await board.apply([(board.now, "before", ["tea"])])
    board.now = NOW
    await board.apply([(board.now, "meanwhile", ["salt"])])
    assert board.scores.cleared == 1
    board.now = NOW + 3600
    await board.apply([(board.now, "after", ["tea"])])
    await board.apply([], ["before"])
    assert await board.read("5m") == {"tea": 1}


async def test_trending_scores_lose_only_what_is_in_them(store: Store) -> None:
    """Before the next landmark takes over, posts are in both sets, and those from before in one."""
    board = await Board(store, Kept((), 1, 0, 0, 3600)).begin()
    await board.apply([(NOW, "first", ["salt"])])
    for _ in range(29):
        board.now += 60
        await board.apply([(board.now, "", ["salt"])])
    board.now = NOW + 1800
    await board.apply([(board.now, "before", ["tea"])])
    board.now += 1
    await board.apply([(board.now, "after", ["tea"])])
    assert await store.execute("EXISTS", f"{KEY}:trending:next") == 1
    await board.apply([], ["before"])
    assert (await board.read("trending"))["tea"] == 1
    for _ in range(2):
        board.now += 40
        await board.scores.age()
    assert await store.execute("EXISTS", f"{KEY}:trending:next") == 0
    await board.apply([(board.now, "last", ["tea"])])
    await board.apply([], ["after"])
    assert await board.read("trending") == {"tea": 1}


async def test_a_clock_that_goes_back_a_little_finds_what_it_has_just_seen(store: Store) -> None:
    board = await Board(store).begin()
    board.now = NOW - NOW % FORGET_S + FORGET_S
    await board.apply([(board.now, "1", ["tea"])])
    board.now -= 1
    await board.apply([], ["1"])
    assert await board.read() == {}


async def test_spellings_without_one_that_is_shown_do_no_harm(store: Store) -> None:
    board = await Board(store, Kept((), 0, 0, 0, FORGET_S)).begin()
    await store.execute("ZADD", KEY, 3, "tea")
    await store.execute("HSET", f"{KEY}:spellings", "tea", '{"tea":1}')
    await board.apply([(NOW, "1", ["tea"])])
    await board.apply([], ["1"])
    await board.apply([(NOW, "2", ["tea"])])
    await board.apply([], ["2"])
    assert await board.read() == {"tea": 3}


@pytest.mark.parametrize("kind", ["posts", "begun", f"posts:{NOW // FORGET_S}"])
async def test_a_key_of_another_type_is_refused_before_anything_is_written(store: Store, kind: str) -> None:
    board = await Board(store).begin()
    await store.execute("SET", f"{KEY}:{kind}", "something else")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await board.apply([(NOW, "1", ["tea"])])
    assert await store.execute("EXISTS", KEY) == 0
