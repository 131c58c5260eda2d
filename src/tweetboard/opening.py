"""From the settings to what they name, opened: the Redis server, a store on it, the streams' connections.

What lives here: opening, each as a part of somebody's stack, and looking whether boards have their places. What must
not: counting, or how long anything is open (daemon.py).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, cast

from tweetboard import schema
from tweetboard.board.reads import STEPS
from tweetboard.boards import boards_of
from tweetboard.channel import subscribe
from tweetboard.embedded import EmbeddedServer, embedded_server, running_url, sweep_throwaway_folders, throwaway_folder
from tweetboard.errors import ConfigurationError, StoreRefused
from tweetboard.feed import Feed
from tweetboard.presets import Place, place_of
from tweetboard.relay import Relay
from tweetboard.settings import DEMO, EMBEDDED, Secret, Settings, StreamSettings, data_dir, streams_of
from tweetboard.simulate import demo_server
from tweetboard.sources import open_stream
from tweetboard.store import COMMAND_TIMEOUT_S, Store, open_store
from tweetboard.supervision import Supervised

log = logging.getLogger(__name__)

_KINDS: Final = {"": "zset", ":applied": "hash", ":spelling": "hash", ":spellings": "hash", ":rest": "hash"}
"""What a board's keys are, by what stands behind its own: those that another program may have by chance."""


class Opened(NamedTuple):
    """A Redis server: where it is, what stands before every key and channel, and the private one where it is that."""

    url: str
    prefix: str
    servers: Sequence[EmbeddedServer]
    password: Secret


@dataclass(frozen=True)
class Upstreams:
    """The streams by name: their places, what people call them, their clients, and the relays that read these.

    They outlive the feeds that read them at any time.
    """

    places: dict[str, Place] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    clients: dict[str, Supervised] = field(default_factory=dict)
    relays: dict[str, Relay] = field(default_factory=dict)
    _feeds: dict[str, Feed] = field(default_factory=dict)
    _found_stall_s: dict[str, float] = field(default_factory=dict)

    def read_by(self, feeds: Mapping[str, Feed]) -> None:
        """Let these feeds know their clients, and the clients them, from now on."""
        self._feeds.update(feeds)
        for name, feed in feeds.items():
            client = self.clients[name]
            client.on_connected = feed.skipped.connected
            feed.state, feed.on_posts = client.state, client.data_flowed
            feed.publisher.on_begun = self.relays[name].taken_over

    def keep(self) -> None:
        """Let no connection end because its reader does: another one follows."""
        for relay in self.relays.values():
            relay.keep()

    def left(self) -> None:
        """Note that the readers have put all that they read into their journals."""
        for name, relay in self.relays.items():
            relay.left_at(self._feeds[name].publisher.place)

    def stall_timeout_s(self, name: str) -> float:
        """How long a stream may say nothing at all, as the feed that reads it knows, or one before it did."""
        if found := self._feeds[name].stall_timeout_s:
            self._found_stall_s[name] = found
        return self._found_stall_s.get(name, 0.0)


async def open_upstreams(stack: AsyncExitStack, settings: Settings) -> Upstreams:
    """Make the clients of all streams; nothing is connected yet."""
    found = Upstreams()
    for name, stream in streams_of(settings).items():
        place = await opened_place(stack, stream.settings)
        client = await stack.enter_async_context(
            open_stream(stream.settings, place, stream.table, partial(found.stall_timeout_s, name))
        )
        client.title = f"stream {stream.title}"
        found.places[name], found.titles[name] = place, stream.title
        found.clients[name], found.relays[name] = client, Relay(client)
    return found


async def opened_place(stack: AsyncExitStack, stream: StreamSettings) -> Place:
    """Say where a stream is; the demo's is opened."""
    place = place_of(stream.url, stream.format)
    return place if stream.url != DEMO else Place(await stack.enter_async_context(demo_server()), place.format)


async def opened_redis(
    stack: AsyncExitStack,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    throwaway: bool,
    prefix: str,
    beside: bool = False,
) -> Opened:
    """Say where Redis is, and start the embedded server where that is what is wanted.

    What is `throwaway` never mixes with real boards: a folder of its own, or keys under `prefix` in a given Redis.
    `beside` another daemon that has the folder, its server is used.
    """
    url, servers, password = settings.redis.url, list[EmbeddedServer](), settings.redis.password
    if url == EMBEDDED:
        folder, password = data_dir(settings, environ), Secret()
        sweep_throwaway_folders()
        if throwaway:
            folder = Path(stack.enter_context(throwaway_folder("demo")))
        if beside and (running := running_url(folder)):
            url = running
        else:
            server = await stack.enter_async_context(embedded_server(folder))
            url, servers = server.url, [server]
        log.debug("the embedded server listens at %s", url)
    return Opened(url, settings.redis.prefix + (prefix if throwaway else ""), servers, password)


async def opened_store(stack: AsyncExitStack, settings: Settings, opened: Opened) -> Store:
    """Open a store with as many connections as the settings' boards and streams can use at once."""
    # Each subscriber listens, adds bare names and applies each stream's batches, and its board ages and is read; each
    # publisher appends and renews; the bare lease renews; somebody looks at Redis's settings, and at boards' places.
    streams = len(streams_of(settings))
    connections = (3 + streams + STEPS) * len(settings.boards) + 2 * streams + 1 + 3
    store = open_store(opened.url, connections=connections, prefix=opened.prefix, password=opened.password.value)
    return await stack.enter_async_context(store)


async def check_places(store: Store, settings: Settings) -> None:
    """Look whether each board can be where it is to be, and be heard.

    Raises `ConfigurationError` where not, such as for rights that are missing or another version's layout, and
    `StoreError`.
    """
    await store.execute("PING")  # a password that is wrong is no board's fault
    await schema.check(store)
    await check_keys(store, settings)
    for name in boards_of(settings)[0]:
        try:
            async with subscribe(store, name) as subscription, asyncio.timeout(COMMAND_TIMEOUT_S):
                await anext(aiter(subscription))
        except TimeoutError as error:
            raise store.failed(error, store.key(name)) from error
        except StoreRefused as error:
            raise ConfigurationError(f"boards.{name}: {error}") from error


async def check_keys(store: Store, settings: Settings) -> None:
    """Look whether the boards' keys are free or theirs; raises `ConfigurationError` where not, and `StoreError`."""
    for name, board in boards_of(settings)[0].items():
        for suffix, kind in _KINDS.items():
            key = store.key(f"{board.key}{suffix}")
            try:
                found = cast("bytes", await store.execute("TYPE", key)).decode()
            except StoreRefused as error:
                raise ConfigurationError(f"boards.{name}.key: {error}") from error
            if found not in ("none", kind):
                raise ConfigurationError(f"boards.{name}.key: {key} is a {found} in Redis, and no board's")


def is_demo(settings: Settings) -> bool:
    """Whether nothing but the demo is counted."""
    return not settings.streams and settings.stream.url == DEMO
