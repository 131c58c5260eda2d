"""The WebSocket client, against servers that end, break, say too much or nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from services import Jetstream
from tweetboard import websocket
from tweetboard.errors import StreamError, StreamLost, StreamRefused
from tweetboard.formats.bluesky import position, resume_id
from tweetboard.stream import open_session
from tweetboard.supervision import Supervised
from tweetboard.websocket import WebSocketStream

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TOKEN = "abc-secret"  # noqa: S105 - an invented one
MESSAGES = [json.dumps({"did": "d", "time_us": 10_000_000 + 1_000 * number}).encode() for number in range(50)]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serve one handler everywhere; yields the WebSocket's address."""
    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/subscribe"
    finally:
        await runner.cleanup()


def stream_at(session: aiohttp.ClientSession, url: str, **options: object) -> WebSocketStream:
    stream = WebSocketStream(session, url.replace("http:", "ws:"), position_of=position, **options)  # type: ignore[arg-type]
    stream.resume_id = resume_id
    return stream


async def take(stream: Supervised, wanted: int, at: str = "") -> list[tuple[bytes, str]]:
    """Read so many messages, each with the position after it."""
    found: list[tuple[bytes, str]] = []
    async with asyncio.timeout(20), aclosing(stream.blocks(at)) as blocks:
        async for block, reached in blocks:
            found += [(event.data, reached) for event in block.events]
            if len(found) >= wanted:
                break
    return found


async def lost(stream: WebSocketStream) -> StreamError:
    """Read one connection to its failure."""
    with pytest.raises(StreamError) as caught:  # noqa: PT012 - wherever it comes up
        async with asyncio.timeout(20), aclosing(stream._connection("")) as blocks:  # noqa: SLF001 - one alone
            async for _ in blocks:
                pass
    return caught.value


async def test_each_message_is_a_record_with_the_position_after_it(session: aiohttp.ClientSession) -> None:
    async with Jetstream(messages=MESSAGES).serving() as service:
        stream = stream_at(session, service.url)
        found = await take(stream, len(MESSAGES))
        assert found == [(message, str(json.loads(message)["time_us"])) for message in MESSAGES]
        assert stream.state.received_bytes == sum(map(len, MESSAGES))
        assert await stream.probe() == "101 WebSocket"


async def test_after_an_end_it_asks_for_some_seconds_again_and_never_goes_back(session: aiohttp.ClientSession) -> None:
    async with Jetstream(messages=MESSAGES, cut=20).serving() as service:
        found = await take(stream_at(session, service.url), 30)
        positions = [int(reached) for _, reached in found]
        assert positions == sorted(positions)
        assert found[20][0] == MESSAGES[0], "messages 5 s back come again"
        assert [request.query.get("cursor") for request in service.requests] == [None, str(positions[19] - 5_000_000)]


async def test_a_given_position_is_where_it_goes_on(session: aiohttp.ClientSession) -> None:
    async with Jetstream(messages=MESSAGES).serving() as service:
        found = await take(stream_at(session, service.url + "?wanted=posts"), 20, str(15_000_000 + 30_000))
        assert [data for data, _ in found] == MESSAGES[30:]
        assert dict(service.requests[0].query) == {"wanted": "posts", "cursor": "10030000"}


async def test_a_message_over_the_bound_is_counted_and_the_others_arrive(session: aiohttp.ClientSession) -> None:
    messages = [MESSAGES[0], json.dumps({"time_us": 1, "text": "x" * 5_000}).encode(), MESSAGES[1]]
    async with Jetstream(messages=messages).serving() as service:
        stream = stream_at(session, service.url, max_line_bytes=1_024)
        assert [data for data, _ in await take(stream, 2)] == MESSAGES[:2]
        assert stream.state.oversized == 1


async def test_a_silent_connection_is_given_up(session: aiohttp.ClientSession) -> None:
    async with Jetstream().serving() as service:
        error = await lost(stream_at(session, service.url, stall_timeout_s=lambda: 0.1))
        assert str(error) == "nothing came for 0.1 s"


async def test_a_peer_that_does_not_answer_pings_is_given_up(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "HEARTBEAT_S", 0.1)

    async def deaf(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        while True:
            await socket.receive()

    async with serving(deaf) as url:
        assert isinstance(await lost(stream_at(session, url)), StreamLost)


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (401, StreamRefused, "HTTP 401: the token is missing or not accepted"),
        (404, StreamRefused, "HTTP 404: there is no such stream"),
        (429, StreamLost, "HTTP 429"),
        (503, StreamLost, "HTTP 503"),
        (200, StreamLost, "the answer is no WebSocket"),
    ],
)
async def test_an_answer_that_is_no_websocket_is_judged_as_any_other(
    session: aiohttp.ClientSession, status: int, kind: type[StreamError], told: str
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Retry-After": "7"})

    async with serving(refuse) as url:
        error = await lost(stream_at(session, url))
        assert isinstance(error, kind)
        assert told in str(error)
        if isinstance(error, StreamLost) and status != 200:
            assert (error.cause, error.retry_after_s) == ("rate_limit" if status == 429 else "http", 7)


async def test_the_token_is_sent_as_a_bearer_token_and_follows_no_redirect(session: aiohttp.ClientSession) -> None:
    seen: list[str] = []

    async def move(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        raise web.HTTPFound("http://127.0.0.1:9/elsewhere?key=hidden")

    async with serving(move) as url:
        error = await lost(stream_at(session, url, token=TOKEN))
        assert isinstance(error, StreamRefused)
        assert str(error) == "the stream has moved to http://127.0.0.1:9/elsewhere (HTTP 302): set stream.url to it"
    assert seen == [f"Bearer {TOKEN}"]


async def test_nobody_there_is_a_loss(session: aiohttp.ClientSession, free_port: int) -> None:
    error = await lost(stream_at(session, f"ws://127.0.0.1:{free_port}/"))
    assert isinstance(error, StreamLost)
    assert error.cause == "network"
