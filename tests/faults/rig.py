"""A daemon between a scripted upstream and a real server, each behind a proxy, and a watcher over its boards.

What lives here: starting, ending and starting again. What must not: which fault comes when (faults.py), or what is
right (truth.py).
"""

import asyncio
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from faults.proxy import Proxy, tcp_proxy, unix_proxy
from faults.truth import BOARDS, Outcome, Scores, Snapshot, Truth, empty
from processes import Daemon, daemon
from tweetboard.boards import LEADERS
from tweetboard.embedded import find_binary
from tweetboard.errors import StoreUnavailable
from tweetboard.store import Store, open_store
from upstream import Mode, Upstream

SEED: Final = int(os.environ.get("TWEETBOARD_TEST_SEED", "20261122"))

STREAM: Final = "faults"
STREAM_KEY: Final = f"tweetboard:{STREAM}"

FLOOR, GREAT = 5, 1_000_000
"""Names of the board of leaders begin in its rest, and leave it with more posts than the first, as on one of very many.

It has as many leaders as it wants already, with as many posts as the second, whom nobody looks at.
"""

POLL_S: Final = 0.1
SETTLE_TIMEOUT_S: Final = 60.0

_SNAPSHOT: Final = """
local state = redis.call('HMGET', KEYS[1], 'owner', 'seq', 'position')
local journal = redis.call('XRANGE', KEYS[1] .. ':journal', '-', '+')
local boards = {}
for i = 2, #KEYS do
  local applied = redis.call('HGET', KEYS[i] .. ':applied', ARGV[1])
  local window = redis.call('ZRANGE', KEYS[i] .. ':window:24h', 0, -1, 'WITHSCORES')
  local rows = redis.call('ZRANGE', KEYS[i], '-inf', '(' .. ARGV[2], 'BYSCORE', 'WITHSCORES')
  for _, word in ipairs(redis.call('HGETALL', KEYS[i] .. ':rest')) do rows[#rows + 1] = word end
  boards[#boards + 1] = {applied, rows, window}
end
return {state, journal, boards}
"""


_LEADERS: Final = """
for number = 1, ARGV[1] do redis.call('ZADD', KEYS[1], ARGV[2], 'leader ' .. number) end
redis.call('SET', KEYS[1] .. ':floor', ARGV[3])
"""


class Server:
    """A server at `folder`/redis.sock that is killed, torn and started again, with `fix` before each start."""

    def __init__(self, folder: Path, binary: str, check_aof: str = "") -> None:
        self._folder = folder
        self._binary = binary
        self._check_aof = check_aof
        self._process: asyncio.subprocess.Process | None = None
        self.socket = folder / "redis.sock"
        self.kills = 0

    async def start(self) -> None:
        """Start it and wait until it answers."""
        if self._check_aof and (manifests := list(self._folder.glob("appendonlydir/*.manifest"))):
            await _checked(self._check_aof, manifests[0])
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--enable-debug-command", "yes"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with self.connected() as store:
            await store.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        """Run it until the block ends."""
        self._folder.mkdir(exist_ok=True)
        await self.start()
        try:
            yield self
        finally:
            await self.end()

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal and wait for its end."""
        if self._process is not None and self._process.returncode is None:
            self.kills += 1
            self._process.send_signal(number)
            await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal that does not end it."""
        assert self._process is not None
        self._process.send_signal(number)

    def tear(self, size_bytes: int) -> None:
        """Cut the end off what it has written; it must not run."""
        last = max(self._folder.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[2]))
        with last.open("r+b") as file:
            file.truncate(max(last.stat().st_size - size_bytes, 0))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Store]:
        """Open a store straight on it, by no proxy."""
        async with open_store(f"unix://{self.socket}", connections=2) as store:
            yield store


async def _checked(check_aof: str, manifest: Path) -> None:
    """Mend a torn file as an operator of Redis 7.0 has to before each start."""
    process = await asyncio.create_subprocess_exec(
        *(check_aof, "--fix", str(manifest)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    await process.communicate(b"y\n")


@dataclass
class Rig:
    """All of it; `daemons` are those that run, the oldest first."""

    folder: Path
    rng: random.Random
    server: Server
    truth: Truth
    upstream: Upstream
    to_stream: Proxy
    to_redis: Proxy
    arguments: list[str]
    environ: dict[str, str]
    stack: AsyncExitStack
    daemons: list[Daemon] = field(default_factory=list)
    polls: int = 0
    furthest: int = 0
    all_of_today: bool = True

    async def start_daemon(self, **environ: str) -> Daemon:
        """Start one more, and wait until it serves."""
        started = await self.stack.enter_async_context(
            daemon(self.folder, *self.arguments, environ={**self.environ, **environ})
        )
        self.daemons.append(started)
        return await started.ready()

    async def end_daemon(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send the oldest a signal and wait for its end; returns its exit code."""
        ended = self.daemons.pop(0)
        ended.signal(number)
        return await ended.ended()

    @property
    def last_words(self) -> str:
        """What the youngest daemon has said last."""
        return self.daemons[-1].errors[-2_000:] if self.daemons else ""

    async def snapshot(self, store: Store) -> Snapshot:
        """Read everything in one step; raises `StoreError`."""
        reply: Any = await store.execute("EVAL", _SNAPSHOT, 3, STREAM_KEY, *BOARDS.values(), STREAM, GREAT)
        (owner, seq, position), entries, boards = reply
        journal = {}
        for entry_id, flat in entries:
            messages = {name.decode(): json.loads(text) for name, text in zip(flat[::2], flat[1::2], strict=True)}
            journal[int(entry_id.split(b"-")[0])] = {name: found["names"] for name, found in messages.items()}
        scores = {name: _scores(rows) for name, (_, rows, _) in zip(BOARDS, boards, strict=True)}
        applied = {name: int(number or 0) for name, (number, _, _) in zip(BOARDS, boards, strict=True)}
        windows = {name: _scores(rows) for name, (_, _, rows) in zip(BOARDS, boards, strict=True)}
        return Snapshot(
            (owner or b"").decode(),
            int(seq or 0),
            int(position or 0),
            applied,
            journal,
            scores,
            windows if self.all_of_today else scores,
        )

    async def seen(self, store: Store) -> Snapshot:
        """Read everything in one step, as soon as the server answers: a busy disk can hold it up for seconds."""
        while True:
            try:
                return await self.snapshot(store)
            except StoreUnavailable:
                await store.wait()

    async def watch(self) -> None:
        """Look every 100 ms, as long as there is a server, whether the boards are what they must be."""
        async with self.server.connected() as store:
            while True:
                try:
                    found = await self.snapshot(store)
                except StoreUnavailable:
                    pass
                else:
                    wrong = self.truth.wrong(found)
                    assert not wrong, wrong
                    self.polls += 1
                self.furthest = max(self.furthest, self.upstream.sent)
                await asyncio.sleep(POLL_S)

    def end_upstream(self) -> None:
        """Let no more posts come than have been sent, and some that may be on their way."""
        end = max(self.furthest, self.upstream.sent) + 500
        self.upstream.records = self.upstream.records[:end]
        self.truth.posts = self.truth.posts[:end]
        self.upstream.rate = 0

    async def flows(self, posts: int = 50) -> None:
        """Wait until so many more posts are on both boards: whatever happened is over."""
        async with self.server.connected() as store, asyncio.timeout(SETTLE_TIMEOUT_S):
            await store.wait()
            began = awaited = None
            while True:
                found = await self.seen(store)
                began = found.position if began is None else min(began, found.position)
                if awaited is None or found.seq < awaited:
                    reached = found.position >= min(began + posts, len(self.truth.posts))
                    awaited = found.seq if reached else None
                elif min(found.applied.values()) >= awaited:
                    return
                await asyncio.sleep(POLL_S / 5)

    async def settled(self) -> Outcome:
        """Let some last posts come, and wait until all are on both boards; raises where a board is wrong."""
        self.end_upstream()
        async with self.server.connected() as store, asyncio.timeout(SETTLE_TIMEOUT_S):
            await store.wait()
            while True:
                found = await self.seen(store)
                if found.position == len(self.truth.posts) and min(found.applied.values()) == found.seq:
                    break
                await asyncio.sleep(POLL_S)
        wrong = self.truth.wrong(found)
        assert not wrong, wrong
        assert self.polls, "nobody looked in between"
        return self.truth.outcome(found.scores)


class NaiveRig(Rig):
    """The naive design in the daemon's place; it knows neither batches nor positions, so only scores can be seen."""

    naive: list[asyncio.subprocess.Process]

    async def start_daemon(self, **environ: str) -> Daemon:
        """Start its three processes, the subscribers first."""
        self.naive = []
        self.stack.push_async_callback(self.end_daemon)
        for part in (*BOARDS, self.arguments[1]):
            command = [sys.executable, str(Path(__file__).with_name("naive.py")), part]
            command.append(self.arguments[3].removeprefix("unix://"))
            self.naive.append(
                await asyncio.create_subprocess_exec(
                    *command, env={**os.environ, **environ}, stderr=asyncio.subprocess.DEVNULL
                )
            )
        return None  # type: ignore[return-value]  # nobody asks it anything

    async def end_daemon(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Kill all three."""
        for process in self.naive:
            if process.returncode is None:
                process.send_signal(number)
        codes = [await process.wait() for process in self.naive]
        return codes[0]

    async def watch(self) -> None:
        """Look at nothing: in between, its boards are never what they must be."""
        await asyncio.Event().wait()

    async def flows(self, posts: int = 50) -> None:
        """Wait until so many more are on the board; where nothing flows any more, start it again, as a person would."""
        began, moved_s, clock = -1, 0.0, asyncio.get_running_loop().time
        async with self.server.connected() as store:
            await store.wait()
            while (total := (await self._read(store))["usernames"].total()) < began + posts or began < 0:
                if began < 0 or total < began:
                    began, moved_s = total, clock()
                if clock() - moved_s > 10:
                    await self.end_daemon()
                    await self.start_daemon()
                    return
                await asyncio.sleep(POLL_S / 5)

    async def settled(self) -> Outcome:
        """Let some last posts come, and wait until nothing changes any more."""
        self.end_upstream()
        async with self.server.connected() as store, asyncio.timeout(2 * SETTLE_TIMEOUT_S):
            await store.wait()
            before, found = empty(), await self._read(store)
            while before != found or self.upstream.sent < len(self.truth.posts):
                await asyncio.sleep(2.0)
                before, found = found, await self._read(store)
        await self.end_daemon()
        return self.truth.outcome(found)

    async def _read(self, store: Store) -> Scores:
        rows: Any = [await store.execute("ZRANGE", key, 0, -1, "WITHSCORES") for key in BOARDS.values()]
        return {name: _scores(found) for name, found in zip(BOARDS, rows, strict=True)}


def _scores(rows: list[bytes]) -> Counter[str]:
    scores = {name.decode(): int(score) for name, score in zip(rows[::2], rows[1::2], strict=True)}
    assert 2 * len(scores) == len(rows), "a name is among the leaders and the rest"
    return Counter(scores)


def binaries() -> dict[str, tuple[str, str]]:
    """Find the servers to test with: the one that is embedded, and Debian's with its `redis-check-aof`."""
    found = {"valkey": (find_binary(), "")}
    redis, check = shutil.which("redis-server"), shutil.which("redis-check-aof")
    if redis and check:
        found["redis"] = (redis, check)
    return found


@asynccontextmanager
async def a_rig(
    folder: Path, seed: int, *, posts: int, rate: float, binary: str = "valkey", kind: type[Rig] = Rig
) -> AsyncIterator[Rig]:
    """Start everything but a daemon; the boards are watched until the block ends."""
    rng = random.Random(seed)
    truth = Truth(posts, seed)
    mode: Mode = "sse" if kind is Rig else "ndjson"  # nobody who writes the naive design thinks of Last-Event-ID
    upstream = Upstream(truth.records, mode=mode, overlap=25, rate=rate)
    server = Server(folder / "redis", *binaries()[binary])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(upstream.serving())
        port = int(upstream.url.rpartition(":")[2].partition("/")[0])
        to_stream, stream_port = await stack.enter_async_context(tcp_proxy(port))
        await stack.enter_async_context(server.running())
        socket = str(folder / "proxy.sock")
        to_redis = await stack.enter_async_context(unix_proxy(socket, str(server.socket)))
        if kind is Rig:
            async with server.connected() as store:
                await store.execute("EVAL", _LEADERS, 1, BOARDS["usernames"], LEADERS, GREAT, FLOOR)
        arguments = ["--stream", f"http://127.0.0.1:{stream_port}/stream", "--redis", f"unix://{socket}"]
        environ = {"TWEETBOARD_STREAM_NAME": STREAM, "TWEETBOARD_BOARDS_USERNAMES_STORE": "leaders"}
        rig = kind(folder, rng, server, truth, upstream, to_stream, to_redis, arguments, environ, stack)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(rig.watch(), name="watch")
            yield rig
            watching.cancel()
