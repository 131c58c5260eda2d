"""From a post's bytes on the wire to a GET that shows it: of a lone one, and of one among many."""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from benchmarks.posts import LAST_AUTHOR, ZIPF, Posts, write_posts
from benchmarks.processes import Child, Server, daemon, middle, sent_at, upstream, valkey, verdict

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="two processes' moments are compared, on Linux's one clock"),
]

TIMES: Final = 200
PAUSE_S: Final = 0.05
SHOWN_TIMEOUT_S: Final = 5.0
MEDIAN_MS: Final = 5.0

SAMPLE: Final = 20_000
POSTS_PER_S: Final = 20_000
SECONDS: Final = 30.0
BETWEEN_S: Final = 0.1
POLL_S: Final = 0.0005
P99_MS: Final = 25.0


def test_latency_of_a_lone_post(tmp_path: Path) -> None:
    """A post that comes alone waits for no timer and no other post."""
    posts = write_posts(tmp_path / "posts", ZIPF, 1)
    delays_ms: list[float] = []
    with connected(tmp_path, posts) as (server, source, connection):
        for times in range(1, TIMES + 1):
            time.sleep(PAUSE_S)
            source.tell("1")
            shown = wait_until_shown(connection, times)
            delays_ms.append((shown - sent_at(source)) * 1e3)
        assert server.differences(posts, times=TIMES) == []
    show(f"a lone post, sent {TIMES} times", delays_ms, median_ms=MEDIAN_MS)


def test_latency_among_many(tmp_path: Path) -> None:
    """One in 20,000 posts a second waits for those before it, and for no more."""
    delays_ms: list[float] = []
    with connected(tmp_path, write_posts(tmp_path / "posts", ZIPF, SAMPLE)) as (_, source, connection):
        source.tell(f"{POSTS_PER_S} {SECONDS} {BETWEEN_S}")
        for times in range(1, int(SECONDS / BETWEEN_S)):
            sent = sent_at(source)
            delays_ms.append((wait_until_shown(connection, times) - sent) * 1e3)
    show(f"one among {POSTS_PER_S:,} posts a second, {len(delays_ms)} times", delays_ms, p99_ms=P99_MS)


@contextmanager
def connected(folder: Path, posts: Posts) -> Iterator[tuple[Server, Child, http.client.HTTPConnection]]:
    """Run a server, a stream of these posts and a daemon on it; yields a connection to the last."""
    with (
        valkey(folder / "valkey") as server,
        upstream(folder, posts) as (source, url),
        daemon(folder, url, server.url) as (_, address),
    ):
        assert source.line() == "connected"
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=SHOWN_TIMEOUT_S)
        try:
            yield server, source, connection
        finally:
            connection.close()


def wait_until_shown(connection: http.client.HTTPConnection, score: int) -> float:
    """GET the name as fast as it answers until it has the score; returns the moment."""
    deadline = time.monotonic() + SHOWN_TIMEOUT_S
    while time.monotonic() < deadline:
        connection.request("GET", f"/usernames/{LAST_AUTHOR}")
        if json.loads(connection.getresponse().read()).get("score", 0) >= score:
            return time.monotonic()
        time.sleep(POLL_S)
    raise TimeoutError(f"{LAST_AUTHOR} did not reach {score}")


def show(what: str, delays_ms: list[float], *, median_ms: float = 0.0, p99_ms: float = 0.0) -> None:
    delays_ms.sort()
    median, p99 = middle(delays_ms), delays_ms[len(delays_ms) * 99 // 100]
    told = f"\n{what}: median {median:.2f} ms, p99 {p99:.2f}, {delays_ms[0]:.2f} to {delays_ms[-1]:.2f} in all"
    told += f"; median: {verdict(met=median <= median_ms)}, {median_ms:g} or less" if median_ms else ""
    told += f"; p99: {verdict(met=p99 <= p99_ms)}, {p99_ms:g} or less" if p99_ms else ""
    Console(width=120).print(told, highlight=False)
