"""A publisher and its two subscribers on a given store, as the daemon puts them together, and a source for them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from tweetboard.errors import StreamError
from tweetboard.feed import Feed
from tweetboard.framing import Block
from tweetboard.pipe import Pipe
from tweetboard.presets import Place
from tweetboard.publisher import Source
from tweetboard.settings import Settings
from tweetboard.store import Store


class ListSource:
    """A source of given posts, one a block, with their number as the position; it goes on from any position.

    One that does not `rewind` gives no positions, and goes on where it is. It ends, fails with `failure`, or - with
    `stays` - stays open like a live stream. `asked` has the positions.
    """

    def __init__(
        self,
        posts: Sequence[dict[str, object]],
        *,
        stays: bool = False,
        rewinds: bool = True,
        failure: StreamError | None = None,
    ) -> None:
        self.posts = list(posts)
        self.asked: list[str] = []
        self.heard_before = self.heard_until = 0.0
        self.more = asyncio.Event()
        self._stays = stays
        self._rewinds = rewinds
        self._at = 0
        self._failure = failure

    async def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:
        self.heard_before = heard_until
        self.asked.append(position)
        if self._rewinds:
            self._at = int(position or 0)
        while True:
            while self._at < len(self.posts):
                self._at += 1
                block = Block(lines=msgspec.json.encode(self.posts[self._at - 1]) + b"\n")
                yield block, str(self._at) if self._rewinds else ""
            if self._failure is not None:
                raise self._failure
            if not self._stays:
                return
            self.more.clear()
            await self.more.wait()

    def add(self, *posts: dict[str, object]) -> None:
        """Let a live source yield more."""
        self.posts += posts
        self.more.set()


class OneStream(Pipe):
    """A pipe of a single stream."""

    @property
    def feed(self) -> Feed:
        (feed,) = self.feeds.values()
        return feed


def a_pipe(
    store: Store, stream: str = "test", *, settings: Settings | None = None, refill_minutes: int = 0
) -> OneStream:
    """Put a pipe together that is not running; its boards have their default keys."""
    place = Place(f"http://upstream/?backfill_minutes={refill_minutes}", "auto")
    return OneStream(store, settings or Settings(), {stream: place})


def on_the_boards(pipe: OneStream, seq: int) -> bool:
    """Whether every board has all up to batch `seq`."""
    session = pipe.feed.journal.session
    return session is not None and session.lowest_applied >= seq


@asynccontextmanager
async def running(pipe: OneStream, source: Source) -> AsyncIterator[asyncio.Event]:
    """Run a pipe on a source; yields the event that stops it, and waits for the end of the drain."""
    stopping = asyncio.Event()
    async with asyncio.timeout(20), pipe.subscribed() as group:
        publishing = group.create_task(pipe.publish({pipe.feed.name: source}, stopping))
        yield stopping
        stopping.set()
        await pipe.drained(publishing, stopping)


async def scores(pipe: Pipe, board: str) -> dict[str, int]:
    """Read a whole board."""
    page = await pipe.boards[board].top(limit=1000)
    return {row.name: int(row.score) for row in page.rows}
