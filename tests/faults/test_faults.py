"""Every fault once, on real daemons and real servers, watched member by member while it happens."""

import asyncio
import contextlib
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.faults import FAKETIME, FAULTS
from faults.rig import SEED, Server, a_rig, binaries
from faults.truth import Truth
from processes import daemon
from tweetboard.store import Store
from upstream import Answer, Cut, Upstream

RIGS = 4


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="tb-") as made:
        yield Path(made)


async def test_under_every_fault_nothing_is_lost_and_nothing_counted_twice(folder: Path) -> None:
    """In a random order, some at a time, for most of a fault is waiting."""
    names = [name for name in FAULTS if name != "clock_jumps" or FAKETIME.exists()]
    random.Random(SEED).shuffle(names)
    async with asyncio.TaskGroup() as group:
        for number in range(RIGS):
            group.create_task(suffer(folder / str(number), names[number::RIGS], SEED + number))


@pytest.mark.skipif(FAKETIME.exists(), reason="it is tried with the others")
def test_a_clock_that_jumps() -> None:
    pytest.skip("without libfaketime (Debian: faketime) no clock can be made to jump")


async def test_of_a_stream_that_cannot_go_back_just_what_was_received_is_counted_and_the_gap_is_told(
    folder: Path,
) -> None:
    """Each post has a name of its own, so a score of two would be a post that counted twice."""
    records = [b'{"username":"p%d"}' % number for number in range(8_000)]
    script = [Answer(after=800, cut="line"), Answer(status=503), Answer(after=800, cut="chunk")]
    server = Server(folder / "redis", *binaries()["valkey"])
    async with Upstream(records, script=script, rate=4_000).serving() as upstream, server.running():
        arguments = ["--stream", upstream.url, "--redis", f"unix://{server.socket}"]
        async with daemon(folder, *arguments) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 2_000)
            gap_s = await running.metric("tweetboard_stream_gap_seconds_total")
            assert gap_s > 0
            parts = (await running.get("/readyz"))[1]["parts"]
            assert isinstance(parts, dict)
            assert "went by unheard" in parts["stream"]["detail"]
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
        async with server.connected() as store:
            received = int(running.errors.rpartition("stopped: ")[2].split()[0])
            assert await scores_of(store) == [b"1"] * received
        async with daemon(folder, *arguments) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 100)
            assert await running.metric("tweetboard_stream_gap_seconds_total") > 0
            running.signal(signal.SIGKILL)
            await running.ended()
        async with server.connected() as store:
            assert set(await scores_of(store)) == {b"1"}


async def test_what_x_sends_again_counts_once_over_cuts_and_kills(folder: Path) -> None:
    """Each post has an author of its own: one missing was lost, one of two counted twice."""
    records = [
        b'{"data":{"id":"%d","author_id":"%d","created_at":"2026-11-22T10:00:00.000Z"}}' % (10**18 + number, number)
        for number in range(6_000)
    ]
    cuts: list[Cut] = ["line", "chunk", "record", "reset", "end"]
    script = [Answer(after=700 + 90 * number, cut=cut) for number, cut in enumerate(cuts)]
    server = Server(folder / "redis", *binaries()["valkey"])
    async with Upstream(records, script=script, overlap=600, rate=3_000).serving() as upstream, server.running():
        url = f"{upstream.url}?backfill_minutes=1"
        arguments = ["--stream", url, "--redis", f"unix://{server.socket}"]
        async with daemon(folder, *arguments) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 1_500)
            running.signal(signal.SIGKILL)
            await running.ended()
        async with daemon(folder, *arguments) as running, server.connected() as store:
            leases = await store.execute("KEYS", "tweetboard:*lease")
            assert isinstance(leases, list)
            await store.execute("DEL", *leases)  # by itself it would take 3 s to end
            await running.ready()
            async with asyncio.timeout(30):
                while len(await scores_of(store)) < len(records):
                    await asyncio.sleep(0.05)
            assert await running.metric("tweetboard_posts_repeated_total") > 0
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
            assert await scores_of(store) == [b"1"] * len(records)


async def scores_of(store: Store) -> list[bytes]:
    rows = await store.execute("ZRANGE", "username_scoreboard", 0, -1, "WITHSCORES")
    assert isinstance(rows, list)
    return rows[1::2]


async def test_a_full_disk_under_the_embedded_server_is_waited_out(folder: Path, small_disk: Path) -> None:
    truth = Truth(40_000, SEED)
    async with Upstream(truth.records, mode="sse", rate=2_000).serving() as upstream:
        arguments = ["--stream", upstream.url, "--data-dir", str(small_disk / "data")]
        async with daemon(folder, *arguments) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 1_000)
            ballast = small_disk / "ballast"
            fill(ballast)
            async with asyncio.timeout(20):
                while "MISCONF" not in running.errors:
                    await asyncio.sleep(0.05)
            async with asyncio.timeout(20):  # a last byte may find room now and then
                while (await running.get("/readyz"))[0] != 503:
                    await asyncio.sleep(0.05)
            assert (await running.get("/usernames"))[0] == 200  # what is there can still be read
            ballast.unlink()
            await running.until("tweetboard_redis_up", 1)
            position = upstream.sent + 3_000
            truth.posts = truth.posts[:position]
            upstream.records = upstream.records[:position]
            wanted = truth.at(position)
            await running.counts(dict(wanted["usernames"]), dict(wanted["hashtags"]))


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


async def suffer(folder: Path, names: list[str], seed: int) -> None:
    """Go through some faults, one after the other, and compare everything at the end."""
    folder.mkdir()
    async with a_rig(folder, seed, posts=200_000, rate=1_000) as rig:
        await rig.start_daemon()
        await rig.flows()
        for name in names:
            try:
                await FAULTS[name](rig)
                await rig.flows()
            except BaseException as error:
                error.add_note(f"{name}, seed {seed}; the daemon said: {rig.last_words}")
                raise
        await rig.settled()
