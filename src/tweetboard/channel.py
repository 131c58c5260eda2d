"""What travels over Redis Pub/Sub: one JSON message per batch and channel, and the ears that hear it.

What lives here: the message's shape, and a subscription that says when it may have missed something. What must not:
what is done with a message (subscriber.py), or how it comes to be sent (the journal's append publishes it).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar, cast

import msgspec
from redis import exceptions as redis_errors
from redis.asyncio.client import PubSub

from tweetboard.store import COMMAND_TIMEOUT_S, Store

T = TypeVar("T")


class Message(msgspec.Struct, gc=False):
    """One batch as one channel hears it (DESIGN section 3).

    `times` are run lengths over `names`: (start of the finest bucket in Unix seconds, how many names). `names` stand in
    the order of arrival, spelled as their posts spell them, repeats kept. `displays` says how to show some that nobody
    would read as they stand. `authors`, one for each name, are there where a board asks for them,
    and `posts`, run lengths over `names` too: (a post's id, how many names), and `gone`, posts that are no more: (their
    id, how many names came before that was said).
    """

    source: str
    session: str
    seq: int
    times: list[tuple[int, int]]
    names: list[str]
    displays: dict[str, str] = {}
    authors: list[str] = []
    posts: list[tuple[str, int]] = []
    gone: list[tuple[str, int]] = []


GONE_NAMES: Final = 16
"""A post that is taken away again takes Redis as long as so many names that come, as measured with three windows."""


class Head(msgspec.Struct, gc=False):
    """A message without its names, which wait as bytes: as Python's strings they take four times the memory."""

    source: str
    session: str
    seq: int
    times: list[tuple[int, int]]
    gone: list[tuple[str, int]] = []

    @property
    def weight(self) -> int:
        """How many names would take as long: those it has, and `GONE_NAMES` for each post that is gone."""
        return sum(names for _, names in self.times) + GONE_NAMES * len(self.gone)


_DECODER = msgspec.json.Decoder(Message)
_HEAD_DECODER = msgspec.json.Decoder(Head)


def body(
    times: list[tuple[int, int]],
    names: list[str],
    **more: object,
) -> bytes:
    """Encode the part of a message that stays the same when another session has to send it again.

    Of what there is `more` all that is empty is left out.
    """
    others = b"".join(b',"%b":%b' % (name.encode(), msgspec.json.encode(one)) for name, one in more.items() if one)
    return b'"times":%b,"names":%b%b}' % (msgspec.json.encode(times), msgspec.json.encode(names), others)


def message(source: str, session: str, seq: int, encoded_body: bytes) -> bytes:
    """Put the head before a `body`; `source` and `session` are plain ASCII words."""
    return b'{"source":"%b","session":"%b","seq":%d,%b' % (source.encode(), session.encode(), seq, encoded_body)


def decode(data: bytes) -> Message:
    """Decode a message; raises `msgspec.MsgspecError` for anything else, unknown keys are allowed."""
    return _decoded(_DECODER, data)


def decode_head(data: bytes) -> Head:
    """Decode all of a message but its names; raises as `decode` does, except for what is wrong with the names."""
    return _decoded(_HEAD_DECODER, data)


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (RecursionError, UnicodeError) as error:  # nested without end under an unknown key; bytes that are no text
        raise msgspec.DecodeError(str(error)) from error


class Subscription:
    """A subscription to one channel, over a connection of its own.

    Iterating yields each message's bytes, and None for each confirmation by Redis: also when the client library has
    connected again by itself, which is the only trace that messages may be missing. Raises `StoreError`.
    """

    def __init__(self, store: Store, pubsub: PubSub, channel: str) -> None:
        self._store = store
        self._pubsub = pubsub
        self._channel = channel

    async def __aiter__(self) -> AsyncIterator[bytes | None]:
        while True:
            try:
                # parse_response() has half the cost of listen(), whose dictionaries nobody here would read.
                reply = cast("list[bytes]", await self._pubsub.parse_response())
            except (redis_errors.RedisError, OSError) as error:
                raise self._store.failed(error, self._channel) from error
            match reply:
                case [b"message", _, bytes(data)]:
                    yield data
                case [b"subscribe", *_]:
                    yield None


@asynccontextmanager
async def subscribe(store: Store, channel: str) -> AsyncIterator[Subscription]:
    """Subscribe to an unprefixed `channel`; the first item heard is the confirmation. Raises `StoreError`."""
    pubsub, channel = store.pubsub(), store.key(channel)
    try:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await pubsub.subscribe(channel)
        except (redis_errors.RedisError, OSError, TimeoutError) as error:
            raise store.failed(error, channel) from error
        yield Subscription(store, pubsub, channel)
    finally:
        await pubsub.aclose()  # type: ignore[no-untyped-call]
