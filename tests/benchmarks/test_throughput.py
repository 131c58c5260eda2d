"""From the stream's first byte to exact boards: posts a second, and what each post costs, beside two other designs."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.posts import UNIFORM, ZIPF, Population, Posts, write_posts
from benchmarks.processes import ALL_TIME, HERE, Child, daemon, middle, sent_at, started, upstream, valkey, verdict

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from /proc"),
]

ROUNDS: Final = 5
"""The designs take turns, so that a busy machine slows them alike."""

POSTS: Final = 600_000
NAIVE_POSTS: Final = 20_000
SETTLED_S: Final = 0.5

TIMES_NAIVE: Final = 30.0
DAEMON_US: Final = 14.0


@dataclass(frozen=True)
class Run:
    """One run of a design: posts a second from first byte to last count, processor time a post by process, memory."""

    posts_per_s: float
    us: dict[str, float]
    redis_mb: float


@dataclass(frozen=True)
class Round:
    """The three designs in turn."""

    tweetboard: Run
    naive: Run
    floor_us: float


@pytest.mark.parametrize(
    ("population", "over"),
    [(ZIPF, "a Unix socket"), (UNIFORM, "a Unix socket"), (ZIPF, "TCP")],
    ids=["zipf", "uniform", "zipf-tcp"],
)
def test_throughput(population: Population, over: str, tmp_path: Path) -> None:
    """The boards are exact at full speed; the targets are printed as met or missed, for machines differ."""
    load = os.getloadavg()[0]
    posts = write_posts(tmp_path / "posts", population, POSTS)
    few = write_posts(tmp_path / "few", population, NAIVE_POSTS)
    rounds = list(measured(tmp_path, posts, few, over))
    show(f"{population.label}; Redis over {over}", posts, rounds, load)
    posts.path.unlink()
    assert all(one.tweetboard.posts_per_s > one.naive.posts_per_s for one in rounds)


def measured(folder: Path, posts: Posts, few: Posts, over: str) -> Iterator[Round]:
    for number in range(ROUNDS):
        with ExitStack() as stack:
            fast = run(stack, folder / f"tweetboard-{number}", posts, over)
        with ExitStack() as stack:
            slow = run(stack, folder / f"naive-{number}", few, over, naive=True)
        yield Round(fast, slow, floor_us(folder, posts))


def run(
    stack: ExitStack, folder: Path, posts: Posts, over: str, *, naive: bool = False, settings: str = ALL_TIME
) -> Run:
    """Run a design over posts, with servers of its own; fails where its boards are not exact."""
    folder.mkdir()
    server = stack.enter_context(valkey(folder / "valkey"))
    redis_url = server.tcp_url if over == "TCP" else server.url
    source, url = stack.enter_context(upstream(folder, posts))
    if naive:
        design = naive_design(stack, folder, url, redis_url)
    else:
        design = [stack.enter_context(daemon(folder, url, redis_url, settings))[0]]
    children = {"design": design, "redis": [server.child], "upstream": [source]}
    assert source.line() == "connected"
    time.sleep(SETTLED_S)
    before = {name: cpu_s(group) for name, group in children.items()}
    source.tell("1")
    begin = sent_at(source)
    end = server.wait_for_last(1)
    us = {name: (cpu_s(group) - before[name]) / posts.count * 1e6 for name, group in children.items()}
    assert server.differences(posts) == []
    return Run(posts.count / (end - begin), us, server.memory_mb())


def naive_design(stack: ExitStack, folder: Path, stream_url: str, redis_url: str) -> list[Child]:
    """Start its three processes, the subscribers first."""
    children = []
    for part in ("usernames", "hashtags", stream_url):
        command = [sys.executable, str(HERE / "naive.py"), part, redis_url]
        child = stack.enter_context(started(f"naive {part}", *command, log=folder / "naive"))
        if part != stream_url:
            assert child.line() == "subscribed"
        children.append(child)
    return children


def floor_us(folder: Path, posts: Posts) -> float:
    """Measure the floor in a process of its own, whose memory holds nothing else."""
    with started("floor", sys.executable, "-m", "benchmarks.floor", str(posts.path), log=folder / "floor") as child:
        return float(child.line())


def cpu_s(children: list[Child]) -> float:
    return sum(child.cpu_s() for child in children)


def show(title: str, posts: Posts, rounds: list[Round], load: float) -> None:
    console = Console(width=130, highlight=False)
    table = Table(
        title=f"\n{title}; {len(posts.usernames):,} authors and {len(posts.hashtags):,} hashtags met",
        title_justify="left",
        caption=f"median (least to most) of {ROUNDS} rounds; {posts.mean_bytes:,.0f} bytes and "
        f"{posts.names / posts.count:.2f} names a post; load {load:.1f} on {os.cpu_count()} cores before",
        caption_justify="left",
    )
    for column in ("", "posts", "posts/s", "CPU us/post", "Redis us/post", "upstream us/post"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("tweetboard", f"{POSTS:,}", *cells([one.tweetboard for one in rounds]))
    table.add_row("naive, three processes", f"{NAIVE_POSTS:,}", *cells([one.naive for one in rounds]))
    floors = [one.floor_us for one in rounds]
    table.add_row("floor, decoding alone", "", spread([1e6 / us for us in floors], ",.0f"), spread(floors, ".2f"))
    console.print(table)
    times = [one.tweetboard.posts_per_s / one.naive.posts_per_s for one in rounds]
    costs = [one.tweetboard.us["design"] for one in rounds]
    over = [one.tweetboard.us["design"] / one.floor_us for one in rounds]
    console.print(
        f"x naive: {spread(times, '.1f')}; {verdict(met=middle(times) >= TIMES_NAIVE)}, {TIMES_NAIVE:g} or more"
    )
    console.print(
        f"daemon CPU: {middle(costs):.2f} us/post; {verdict(met=middle(costs) <= DAEMON_US)}, {DAEMON_US:g} or less"
    )
    console.print(f"daemon CPU over the floor: {spread(over, '.2f')} times")


def cells(runs: Sequence[Run]) -> list[str]:
    costs = ([one.us[name] for one in runs] for name in ("design", "redis", "upstream"))
    return [spread([one.posts_per_s for one in runs], ",.0f"), *(spread(cost, ".2f") for cost in costs)]


def spread(values: Sequence[float], how: str) -> str:
    return f"{middle(values):{how}} ({min(values):{how}} to {max(values):{how}})"
