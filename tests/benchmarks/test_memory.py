"""How much memory the daemon holds: flat however much has passed, and bounded while Redis stands still."""

import sys
import time
import urllib.request
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Final

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.posts import ZIPF, write_posts
from benchmarks.processes import daemon, sent_at, upstream, valkey

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

POSTS: Final = 200_000
PASSES: Final = 5
"""So often the same posts: 1,000,000 in all; and as often again while Redis stands still, more than may be held."""

LIMIT_MB: Final = 150.0
GROWTH_MB: Final = 25.0
"""Between the first 200,000 posts and 1,000,000. What the last seconds brought is remembered in case Redis goes back; a
leak of 32 bytes a post would pass it."""

STILL_S: Final = 5.0
"""So long without a byte read, longer than a command to Redis may take, and the stream counts as stopped."""

STILL_TIMEOUT_S: Final = 60.0


def test_memory(tmp_path: Path) -> None:
    """A million posts leave nothing behind; a Redis that stands still stops the stream before memory grows."""
    posts = write_posts(tmp_path / "posts", ZIPF, POSTS)
    seen: dict[str, float] = {}
    with (
        valkey(tmp_path / "valkey") as server,
        upstream(tmp_path, posts) as (source, url),
        daemon(tmp_path, url, server.url) as (child, address),
    ):
        assert source.line() == "connected"
        seen["before the first post"] = child.resident_mb()
        for done in range(1, PASSES + 1):
            source.tell("1")
            sent_at(source)
            server.wait_for_last(done)
            seen[f"after {done * POSTS:,} posts"] = child.resident_mb()
        server.child.signal(SIGSTOP)
        source.tell(str(PASSES))
        received = wait_until_still(address)
        seen["stopped by backpressure"] = child.resident_mb()
        server.child.signal(SIGCONT)
        sent_at(source)
        server.wait_for_last(2 * PASSES)
        seen["after Redis went on"] = child.resident_mb()
        seen["at most, at any time"] = child.resident_mb(peak=True)
        assert server.differences(posts, times=2 * PASSES) == []
    held = received / posts.mean_bytes - PASSES * POSTS
    show(seen, held)
    posts.path.unlink()
    assert held < (PASSES - 1) * POSTS, "the stream was not stopped"
    assert seen[f"after {PASSES * POSTS:,} posts"] - seen[f"after {POSTS:,} posts"] < GROWTH_MB
    assert max(seen.values()) < LIMIT_MB


def wait_until_still(address: str) -> float:
    """Wait until the daemon reads no more; returns the bytes read in all."""
    deadline = time.monotonic() + STILL_TIMEOUT_S
    received, since = 0.0, time.monotonic()
    while time.monotonic() < since + STILL_S:
        assert time.monotonic() < deadline, "the stream was not stopped"
        now = metric(address, "tweetboard_stream_received_bytes_total")
        if now != received:
            received, since = now, time.monotonic()
        time.sleep(0.05)
    return received


def metric(address: str, name: str) -> float:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as response:  # noqa: S310 - the daemon's own
        lines = response.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def show(seen: dict[str, float], held: float) -> None:
    table = Table(title="The daemon's resident set", title_justify="left")
    table.add_column("")
    table.add_column("MB", justify="right")
    for moment, megabytes in seen.items():
        table.add_row(moment, f"{megabytes:.1f}")
    console = Console(width=120)
    console.print()
    console.print(table)
    console.print(f"{held:,.0f} posts were read ahead of the boards when the stream stopped", highlight=False)
