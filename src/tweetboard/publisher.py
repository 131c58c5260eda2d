"""One source's posts go to the journal and the channels, in order and exactly once, while the lease is held.

What lives here: the life of a session (lease, begin, read, append, end) and recovery from every answer Redis can give
or withhold. What must not: gathering and memory (outbox.py, pure), where records come from, or what boards do.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

from tweetboard import schema
from tweetboard.errors import SessionEnded, StoreUnavailable, StreamError
from tweetboard.framing import Block
from tweetboard.journal import Begun, Journal, OutOfStep, Session
from tweetboard.lease import RENEW_S, Lease
from tweetboard.outbox import Batch, Outbox, Published
from tweetboard.posts import Channel, Post
from tweetboard.recent import RecentIds
from tweetboard.store import Store
from tweetboard.waiting import first_of, pass_cancellation

FLOOD_NAMES: Final = 128
"""A stream that has brought so many names since the last look has more at hand: first let it gather."""

LARGE_BATCH_NAMES: Final = 4_096
"""Large enough: Redis spends a fourth less on a name than with the batches of 1,000 that a flood makes by itself."""

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where records come from."""

    @property
    def heard_until(self) -> float:
        """Until when it has surely listened, in Unix seconds; 0 for not yet, and where no time can be missed."""
        ...

    def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:
        """Yield blocks from after `position` on ("": from now, or the beginning), with the position after each.

        `heard_until` is when anybody has listened last: what passed since, and cannot be asked for again, is a gap.
        """
        ...


class Decodes(Protocol):
    """What turns records into posts."""

    def decode(self, block: Block) -> list[Post]:
        """Turn a block's records into posts, in order."""
        ...


class Publisher:
    """Publishes one source to one journal while it holds the lease; waits as a standby while another does.

    `channels` are all that it feeds; `bucket_s` is the width of the finest bucket; `keep_ids_s` how long the
    ids of posts are kept for an upstream whose refill repeats them, 0 for none. A post without a time is of now,
    or, `by_newest`, of when the newest post so far was. Where it `hands_over`, its lease is left for the next publisher
    of this instance. `on_begun` is called before anything is read, with the session that was there before and its
    last batch, and the session that begins; all "" and 0 where another instance has the stream.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        lease: Lease,
        *,
        channels: Sequence[Channel],
        bucket_s: int = 1,
        keep_ids_s: int = 0,
    ) -> None:
        self._store = store
        self.by_newest = self.hands_over = False
        self.on_begun: Callable[[tuple[str, int], str], None] = lambda *_: None
        self._newest = 0
        self._journal = journal
        self._lease = lease
        self._channels = channels
        self._bucket_s = bucket_s
        self._ids = RecentIds(keep_ids_s)
        self.published = Published()
        self._outbox = Outbox(0, channels, bucket_s=bucket_s, published=self.published)
        self._ended: Session | None = None
        self._given_up_names = 0
        self._wake = asyncio.Event()
        self._doubtful = False
        self._stream_error: StreamError | None = None

    @property
    def place(self) -> tuple[str, int]:
        """The token of the last session and the number of its last batch, ("", 0) before the first."""
        return ("", 0) if self._ended is None else (self._ended.token, self._ended.seq)

    @property
    def outstanding_names(self) -> int:
        """How many names have been read and are not known to be on every board, nor another instance's to count."""
        return self._outbox.outstanding_names + self._given_up_names

    @property
    def held_up(self) -> bool:
        """Whether nothing is read, because the boards do not keep up."""
        return not self._outbox.room

    async def run(self, source: Source, decoder: Decodes, stopping: asyncio.Event) -> None:
        """Publish until `stopping` is set or the source ends; return when everything read is on every board.

        A session that ends is followed by another. Raises `StreamError` where the source fails for good and
        `StoreRefused`, alone or in a group. There is no deadline here: whoever cancels finds `outstanding_names`.
        """
        while not stopping.is_set() or self._outbox.outstanding_names:
            try:
                begun = await self._begin(stopping)
                if begun is not None:
                    await self._session(begun, source, decoder, stopping)
            except* SessionEnded as ended:
                left = self._outbox.outstanding_names
                log.warning(
                    "session ended with %d names not on the boards, beginning anew: %s", left, ended.exceptions[0]
                )
            else:
                break
            finally:
                self._journal.session = None
            pass_cancellation()
        if self._stream_error is not None:
            raise self._stream_error

    async def _begin(self, stopping: asyncio.Event) -> Begun | None:
        """Wait for the lease, then become the stream's owner; None where the stop came first.

        A stop comes second to what an ended session has left, which has its place in Redis still to find.
        """
        while not stopping.is_set() or self._outbox.outstanding_names:
            try:
                if await self._lease.hold():
                    begun = await self._journal.begin()
                    self.on_begun((begun.predecessor, begun.seq), begun.token)
                    self._take_over(begun, stopping)
                    recent_ids = await self._journal.recent_ids() if self._ids.keep_s else []
                    self._ids.load(recent_ids + self._outbox.ids, time.monotonic())
                    self.published.standby = False
                    self._report(begun)
                    return begun
                await schema.check(self._store)  # a standby shows the boards
            except StoreUnavailable:
                stop = [] if self._outbox.outstanding_names else [stopping.wait()]
                await first_of(self._store.wait(), *stop)
                if self.published.standby:  # the lease may have ended meanwhile, and its holder be back in a moment
                    await first_of(asyncio.sleep(2 * RENEW_S), stopping.wait())
            else:
                if not self.published.standby:
                    log.info("standby: stream %s belongs to %s", self._journal.title, self._lease.other)
                self.published.standby = True
                self.on_begun(("", 0), "")
                self._take_over(None, stopping)
                await first_of(asyncio.sleep(RENEW_S), stopping.wait())
        return None

    def _take_over(self, begun: Begun | None, stopping: asyncio.Event) -> None:
        """Start with what the session before has left, where nobody else had the stream since; None: somebody has it.

        Sent after somebody else had the stream, it might count a second time.
        """
        ended, after = self._ended, None
        if (
            begun is not None
            and ended is not None
            and (
                begun.predecessor == ended.token
                or (begun.predecessor == ended.predecessor and begun.seq <= ended.began_after)
            )
        ):
            ended.token, after = begun.token, begun.seq
        else:
            self._ended = None
        left = self._outbox.leave(after, boards_ahead=begun is not None and begun.boards_ahead > 0)
        self.published.lost_batches += left.lost_batches
        if left.lost_names and self._ids.keep_s:
            log.warning(
                "stream %s: %d names were read but not sent when their session ended: upstream is asked for them again",
                *(self._journal.title, left.lost_names),
            )
        elif left.lost_names:
            self.published.lost_names += left.lost_names
            log.error(
                "stream %s: up to %d names are lost: their session has ended, and upstream cannot go back",
                *(self._journal.title, left.lost_names),
            )
        if stopping.is_set():  # what can be read again is for whoever has the stream now; where that is us, for nobody
            self._given_up_names += left.lost_names if begun is None else left.dropped_names
        self._outbox = Outbox(
            0 if begun is None else begun.seq,
            self._channels,
            bucket_s=self._bucket_s,
            published=self.published,
            keep_ids=self._ids.keep_s > 0,
            drafts=left.drafts,
        )

    def _report(self, begun: Begun) -> None:
        self.published.sessions += 1
        self.published.lost_batches += begun.lost_batches
        where = f"after batch {begun.seq}" if begun.seq else "from the beginning"
        log.info("counting stream %s %s (session %s)", self._journal.title, where, begun.token)
        for board in begun.dropped_boards:
            log.warning("board %s is no longer fed by stream %s", board, self._journal.title)
        if begun.lost_batches:
            log.error(
                "stream %s: %d batches went from the journal before every board had them; what deleted or evicted %s?",
                *(self._journal.title, begun.lost_batches, f"{self._journal.stream_key}:journal"),
            )

    async def _session(self, begun: Begun, source: Source, decoder: Decodes, stopping: asyncio.Event) -> None:
        session = self._ended = Session(begun, [channel.name for channel in self._channels], self._outbox.applied)
        self._journal.open(session)
        async with asyncio.TaskGroup() as group:
            lease = group.create_task(self._keep_lease(session, source), name="lease")
            reading = _nothing() if stopping.is_set() else self._read(session, begun, source, decoder)
            reader = group.create_task(reading, name="stream")
            appender = group.create_task(self._append_all(session, reader), name="append")
            await first_of(stopping.wait(), asyncio.wait([reader]))
            reader.cancel()
            await asyncio.wait([reader])
            self._wake.set()
            await asyncio.wait([appender])
            lease.cancel()
        try:
            await self._journal.look(session.token, source.heard_until)
        except StoreUnavailable as error:
            log.debug("until when upstream was heard is not noted: %s", error)
        if not self.hands_over:
            await self._lease.release()

    async def _read(self, session: Session, begun: Begun, source: Source, decoder: Decodes) -> None:
        """Gather what the source yields, as long as the boards keep up; what was read before a failure still counts."""
        position = self._outbox.position or begun.position  # now, for appending will empty the outbox
        try:
            async with aclosing(source.blocks(position, begun.heard_until)) as blocks:
                async for block, reached in blocks:
                    self._gather(decoder.decode(block), reached)
                    while not self._outbox.room:
                        session.advanced.clear()
                        await session.advanced.wait()
        except StreamError as error:
            self._stream_error = error

    def _gather(self, posts: list[Post], position: str) -> None:
        fresh = self._ids.new(posts, time.monotonic())
        self.published.repeats += len(posts) - len(fresh)
        if fresh:
            now = untimed = int(time.time())
            if self.by_newest:
                self._newest = max([self._newest, *(post.time for post in fresh if post.time < now)])
                untimed = self._newest or now
            self._outbox.gather(fresh, position, now, untimed, self._ids.again())
            self._wake.set()

    async def _append_all(self, session: Session, reader: asyncio.Task[None]) -> None:
        """Send batch after batch; while one is under way the next gathers, and a lone post waits for nothing.

        Ends when the reader has, and every board has everything.
        """
        while True:
            if self._doubtful:
                await self._recover(session)
            await self._let_a_flood_gather()
            batch = self._outbox.next()
            if batch is not None:
                await self._append(session, batch)
            elif not reader.done():
                await self._wake.wait()
                self._wake.clear()
            else:
                session.advanced.clear()
                if session.lowest_applied >= session.seq:
                    return
                await first_of(self._wake.wait(), session.advanced.wait())
                self._wake.clear()

    async def _let_a_flood_gather(self) -> None:
        """Wait for a large batch, but only as long as every look at what has gathered finds a good part of one more.

        Two turns of the event loop lie between two looks, so a flood waits for some 20 ms, and nothing else for long.
        """
        before = 0
        while before + FLOOD_NAMES <= (names := self._outbox.gathered_names) < LARGE_BATCH_NAMES:
            before = names
            for _ in range(2):  # in the first one bytes are received, in the second they become posts
                await asyncio.sleep(0)

    async def _append(self, session: Session, batch: Batch) -> None:
        batch.sent_at = time.monotonic()
        try:
            await self._journal.append(session, batch, keep_ids_s=self._ids.keep_s)
        except OutOfStep as answer:
            self._go_on_after(answer.seq, session)
        except (StoreUnavailable, SessionEnded):
            self._doubtful = True
        else:
            self._outbox.acknowledge(batch)
            session.seq = batch.seq

    async def _recover(self, session: Session) -> None:
        """Find out where Redis really is and go on from there; raises `SessionEnded` where that cannot be."""
        while self._doubtful:
            try:
                await self._store.wait()
                if not await self._lease.hold():
                    raise SessionEnded(f"stream {self._journal.title} belongs to {self._lease.other} now")
                owner, seq = await self._journal.look()
                if owner != session.token:
                    seq = await self._begin_again(session, owner)
            except StoreUnavailable:
                continue
            self._doubtful = False
            self._go_on_after(seq, session)

    def _go_on_after(self, seq: int, session: Session) -> None:
        """Go on behind the batch where Redis really is, and let the subscribers look for themselves."""
        self._outbox.go_back_to(seq)
        session.go_back_to(seq)
        self._journal.open(session)

    async def _begin_again(self, session: Session, owner: str) -> int:
        """Take up the same session under another token, so that nothing has to be read anew: not every upstream could.

        Either Redis went back behind our beginning: the owner is then the one before us, and what followed is all in
        memory, unless that one has gone on meanwhile and its batches end elsewhere than ours of the same numbers. Or a
        begin of ours that was given up for lost was carried out in the end.
        """
        if owner != session.predecessor and owner not in self._journal.unanswered:
            whose = "another session has taken over" if owner else "somebody has deleted it"
            raise SessionEnded(f"{self._journal.stream_key} is not ours any more: {whose}")
        begun = await self._journal.begin()
        self._report(begun)
        if begun.boards_ahead:
            raise SessionEnded(f"the boards have more than {self._journal.stream_key}: somebody has deleted it")
        before = (session.predecessor, session.began_after, session.began_at)
        went_back = (begun.predecessor, begun.seq, begun.position) == before
        if begun.predecessor != session.token and not went_back:
            raise SessionEnded(f"another session has gone on with stream {self._journal.title}")
        session.go_on_as(begun.token)
        return begun.seq

    async def _keep_lease(self, session: Session, source: Source) -> None:
        """Renew the lease, look whether Redis went back while nothing was flowing, and note that we listen."""
        while True:
            await asyncio.sleep(RENEW_S)
            known = session.seq
            try:
                if not await self._lease.hold():
                    raise SessionEnded(f"stream {self._journal.title} belongs to {self._lease.other} now")
                owner, seq = await self._journal.look(session.token, source.heard_until)
            except StoreUnavailable:
                await self._store.wait()
                self._doubt()
            else:
                if owner != session.token or seq < known:
                    self._doubt()
                elif session.broken:
                    raise SessionEnded(session.broken)

    def _doubt(self) -> None:
        self._doubtful = True
        self._wake.set()


async def _nothing() -> None:
    """Read nothing: what a session that begins after the stop has to send was read before."""
