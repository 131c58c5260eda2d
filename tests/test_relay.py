"""A connection is read on by the next reader where the last stopped, and by nobody it is not meant for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from tweetboard import relay as module
from tweetboard.errors import StreamLost
from tweetboard.framing import Block
from tweetboard.relay import Relay


class Upstream:
    """Blocks by number, one each time that `more` is called; it counts connections, and those that are open."""

    def __init__(self, *, rewinds: bool = True) -> None:
        self.heard_until = 7.0
        self.asked: list[tuple[str, float]] = []
        self.open = 0
        self.failure: Exception | None = None
        self._rewinds = rewinds
        self.at = self._until = 0
        self._more = asyncio.Event()

    def more(self, blocks: int) -> None:
        self._until += blocks
        self._more.set()

    async def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:
        self.asked.append((position, heard_until))
        self.open += 1
        if self._rewinds:
            self.at = int(position or 0)
        try:
            while True:
                while self.at < self._until:
                    self.at += 1
                    yield Block(lines=b"%d\n" % self.at), str(self.at) if self._rewinds else ""
                if self.failure is not None:
                    raise self.failure
                self._more.clear()
                await self._more.wait()
        finally:
            self.open -= 1


@asynccontextmanager
async def running(upstream: Upstream) -> AsyncIterator[Relay]:
    relay = Relay(upstream)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(relay.run())
        yield relay
        task.cancel()


async def taken(relay: Relay, count: int, position: str = "") -> list[bytes]:
    """Take so many blocks, and go."""
    found: list[bytes] = []
    async with aclosing(relay.blocks(position)) as blocks:
        async for block, _ in blocks:
            found.append(block.lines)
            if len(found) == count:
                break
    return found


async def left_after_one(relay: Relay) -> None:
    """Take a block, and leave the connection to the next reader."""
    reading = relay.blocks("")
    await anext(reading)
    relay.keep()
    await reading.aclose()


@pytest.mark.parametrize("rewinds", [False, True])
async def test_the_next_reader_goes_on_over_the_same_connection(*, rewinds: bool) -> None:
    async with running(upstream := Upstream(rewinds=rewinds)) as relay:
        upstream.more(3)
        reading = relay.blocks("")
        first = [(await anext(reading))[0].lines for _ in range(3)]
        relay.keep()
        await reading.aclose()
        upstream.more(2)
        second = await taken(relay, 2, "3" if rewinds else "")
    assert (first, second) == ([b"1\n", b"2\n", b"3\n"], [b"4\n", b"5\n"])
    assert upstream.asked == [("", 0.0)]
    assert upstream.open == 0


async def test_a_reader_that_is_cancelled_at_any_moment_takes_nothing_with_it() -> None:
    upstream, seen = Upstream(rewinds=False), list[bytes]()
    async with running(upstream) as relay:
        for turns in range(30):
            upstream.more(3)
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(_collect(relay, seen))
                for _ in range(turns):
                    await asyncio.sleep(0)
                relay.keep()
                reading.cancel()
        upstream.more(1)
        seen += await taken(relay, 91 - len(seen))
    assert seen == [b"%d\n" % number for number in range(1, 92)]
    assert len(upstream.asked) == 1


async def _collect(relay: Relay, seen: list[bytes]) -> None:
    async with aclosing(relay.blocks("")) as blocks:
        async for block, _ in blocks:
            seen.append(block.lines)


async def test_without_a_wish_to_keep_it_the_connection_ends_with_its_reader() -> None:
    upstream = Upstream(rewinds=False)
    async with running(upstream) as relay:
        upstream.more(1)
        assert await taken(relay, 1) == [b"1\n"]
        while upstream.open:
            await asyncio.sleep(0)
        upstream.more(1)
        assert await taken(relay, 1) == [b"2\n"]
    assert len(upstream.asked) == 2


@pytest.mark.parametrize("before", [("", 0), ("s", 7)])
async def test_who_leaves_and_has_to_begin_anew_meanwhile_leaves_no_connection(before: tuple[str, int]) -> None:
    """Redis was emptied, or set back to where the reader began: what the connection brought is not all there."""
    async with running(upstream := Upstream()) as relay:
        if before[0]:
            upstream.more(1)
            await left_after_one(relay)
            relay.left_at(("r", 7))
            relay.taken_over(("r", 7), "s")
        upstream.more(3)
        await left_after_one(relay)
        relay.taken_over(before, "t")
        relay.left_at(("t", before[1]))
        relay.taken_over(("t", before[1]), "u")
        assert await taken(relay, 3) == [b"1\n", b"2\n", b"3\n"]


@pytest.mark.parametrize("place", [("another", 7), ("s", 6), ("", 0)])
async def test_where_the_journal_stands_elsewhere_the_connection_ends(place: tuple[str, int]) -> None:
    """Another session may have counted what has been read meanwhile, or Redis have gone back."""
    upstream = Upstream(rewinds=False)
    async with running(upstream) as relay:
        upstream.more(1)
        await left_after_one(relay)
        for _ in range(10):
            await asyncio.sleep(0)
        assert upstream.open == 1, "however long it takes"
        relay.left_at(("s", 7))
        relay.taken_over(place, "t")
        while upstream.open:
            await asyncio.sleep(0)
        upstream.more(1)
        await taken(relay, 1)
    assert len(upstream.asked) == 2


async def test_the_session_that_follows_on_the_last_has_its_connection() -> None:
    upstream = Upstream(rewinds=False)
    async with running(upstream) as relay:
        upstream.more(2)
        await left_after_one(relay)
        relay.left_at(("s", 7))
        relay.taken_over(("s", 7), "t")
        relay.left_at(("", 0))
        relay.taken_over(("t", 7), "u")
        assert await taken(relay, 1) == [b"2\n"]
        relay.taken_over(("any", 1), "other")
    assert len(upstream.asked) == 1


async def test_what_has_not_been_taken_is_not_read_ahead_of() -> None:
    upstream = Upstream()
    async with running(upstream) as relay:
        upstream.more(100)
        reading = relay.blocks("")
        await anext(reading)
        for _ in range(100):
            await asyncio.sleep(0)
        assert upstream.at <= module.MAX_WAITING + 2
        await reading.aclose()


async def test_a_failure_comes_behind_what_came_before_it() -> None:
    upstream = Upstream()
    upstream.failure = StreamLost("gone")
    async with running(upstream) as relay:
        upstream.more(2)
        reading = relay.blocks("", 5.0)
        assert [(await anext(reading))[0].lines for _ in range(2)] == [b"1\n", b"2\n"]
        with pytest.raises(StreamLost, match="gone"):
            await anext(reading)
        with pytest.raises(StreamLost, match="gone"):
            await anext(relay.blocks("2"))
    assert upstream.asked == [("", 5.0), ("2", 0.0)]
    assert relay.heard_until == 7.0


async def test_the_end_of_a_source_ends_the_reading() -> None:
    class Short:
        heard_until = 0.0

        async def blocks(self, _: str, __: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:
            yield Block(lines=b"1\n"), "1"

    relay = Relay(Short())
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(relay.run())
        assert [block.lines async for block, _ in relay.blocks("")] == [b"1\n"]
        assert [block.lines async for block, _ in relay.blocks("")] == [b"1\n"]
        task.cancel()
