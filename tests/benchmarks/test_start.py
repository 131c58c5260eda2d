"""How soon a daemon answers that was just started, and what it takes while nothing happens."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest
from rich.console import Console

from benchmarks.posts import ZIPF, write_posts
from benchmarks.processes import middle, started, upstream, verdict

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from /proc"),
]

TIMES: Final = 7
START_S: Final = 1.5
IDLE_S: Final = 60.0
IDLE_PERCENT: Final = 0.5


def test_start_and_idling(tmp_path: Path) -> None:
    """From the command to the first answer, the embedded server included; then a stream that only keeps alive."""
    posts = write_posts(tmp_path / "posts", ZIPF, 1)
    starts_s, idle = list[float](), 0.0
    for number in range(TIMES):
        with ExitStack() as stack:
            _, url = stack.enter_context(upstream(tmp_path, posts))
            command = [sys.executable, "-m", "tweetboard", "--stream", url, "--port", "0"]
            command += ["--data-dir", str(tmp_path / f"data-{number}")]
            begin_s = time.monotonic()
            child = stack.enter_context(started("daemon", *command, log=tmp_path / "daemon"))
            address = child.line().removeprefix("boards at ").partition("/, ")[0]
            with urlopen(f"{address}/usernames", timeout=10) as answer:  # noqa: S310 - an address of ours
                assert answer.status == 200
            starts_s.append(time.monotonic() - begin_s)
            if number == TIMES - 1:
                time.sleep(5)
                before_s = child.cpu_s()
                time.sleep(IDLE_S)
                idle = (child.cpu_s() - before_s) / IDLE_S * 100
    start_s = middle(starts_s)
    console = Console(width=120, highlight=False)
    console.print(
        f"\nfrom the command to the first answer: {start_s:.2f} s ({min(starts_s):.2f} to {max(starts_s):.2f}); "
        f"{verdict(met=start_s <= START_S)}, {START_S:g} or less"
    )
    console.print(f"idle: {idle:.2f} % of a core; {verdict(met=idle <= IDLE_PERCENT)}, {IDLE_PERCENT:g} or less")
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
