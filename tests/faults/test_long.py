"""The faults by the hundred, on both servers, and what the naive design makes of them: some 40 minutes.

python -m pytest tests/faults -m faults -s
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from benchmarks.posts import ZIPF, write_posts
from benchmarks.processes import daemon as started_daemon
from benchmarks.processes import upstream, valkey
from faults.faults import FAKETIME, FAULTS
from faults.rig import SEED, NaiveRig, Rig, a_rig, binaries
from faults.truth import Outcome
from processes import Daemon

pytestmark = pytest.mark.faults

RIGS: Final = 4

TIMES: Final = {"daemon_killed": 200, "redis_killed": 200, "replies_cut": 168, "aof_torn": 100}
"""So often; all others `OTHERS` times. `replies_cut` cuts three, so 504 in all."""

OTHERS: Final = 20
NAIVE_TIMES: Final = 20
SOAK_MINUTES: Final = tuple(map(int, os.environ.get("TWEETBOARD_SOAK_MINUTES", "20").split(",")))
SOAK_FAULTS: Final = (
    "redis_killed",
    "redis_terminated",
    "subscriptions_killed",
    "connections_killed",
    "replies_cut",
    "stream_cut",
    "output_overflows",
    "redis_asleep",
    "links_lost",
    "redis_frozen",
    "redis_wiped",
)
"""Those that one and the same daemon lives through."""

NAIVE_FAULTS: Final = ("daemon_killed", "aof_torn", *(name for name in SOAK_FAULTS if name != "redis_wiped"))
"""Those that do not need a second daemon, or a daemon that says something; and a wiped board is a wiped board."""

LOAD_S: Final = 60.0
LOAD_UNSLOWED_S: Final = 15.0
LOAD_STOPPED_S, LOAD_RUNNING_S = 0.085, 0.015
"""Redis stands still for most of the time: it would keep up with twice what the daemon can read."""
LOAD_PASSES: Final = 40
"""So often the same 200,000 posts: more than a minute of them."""

CHAOS_SEEDS: Final = 20
CHAOS_S: Final = 60.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="tb-") as made:
        yield Path(made)


@pytest.mark.parametrize("binary", binaries())
@pytest.mark.parametrize("name", FAULTS)
async def test_by_the_hundred(name: str, binary: str, folder: Path) -> None:
    if name == "clock_jumps" and not FAKETIME.exists():
        pytest.skip("without libfaketime (Debian: faketime) no clock can be made to jump")
    times = TIMES.get(name, OTHERS)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(suffer(folder / str(number), name, times // RIGS, SEED + number, binary))
            for number in range(RIGS)
        ]
    tell(f"{binary:8} {name:24} {times:5}", [task.result() for task in tasks])


@pytest.mark.parametrize("name", NAIVE_FAULTS)
async def test_the_naive_design(name: str, folder: Path) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(suffer(folder / str(number), name, NAIVE_TIMES // 2, SEED + number, kind=NaiveRig))
            for number in range(2)
        ]
    tell(f"{'naive':8} {name:24} {NAIVE_TIMES:5}", [task.result() for task in tasks])


@pytest.mark.parametrize("first", range(0, CHAOS_SEEDS, RIGS))
async def test_chaos(first: int, folder: Path) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(chaos(folder / str(number), SEED + first + number, CHAOS_S)) for number in range(RIGS)
        ]
    tell(f"{'valkey':8} {'chaos':24} {RIGS:5}", [task.result() for task in tasks])


@pytest.mark.parametrize("minutes", SOAK_MINUTES)
async def test_soak(minutes: int, folder: Path) -> None:
    """One daemon under 2,000 posts/s and a fault every ten seconds: what it holds does not grow."""
    rng, clock = random.Random(SEED), asyncio.get_running_loop().time
    folder = folder / "soak"
    folder.mkdir()
    async with a_rig(folder, SEED, posts=minutes * 60 * 2_100, rate=2_000) as rig:
        daemon = await rig.start_daemon()
        await rig.flows(10_000)
        held = [await holds(daemon)]
        until = clock() + minutes * 60
        while clock() < until:
            name = rng.choice(SOAK_FAULTS)
            try:
                await FAULTS[name](rig)
                await asyncio.sleep(10)
                await rig.flows()
            except BaseException as error:
                error.add_note(f"{name}, seed {SEED}; the daemon said: {rig.last_words}")
                raise
            held.append(await holds(daemon))
        outcome = await rig.settled()
    tell(f"{'valkey':8} soak, {minutes} minutes, {len(held) - 1} faults: first {held[0]}, last {held[-1]}", [outcome])
    assert held[-1].resident_mb < held[0].resident_mb + 40
    assert held[-1].descriptors <= held[0].descriptors + 2
    assert held[-1].tasks <= held[0].tasks + 2


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    resident_mb: float
    descriptors: int
    tasks: int


async def holds(daemon: Daemon) -> Held:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    resident_mb = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    descriptors = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
    return Held(round(resident_mb, 1), descriptors, int(await daemon.metric("tweetboard_tasks")))


def test_load_on_boards_slowed_to_less_than_half(tmp_path: Path) -> None:
    """A minute at full speed on boards that keep up with less than half: memory stays bounded, nothing is lost."""
    posts = write_posts(tmp_path / "posts", ZIPF, 200_000)
    resident_mb: list[float] = []
    with (
        valkey(tmp_path / "valkey") as server,
        upstream(tmp_path, posts) as (source, url),
        started_daemon(tmp_path, url, server.url) as (child, _),
    ):
        assert source.line() == "connected"
        source.tell(str(LOAD_PASSES))
        time.sleep(LOAD_UNSLOWED_S)
        at_first = server.score_of_last()
        until = time.monotonic() + LOAD_S
        while time.monotonic() < until:
            server.child.signal(signal.SIGSTOP)
            time.sleep(LOAD_STOPPED_S)
            server.child.signal(signal.SIGCONT)
            time.sleep(LOAD_RUNNING_S)
            resident_mb.append(child.resident_mb())
        counted = server.score_of_last() - at_first
        server.wait_for_last(LOAD_PASSES, 120)
        assert server.differences(posts, times=LOAD_PASSES) == []
    settled = resident_mb[len(resident_mb) // 6 :]
    full, slowed = (
        passes * posts.count / time_s for passes, time_s in ((at_first, LOAD_UNSLOWED_S), (counted, LOAD_S))
    )
    tell(
        f"{'valkey':8} load on boards slowed from {full:,.0f} to {slowed:,.0f} posts/s: "
        f"resident {settled[0]:.0f} to {settled[-1]:.0f} MB, at most {max(resident_mb):.0f}",
        [Outcome(0, 0)],
    )
    posts.path.unlink()
    assert max(resident_mb) < 150
    assert slowed < 0.6 * full, "the boards kept up"
    assert at_first + counted < LOAD_PASSES, "it was over too soon to say anything"


async def suffer(
    folder: Path, name: str, times: int, seed: int, binary: str = "valkey", kind: type[Rig] = Rig
) -> Outcome:
    """Let one fault happen again and again."""
    folder.mkdir()
    async with a_rig(folder, seed, posts=400_000, rate=400, binary=binary, kind=kind) as rig:
        await rig.start_daemon()
        await rig.flows()
        for number in range(times):
            try:
                await FAULTS[name](rig)
                await rig.flows(20)
            except BaseException as error:
                error.add_note(f"{name}, time {number} of {times}, seed {seed}; the daemon said: {rig.last_words}")
                raise
        return await rig.settled()


async def chaos(folder: Path, seed: int, length_s: float) -> Outcome:
    """Let anything happen, the next before the last is over."""
    folder.mkdir()
    rng, clock = random.Random(seed), asyncio.get_running_loop().time
    names = [name for name in FAULTS if name != "clock_jumps" or FAKETIME.exists()]
    happened: list[str] = []
    async with a_rig(folder, seed, posts=400_000, rate=1_000) as rig:
        await rig.start_daemon()
        until = clock() + length_s
        while clock() < until:
            happened.append(rng.choice(names))
            try:
                await FAULTS[happened[-1]](rig)
            except BaseException as error:
                error.add_note(f"{happened}, seed {seed}; the daemon said: {rig.last_words}")
                raise
            await asyncio.sleep(rng.choice((0.0, rng.random())))
        return await rig.settled()


def tell(what: str, outcomes: list[Outcome]) -> None:
    lost, twice = sum(one.lost for one in outcomes), sum(one.twice for one in outcomes)
    sys.stdout.write(f"\n{what}  lost {lost:6}  twice {twice:6}\n")
    sys.stdout.flush()
