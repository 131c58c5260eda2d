"""Every fault once, on real daemons and real servers, watched member by member while it happens."""

import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.faults import FAKETIME, FAULTS
from faults.rig import SEED, a_rig

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
