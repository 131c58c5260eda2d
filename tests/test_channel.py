"""What stands on a channel is what was put there, and a subscription never misses anything without saying so."""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import wait_until
from tweetboard import channel as channel_module
from tweetboard import store as store_module
from tweetboard.channel import Message, Subscription, body, decode, message, subscribe
from tweetboard.errors import StoreError, StoreRefused, StoreUnavailable
from tweetboard.store import Store, open_store

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=64)
TIMES = st.lists(st.tuples(st.integers(0, 2**40), st.integers(1, 2**31)))

WHOLE = b'{"source":"x","session":"s","seq":1,"times":[],"names":[]}'


async def confirmed(subscription: Subscription) -> AsyncIterator[bytes | None]:
    """Hear the confirmation, which comes first, and return what follows."""
    items = aiter(subscription)
    async with asyncio.timeout(10):
        assert await anext(items) is None
    return items


def in_use(store: Store) -> int:
    pool = store._client.connection_pool  # noqa: SLF001 - what no caller should see is what must not leak
    return len(pool._in_use_connections)  # noqa: SLF001


# --- The message ---


def test_a_message_has_the_contracts_shape() -> None:
    data = message("x", "9f3a", 17, body([(1763805600, 2)], ["alice", "bob"]))
    expected = {"source": "x", "session": "9f3a", "seq": 17, "times": [[1763805600, 2]], "names": ["alice", "bob"]}
    assert json.loads(data) == expected
    assert list(json.loads(data)) == list(expected)
    assert data.startswith(b"{"), "what does not is a bare name"


@given(source=WORDS, session=WORDS, seq=st.integers(0, 2**53), times=TIMES, names=st.lists(TEXT))
@settings(deadline=None)
def test_whatever_is_encoded_is_decoded(
    source: str, session: str, seq: int, times: list[tuple[int, int]], names: list[str]
) -> None:
    data = message(source, session, seq, body(times, names))
    assert decode(data) == Message(source, session, seq, times, names)
    assert json.loads(data)["names"] == names, "any other JSON reader sees the same"


def test_the_same_body_goes_out_again_under_another_head() -> None:
    same = body([(5, 1)], ["alice"])
    first, second = decode(message("x", "one", 7, same)), decode(message("x", "two", 3, same))
    assert (first.names, first.times) == (second.names, second.times)
    assert (second.session, second.seq) == ("two", 3)


def test_names_keep_their_order_spelling_and_repeats() -> None:
    names = ["bob", "Alice", "bob", "alice", "bob"]
    assert decode(message("x", "s", 1, body([(5, 5)], names))).names == names


def test_keys_that_come_later_do_no_harm() -> None:
    assert decode(WHOLE[:-1] + b',"weights":["alice"],"version":2}') == decode(WHOLE)


@pytest.mark.parametrize(
    "data",
    [
        *[b"", b"alice", b"{", b"{}", b"[]", b"null", WHOLE[:-1], WHOLE + b"x", WHOLE + WHOLE, b"\xff\xfe", b"\x00"],
        *[WHOLE.replace(b'"seq":1', seq) for seq in (b'"seq":"1"', b'"seq":1.5', b'"seq":null', b'"seq":1e400')],
        *[WHOLE.replace(b'"names":[]', names) for names in (b'"names":{}', b'"names":[1]', b'"names":[null]')],
        *[WHOLE.replace(b'"times":[]', times) for times in (b'"times":[1]', b'"times":[[1]]', b'"times":[[1,"2"]]')],
        WHOLE.replace(b"[]}", b'["\xff"]}'),
        WHOLE.replace(b"[]}", b'["\\ud800"]}'),
        WHOLE[:-1] + b',"more":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    ],
    ids=lambda data: repr(data[:70])[2:-1],
)
def test_anything_else_is_no_message(data: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(data)


@given(st.binary() | st.builds(lambda cut, more: WHOLE[:cut] + more, st.integers(0, len(WHOLE)), st.binary()))
@settings(deadline=None)
def test_no_bytes_raise_anything_unforeseen(data: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError):
        assert isinstance(decode(data), Message)


# --- The subscription ---


async def test_the_confirmation_is_heard_first_then_every_message(fake_store: Store) -> None:
    async with subscribe(fake_store, "usernames") as subscription:
        items = await confirmed(subscription)
        for data in (b"alice", b"", b"\xff\x00", WHOLE):
            await fake_store.execute("PUBLISH", "usernames", data)
            assert await anext(items) == data


async def test_only_the_own_channel_under_its_prefix_is_heard(valkey_url: str) -> None:
    async with (
        open_store(valkey_url, connections=4, prefix="{tb}:") as store,
        subscribe(store, "usernames") as subscription,
    ):
        items = await confirmed(subscription)
        for channel in ("usernames", "{tb}:hashtags", "{tb}:usernames:", "{tb}:usernames"):
            await store.execute("PUBLISH", channel, channel)
        assert await anext(items) == b"{tb}:usernames"


async def test_a_message_of_many_megabytes_arrives_whole(store: Store) -> None:
    async with subscribe(store, "usernames") as subscription:
        items = await confirmed(subscription)
        await store.execute("PUBLISH", "usernames", b"x" * (8 << 20))
        assert await anext(items) == b"x" * (8 << 20)


async def test_a_subscription_holds_a_connection_until_it_is_closed(store: Store) -> None:
    async with subscribe(store, "usernames"), subscribe(store, "hashtags"):
        assert in_use(store) == 2
    assert in_use(store) == 0
    with pytest.raises(ZeroDivisionError):
        async with subscribe(store, "usernames"):
            _ = 1 / 0
    assert in_use(store) == 0


async def test_a_subscription_ends_with_its_task_and_redis_forgets_it(store: Store) -> None:
    async def listen() -> None:
        async with subscribe(store, "usernames") as subscription:
            async for _ in subscription:
                heard.set()

    heard = asyncio.Event()
    listening = asyncio.create_task(listen())
    await heard.wait()
    assert await store.execute("PUBLISH", "usernames", "alice") == 1
    listening.cancel()
    await asyncio.wait([listening])
    assert listening.cancelled()
    assert in_use(store) == 0
    async with asyncio.timeout(5):
        while await store.execute("PUBLISH", "usernames", "alice"):
            pass


async def test_the_connection_of_a_closed_subscription_is_as_good_as_new(valkey_url: str) -> None:
    async with open_store(valkey_url, connections=1) as store:
        for number in range(20):
            async with subscribe(store, "usernames") as subscription:
                await confirmed(subscription)
            assert await store.execute("ECHO", number) == str(number).encode()


async def test_a_killed_connection_is_an_error_or_a_new_confirmation_and_never_silence(store: Store) -> None:
    """Numbers are published while connections are killed: one that is missing was announced as possibly missing."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    rng = random.Random(seed)
    heard = list[int | None]()

    async def listen() -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                async with subscribe(store, "usernames") as subscription:
                    async for data in subscription:
                        heard.append(None if data is None else int(data))

    async with asyncio.timeout(30):
        listening = asyncio.create_task(listen())
        for number in range(1000):
            await store.execute("PUBLISH", "usernames", number)
            if rng.random() < 0.1:
                await store.execute("CLIENT", "KILL", "TYPE", "pubsub")
        while 1000 not in heard:
            await store.execute("PUBLISH", "usernames", 1000)
        listening.cancel()
        await asyncio.wait([listening])
    assert heard.count(None) > 20, "it was killed often, and came back as often"
    expected: int | None = None
    for item in heard[: heard.index(1000)]:
        if item is not None:
            assert expected in (None, item)
        expected = None if item is None else item + 1


async def test_a_kill_alone_is_heard_of(store: Store) -> None:
    for _ in range(20):
        async with asyncio.timeout(5), subscribe(store, "usernames") as subscription:
            items = await confirmed(subscription)
            await store.execute("CLIENT", "KILL", "TYPE", "pubsub")
            with contextlib.suppress(StoreError):
                assert await anext(items) is None


async def test_without_redis_there_is_no_subscription(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("x") / "s"
    async with open_store(f"unix://{nowhere}", connections=1) as store:
        with pytest.raises(StoreUnavailable):
            async with subscribe(store, "usernames"):
                pass
        assert in_use(store) == 0
        assert not store.available


async def test_a_server_that_says_nothing_is_given_up_after_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (channel_module, store_module):
        monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as never_accepted:
        host, port = never_accepted.getsockname()
        async with open_store(f"redis://{host}:{port}", connections=1) as store:
            with pytest.raises(StoreUnavailable):
                async with subscribe(store, "usernames"):
                    pass
            assert in_use(store) == 0


async def test_a_channel_that_is_not_permitted_is_refused(store: Store, valkey_url: str) -> None:
    await store.execute("ACL", "SETUSER", "deaf", "on", "nopass", "~*", "resetchannels", "+@all")
    try:
        async with open_store(valkey_url.replace("unix://", "unix://deaf:x@"), connections=1) as deaf:
            with pytest.raises(StoreRefused, match=r"refused SUBSCRIBE usernames: .*channel"):
                async with subscribe(deaf, "usernames") as subscription:
                    await confirmed(subscription)
            assert in_use(deaf) == 0
    finally:
        await store.execute("ACL", "DELUSER", "deaf")


async def test_a_subscription_more_than_there_are_connections_is_unavailable(valkey_url: str) -> None:
    async with open_store(valkey_url, connections=1) as store:
        async with subscribe(store, "usernames"):
            with pytest.raises(StoreUnavailable):
                async with subscribe(store, "hashtags"):
                    pass
        await wait_until(lambda: in_use(store) == 0)
        async with subscribe(store, "hashtags"):
            pass
