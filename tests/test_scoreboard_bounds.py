"""An author counts once in a while, and names beyond a bound are let go: exactly as a count by hand says."""

from collections import Counter, defaultdict
from typing import Final, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweetboard.board.rows import Page
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import Kept, window
from tweetboard.channel import Message
from tweetboard.errors import StoreRefused
from tweetboard.formats.hashtags import fold
from tweetboard.store import Store

KEY: Final = "hashtags_scoreboard"
NOW: Final = 1_763_805_600
ON_REAL_SERVER = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Board:
    """A board that a test applies posts to, given as (time, author, name)."""

    def __init__(self, store: Store, kept: Kept) -> None:
        self.now = NOW
        self.seq = 0
        self.store = store
        self.scores = Scoreboard(store, "hashtags", KEY, fold, kept=kept, clock=lambda: float(self.now))

    async def begin(self) -> "Board":
        await self.store.execute("FLUSHALL")
        await self.store.execute("HSET", "tweetboard:x", "owner", "me", "seq", 10**6)
        await self.store.execute("HSET", f"{KEY}:applied", "x", 0)
        return self

    async def apply(self, *posts: tuple[int, str, str], with_authors: bool = True) -> None:
        self.seq += 1
        times = [(time, 1) for time, _, _ in posts]
        names, authors = [name for _, _, name in posts], [author for _, author, _ in posts]
        message = Message("x", "me", self.seq, times, names, {}, authors if with_authors else [])
        await self.scores.apply("tweetboard:x", "me", [message])

    async def read(self, name: str = "all") -> dict[str, float]:
        return {row.name: row.score for row in (await self.scores.top(limit=1000, window=name)).rows}


# --- Once per author ---

WHILE_S: Final = 60
POSTS = st.lists(
    st.tuples(st.integers(-90, 20), st.sampled_from(["ann", "ben", ""]), st.sampled_from(["tea", "Tea", "salt"])),
    max_size=10,
)


@given(st.lists(st.tuples(st.integers(0, 50), POSTS), max_size=12))
@ON_REAL_SERVER
async def test_an_author_adds_to_a_name_at_most_once_in_a_while(
    store: Store, flows: list[tuple[int, list[tuple[int, str, str]]]]
) -> None:
    """None less than that before or after another that counted, in the order in which they come; in windows just so."""
    board = await Board(store, Kept((window("24h"),), 0, WHILE_S)).begin()
    before = defaultdict[tuple[str, str], list[int]](list)
    counted, met = Counter[str](), Counter[tuple[str, str]]()
    for gap, posts in flows:
        board.now += gap
        await board.apply(*((board.now + offset, author, name) for offset, author, name in posts))
        for offset, author, name in posts:
            time, pair = board.now + min(offset, 0), (author, fold(name))
            if author and any(abs(time - other) < WHILE_S for other in before[pair]):
                continue
            before[pair].append(time)
            counted[fold(name)] += 1
            met[fold(name), name] += 1
    assert await board.read() == await board.read("24h") == counted
    for row in (await board.scores.top()).rows:
        assert met[row.name, row.display] == max(count for (name, _), count in met.items() if name == row.name)


async def test_who_has_counted_is_remembered_by_whoever_goes_on(store: Store) -> None:
    kept = Kept((), 0, WHILE_S)
    board = await Board(store, kept).begin()
    await board.apply((NOW, "ann", "tea"), (NOW, "ben", "tea"))
    board.scores = Scoreboard(store, "hashtags", KEY, fold, kept=kept, clock=lambda: float(board.now))
    board.now += WHILE_S - 1
    await board.apply((board.now, "ann", "Tea"), (board.now, "cleo", "tea"))
    assert await board.read() == {"tea": 3}


async def test_what_is_remembered_of_authors_is_thrown_away_in_time(store: Store) -> None:
    board = await Board(store, Kept((), 0, WHILE_S)).begin()
    for turn in range(10):
        board.now = NOW + turn * WHILE_S
        await board.apply((board.now, f"author {turn}", "tea"))
    keys = cast("list[bytes]", await store.execute("KEYS", f"{KEY}:authors:*"))
    assert len(keys) == 5
    lives = [cast("int", await store.execute("TTL", key)) for key in keys]
    assert all(0 < life <= 8 * WHILE_S for life in lives), "and by themselves, should nobody come any more"
    board.now = NOW + 99 * WHILE_S
    await board.apply((board.now, "ann", "tea"))
    assert await store.execute("HLEN", f"{KEY}:authors") == 1, "what is gone is not listed any more"
    await board.scores.reset()
    assert await store.execute("KEYS", f"{KEY}:authors*") == []


async def test_a_batch_may_be_of_many_hours(store: Store) -> None:
    """As those of a file are: what counts is told by the posts' own times."""
    board = await Board(store, Kept((), 0, WHILE_S)).begin()
    board.now = NOW + 10_000
    posts = [(NOW + 10 * number, "ann", "tea") for number in range(900)]
    for first in range(0, 900, 130):
        await board.apply(*posts[first : first + 130])
    assert await board.read() == {"tea": 150}


async def test_a_message_that_names_no_authors_counts_all(store: Store) -> None:
    """As one of an earlier version, or of a daemon that is set up otherwise, does."""
    board = await Board(store, Kept((), 0, WHILE_S)).begin()
    await board.apply((NOW, "ann", "tea"), (NOW, "ann", "tea"), with_authors=False)
    assert await board.read() == {"tea": 2}


# --- Bounded memory ---


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 400)), max_size=150), max_size=12),
)
@ON_REAL_SERVER
async def test_a_score_lacks_no_more_than_is_said(store: Store, batches: list[list[tuple[str, int]]]) -> None:
    """Names come back after they were let go; the bound holds for each that is shown, and for how many there are."""
    board = await Board(store, Kept((), 3600, 0, 100)).begin()
    truth, trending = Counter[str](), Counter[str]()
    for batch in batches:
        board.now += 30
        posts = [(board.now, "", f"{letter}{number if letter == 'a' else number % 7}") for letter, number in batch]
        await board.apply(*posts)
        truth.update(name for _, _, name in posts)
        trending = Counter({name: score * 2 ** (-30 / 3600) for name, score in trending.items()})
        trending.update(name for _, _, name in posts)
        for scores, name in ((truth, "all"), (trending, "trending")):
            page = await board.scores.top(limit=1000, window=name)
            assert page.total <= 112
            for row in page.rows:
                assert row.score <= scores[row.name] * 1.0001
                assert row.score + page.lacking >= scores[row.name] * 0.9999
            if len(truth) <= 100:
                assert page.lacking == 0


async def test_of_too_many_names_the_lowest_go_and_with_them_how_they_are_shown(store: Store) -> None:
    board = await Board(store, Kept((), 0, 0, 100)).begin()
    await board.apply(*((NOW, "", f"Tag{number}") for number in range(100)), *((NOW, "", "TAG5"),) * 2)
    assert (await board.scores.top()).lacking == 0
    for turn in range(2):
        await board.apply(*((NOW, "", f"New{number}") for number in range(100)), *((NOW, "", f"x{turn}"),) * 20)
    page = await board.scores.top(limit=1000)
    assert (page.total, page.lacking) == (100, 2)
    assert page.rows[0].name == "x1"
    assert "tag5" in {row.name for row in page.rows}
    shown = cast("int", await store.execute("HLEN", f"{KEY}:spelling"))
    assert shown <= 100
    assert await store.execute("HLEN", f"{KEY}:spellings") == 1


async def test_however_many_names_come_the_bound_holds(store: Store) -> None:
    board = await Board(store, Kept((), 0, 0, 1_000)).begin()
    for turn in range(4):
        await board.apply(*((NOW, "", f"tag {turn} {number}") for number in range(12_000)))
        assert (await board.scores.top(limit=1)).total == 1_000


async def test_how_names_are_shown_that_do_not_count_takes_no_room(store: Store) -> None:
    board = await Board(store, Kept((), 0, WHILE_S)).begin()
    for _ in range(2):
        board.seq += 1
        message = Message("x", "me", board.seq, [(NOW, 1)], ["did:1"], {"did:1": "ann"}, ["did:1"])
        await board.scores.apply("tweetboard:x", "me", [message])
        await store.execute("ZREM", KEY, "did:1")
        await store.execute("DEL", f"{KEY}:spelling")
    assert await store.execute("EXISTS", f"{KEY}:spelling") == 0


async def test_the_next_landmarks_scores_are_bounded_too(store: Store) -> None:
    """And what was let go of them is said of those that take over."""
    board = await Board(store, Kept((), 1, 0, 100)).begin()
    for _ in range(31):
        await board.apply((board.now, "", "tea"))
        board.now += 60
    for turn in range(3):
        await board.apply(*((board.now, "", f"tag {turn} {number}") for number in range(300)))
    assert await store.execute("ZCARD", f"{KEY}:trending:next") == 100
    before = (await board.scores.top(window="trending")).lacking
    assert before == pytest.approx(3, rel=1e-4)
    for _ in range(2):
        board.now += 33
        await board.apply((board.now, "", "tea"))
        await board.scores.age()
    assert await store.execute("EXISTS", f"{KEY}:trending:next") == 0
    after = (await board.scores.top(window="trending")).lacking
    assert after >= before * 2**-66, "what was let go may come back with no more than that missing"
    assert after < before


async def test_a_reset_forgets_what_scores_lack(store: Store) -> None:
    board = await Board(store, Kept((), 0, 0, 100)).begin()
    await board.apply(*((NOW, "", f"tag{number}") for number in range(200)))
    assert (await board.scores.top(limit=1)).lacking == 1
    await board.scores.reset()
    assert await board.scores.top() == Page(0, [], 0)


async def test_without_a_bound_nothing_is_let_go(store: Store) -> None:
    board = await Board(store, Kept()).begin()
    await board.apply(*((NOW, "", f"tag{number}") for number in range(200)))
    assert await store.execute("EXISTS", f"{KEY}:lacking") == 0


@pytest.mark.parametrize("kind", ["lacking", "spelling", "spellings", "trending", "from:trending", "authors"])
async def test_a_key_of_another_type_is_refused_before_anything_is_written(store: Store, kind: str) -> None:
    """Written in part, a batch would be added again at each further try."""
    board = await Board(store, Kept((window("5m"),), 3600, WHILE_S, 100)).begin()
    await store.execute("SET", f"{KEY}:{kind}", "something else")
    keys = cast("list[bytes]", await store.execute("KEYS", "*"))
    before = {key: await store.execute("DUMP", key) for key in keys}
    with pytest.raises(StoreRefused, match=r"refused apply on .*WRONGTYPE"):
        await board.apply(*((NOW, "ann", f"tag{number}") for number in range(200)))
    after = cast("list[bytes]", await store.execute("KEYS", "*"))
    assert {key: await store.execute("DUMP", key) for key in after} == before
