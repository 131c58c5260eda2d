"""The daemon: streams, the pipe and the boards' address put together, and the order in which they live and end.

What lives here: start against the flow, stop with it, each step with a deadline, and other settings on the way. What
must not: how a thing is opened (opening.py), anything a part can know by itself, signals, printing.
"""

import asyncio
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, cast

from tweetboard import schema
from tweetboard.api import About, Api, Part
from tweetboard.blocklist import Blocklist
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.boards import boards_of
from tweetboard.clients import Clients
from tweetboard.embedded import EmbeddedServer
from tweetboard.errors import ConfigurationError, StoreUnavailable
from tweetboard.lease import instance_name
from tweetboard.metrics import Watched
from tweetboard.openapi import openapi
from tweetboard.opening import Opened, Upstreams, is_demo, open_upstreams, opened_place, opened_redis, opened_store
from tweetboard.pipe import Pipe
from tweetboard.presets import Place
from tweetboard.replay import FileSource
from tweetboard.serving import bound, serving_on
from tweetboard.settings import DEMO, EMBEDDED, HttpSettings, Settings, data_dir, differences, streams_of, with_live
from tweetboard.sources import open_stream
from tweetboard.store import Store
from tweetboard.supervision import Supervised
from tweetboard.systemd import Notifier, inherited_sockets
from tweetboard.waiting import first_of
from tweetboard.watchdog import keep_telling

LAST_TRY_S: Final = 0.5
"""A replay stopped before Redis has answered gives up so much later: one that is there answers meanwhile."""

log = logging.getLogger(__name__)


class Reload(NamedTuple):
    """A wish for other settings: once `asked`, they are `read`, which raises `ConfigurationError`, and `taken`."""

    asked: asyncio.Event
    read: Callable[[], Settings]
    taken: Callable[[Settings], None] = lambda _: None


@dataclass(frozen=True)
class _House:
    """What outlives a change of settings: the server, the streams' connections, the sockets that are served on."""

    opened: Opened
    upstreams: Upstreams
    sockets: Sequence[socket.socket]
    notifier: Notifier
    holder: str


async def serve(
    settings: Settings,
    environ: Mapping[str, str],
    stopping: asyncio.Event,
    reload: Reload,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the daemon until `stopping` is set; `on_ready` gets the boards' address once everything serves.

    What can change while it runs does where `reload` is asked for: boards and filters, and with them the whole pipe;
    the streams are read on without a gap. The service manager is told how it goes, where the environment names one,
    and its sockets are used.
    Raises a `TweetboardError`, alone or in a group, where a part fails for good or the stop left something behind.
    """
    notifier = Notifier(environ)
    async with AsyncExitStack() as stack:
        opened = await opened_redis(stack, settings, environ, throwaway=is_demo(settings), prefix=DEMO)
        upstreams = await open_upstreams(stack, settings)
        sockets = [stack.enter_context(one) for one in inherited_sockets(environ) or await _bound(settings.http)]
        house = _House(opened, upstreams, sockets, notifier, instance_name())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        relaying = [group.create_task(one.run(), name=f"relay {name}") for name, one in upstreams.relays.items()]
        changed: Settings | None = settings
        while changed is not None:
            settings = changed
            changed = await _serve(house, settings, stopping, reload, on_ready)
            on_ready = _nobody
        for task in relaying:
            task.cancel()


def _nobody(_: str) -> None:
    """Tell nobody: the address is the same as before."""


async def _serve(
    house: _House,
    settings: Settings,
    stopping: asyncio.Event,
    reload: Reload,
    on_ready: Callable[[str], None],
) -> Settings | None:
    """Run a pipe and its boards' address until the stop, or until there are other settings to go on with."""
    async with AsyncExitStack() as stack:
        store = await opened_store(stack, settings, house.opened)
        pipe = Pipe(store, settings, house.upstreams.places, house.upstreams.titles, holder=house.holder)
        pipe.blocklist.load()
        house.upstreams.read_by(pipe.feeds)
        api = _api(pipe, settings, house.opened.servers)
        group = await stack.enter_async_context(pipe.subscribed(*house.opened.servers))
        address = await stack.enter_async_context(serving_on(api.application(), house.sockets))
        leaving = asyncio.Event()
        publishing = group.create_task(pipe.publish(house.upstreams.relays, leaving), name="publish")
        watching = [group.create_task(feed.watch_volume(), name=f"volume {name}") for name, feed in pipe.feeds.items()]
        watching.append(group.create_task(pipe.look_at_redis(), name="look at redis"))
        telling = keep_telling(house.notifier, pipe.work, pipe.summary)
        watching.append(group.create_task(telling, name="service manager"))
        house.notifier.ready()
        on_ready(address)
        changed = await _changed(house, settings, pipe, reload, first_of(stopping.wait(), asyncio.wait([publishing])))
        if changed is not None:
            house.upstreams.keep()
            leaving.set()
            await pipe.handed_over(publishing, stopping)
            house.upstreams.left()
        if stopping.is_set() or changed is None:
            house.notifier.stopping()
            leaving.set()
            await pipe.drained(publishing, stopping)
            log.info("stopped: %d posts read", pipe.posts)
        for task in watching:
            task.cancel()
    return None if stopping.is_set() else changed


async def _changed(
    house: _House, settings: Settings, pipe: Pipe, reload: Reload, ended: Coroutine[Any, Any, None]
) -> Settings | None:
    """Wait until there are other settings to go on with; None where it has `ended` before."""
    found: list[Settings] = []

    async def look() -> None:
        while not found:
            await reload.asked.wait()
            reload.asked.clear()
            await pipe.store.wait()  # what has been read could not be put onto the boards before
            house.notifier.reloading()
            try:
                other = await _read_again(pipe.store, settings, reload)
            except StoreUnavailable:  # it has gone again meanwhile
                reload.asked.set()
                continue
            if other != settings:
                reload.taken(other)
                found.append(other)
            else:
                pipe.reload()
                house.notifier.ready()

    await first_of(ended, look())
    return found[0] if found else None


async def _read_again(store: Store, settings: Settings, reload: Reload) -> Settings:
    """Read the settings, and give those to go on with, the same ones where something is wrong with the new.

    Raises `StoreUnavailable`.
    """
    try:
        wanted = reload.read()
        Blocklist(wanted.filter.blocklist).load()
        taken = with_live(settings, wanted)
        await _check_keys(store, taken)
    except ConfigurationError as error:
        for problem in error.problems:
            log.error("all settings stay as they were: %s", problem)  # noqa: TRY400 - the user's fault
        return settings
    for path in differences(taken, wanted):
        log.warning("%s is another one now: that takes a restart", path)
    if found := differences(settings, taken):
        log.info("settings that are other ones from now on: %s", ", ".join(found))
    return taken


async def _check_keys(store: Store, settings: Settings) -> None:
    """Look where the boards are to be; raises `ConfigurationError` where Redis has something else there."""
    for name, board in boards_of(settings)[0].items():
        kind = cast("bytes", await store.execute("TYPE", store.key(board.key))).decode()
        if kind not in ("none", "zset"):
            raise ConfigurationError(f"boards.{name}.key: {board.key} is a {kind} in Redis")


async def _bound(http: HttpSettings) -> list[socket.socket]:
    """Listen where the settings say."""
    try:
        return await bound(http.host, http.port)
    except OSError as error:
        wrong_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        key = "http.host" if wrong_host else "http.port"
        raise ConfigurationError(f"{key}: cannot listen on {http.host}:{http.port}: {error.strerror}") from error


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
        opened = await opened_redis(stack, settings, environ, throwaway=False, prefix="", beside=True)
        store = await opened_store(stack, settings, opened)
        await schema.check(store)
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


def _parts(pipe: Pipe) -> dict[str, Part]:
    return {
        name: Part(ok, detail, None if age_s is None else round(max(age_s, 0.0), 1))
        for name, (ok, detail, age_s) in pipe.described().items()
    }


def _api(pipe: Pipe, settings: Settings, servers: Sequence[EmbeddedServer]) -> Api:
    requests = Counter[tuple[str, str]]()
    watched = Watched(
        store=pipe.store,
        feeds=list(pipe.feeds.values()),
        heard={name: one.heard for name, one in pipe.subscribers.items()},
        requests=requests,
        cleared=lambda: {name: board.cleared for name, board in pipe.boards.items()},
        failed_writes=lambda: len(pipe.failed_writes),
        embedded_restarts=lambda: sum(server.restarts for server in servers),
    )
    api = Api(
        pipe.boards,
        About(
            readiness=partial(_parts, pipe),
            streams=lambda: {feed.title: feed.condition() for feed in pipe.feeds.values()},
            metrics=watched.render,
        ),
        requests=requests,
        clients=Clients(settings.http.max_viewers_per_address, settings.http.trusted_proxies),
        hosts=[settings.http.host, *settings.http.allowed_hosts],
        demo=is_demo(settings),
        description=openapi({name: board.kept for name, board in pipe.boards.items()}),
    )
    watched.viewers = lambda: api.live.viewers
    return api
