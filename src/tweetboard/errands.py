"""Commands that open what the daemon opens, do one thing and end: counting a file, trying parts, minding boards.

What lives here: which parts each of them needs, put together and ended. What must not: what is done with them (cli.py,
maintenance.py), or the daemon's own life (daemon.py).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from tweetboard import schema
from tweetboard.blocklist import Blocklist
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.boards import boards_of
from tweetboard.errors import ConfigurationError, StoreUnavailable
from tweetboard.opening import check_keys, check_places, is_demo, opened_place, opened_redis, opened_store
from tweetboard.pipe import Pipe
from tweetboard.presets import Place
from tweetboard.replay import FileSource
from tweetboard.settings import DEMO, EMBEDDED, Settings, data_dir, streams_of
from tweetboard.sources import open_stream
from tweetboard.store import Store
from tweetboard.supervision import Supervised
from tweetboard.waiting import first_of

LAST_TRY_S: Final = 0.5
"""A replay stopped before Redis has answered gives up so much later: one that is there answers meanwhile."""

_NEVER_COUNTED: Final = (
    "nothing was ever counted in {}: is this the --config, --data-dir or --redis of the daemon? "
    "(the demo's boards are in a throwaway folder, where nobody else comes)"
)


@asynccontextmanager
async def replaying(
    settings: Settings, environ: Mapping[str, str], source: FileSource, stopping: asyncio.Event
) -> AsyncIterator[Pipe]:
    """Count a source that ends, onto boards of its own; yields the pipe when everything is on them.

    Raises a `TweetboardError`, alone or in a group; `ConfigurationError` while another replay uses the same Redis,
    and `StoreUnavailable` where the stop came before Redis.
    """

    async def given_up() -> None:
        await stopping.wait()
        await asyncio.sleep(LAST_TRY_S)

    async with AsyncExitStack() as stack:
        opened = await opened_redis(stack, settings, environ, throwaway=True, prefix="demo:replay:")
        store = await opened_store(stack, settings, opened)
        pipe = Pipe(store, settings, {"replay": Place("", settings.stream.format)}, clock=None)
        pipe.blocklist.load()
        feed = pipe.feeds["replay"]
        feed.state = source.state
        await first_of(store.wait(), given_up())
        if not store.available:
            raise StoreUnavailable(f"replay: stopped, Redis at {store.address} is unavailable: {store.trouble}")
        if not await feed.lease.hold():
            raise ConfigurationError(f"replay: another one, {feed.lease.other}, uses the Redis at {store.address}")
        await schema.check(store)
        await _clear(pipe)
        async with pipe.subscribed(*opened.servers) as group:
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
        opened = await opened_redis(stack, settings, environ, throwaway=is_demo(settings), prefix=DEMO, beside=True)
        store = await opened_store(stack, settings, opened)
        Blocklist(settings.filter.blocklist).load()
        yield (
            store,
            {
                title: await stack.enter_async_context(open_stream(stream, await opened_place(stack, stream), table))
                for table, title, stream in streams_of(settings).values()
            },
        )


async def try_redis(store: Store, settings: Settings) -> str:
    """Say which server answers; raises a `TweetboardError` where the boards could not be counted there."""
    version = await store.version()
    await check_places(store, settings)
    return version


@asynccontextmanager
async def maintaining(
    settings: Settings, environ: Mapping[str, str], *, begins: bool = False
) -> AsyncIterator[tuple[Store, dict[str, Scoreboard]]]:
    """Open the boards that the settings name, beside a running daemon or without one.

    Raises `ConfigurationError` where nothing was ever counted there, unless what is done `begins` it.
    """
    folder = data_dir(settings, environ)
    if settings.redis.url == EMBEDDED and not begins and not (folder / "appendonlydir").exists():
        raise ConfigurationError(f"redis.data_dir: {_NEVER_COUNTED.format(folder)}")
    async with AsyncExitStack() as stack:
        opened = await opened_redis(stack, settings, environ, throwaway=False, prefix="", beside=True)
        store = await opened_store(stack, settings, opened)
        was_counted = await schema.check(store)
        await check_keys(store, settings)
        if not was_counted and not begins:
            under = f", under {store.prefix!r}" if store.prefix else ""
            raise ConfigurationError(f"redis.url: {_NEVER_COUNTED.format(store.address + under)}")
        boards = boards_of(settings)[0]
        yield (
            store,
            {
                name: Scoreboard(store, name, board.key, board.fold, kept=board.kept, clock=time.time)
                for name, board in boards.items()
            },
        )


async def _clear(pipe: Pipe) -> None:
    """Delete what an earlier replay left; the lease, which says that nobody uses it now, stays."""
    for board in pipe.boards.values():
        await board.reset()
    stream = pipe.feeds["replay"].journal.stream_key
    applied = [board.applied_key for board in pipe.boards.values()]
    await pipe.store.execute("UNLINK", *applied, stream, f"{stream}:journal", f"{stream}:ids")
