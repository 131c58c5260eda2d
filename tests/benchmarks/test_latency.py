"""From a lone post's bytes on the wire to a GET that shows it."""

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from benchmarks.posts import LAST_AUTHOR, ZIPF, write_posts
from benchmarks.processes import daemon, middle, sent_at, upstream, valkey, verdict

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="two processes' moments are compared, on Linux's one clock"),
]

TIMES: Final = 200
PAUSE_S: Final = 0.05
SHOWN_TIMEOUT_S: Final = 5.0
MEDIAN_MS: Final = 10.0


def test_latency_of_a_lone_post(tmp_path: Path) -> None:
    """A post that comes alone waits for no timer and no other post."""
    posts = write_posts(tmp_path / "posts", ZIPF, 1)
    delays_ms: list[float] = []
    with (
        valkey(tmp_path / "valkey") as server,
        upstream(tmp_path, posts) as (source, url),
        daemon(tmp_path, url, server.url) as (_, address),
    ):
        assert source.line() == "connected"
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=SHOWN_TIMEOUT_S)
        try:
            for times in range(1, TIMES + 1):
                time.sleep(PAUSE_S)
                source.tell("1")
                shown = wait_until_shown(connection, times)
                delays_ms.append((shown - sent_at(source)) * 1e3)
        finally:
            connection.close()
        assert server.differences(posts, times=TIMES) == []
    show(sorted(delays_ms))


def wait_until_shown(connection: http.client.HTTPConnection, score: int) -> float:
    """GET the board as fast as it answers until its first row has the score; returns the moment."""
    deadline = time.monotonic() + SHOWN_TIMEOUT_S
    while time.monotonic() < deadline:
        connection.request("GET", "/usernames")
        rows = json.loads(connection.getresponse().read())["results"]
        if rows and (rows[0]["name"], rows[0]["score"]) == (LAST_AUTHOR, score):
            return time.monotonic()
    raise TimeoutError(f"{LAST_AUTHOR} did not reach {score}")


def show(delays_ms: list[float]) -> None:
    median, p99 = middle(delays_ms), delays_ms[len(delays_ms) * 99 // 100]
    met = verdict(met=median <= MEDIAN_MS)
    Console(width=120).print(
        f"\na lone post, sent {TIMES} times: median {median:.2f} ms ({met}: {MEDIAN_MS:g} or less), "
        f"p99 {p99:.2f} ms, {delays_ms[0]:.2f} to {delays_ms[-1]:.2f} ms in all",
        highlight=False,
    )
