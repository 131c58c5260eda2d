"""What it costs where scores are kept: posts a second, each post's processor time, and Redis's memory, by `store`."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.posts import UNIFORM, ZIPF, Population, write_posts
from benchmarks.processes import kept, middle
from benchmarks.test_throughput import POSTS, ROUNDS, Run, cells, pytestmark, run, spread  # noqa: F401 - the marks are
from tweetboard.settings import STORES

WINDOWS: Final = {"all time alone": ([], ""), "as by default": (["5m", "1h", "24h"], "1h")}


@pytest.mark.parametrize("population", [ZIPF, UNIFORM], ids=["zipf", "uniform"])
@pytest.mark.parametrize("what", WINDOWS)
def test_stores(population: Population, what: str, tmp_path: Path) -> None:
    """The boards are exact in either; the figures are printed, for machines differ."""
    load = os.getloadavg()[0]
    posts = write_posts(tmp_path / "posts", population, POSTS)
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
