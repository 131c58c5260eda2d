"""Streams on the left, boards on the right, and the subscribers between: everything that counts, put together.

What lives here: the parts, in which order they live and end, and how each of them does. What must not: where posts come
from and where boards are served (daemon.py), or anything a part can know by itself.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tweetboard.blocklist import Blocklist
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.boards import boards_of
from tweetboard.embedded import EmbeddedServer
from tweetboard.errors import ConfigurationError, NotDrained, StoreUnavailable
from tweetboard.feed import Feed, Health, UnmetPaths
from tweetboard.journal import Session
from tweetboard.lease import Lease, instance_name
from tweetboard.presets import Place
from tweetboard.publisher import Source
from tweetboard.settings import Settings
from tweetboard.store import Store
from tweetboard.subscriber import Subscriber
from tweetboard.waiting import first_of, within
from tweetboard.watchdog import Work

SUBSCRIBE_TIMEOUT_S: Final = 2.0
"""Serving does not wait longer for the subscriptions: without Redis, HTTP says so, and the journal fills the gap."""

DRAIN_TIMEOUT_S: Final = 2.5
"""What has been read gets this long to reach the boards at a stop, of the 5 s that a stop may take in all."""

ASK_AGAIN_S, LOOK_AGAIN_S = 1.0, 15.0
"""How soon Redis's settings, which an operator may change at any time, are looked at after no answer, and after one."""

APPLY_LIMIT_S: Final = 60.0
"""A board that is behind, or a server of our own that does not answer, has come a step further by then."""

log = logging.getLogger(__name__)


class Pipe:
    """The parts between streams, given by name with the place of each, and the boards; made but not running.

    `titles` are what people call the streams, `holder` is this instance's name. Windows go by `clock`, Unix seconds;
    None: by the newest post.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        streams: Mapping[str, Place],
        titles: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] | None = time.time,
        holder: str = "",
        blocklist: Blocklist | None = None,
    ) -> None:
        holder = holder or instance_name()
        self.store = store
        boards, paths = boards_of(settings)
        unmet = UnmetPaths(paths, len(streams))
        self.feeds = {
            name: Feed(store, settings, name, place, holder, (titles or {}).get(name, ""), unmet)
            for name, place in streams.items()
        }
        for feed in self.feeds.values():
            feed.publisher.by_newest = clock is None
        self.blocklist = blocklist or Blocklist(settings.filter.blocklist)
        self.bare = Lease(store, "tweetboard:bare", holder)
        self.boards = {
            name: Scoreboard(
                store,
                name,
                board.key,
                board.fold,
                kept=board.kept,
                clock=clock,
                hidden=self._hidden(folded=board.fold is not None),
            )
            for name, board in boards.items()
        }
        journals = [feed.journal for feed in self.feeds.values()]
        for board in self.boards.values():
            board.lease = self.bare
        self.subscribers = {name: Subscriber(store, journals, board, self.bare) for name, board in self.boards.items()}
        self._stuck: Sequence[str] = ()
        self.cautions: list[str] = []
        self.failed_writes: list[str] = []
        self._looked_at = 0.0
        self._servers: Sequence[EmbeddedServer] = ()

    def _counts(self) -> bool:
        """Whether any stream is known to be ours: as a standby we may be on another machine, whose clock is another."""
        published = [feed.publisher.published for feed in self.feeds.values() if feed.failure is None]
        return any(one.sessions > 0 and not one.standby for one in published)

    def _hidden(self, *, folded: bool) -> Callable[[], Sequence[str]]:
        blocklist = self.blocklist
        return lambda: blocklist.names.identities if folded else blocklist.names.spelled

    @asynccontextmanager
    async def subscribed(self, *watched: EmbeddedServer) -> AsyncIterator[asyncio.TaskGroup]:
        """Run everything that must be there before the first post; yields the group that a failure of it ends."""
        self._servers = watched
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(server.watch(), name="embedded") for server in watched]
            background += [group.create_task(one.run(), name=f"board {name}") for name, one in self.subscribers.items()]
            background += [
                group.create_task(self._let_time_pass(one), name=f"age {name}")
                for name, one in self.boards.items()
                if one.is_timed
            ]
            background += [group.create_task(one.report(), name=f"report {name}") for name, one in self.feeds.items()]
            background.append(group.create_task(self.bare.keep(self._counts), name="bare lease"))
            await first_of(asyncio.sleep(SUBSCRIBE_TIMEOUT_S), self._all_subscribed())
            yield group
            for task in background:
                task.cancel()

    async def publish(self, sources: Mapping[str, Source], stopping: asyncio.Event) -> None:
        """Publish each stream's source until `stopping` is set or all have ended.

        One that fails for good leaves the others alone; raises its `StreamError` where all have.
        """
        async with asyncio.TaskGroup() as group:
            for name, source in sources.items():
                group.create_task(self._publish(self.feeds[name], source, stopping), name=f"publisher {name}")
        failures = [failure for feed in self.feeds.values() if (failure := feed.failure) is not None]
        if len(failures) == len(self.feeds):
            raise failures[0]

    async def _publish(self, feed: Feed, source: Source, stopping: asyncio.Event) -> None:
        await feed.publish(source, stopping)
        if feed.failure is not None and len(self.feeds) > 1:
            log.error("stream %s has ended for good, the others go on: %s", feed.title, feed.failure)

    async def drained(self, publishing: asyncio.Task[None], stopping: asyncio.Event) -> None:
        """Wait for the publishers to end by themselves, or within `DRAIN_TIMEOUT_S` of the stop.

        Raises `NotDrained`, with the number of names, where something was left behind.
        """
        await first_of(stopping.wait(), asyncio.wait([publishing]))
        for feed in self.feeds.values():
            feed.publisher.hands_over = False
        self.store.hurry()
        await asyncio.wait([publishing], timeout=DRAIN_TIMEOUT_S)
        left = sum(feed.publisher.outstanding_names for feed in self.feeds.values())
        publishing.cancel()
        if left and not (publishing.done() and not publishing.cancelled() and publishing.exception()):
            raise NotDrained(
                f"stopped with {left} names read but not on the boards: {self.store.trouble or 'too slow'}"
            )

    async def handed_over(self, publishing: asyncio.Task[None], stopping: asyncio.Event) -> None:
        """Wait until all that was read is on the boards, so that another pipe can go on; a stop has its own way."""
        for feed in self.feeds.values():
            feed.publisher.hands_over = True
        await first_of(stopping.wait(), asyncio.wait([publishing]))

    @property
    def posts(self) -> int:
        """How many posts have been read."""
        return sum(feed.publisher.published.posts for feed in self.feeds.values())

    @property
    def came_to_nothing(self) -> Counter[str]:
        """Count, by reason, the records and names that are on no board."""
        return sum((feed.came_to_nothing for feed in self.feeds.values()), Counter[str]())

    async def look_at_redis(self) -> None:
        """Log, and keep for `/readyz`, what about the server can cost scores."""
        while True:
            try:
                if not self.store.available:  # a standby that has met a full server would not find out by itself
                    await self.store.wait()
                found, failed = await self.store.cautions(), await self.store.failed_writes()
            except StoreUnavailable:
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            for told in {*found, *failed} - {*self.cautions, *self.failed_writes}:
                log.warning("redis at %s: %s", self.store.address, told)
            self.cautions, self.failed_writes, self._looked_at = found, failed, time.time()
            await asyncio.sleep(LOOK_AGAIN_S)

    def described(self) -> dict[str, Health]:
        """Say of each part how it does."""
        answered_s = time.time() - self.store.answered_at if self.store.answered_at else None
        looked_s = time.time() - self._looked_at if self._looked_at else None
        told = [*self.failed_writes, *self.cautions] if self._looked_at else ["not looked at yet"]
        parts = {
            "redis": Health(self.store.available, self.store.trouble or "answers", answered_s),
            "persistence": Health(not self.failed_writes, "; ".join(told) or "writes everything down", looked_s),
        }
        for feed in self.feeds.values():
            parts["stream" if len(self.feeds) == 1 else f"stream {feed.title}"] = feed.described()
        for name, subscriber in self.subscribers.items():
            heard = subscriber.heard
            applied_s = time.time() - heard.applied_at if heard.applied_at else None
            detail = f"{self._behind(name)} batches behind" if heard.subscribed else "channel not subscribed"
            stands = f"board {name}" in self._stuck
            parts[name] = Health(
                heard.subscribed and not stands, f"{detail}, and stands" if stands else detail, applied_s
            )
        return parts

    def _behind(self, board: str) -> int:
        """Count the batches that are in journals and not on a board."""
        return sum(max(session.seq - session.applied[board], 0) for session in self._sessions)

    @property
    def _sessions(self) -> list[Session]:
        return [session for feed in self.feeds.values() if (session := feed.journal.session) is not None]

    def summary(self) -> str:
        """Say in a line how it does: what does not work, or how the streams do."""
        parts = self.described()
        troubles = [f"{name}: {detail}" for name, (ok, detail, _) in parts.items() if not ok]
        doing = [f"{feed.title} {feed.condition().status}" for feed in self.feeds.values()]
        return "; ".join(troubles or doing)

    def work(self) -> dict[str, Work]:
        """Say what each part has to do, for whoever watches whether it gets on."""
        parts: dict[str, Work] = {}
        for feed in self.feeds.values():
            parts |= {f"{part} {feed.title}": work for part, work in feed.work(available=self.store.available).items()}
        owns = bool(self._servers)
        done = self.store.round_trips, *(server.told_to_wait for server in self._servers)
        parts["redis"] = Work(owns and not self.store.available, done, APPLY_LIMIT_S)
        for name, subscriber in self.subscribers.items():
            due = self.store.available and self._behind(name) > 0
            applied = tuple(session.applied[name] for session in self._sessions)
            parts[f"board {name}"] = Work(due, (subscriber.heard.applies, applied), APPLY_LIMIT_S)
        return parts

    def note_stuck(self, parts: Sequence[str]) -> None:
        """Remember, for `/readyz`, which parts of `work` were found not to get on."""
        self._stuck = parts

    def reload(self) -> None:
        """Read the blocklist again; one that cannot be read leaves things as they are."""
        try:
            log.info("names that are not shown: %d", self.blocklist.load())
        except ConfigurationError as error:
            log.error("the names that are not shown stay as they were: %s", error)  # noqa: TRY400 - the user's fault

    async def _let_time_pass(self, board: Scoreboard) -> None:
        """Take out of a board's windows what has left them, as soon as it has."""
        while True:
            try:
                while await board.age():
                    pass
            except StoreUnavailable:
                await self.store.wait()
                continue
            await within(board.kept.finest_s, board.due)

    async def _all_subscribed(self) -> None:
        for subscriber in self.subscribers.values():
            await subscriber.subscribed.wait()
