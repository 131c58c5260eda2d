"""What it costs where scores are kept: posts a second, each post's processor time, and Redis's memory, by `store`."""

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.posts import UNIFORM, ZIPF, Population, write_posts
from benchmarks.processes import kept, middle
from benchmarks.test_growth import Case, measured
from benchmarks.test_throughput import ROUNDS, Run, cells, pytestmark, run, spread  # noqa: F401 - the marks are
from tweetboard.settings import STORES

POSTS: Final = 300_000
SPAN_S: Final = 90
"""Some more than the posts' own times are apart: none of them may be later than the clock when it comes."""

WINDOWS: Final = {"all time alone": ([], ""), "as by default": (["5m", "1h", "24h"], "1h")}
NAMES: Final = 10_000_000


@pytest.mark.parametrize("population", [ZIPF, UNIFORM], ids=["zipf", "uniform"])
@pytest.mark.parametrize("what", WINDOWS)
def test_stores(population: Population, what: str, tmp_path: Path) -> None:
    """The boards are exact in either; the figures are printed, for machines differ."""
    load = os.getloadavg()[0]
    posts = write_posts(tmp_path / "posts", population, POSTS, begin_s=int(time.time()) - SPAN_S)
    runs: dict[str, list[Run]] = {store: [] for store in STORES}
    for number in range(ROUNDS):
        for store, found in runs.items():
            settings = kept(*WINDOWS[what], store)
            with ExitStack() as stack:
                found.append(run(stack, tmp_path / f"{number}-{store}", posts, "a Unix socket", settings=settings))
    console = Console(width=130, highlight=False)
    names = len(posts.usernames) + len(posts.hashtags)
    table = Table(
        title=f"\n{what}; {population.label}",
        title_justify="left",
        caption=f"median (least to most) of {ROUNDS} rounds of {POSTS:,} posts; {names:,} names on both boards; "
        f"load {load:.1f} on {os.cpu_count()} cores before",
        caption_justify="left",
    )
    for column in ("store", "posts/s", "CPU us/post", "Redis us/post", "upstream us/post", "Redis MB"):
        table.add_column(column, justify="left" if column == "store" else "right")
    for store, found in runs.items():
        table.add_row(store, *cells(found), spread([one.redis_mb for one in found], ",.0f"))
    console.print(table)
    zset, leaders = (middle([one.us["redis"] for one in runs[store]]) for store in STORES)
    console.print(f"Redis, leaders to zset: {leaders / zset:.2f}")


def test_a_very_large_board(tmp_path: Path) -> None:
    """The last post counts in either; the figures are printed."""
    everybody = replace(UNIFORM, authors=NAMES)
    cases = [Case(store, everybody, NAMES, kept([], "", store), store) for store in STORES]
    console = Console(width=130, highlight=False)
    for case, rate in zip(cases, measured(tmp_path / "large", cases), strict=True):
        console.print(f"posts/s on a board of {NAMES:,} names, {case.label}: {rate:,.0f}")
