"""The HTTP client against an upstream that does everything wrong: nothing lost, nothing twice, nothing said aloud."""

import asyncio
import contextlib
import logging
import math
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import get_args

import httpx
import pytest
import uvloop

from compressing import Encoding
from conftest import wait_until
from tweetboard import stream as stream_module
from tweetboard import supervision as module
from tweetboard.errors import StreamLost, StreamRefused
from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.framing import Block, Event
from tweetboard.stream import HttpStream, Resumed, open_client
from tweetboard.supervision import StreamState
from upstream import Answer, Cut, Gzip, Mode, Upstream, chunk, head, records_of

FIXTURES = Path(__file__).with_name("fixtures")
TOKEN = "bearer-of-secrets"  # noqa: S105 - so that it can be looked for
QUERY_KEY = "key-in-the-query"
RECORDS = [b'{"username":"u%d","hashtags":["h%d"]}' % (number, number % 7) for number in range(100)]
STALL_S = 0.2

real_sleep = asyncio.sleep


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client() as opened:
        yield opened


@pytest.fixture(autouse=True)
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """All waits between two attempts, which take no time here, and no chance: they are what they are at most."""
    waited: list[float] = []

    async def sleep(delay_s: float) -> None:
        if sys._getframe(1).f_globals["__name__"] == module.__name__:  # noqa: SLF001 - only the stream's own waits
            waited.append(delay_s)
            delay_s = 0
        await real_sleep(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(random, "random", lambda: 1.0)
    return waited


def records_in(block: Block) -> list[bytes]:
    return [event.data for event in block.events] or [line.strip() for line in block.lines.split(b"\n") if line.strip()]


async def take(stream: HttpStream, wanted: int, position: str = "", *, data_flows: bool = True) -> list[bytes]:
    """Read until so many records have come, and take them for posts; returns all that came."""
    taken: list[bytes] = []
    async with asyncio.timeout(10), aclosing(stream.blocks(position)) as blocks:
        async for block, _ in blocks:
            taken += records_in(block)
            if data_flows and records_in(block):
                stream.data_flowed()
            if len(taken) >= wanted:
                break
    return taken


async def lose(stream: HttpStream, times: int) -> None:
    """Read, whatever comes, until the connection has been lost so often."""
    reading = asyncio.ensure_future(take(stream, sys.maxsize))
    await wait_until(lambda: reading.done() or sum(stream.state.lost.values()) >= times)
    reading.cancel()
    await asyncio.wait([reading])


async def for_a_while(seconds: float) -> None:
    """Let others run for so long."""
    stop = time.monotonic() + seconds
    await wait_until(lambda: time.monotonic() > stop)


async def refused(stream: HttpStream) -> str:
    with pytest.raises(StreamRefused) as refusal:
        await take(stream, sys.maxsize)
    assert stream.state.trouble == str(refusal.value)
    assert not stream.state.live
    return str(refusal.value)


def events(*pieces: bytes, status: int = 200) -> Answer:
    """Answer with these bytes for a body of events, and then close."""
    return Answer(raw=head(status, {"Content-Type": "text/event-stream"}) + b"".join(pieces))


# What arrives


@pytest.mark.parametrize("encoding", [None, *get_args(Encoding)])
@pytest.mark.parametrize("mode", ["ndjson", "sse"])
@pytest.mark.parametrize("chunk_bytes", [0, 1, 2, 7, 100, 4096, 100_000])
async def test_the_records_of_a_file_arrive_through_every_chunking(
    client: httpx.AsyncClient, mode: Mode, encoding: Encoding | None, chunk_bytes: int
) -> None:
    records = records_of(FIXTURES / "x-v2.ndjson")
    usual = Answer(cut="stay", gzip="flush" if encoding else "", encoding=encoding or "gzip")
    async with Upstream(records, mode, usual=usual, chunk_bytes=chunk_bytes).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, len(records)) == records
        assert stream.state.connects == 1
        assert stream.state.lost == {}
        assert stream.state.received_bytes > 0


async def test_the_real_sample_arrives_whole(client: httpx.AsyncClient, samples: Path) -> None:
    records = records_of(samples / "x-v1.ndjson")
    async with Upstream(records).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), len(records)) == records


async def test_a_last_record_without_its_newline_counts_where_the_body_ended_as_http_wants_it(
    client: httpx.AsyncClient,
) -> None:
    whole = Answer(raw=head(200, {"Transfer-Encoding": "chunked"}) + chunk(b'{"n":1}\n{"n":2}') + chunk(b""))
    async with Upstream([b"{}"], script=[whole]).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), 3) == [b'{"n":1}', b'{"n":2}', b"{}"]


async def test_a_line_over_the_bound_is_counted_once_and_the_others_arrive(client: httpx.AsyncClient) -> None:
    records = [b"{}", b"x" * 2000, b"[]"]
    script = [Answer(cut="end")]
    async with Upstream([*records, *records], script=script, usual=Answer(503)).serving() as upstream:
        stream = HttpStream(client, upstream.url, max_line_bytes=1024)
        assert await take(stream, 4) == [b"{}", b"[]"] * 2
        assert stream.state.oversized == 2


async def test_a_post_is_there_as_soon_as_its_compressed_bytes_have_come(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, usual=Answer(after=1, cut="stall", gzip="flush")).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), 1) == RECORDS[:1]
        assert upstream.requests[0].headers["accept-encoding"] == "gzip, br, zstd"


# Cuts and resumption


@pytest.mark.parametrize("gzip", ["", "flush"])
@pytest.mark.parametrize("overlap", [0, 1, 3, 50])
async def test_events_come_once_each_however_often_the_connection_is_cut(
    client: httpx.AsyncClient, overlap: int, gzip: Gzip
) -> None:
    cuts: tuple[Cut, ...] = ("line", "chunk", "record", "end", "reset")
    script = [Answer(after=overlap + 7, cut=cuts[turn % len(cuts)], gzip=gzip) for turn in range(1000)]
    async with Upstream(RECORDS, "sse", script, overlap=overlap).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, len(RECORDS)) == RECORDS
        asked = [int(request.last_event_id or 0) for request in upstream.requests]
        assert asked == sorted(asked)
        assert asked[0] == 0
        assert (stream.state.repeats > 0) == (overlap > 0)
        assert stream.state.lost["network"] == len(asked) - 1 > 0


async def test_attempts_that_fail_in_a_row_for_one_reason_are_said_once_and_another_reason_or_connection_at_once(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, delays: list[float]
) -> None:
    script = [*[Answer(503)] * 3, Answer(500), Answer(after=1, cut="reset"), *[Answer(503)] * 3]
    async with Upstream(RECORDS, "sse", script).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, len(RECORDS)) == RECORDS
    assert stream.state.lost == {"http": 7, "network": 1}
    assert len(delays) == 8
    said = [message for message in caplog.messages if "lost, connecting again" in message]
    reasons = [next(word for word in ("503", "500", "payload") if word in message) for message in said]
    assert reasons == ["503", "500", "payload", "503"]


async def test_a_page_that_answers_and_ends_is_asked_ever_more_slowly_and_called_one(
    client: httpx.AsyncClient, delays: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Each time it would count again. A stream that goes on where it was ends as it likes."""
    async with Upstream(RECORDS, usual=Answer(after=1, cut="end")).serving() as upstream:
        await lose(HttpStream(client, upstream.url), 12)
    waits = [0.0, 0.25, 0.5, 1, 2, 4, 8, 16, 16, 16]
    assert [round(delay_s + 0.1, 1) for delay_s in delays[:10]] == pytest.approx(waits, abs=0.15)
    first, *_, last = [message for message in caplog.messages if "lost, connecting again" in message]
    assert first.endswith("the stream ended")
    assert last.endswith("a stream holds its answer open; a page is for `replay`")


@pytest.mark.parametrize("answer", [Answer(after=2, cut="end"), Answer(after=2, cut="reset")])
async def test_one_that_goes_on_where_it_was_may_end_as_soon_as_it_likes_but_is_not_asked_all_the_time(
    client: httpx.AsyncClient, delays: list[float], answer: Answer
) -> None:
    """Data leads down the ladder, but from the second short connection on there is a pause all the same."""
    async with Upstream(RECORDS, "sse", [answer] * 12).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), 20) == RECORDS[:20]
    assert delays[0] == 0.0
    assert all(0.2 < delay_s <= 0.25 for delay_s in delays[1:8]), delays


async def test_a_given_position_is_where_it_goes_on(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, "sse", overlap=5).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, 50, "50") == RECORDS[50:]
        assert upstream.requests[0].last_event_id == "50"
        assert stream.state.repeats == 5


async def test_without_a_position_no_last_event_id_is_sent(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, script=[Answer(after=1, cut="end")]).serving() as upstream:
        await take(HttpStream(client, upstream.url), len(RECORDS))
        assert [request.last_event_id for request in upstream.requests] == [None, None]


@pytest.mark.parametrize("cut", ["line", "chunk", "record", "end"])
async def test_a_line_that_was_cut_is_no_record(client: httpx.AsyncClient, cut: Cut) -> None:
    script = [Answer(after=3, cut=cut) for _ in range(20)]
    async with Upstream(RECORDS, script=script).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, len(RECORDS)) == RECORDS
        assert stream.state.connects == 21


@pytest.mark.parametrize("mode", ["ndjson", "sse"])
@pytest.mark.parametrize("cut", ["line", "chunk", "record", "reset"])
async def test_what_had_arrived_before_a_cut_counts_also_where_slow_boards_had_not_let_it_be_read(
    client: httpx.AsyncClient, mode: Mode, cut: Cut
) -> None:
    records = [record + b" " * 900 for record in RECORDS]
    script = [Answer(after=90, cut=cut)]
    async with Upstream(records, mode, script=script, keep_alive_every=0).serving() as upstream:
        taken: list[bytes] = []
        stream = HttpStream(client, upstream.url)
        async with asyncio.timeout(10), aclosing(stream.blocks("")) as blocks:
            async for block, _ in blocks:
                taken += records_in(block)
                if len(taken) < 90:  # the boards are slow until the upstream has gone, and the client has noticed
                    await wait_until(lambda: upstream.connections == 0)
                    for _ in range(20):
                        await asyncio.sleep(0)
                if len(taken) >= len(records):
                    break
        assert [record.rstrip() for record in taken] == RECORDS
        assert stream.state.repeats == 0


async def test_the_position_moves_past_events_without_data_or_over_the_bound(client: httpx.AsyncClient) -> None:
    first = events(b"id: 1\ndata: {}\n\n", b"id: 2\n\n", b"id: 3\ndata: " + b"x" * 2000 + b"\n\n", b"id: 4\ndata: cut")
    async with Upstream([], script=[first], usual=events(b"id: 9\ndata: []\n\n")).serving() as upstream:
        stream = HttpStream(client, upstream.url, max_line_bytes=1024)
        assert await take(stream, 2) == [b"{}", b"[]"]
        assert [request.last_event_id for request in upstream.requests] == [None, "3"]


async def test_an_event_without_an_id_gets_through_after_a_resumption(client: httpx.AsyncClient) -> None:
    again = events(b"data: anonymous\n\n", b"id: 5\ndata: repeat\n\n", b"id: 6\ndata: new\n\n", b"data: last\n\n")
    async with Upstream([], script=[events(b"id: 5\ndata: old\n\n"), again]).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), 4) == [b"old", b"anonymous", b"new", b"last"]


@pytest.mark.parametrize("event_id", ["é", "日本", '[{"topic":"a","offset":-1}]', "with space", "😀"])
async def test_an_id_of_any_letters_is_sent_back_as_it_came(client: httpx.AsyncClient, event_id: str) -> None:
    first = events(f"id: {event_id}\ndata: one\n\n".encode())
    async with Upstream([], script=[first], usual=events(b"data: two\n\n")).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), 2) == [b"one", b"two"]
        assert upstream.requests[1].last_event_id == event_id


@pytest.mark.parametrize("event_id", ["a\x01b", "\x7f", "x" * 5000, "9" * 5000, "\x1b[31m"])
async def test_an_id_that_no_header_can_carry_is_no_position_and_no_harm(
    client: httpx.AsyncClient, event_id: str
) -> None:
    first = events(b"id: 5\ndata: one\n\n")
    second = events(f"id: {event_id}\ndata: two\n\n".encode())
    async with Upstream([], script=[first, second], usual=events(b"id: 6\ndata: three\n\n")).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), 3) == [b"one", b"two", b"three"]
        assert [request.last_event_id for request in upstream.requests] == [None, "5", "5"]


def test_while_it_catches_up_the_position_never_goes_back() -> None:
    resumed = Resumed("10", state := StreamState())
    assert resumed.new(Block(events=[Event("message", b"x", "8")]), "8") == (Block(), "10")
    assert resumed.new(Block(), "9") == (Block(), "10")
    assert resumed.new(Block(events=[Event("message", b"x", "10"), Event("message", b"y", "12")]), "12") == (
        Block(events=[Event("message", b"y", "12")]),
        "12",
    )
    assert state.repeats == 2


def test_ids_that_are_no_numbers_are_not_compared() -> None:
    resumed = Resumed("abc", StreamState())
    block = Block(events=[Event("message", b"x", "abc"), Event("message", b"y", "5")])
    assert resumed.new(block, "5") == (block, "5")


# Answers that are none


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "check stream.url"),
        (401, "set TWEETBOARD_STREAM_TOKEN"),
        (403, "check its access level"),
        (404, "check stream.url"),
        (204, "nothing to come"),
        (407, "https_proxy"),
        (426, "wss://"),
        (410, "has been shut down"),
    ],
)
async def test_a_final_status_says_what_to_do_and_is_not_asked_again(
    client: httpx.AsyncClient, delays: list[float], status: int, advice: str
) -> None:
    async with Upstream([], usual=Answer(status)).serving() as upstream:
        told = await refused(HttpStream(client, upstream.url))
        assert f"HTTP {status}" in told
        assert advice in told
        assert len(upstream.requests) == 1
        assert delays == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_named_and_not_followed(client: httpx.AsyncClient, status: int) -> None:
    async with Upstream(RECORDS).serving() as elsewhere:
        target = elsewhere.url.replace("http://", "http://someone:password@") + f"?key={QUERY_KEY}"
        async with Upstream([], usual=Answer(status, {"Location": target})).serving() as upstream:
            told = await refused(HttpStream(client, upstream.url, token=TOKEN))
            assert f"has moved to {elsewhere.url} (HTTP {status})" in told
            assert QUERY_KEY not in told
            assert "password" not in told
        assert elsewhere.requests == []


@pytest.mark.parametrize("location", ["/elsewhere", "http://[broken", "", "\x80"])
async def test_a_redirect_to_nowhere_is_final_too(client: httpx.AsyncClient, location: str) -> None:
    async with Upstream([], usual=Answer(302, {"Location": location})).serving() as upstream:
        assert "(HTTP 302)" in await refused(HttpStream(client, upstream.url))


async def test_a_redirect_to_what_is_no_address_is_final_too(client: httpx.AsyncClient) -> None:
    async with Upstream([], usual=Answer(302, {"Location": "http://host:port/"})).serving() as upstream:
        assert "has moved, but to no address" in await refused(HttpStream(client, upstream.url))


async def test_http_errors_climb_their_ladder_which_only_data_leads_down(
    client: httpx.AsyncClient, delays: list[float]
) -> None:
    down, empty = Answer(503), Answer(after=0, cut="end")
    script = [down, down, empty, down, Answer(after=1, cut="end"), down, down]
    async with Upstream(RECORDS, script=script).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        await take(stream, len(RECORDS))
        assert delays[:2] == [5.0, 10.0]
        assert delays[3] > 10.0
        assert delays[4] == pytest.approx(0.25, abs=0.1), "data came, so the first is immediate, but for the pause"
        assert delays[5:] == [5.0, 10.0]
        assert stream.state.lost == {"http": 5, "network": 2}


async def test_what_is_no_post_is_no_data(client: httpx.AsyncClient, delays: list[float]) -> None:
    """X says with HTTP 200, and in a record, that there are too many connections: four a second more are no answer."""
    async with Upstream(RECORDS[:20], usual=Answer(after=1, cut="end")).serving() as upstream:
        await take(HttpStream(client, upstream.url), 6, data_flows=False)
        assert delays == [pytest.approx(0.25 * number, abs=0.2) for number in range(len(delays))]
        assert len(delays) == 5


async def test_a_connection_that_lived_for_a_minute_has_not_failed(
    client: httpx.AsyncClient, delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it brought keep-alives alone: some end all connections after some minutes."""
    monkeypatch.setattr("tweetboard.supervision.HEALTHY_LIFE_S", 0.0)
    monkeypatch.setattr("tweetboard.supervision.SHORTEST_LIFE_S", 0.0)
    async with Upstream([], usual=Answer(after=0, cut="end")).serving() as upstream:
        await lose(HttpStream(client, upstream.url), 4)
        assert set(delays) == {0.0}


@pytest.mark.parametrize(("retry", "waited_s"), [("1500", 1.5), ("9" * 15, 320.0), ("-5", 0.0)])
async def test_an_upstream_may_say_how_soon_it_is_asked_again(
    client: httpx.AsyncClient, delays: list[float], retry: str, waited_s: float
) -> None:
    """By the standard of Server-Sent Events, and for every connection from then on; but nobody waits for ever."""
    first = Answer(
        raw=head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        + chunk(f"retry: {retry}\n\ndata: x\n\n".encode())
        + b"0\r\n\r\n"
    )
    async with Upstream(RECORDS, "sse", script=[first, Answer(after=1, cut="end")]).serving() as upstream:
        await take(HttpStream(client, upstream.url), 4)
        assert delays == [pytest.approx(waited_s), pytest.approx(max(waited_s, 0.25), abs=0.1)]


async def test_a_stream_that_numbers_anew_is_said(
    client: httpx.AsyncClient, delays: list[float], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are taken for repeats, by the rule; somebody should hear of it."""
    monkeypatch.setattr("tweetboard.stream.MANY_REPEATS", 10)
    old = b"".join(b"id: %d\ndata: x\n\n" % number for number in range(1, 31))
    answer = Answer(
        raw=head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        + chunk(old)
        + chunk(b"id: 99\ndata: y\n\n")
    )
    async with Upstream([], usual=answer).serving() as upstream:
        assert await take(HttpStream(client, upstream.url), 1, "40") == [b"y"]
    assert [message for message in caplog.messages if "if it numbers anew" in message and "before, now 40," in message]
    assert len([message for message in caplog.messages if "numbers anew" in message]) == 1
    assert delays == []


async def test_a_header_of_the_settings_goes_before_ours_however_it_is_spelled(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS).serving() as upstream:
        await take(HttpStream(client, upstream.url, headers={"user-agent": "mine", "ACCEPT": "x/y"}), 1)
        headers = upstream.requests[0].headers
        assert (headers["user-agent"], headers["accept"]) == ("mine", "x/y")


async def test_repeats_are_no_data(client: httpx.AsyncClient, delays: list[float]) -> None:
    async with Upstream(RECORDS[:5], "sse", overlap=3, usual=Answer(cut="end")).serving() as upstream:
        await lose(HttpStream(client, upstream.url), 5)
        assert delays[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]


async def test_keep_alives_are_no_data(client: httpx.AsyncClient, delays: list[float]) -> None:
    alive = Answer(raw=head(200, {"Transfer-Encoding": "chunked"}) + chunk(b"\r\n") * 3)
    async with Upstream([], usual=alive).serving() as upstream:
        await lose(HttpStream(client, upstream.url), 4)
        assert delays[:4] == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("status", [420, 429])
async def test_a_refusal_for_the_rate_waits_from_a_minute_on(
    client: httpx.AsyncClient, delays: list[float], status: int
) -> None:
    async with Upstream(RECORDS, script=[Answer(status)] * 3).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        await take(stream, 1)
        assert delays == [75.0, 150.0, 300.0]
        assert stream.state.lost == {"rate_limit": 3}


async def test_the_moment_of_x_rate_limit_reset_is_waited_for(client: httpx.AsyncClient, delays: list[float]) -> None:
    moment = time.time() + 100
    script = [Answer(429, {"x-rate-limit-reset": str(int(moment))})]
    async with Upstream(RECORDS, script=script).serving() as upstream:
        await take(HttpStream(client, upstream.url), 1)
    (waited_s,) = delays
    assert 90 < waited_s <= 105
    assert time.time() + waited_s >= int(moment)


@pytest.mark.parametrize(
    ("status", "headers", "waited_s"),
    [
        (429, {"x-rate-limit-reset": "1"}, 75.0),
        (429, {"x-rate-limit-reset": "soon"}, 75.0),
        (429, {"x-rate-limit-reset": "9" * 400}, 3605.0),
        (429, {"x-rate-limit-reset": "1", "retry-after": "30"}, 35.0),
        (429, {"retry-after": "30"}, 35.0),
        (429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 75.0),
        (429, {"retry-after": "Wed, 21 Oct 9015 07:28:00 GMT"}, 3605.0),
        (503, {"retry-after": "tomorrow"}, 5.0),
        (503, {"retry-after": "30"}, 35.0),
        (503, {"retry-after": "-1"}, 5.0),
        (503, {"x-rate-limit-reset": "9999999999"}, 5.0),
        (500, {}, 5.0),
    ],
)
async def test_the_upstreams_word_on_when_to_come_back_is_taken_where_it_means_something(
    client: httpx.AsyncClient, delays: list[float], status: int, headers: dict[str, str], waited_s: float
) -> None:
    async with Upstream(RECORDS, script=[Answer(status, headers)]).serving() as upstream:
        await take(HttpStream(client, upstream.url), 1)
    assert delays == [waited_s]


@pytest.mark.parametrize(
    "answer",
    [
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n",
        b"HTTP/1.1 200",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
async def test_what_is_no_answer_is_a_loss_told_in_one_line(
    client: httpx.AsyncClient, delays: list[float], answer: bytes
) -> None:
    async with Upstream(RECORDS, script=[Answer(raw=answer)] * 2).serving() as upstream:
        stream = HttpStream(client, f"{upstream.url}?key={QUERY_KEY}")
        await lose(stream, 1)
        assert stream.state.trouble
        assert stream.state.trouble.isprintable()
        assert QUERY_KEY not in stream.state.trouble
        await take(stream, len(RECORDS))
        assert delays[0] == (5.0 if b"deflate" in answer else 0.0), (
            "what does not know its encodings will not learn it now"
        )


async def test_a_name_that_nobody_knows_is_a_loss(
    client: httpx.AsyncClient, delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, f"nobody knows {host}")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    stream = HttpStream(client, f"http://stream.invalid/?key={QUERY_KEY}")
    await lose(stream, 3)
    assert "stream.invalid" in stream.state.trouble
    assert QUERY_KEY not in stream.state.trouble
    assert delays[:3] == [0.0, 0.25, 0.5]
    with pytest.raises(StreamLost, match=r"stream\.invalid"):
        await stream.probe()


async def test_a_connection_that_is_refused_is_a_loss(
    client: httpx.AsyncClient, delays: list[float], free_port: int
) -> None:
    stream = HttpStream(client, f"http://127.0.0.1:{free_port}/")
    await lose(stream, 4)
    assert f"127.0.0.1:{free_port}" in stream.state.trouble
    assert delays[:4] == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("url", ["http://a..b/", f"http://{'x' * 64}.example/", "http:///", "ftp://example/", "no url"])
async def test_an_address_that_cannot_be_one_is_final(client: httpx.AsyncClient, url: str) -> None:
    assert (await refused(HttpStream(client, url))).startswith("stream.url: ")


# Silence


async def test_a_connection_that_says_nothing_any_more_is_given_up(client: httpx.AsyncClient) -> None:
    script = [Answer(after=2, cut="stall")]
    async with Upstream(RECORDS, script=script).serving() as upstream:
        stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: STALL_S)
        assert await take(stream, len(RECORDS)) == RECORDS
        assert stream.state.lost == {"network": 1}
        assert upstream.connections == 1


async def test_a_stream_that_is_left_is_not_live_any_more(client: httpx.AsyncClient) -> None:
    """As a standby's: somebody else reads it now."""
    async with Upstream(RECORDS).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        async with aclosing(stream.blocks("")) as blocks:
            await anext(blocks)
            before = stream.state.live
        assert (before, stream.state.live, stream.state.trouble) == (True, False, "not connected")


async def test_what_is_told_of_silence_names_its_length(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, usual=Answer(after=0, cut="stall")).serving() as upstream:
        stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: STALL_S)
        await lose(stream, 1)
        assert stream.state.trouble == "nothing came for 0.2 s, not even a keep-alive"


async def test_keep_alives_are_life(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS[:1], keep_alive_s=0.01).serving() as upstream:
        stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: 0.5)
        reading = asyncio.ensure_future(take(stream, 2))
        await for_a_while(0.8)
        assert stream.state.connects == 1
        assert stream.state.live
        reading.cancel()
        await asyncio.wait([reading])


async def test_the_limit_is_asked_for_again_before_each_read_for_auto_learns_it_late(client: httpx.AsyncClient) -> None:
    limits = iter([0.0, 0.0])  # when asking, and before the first read
    async with Upstream(RECORDS, script=[Answer(after=1, cut="stall")]).serving() as upstream:
        stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: next(limits, STALL_S))
        assert await take(stream, len(RECORDS)) == RECORDS
        assert stream.state.connects == 2


# What passes unheard


async def test_time_that_passes_while_a_stream_that_cannot_go_back_is_cut_is_a_gap(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    script = [Answer(after=3, cut="end"), Answer(status=503), Answer(status=503)]
    async with Upstream(RECORDS, script=script).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        began_s = time.time()
        assert await take(stream, len(RECORDS)) == RECORDS
        assert 0 < stream.state.gap_s < time.time() - began_s
    assert "of the stream went by unheard, and it cannot go back" in caplog.text


async def test_the_time_until_silence_was_noticed_is_a_part_of_the_gap(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, script=[Answer(after=3, cut="stall")]).serving() as upstream:
        stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: STALL_S)
        assert await take(stream, len(RECORDS)) == RECORDS
        assert STALL_S * 0.9 <= stream.state.gap_s < 2


async def test_a_connection_counts_as_heard_up_to_its_last_byte_for_it_may_be_dead_since(
    client: httpx.AsyncClient,
) -> None:
    async with Upstream(RECORDS, keep_alive_s=60).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        async with aclosing(stream.blocks("")) as blocks:
            await anext(blocks)
            await for_a_while(0.3)
            assert stream.heard_until == pytest.approx(time.time() - 0.3, abs=0.2)
            assert stream.heard_until < time.time() - 0.25


@pytest.mark.parametrize("jump_s", [86_400, -86_400])
async def test_a_clock_that_jumps_makes_no_gap_and_hides_none(
    client: httpx.AsyncClient, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    script = [Answer(after=3, cut="end")]
    async with Upstream(RECORDS, script=script, keep_alive_s=60).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        async with aclosing(stream.blocks("")) as blocks:
            await anext(blocks)
            await for_a_while(0.2)
            monkeypatch.setattr(time, "time", lambda: now() + jump_s)
            while stream.state.connects < 2:
                await anext(blocks)
        assert 0.15 < stream.state.gap_s < 5


async def test_what_a_stream_says_it_left_out_adds_up_over_its_connections(client: httpx.AsyncClient) -> None:
    """Each connection's own total is what the greatest of its lines says."""
    records = [b'{"limit": {"track": %d}}' % track for track in (12, 5, 11)]
    async with Upstream(records, script=[Answer(after=2, cut="end")]).serving() as upstream:
        skipped = Skipped()
        decoder = decoder_for("x-v1", skipped)
        stream = HttpStream(client, upstream.url)
        stream.on_connected = skipped.connected
        async with aclosing(stream.blocks("")) as blocks:
            async for block, _ in blocks:
                decoder.decode(block)
                if skipped["limit"] == len(records):
                    break
        assert skipped.undelivered == 12 + 11


async def test_a_stream_that_goes_back_has_no_gap(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, "sse", script=[Answer(after=3, cut="line"), Answer(status=503)]).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, len(RECORDS)) == RECORDS
        assert stream.state.connects == 2
        assert stream.state.gap_s == 0


@pytest.mark.parametrize(("refill_s", "gap_s"), [(0, 300), (60, 240), (300, 0), (math.inf, 0)])
async def test_a_gap_begins_where_the_instance_before_stopped_and_a_refill_shortens_it(
    client: httpx.AsyncClient, refill_s: float, gap_s: float
) -> None:
    async with Upstream(RECORDS).serving() as upstream:
        stream = HttpStream(client, upstream.url, refill_s=refill_s)
        async with aclosing(stream.blocks("", time.time() - 300)) as blocks:
            await anext(blocks)
            assert stream.state.gap_s == pytest.approx(gap_s, abs=2)
            assert stream.heard_until == pytest.approx(time.time(), abs=1)


async def test_a_stream_that_nobody_has_heard_before_begins_without_a_gap(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert stream.heard_until == 0
        assert await take(stream, 1)
        assert stream.state.gap_s == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the process's sockets in /proc")
async def test_a_peer_that_died_in_silence_is_asked_for_by_the_kernel(client: httpx.AsyncClient) -> None:
    """A stream without a stall watch would else wait for ever on a connection whose other end lost its power."""
    async with Upstream(RECORDS).serving() as upstream:
        async with aclosing(HttpStream(client, upstream.url).blocks("")) as blocks:
            await anext(blocks)
            assert keepalives_to(upstream.url) == [(1, 30)]


def keepalives_to(url: str) -> list[tuple[int, int]]:
    """Read, of this process's own ends of connections to a URL's port, whether and after how many seconds they ask."""
    found = []
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name.name))) as one:  # most are no sockets
            peer = one.getpeername()
            if isinstance(peer, tuple) and peer[1] == httpx.URL(url).port:
                asks = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                found.append((asks, one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)))
    return found


@pytest.mark.parametrize("limit_s", [STALL_S, 0.0])
async def test_a_head_that_never_comes_is_given_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, limit_s: float
) -> None:
    monkeypatch.setattr(stream_module, "HEAD_TIMEOUT_S", STALL_S)
    async with Upstream(RECORDS, script=[Answer(raw=b"")] * 2).serving() as upstream:
        stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: limit_s)
        with pytest.raises(StreamLost, match=r"no answer for 0\.2 s"):
            await stream.probe()
        await take(stream, len(RECORDS))
        assert stream.state.lost == {"network": 1}
        assert upstream.connections <= 1


async def test_a_reader_held_up_by_slow_boards_is_no_silent_upstream_and_the_upstream_waits(
    client: httpx.AsyncClient,
) -> None:
    records = [b'{"n":%d,"pad":"%b"}' % (number, b"x" * 1000) for number in range(20_000)]
    async with Upstream(records).serving() as upstream:
        stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: 0.5)
        taken: list[bytes] = []
        async with asyncio.timeout(30), aclosing(stream.blocks("")) as blocks:
            async for block, _ in blocks:
                if not taken:
                    await for_a_while(1.0)
                    assert upstream.sent < len(records)
                taken += records_in(block)
                if len(taken) == len(records):
                    break
        assert taken == records
        assert stream.state.lost == {}


# Compressed bodies that are none


@pytest.mark.parametrize(
    ("gzip", "told", "cause"), [("broken", "not valid gzip", "encoding"), ("bomb", "bomb", "encoding")]
)
@pytest.mark.usefixtures("delays")
async def test_a_broken_body_ends_its_connection_and_nothing_else(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, gzip: Gzip, told: str, cause: str
) -> None:
    async with Upstream(RECORDS, "sse", script=[Answer(after=3, gzip=gzip)]).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, len(RECORDS)) == RECORDS
        assert stream.state.lost == {cause: 1}
        assert told in caplog.text
        assert upstream.connections == 1


# Secrets


async def test_the_token_is_sent_as_a_bearer_token_and_nowhere_else(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, script=[Answer(after=1, cut="end")]).serving() as upstream:
        stream = HttpStream(client, upstream.url, token=TOKEN, headers={"X-Other": "yes"})
        await take(stream, len(RECORDS))
        for request in upstream.requests:
            assert request.headers.pop("authorization") == f"Bearer {TOKEN}"
            assert request.headers["x-other"] == "yes"
            assert TOKEN not in str(request)


async def test_without_a_token_there_is_no_authorization(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS).serving() as upstream:
        await take(HttpStream(client, upstream.url), 1)
        assert "authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    "script",
    [
        [Answer(503), Answer(429), Answer(401)],
        [Answer(raw=b"no HTTP\r\n\r\n"), Answer(302, {"Location": "http://elsewhere.example/x"})],
        [Answer(after=1, cut="chunk"), Answer(after=1, gzip="broken"), Answer(404)],
        [Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), Answer(403)],
    ],
)
async def test_neither_token_nor_the_addresss_query_nor_its_password_is_ever_said(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, script: list[Answer]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # as the command line does: it logs whole addresses
    async with Upstream(RECORDS, "sse", script=script).serving() as upstream:
        url = upstream.url.replace("http://", "http://someone:password@") + f"?key={QUERY_KEY}"
        stream = HttpStream(client, url, token=TOKEN)
        said = [await refused(stream), repr(stream), repr(stream.state), caplog.text]
    for secret in (TOKEN, QUERY_KEY, "password"):
        assert secret not in "\n".join(said)


async def test_a_password_in_the_address_is_sent_unless_there_is_a_token(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, "sse").serving() as upstream:
        url = upstream.url.replace("http://", "http://some%40one:pass@")
        await take(HttpStream(client, url), 1)
        await take(HttpStream(client, url, token=TOKEN), 1)
        sent = [request.headers["authorization"] for request in upstream.requests]
        assert sent == ["Basic c29tZUBvbmU6cGFzcw==", f"Bearer {TOKEN}"]


async def test_a_netrc_file_has_no_say(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password netrc-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Upstream(RECORDS, "sse").serving() as upstream:
        await take(HttpStream(client, upstream.url, token=TOKEN), 1)
        await take(HttpStream(client, upstream.url), 1)
        assert [request.headers.get("authorization") for request in upstream.requests] == [f"Bearer {TOKEN}", None]


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_environments_proxy_is_used_but_not_where_it_says_so(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    async with Upstream(RECORDS, "sse").serving() as proxy, Upstream(RECORDS, "sse").serving() as direct:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/stream").replace("http://", scheme))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert await take(HttpStream(client, "http://stream.invalid/posts"), 1)
        assert await take(HttpStream(client, direct.url), 1)
        assert [request.target for request in proxy.requests] == ["http://stream.invalid/posts"]
        assert [request.target for request in direct.requests] == ["/stream"]


# Trying once


async def test_a_probe_describes_the_answer_and_leaves(client: httpx.AsyncClient) -> None:
    async with Upstream(RECORDS, "sse").serving() as upstream:
        assert await HttpStream(client, upstream.url).probe() == "200 text/event-stream"
        await wait_until(lambda: upstream.connections == 0)


@pytest.mark.parametrize(("status", "error"), [(401, StreamRefused), (503, StreamLost), (302, StreamRefused)])
async def test_a_probe_says_why_there_is_no_stream(
    client: httpx.AsyncClient, delays: list[float], status: int, error: type[Exception]
) -> None:
    async with Upstream([], usual=Answer(status, {"Location": "/x"})).serving() as upstream:
        with pytest.raises(error, match=str(status)):
            await HttpStream(client, upstream.url).probe()
    assert delays == []


# Cancellation


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_500_cancellations_at_random_ticks_leave_neither_task_nor_connection(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    seed = 7
    rng = random.Random(seed)
    sys.stdout.write(f"seed {seed}\n")

    async def cancelled_often() -> int:
        cuts: tuple[Cut, ...] = ("line", "chunk", "end", "reset", "stall")
        script = [
            rng.choice(
                [Answer(503), Answer(raw=b""), Answer(after=3, cut=rng.choice(cuts), gzip=rng.choice(["", "flush"]))]
            )
            for _ in range(5_000)
        ]
        halfway = turn = 0
        async with Upstream(RECORDS, "sse", script).serving() as upstream, open_client() as client:
            before = asyncio.all_tasks()
            while turn < 500 or (halfway <= 50 and turn < 5_000):  # a busy machine connects seldom in so few ticks
                turn += 1
                stream = HttpStream(client, upstream.url, stall_timeout_s=lambda: 1)
                reading = asyncio.ensure_future(take(stream, len(RECORDS)))
                for _ in range(rng.randrange(60)):
                    await asyncio.sleep(0)
                halfway += stream.state.connects > 0
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                await wait_until(lambda: upstream.connections == 0 and asyncio.all_tasks() == before)
                assert asyncio.all_tasks() == before, f"seed {seed}, turn {turn}"
        return halfway

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(cancelled_often()) > 50, "too few were cancelled while connected"


async def test_a_document_that_ends_is_no_stream(client: httpx.AsyncClient) -> None:
    """A file on a web server would be counted again and again; the error says what counts files."""
    answer = Answer(raw=b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"username":"a"}\n')
    async with Upstream([], usual=answer).serving() as upstream:
        with pytest.raises(StreamRefused, match="a document of 17 bytes, which ends, is no stream: replay"):
            await take(HttpStream(client, upstream.url), 1)


async def test_an_html_page_is_no_stream(client: httpx.AsyncClient) -> None:
    answer = Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>")
    async with Upstream([], usual=answer).serving() as upstream:
        with pytest.raises(StreamRefused, match="an HTML page is no stream: check the address"):
            await take(HttpStream(client, upstream.url), 1)


@pytest.mark.parametrize("header", [b"Content-Length: 4", b"Content-Type: text/html"])
async def test_a_page_that_stands_in_for_the_stream_later_on_is_waited_out(
    client: httpx.AsyncClient, delays: list[float], header: bytes
) -> None:
    """Such as a notice of maintenance: the address was right, for it has been a stream before."""
    page = Answer(raw=b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\nsoon")
    async with Upstream(RECORDS, "sse", script=[Answer(after=1, cut="end"), page]).serving() as upstream:
        stream = HttpStream(client, upstream.url)
        assert await take(stream, len(RECORDS)) == RECORDS
        assert stream.state.lost == {"network": 1, "http": 1}
    assert len(delays) == 2
