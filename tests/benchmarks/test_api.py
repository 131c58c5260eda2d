"""The boards over HTTP: answers a second beside what others would write, and what a board of a million names costs."""

import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.processes import ALL_TIME, HERE, Child, Server, daemon, middle, started, valkey, verdict
from benchmarks.test_throughput import spread
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.store import open_store

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from /proc"),
]

ROUNDS: Final = 5
"""The designs take turns, so that a busy machine slows them alike."""

SECONDS: Final = 2.0
NAMES: Final = 1_000_000
READS: Final = 300

TIMES_FLASK: Final = 10.0
TIMES_BARE: Final = 1.3
READ_MS: Final = 5.0


def test_api(tmp_path: Path) -> None:
    """Each design's answers a second on the same board; the targets are printed as met or missed."""
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        server = stack.enter_context(valkey(tmp_path / "valkey"))
        fill(server, 100_000)
        cached, uncached = "/usernames", "/usernames?offset={}"
        ours = stack.enter_context(daemon(tmp_path, "http://127.0.0.1:9/", server.url, ALL_TIME))[1]
        flask = stack.enter_context(serving(tmp_path, "flask", server.url))
        bare = stack.enter_context(serving(tmp_path, "bare", server.url))
        clients = {
            "tweetboard, the same page": stack.enter_context(asking(tmp_path, ours + cached)),
            "tweetboard, another page each time": stack.enter_context(asking(tmp_path, ours + uncached)),
            "aiohttp over a bare ZREVRANGE": stack.enter_context(asking(tmp_path, bare + uncached)),
            "Flask over redis-py": stack.enter_context(asking(tmp_path, flask + cached)),
        }
        rates: dict[str, list[float]] = {what: [] for what in clients}
        for _ in range(ROUNDS):
            for what, client in clients.items():
                client.tell(str(SECONDS))
                rates[what].append(float(client.line(SECONDS + 10)))
    console = Console(width=110, highlight=False)
    table = Table(
        title="\nThe boards over HTTP, 16 connections",
        title_justify="left",
        caption=f"median (least to most) of {ROUNDS} rounds; load {load:.1f} on {os.cpu_count()} cores before",
        caption_justify="left",
    )
    table.add_column("")
    table.add_column("answers/s", justify="right")
    for what, found in rates.items():
        table.add_row(what, spread(found, ",.0f"))
    console.print(table)
    same, other, bare_rates, flask_rates = rates.values()
    times = [one / naive for one, naive in zip(same, flask_rates, strict=True)]
    over = [bare_one / one for one, bare_one in zip(other, bare_rates, strict=True)]
    console.print(
        f"x Flask: {spread(times, '.1f')}; {verdict(met=middle(times) >= TIMES_FLASK)}, {TIMES_FLASK:g} or more"
    )
    told = verdict(met=middle(over) <= TIMES_BARE)
    console.print(f"uncached over a bare ZREVRANGE: {spread(over, '.2f')} times; {told}, {TIMES_BARE:g} or less")


async def test_a_board_of_a_million_names(tmp_path: Path) -> None:
    """The top, one name and its neighbours, each read alone."""
    with valkey(tmp_path / "valkey") as server:
        fill(server, NAMES)
        async with open_store(server.url, connections=1) as store:
            board = Scoreboard(store, "usernames", "username_scoreboard")
            reads: dict[str, Callable[[int], Awaitable[object]]] = {
                "top ten": lambda _: board.top(),
                "ten in the middle": lambda number: board.top(offset=NAMES // 2 + number),
                "one name": lambda number: board.near(f"user {number * 997 % NAMES}"),
                "one name and 100 on each side": lambda number: board.near(f"user {number * 997 % NAMES}", around=100),
            }
            console = Console(width=110, highlight=False)
            for what, read in reads.items():
                took = []
                for number in range(READS):
                    begin = time.perf_counter()
                    await read(number)
                    took.append((time.perf_counter() - begin) * 1000)
                took.sort()
                p99 = took[int(len(took) * 0.99)]
                told = f"{verdict(met=p99 <= READ_MS)}, {READ_MS:g} or less"
                console.print(f"{NAMES:,} names, {what}: median {middle(took):.2f} ms, p99 {p99:.2f} ms; {told}")


def fill(server: Server, names: int) -> None:
    """Write a board of so many names, many of them tied."""
    for first in range(0, names, 10_000):
        scores = {f"user {number}": 1 + number * 7919 % (names // 3) for number in range(first, first + 10_000)}
        server.client.zadd("username_scoreboard", scores)


@contextmanager
def serving(folder: Path, design: str, redis_url: str) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.naive_api", design, redis_url]
    with started(design, *command, log=folder / design) as child:
        yield child.line()


@contextmanager
def asking(folder: Path, url: str) -> Iterator[Child]:
    with started("load", sys.executable, str(HERE / "http_load.py"), url, log=folder / "load") as child:
        assert child.line() == "connected"
        yield child
