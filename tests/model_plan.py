"""What a run is made of: its plan, drawn from the seed, and what there is to be read upstream.

What lives here: chance before a run begins, and posts. What must not: anything that happens in a run (model_world.py).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from model_loop import Process
from model_network import Weather
from tweetboard.framing import Block
from tweetboard.posts import Post

BOARDS: Final = {"usernames": b"username_scoreboard", "hashtags": b"hashtags_scoreboard"}

Scores = dict[bytes, int]


class Plan(msgspec.Struct, frozen=True):
    """What one run is made of, drawn from its seed.

    `upstream` goes on from any position ("rewinds"), repeats what it sent with the same ids ("refills"), or does
    neither ("live"). `trouble` has the weights of what befalls daemons and Redis, `pause_s` the mean time between two
    such things, `coupling` how likely one trouble brings another: a begin is forgotten ("relapse"), something happens
    before a late command comes ("chase"). `bounds` are constants of the project, made small.
    """

    upstream: str
    daemons: int
    posts: int
    storm_s: float
    pause_s: float
    weather: Weather
    trouble: dict[str, float]
    coupling: dict[str, float]
    bounds: dict[str, float]


def plan(seed: int) -> Plan:
    """Draw a run: each kind of fault is absent, usual or frequent, so that runs differ in kind, not only in luck."""
    rng = random.Random(f"plan {seed}")

    def some(usual: float, *levels: float) -> float:
        return usual * rng.choice(levels or (0, 0, 1, 1, 3))

    weather = {
        "slow": some(4),
        "lost": some(4),
        "unanswered": some(5),
        "wandering": some(14, 0, 1, 1, 3),
        "stalled": some(1),
        "missed": some(5),
        "repeated": some(5),
        "overtaken": some(5),
    }
    trouble = {
        "power cut": some(3),
        "crash": some(3),
        "stop": some(1),
        "pause": some(2),
        "rollback": some(3),
        "outage": some(1),
        "wipe": some(1, 0, 0, 0, 0, 1),
        "cut": some(1),
        "drop": some(2),
        "none": 0.1,
    }
    bounds: dict[str, float] = {
        "MAX_BATCH_NAMES": rng.choice((2, 8, 16_384)),
        "MAX_APPLY_NAMES": rng.choice((4, 16, 16_384)),
        "CATCH_UP_BATCHES": rng.choice((1, 3, 16)),
        "MAX_HEARD_BYTES": rng.choice((300, 16 << 20, 16 << 20)),
        "MAX_UNAPPLIED_BYTES": rng.choice((200, 1000, 8 << 20)),
        "LEADERS": 5,
    }
    if rng.random() < 0.5:
        bounds |= {"LIFE_MS": 600, "RENEW_S": 0.2}  # others take over sooner, and slow ones lose it
    if rng.random() < 0.4:
        bounds |= rng.choice(({"REMEMBERED_S": rng.choice((0.0, 0.5))}, {"MAX_REMEMBERED_BYTES": rng.choice((1, 400))}))
    return Plan(
        upstream=rng.choice(("rewinds", "rewinds", "rewinds", "refills", "live")),
        daemons=rng.choice((1, 2)),
        posts=rng.randint(40, 120),
        storm_s=rng.uniform(3, 10),
        pause_s=rng.choice((0.2, 0.5, 1.5)),
        weather=weather,
        trouble=trouble,
        coupling={"relapse": rng.choice((0, 0.1, 0.5)), "chase": rng.choice((0, 0.3, 1))},
        bounds=bounds,
    )


class Reading(msgspec.Struct):
    """One session's reading of the source: what was handed over, and whether it is still open."""

    process: Process
    posts: list[int] = []
    is_open: bool = True


class Upstream:
    """What there is to be read, and when it came to be."""

    def __init__(self, plan: Plan, rng: random.Random) -> None:
        self.kind = plan.upstream
        self.posts: list[Post] = []
        self.times_s: list[float] = []
        self.rng = rng
        gaps_s = [rng.choice((0.0, rng.expovariate(20), rng.expovariate(1))) for _ in range(plan.posts)]
        now_s = 1000.0
        for number, gap_s in enumerate(gaps_s):
            now_s += gap_s * plan.storm_s / sum(gaps_s)
            tags = {f"Tag{rng.randrange(5)}" for _ in range(rng.randrange(3))}
            own = () if self.kind == "rewinds" else (f"p{number}",)
            post_id = str(number) if self.kind == "refills" else ""
            self.posts.append(Post(post_id, 0, f"User{rng.randrange(6)}", (*sorted(tags), *own)))
            self.times_s.append(now_s)
        self.totals = [empty()]
        for post in self.posts:
            self.totals.append(added(self.totals[-1], [post]))

    def start(self, position: str, now_s: float) -> int:
        """Say with which post a new connection begins."""
        match self.kind:
            case "rewinds":
                return int(position or 0)
            case "refills":
                return 0
            case _:
                return self.reached(now_s)

    def reached(self, now_s: float) -> int:
        """Count the posts that there are by now."""
        return sum(time_s <= now_s for time_s in self.times_s)

    async def blocks(self, reading: Reading, position: str) -> AsyncGenerator[tuple[Block, str], None]:
        """Yield posts as they come, in blocks of any size; at times the connection ends, and another one follows."""
        loop = asyncio.get_running_loop()
        at = self.start(position, loop.time())
        block = self.rng.choice((1, 3, 10))
        try:
            while at < len(self.posts):
                wait_s = self.times_s[at] - loop.time()
                if wait_s >= 0:
                    await asyncio.sleep(wait_s + self.rng.uniform(0.0001, 0.01))
                if self.rng.random() < 0.02:
                    await asyncio.sleep(self.rng.uniform(0, 1))
                    at = self.start(str(at), loop.time())
                    continue
                if self.rng.random() < 0.3:
                    await asyncio.sleep(self.rng.uniform(0, 0.05))
                end = min(at + self.rng.randint(1, block), max(self.reached(loop.time()), at + 1))
                reading.posts.extend(range(at, end))
                lines = b" ".join(b"%d" % number for number in range(at, end))
                at = end
                yield Block(lines=lines), str(at) if self.kind == "rewinds" else ""
            await asyncio.Event().wait()
        finally:
            reading.is_open = False

    def decode(self, block: Block) -> list[Post]:
        """Turn a block's records into posts."""
        return [self.posts[int(number)] for number in block.lines.split()]


def empty() -> dict[str, Scores]:
    """Make boards without a name."""
    return {name: {} for name in BOARDS}


def added(before: dict[str, Scores], posts: Sequence[Post]) -> dict[str, Scores]:
    """Count posts onto boards, as a person would."""
    after = {name: dict(scores) for name, scores in before.items()}
    for post in posts:
        names = {"usernames": [post.author], "hashtags": [tag.lower() for tag in post.hashtags]}
        for board, board_names in names.items():
            for name in board_names:
                after[board][name.encode()] = after[board].get(name.encode(), 0) + 1
    return after
