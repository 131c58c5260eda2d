"""A board comes out as lines and goes in again whole, also while it is counted on; no other file changes anything."""

import json
from collections.abc import Iterable, Iterator
from typing import Final, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweetboard.board import backup
from tweetboard.board.backup import Name, exported, imported
from tweetboard.board.scoreboard import Scoreboard, load
from tweetboard.board.windows import Kept, window
from tweetboard.channel import Message
from tweetboard.errors import ConfigurationError, StoreRefused
from tweetboard.formats.hashtags import fold
from tweetboard.store import Store

NOW: Final = 1_763_805_600
HEAD: Final = b'{"tweetboard":1,"board":"hashtags","names":1}'


def a_board(store: Store, key: str = "hashtags_scoreboard") -> Scoreboard:
    return Scoreboard(store, "hashtags", key, fold, kept=Kept((window("5m"),), 3600), clock=lambda: NOW)


async def apply(store: Store, board: Scoreboard, seq: int, names: Iterable[str]) -> None:
    names = list(names)
    await store.execute("HSET", "tweetboard:x", "owner", "me", "seq", seq)
    await store.execute("HSETNX", board.applied_key, "x", seq - 1)
    await board.apply("tweetboard:x", "me", [Message("x", "me", seq, [(NOW, len(names))], names)])


async def lines_of(store: Store, board: Scoreboard) -> list[bytes]:
    return [line async for line in exported(store, board)]


async def rows_of(board: Scoreboard) -> list[tuple[str, str, float]]:
    return [(row.name, row.display, row.score) for row in (await board.top(limit=1000)).rows]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4), max_size=40))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_comes_out_goes_in_again(store: Store, names: list[str]) -> None:
    await store.execute("FLUSHALL")
    board, other = a_board(store), a_board(store, "another")
    await apply(store, board, 1, names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "CHUNK_NAMES", 3)
        lines = await lines_of(store, board)
        assert all(line.endswith(b"\n") for line in lines)
        assert json.loads(lines[0])["applied"] == {"x": 1}
        counts = await imported(store, {"hashtags": other}, lines, "file")
    assert counts == {"hashtags": len(lines) - 1}
    assert await rows_of(other) == await rows_of(board)
    assert await lines_of(store, other) == [json_without_applied(lines[0]), *lines[1:]]
    assert await store.execute("KEYS", "tweetboard:copy:*") == [], "nothing is left of the copies"
    for key in other.keys:
        assert cast("int", await store.execute("TTL", key)) < 0, "a board does not end by itself"


def json_without_applied(head: bytes) -> bytes:
    return msgspec.json.encode({key: one for key, one in json.loads(head).items() if key != "applied"}) + b"\n"


async def test_a_board_that_is_replaced_counts_on(store: Store) -> None:
    board = a_board(store)
    await apply(store, board, 1, ["Tea", "Tea", "tea"])
    lines = await lines_of(store, board)
    await apply(store, board, 2, ["tea"] * 9 + ["salt"])
    await imported(store, {"hashtags": board}, lines, "file")
    assert await rows_of(board) == [("tea", "Tea", 3)]
    assert (await board.top(window="5m")).total == 0
    await apply(store, board, 3, ["tea", "salt"])
    assert await rows_of(board) == [("tea", "Tea", 4), ("salt", "salt", 1)]
    assert (await board.top(window="5m")).total == 2


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([b"{}"], "file:1: this is not the first line of a board: .*tweetboard"),
        ([b"tea 3"], "file:1: this is not the first line of a board"),
        ([b"\xff"], "file:1: this is not the first line of a board"),
        ([HEAD.replace(b":1,", b":2,", 1), b'{"name":"a","score":1}'], "file:1: version 2 is not 1, which is known"),
        ([HEAD.replace(b"hashtags", b"nope")], "file:1: there is no board 'nope' in the settings, but hashtags"),
        ([], "file: holds no board"),
        ([HEAD, b'{"name":"a","score":1}', HEAD], "file:3: hashtags stands there twice"),
        ([HEAD], "file: ends before all 1 names of hashtags have come"),
        ([HEAD, b'{"name":"a","score":0}'], "file:2: this is not a name's line: .*>= 1"),
        ([HEAD, b'{"name":"a","score":1.5}'], "file:2: this is not a name's line"),
        ([HEAD, b'{"name":"","score":1}'], "file:2: this is not a name's line"),
        ([HEAD, b'{"name":"a","score":1,"more":1}'], "file:2: this is not a name's line"),
        ([HEAD, b'{"name":"a","score":1}', b"more"], "file:3: this is not the first line of a board"),
        (
            [HEAD.replace(b'names":1', b'names":2'), *[b'{"name":"a","score":1}'] * 2],
            "file:3: 'a' stands there twice",
        ),
    ],
)
async def test_what_is_wrong_is_named_by_its_line_and_the_board_stays(
    store: Store, lines: list[bytes], told: str
) -> None:
    board = a_board(store)
    await apply(store, board, 1, ["tea"])
    with pytest.raises(ConfigurationError, match=told):
        await imported(store, {"hashtags": board}, lines, "file")
    assert await rows_of(board) == [("tea", "tea", 1)]
    assert await store.execute("KEYS", "tweetboard:copy:*") == []


@pytest.mark.parametrize("key", range(3))
async def test_where_redis_has_lost_what_came_no_board_is_touched(store: Store, key: int) -> None:
    """Restarted meanwhile without its last second, or after an hour in which standard input has brought nothing."""
    boards = {"hashtags": a_board(store), "usernames": Scoreboard(store, "usernames", "usernames_scoreboard")}
    await apply(store, boards["hashtags"], 1, ["Tea", "tea", "TEA", "salt"])
    await apply(store, boards["usernames"], 1, ["ann"])
    lines = [line for board in boards.values() for line in await lines_of(store, board)]

    before = {name: await rows_of(board) for name, board in boards.items()}
    load = backup._load  # noqa: SLF001 - what comes between loading and replacing is what matters

    async def loaded(store: Store, copies: list[str], names: Iterator[Name]) -> tuple[int, int, int]:
        sizes = await load(store, copies, names)
        if sizes[0] == 2:
            await store.execute("DEL", copies[key])
        return sizes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "_load", loaded)
        with pytest.raises(StoreRefused, match="has lost what came from file; no board was changed"):
            await imported(store, boards, lines, "file")
    assert {name: await rows_of(board) for name, board in boards.items()} == before


@pytest.mark.parametrize("kind", ["", ":authors", ":posts", ":begun", ":lacking", ":windows", ":buckets:5m"])
async def test_where_a_key_is_another_programs_no_board_is_touched(store: Store, kind: str) -> None:
    boards = {"hashtags": a_board(store), "usernames": Scoreboard(store, "usernames", "usernames_scoreboard")}
    await apply(store, boards["usernames"], 1, ["ann"])
    lines = [line for board in reversed(boards.values()) for line in await lines_of(store, board)]
    await apply(store, boards["usernames"], 2, ["ben"])
    await apply(store, boards["hashtags"], 1, ["tea"])
    key = f"hashtags_scoreboard{kind}"
    await store.execute("DEL", key)
    await store.execute("XADD", key, "*", "a", 1)
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await imported(store, boards, lines, "file")
    assert [name for name, _, _ in await rows_of(boards["usernames"])] == ["ben", "ann"]


async def test_a_copy_lives_from_its_first_name_on_for_an_hour(store: Store) -> None:
    """Whoever is killed while loading leaves nothing for ever."""
    copies = ["a", "b", "c"]
    await load(store, copies, [("tea", 2, "Tea", '{"Tea":2}'), ("salt", 2**53, "", "")], 3_600)
    lives = [cast("int", await store.execute("TTL", key)) for key in copies]
    assert all(3_500 < life <= 3_600 for life in lives)
    assert await store.execute("ZRANGE", "a", 0, -1, "WITHSCORES") == [b"tea", b"2", b"salt", b"9007199254740992"]
    assert await store.execute("HGETALL", "b") == {b"tea": b"Tea"}
    assert await store.execute("HGETALL", "c") == {b"tea": b'{"Tea":2}'}


async def test_several_boards_come_out_and_go_in(store: Store) -> None:
    boards = {"hashtags": a_board(store), "usernames": Scoreboard(store, "usernames", "usernames_scoreboard")}
    await apply(store, boards["hashtags"], 1, ["Tea", "tea"])
    await apply(store, boards["usernames"], 1, ["ann"])
    lines = [line for board in boards.values() for line in await lines_of(store, board)]
    await apply(store, boards["hashtags"], 2, ["tea"] * 9)
    await apply(store, boards["usernames"], 2, ["ann"] * 9)
    assert await imported(store, boards, lines, "file") == {"hashtags": 1, "usernames": 1}
    assert await rows_of(boards["hashtags"]) == [("tea", "Tea", 2)]
    assert await rows_of(boards["usernames"]) == [("ann", "ann", 1)]


async def test_what_scores_lack_comes_out_and_goes_in(store: Store) -> None:
    board = Scoreboard(store, "hashtags", "hashtags_scoreboard", fold, kept=Kept(max_members=100))
    await apply(store, board, 1, [f"tag{number}" for number in range(200)])
    lines = await lines_of(store, board)
    assert json.loads(lines[0])["max_error"] == 1
    await board.reset()
    await imported(store, {"hashtags": board}, lines, "file")
    assert (await board.top()).lacking == 1


async def test_a_copy_that_is_lost_while_it_is_read_is_no_half_board(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "CHUNK_NAMES", 2)
    board = a_board(store)
    await apply(store, board, 1, ["a", "b", "c"])
    lines = exported(store, board)
    for _ in range(3):
        await anext(lines)
    for key in cast("list[bytes]", await store.execute("KEYS", "tweetboard:copy:*")):
        await store.execute("DEL", key)
    with pytest.raises(StoreRefused, match="has lost the copy of hashtags"):
        await anext(lines)


async def test_an_empty_board_comes_out_and_goes_in(store: Store) -> None:
    board = a_board(store)
    lines = await lines_of(store, board)
    assert lines == [b'{"tweetboard":1,"board":"hashtags","names":0}\n']
    await apply(store, board, 1, ["tea"])
    assert await imported(store, {"hashtags": board}, lines, "file") == {"hashtags": 0}
    assert await rows_of(board) == []
