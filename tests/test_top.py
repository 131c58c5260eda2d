"""Boards in the terminal: what people and programs see of what a daemon serves, and what is said where none does."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpx
import pytest
from aiohttp import web

from conftest import wait_until
from tweetboard import top
from tweetboard.api import About, Api
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import Kept, window
from tweetboard.channel import Message
from tweetboard.errors import BoardsUnavailable
from tweetboard.formats.hashtags import fold
from tweetboard.serving import listening
from tweetboard.store import Store
from tweetboard.top import Boards, View, boards_at, show, sparkline, watch

NOW = 1_763_805_600


@asynccontextmanager
async def serving(boards: dict[str, Scoreboard]) -> AsyncIterator[str]:
    api = Api(boards, About(), requests=Counter())
    async with listening(api.application(), "127.0.0.1", 0) as address:
        yield address


@pytest.fixture
async def address(store: Store) -> AsyncIterator[str]:
    """Serve a board of hashtags, and one of usernames with a name that would be markup."""
    tags = Scoreboard(store, "hashtags", "hashtags_scoreboard", fold, kept=Kept((window("5m"),)), clock=lambda: NOW)
    await store.execute("HSET", "tweetboard:x", "owner", "me", "seq", 1)
    await store.execute("HSET", "hashtags_scoreboard:applied", "x", 0)
    names = ["Tea"] * 1200 + ["salt"] * 3
    await tags.apply("tweetboard:x", "me", [Message("x", "me", 1, [(NOW, len(names))], names)])
    await store.execute("ZADD", "username_scoreboard", 1, "[red]:smile:")
    async with serving({"usernames": Scoreboard(store, "usernames", "username_scoreboard"), "hashtags": tags}) as url:
        yield url


async def seen(address: str, view: View, *, as_json: bool = False) -> None:
    async with boards_at(address) as boards:
        await show(boards, view, as_json=as_json)


async def test_an_answer_that_never_ends_is_given_up(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check --live` is asked by scripts, which wait for it."""
    monkeypatch.setattr(top, "TIMEOUT_S", 0.1)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0)

    async with await asyncio.start_server(drip, "127.0.0.1", free_port), asyncio.timeout(5):
        async with boards_at(f"http://127.0.0.1:{free_port}") as boards:
            with pytest.raises(BoardsUnavailable, match=r"nobody serves boards at .*TimeoutError"):
                await boards.readiness()


async def test_a_program_reads_a_row_a_line(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    await seen(address, View([]))
    assert capsys.readouterr().out == "usernames\t1\t1\t[red]:smile:\nhashtags\t1\t1200\tTea\nhashtags\t2\t3\tsalt\n"


async def test_boards_may_be_below_a_path_of_a_proxys(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    await store.execute("ZADD", "ub", 1, "alice")
    api = Api({"usernames": Scoreboard(store, "usernames", "ub")}, About(), requests=Counter())
    application = web.Application()
    application.add_subapp("/walls/town/", api.application())
    async with listening(application, "127.0.0.1", 0) as url:
        await seen(f"{url}/walls/town/", View([]))
        await seen(f"{url}/walls/town/", View(["usernames"]))
    assert capsys.readouterr().out == "usernames\t1\t1\talice\n" * 2


async def test_of_all_boards_those_are_shown_that_have_the_window(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await seen(address.removeprefix("http://") + "/hashtags", View([], window="5m", limit=1))
    assert capsys.readouterr().out == "hashtags\t1\t1200\tTea\n"


async def test_a_program_reads_json_as_the_api_has_it(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    await seen(address, View(["hashtags"], window="5m", limit=1), as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    async with httpx.AsyncClient() as client:
        answer = (await client.get(f"{address}/hashtags?window=5m&limit=1&history=1")).json()
    assert {**json.loads(line), "as_of": ""} == {**answer, "as_of": ""}


async def test_a_person_sees_a_table(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    await seen(address, View([], limit=5))
    text = capsys.readouterr().out
    assert "hashtags (all, 2 names)" in text
    assert "usernames (all, 1 name)" in text
    assert "[red]:smile:" in text
    assert "1,200" in text
    assert "█" in text


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (View(["nope"]), "Not Found: GET /nope"),
        (View(["a/b?c"]), "Not Found: GET /a/b"),
        (View(["hashtags"], window="7d"), "Bad Request: window '7d' is not one of: all, 5m"),
    ],
)
async def test_what_the_daemon_refuses_is_said_in_its_words(address: str, view: View, told: str) -> None:
    with pytest.raises(BoardsUnavailable) as caught:
        await seen(address, view)
    assert str(caught.value).startswith(f"{address}: {told}")


async def test_where_nobody_serves_boards_the_way_out_is_named(free_port: int) -> None:
    with pytest.raises(
        BoardsUnavailable, match=rf"nobody serves boards at http://127.0.0.1:{free_port}: .*; --from URL"
    ):
        await seen(f"http://127.0.0.1:{free_port}", View([]))


@pytest.mark.parametrize(
    ("status", "told"), [(418, "http://x: HTTP 418"), (200, "http://x: what answers there is no tweetboard")]
)
async def test_what_is_no_tweetboard_is_said(status: int, told: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, text="<html>teapot"))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        with pytest.raises(BoardsUnavailable, match=told):
            await Boards(client).read(View([]))


async def test_a_watched_board_is_written_each_time_it_has_changed_and_its_absence_is_said(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "WATCH_S", 0.01)
    monkeypatch.setattr("tweetboard.answers.FRESH_S", 0.0)
    lines: list[str] = []

    def written() -> list[str]:
        lines.extend(capsys.readouterr().out.splitlines())
        return lines

    await store.execute("ZADD", "ub", 1, "alice")
    async with serving({"usernames": Scoreboard(store, "usernames", "ub")}) as url, boards_at(url) as boards:
        watching = asyncio.ensure_future(watch(boards, View(["usernames"])))
        await wait_until(lambda: written() == ["usernames\t1\t1\talice"])
        await store.execute("ZADD", "ub", 2, "alice")
        await wait_until(lambda: written()[1:] == ["usernames\t1\t2\talice"])
        await store.execute("SET", "ub", "no board any more")
        told = ""
        while "Internal Server Error" not in told:
            await asyncio.sleep(0)
            told += capsys.readouterr().err
        await store.execute("DEL", "ub")
        await store.execute("ZADD", "ub", 3, "alice")
        await wait_until(lambda: written()[2:] == ["usernames\t1\t3\talice"])
        watching.cancel()
        await asyncio.wait([watching])


@pytest.mark.parametrize(
    ("history", "bars"),
    [([], ""), ([0, 0], "▁▁"), ([0, 1, 7], "▁▂█"), ([1] * 60, "█" * 20), ([0] * 57 + [5, 0, 0], "▁" * 19 + "█")],
)
def test_a_history_is_drawn_as_bars(history: list[int], bars: str) -> None:
    assert sparkline(history) == bars


def test_buckets_that_do_not_divide_evenly_lie_at_the_old_end() -> None:
    assert len(sparkline(cast("list[int]", [1] * 45))) == 15
