"""From the stream's first byte to exact boards: posts a second, and what each post costs, beside two other designs."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.posts import UNIFORM, ZIPF, Population, Posts, write_posts
from benchmarks.processes import HERE, Child, daemon, middle, sent_at, started, upstream, valkey, verdict

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc"),
]

POSTS: Final = 600_000
ROUNDS: Final = 3
NAIVE_POSTS: Final = 10_000
WARM_UP_S: Final = 0.5

TIMES_NAIVE: Final = 30.0
DAEMON_US: Final = 14.0


@dataclass(frozen=True)
class Measured:
    """One run: posts a second from the first byte to the last count, and processor time a post."""

    posts_per_s: float
    us: dict[str, float]


def measure(stack: ExitStack, folder: Path, posts: Posts, design: str) -> Measured:
    """Run a design over posts, with new servers; fails where its boards are not exact."""
    folder.mkdir()
    server = stack.enter_context(valkey(folder / "valkey"))
    source, url = stack.enter_context(upstream(folder, posts))
    if design == "daemon":
        child, _ = stack.enter_context(daemon(folder, url, server.url))
        counted = {"daemon": [child]}
    else:
        counted = {"naive": naive(stack, folder, url, server.url.removeprefix("unix://"))}
    counted |= {"redis": [server.child], "upstream": [source]}
    assert source.line() == "connected"
    time.sleep(WARM_UP_S)
    before = {name: cpu_s(children) for name, children in counted.items()}
    source.tell("1")
    begin = sent_at(source)
    end = server.wait_for_last(1)
    us = {name: (cpu_s(children) - before[name]) / posts.count * 1e6 for name, children in counted.items()}
    assert server.differences(posts) == []
    return Measured(posts.count / (end - begin), us)


def naive(stack: ExitStack, folder: Path, stream_url: str, redis_path: str) -> list[Child]:
    """Start the naive design's three processes, the subscribers first."""
    children = []
    for what in ("usernames", "hashtags", stream_url):
        command = [sys.executable, str(HERE / "naive.py"), what, redis_path]
        child = stack.enter_context(started(f"naive {what}", *command, log=folder / "naive"))
        if what != stream_url:
            assert child.line() == "subscribed"
        children.append(child)
    return children


def cpu_s(children: list[Child]) -> float:
    return sum(child.cpu_s() for child in children)


def floor_us(folder: Path, posts: Posts) -> float:
    """Measure the floor in a process of its own, whose memory holds nothing else."""
    with started("floor", sys.executable, "-m", "benchmarks.floor", str(posts.path), log=folder / "floor") as child:
        return float(child.line())


@pytest.mark.parametrize("population", [ZIPF, UNIFORM], ids=["zipf", "uniform"])
def test_throughput(population: Population, tmp_path: Path) -> None:
    """The boards are exact at full speed; the targets are printed as met or missed, for machines differ."""
    posts = write_posts(tmp_path / "posts", population, POSTS)
    few = write_posts(tmp_path / "few", population, NAIVE_POSTS)
    runs = []
    for number in range(ROUNDS):
        with ExitStack() as stack:
            runs.append(measure(stack, tmp_path / str(number), posts, "daemon"))
    with ExitStack() as stack:
        slow = measure(stack, tmp_path / "naive", few, "naive")
    floor = floor_us(tmp_path, posts)
    show(population, posts, runs, slow, floor)
    posts.path.unlink()
    assert middle([run.posts_per_s for run in runs]) > slow.posts_per_s


def show(population: Population, posts: Posts, runs: list[Measured], slow: Measured, floor: float) -> None:
    distinct = f"{len(posts.usernames):,} authors and {len(posts.hashtags):,} hashtags met"
    table = Table(title=f"{population.label}: {distinct}", title_justify="left")
    for column in ("", "posts", "posts/s", "CPU us/post", "Redis us/post", "upstream us/post"):
        table.add_column(column, justify="right" if column else "left")
    rates = [run.posts_per_s for run in runs]
    costs = [[run.us[name] for run in runs] for name in ("daemon", "redis", "upstream")]
    table.add_row("tweetboard", f"{posts.count:,}", spread(rates, ",.0f"), *(spread(cost, ".2f") for cost in costs))
    naive_costs = [f"{slow.us[name]:.0f}" for name in ("naive", "redis", "upstream")]
    table.add_row("naive, three processes", f"{NAIVE_POSTS:,}", f"{slow.posts_per_s:,.0f}", *naive_costs)
    table.add_row("floor: decoding alone", "", f"{1e6 / floor:,.0f}", f"{floor:.2f}", "", "")
    times, cost = middle(rates) / slow.posts_per_s, middle(costs[0])
    console = Console(width=120)
    console.print()
    console.print(table)
    shape = f"{posts.mean_bytes:,.0f} bytes and {posts.names / posts.count:.2f} names a post; median of {ROUNDS} (least to most)"
    console.print(shape, highlight=False)
    console.print(
        f"x naive: {times:.1f} ({verdict(met=times >= TIMES_NAIVE)}: {TIMES_NAIVE:g} or more)", highlight=False
    )
    console.print(
        f"daemon CPU: {cost:.2f} us/post ({verdict(met=cost <= DAEMON_US)}: {DAEMON_US:g} or less)", highlight=False
    )
    console.print(f"daemon CPU over the floor: {cost / floor:.2f} times", highlight=False)


def spread(values: list[float], how: str) -> str:
    return f"{middle(values):{how}} ({min(values):{how}} to {max(values):{how}})"
