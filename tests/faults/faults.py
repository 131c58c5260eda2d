"""Each fault, as a function that does it to a rig and returns when it is over.

What lives here: what goes wrong, and how long. What must not: what has to hold (truth.py).
"""

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias, cast

from faults.proxy import Proxy
from faults.rig import Rig
from tweetboard.errors import StoreUnavailable
from tweetboard.store import Store

Fault: TypeAlias = Callable[[Rig], Awaitable[None]]

TIMEOUT_S: Final = 3.0
"""What a daemon gives a command; a lease's life, too."""

_SHOUT: Final = """
for _ = 1, 200 do
  for _, channel in ipairs(KEYS) do redis.call('PUBLISH', channel, ARGV[1]) end
end
"""

FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


async def daemon_killed(rig: Rig) -> None:
    await rig.end_daemon(signal.SIGKILL)
    await rig.start_daemon()


async def daemon_stopped(rig: Rig) -> None:
    await rig.flows(5)  # without Redis, a stop rightly says that it leaves something
    clock = asyncio.get_running_loop().time
    began_s = clock()
    code = await rig.end_daemon(signal.SIGTERM)
    assert code == 0, f"a stop ended with {code}"
    assert clock() - began_s < 5, "a stop took 5 s"
    await rig.start_daemon()


async def settings_changed(rig: Rig) -> None:
    """Let boards and trending scores come and go: a new pipe each time, over the stream's same connection."""
    for number in range(4):
        more = f'[boards.more-{number}]\nfield = "author"\n' if number % 2 else ""
        hours = rig.rng.randrange(1, 1_000)
        (rig.folder / "config.toml").write_text(f'[boards.hashtags]\ntrending = "{hours}h"\n{more}')
        rig.daemons[-1].signal(signal.SIGHUP)
        if number % 2:
            await rig.flows(5)


async def redis_killed(rig: Rig) -> None:
    await rig.server.end(signal.SIGKILL)
    await asyncio.sleep(rig.rng.uniform(0, 0.3))
    await rig.server.start()


async def redis_terminated(rig: Rig) -> None:
    await rig.server.end(signal.SIGTERM)
    await rig.server.start()


async def aof_torn(rig: Rig) -> None:
    """Lose the end of what Redis has written, at any byte; what a first start makes of it must last over a second."""
    await rig.server.end(signal.SIGKILL)
    rig.server.tear(int(2 ** rig.rng.uniform(0, 17.6)))
    await rig.server.start()
    await rig.flows(10)
    await rig.server.end(signal.SIGKILL)
    await rig.server.start()


async def redis_wiped(rig: Rig) -> None:
    await _command(rig, "FLUSHALL")


async def subscriptions_killed(rig: Rig) -> None:
    await _command(rig, "CLIENT", "KILL", "TYPE", "pubsub")


async def connections_killed(rig: Rig) -> None:
    await _command(rig, "CLIENT", "KILL", "TYPE", "normal")


async def replies_cut(rig: Rig) -> None:
    """Cut connections to Redis in the middle of a reply: the command was carried out, and nobody knows."""
    for _ in range(3):
        await _cut_one(rig.to_redis, rig.rng.randrange(40))
        await rig.flows(5)


async def stream_cut(rig: Rig) -> None:
    """Cut the stream at any byte, also within a line and within a chunk's own head."""
    for _ in range(3):
        await _cut_one(rig.to_stream, rig.rng.randrange(3_000))
        await rig.flows(5)


async def output_overflows(rig: Rig) -> None:
    """Let Redis throw the subscribers out, for reading too slowly; those of further boards hear none of it."""
    foreign = b'{"source":"other","session":"none","seq":1,"times":[],"names":["%b"]}' % (b"x" * 4_000)
    async with rig.server.connected() as store, asyncio.timeout(4 * TIMEOUT_S):
        while len(listening := await _subscribers(store)) < 2:
            await asyncio.sleep(0.02)
        reply = cast("list[int]", await store.execute("PUBSUB", "NUMSUB", "usernames", "hashtags"))
        await store.execute("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 512kb 1")
        rig.to_redis.hold()
        try:
            while len(listening - await _subscribers(store)) < reply[1] + reply[3]:
                await store.execute("EVAL", _SHOUT, 2, "usernames", "hashtags", foreign)
        finally:
            rig.to_redis.let_go()
        await store.execute("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")


async def redis_asleep(rig: Rig) -> None:
    """Let Redis answer nothing for longer than anybody waits, and then carry everything out."""
    async with rig.server.connected() as store:
        try:
            await store.execute("DEBUG", "SLEEP", TIMEOUT_S + 0.3)
        except StoreUnavailable:
            await store.wait()


async def links_lost(rig: Rig) -> None:
    """Let all connections to Redis lead nowhere, and say nothing of it."""
    rig.to_redis.lose_all()


async def redis_frozen(rig: Rig) -> None:
    rig.server.signal(signal.SIGSTOP)
    await asyncio.sleep(rig.rng.uniform(0.3, 1.0))
    rig.server.signal(signal.SIGCONT)


async def taken_over(rig: Rig) -> None:
    """Kill the one of two daemons that counts: the other, which served all along, goes on within two lease lives."""
    await rig.start_daemon()
    # Where the lease has just gone, the new one has taken it, and the other one stands by.
    while not (waiting := [one for one in rig.daemons if "standby: " in str((await one.get("/readyz"))[1])]):
        await asyncio.sleep(0.05)
    standby = waiting[0]
    rig.daemons.sort(key=lambda one: one is standby)
    assert (await standby.get("/usernames"))[0] == 200
    clock = asyncio.get_running_loop().time
    began_s = clock()
    await rig.end_daemon(signal.SIGKILL)
    await rig.flows(10)
    assert clock() - began_s < 2 * TIMEOUT_S, "nobody took over within two lives of the lease"


async def stopped_past_its_lease(rig: Rig) -> None:
    """Let the one of two daemons that counts stand still, and go on when the other has taken over."""
    frozen = rig.daemons[0]
    await rig.start_daemon()
    frozen.signal(signal.SIGSTOP)
    await rig.flows(10)
    frozen.signal(signal.SIGCONT)
    await rig.flows(10)
    assert await rig.end_daemon(signal.SIGTERM) == 0


async def clock_jumps(rig: Rig) -> None:
    """Let a daemon's clock go back and forth by a day while it runs; Redis's stays."""
    rig.all_of_today = False
    clock = rig.folder / "clock"
    clock.write_text("+0")
    await rig.end_daemon(signal.SIGKILL)
    await rig.start_daemon(
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    for jump, days in (("+1d", 1), ("-1d", -1), ("+0", 0)):
        await rig.flows(10)
        clock.write_text(jump)
        told = datetime.fromisoformat(str((await rig.daemons[-1].get("/usernames"))[1]["as_of"]))
        assert round((told - datetime.now(UTC)).total_seconds() / 86_400) == days, "the clock did not jump"
    await rig.flows(10)


async def _subscribers(store: Store) -> set[bytes]:
    """Read the ids of the connections that listen to a channel."""
    clients = await store.execute("CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(clients, bytes)
    return set(re.findall(rb"^id=(\d+)", clients, re.MULTILINE))


async def _command(rig: Rig, *command: str | bytes) -> None:
    async with rig.server.connected() as store:
        await store.execute(*command)


async def _cut_one(proxy: Proxy, after_bytes: int) -> None:
    """Cut the next connection on which anything comes back, and wait until that has happened."""
    cuts = proxy.cuts
    proxy.cut_next(1, after_bytes)
    async with asyncio.timeout(2 * TIMEOUT_S):
        while proxy.cuts == cuts:
            await asyncio.sleep(0.005)


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__: fault
    for fault in (
        daemon_killed,
        daemon_stopped,
        settings_changed,
        redis_killed,
        redis_terminated,
        aof_torn,
        redis_wiped,
        subscriptions_killed,
        connections_killed,
        replies_cut,
        stream_cut,
        output_overflows,
        redis_asleep,
        links_lost,
        redis_frozen,
        taken_over,
        stopped_past_its_lease,
        clock_jumps,
    )
}
