"""The watchdog is fed as long as every part that has work does some of it, and no longer."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tweetboard.systemd import Notifier
from tweetboard.watchdog import Watchdog, Work, keep_telling


def test_work_that_is_done_step_by_step_is_no_trouble() -> None:
    watchdog = Watchdog()
    for second in range(100):
        assert watchdog.stuck({"board": Work(due=True, done=second // 9, limit_s=10)}, second) == []


def test_work_of_which_nothing_is_done_is_named_once_its_time_is_over() -> None:
    watchdog = Watchdog()
    found = [watchdog.stuck({"board": Work(due=True, done=7, limit_s=10)}, second) for second in range(13)]
    assert found == [[]] * 11 + [["board"]] * 2
    assert watchdog.stuck({"board": Work(due=True, done=8, limit_s=10)}, 13) == [], "it has got on after all"


def test_time_without_work_does_not_count() -> None:
    watchdog = Watchdog()
    for second in range(100):
        assert watchdog.stuck({"board": Work(due=False, done=0, limit_s=10)}, second) == []
    assert watchdog.stuck({"board": Work(due=True, done=0, limit_s=10)}, 105) == []
    assert watchdog.stuck({"board": Work(due=True, done=0, limit_s=10)}, 111) == ["board"]


def test_one_part_that_gets_on_does_not_hide_another_that_does_not() -> None:
    watchdog = Watchdog()
    found = [
        watchdog.stuck({"a": Work(due=True, done=second, limit_s=10), "b": Work(due=True, done=0, limit_s=10)}, second)
        for second in range(12)
    ]
    assert found[-1] == ["b"]


@asynccontextmanager
async def manager(folder: Path) -> AsyncIterator[tuple[str, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.setblocking(False)
        yield str(folder / "notify"), listener


async def test_a_manager_hears_signs_of_life_and_each_new_state(tmp_path: Path) -> None:
    states = iter(["live", "live", "redis away"])
    state = ["live"]

    def said() -> str:
        state[0] = next(states, state[0])
        return state[0]

    async with manager(tmp_path) as (address, listener), asyncio.timeout(5):
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000"})
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(keep_telling(notifier, dict, said, lambda _: None))
            told = [(await asyncio.get_running_loop().sock_recv(listener, 4096)).decode() for _ in range(5)]
            telling.cancel()
    assert told == ["WATCHDOG=1", "STATUS=live", "WATCHDOG=1", "WATCHDOG=1", "STATUS=redis away"]


async def test_a_part_that_is_stuck_ends_the_signs_of_life_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with manager(tmp_path) as (address, listener), asyncio.timeout(5):
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000"})
        stuck = {"board hashtags": Work(due=True, done=0, limit_s=0)}
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(keep_telling(notifier, lambda: stuck, lambda: "live", lambda _: None))
            while not caplog.records:
                await asyncio.sleep(0)
            telling.cancel()
        told = []
        while True:
            try:
                told.append(listener.recv(4096).decode())
            except BlockingIOError:
                break
    assert told == ["WATCHDOG=1", "STATUS=live"]
    assert caplog.messages == ["no progress of board hashtags: the service manager's watchdog is not fed any more"]


async def test_without_a_manager_what_stands_still_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tweetboard.watchdog.LOOK_S", 0.01)
    stuck = {"board hashtags": Work(due=True, done=0, limit_s=0)}
    found = list[Sequence[str]]()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        telling = group.create_task(keep_telling(Notifier({}), lambda: stuck, lambda: "live", found.append))
        while ["board hashtags"] not in found:
            await asyncio.sleep(0)
        telling.cancel()
    assert caplog.messages == ["no progress of board hashtags"]
