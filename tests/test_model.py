"""A model of DESIGN section 3 under weighted, seeded random faults: all holds, and no guard is there for nothing.

tests/model.py runs the project's own publisher, subscribers and Lua scripts in virtual time on a Redis, a network and
an upstream that fail in every way. Here are the numbers of seeds, and the proof that the weather was bad enough.
"""

import multiprocessing
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

import pytest

from model import Outcome, simulate

CHUNK = 5
AHEAD = 4  # chunks under way or waiting, so that two workers always have something to do
GUARDS = [("journal", 0), ("journal", 1), ("scoreboard", 0), ("scoreboard", 1), ("scoreboard", 2)]

# What must have occurred in a thousand runs, so that they cannot silently stop testing anything.
OCCURRED = {
    "append fenced": 20,
    "append fenced late": 20,
    "append out of step": 20,
    "append out of step late": 20,
    "append unknown": 20,
    "apply ahead late": 10,
    "apply fenced": 20,
    "apply fenced late": 20,
    "apply out of step": 20,
    "apply out of step late": 20,
    "begun again": 10,
    "crash": 100,
    "message missed": 100,
    "message overtaken": 100,
    "message repeated": 100,
    "out of reach": 10,
    "pause": 100,
    "rollback past a begin": 50,
    "went back": 50,
    "wipe": 20,
}


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Two processes, for as many cores as small machines have."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def run(seeds: range, missing: tuple[str, int] | None) -> list[Outcome]:
    """Run some seeds in a worker process."""
    return [simulate(seed, missing) for seed in seeds]


def outcomes(workers: ProcessPoolExecutor, seeds: range, missing: tuple[str, int] | None = None) -> Iterator[Outcome]:
    """Run seeds in their order, as far as somebody wants to know."""
    chunks = (seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK))
    pending = deque(workers.submit(run, chunk, missing) for chunk in islice(chunks, AHEAD))
    try:
        while pending:
            yield from pending.popleft().result()
            pending += [workers.submit(run, chunk, missing) for chunk in islice(chunks, 1)]
    finally:
        for future in pending:
            future.cancel()


def hold(workers: ProcessPoolExecutor, seeds: range) -> Counter[str]:
    """Assert that nothing is lost or counted twice in any of the runs; returns what occurred in them."""
    occurred = Counter[str]()
    for outcome in outcomes(workers, seeds):
        assert not outcome.failure, f"{outcome.failure}\nonce more: python tests/model.py {outcome.seed}"
        occurred.update(outcome.counts)
    return occurred


def test_a_thousand_runs_of_bad_weather_end_exact(workers: ProcessPoolExecutor) -> None:
    occurred = hold(workers, range(1_000))
    missing = {event: occurred[event] for event, least in OCCURRED.items() if occurred[event] < least}
    assert not missing, "the weather was too good to test this"


@pytest.mark.parametrize(("script", "number"), GUARDS)
def test_a_guard_that_is_left_out_is_missed(workers: ProcessPoolExecutor, script: str, number: int) -> None:
    """Owner and seq on append, owner, seq and order on apply: without any one of them the same weather ends wrong."""
    caught = next(
        (outcome.seed for outcome in outcomes(workers, range(400), (script, number)) if outcome.failure), None
    )
    assert caught is not None, f"guard {number} of {script}.lua could go, as far as these runs tell"


@pytest.mark.long
def test_ten_thousand_more_runs_end_exact(workers: ProcessPoolExecutor) -> None:
    hold(workers, range(1_000, 11_000))
