"""The WebSocket client of a stream: each message is a record, and says itself how far the stream has come.

What lives here: one connection. What must not: what follows it (supervision.py), or what a message means (formats/).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from tweetboard.errors import StreamLost, StreamRefused
from tweetboard.framing import Block, Event
from tweetboard.stream import (
    CONNECT_TIMEOUT_S,
    HEAD_TIMEOUT_S,
    basic_auth,
    described,
    proxy_for,
    refusal,
    request_headers,
)
from tweetboard.supervision import Supervised

HEARTBEAT_S: Final = 20.0
"""After so much silence we ask whether the other side is still there, and wait as long for its answer."""

AHEAD_S: Final = 60.0
"""A message from further in the future than clocks differ does not say alone where the stream is."""

MAX_MESSAGE_BYTES: Final = 64 << 20
"""A longer message ends the connection; one over `max_line_bytes` is dropped and counted."""

_PROPER_ENDS: Final = (None, 0, 1000, 1001, 1005)  # also without a code
_REFUSALS: Final = (1003, 1007, 1008)  # RFC 6455: what we sent, or asked for, is not accepted


class WebSocketStream(Supervised):
    """The stream at `url` (ws:// or wss://); `token` is sent as a bearer token, and only there.

    `position_of` reads a message's own position, a number; to go on from one is asked for as the query's `cursor`.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        stall_timeout_s: Callable[[], float] = lambda: 0,
        max_line_bytes: int = 1 << 20,
        position_of: Callable[[bytes], str] = lambda _: "",
    ) -> None:
        super().__init__(url, stall_timeout_s=stall_timeout_s, refill_s=0)
        self._session = session
        self._headers = request_headers({}, headers or {}, token)
        self._has_token = bool(token)
        self._max_line_bytes = max_line_bytes
        self._position_of = position_of
        self._place_us = 0  # of the last message

    async def _probe(self) -> str:
        async with self._socket(""):
            return "101 WebSocket"

    async def _connection(self, position: str) -> AsyncGenerator[tuple[Block, str], None]:
        async with self._socket(position) as socket:
            self._connected(position)
            while (data := await self._message(socket)) is not None:
                self._heard(len(data))
                if len(data) > self._max_line_bytes:
                    self.state.oversized += 1
                    continue
                position = max(position, self._place(data), key=_number)
                yield Block(events=[Event("message", data, position)]), position

    def _place(self, data: bytes) -> str:
        """Read how far the stream has come; one odd time must not lead into a future from which nothing comes.

        Where the message before is from the same moment, it is our clock that is odd.
        """
        position = self._position_of(data)
        place_us, before_us = _number(position), self._place_us
        self._place_us = place_us or before_us
        ahead_us = AHEAD_S * 1_000_000
        is_sure = place_us <= time.time() * 1_000_000 + ahead_us or abs(place_us - before_us) <= ahead_us
        return position if is_sure else ""

    async def _message(self, socket: aiohttp.ClientWebSocketResponse) -> bytes | None:
        """Wait for the next message; None where the other side has ended the connection as it should.

        Pings and their answers are life, as keep-alives are: it may be that there is nothing to say.
        """
        asked = False
        while True:
            limit_s = min(self._stall_timeout_s() or HEARTBEAT_S, HEARTBEAT_S)
            try:
                async with asyncio.timeout(limit_s):
                    message = await socket.receive()
            except TimeoutError:
                if asked:
                    raise StreamLost(f"nothing came for {2 * limit_s:g} s, not even an answer to a ping") from None
                await socket.ping()
                asked = True
                continue
            if message.type not in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
                return _data_of(message)
            asked = False
            self._heard(0)
            if message.type is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)

    @asynccontextmanager
    async def _socket(self, position: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open the connection; what goes wrong leaves as a `StreamError`."""
        head_timeout_s = max(self._stall_timeout_s() or HEAD_TIMEOUT_S, CONNECT_TIMEOUT_S)
        try:
            url = URL(self._url)
            if position and (cursor := self.resume_id(position)):
                url = url.update_query(cursor=cursor)
            headers = dict(self._headers)
            if (url.user or url.password) and not self._has_token:
                headers["Authorization"] = basic_auth(url.user or "", url.password or "")
            proxy = proxy_for("https" if url.scheme == "wss" else "http", url.host or "")
            async with asyncio.timeout(head_timeout_s):
                socket = await self._session.ws_connect(
                    url.with_user(None),
                    headers=headers,
                    autoping=False,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    proxy=None if proxy is None else str(proxy.url),
                    proxy_headers=None
                    if proxy is None or proxy.auth is None
                    else {"Proxy-Authorization": basic_auth(*proxy.auth)},
                )
            async with socket:
                yield socket
        except TimeoutError:
            raise StreamLost(f"no answer for {head_timeout_s:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (101, 200):
                raise StreamLost(f"the answer is no WebSocket: {error.message}", cause="http") from error
            raise refusal(error.status, error.headers or {}) from error
        except aiohttp.InvalidURL as error:
            raise StreamRefused(f"stream.url: {described(error)}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise StreamLost(described(error)) from error
        except ValueError as error:  # a host or a password that no address can have
            raise StreamRefused(f"stream.url: {described(error)}") from error


def _data_of(message: aiohttp.WSMessage) -> bytes | None:
    """Take a message's data; raises `StreamLost` for an end that is none, None for one that is."""
    if message.type is aiohttp.WSMsgType.CLOSE:
        if message.data in _PROPER_ENDS:
            return None
        told = f"the stream ended the connection: {message.data} {message.extra or ''}".rstrip()
        raise StreamLost(told, cause="http" if message.data in _REFUSALS else "network")
    if message.type in (aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
        raise StreamLost("the connection ended without a word")
    if message.type is aiohttp.WSMsgType.ERROR:
        raise StreamLost(f"the connection broke: {message.data}")
    return message.data.encode() if isinstance(message.data, str) else bytes(message.data)


def _number(position: str) -> int:
    return int(position) if position.isascii() and position.isdigit() else 0
