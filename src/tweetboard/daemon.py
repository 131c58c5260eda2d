"""The daemon: streams, the pipe and the boards' address put together, and the order in which they live and end.

What lives here: opening what the settings name, one TaskGroup, start against the flow, stop with it, each step with a
deadline. What must not: anything a part can know by itself, signals, printing.
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

from tweetboard.api import About, Api, Part
from tweetboard.blocklist import Blocklist
from tweetboard.board.reads import STEPS
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.boards import boards_of
from tweetboard.embedded import EmbeddedServer, embedded_server, running_url, sweep_throwaway_folders, throwaway_folder
from tweetboard.errors import ConfigurationError, StoreUnavailable
from tweetboard.feed import Feed
from tweetboard.metrics import Watched
from tweetboard.openapi import openapi
from tweetboard.pipe import Pipe
from tweetboard.presets import Place, place_of
from tweetboard.publisher import Source
from tweetboard.replay import FileSource
from tweetboard.serving import listening
from tweetboard.settings import DEMO, EMBEDDED, Settings, Stream, StreamSettings, data_dir, streams_of
from tweetboard.simulate import demo_server
from tweetboard.sources import open_stream
from tweetboard.store import Store, open_store
from tweetboard.supervision import Supervised
from tweetboard.waiting import first_of

LAST_TRY_S: Final = 0.5
"""A replay stopped before Redis has answered gives up so much later: one that is there answers meanwhile."""

log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    environ: Mapping[str, str],
    stopping: asyncio.Event,
    reload: asyncio.Event,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the daemon until `stopping` is set; `on_ready` gets the boards' address once everything serves.

    Whenever `reload` is set, what can be read again is.
    Raises a `TweetboardError`, alone or in a group, where a part fails for good or the stop left something behind.
    """
    async with AsyncExitStack() as stack:
        store, servers = await _open(stack, settings, environ, throwaway=_is_demo(settings), prefix=DEMO)
        streams = streams_of(settings)
        places = {name: await _place(stack, stream.settings) for name, stream in streams.items()}
        pipe = Pipe(store, settings, places, {name: stream.title for name, stream in streams.items()})
        pipe.blocklist.load()
        sources: dict[str, Source] = {
            name: await _source(stack, stream, places[name], pipe.feeds[name]) for name, stream in streams.items()
        }
        api = _api(pipe, settings, servers)
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
        publishing = group.create_task(pipe.publish(sources, stopping), name="publish")
        watching = [group.create_task(feed.watch_volume(), name=f"volume {name}") for name, feed in pipe.feeds.items()]
        watching.append(group.create_task(pipe.look_at_redis(), name="look at redis"))
        watching.append(group.create_task(pipe.reload_whenever(reload), name="reload"))
        on_ready(address)
        await pipe.drained(publishing, stopping)
        for task in watching:
            task.cancel()
        log.info("stopped: %d posts read", pipe.posts)


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
        pipe = Pipe(store, settings, {"replay": Place("", settings.stream.format)}, clock=None)
        pipe.blocklist.load()
        feed = pipe.feeds["replay"]
        feed.state = source.state
        await first_of(store.wait(), given_up())
        if not store.available:
            raise StoreUnavailable(f"replay: stopped, Redis at {store.address} is unavailable: {store.trouble}")
        if not await feed.lease.hold():
            raise ConfigurationError(f"replay: another one, {feed.lease.other}, uses the Redis at {store.address}")
        await _clear(pipe)
        async with pipe.subscribed(*servers) as group:
            publishing = group.create_task(pipe.publish({feed.name: source}, stopping), name="publish")
            await pipe.drained(publishing, stopping)
            await asyncio.wait([publishing])
            if publishing.cancelled():
                raise StoreUnavailable(f"replay: stopped, Redis at {store.address} is unavailable: {store.trouble}")
            yield pipe


@asynccontextmanager
async def checking(
    settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[tuple[Store, dict[str, Supervised]]]:
    """Open what would be used, for trying it once: the store and the streams, by title.

    Beside a running daemon that is its server.
    """
    async with AsyncExitStack() as stack:
        store, _ = await _open(stack, settings, environ, throwaway=_is_demo(settings), prefix=DEMO, beside=True)
        Blocklist(settings.filter.blocklist).load()
        yield (
            store,
            {
                title: await stack.enter_async_context(open_stream(stream, await _place(stack, stream), table))
                for table, title, stream in streams_of(settings).values()
            },
        )


@asynccontextmanager
async def maintaining(
    settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[tuple[Store, dict[str, Scoreboard]]]:
    """Open the boards that the settings name, beside a running daemon or without one.

    Raises `ConfigurationError` where nothing was ever counted in the embedded server's folder.
    """
    folder = data_dir(settings, environ)
    if settings.redis.url == EMBEDDED and not (folder / "appendonlydir").exists():
        raise ConfigurationError(
            f"redis.data_dir: nothing was ever counted in {folder}: is this the --config or --data-dir of the daemon? "
            "(the demo's boards are in a throwaway folder, where nobody else comes)"
        )
    async with AsyncExitStack() as stack:
        store, _ = await _open(stack, settings, environ, throwaway=False, prefix="", beside=True)
        boards = boards_of(settings)[0]
        yield (
            store,
            {
                name: Scoreboard(store, name, board.key, board.fold, kept=board.kept, clock=time.time)
                for name, board in boards.items()
            },
        )


def _is_demo(settings: Settings) -> bool:
    return not settings.streams and settings.stream.url == DEMO


async def _place(stack: AsyncExitStack, stream: StreamSettings) -> Place:
    place = place_of(stream.url, stream.format)
    return place if stream.url != DEMO else Place(await stack.enter_async_context(demo_server()), place.format)


async def _source(stack: AsyncExitStack, stream: Stream, place: Place, feed: Feed) -> Supervised:
    """Make a stream's client, and tell its feed of it."""
    settings = stream.settings
    client = open_stream(settings, place, stream.table, lambda: settings.stall_timeout_s or feed.stall_timeout_s)
    source = await stack.enter_async_context(client)
    source.title, source.on_connected = f"stream {feed.title}", feed.skipped.connected
    feed.state, feed.on_posts = source.state, source.data_flowed
    return source


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
    # Each subscriber listens, adds bare names and applies each stream's batches, and its board ages and is read; each
    # publisher appends and renews; the bare lease renews; somebody looks at Redis's settings.
    streams = len(streams_of(settings))
    connections = (3 + streams + STEPS) * len(settings.boards) + 2 * streams + 1 + 2
    whole_prefix = settings.redis.prefix + (prefix if throwaway else "")
    return await stack.enter_async_context(open_store(url, connections=connections, prefix=whole_prefix)), servers


async def _clear(pipe: Pipe) -> None:
    """Delete what an earlier replay left; the lease, which says that nobody uses it now, stays."""
    for board in pipe.boards.values():
        await board.reset()
    stream = pipe.feeds["replay"].journal.stream_key
    applied = [board.applied_key for board in pipe.boards.values()]
    await pipe.store.execute("UNLINK", *applied, stream, f"{stream}:journal", f"{stream}:ids")


def _api(pipe: Pipe, settings: Settings, servers: Sequence[EmbeddedServer]) -> Api:
    requests = Counter[tuple[str, str]]()
    watched = Watched(
        store=pipe.store,
        feeds=list(pipe.feeds.values()),
        heard={name: one.heard for name, one in pipe.subscribers.items()},
        requests=requests,
        cleared=lambda: {name: board.cleared for name, board in pipe.boards.items()},
        embedded_restarts=lambda: sum(server.restarts for server in servers),
    )
    api = Api(
        pipe.boards,
        About(
            readiness=lambda: {name: Part(*part) for name, part in pipe.described().items()},
            streams=lambda: {feed.title: feed.condition() for feed in pipe.feeds.values()},
            metrics=watched.render,
        ),
        requests=requests,
        hosts=[settings.http.host, *settings.http.allowed_hosts],
        demo=_is_demo(settings),
        description=openapi({name: board.kept for name, board in pipe.boards.items()}),
    )
    watched.viewers = lambda: api.live.viewers
    return api
