"""One instance at a time holds a lease, keeps it while it lives, and gives it up when it stops."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable

import fakeredis
import pytest
from redis import exceptions as redis_errors

from conftest import wait_until
from tweetboard import lease as lease_module
from tweetboard import store as store_module
from tweetboard.errors import StoreRefused, StoreUnavailable
from tweetboard.lease import LIFE_MS, RENEW_S, Lease, instance_name
from tweetboard.store import Store

KEY = "tweetboard:x:lease"


class Flaky:
    """A client of a fake server that cannot be reached while `away`."""

    def __init__(self) -> None:
        self.client = fakeredis.FakeAsyncRedis(protocol=2)
        self.away = False
        self.commands = 0

    async def execute_command(self, *command: str) -> object:
        self.commands += 1
        await asyncio.sleep(0)  # as over a network
        if self.away:
            raise redis_errors.ConnectionError("Connection refused")
        return await self.client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.fixture
async def flaky() -> AsyncIterator[Flaky]:
    made = Flaky()
    yield made
    await made.client.aclose()


@contextlib.asynccontextmanager
async def kept(lease: Lease, wanted: Callable[[], bool] = lambda: True) -> AsyncIterator[asyncio.Task[None]]:
    """Keep a lease beside a test, and cancel it at the end."""
    task = asyncio.create_task(lease.keep(wanted))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def holder(store: Store) -> object:
    return await store.execute("GET", KEY)


async def life_ms(store: Store) -> int:
    left = await store.execute("PTTL", KEY)
    assert isinstance(left, int)
    return left


# --- The script's four answers ---


async def test_a_free_lease_is_taken_for_three_seconds(fake_store: Store) -> None:
    lease = Lease(fake_store, KEY, "one")
    assert (lease.held, lease.other) == (False, "")
    assert await lease.hold()
    assert (lease.held, lease.other) == (True, "")
    assert await holder(fake_store) == b"one"
    assert LIFE_MS == 3000
    assert LIFE_MS - 1000 < await life_ms(fake_store) <= LIFE_MS


async def test_the_holder_renews_it(fake_store: Store) -> None:
    lease = Lease(fake_store, KEY, "one")
    await lease.hold()
    await fake_store.execute("PEXPIRE", KEY, 500)
    assert await lease.hold()
    assert await life_ms(fake_store) > 500


async def test_a_lease_that_another_holds_is_refused_by_name_and_not_prolonged(fake_store: Store) -> None:
    await Lease(fake_store, KEY, "one").hold()
    await fake_store.execute("PEXPIRE", KEY, 500)
    second = Lease(fake_store, KEY, "two")
    assert not await second.hold()
    assert (second.held, second.other) == (False, "one")
    assert await holder(fake_store) == b"one"
    assert await life_ms(fake_store) <= 500


async def test_only_the_holder_can_release_it(fake_store: Store) -> None:
    first, second = Lease(fake_store, KEY, "one"), Lease(fake_store, KEY, "two")
    await first.hold()
    await second.release()
    assert await holder(fake_store) == b"one"
    await first.release()
    assert not first.held
    assert await holder(fake_store) is None
    await first.release()
    assert await holder(fake_store) is None, "a lease that nobody holds stays free"


async def test_an_instance_that_was_gone_too_long_finds_who_has_it_now(fake_store: Store) -> None:
    first, second = Lease(fake_store, KEY, "one"), Lease(fake_store, KEY, "two")
    await first.hold()
    await fake_store.execute("DEL", KEY)  # its life has ended
    assert await second.hold()
    assert first.held, "it cannot know; hence the guards inside Redis"
    assert not await first.hold()
    assert (first.held, first.other) == (False, "two")
    await second.release()
    assert await first.hold()
    assert first.other == ""


async def test_a_lease_that_ends_by_itself_is_free(store: Store) -> None:
    await Lease(store, KEY, "one").hold()
    await store.execute("PEXPIRE", KEY, 1)
    second = Lease(store, KEY, "two")
    async with asyncio.timeout(5):
        while not await second.hold():
            pass
    assert await holder(store) == b"two"


async def test_a_key_of_another_type_is_refused_and_stays(store: Store) -> None:
    await store.execute("RPUSH", KEY, "x")
    lease = Lease(store, KEY, "one")
    with pytest.raises(StoreRefused, match=KEY):
        await lease.hold()
    with pytest.raises(StoreRefused, match=KEY):
        await lease.release()
    assert await store.execute("LRANGE", KEY, 0, -1) == [b"x"]


def test_an_instances_name_says_where_it_runs_and_is_used_once() -> None:
    name = instance_name()
    assert name.startswith(f"{socket.gethostname()}:{os.getpid()}:")
    assert name != instance_name()


# --- Keeping ---


async def test_it_is_renewed_three_times_within_one_life(flaky: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RENEW_S * 3 <= LIFE_MS / 1000
    monkeypatch.setattr(lease_module, "RENEW_S", 0)
    lease = Lease(Store(flaky), KEY, "one")  # type: ignore[arg-type]
    async with kept(lease):
        await wait_until(lambda: flaky.commands >= 10)
        assert lease.held


async def test_a_standby_takes_it_when_the_other_has_gone(fake_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0)
    first, second = Lease(fake_store, KEY, "one"), Lease(fake_store, KEY, "two")
    await first.hold()
    async with kept(second):
        await wait_until(lambda: second.other == "one")
        assert not second.held
        await first.release()
        await wait_until(lambda: second.held)


async def test_it_is_held_only_while_it_is_wanted(fake_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0)
    monkeypatch.setattr(lease_module, "WANTED_S", 0)
    lease, wanted, asked = Lease(fake_store, KEY, "one"), False, 0

    def is_wanted() -> bool:
        nonlocal asked
        asked += 1
        return wanted

    async with kept(lease, is_wanted):
        await wait_until(lambda: asked >= 3)
        assert await holder(fake_store) is None
        wanted = True
        await wait_until(lambda: lease.held)
        wanted = False
        await wait_until(lambda: not lease.held)
        assert await holder(fake_store) is None


async def test_it_is_released_when_keeping_is_cancelled(fake_store: Store) -> None:
    lease = Lease(fake_store, KEY, "one")
    async with kept(lease) as keeping:
        await wait_until(lambda: lease.held)
    assert keeping.cancelled()
    assert not lease.held
    assert await holder(fake_store) is None


async def test_anothers_lease_is_left_alone_when_keeping_is_cancelled(fake_store: Store) -> None:
    await Lease(fake_store, KEY, "one").hold()
    second = Lease(fake_store, KEY, "two")
    async with kept(second):
        await wait_until(lambda: second.other)
    assert await holder(fake_store) == b"one"


async def test_without_redis_it_is_not_held_and_taken_again_later(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0)
    monkeypatch.setattr(store_module, "BACKOFF_S", (0, 0))
    lease = Lease(Store(flaky), KEY, "one")  # type: ignore[arg-type]
    async with kept(lease):
        for _ in range(3):
            await wait_until(lambda: lease.held)
            flaky.away = True
            await wait_until(lambda: not lease.held)
            flaky.away = False


@pytest.mark.parametrize("ticks", range(12))
async def test_a_stop_while_redis_is_away_is_a_stop_and_not_a_failure(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0)
    lease = Lease(Store(flaky), KEY, "one")  # type: ignore[arg-type]
    async with kept(lease) as keeping:
        await wait_until(lambda: lease.held)
        flaky.away = True
        for _ in range(ticks):
            await asyncio.sleep(0)
    assert keeping.cancelled()


async def test_a_refusal_while_keeping_is_a_failure(store: Store) -> None:
    await store.execute("RPUSH", KEY, "x")
    with pytest.raises(StoreRefused):
        await Lease(store, KEY, "one").keep()


async def test_redis_being_away_is_told_to_who_holds_and_nobody_waits_for_a_release(flaky: Flaky) -> None:
    lease = Lease(Store(flaky), KEY, "one")  # type: ignore[arg-type]
    flaky.away = True
    with pytest.raises(StoreUnavailable):
        await lease.hold()
    await lease.release()
