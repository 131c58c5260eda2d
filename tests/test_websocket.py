"""The WebSocket client, against servers that end, break, say too much or nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from conftest import wait_until
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


async def test_a_silent_connection_whose_peer_answers_is_kept(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be nothing to say for long: answers to pings are keep-alives."""
    monkeypatch.setattr(websocket, "HEARTBEAT_S", 0.02)
    said = asyncio.Event()

    async def quiet(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        for _ in range(10):
            asked = await socket.receive()
            assert asked.type is aiohttp.WSMsgType.PING
            await socket.pong(asked.data)
        said.set()
        await socket.send_bytes(MESSAGES[0])
        await socket.receive()
        return socket

    async with serving(quiet) as url:
        stream = stream_at(session, url, stall_timeout_s=lambda: 0.05)
        assert await take(stream, 1) == [(MESSAGES[0], "10000000")]
        assert said.is_set()
        assert stream.state.lost == {}


async def test_pings_of_the_upstream_are_answered_and_are_life(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "HEARTBEAT_S", 10)
    answers = list[bytes]()

    async def pinging(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        for number in range(3):
            await socket.ping(b"%d" % number)
            answers.append((await socket.receive()).data)
        await socket.send_bytes(MESSAGES[0])
        await socket.receive()
        return socket

    async with serving(pinging) as url:
        stream = stream_at(session, url)
        await take(stream, 1)
        assert [bytes(answer) for answer in answers] == [b"0", b"1", b"2"]
        assert stream.state.lost == {}


@pytest.mark.parametrize(
    ("code", "cause", "told"),
    [
        (1000, "network", "the stream ended"),
        (1001, "network", "the stream ended"),
        (1008, "http", "1008 unknown DID"),
        (1011, "network", "1011 unknown DID"),
    ],
)
async def test_why_the_upstream_ended_the_connection_is_said(
    session: aiohttp.ClientSession, code: int, cause: str, told: str
) -> None:
    async def ending(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close(code=code, message=b"unknown DID")
        return socket

    async with serving(ending) as url:
        stream = stream_at(session, url)
        reading = asyncio.ensure_future(take(stream, 1))
        await wait_until(lambda: bool(stream.state.lost))
        assert told in stream.state.trouble
        assert list(stream.state.lost) == [cause]
        reading.cancel()
        await asyncio.wait([reading])


async def test_a_message_from_the_future_does_not_lead_there(session: aiohttp.ClientSession) -> None:
    odd = json.dumps({"did": "d", "time_us": 10**17}).encode()
    async with Jetstream(messages=[MESSAGES[0], odd, MESSAGES[1]]).serving() as service:
        assert [at for _, at in await take(stream_at(session, service.url), 3)] == ["10000000", "10000000", "10001000"]


async def test_where_all_messages_are_from_the_future_it_is_our_clock_that_is_odd(
    session: aiohttp.ClientSession,
) -> None:
    """Without a position the next connection would begin at the present, and what passed meanwhile be lost."""
    later_us = int((time.time() + 90) * 1_000_000)
    messages = [json.dumps({"did": "d", "time_us": later_us + number}).encode() for number in range(3)]
    async with Jetstream(messages=messages).serving() as service:
        places = [at for _, at in await take(stream_at(session, service.url), 3)]
        assert places == ["", str(later_us + 1), str(later_us + 2)]


async def test_a_password_in_the_address_is_sent_but_never_beside_a_token(session: aiohttp.ClientSession) -> None:
    async with Jetstream(messages=MESSAGES).serving() as service:
        with_password = service.url.replace("http://", "ws://me:secret@")
        await take(stream_at(session, with_password), 1)
        await take(stream_at(session, with_password, token=TOKEN), 1)
        sent = [request.headers["Authorization"] for request in service.requests]
        assert sent == ["Basic bWU6c2VjcmV0", f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    "url", ["ws://a..b/", "ws://xn--a.b/", f"ws://{'a' * 64}.example/", "ws://u\u20ac:p\u20ac@127.0.0.1:1/"]
)
async def test_an_address_that_is_none_is_refused(session: aiohttp.ClientSession, url: str) -> None:
    error = await lost(stream_at(session, url))
    assert isinstance(error, StreamRefused | StreamLost)
    assert "p\u20ac" not in str(error)


@pytest.mark.parametrize("location", ["http://[::x", "ws://elsewhere.example/", "http://\xff/", ""])
async def test_a_redirect_is_refused_wherever_it_leads(session: aiohttp.ClientSession, location: str) -> None:
    async def moving(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    async with serving(moving) as url:
        error = await lost(stream_at(session, url, token=TOKEN))
        assert isinstance(error, StreamRefused) or not location
        assert TOKEN not in str(error)


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
