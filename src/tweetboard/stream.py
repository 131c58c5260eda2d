"""The HTTP client of the stream: connect, watch for silence, come back, resume; it yields blocks of records.

What lives here: one connection after another, each judged by what ended it. What must not: bytes' meaning (framing.py,
formats/), delays' lengths (backoff.py).
"""

import asyncio
import logging
import random
import re
import socket
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions

from tweetboard import __version__
from tweetboard.backoff import Backoff
from tweetboard.decompression import ACCEPT_ENCODING, decompressor_for
from tweetboard.errors import StreamLost, StreamRefused
from tweetboard.framing import Block, SSEFramer, framer_for

CONNECT_TIMEOUT_S: Final = 10.0
"""For the connection itself; the answer's head may take as long as the stall watch allows, or `HEAD_TIMEOUT_S`."""

HEAD_TIMEOUT_S: Final = 60.0
"""For formats without a stall watch; some servers send the head only with the first post."""

SHORTEST_LIFE_S: Final = 0.25
"""From the second on, connections are made no faster: an upstream may send a little and end, again and again."""

READ_BUFFER_BYTES: Final = 128 * 1024
"""Between 64 and 256 KiB measured best: fewer wake-ups than less, fewer cache misses than more."""

KEEPALIVE_S: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""The kernel asks a peer that is silent for so long, so often, with such pauses: a minute, and a dead one is noticed.

Not every stream has a stall watch: posts may be hours apart. TCP_KEEPALIVE is macOS's name for TCP_KEEPIDLE.
"""

MAX_ID_CHARS: Final = 4096
"""A longer event id is no position: servers take some 8 KiB of headers, and int() at most 4,300 digits."""

_FINAL: Final = {
    400: "the request is wrong: check stream.url",
    401: "the token is missing or not accepted: set TWEETBOARD_STREAM_TOKEN",
    403: "the token does not allow this stream: check its access level",
    404: "there is no such stream: check stream.url",
    410: "this stream has been shut down: check stream.url",
}

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Never asked for by way of a proxy, which would look for itself; the demo is there."""

_QUERY: Final = re.compile(r"(\bhttps?://[^\s?'\"]*)\?[^\s'\"]*")

log = logging.getLogger(__name__)


class StreamState(msgspec.Struct):
    """What the connection is doing and has done; times are Unix seconds, 0 for never.

    `gap_s` is how long, at most, an upstream that cannot go back was not heard: what passed then is on no board. It
    begins with the last byte heard, for a dead connection may be noticed late.
    """

    live: bool = False
    trouble: str = "not connected yet"
    connects: int = 0
    lost: dict[str, int] = {}
    received_bytes: int = 0
    last_received: float = 0.0
    repeats: int = 0
    gap_s: float = 0.0
    oversized: int = 0


@asynccontextmanager
async def open_client() -> AsyncIterator[httpx.AsyncClient]:
    """Open an HTTP client that carries long streams well: aiohttp's connections under httpx's interface."""
    connector = aiohttp.TCPConnector(socket_factory=_keepalive_socket)
    session = aiohttp.ClientSession(connector=connector, read_bufsize=READ_BUFFER_BYTES, auto_decompress=False)
    async with session, httpx.AsyncClient(transport=_Transport(client=session)) as client:
        yield client


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE_S.items():
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


class _Transport(AiohttpTransport):
    """Finds the environment's proxy itself: aiohttp's `trust_env` would also look for passwords, in netrc."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, proxy = request.url.host, urllib.request.getproxies().get(request.url.scheme)
        if proxy is None or host in _LOOPBACK or urllib.request.proxy_bypass(host):
            self.proxy = None
        else:
            try:
                self.proxy = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
            except ValueError as error:
                raise StreamRefused(f"{request.url.scheme}_proxy in the environment: {error}") from error
        response = await super().handle_async_request(request)
        if isinstance(response.stream, AiohttpResponseStream):
            response.stream = _Body(response.stream._aiohttp_response)  # noqa: SLF001 - to be read our way
        return response


class _Body(AiohttpResponseStream):
    """Reads on to a cut: aiohttp would throw away what it has received, but slow boards have not let us read yet."""

    CHUNK_SIZE = 128 * 1024  # at 16 KiB, httpx-aiohttp's own, the steps around a read cost 0.5 to 0.9 us a post more

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._aiohttp_response.content
        with map_aiohttp_exceptions():
            try:
                async for chunk in content.iter_chunked(self.CHUNK_SIZE):
                    yield chunk
            except aiohttp.ClientError:
                content.set_exception(None)  # type: ignore[arg-type]  # lets the rest be read
                if rest := content.read_nowait():
                    yield rest
                raise


class HttpStream:
    """The stream at `url`; `token` is sent as a bearer token, and only there; it goes before a password in `url`.

    `stall_timeout_s()` is how long a connection may say nothing at all, 0 for ever; keep-alives are life. It is asked
    again before each read, for `auto` knows its format only after the first. `refill_s` is how much of what passed
    unheard the upstream sends again by itself. `on_connected` is called before each connection's first block.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        stall_timeout_s: Callable[[], float] = lambda: 0,
        max_line_bytes: int = 1 << 20,
        refill_s: float = 0.0,
    ) -> None:
        self._client = client
        self._url = url
        self._headers = {
            "Accept": "text/event-stream, application/x-ndjson, application/json, */*;q=0.5",
            "Accept-Encoding": ACCEPT_ENCODING,
            "User-Agent": f"tweetboard/{__version__}",
            **(headers or {}),
        }
        self._has_token = bool(token)
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._max_line_bytes = max_line_bytes
        self._backoff = Backoff(random.random)
        self._stall_timeout_s = stall_timeout_s
        self._was_short = False
        self._refill_s = refill_s
        self._clock = time.monotonic
        self._heard_at_s: float | None = None
        self.state = StreamState()
        self.on_connected: Callable[[], None] = lambda: None

    @property
    def heard_until(self) -> float:
        """When something was heard last, or a connection made, in Unix seconds; 0 for never."""
        return 0.0 if self._heard_at_s is None else time.time() - (self._clock() - self._heard_at_s)

    async def blocks(self, position: str, heard_until: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:
        """Yield blocks from after `position` on, each with the position after it, over as many connections as it takes.

        `heard_until` is when anybody, perhaps another instance, has listened last. Raises `StreamRefused` where
        connecting again cannot help.
        """
        if heard_until:
            heard_at_s = self._clock() - max(time.time() - heard_until, 0.0)
            self._heard_at_s = heard_at_s if self._heard_at_s is None else max(self._heard_at_s, heard_at_s)
        clock = asyncio.get_running_loop().time
        while True:
            began_s = clock()
            try:
                async with aclosing(self._connection(position)) as connection:
                    async for block, reached in connection:
                        position = reached
                        yield block, reached
                lost = StreamLost("the stream ended")
            except StreamRefused:
                self.state.trouble = "refused"
                raise
            except StreamLost as error:
                lost = error
            finally:
                self.state.live, self.state.trouble = False, self.state.trouble or "not connected"
            await asyncio.sleep(self._lost(lost, clock() - began_s))

    async def probe(self) -> str:
        """Connect once and describe the answer; raises `StreamError` where there is none."""
        async with self._response("") as response:
            return f"{response.status_code} {response.headers.get('content-type', 'without a content-type')}"

    async def _connection(self, position: str) -> AsyncGenerator[tuple[Block, str], None]:
        async with self._response(position) as response:
            framer = framer_for(response.headers.get("content-type", ""), self._max_line_bytes)
            self._connected(position)
            resumed = Resumed(position, self.state)
            oversized_before = self.state.oversized
            async with aclosing(self._chunks(response)) as chunks:
                async for chunk in chunks:
                    block = framer.push(chunk)
                    self.state.oversized = oversized_before + framer.oversized
                    block, reached = resumed.new(block, framer.last_id if isinstance(framer, SSEFramer) else "")
                    has_data = bool(block.events or (block.lines and not block.lines.isspace()))
                    if has_data:
                        self._backoff.data_flowed()
                    if has_data or reached != position:
                        position = reached
                        yield block, reached
            # Only here has the upstream ended the body properly; a cut leaves an unfinished line unread.
            block = framer.end()
            if block.lines:
                yield resumed.new(block)

    def _lost(self, lost: StreamLost, lived_s: float) -> float:
        """Note a loss after `lived_s`; returns the seconds to wait before the next attempt."""
        delay_s = self._backoff.delay_s(lost.cause, lost.retry_after_s)
        if self._was_short:
            delay_s = max(delay_s, SHORTEST_LIFE_S - lived_s)
        self._was_short = lived_s < SHORTEST_LIFE_S
        self.state.trouble = str(lost)
        self.state.lost[lost.cause] = self.state.lost.get(lost.cause, 0) + 1
        log.warning("stream lost, connecting again in %.1f s: %s", delay_s, lost)
        return delay_s

    def _connected(self, position: str) -> None:
        self.state.connects += 1
        missed_s = 0.0 if self._heard_at_s is None else self._clock() - self._heard_at_s - self._refill_s
        if not position and missed_s > 0:
            self.state.gap_s += missed_s
            log.warning("up to %.1f s of the stream went by unheard, and it cannot go back", missed_s)
        self._heard_at_s = self._clock()
        self.state.live, self.state.trouble = True, ""
        self.on_connected()
        log.info("stream connected: %s", httpx.URL(self._url).copy_with(query=None, userinfo=b""))

    @asynccontextmanager
    async def _response(self, position: str) -> AsyncIterator[httpx.Response]:
        """Ask for the stream; what goes wrong, here or while the body is read, leaves as a `StreamError`."""
        resume = {"Last-Event-ID": position} if position else {}
        headers = httpx.Headers({**self._headers, **resume}, encoding="utf-8")
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        head_timeout_s = self._stall_timeout_s() or HEAD_TIMEOUT_S
        try:
            url = httpx.URL(self._url)
            auth = httpx.BasicAuth(url.username, url.password) if url.userinfo and not self._has_token else None
            request = self._client.build_request("GET", url.copy_with(userinfo=b""), headers=headers, timeout=timeout)
            async with asyncio.timeout(head_timeout_s):
                response = await self._client.send(request, stream=True, auth=auth)
            try:
                _judge(response, connected_before=self.state.connects > 0)
                yield response
            finally:
                await response.aclose()
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, aiohttp.InvalidURL, UnicodeError) as error:
            raise StreamRefused(f"stream.url: {_described(error)}") from error
        except TimeoutError:
            raise StreamLost(f"no answer for {head_timeout_s:g} s") from None
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            if isinstance(error.__context__, httpx.InvalidURL):  # httpx looks at every redirect, followed or not
                raise StreamRefused(f"the stream has moved, but to no address: {_described(error)}") from error
            raise StreamLost(_described(error)) from error

    async def _chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body's bytes, uncompressed and watched for silence."""
        decompressor = decompressor_for(response.headers.get("content-encoding", ""))
        async with aclosing(response.aiter_raw()) as body:  # type: ignore[type-var]
            while True:
                limit_s = self._stall_timeout_s()
                try:
                    # Around each read, not around them all: a reader held up by slow boards is no silent upstream.
                    async with asyncio.timeout(limit_s or None):
                        raw = await anext(body)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise StreamLost(f"nothing came for {limit_s:g} s, not even a keep-alive") from None
                self.state.received_bytes += len(raw)
                self.state.last_received = time.time()
                self._heard_at_s = self._clock()
                for chunk in decompressor.push(raw):
                    yield chunk


class Resumed:
    """Tells what is new on a connection that went on from `position`: numbered events up to there are repeats."""

    def __init__(self, position: str, state: StreamState) -> None:
        self._position = position
        self._last = _number(position)
        self._state = state

    def new(self, block: Block, last_id: str = "") -> tuple[Block, str]:
        """Leave out the repeats; returns the rest and the position after it.

        That is `last_id`, the stream's last so far, also where its event was dropped or had no data; but never one that
        cannot be sent back in a header.
        """
        events = block.events
        if events and self._last is not None:
            events = [event for event in events if self._is_new(event.id)]
            self._state.repeats += len(block.events) - len(events)
            block = Block(events=events)
        if last_id and len(last_id) <= MAX_ID_CHARS and last_id.isprintable() and self._is_new(last_id):
            self._position = last_id
        return block, self._position

    def _is_new(self, event_id: str) -> bool:
        if self._last is None:
            return True
        number = _number(event_id)
        if number is not None and number <= self._last:
            return False
        if event_id:
            self._last = None  # past the overlap: from here on numbers need not be compared
        return True


def _number(event_id: str) -> int | None:
    return int(event_id) if event_id.isascii() and event_id.isdigit() and len(event_id) <= MAX_ID_CHARS else None


def _judge(response: httpx.Response, *, connected_before: bool) -> None:
    """Raise for an answer that is no stream, by what can be done about it; a document may stand in for one later on."""
    status = response.status_code
    if status == 200:
        if response.headers.get("content-type", "").startswith("text/html"):
            raise _unlike_a_stream("an HTML page is no stream: check the address", connected_before)
        if "content-length" in response.headers:
            size = response.headers["content-length"]
            told = f"a document of {size} bytes, which ends, is no stream: replay counts a file"
            raise _unlike_a_stream(told, connected_before)
        return
    if response.has_redirect_location:
        target = httpx.URL(response.headers["location"])
        where = target.copy_with(query=None, userinfo=b"") if target.host else "another path"
        raise StreamRefused(f"the stream has moved to {where} (HTTP {status}): set stream.url to it")
    if status in _FINAL:
        raise StreamRefused(f"the stream answered HTTP {status}: {_FINAL[status]}")
    cause = "rate_limit" if status in (420, 429) else "http"
    raise StreamLost(f"the stream answered HTTP {status}", cause=cause, retry_after_s=_retry_after(response, cause))


def _unlike_a_stream(told: str, connected_before: bool) -> StreamRefused | StreamLost:
    return StreamLost(told, cause="http") if connected_before else StreamRefused(f"stream.url: {told}")


def _described(error: Exception) -> str:
    """Say in one line what went wrong, without an address's query, which may hold a key, and aiohttp's word for TLS."""
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return _QUERY.sub(r"\1", " ".join(text.split())).replace(" ssl:default", "") or type(error).__name__


def _retry_after(response: httpx.Response, cause: str) -> float | None:
    """Read X's `x-rate-limit-reset` (a moment) or `retry-after` (seconds).

    X sends the first with every answer, so it says something about a refusal for the rate alone; a moment that has
    passed, by a clock that is wrong perhaps, says nothing.
    """
    reset = response.headers.get("x-rate-limit-reset", "")
    if cause == "rate_limit" and reset.isascii() and reset.isdigit() and float(reset) > time.time():
        return min(float(reset) - time.time(), 3600.0)
    after = response.headers.get("retry-after", "")
    return min(float(after), 3600.0) if after.isascii() and after.isdigit() else None
