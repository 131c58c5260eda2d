"""Boards over HTTP that a test counts onto, for whoever watches them."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from tweetboard.api import About, Api, Part
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import Kept, window
from tweetboard.feed import Condition
from tweetboard.formats.hashtags import fold
from tweetboard.lease import Lease
from tweetboard.serving import listening
from tweetboard.store import Store

KEPT = Kept((window("5m"), window("1h")), 3600)


class Wall:
    """Boards over HTTP that a test counts onto, and of whose stream it says how it does."""

    def __init__(self, boards: Mapping[str, Scoreboard], lease: Lease, *, demo: bool = False) -> None:
        self.boards = boards
        self._lease = lease
        self.parts = {"redis": Part(ok=True, detail="answers")}
        self.streams = {"town": Condition("live", datetime.now(UTC))}
        self.requests = Counter[tuple[str, str]]()
        about = About(readiness=lambda: self.parts, streams=lambda: self.streams)
        self.api = Api(boards, about, requests=self.requests, demo=demo)
        self.address = ""

    async def count(self, board: str, scores: Mapping[str, int]) -> None:
        """Add to scores, as of now."""
        assert await self._lease.hold()
        for name, score in scores.items():
            await self.boards[board].add_bare("lease", "me", [name] * score)


@asynccontextmanager
async def wall(
    store: Store, boards: Mapping[str, Kept] | None = None, *, demo: bool = False, port: int = 0
) -> AsyncIterator[Wall]:
    """Serve boards by their names; one that is called hashtags is one."""
    kept = {"usernames": KEPT, "hashtags": KEPT} if boards is None else boards
    made = Wall(
        {
            name: Scoreboard(store, name, name, fold if name == "hashtags" else None, kept=one, clock=time.time)
            for name, one in kept.items()
        },
        Lease(store, "lease", "me"),
        demo=demo,
    )
    async with listening(made.api.application(), "127.0.0.1", port) as made.address:
        yield made
