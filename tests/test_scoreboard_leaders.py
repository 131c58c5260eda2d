"""A board that keeps only its leaders in the sorted set: every score is exact, and every rank that is told."""

from collections import Counter
from typing import Final, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweetboard.board.backup import CHUNK_NAMES, exported, imported
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import Kept, window
from tweetboard.channel import Message
from tweetboard.errors import StoreRefused
from tweetboard.formats.hashtags import fold
from tweetboard.store import Store

KEY: Final = "hashtags_scoreboard"
NOW: Final = 1_763_805_600
LEADERS: Final = 3
DAY: Final = window("24h")


class Board:
    """A board that a test applies names to; `hidden` are not shown."""

    def __init__(self, store: Store, *, leaders: int = LEADERS, key: str = KEY) -> None:
        self.store = store
        self.key = key
        self.seq = 0
        self.now = NOW
        self.hidden: tuple[str, ...] = ()
        self.keep(leaders)

    def keep(self, leaders: int, *, forget_s: int = 0, max_members: int = 0) -> None:
        """Go on as a daemon does that is configured so."""
        kept = Kept((DAY,), 3600, leaders=leaders, forget_s=forget_s, max_members=max_members)
        self.scores = Scoreboard(
            self.store, "hashtags", self.key, fold, kept=kept, clock=lambda: self.now, hidden=lambda: self.hidden
        )

    async def begin(self) -> "Board":
        await self.store.execute("FLUSHALL")
        await self.store.execute("HSET", "tweetboard:x", "owner", "me", "seq", 10**6)
        await self.store.execute("HSET", f"{self.key}:applied", "x", 0)
        return self

    async def apply(self, *names: str, post: str = "", gone: str = "") -> None:
        """Apply names, of a post that may be taken away again, or that a post is no more."""
        self.seq += 1
        message = Message("x", "me", self.seq, [(NOW, len(names))] if names else [], list(names))
        message.posts = [(post, len(names))] if post else []
        message.gone = [(gone, len(names))] if gone else []
        await self.scores.apply("tweetboard:x", "me", [message])

    async def leading(self) -> Counter[str]:
        """Read what the sorted set holds, as somebody does who looks with redis-cli."""
        return _scores(await self.store.execute("ZRANGE", self.key, 0, -1, "WITHSCORES"))

    async def others(self) -> Counter[str]:
        found = cast("dict[bytes, bytes]", await self.store.execute("HGETALL", f"{self.key}:rest"))
        return Counter({name.decode(): int(score) for name, score in found.items()})


def _scores(flat: object) -> Counter[str]:
    words = cast("list[bytes]", flat)
    return Counter({name.decode(): int(float(score)) for name, score in zip(words[::2], words[1::2], strict=True)})


NAMES: Final = [f"t{number}" for number in range(12)]
BATCH = st.lists(st.sampled_from(NAMES), max_size=25)


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, LEADERS, LEADERS]), BATCH), min_size=1, max_size=10),
    st.lists(st.sampled_from([*NAMES, "nobody"]), max_size=4, unique=True),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_scores_and_ranks_are_those_of_a_count_by_hand(
    store: Store, batches: list[tuple[int, list[str]]], hidden: list[str]
) -> None:
    """However often a board goes over from keeping all names in its sorted set to its leaders, and back."""
    board = await Board(store).begin()
    board.hidden = tuple(hidden)
    truth = Counter[str]()
    for leaders, names in batches:
        board.keep(leaders)
        await board.apply(*names)
        truth.update(names)
        leading, others = await board.leading(), await board.others()
        assert leading | others == truth
        assert not leading.keys() & others.keys()
        shown = Counter({name: score for name, score in truth.items() if name not in hidden})
        await _check_page(board, shown)
        for name in [*NAMES, "nobody"]:
            await _check_name(board, name, shown)


@given(
    st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(1, 6), st.booleans()), min_size=1),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from([0, 1, LEADERS]), BATCH), max_size=4),
    st.lists(st.sampled_from(NAMES), max_size=3, unique=True),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_ranks_are_right_while_a_board_goes_over(
    store: Store,
    begun: dict[str, tuple[int, bool]],
    floor: int,
    batches: list[tuple[int, list[str]]],
    hidden: list[str],
) -> None:
    """Some names of the rest are back in the sorted set then, and stand below others that are not."""
    board = await Board(store).begin()
    board.hidden = tuple(hidden)
    truth = Counter({name: score for name, (score, _) in begun.items()})
    await board.apply(*truth.elements())  # for the window
    await store.execute("DEL", KEY, f"{KEY}:rest")
    await store.execute("SET", f"{KEY}:floor", floor)
    for name, (score, may_lead) in begun.items():
        if may_lead or score > floor:
            await store.execute("ZADD", KEY, score, name)
        else:
            await store.execute("HSET", f"{KEY}:rest", name, score)
    for leaders, names in [(LEADERS, []), *batches]:
        board.keep(leaders)
        if names:
            await board.apply(*names)
        truth.update(names)
        assert await board.leading() | await board.others() == truth
        shown = Counter({name: score for name, score in truth.items() if name not in hidden})
        await _check_page(board, shown)
        for name in NAMES:
            await _check_name(board, name, shown)


async def _check_page(board: Board, shown: Counter[str]) -> None:
    page = await board.scores.top(limit=100)
    scores = sorted(shown.values(), reverse=True)
    ranked = page.total if not isinstance(page.ranked, int) else page.ranked
    assert (page.total, [row.score for row in page.rows]) == (len(shown), scores[:ranked])
    assert len(page.rows) == ranked, "what has a rank is on a page"
    for row in page.rows:
        assert (row.score, row.rank) == (shown[row.name], scores.index(int(row.score)) + 1)
    assert (await board.scores.top(offset=ranked, limit=5)).rows == []
    assert (await board.scores.top(offset=max(ranked - 1, 0), limit=5)).rows == page.rows[ranked - 1 :][:1]
    whole = await board.scores.top(limit=100, window=DAY.name)
    assert {row.name: row.score for row in whole.rows} == shown, "a window holds all of them"


async def _check_name(board: Board, name: str, shown: Counter[str]) -> None:
    row, page = await board.scores.near(name, around=2)
    if name not in shown:
        assert (row, page.rows) == (None, [])
        return
    assert row is not None
    above = sum(score > shown[name] for score in shown.values())
    assert row.score == shown[name]
    assert row in page.rows
    if row.rank is None:
        assert isinstance(row.below, int)
        assert row.below <= above
        assert page.rows == [row]
    else:
        assert row.rank == above + 1


async def test_the_sorted_set_holds_between_one_and_two_times_the_leaders(store: Store) -> None:
    board = await Board(store, leaders=100).begin()
    most = 0
    for turn in range(30):
        await board.apply(*(f"t{number}" for number in range(turn * 50, turn * 50 + 60)))
        leading = await board.leading()
        assert 60 <= len(leading) <= 200
        assert len(leading) >= 100 or turn < 2
        most = max(most, len(leading))
    assert most > 150, "they do not go one by one"
    assert (await board.scores.top(limit=1)).total == 29 * 50 + 60


async def test_many_names_in_one_step_leave_leaders_enough(store: Store) -> None:
    board = await Board(store, leaders=100).begin()
    for turn in range(8):
        await board.apply(*(f"{turn} {number}" for number in range(12_000)))
        assert len(await board.leading()) >= 100
        assert len(await board.others()) + len(await board.leading()) == 12_000 * (turn + 1)
    assert len(await board.leading()) <= 200


async def test_who_rises_above_the_rest_leads_at_once(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply(*NAMES)
    assert "t0" in await board.others()
    await board.apply("late")
    assert "late" in await board.others(), "for as many as it there are many"
    await board.apply("t0")
    row, _ = await board.scores.near("t0")
    assert row is not None
    assert (row.rank, row.score) == (1, 2)
    assert "t0" not in await board.others()


async def test_one_who_shares_the_lowest_rank_there_is_has_it_too(store: Store) -> None:
    """Though the sorted set has not got it: as many have more than it, wherever it stands."""
    board = await Board(store).begin()
    await board.apply(*NAMES, "t11")
    row, page = await board.scores.near("t0", around=5)
    assert row is not None
    assert (row.rank, row.score, page.rows) == (2, 1, [row])


async def test_a_name_far_below_has_a_score_and_no_rank(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply(*NAMES, *NAMES[:11])
    await board.apply("late")
    row, page = await board.scores.near("late", history=True)
    assert row is not None
    assert (row.rank, row.score, row.change) == (None, 1, msgspec.UNSET)
    assert row.below == page.ranked == len(await board.leading())
    assert isinstance(row.history, list)
    assert sum(row.history) == 1


async def test_a_board_that_keeps_all_again_is_whole_after_a_while(store: Store) -> None:
    board = await Board(store, leaders=50).begin()
    names = [f"t{number}" for number in range(10_000)]
    await board.apply(*names)
    assert len(await board.others()) == 4_096
    board.keep(0)
    steps = 0
    while await board.others():
        await board.apply("t5", f"late {steps}")
        assert f"late {steps}" in await board.leading()
        steps += 1
        assert steps < 10
    assert await board.leading() == Counter(names) + Counter({"t5": steps}) + Counter(
        f"late {step}" for step in range(steps)
    )
    assert await store.execute("EXISTS", f"{KEY}:floor") == 0
    assert (await board.scores.top()).ranked is msgspec.UNSET


async def test_a_rest_that_is_nearly_empty_comes_back_too(store: Store) -> None:
    """A hash that was large keeps its room for a while, and what is left in it is hard to find."""
    board = await Board(store, leaders=50).begin()
    names = [f"t{number}" for number in range(20_000)]
    for first in range(0, len(names), 2_000):
        await board.apply(*names[first : first + 2_000])
    board.keep(0)
    for _ in range(21):
        await board.apply("t0")
    assert await board.others() == {}
    assert (await board.scores.top(limit=1)).total == 20_000


async def test_what_a_post_has_added_is_taken_away_in_the_rest_too(store: Store) -> None:
    """Posts are remembered over a time in which the board was one of leaders, and the rest comes back step by step."""
    board = await Board(store).begin()
    board.keep(0, forget_s=3600)
    await board.apply("Tea", post="k")
    await board.apply("TEA", post="p")
    board.keep(LEADERS)
    names = [f"x{number}" for number in range(4_000)]
    await board.apply(*names, *names, *names)
    assert (await board.others())["tea"] == 2
    board.keep(0, forget_s=3600)
    await board.apply(gone="k")
    row, _ = await board.scores.near("tea")
    assert row is not None
    assert (row.score, row.display) == (1, "TEA")
    await board.apply(gone="p")
    assert (await board.scores.near("tea"))[0] is None
    assert await store.execute("HGET", f"{KEY}:rest", "tea") is None


async def test_somebody_elses_hash_of_that_name_is_let_be(store: Store) -> None:
    board = await Board(store, leaders=0).begin()
    await store.execute("HSET", f"{KEY}:rest", "theirs", "7", "more", "words")
    await board.apply("tea")
    assert await board.leading() == {"tea": 1}
    assert (await board.scores.top()).total == 1
    assert await store.execute("HLEN", f"{KEY}:rest") == 2


@pytest.mark.parametrize("leaders", [0, LEADERS])
async def test_what_is_no_number_in_the_rest_stops_nothing(store: Store, leaders: int) -> None:
    """A step that fails when it has written something would be taken again, and count twice."""
    board = await Board(store).begin()
    await board.apply(*NAMES)
    await store.execute("HSET", f"{KEY}:rest", "theirs", "words")
    board.keep(leaders)
    for _ in range(3):
        await board.apply("tea")
    row, _ = await board.scores.near("tea")
    assert row is not None
    assert row.score == 3


async def test_a_name_without_a_rank_has_no_change_of_it(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply(*NAMES, *NAMES[:11])
    for minute in (0, 60, 120):
        board.now = NOW + minute
        await board.apply("t1")
        await board.scores.age()
    leader, _ = await board.scores.near("t1")
    below, _ = await board.scores.near("t11")
    assert leader is not None
    assert below is not None
    assert (leader.change, below.rank, below.change) == (0, None, msgspec.UNSET)


async def test_a_step_moves_no_more_names_than_nobody_waits_for(store: Store) -> None:
    board = await Board(store, leaders=50).begin()
    await board.apply(*(f"t{number}" for number in range(10_000)))
    assert len(await board.others()) == 4_096
    board.keep(0)
    await board.apply("t0")
    assert len(await board.others()) in (4_096 - 1_024, 4_096 - 1_025)


async def test_where_all_have_risen_from_the_rest_there_is_none(store: Store) -> None:
    board = await Board(store, leaders=20).begin()
    await store.execute("SET", f"{KEY}:floor", 5)
    await store.execute("HSET", f"{KEY}:rest", *(word for name in NAMES for word in (name, 5)))
    board.keep(3)
    await board.apply(*NAMES[:6])
    await board.apply(*NAMES[6:])
    assert await board.leading() | await board.others() == Counter(dict.fromkeys(NAMES, 6))
    assert (await board.scores.top(limit=100)).total == len(NAMES)


async def test_leaders_that_somebody_has_taken_away_are_made_up_for(store: Store) -> None:
    board = await Board(store, leaders=50).begin()
    names = [f"t{number}" for number in range(3_000)]
    await board.apply(*names, *names[:40])
    board.keep(0, max_members=100)
    await board.apply("t1")
    board.keep(50)
    for _ in range(5):
        await board.apply("t2")
    page = await board.scores.top(limit=1000)
    assert len(page.rows) >= 50


async def test_how_a_name_is_shown_stays_with_it(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply("Tea", *NAMES, *NAMES)
    await board.apply("TEA", "TEA")
    row, _ = await board.scores.near("tea")
    assert row is not None
    assert (row.name, row.display, row.score) == ("tea", "TEA", 3)


@pytest.mark.parametrize("kind", ["rest", "floor"])
async def test_a_key_of_another_type_is_refused_before_anything_is_written(store: Store, kind: str) -> None:
    board = await Board(store).begin()
    await store.execute("LPUSH", f"{KEY}:{kind}", "something else")
    keys = cast("list[bytes]", await store.execute("KEYS", "*"))
    before = {key: await store.execute("DUMP", key) for key in keys}
    with pytest.raises(StoreRefused, match=r"refused apply on .*WRONGTYPE"):
        await board.apply(*NAMES, *NAMES[:5])
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await board.scores.reset()
    after = cast("list[bytes]", await store.execute("KEYS", "*"))
    assert {key: await store.execute("DUMP", key) for key in after} == before


async def test_a_reset_forgets_the_rest_and_where_it_ends(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply(*NAMES)
    await board.scores.reset()
    assert await store.execute("EXISTS", f"{KEY}:rest", f"{KEY}:floor") == 0
    await board.apply("t1")
    assert await board.leading() == {"t1": 1}


@pytest.mark.parametrize("names", [12, 2 * CHUNK_NAMES + 500])
@pytest.mark.parametrize("leaders", [0, LEADERS])
async def test_a_backup_holds_all_names_and_goes_into_either_kind(store: Store, names: int, leaders: int) -> None:
    board = await Board(store).begin()
    truth = Counter({f"t{number}": 1 + number % 3 for number in range(names)})
    await board.apply(*truth.elements())
    lines = [line async for line in exported(store, board.scores)]
    assert len(lines) == 1 + names
    assert await store.execute("KEYS", "tweetboard:copy:*") == []
    board.keep(leaders)
    await board.apply("late")
    assert await imported(store, {"hashtags": board.scores}, lines, "backup") == {"hashtags": names}
    assert await board.leading() == truth
    await board.apply("late")
    assert await board.leading() | await board.others() == truth + Counter(["late"])


async def test_a_copy_that_is_lost_is_no_backup(store: Store) -> None:
    board = await Board(store).begin()
    await board.apply(*NAMES)
    lines = exported(store, board.scores)
    await anext(lines)
    await store.execute("DEL", *cast("list[bytes]", await store.execute("KEYS", "tweetboard:copy:*:rest")))
    with pytest.raises(StoreRefused, match="has lost the copy of hashtags"):
        async for _ in lines:
            pass
