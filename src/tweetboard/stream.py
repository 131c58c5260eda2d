"""The HTTP client of the stream: connect, watch for silence, resume; it yields blocks of records.

What lives here: one connection, judged by what ended it. What must not: what follows it (supervision.py), bytes'
meaning (framing.py, formats/).
"""

import asyncio
import base64
import logging
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions

from tweetboard import __version__
from tweetboard.decompression import ACCEPT_ENCODING, decompressor_for
from tweetboard.errors import StreamLost, StreamRefused
from tweetboard.framing import Block, SSEFramer, framer_for
from tweetboard.supervision import StreamState, Supervised
from tweetboard.trust import trusted, wants_tls

CONNECT_TIMEOUT_S: Final = 10.0
"""For the connection itself; the answer's head may take as long as the stall watch allows, or `HEAD_TIMEOUT_S`."""

HEAD_TIMEOUT_S: Final = 60.0
"""For formats without a stall watch; some servers send the head only with the first post."""

READ_BUFFER_BYTES: Final = 128 * 1024
"""Between 64 and 256 KiB measured best: fewer wake-ups than less, fewer cache misses than more."""

KEEPALIVE_S: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""The kernel asks a peer that is silent for so long, so often, with such pauses: a minute, and a dead one is noticed.

Not every stream has a stall watch: posts may be hours apart. TCP_KEEPALIVE is macOS's name for TCP_KEEPIDLE.
"""

ACCEPT: Final = "text/event-stream, application/x-ndjson, application/json, */*;q=0.5"

MANY_REPEATS: Final = 1_000
"""When a stream has sent so many again, over all connections, somebody should hear of it."""

MAX_ID_CHARS: Final = 4096
"""A longer event id is no position: servers take some 8 KiB of headers, and int() at most 4,300 digits."""

_FINAL: Final = {
    204: "there is nothing to come: check stream.url",
    400: "the request is wrong: check stream.url",
    401: "the token is missing or not accepted: set TWEETBOARD_STREAM_TOKEN",
    403: "the token does not allow this stream: check its access level",
    404: "there is no such stream: check stream.url",
    405: "this address is not to be read: check stream.url",
    407: "the proxy wants a password: put it into the address in https_proxy",
    410: "this stream has been shut down: check stream.url",
    426: "this address speaks another protocol: is it a wss:// one?",
    451: "this stream may not be shown here",
}

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Never asked for by way of a proxy, which would look for itself; the demo is there."""

_QUERY: Final = re.compile(r"(\b(?:http|ws)s?://[^\s?'\"]*)\?[^\s'\"]*", re.IGNORECASE)

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_session(url: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    """Open what makes connections to `url` that carry long streams well; none follows the upstream elsewhere.

    Raises as `trusted` does.
    """
    connector = aiohttp.TCPConnector(ssl=trusted() if wants_tls(url) else True, socket_factory=_keepalive_socket)
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_moved)
    async with aiohttp.ClientSession(
        connector=connector, read_bufsize=READ_BUFFER_BYTES, auto_decompress=False, trace_configs=[tracing]
    ) as session:
        yield session


@asynccontextmanager
async def open_client(url: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """Open an HTTP client for streams: aiohttp's connections under httpx's interface."""
    async with open_session(url) as session:
        unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for the session has its own
        transport = _Transport(client=session, verify=unused)
        async with httpx.AsyncClient(transport=transport) as client:
            yield client


async def _moved(_session: object, _context: object, moved: aiohttp.TraceRequestRedirectParams) -> None:
    raise moved_to(moved.response.headers.get("Location", ""), moved.response.status)


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE_S.items():
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def proxy_for(scheme: str, host: str) -> httpx.Proxy | None:
    """Find the environment's proxy for a host; raises `StreamRefused` where that is no address."""
    proxies = urllib.request.getproxies()
    name = scheme if scheme in proxies else "all"
    proxy = proxies.get(name)
    if not proxy or host in _LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    try:
        found = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
        found.url.raw_host.decode("idna")
    except ValueError as error:
        raise StreamRefused(f"{name}_proxy in the environment: {error}") from error
    if found.url.scheme not in ("http", "https"):
        raise StreamRefused(f"{name}_proxy in the environment: no proxy of the kind {found.url.scheme}:// can be used")
    return found


def request_headers(own: Mapping[str, str], wanted: Mapping[str, str], token: str) -> dict[str, str]:
    """Put a request's headers together: what the settings want goes before our `own`, however it is spelled."""
    headers = httpx.Headers({**own, "User-Agent": f"tweetboard/{__version__}"}, encoding="utf-8")
    headers.update(wanted)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return dict(headers)


def basic_auth(user: str, password: str) -> str:
    """Write a user and a password as a header has them (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _Transport(AiohttpTransport):
    """Finds the environment's proxy itself: aiohttp's `trust_env` would also look for passwords, in netrc."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.proxy = proxy_for(request.url.scheme, request.url.host)
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


class HttpStream(Supervised):
    """The stream at `url`; `token` is sent as a bearer token, and only there; it goes before a password in `url`."""

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
        super().__init__(url, stall_timeout_s=stall_timeout_s, refill_s=refill_s)
        self._client = client
        own = {"Accept": ACCEPT, "Accept-Encoding": ACCEPT_ENCODING}
        self._headers = request_headers(own, headers or {}, token)
        self._has_token = bool(token)
        self._max_line_bytes = max_line_bytes

    async def _probe(self) -> str:
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
                    if isinstance(framer, SSEFramer) and framer.retry_ms is not None:
                        self.ask_no_sooner(framer.retry_ms / 1000)
                    has_data = bool(block.events or (block.lines and not block.lines.isspace()))
                    if has_data or reached != position:
                        position = reached
                        yield block, reached
            # Only here has the upstream ended the body properly; a cut leaves an unfinished line unread.
            block = framer.end()
            if block.lines:
                yield resumed.new(block)

    @asynccontextmanager
    async def _response(self, position: str) -> AsyncIterator[httpx.Response]:
        """Ask for the stream; what goes wrong, here or while the body is read, leaves as a `StreamError`."""
        resume = {"Last-Event-ID": self.resume_id(position)} if position else {}
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
            raise StreamRefused(f"stream.url: {described(error)}") from error
        except TimeoutError:
            raise StreamLost(f"no answer for {head_timeout_s:g} s") from None
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            if isinstance(error.__context__, httpx.InvalidURL):  # httpx looks at every redirect, followed or not
                raise StreamRefused(f"the stream has moved, but to no address: {described(error)}") from error
            raise StreamLost(described(error)) from error

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
                self._heard(len(raw))
                for chunk in decompressor.push(raw):
                    yield chunk


class Resumed:
    """Tells what is new on a connection that went on from `position`: numbered events up to there are repeats."""

    def __init__(self, position: str, state: StreamState) -> None:
        self._position = position
        self._last = self._asked_after = _number(position)
        self._state = state

    def new(self, block: Block, last_id: str = "") -> tuple[Block, str]:
        """Leave out the repeats; returns the rest and the position after it.

        That is `last_id`, the stream's last so far, also where its event was dropped or had no data; but never one that
        cannot be sent back in a header.
        """
        events = block.events
        if events and self._last is not None:
            events = [event for event in events if self._is_new(event.id)]
            self._note_repeats(len(block.events) - len(events))
            block = Block(events=events)
        if last_id and len(last_id) <= MAX_ID_CHARS and last_id.isprintable() and self._is_new(last_id):
            self._position = last_id
        return block, self._position

    def _note_repeats(self, count: int) -> None:
        before = self._state.repeats
        self._state.repeats += count
        if before < MANY_REPEATS <= self._state.repeats:
            log.warning(
                "the stream sends events whose ids are not above the last one before, now %d, and they are left out as "
                "repeats, %d so far; if it numbers anew, give it another stream.name",
                *(self._asked_after, self._state.repeats),
            )

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
        raise moved_to(response.headers["location"], status)
    raise refusal(status, response.headers)


def moved_to(location: str, status: int) -> StreamRefused:
    """Say where the stream is now; nothing is sent there, least of all the token."""
    try:
        target = httpx.URL(location)
    except (httpx.InvalidURL, UnicodeError):
        return StreamRefused(f"the stream has moved, but to no address (HTTP {status})")
    where = target.copy_with(query=None, userinfo=b"") if target.host else "another path"
    return StreamRefused(f"the stream has moved to {where} (HTTP {status}): set stream.url to it")


def refusal(status: int, headers: Mapping[str, str]) -> StreamRefused | StreamLost:
    """Judge an answer other than 200 by its status: final, or to be tried again, and how soon."""
    if status in _FINAL:
        return StreamRefused(f"the stream answered HTTP {status}: {_FINAL[status]}")
    cause = "rate_limit" if status in (420, 429) else "http"
    return StreamLost(f"the stream answered HTTP {status}", cause=cause, retry_after_s=_retry_after(headers, cause))


def _unlike_a_stream(told: str, connected_before: bool) -> StreamRefused | StreamLost:
    return StreamLost(told, cause="http") if connected_before else StreamRefused(f"stream.url: {told}")


def described(error: Exception) -> str:
    """Say in one line what went wrong, without an address's query, which may hold a key, and aiohttp's word for TLS."""
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return _QUERY.sub(r"\1", " ".join(text.split())).replace(" ssl:default", "") or type(error).__name__


def _retry_after(headers: Mapping[str, str], cause: str) -> float | None:
    """Read X's `x-rate-limit-reset` (a moment) or `retry-after` (seconds, or a date).

    X sends the first with every answer, so it says something about a refusal for the rate alone; a moment that has
    passed, by a clock that is wrong perhaps, says nothing.
    """
    reset = headers.get("x-rate-limit-reset", "")
    if cause == "rate_limit" and reset.isascii() and reset.isdigit() and float(reset) > time.time():
        return min(float(reset) - time.time(), 3600.0)
    after = headers.get("retry-after", "")
    if after.isascii() and after.isdigit():
        return min(float(after), 3600.0)
    try:
        moment_s = parsedate_to_datetime(after).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(moment_s - time.time(), 3600.0) if moment_s > time.time() else None
