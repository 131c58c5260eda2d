"""The WebSocket client of a stream: each message is a record, and says itself how far the stream has come.

What lives here: one connection. What must not: what follows it (supervision.py), or what a message means (formats/).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from tweetboard import __version__
from tweetboard.errors import StreamLost
from tweetboard.framing import Block, Event
from tweetboard.stream import CONNECT_TIMEOUT_S, HEAD_TIMEOUT_S, described, proxy_for, refusal
from tweetboard.supervision import Supervised

HEARTBEAT_S: Final = 20.0
"""So often we ask whether the other side is still there; not every stream has a stall watch."""

MAX_MESSAGE_BYTES: Final = 64 << 20
"""A longer message ends the connection; one over `max_line_bytes` is dropped and counted."""

_ENDED: Final = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)


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
        self._headers = {"User-Agent": f"tweetboard/{__version__}", **(headers or {})}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._max_line_bytes = max_line_bytes
        self._position_of = position_of

    async def probe(self) -> str:
        """Connect once and describe the answer; raises `StreamError` where there is none."""
        async with self._socket(""):
            return "101 WebSocket"

    async def _connection(self, position: str) -> AsyncGenerator[tuple[Block, str], None]:
        async with self._socket(position) as socket:
            self._connected(position)
            while (data := await self._message(socket)) is not None:
                self._heard(len(data))
                self._backoff.data_flowed()
                if len(data) > self._max_line_bytes:
                    self.state.oversized += 1
                    continue
                position = max(position, self._position_of(data), key=_number)
                yield Block(events=[Event("message", data, position)]), position

    async def _message(self, socket: aiohttp.ClientWebSocketResponse) -> bytes | None:
        """Wait for the next message; None where the other side has ended the connection as it should."""
        limit_s = self._stall_timeout_s()
        try:
            async with asyncio.timeout(limit_s or None):
                message = await socket.receive()
        except TimeoutError:
            raise StreamLost(f"nothing came for {limit_s:g} s") from None
        if message.type in _ENDED:
            if message.type is not aiohttp.WSMsgType.CLOSE:
                raise StreamLost("the connection ended without a word")
            return None
        if message.type is aiohttp.WSMsgType.ERROR:
            raise StreamLost(f"the connection broke: {message.data}")
        return message.data.encode() if isinstance(message.data, str) else bytes(message.data)

    @asynccontextmanager
    async def _socket(self, position: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open the connection; what goes wrong leaves as a `StreamError`."""
        url = URL(self._url)
        if position and (cursor := self.resume_id(position)):
            url = url.update_query(cursor=cursor)
        proxy = proxy_for("https" if url.scheme == "wss" else "http", url.host or "")
        head_timeout_s = self._stall_timeout_s() or HEAD_TIMEOUT_S
        try:
            async with asyncio.timeout(max(head_timeout_s, CONNECT_TIMEOUT_S)):
                socket = await self._session.ws_connect(
                    url,
                    headers=self._headers,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    proxy=None if proxy is None else str(proxy.url),
                    proxy_auth=None if proxy is None or proxy.auth is None else aiohttp.BasicAuth(*proxy.auth),
                )
            async with socket:
                yield socket
        except TimeoutError:
            raise StreamLost(f"no answer for {head_timeout_s:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (101, 200):
                raise StreamLost(f"the answer is no WebSocket: {error.message}", cause="http") from error
            raise refusal(error.status, error.headers or {}) from error
        except (aiohttp.ClientError, OSError) as error:
            raise StreamLost(described(error)) from error


def _number(position: str) -> int:
    return int(position) if position.isascii() and position.isdigit() else 0
