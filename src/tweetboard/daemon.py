"""The daemon: streams, the pipe and the boards' address put together, and the order in which they live and end.

What lives here: start against the flow, stop with it, each step with a deadline, and other settings on the way. What
must not: how a thing is opened (opening.py), anything a part can know by itself, signals, printing.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from tweetboard.api import About, Api, Part
from tweetboard.blocklist import Blocklist
from tweetboard.clients import Clients
from tweetboard.config import check_together
from tweetboard.embedded import EmbeddedServer
from tweetboard.errors import ConfigurationError, StoreUnavailable
from tweetboard.lease import instance_name
from tweetboard.metrics import Watched
from tweetboard.openapi import openapi
from tweetboard.opening import Opened, Upstreams, check_places, is_demo, open_upstreams, opened_redis, opened_store
from tweetboard.pipe import Pipe
from tweetboard.serving import bound, cannot_listen, serving_on
from tweetboard.settings import DEMO, HttpSettings, Settings, differences, with_live
from tweetboard.store import Store
from tweetboard.systemd import Notifier, inherited_sockets
from tweetboard.waiting import first_of
from tweetboard.watchdog import keep_telling

ANSWER_TIMEOUT_S, CHECK_TIMEOUT_S = 1.0, 10.0
"""Serving waits no longer for a Redis that does not answer, for then HTTP says so; so long for a look at the boards'
places in one that does.
"""

log = logging.getLogger(__name__)


class Reload(NamedTuple):
    """A wish for other settings: once `asked`, they are `read`, which raises `ConfigurationError`, and `taken`."""

    asked: asyncio.Event
    read: Callable[[], Settings]
    taken: Callable[[Settings], None] = lambda _: None


class _Running(NamedTuple):
    """What a pipe runs by: settings, and the names that are not shown, which were read with them.

    `posts` is how many the pipes before it have read.
    """

    settings: Settings
    blocklist: Blocklist
    posts: int = 0


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
    blocklist = Blocklist(settings.filter.blocklist)
    blocklist.load()
    running: _Running | None = _Running(settings, blocklist)
    async with AsyncExitStack() as stack:
        opened = await opened_redis(stack, settings, environ, throwaway=is_demo(settings), prefix=DEMO)
        upstreams = await open_upstreams(stack, settings)
        sockets = [stack.enter_context(one) for one in inherited_sockets(environ) or await _bound(settings.http)]
        house = _House(opened, upstreams, sockets, notifier, instance_name())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        relaying = [group.create_task(one.run(), name=f"relay {name}") for name, one in upstreams.relays.items()]
        await _check_start(settings, opened)
        while running is not None:
            running = await _serve(house, running, stopping, reload, on_ready)
            on_ready = _nobody
        for task in relaying:
            task.cancel()


async def _check_start(settings: Settings, opened: Opened) -> None:
    """Look whether the boards have their places, where Redis answers; where not, that shows, and is said, later.

    Raises `ConfigurationError` and `StoreRefused`.
    """
    async with AsyncExitStack() as stack:
        store = await opened_store(stack, settings, opened)
        if await store.stage(ANSWER_TIMEOUT_S) == "ready":
            with suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    await check_places(store, settings)


def _nobody(_: str) -> None:
    """Tell nobody: the address is the same as before."""


async def _serve(
    house: _House,
    running: _Running,
    stopping: asyncio.Event,
    reload: Reload,
    on_ready: Callable[[str], None],
) -> _Running | None:
    """Run a pipe and its boards' address until the stop, or until there are other settings to go on with."""
    settings, blocklist, posts = running
    async with AsyncExitStack() as stack:
        store = await opened_store(stack, settings, house.opened)
        places, titles = house.upstreams.places, house.upstreams.titles
        pipe = Pipe(store, settings, places, titles, holder=house.holder, blocklist=blocklist)
        house.upstreams.read_by(pipe.feeds)
        api = _api(pipe, settings, house.opened.servers)
        group = await stack.enter_async_context(pipe.subscribed(*house.opened.servers))
        address = await stack.enter_async_context(serving_on(api.application(), house.sockets))
        leaving = asyncio.Event()
        publishing = group.create_task(pipe.publish(house.upstreams.relays, leaving), name="publish")
        watching = [group.create_task(feed.watch_volume(), name=f"volume {name}") for name, feed in pipe.feeds.items()]
        watching.append(group.create_task(pipe.look_at_redis(), name="look at redis"))
        telling = keep_telling(house.notifier, pipe.work, pipe.summary, pipe.note_stuck)
        watching.append(group.create_task(telling, name="service manager"))
        house.notifier.ready()
        on_ready(address)
        changed = await _changed(house, running, pipe, reload, first_of(stopping.wait(), asyncio.wait([publishing])))
        if changed is not None:
            house.upstreams.keep()
            leaving.set()
            await pipe.handed_over(publishing, stopping)
            house.upstreams.left()
        if stopping.is_set() or changed is None:
            house.notifier.stopping()
            leaving.set()
            await pipe.drained(publishing, stopping)
            log.info("stopped: %d posts read", posts + pipe.posts)
        for task in watching:
            task.cancel()
    return None if stopping.is_set() or changed is None else changed._replace(posts=posts + pipe.posts)


async def _changed(
    house: _House, running: _Running, pipe: Pipe, reload: Reload, ended: Coroutine[Any, Any, None]
) -> _Running | None:
    """Wait until there are other settings to go on with; None where it has `ended` before."""
    found: list[_Running] = []

    async def look() -> None:
        while not found:
            await reload.asked.wait()
            reload.asked.clear()
            wanted = _read_again(running, reload)  # at once, and not when Redis is back: what is wrong is said
            await first_of(pipe.store.wait(), reload.asked.wait())  # what was read could not go onto the boards before
            if reload.asked.is_set():
                continue
            house.notifier.reloading()
            try:
                other = await _taken_over(pipe.store, running, wanted)
            except StoreUnavailable:  # it has gone again meanwhile
                reload.asked.set()
                continue
            if other.settings != running.settings:
                reload.taken(other.settings)
                found.append(other)
            else:
                pipe.reload()
                house.notifier.ready()

    await first_of(ended, look())
    return found[0] if found else None


def _read_again(running: _Running, reload: Reload) -> _Running:
    """Read what is wanted now: what runs, where something is wrong with the new.

    What can change has to go together with what cannot.
    """
    try:
        settings = reload.read()
        blocklist = Blocklist(settings.filter.blocklist)
        blocklist.load()
        check_together(with_live(running.settings, settings))
    except ConfigurationError as error:
        return _unchanged(running, error)
    return _Running(settings, blocklist)


async def _taken_over(store: Store, running: _Running, wanted: _Running) -> _Running:
    """Give what to go on with, and say what becomes of what is `wanted`. Raises `StoreUnavailable`."""
    taken = with_live(running.settings, wanted.settings)
    try:
        await check_places(store, taken)
    except ConfigurationError as error:
        return _unchanged(running, error)
    for path in differences(taken, wanted.settings):
        log.warning("%s is another one now: that takes a restart", path)
    if found := differences(running.settings, taken):
        log.info("settings that are other ones from now on: %s", ", ".join(found))
    return _Running(taken, wanted.blocklist)


def _unchanged(running: _Running, error: ConfigurationError) -> _Running:
    for problem in error.problems:
        log.error("all settings stay as they were: %s", problem)
    return running


async def _bound(http: HttpSettings) -> list[socket.socket]:
    """Listen where the settings say."""
    try:
        return await bound(http.host, http.port)
    except OSError as error:
        raise ConfigurationError(cannot_listen(http.host, http.port, error)) from error


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
