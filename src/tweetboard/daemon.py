"""The whole, put together: the only module that knows every part, and the order in which they live and end.

What lives here: building the parts from the settings, one TaskGroup, start against the flow, stop with it, each step
with a deadline. What must not: anything a part can know by itself, signals, printing.
"""

import asyncio
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from tweetboard.api import MAX_READS, Api, Part, listening
from tweetboard.config import DEMO, EMBEDDED, Settings, data_dir, stream_name
from tweetboard.embedded import EmbeddedServer, embedded_server, running_url, sweep_throwaway_folders, throwaway_folder
from tweetboard.errors import ConfigurationError, NotDrained, StoreUnavailable
from tweetboard.formats import AutoDecoder, decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.formats.hashtags import fold
from tweetboard.journal import Journal
from tweetboard.lease import Lease, instance_name
from tweetboard.metrics import Watched
from tweetboard.presets import Place, place_of
from tweetboard.publisher import Publisher
from tweetboard.replay import FileSource
from tweetboard.scoreboard import Scoreboard
from tweetboard.simulate import demo_server
from tweetboard.sources import keep_ids_s, open_stream
from tweetboard.store import Store, open_store
from tweetboard.subscriber import Subscriber
from tweetboard.supervision import StreamState, Supervised
from tweetboard.volume import Volume
from tweetboard.waiting import first_of
from tweetboard.windows import finest_bucket_s, parse_window

SUBSCRIBE_TIMEOUT_S: Final = 2.0
"""Serving does not wait longer for the subscriptions: without Redis, HTTP says so, and the journal fills the gap."""

DRAIN_TIMEOUT_S: Final = 2.5
"""What has been read gets this long to reach the boards at a stop, of the 5 s that a stop may take in all."""

LAST_TRY_S: Final = 0.5
"""A replay stopped before Redis has answered gives up so much later: one that is there answers meanwhile."""

FIRST_REPORT_S, REPORT_S = 1.0, 10.0
"""What came to nothing is logged so soon after a quiet time, and at most so often."""

LOOK_AGAIN_S: Final = 60.0
"""How often Redis's own settings are looked at, which an operator may change at any time."""

EXPECTED: Final = frozenset({"delete", "edit", "limit", "scrub_geo", "status_withheld", "user_withheld"})
"""What a healthy stream also says; counted, but not worth a line in the log."""

log = logging.getLogger(__name__)


class Pipe:
    """The parts between a source and the boards, made but not running."""

    def __init__(
        self, store: Store, settings: Settings, *, stream: str, source_format: str = "", keep_ids_s: int = 0
    ) -> None:
        holder = instance_name()
        folds: dict[str, Callable[[str], str]] = {"hashtags": fold}
        boards = settings.boards
        windows_s = [parse_window(text) for board in boards.values() for text in board.windows]
        self.store = store
        self.boards = {name: Scoreboard(store, name, board.key, folds.get(name)) for name, board in boards.items()}
        self.journal = Journal(store, stream, [(name, board.key) for name, board in boards.items()])
        self.lease = Lease(store, f"tweetboard:{stream}:lease", holder)
        self.bare = Lease(store, "tweetboard:bare", holder)
        self.subscribers = {
            name: Subscriber(store, self.journal, board, self.bare) for name, board in self.boards.items()
        }
        self.publisher = Publisher(
            store,
            self.journal,
            self.lease,
            boards=list(boards),
            bucket_s=finest_bucket_s(windows_s),
            keep_ids_s=keep_ids_s,
        )
        self.skipped = Skipped()
        self.decoder = decoder_for(source_format or settings.stream.format, self.skipped)
        self.stream: StreamState | None = None
        self.volume = Volume()
        self.cautions: list[str] = []

    @asynccontextmanager
    async def subscribed(self, *watched: EmbeddedServer) -> AsyncIterator[asyncio.TaskGroup]:
        """Run everything that must be there before the first post; yields the group that a failure of it ends."""
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(server.watch(), name="embedded") for server in watched]
            background += [group.create_task(one.run(), name=f"board {name}") for name, one in self.subscribers.items()]
            background.append(group.create_task(self.bare.keep(), name="bare lease"))
            background.append(group.create_task(self._report(), name="report"))
            await first_of(asyncio.sleep(SUBSCRIBE_TIMEOUT_S), self._all_subscribed())
            yield group
            for task in background:
                task.cancel()

    async def drained(self, publishing: asyncio.Task[None], stopping: asyncio.Event) -> None:
        """Wait for the publisher to end by itself, or within `DRAIN_TIMEOUT_S` of the stop.

        Raises `NotDrained`, with the number of names, where something was left behind.
        """
        await first_of(stopping.wait(), asyncio.wait([publishing]))
        self.store.hurry()
        await asyncio.wait([publishing], timeout=DRAIN_TIMEOUT_S)
        left = self.publisher.outstanding_names
        publishing.cancel()
        if left and not (publishing.done() and not publishing.cancelled() and publishing.exception()):
            raise NotDrained(
                f"stopped with {left} names read but not on the boards: {self.store.trouble or 'too slow'}"
            )

    @property
    def came_to_nothing(self) -> dict[str, int]:
        """Count, by reason, the records and names that are on no board."""
        oversized = 0 if self.stream is None else self.stream.oversized
        return {**self.skipped, **({"oversized": oversized} if oversized else {})}

    async def look_at_redis(self) -> None:
        """Log, and keep for `/readyz`, what about the server can cost scores."""
        while True:
            try:
                found = await self.store.cautions()
            except StoreUnavailable:
                await asyncio.sleep(FIRST_REPORT_S)
                continue
            for caution in set(found) - set(self.cautions):
                log.warning("redis at %s: %s", self.store.address, caution)
            self.cautions = found
            await asyncio.sleep(LOOK_AGAIN_S)

    async def watch_volume(self, stream: StreamState) -> None:
        """Log when a live stream brings no posts any more, and when it does again."""
        while True:
            await asyncio.sleep(FIRST_REPORT_S)
            volume, published = self.volume, self.publisher.published
            live = stream.live and not published.standby
            if volume.look(published.posts, time.monotonic(), live=live):
                if volume.quiet:
                    log.warning(
                        "no post for %.0f s, though the stream is alive and usually brings %.3g a second: "
                        "its rules, its quota?",
                        *(volume.silent_s, volume.posts_per_s),
                    )
                else:
                    log.info("posts come again")

    async def _all_subscribed(self) -> None:
        for subscriber in self.subscribers.values():
            await subscriber.subscribed.wait()

    async def _report(self) -> None:
        """Log what came to nothing: soon the first time, then seldom, and the rest at the end."""
        reported = Counter[str]()
        pause_s = FIRST_REPORT_S
        try:
            while True:
                await asyncio.sleep(pause_s)
                pause_s = REPORT_S if self._report_skipped(reported) else FIRST_REPORT_S
        finally:
            self._report_skipped(reported)

    def _report_skipped(self, reported: Counter[str]) -> bool:
        """Log a line for each reason that has more than is `reported`; True where there was one."""
        nothing = self.came_to_nothing
        more = {reason: count - reported[reason] for reason, count in nothing.items() if reason not in EXPECTED}
        more = {reason: count for reason, count in more.items() if count}
        for reason, count in more.items():
            example = self.skipped.examples.get(reason)
            log.warning("skipped %d: %s%s", count, reason, f": {example}" if example else "")
        reported.update(more)
        return bool(more)


async def serve(
    settings: Settings,
    environ: Mapping[str, str],
    stopping: asyncio.Event,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the daemon until `stopping` is set; `on_ready` gets the boards' address once everything serves.

    Raises a `TweetboardError`, alone or in a group, where a part fails for good or the stop left something behind.
    """
    async with AsyncExitStack() as stack:
        store, servers = await _open(stack, settings, environ, throwaway=settings.stream.url == DEMO, prefix=DEMO)
        place = place_of(settings.stream.url, settings.stream.format)
        if settings.stream.url == DEMO:
            place = Place(await stack.enter_async_context(demo_server()), place.format)
        pipe = Pipe(
            store, settings, stream=stream_name(settings), source_format=place.format, keep_ids_s=keep_ids_s(place)
        )
        stall_timeout_s = settings.stream.stall_timeout_s
        stream = await stack.enter_async_context(
            open_stream(settings.stream, place, lambda: stall_timeout_s or _format_stall_timeout_s(pipe))
        )
        stream.on_connected = pipe.skipped.connected
        pipe.stream = stream.state
        api = _api(pipe, stream.state, settings, servers)
        group = await stack.enter_async_context(pipe.subscribed(*servers))
        try:
            address = await stack.enter_async_context(
                listening(api.application(), settings.http.host, settings.http.port)
            )
        except OSError as error:
            where = f"{settings.http.host}:{settings.http.port}"
            wrong_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            key = "http.host" if wrong_host else "http.port"
            raise ConfigurationError(f"{key}: cannot listen on {where}: {error.strerror}") from error
        publishing = group.create_task(pipe.publisher.run(stream, pipe.decoder, stopping), name="publisher")
        looking = group.create_task(pipe.look_at_redis(), name="look at redis")
        watching = group.create_task(pipe.watch_volume(stream.state), name="volume")
        on_ready(address)
        await pipe.drained(publishing, stopping)
        looking.cancel()
        watching.cancel()
        log.info("stopped: %d posts read", pipe.publisher.published.posts)


@asynccontextmanager
async def replaying(
    settings: Settings, environ: Mapping[str, str], source: FileSource, stopping: asyncio.Event
) -> AsyncIterator[Pipe]:
    """Count a source that ends, onto boards of its own; yields the pipe when everything is on them.

    Raises as `serve` does, `ConfigurationError` while another replay uses the same Redis, and `StoreUnavailable` where
    the stop came before Redis.
    """

    async def given_up() -> None:
        await stopping.wait()
        await asyncio.sleep(LAST_TRY_S)

    async with AsyncExitStack() as stack:
        store, servers = await _open(stack, settings, environ, throwaway=True, prefix="demo:replay:")
        pipe = Pipe(store, settings, stream="replay")
        pipe.stream = source.state
        await first_of(store.wait(), given_up())
        if not store.available:
            raise StoreUnavailable(f"replay: stopped, Redis at {store.address} is unavailable: {store.trouble}")
        if not await pipe.lease.hold():
            raise ConfigurationError(f"replay: another one, {pipe.lease.other}, uses the Redis at {store.address}")
        await _clear(pipe)
        async with pipe.subscribed(*servers) as group:
            publishing = group.create_task(pipe.publisher.run(source, pipe.decoder, stopping), name="publisher")
            await pipe.drained(publishing, stopping)
            await asyncio.wait([publishing])
            if publishing.cancelled():
                raise StoreUnavailable(f"replay: stopped, Redis at {store.address} is unavailable: {store.trouble}")
            yield pipe


@asynccontextmanager
async def checking(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[tuple[Store, Supervised]]:
    """Open what would be used, for trying it once: the store and the stream; beside a running daemon its server."""
    async with AsyncExitStack() as stack:
        demo = settings.stream.url == DEMO
        store, _ = await _open(stack, settings, environ, throwaway=demo, prefix=DEMO, beside=True)
        place = place_of(settings.stream.url, settings.stream.format)
        if demo:
            place = Place(await stack.enter_async_context(demo_server()), place.format)
        yield store, await stack.enter_async_context(open_stream(settings.stream, place))


async def _open(
    stack: AsyncExitStack,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    throwaway: bool,
    prefix: str,
    beside: bool = False,
) -> tuple[Store, list[EmbeddedServer]]:
    """Open the store, and before it the embedded server where that is what is wanted.

    What is `throwaway` never mixes with real boards: a folder of its own, or keys under `prefix` in a given Redis.
    `beside` another daemon that has the folder, its server is used.
    """
    url, servers = settings.redis.url, list[EmbeddedServer]()
    if url == EMBEDDED:
        folder = data_dir(settings, environ)
        sweep_throwaway_folders()
        if throwaway:
            folder = Path(stack.enter_context(throwaway_folder("demo")))
        if beside and (running := running_url(folder)):
            url = running
        else:
            server = await stack.enter_async_context(embedded_server(folder))
            url, servers = server.url, [server]
        log.debug("the embedded server listens at %s", url)
    # Each subscriber listens and applies, the publisher appends and renews, the bare lease renews; the API reads.
    connections = 2 * len(settings.boards) + 3 + MAX_READS + 1
    whole_prefix = settings.redis.prefix + (prefix if throwaway else "")
    return await stack.enter_async_context(open_store(url, connections=connections, prefix=whole_prefix)), servers


async def _clear(pipe: Pipe) -> None:
    """Delete what an earlier replay left; the lease, which says that nobody uses it now, stays."""
    keys = [key for board in pipe.boards.values() for key in (board.key, board.applied_key)]
    stream = pipe.journal.stream_key
    await pipe.store.execute("UNLINK", *keys, stream, f"{stream}:journal", f"{stream}:ids")


def _api(pipe: Pipe, stream: StreamState, settings: Settings, servers: Sequence[EmbeddedServer]) -> Api:
    requests = Counter[tuple[str, str]]()
    watched = Watched(
        store=pipe.store,
        stream=stream,
        published=pipe.publisher.published,
        heard={name: one.heard for name, one in pipe.subscribers.items()},
        skipped=pipe.skipped,
        volume=pipe.volume,
        requests=requests,
        embedded_restarts=lambda: sum(server.restarts for server in servers),
    )
    return Api(
        pipe.boards,
        readiness=lambda: _readiness(pipe, stream),
        metrics=watched.render,
        requests=requests,
        hosts=[settings.http.host, *settings.http.allowed_hosts],
        demo=settings.stream.url == DEMO,
    )


def _readiness(pipe: Pipe, stream: StreamState) -> dict[str, Part]:
    parts = {"redis": Part(pipe.store.available, "; ".join([pipe.store.trouble or "answers", *pipe.cautions]))}
    if pipe.publisher.published.standby:
        parts["stream"] = Part(ok=True, detail=f"standby: {pipe.lease.other} has it")
    else:
        silent_s = time.time() - stream.last_received
        detail = stream.trouble or (f"last heard {silent_s:.1f} s ago" if stream.last_received else "connected")
        if pipe.volume.quiet:
            detail += f"; no post for {pipe.volume.silent_s:.0f} s, which is unusual"
        if stream.gap_s:
            detail += f"; {stream.gap_s:.1f} s at most went by unheard since the start"
        if pipe.skipped.undelivered:
            detail += f"; the stream says that it left out {pipe.skipped.undelivered:,} posts"
        parts["stream"] = Part(stream.live, detail)
    session = pipe.journal.session
    for name, subscriber in pipe.subscribers.items():
        behind = 0 if session is None else max(session.seq - session.applied[name], 0)
        detail = f"{behind} batches behind" if subscriber.heard.subscribed else "channel not subscribed"
        parts[name] = Part(subscriber.heard.subscribed, detail)
    return parts


def _format_stall_timeout_s(pipe: Pipe) -> float:
    decoder = pipe.decoder
    if isinstance(decoder, AutoDecoder):
        return 0.0 if decoder.format is None else decoder.format.stall_timeout_s
    return decoder.format.stall_timeout_s
