"""What windows and trending scores cost: posts a second, and each post's processor time, by what boards keep."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.posts import UNIFORM, ZIPF, Population, write_posts
from benchmarks.processes import ALL_TIME, kept, middle, verdict
from benchmarks.test_throughput import Run, cells, pytestmark, run  # noqa: F401 - the marks are the same

ROUNDS: Final = 5
POSTS: Final = 200_000
SPAN_S: Final = 60
"""Some more than the posts' own times are apart: none of them may be later than the clock when it comes."""

POSTS_PER_S: Final = 20_000

KEPT: Final = {
    "all time alone": ALL_TIME,
    "and 1h": kept(["1h"], ""),
    "and 5m, 1h, 24h": kept(["5m", "1h", "24h"], ""),
    "and these and trending, as by default": kept(["5m", "1h", "24h"], "1h"),
}


@pytest.mark.parametrize("population", [ZIPF, UNIFORM], ids=["zipf", "uniform"])
def test_windows(population: Population, tmp_path: Path) -> None:
    """The boards are exact whatever they keep; the figures are printed, for machines differ."""
    load = os.getloadavg()[0]
    posts = write_posts(tmp_path / "posts", population, POSTS, begin_s=int(time.time()) - SPAN_S)
    runs: dict[str, list[Run]] = {what: [] for what in KEPT}
    for number in range(ROUNDS):
        for place, (what, settings) in enumerate(KEPT.items()):
            with ExitStack() as stack:
                folder = tmp_path / f"{number}-{place}"
                runs[what].append(run(stack, folder, posts, "a Unix socket", settings=settings))
    console = Console(width=130, highlight=False)
    table = Table(
        title=f"\nWhat boards keep; {population.label}",
        title_justify="left",
        caption=f"median (least to most) of {ROUNDS} rounds of {POSTS:,} posts; {posts.names / posts.count:.2f} names "
        f"a post; load {load:.1f} on {os.cpu_count()} cores before",
        caption_justify="left",
    )
    for column in ("", "posts/s", "CPU us/post", "Redis us/post", "upstream us/post"):
        table.add_column(column, justify="right" if column else "left")
    for what, found in runs.items():
        table.add_row(what, *cells(found))
    console.print(table)
    fastest = middle([one.posts_per_s for one in found])
    console.print(f"by default: {fastest:,.0f} posts/s; {verdict(met=fastest >= POSTS_PER_S)}, {POSTS_PER_S:,} or more")
