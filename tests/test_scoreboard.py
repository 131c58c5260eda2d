"""Every answer of scoreboard.lua, that a refusal changes nothing, and that a board reads as it was written."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweetboard.board.rows import Page, Row
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.channel import Message
from tweetboard.errors import SessionEnded, StoreRefused
from tweetboard.formats.hashtags import fold
from tweetboard.journal import OutOfStep
from tweetboard.lease import Lease
from tweetboard.store import Store, open_store

KEY, APPLIED, STREAM, LEASE = "username_scoreboard", "username_scoreboard:applied", "tweetboard:x", "tweetboard:bare"
NOW = 1_763_805_600
ON_REAL_SERVER = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def board(store: Store) -> Scoreboard:
    return Scoreboard(store, "usernames", KEY)


@pytest.fixture
def fake_board(fake_store: Store) -> Scoreboard:
    return Scoreboard(fake_store, "usernames", KEY)


async def stream_at(store: Store, seq: int, applied: int | None, owner: str = "me") -> None:
    """Put a stream's journal at batch `seq`, and the board at `applied`."""
    await store.execute("HSET", STREAM, "owner", owner, "seq", seq)
    if applied is not None:
        await store.execute("HSET", APPLIED, "x", applied)


async def apply(
    board: Scoreboard,
    first: int,
    last: int,
    names: Iterable[str],
    displays: dict[str, str] | None = None,
    *,
    stream: str = "x",
    owner: str = "me",
) -> None:
    """Apply the batches `first` to `last`, all names in the first, as of now."""
    spelled = list(names)
    messages = [
        Message(stream, owner, seq, [(NOW, len(spelled))] if seq == first else [], [] if seq > first else spelled)
        for seq in range(first, last + 1)
    ]
    messages[0].displays |= displays or {}
    await board.apply(f"tweetboard:{stream}", owner, messages)


async def everything(store: Store) -> dict[bytes, object]:
    """All that Redis holds, byte by byte."""
    keys = cast("list[bytes]", await store.execute("KEYS", "*"))
    return {key: await store.execute("DUMP", key) for key in keys}


async def put(store: Store, scores: dict[str, int] | dict[str, float] | dict[bytes, str]) -> None:
    """Write a board as nobody of ours would."""
    for name, score in scores.items():
        await store.execute("ZADD", KEY, score, name)


def scores(page: Page) -> dict[str, float]:
    return {row.name: row.score for row in page.rows}


# --- apply ---


async def test_a_batch_is_added_and_noted_in_one_step(fake_board: Scoreboard, fake_store: Store) -> None:
    await stream_at(fake_store, seq=1, applied=0)
    await apply(fake_board, 1, 1, ["alice", "bob", "alice"])
    assert scores(await fake_board.top()) == {"alice": 2, "bob": 1}
    assert await fake_board.applied("x") == 1
    assert await fake_store.execute("KEYS", "*") == [b"tweetboard:x", b"username_scoreboard:applied", KEY.encode()]


async def test_several_batches_are_added_as_one(fake_board: Scoreboard, fake_store: Store) -> None:
    await stream_at(fake_store, seq=9, applied=3)
    await apply(fake_board, 4, 8, ["alice"] * 5)
    assert scores(await fake_board.top()) == {"alice": 5}
    assert await fake_board.applied("x") == 8


async def test_a_batch_without_names_is_noted_too(fake_board: Scoreboard, fake_store: Store) -> None:
    await stream_at(fake_store, seq=1, applied=0)
    await apply(fake_board, 1, 1, [])
    assert await fake_board.applied("x") == 1
    assert await fake_board.top() == Page(0, [])


async def test_nothing_is_known_of_a_stream_that_never_fed_the_board(fake_board: Scoreboard) -> None:
    assert await fake_board.applied("x") is None


async def test_several_streams_feed_one_board(fake_board: Scoreboard, fake_store: Store) -> None:
    await stream_at(fake_store, seq=1, applied=0)
    await fake_store.execute("HSET", "tweetboard:y", "owner", "another", "seq", 8)
    await fake_store.execute("HSET", APPLIED, "y", 7)
    await apply(fake_board, 1, 1, ["alice"])
    await apply(fake_board, 8, 8, ["alice"], stream="y", owner="another")
    assert scores(await fake_board.top()) == {"alice": 2}
    assert (await fake_board.applied("x"), await fake_board.applied("y")) == (1, 8)


@pytest.mark.parametrize("owner", ["another", "", "m", "me "])
async def test_a_batch_of_a_session_that_is_no_longer_the_owner_is_refused(
    board: Scoreboard, store: Store, owner: str
) -> None:
    await stream_at(store, seq=5, applied=3, owner=owner)
    await put(store, {"alice": 1})
    before = await everything(store)
    with pytest.raises(SessionEnded, match="stream x: another session has taken over"):
        await apply(board, 4, 4, ["alice"])
    assert await everything(store) == before


async def test_a_batch_of_a_stream_that_is_gone_is_refused(board: Scoreboard, store: Store) -> None:
    await store.execute("HSET", APPLIED, "x", 3)
    before = await everything(store)
    with pytest.raises(SessionEnded):
        await apply(board, 4, 4, ["alice"])
    assert await everything(store) == before


@pytest.mark.parametrize(("first", "last"), [(6, 6), (4, 6), (4, 100)])
async def test_a_batch_that_the_journal_does_not_have_is_refused(
    board: Scoreboard, store: Store, first: int, last: int
) -> None:
    """Redis went back behind it: to add it now would be to add it twice."""
    await stream_at(store, seq=5, applied=first - 1)
    await put(store, {"alice": 1})
    before = await everything(store)
    with pytest.raises(OutOfStep) as caught:
        await apply(board, first, last, ["alice"])
    assert caught.value.seq == first - 1
    assert await everything(store) == before


@pytest.mark.parametrize(("first", "last"), [(3, 3), (2, 4), (1, 5), (5, 5)])
async def test_a_batch_that_does_not_follow_is_refused_with_what_is_on_the_board(
    board: Scoreboard, store: Store, first: int, last: int
) -> None:
    await stream_at(store, seq=5, applied=3)
    await put(store, {"alice": 1})
    before = await everything(store)
    with pytest.raises(OutOfStep) as caught:
        await apply(board, first, last, ["alice"])
    assert caught.value.seq == 3
    assert await everything(store) == before


async def test_the_same_batch_counts_once(board: Scoreboard, store: Store) -> None:
    await stream_at(store, seq=1, applied=0)
    await apply(board, 1, 1, ["alice"])
    with pytest.raises(OutOfStep):
        await apply(board, 1, 1, ["alice"])
    assert scores(await board.top()) == {"alice": 1}


@pytest.mark.parametrize("first", [1, 5])
async def test_a_board_that_does_not_know_where_it_stands_takes_nothing(
    board: Scoreboard, store: Store, first: int
) -> None:
    await stream_at(store, seq=5, applied=None)
    before = await everything(store)
    with pytest.raises(OutOfStep) as caught:
        await apply(board, first, 5, ["alice"])
    assert caught.value.seq == -1
    assert await everything(store) == before


@pytest.mark.parametrize("key", [KEY, APPLIED, STREAM, f"{KEY}:spelling", f"{KEY}:spellings"])
@pytest.mark.parametrize("folds", [fold, None])
async def test_an_apply_to_a_key_of_another_type_names_the_keys_and_writes_nothing(
    store: Store, key: str, folds: Callable[[str], str] | None
) -> None:
    if folds is None and key.endswith("spellings"):
        return  # only folded names have several
    board = Scoreboard(store, "hashtags", KEY, folds)
    await stream_at(store, seq=5, applied=3)
    await store.execute("DEL", key)
    await store.execute("SET", key, "something else")
    before = await everything(store)
    with pytest.raises(StoreRefused, match=f"refused apply on .*{key}.*WRONGTYPE"):
        await apply(board, 4, 4, ["Alice", "bob"], {"bob": "Bob"})
    assert await everything(store) == before


async def test_a_user_that_may_not_count_is_told_so_and_nothing_is_written(store: Store, valkey_url: str) -> None:
    await store.execute("ACL", "SETUSER", "idle", "on", "nopass", "~*", "&*", "+@all", "-zincrby", "-zadd")
    try:
        await stream_at(store, seq=1, applied=0)
        before = await everything(store)
        async with open_store(valkey_url.replace("unix://", "unix://idle:x@"), connections=1) as idle:
            with pytest.raises(StoreRefused, match=f"refused apply on {KEY}"):
                await apply(Scoreboard(idle, "usernames", KEY), 1, 1, ["alice"])
        assert await everything(store) == before
    finally:
        await store.execute("ACL", "DELUSER", "idle")


# --- bare ---


async def test_bare_names_count_for_the_holder_of_the_lease(fake_board: Scoreboard, fake_store: Store) -> None:
    await Lease(fake_store, LEASE, "me").hold()
    assert await fake_board.add_bare(LEASE, "me", ["alice", "bob", "alice"])
    assert await fake_board.add_bare(LEASE, "me", ["alice"])
    assert scores(await fake_board.top()) == {"alice": 3, "bob": 1}


@pytest.mark.parametrize("holder", [None, "another"])
async def test_without_the_lease_bare_names_change_nothing(board: Scoreboard, store: Store, holder: str | None) -> None:
    if holder:
        await Lease(store, LEASE, holder).hold()
    await put(store, {"alice": 1})
    before = await everything(store)
    assert not await board.add_bare(LEASE, "me", ["alice"])
    assert await everything(store) == before


@pytest.mark.parametrize("key", [KEY, LEASE])
async def test_bare_names_on_a_key_of_another_type_are_refused(board: Scoreboard, store: Store, key: str) -> None:
    await Lease(store, LEASE, "me").hold()
    await store.execute("DEL", key)
    await store.execute("RPUSH", key, "something else")
    before = await everything(store)
    with pytest.raises(StoreRefused, match=f"refused bare on .*{key}.*WRONGTYPE"):
        await board.add_bare(LEASE, "me", ["alice", "bob"])
    assert await everything(store) == before


# --- Names on their way from Python through JSON and Lua into the set ---

ODD_NAMES = [
    *['"', "\\", '\\"', "\\u0041", "/", "'", "{", "}", "[]", "null", "1", "1.0", "1e3", "nan", "-0", "true", " "],
    *["\x00", "\x01", "\n", "\r\n", "\t", "\x1f", "\x7f", "\x80", "\u2028", "\ufeff", "\ufffd", "\uffff"],
    *["é", "e\u0301", "ß", "İ", "日本語", "สวัสดี", "می\u200cخواهم", "👩‍👩‍👧‍👦", "🏴\U000e0067\U000e007f", "\U0010ffff"],
    "x" * 100_000,
    "🎈" * 10_000,
]


@pytest.mark.parametrize("odd", ODD_NAMES, ids=lambda name: ascii(name)[:20])
async def test_an_odd_name_arrives_byte_by_byte(board: Scoreboard, store: Store, odd: str) -> None:
    await Lease(store, LEASE, "me").hold()
    assert await board.add_bare(LEASE, "me", [odd, "plain", odd])
    assert await store.execute("ZRANGE", KEY, 0, -1) == [b"plain", odd.encode()]
    assert scores(await board.top()) == {odd: 2, "plain": 1}


@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=50))
@ON_REAL_SERVER
async def test_any_names_arrive_byte_by_byte_and_counted(store: Store, names: list[str]) -> None:
    board = Scoreboard(store, "usernames", KEY)
    await store.execute("DEL", KEY)
    await stream_at(store, seq=1, applied=0)
    await apply(board, 1, 1, iter(names))
    members = cast("list[bytes]", await store.execute("ZRANGE", KEY, 0, -1))
    assert sorted(members) == sorted({name.encode() for name in names})
    assert scores(await board.top(limit=50)) == Counter(names)


async def test_as_many_names_as_go_into_one_step_arrive(board: Scoreboard, store: Store) -> None:
    await stream_at(store, seq=1, applied=0)
    await apply(board, 1, 1, [f"user {number % 20_000}" for number in range(30_000)])
    page = await board.top(limit=1)
    assert (page.total, page.rows[0].score) == (20_000, 2)


async def test_names_that_fold_to_the_same_are_one(fake_store: Store) -> None:
    board = Scoreboard(fake_store, "hashtags", KEY, fold)
    await Lease(fake_store, LEASE, "me").hold()
    await board.add_bare(LEASE, "me", ["#Python", "python", "＃PYTHON", "ＰＹＴＨＯＮ", "Café", "cafe\u0301", "cafe"])
    assert scores(await board.top()) == {"python": 4, "café": 2, "cafe": 1}


async def test_a_name_that_folds_to_nothing_is_none(fake_store: Store) -> None:
    board = Scoreboard(fake_store, "hashtags", KEY, fold)
    await Lease(fake_store, LEASE, "me").hold()
    await board.add_bare(LEASE, "me", ["#", "python", "＃"])
    assert scores(await board.top()) == {"python": 1}


async def test_authors_are_not_folded(fake_board: Scoreboard, fake_store: Store) -> None:
    await Lease(fake_store, LEASE, "me").hold()
    await fake_board.add_bare(LEASE, "me", ["Alice", "alice"])
    assert scores(await fake_board.top()) == {"Alice": 1, "alice": 1}


# --- top ---

TIED = {"a": 9, "c": 7, "b": 7, "z": 3, "y": 3, "x": 3, "w": 1}


async def test_ties_share_a_rank_and_stand_from_z_to_a(fake_board: Scoreboard, fake_store: Store) -> None:
    await put(fake_store, TIED)
    page = await fake_board.top()
    assert page == Page(
        7, [Row(rank, name, name, TIED[name]) for rank, name in zip([1, 2, 2, 4, 4, 4, 7], "acbzyxw", strict=True)]
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_the_pages_together_are_the_board(fake_board: Scoreboard, fake_store: Store, limit: int) -> None:
    await put(fake_store, TIED)
    whole = await fake_board.top()
    rows = [row for offset in range(0, 9, limit) for row in (await fake_board.top(offset=offset, limit=limit)).rows]
    assert rows == whole.rows


async def test_the_top_ten_are_never_eleven(fake_board: Scoreboard, fake_store: Store) -> None:
    await put(fake_store, {f"user {number:02}": 5 for number in range(25)})
    page = await fake_board.top()
    assert page.total == 25
    assert [(row.rank, row.name) for row in page.rows] == [(1, f"user {number}") for number in range(24, 14, -1)]


async def test_beyond_the_end_there_are_no_rows_but_still_a_total(fake_board: Scoreboard, fake_store: Store) -> None:
    await put(fake_store, TIED)
    assert await fake_board.top(offset=7) == Page(7, [])
    assert await fake_board.top(offset=10**9, limit=1000) == Page(7, [])


async def test_a_board_that_is_not_there_is_empty(fake_board: Scoreboard) -> None:
    assert await fake_board.top() == Page(0, [])


BOARDS = st.dictionaries(st.text("abcdefghij", min_size=1, max_size=3), st.integers(1, 5), min_size=1, max_size=30)


@given(board=BOARDS, offset=st.integers(0, 31), limit=st.integers(1, 31))
@ON_REAL_SERVER
async def test_every_page_is_the_sorted_boards(store: Store, board: dict[str, int], offset: int, limit: int) -> None:
    await store.execute("DEL", KEY)
    await put(store, board)
    falling = sorted(board.values(), reverse=True)
    names = sorted(board, key=lambda name: (board[name], name), reverse=True)
    rows = [Row(falling.index(board[name]) + 1, name, name, board[name]) for name in names]
    page = await Scoreboard(store, "usernames", KEY).top(offset=offset, limit=limit)
    assert page == Page(len(board), rows[offset : offset + limit])


@pytest.mark.parametrize("score", [1, 10**15, 2**53 - 1, 2**53, 2**60, -3])
async def test_large_scores_are_read_exactly(board: Scoreboard, store: Store, score: int) -> None:
    await put(store, {"alice": score})
    (row,) = (await board.top()).rows
    assert row.score == score
    assert type(row.score) is int


async def test_counting_is_exact_up_to_9_quadrillion(board: Scoreboard, store: Store) -> None:
    await put(store, {"alice": 2**53 - 4})
    await stream_at(store, seq=1, applied=0)
    await apply(board, 1, 1, ["alice"] * 3)
    assert scores(await board.top()) == {"alice": 2**53 - 1}


@pytest.mark.parametrize(
    "score",
    [
        *("inf", "-inf"),
        "1.5",
        "0.1",
        "-2.5",
    ],
)
async def test_a_score_that_is_no_whole_number_is_refused_and_never_shown_as_another(
    board: Scoreboard, store: Store, score: str
) -> None:
    await store.execute("ZADD", KEY, score, "alice")
    with pytest.raises(StoreRefused, match=f"{KEY} has the score {score}") as caught:
        await board.top()
    assert "alice" not in str(caught.value)


async def test_a_member_that_is_no_text_is_shown_with_marks(board: Scoreboard, store: Store) -> None:
    await put(store, {b"\xff\xfe": "1"})
    (row,) = (await board.top()).rows
    assert row.name == "\ufffd\ufffd"


async def test_a_board_of_another_type_is_refused_by_its_name(board: Scoreboard, store: Store) -> None:
    await store.execute("SET", KEY, "something else")
    with pytest.raises(StoreRefused, match=f"refused read on {KEY}, {KEY}:spelling: WRONGTYPE"):
        await board.top()


@pytest.mark.parametrize("make", [lambda board: board.top(), lambda board: board.applied("x")])
async def test_reading_writes_nothing(board: Scoreboard, store: Store, make: Callable[[Scoreboard], "object"]) -> None:
    await put(store, TIED)
    before = await everything(store)
    await make(board)  # type: ignore[misc]
    assert await everything(store) == before


# --- Which spelling is shown ---

SPELLINGS = st.sampled_from(["MeToo", "metoo", "METOO", "Tea", "tea", "coffee", "Straße", "strasse", "STRASSE"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(SPELLINGS, max_size=8), min_size=1, max_size=8))
async def test_the_spelling_met_most_often_is_shown(store: Store, batches: list[list[str]]) -> None:
    """Exactly, over any number of steps; where several are equal, the one that was shown before."""
    await store.execute("FLUSHALL")
    board = Scoreboard(store, "hashtags", KEY, fold)
    await stream_at(store, seq=len(batches), applied=0)
    met = defaultdict[str, Counter[str]](Counter)
    shown = dict[str, str]()
    for seq, names in enumerate(batches, 1):
        await apply(board, seq, seq, names)
        for name in names:
            met[fold(name)][name] += 1
        rows = {row.name: row for row in (await board.top()).rows}
        assert {name: row.score for name, row in rows.items()} == {name: found.total() for name, found in met.items()}
        for name, row in rows.items():
            assert met[name][row.display] == max(met[name].values())
            before = shown.get(name, "")
            if met[name][before] == max(met[name].values()):
                assert row.display == before
        shown = {name: row.display for name, row in rows.items()}


async def test_names_that_are_spelled_as_they_are_counted_take_no_more_room(store: Store) -> None:
    board = Scoreboard(store, "hashtags", KEY, fold)
    await stream_at(store, seq=2, applied=0)
    await apply(board, 1, 1, ["tea", "bread"])
    assert await store.execute("EXISTS", f"{KEY}:spelling", f"{KEY}:spellings") == 0
    await apply(board, 2, 2, ["Tea", "Tea"])
    assert await store.execute("HGETALL", f"{KEY}:spelling") == {b"tea": b"Tea"}
    assert await store.execute("HGETALL", f"{KEY}:spellings") in (
        {b"tea": b'{"tea":1,"Tea":2}'},
        {b"tea": b'{"Tea":2,"tea":1}'},
    )


async def test_of_too_many_spellings_those_met_least_are_forgotten(store: Store) -> None:
    """Anybody can write a word in a million ways, and each post with it would cost more than the one before."""
    board = Scoreboard(store, "hashtags", KEY, fold)
    await stream_at(store, seq=40, applied=0)
    word = "abcdefghijklmnop"
    spelled = ["".join(map(random.Random(seed).choice, zip(word, word.upper(), strict=True))) for seed in range(400)]
    for seq in range(1, 41):
        await apply(board, seq, seq, [*spelled[10 * seq - 10 : 10 * seq], "AbcdefghijklmnoP", "ABCDEFGHIJKLMNOP"])
    (row,) = (await board.top()).rows
    assert (row.score, row.display) == (480, "AbcdefghijklmnoP")
    seen = cast("bytes", await store.execute("HGET", f"{KEY}:spellings", word))
    counts = msgspec.json.decode(seen, type=dict[str, int])
    assert len(counts) == 32
    assert counts["AbcdefghijklmnoP"] == counts["ABCDEFGHIJKLMNOP"] == 40


async def test_a_name_is_shown_as_its_source_wants_it(store: Store, board: Scoreboard) -> None:
    await stream_at(store, seq=2, applied=0)
    await apply(board, 1, 1, ["did:1", "did:2"], {"did:1": "one.example"})
    await apply(board, 2, 2, ["did:1"], {"did:1": "uno.example"})
    assert [(row.name, row.display) for row in (await board.top()).rows] == [
        ("did:1", "uno.example"),
        ("did:2", "did:2"),
    ]


async def test_thousands_of_spellings_in_one_step_are_all_counted(store: Store) -> None:
    """More than Redis's Lua takes at once."""
    board = Scoreboard(store, "hashtags", KEY, fold)
    await stream_at(store, seq=1, applied=0)
    names = [f"Tag{number}" for number in range(9_001)]
    await apply(board, 1, 1, [*names, *(name.upper() for name in names), *names])
    assert await store.execute("HLEN", f"{KEY}:spelling") == 9_001
    page = await board.top(limit=1000, offset=8_000)
    assert {(row.score, row.display[:3]) for row in page.rows} == {(3, "Tag")}


# --- Names that are not shown ---


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(1, 4), max_size=12),
    st.sets(st.text("abcdef", min_size=1, max_size=2), max_size=6),
    st.integers(0, 12),
    st.integers(1, 12),
)
async def test_a_board_reads_as_if_hidden_names_were_not_on_it(
    store: Store, scores: dict[str, int], hidden: set[str], offset: int, limit: int
) -> None:
    await store.execute("DEL", KEY)
    await put(store, scores)
    shown = await Scoreboard(store, "usernames", KEY, hidden=lambda: tuple(hidden)).top(offset=offset, limit=limit)
    await store.execute("DEL", KEY)
    await put(store, {name: score for name, score in scores.items() if name not in hidden})
    assert shown == await Scoreboard(store, "usernames", KEY).top(offset=offset, limit=limit)
