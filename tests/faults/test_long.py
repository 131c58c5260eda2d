"""The faults by the hundred, on both servers, and what the naive design makes of them: some 40 minutes.

python -m pytest tests/faults -m faults -s
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from faults.faults import FAKETIME, FAULTS
from faults.rig import SEED, NaiveRig, Rig, a_rig, binaries
from faults.truth import Outcome

pytestmark = pytest.mark.faults

RIGS: Final = 4

TIMES: Final = {"daemon_killed": 200, "redis_killed": 200, "replies_cut": 168, "aof_torn": 100}
"""So often; all others `OTHERS` times. `replies_cut` cuts three, so 504 in all."""

OTHERS: Final = 20
NAIVE_TIMES: Final = 20
NAIVE_FAULTS: Final = (
    "daemon_killed",
    "redis_killed",
    "redis_terminated",
    "aof_torn",
    "subscriptions_killed",
    "connections_killed",
    "replies_cut",
    "stream_cut",
    "output_overflows",
    "redis_asleep",
    "links_lost",
    "redis_frozen",
)
"""Those that do not need a second daemon, or a daemon that says something."""

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


async def suffer(
    folder: Path, name: str, times: int, seed: int, binary: str = "valkey", kind: type[Rig] = Rig
) -> Outcome:
    """Let one fault happen again and again."""
    folder.mkdir()
    async with a_rig(folder, seed, posts=400_000, rate=400, binary=binary, kind=kind) as rig:
        await rig.start_daemon()
        await rig.flows()
        for time in range(times):
            try:
                await FAULTS[name](rig)
                await rig.flows(20)
            except BaseException as error:
                error.add_note(f"{name}, time {time} of {times}, seed {seed}; the daemon said: {rig.last_words}")
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
