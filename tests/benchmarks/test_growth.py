"""How posts a second fall as boards grow, in names, in number and in windows; one picture for the README."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.plot import Panel, svg
from benchmarks.posts import LAST_AUTHOR, UNIFORM, ZIPF, Population, Posts, write_posts
from benchmarks.processes import ALL_TIME, BOARDS, Server, daemon, middle, sent_at, upstream, valkey
from benchmarks.test_throughput import SETTLED_S, pytestmark  # noqa: F401 - the marks are the same

ROUNDS: Final = 3
POSTS: Final = 150_000
SPAN_S: Final = 60
PICTURE: Final = Path(__file__).parents[2] / "docs" / "growth.svg"

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
NUMBERS: Final = (2, 5, 10, 20)
WINDOWS: Final = ("5m", "15m", "1h", "6h", "24h")
FILL_NAMES: Final = 20_000

_FILL: Final = """
local leads = ARGV[3] == 'zset' or ARGV[1] == '0' -- of leaders the first step's
for author = ARGV[1], ARGV[2] do
  local name = 'town' .. author % 97 .. '_' .. author
  if leads then redis.call('ZADD', KEYS[1], 1, name) else redis.call('HSET', KEYS[1] .. ':rest', name, 1) end
end
if ARGV[3] ~= 'zset' then redis.call('SET', KEYS[1] .. ':floor', 1) end
"""


@dataclass(frozen=True)
class Case:
    """What is measured: who posts, what is on the board of usernames before, and the settings."""

    label: str
    population: Population
    names: int = 0
    settings: str = ALL_TIME
    store: str = "zset"


def test_growth(tmp_path: Path) -> None:
    """The last post counts on every board; the figures are printed and drawn, for machines differ."""
    sizes = [Case(f"1e{len(str(names)) - 1}", replace(UNIFORM, authors=names), names) for names in SIZES]
    numbers = [Case(str(number), ZIPF, settings=ALL_TIME + more_boards(number - len(BOARDS))) for number in NUMBERS]
    windows = [Case(str(number), ZIPF, settings=with_windows(number)) for number in range(len(WINDOWS) + 1)]
    panels = [
        Panel("names on the board", "names, uniform", [one.label for one in sizes], measured(tmp_path / "s", sizes)),
        Panel("number of boards", "boards", [one.label for one in numbers], measured(tmp_path / "n", numbers)),
        Panel("windows of each board", "windows", [one.label for one in windows], measured(tmp_path / "w", windows)),
    ]
    console = Console(width=120, highlight=False)
    for panel in panels:
        told = ", ".join(f"{x}: {y:,.0f}" for x, y in zip(panel.x, panel.y, strict=True))
        console.print(f"posts/s by {panel.title}: {told}")
    console.print(
        f"medians of {ROUNDS} rounds of {POSTS:,} posts; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    PICTURE.write_text(svg(panels, "posts/s"))


def more_boards(number: int) -> str:
    """Write the settings of further boards of authors."""
    return "".join(f"[boards.more-{at}]\nfield = 'author'\nwindows = []\ntrending = ''\n" for at in range(number))


def with_windows(number: int) -> str:
    names = ", ".join(f"'{name}'" for name in WINDOWS[:number])
    return "".join(f"[boards.{name}]\nwindows = [{names}]\ntrending = ''\n" for name in BOARDS)


def measured(folder: Path, cases: list[Case]) -> list[float]:
    """Measure each case in turn, and again, so that a busy moment slows none of them alone."""
    folder.mkdir()
    rates: list[list[float]] = [[] for _ in cases]
    for number in range(ROUNDS):
        for at, case in enumerate(cases):
            path = folder / f"{number}-{at}"
            path.mkdir()
            posts = write_posts(path / "posts", case.population, POSTS, begin_s=int(time.time()) - SPAN_S)
            rates[at].append(rate(path, case, posts))
            posts.path.unlink()
    return [middle(found) for found in rates]


def rate(folder: Path, case: Case, posts: Posts) -> float:
    with ExitStack() as stack:
        server = stack.enter_context(valkey(folder / "valkey"))
        fill(server, case.names, case.store)
        source, url = stack.enter_context(upstream(folder, posts))
        stack.enter_context(daemon(folder, url, server.url, case.settings))
        assert source.line() == "connected"
        time.sleep(SETTLED_S)
        source.tell("1")
        begin = sent_at(source)
        end = server.wait_for_last(1)
        for key in server.client.keys("more-*_scoreboard"):
            while server.client.zscore(key, LAST_AUTHOR) != 1:
                assert time.monotonic() - end < SPAN_S, key
            end = time.monotonic()
        return posts.count / (end - begin)


def fill(server: Server, names: int, store: str) -> None:
    """Put so many names on the board of usernames, as it keeps them in such a store."""
    script = server.client.register_script(_FILL)
    for begin in range(0, names, FILL_NAMES):
        script(keys=[BOARDS["usernames"]], args=[begin, min(begin + FILL_NAMES, names) - 1, store])
