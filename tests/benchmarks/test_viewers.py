"""Thousands who watch the page beside a busy stream, and how soon a lone viewer sees a post."""

import http.client
import json
import os
import resource
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.posts import LAST_AUTHOR, ZIPF, write_posts
from benchmarks.processes import HERE, daemon, middle, sent_at, started, upstream, valkey, verdict

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and processor time are read from /proc"),
]

VIEWERS: Final = 10_000
POSTS_PER_S: Final = 2_700
"""Asked for, of which the simulator sends some three quarters."""
SECONDS: Final = 20.0
LATE_MS: Final = 1_000.0
VIEWER_KB: Final = 20.0

TIMES: Final = 100
PAUSE_S: Final = 0.4
LONE_MS: Final = 300.0


def test_viewers(tmp_path: Path) -> None:
    """All hear of every change in time; what they cost the stream and the memory is shown."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < VIEWERS + 1_000:
        pytest.skip(f"so many files may not be open: ulimit -n {VIEWERS + 1_000}")
    simulated = [sys.executable, "-m", "tweetboard", "simulate", "--rate", str(POSTS_PER_S), "--seed", "1"]
    with ExitStack() as stack:
        server = stack.enter_context(valkey(tmp_path / "valkey"))
        source = stack.enter_context(started("simulate", *simulated, log=tmp_path / "simulate"))
        url = source.line().split()[-1]
        child, address = stack.enter_context(daemon(tmp_path, url, server.url))
        time.sleep(3)
        alone, alone_mb = rate_and_cost(address, child.cpu_s), child.resident_mb()
        load = [sys.executable, str(HERE / "viewers_load.py"), f"{address}/events", str(VIEWERS)]
        viewers = stack.enter_context(started("viewers", *load, log=tmp_path / "viewers"))
        assert viewers.line(60) == "connected"
        viewers.tell(str(SECONDS))
        beside, beside_mb = rate_and_cost(address, child.cpu_s), child.resident_mb()
        told = json.loads(viewers.line(SECONDS + 30))
    kb = (beside_mb - alone_mb) * 1024 / VIEWERS
    table = Table(title=f"\n{VIEWERS:,} viewers beside a stream", title_justify="left")
    for column in ("", "posts/s", "daemon CPU, %", "resident, MB"):
        table.add_column(column, justify="right" if column else "left")
    for what, (posts_per_s, cpu), mb in (("alone", alone, alone_mb), ("watched", beside, beside_mb)):
        table.add_row(what, f"{posts_per_s:,.0f}", f"{cpu * 100:.0f}", f"{mb:.0f}")
    console = Console(width=110, highlight=False)
    console.print(table)
    console.print(
        f"{told['events'] / SECONDS / VIEWERS:.2f} events a second each, {told['least']} at least in {SECONDS:.0f} s; "
        f"from reading the board to the viewer: median {told['median_ms']:.0f} ms, p99 {told['p99_ms']:.0f} ms; "
        f"{verdict(met=told['p99_ms'] <= LATE_MS)}, {LATE_MS:.0f} or less"
    )
    console.print(f"{kb:.1f} KB a viewer; {verdict(met=kb <= VIEWER_KB)}, {VIEWER_KB:.0f} or less")
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    assert told["least"] > 0


def rate_and_cost(address: str, cpu_s: object) -> tuple[float, float]:
    """Measure over some seconds how many posts come a second, and which part of a core the daemon takes."""
    assert callable(cpu_s)
    begin_s, begin, begin_cpu_s = time.monotonic(), posts(address), cpu_s()
    time.sleep(SECONDS / 2)
    took_s = time.monotonic() - begin_s
    return (posts(address) - begin) / took_s, (cpu_s() - begin_cpu_s) / took_s


def posts(address: str) -> float:
    with urlopen(f"{address}/metrics", timeout=10) as answer:  # noqa: S310 - an address of ours
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("tweetboard_posts_total"))


def test_a_lone_viewer(tmp_path: Path) -> None:
    """From a post's bytes on the wire to the event that shows it."""
    written = write_posts(tmp_path / "posts", ZIPF, 1)
    delays_ms: list[float] = []
    with (
        valkey(tmp_path / "valkey") as server,
        upstream(tmp_path, written) as (source, url),
        daemon(tmp_path, url, server.url) as (_, address),
    ):
        assert source.line() == "connected"
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
        connection.request("GET", "/events/usernames")
        events = connection.getresponse()
        for times in range(1, TIMES + 1):
            time.sleep(PAUSE_S)
            source.tell("1")
            score = 0
            while score != times:
                line = events.readline()
                rows = json.loads(line[6:])["results"] if line.startswith(b'data: {"board"') else []
                score = rows[0]["score"] if rows and rows[0]["name"] == LAST_AUTHOR else 0
            delays_ms.append((time.monotonic() - sent_at(source)) * 1e3)
        connection.close()
    delays_ms.sort()
    p99 = delays_ms[len(delays_ms) * 99 // 100]
    Console(width=120, highlight=False).print(
        f"\na lone post to the event at a lone viewer, {TIMES} times: median {middle(delays_ms):.1f} ms, p99 {p99:.1f} "
        f"ms; {verdict(met=p99 <= LONE_MS)}, {LONE_MS:.0f} or less"
    )
