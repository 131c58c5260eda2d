"""A fall in speed is noticed before it lands: what the daemon takes for a post, over what decoding it takes.

Both are measured in the same minute on the same machine, so that only a change of the code can change their ratio.
"""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from benchmarks.posts import ZIPF, write_posts
from benchmarks.processes import middle
from benchmarks.test_throughput import floor_us, run

pytestmark = [
    pytest.mark.guard,
    pytest.mark.skipif(sys.platform != "linux", reason="processor time is read from /proc"),
]

POSTS: Final = 60_000
ROUNDS: Final = 3

OVER_FLOOR: Final = 4.9
"""As measured on a quiet machine, six times: 4.6 to 5.7."""

WORSE: Final = 1 / 0.6
"""A fall of 40 % in posts for the same processor time."""


def test_what_a_post_costs_over_decoding_it(tmp_path: Path) -> None:
    posts = write_posts(tmp_path / "posts", ZIPF, POSTS)
    ratios = []
    for number in range(ROUNDS):
        with ExitStack() as stack:
            cost_us = run(stack, tmp_path / str(number), posts, "a Unix socket").us["design"]
        ratios.append(cost_us / floor_us(tmp_path, posts))
    ratio = middle(ratios)
    Console(width=120, highlight=False).print(f"\na post costs {ratio:.1f} times what decoding it does")
    assert ratio <= OVER_FLOOR * WORSE, [round(one, 1) for one in ratios]
