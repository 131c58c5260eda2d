"""The scripted upstream itself: what a test relies on when it says "cut in the middle of a line"."""

import asyncio
import json
import signal
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from conftest import wait_until
from upstream import Answer, Cut, Request, Upstream, records_of, script_of

RECORDS = [b'{"n":%d}' % number for number in range(5)]


@asynccontextmanager
async def asking(upstream: Upstream, *headers: str) -> AsyncIterator[asyncio.StreamReader]:
    """Ask as a client would, byte for byte; yields the answer behind its head."""
    host, _, port = upstream.url.removeprefix("http://").removesuffix("/stream").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write("\r\n".join(["GET /stream HTTP/1.1", "Host: here", *headers, "", ""]).encode())
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def whole(upstream: Upstream, *headers: str) -> bytes:
    async with asking(upstream, *headers) as answer, asyncio.timeout(5):
        return await answer.read()


async def body(upstream: Upstream, *headers: str) -> bytes:
    return (await whole(upstream, *headers)).partition(b"\r\n\r\n")[2]


async def test_ndjson_comes_as_x_sends_it() -> None:
    usual = Answer(cut="end")
    async with Upstream(RECORDS[:3], usual=usual, keep_alive_every=2).serving() as upstream:
        head, _, received = (await whole(upstream)).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    keep_alive, post = b"2\r\n\r\n\r\n", b'9\r\n{"n":%d}\r\n\r\n'
    assert received == keep_alive + post % 0 + post % 1 + keep_alive + post % 2 + b"0\r\n\r\n"


async def test_events_have_rising_ids_and_go_on_behind_the_last_one_but_for_the_overlap() -> None:
    usual = Answer(cut="end")
    async with Upstream(RECORDS, "sse", usual=usual, overlap=1, keep_alive_every=0).serving() as upstream:
        first, later, beyond = (
            await body(upstream),
            await body(upstream, "Last-Event-ID: 4"),
            await body(upstream, "last-event-id: 99"),
        )
    assert [first.count(b"id: "), later.count(b"id: "), beyond.count(b"id: ")] == [5, 2, 0]
    assert later.index(b'id: 4\ndata: {"n":3}\n\n') < later.index(b'id: 5\ndata: {"n":4}\n\n')
    assert [request.last_event_id for request in upstream.requests] == [None, "4", "99"]


@pytest.mark.parametrize(
    ("cut", "behind"),
    [
        ("end", b"0\r\n\r\n"),
        ("record", b""),
        ("line", b'4\r\n{"n"\r\n'),
        ("chunk", b"9\r\n{"),
    ],
)
async def test_each_cut_leaves_what_it_says(cut: Cut, behind: bytes) -> None:
    script = [Answer(after=2, cut=cut)]
    async with Upstream(RECORDS, script=script, usual=Answer(cut="end"), keep_alive_every=0).serving() as upstream:
        assert await body(upstream) == b'9\r\n{"n":0}\r\n\r\n9\r\n{"n":1}\r\n\r\n' + behind
        # The record that was cut comes whole on the next connection.
        assert (await body(upstream)).startswith(b'9\r\n{"n":2}\r\n\r\n')


async def test_a_reset_is_no_orderly_end() -> None:
    async with Upstream(RECORDS, script=[Answer(after=1, cut="reset")]).serving() as upstream:
        assert b'{"n":1}' not in await whole(upstream)
        assert upstream.connections == 0


@pytest.mark.parametrize("cut", ["stay", "stall"])
async def test_it_stays_when_it_is_told_to_with_keep_alives_or_without(cut: Cut) -> None:
    async with Upstream(RECORDS[:1], usual=Answer(cut=cut), keep_alive_s=0.001).serving() as upstream:
        async with asking(upstream) as answer:
            await answer.readuntil(b'{"n":0}\r\n\r\n')
            assert upstream.connections == 1
            if cut == "stay":
                assert await answer.readexactly(14) == b"2\r\n\r\n\r\n" * 2
        await wait_until(lambda: upstream.connections == 0)


async def test_without_enough_records_for_a_cut_it_stays() -> None:
    async with Upstream(RECORDS[:2], usual=Answer(after=2, cut="line"), keep_alive_s=0.001).serving() as upstream:
        async with asking(upstream) as answer:
            await answer.readuntil(b'{"n":1}\r\n\r\n')
            assert await answer.readexactly(7) == b"2\r\n\r\n\r\n"


async def test_answers_follow_the_script_and_then_are_as_usual() -> None:
    script = [Answer(503), Answer(429, {"x-rate-limit-reset": "7"}), Answer(302, {"Location": "/x"}), Answer(raw=b"?!")]
    async with Upstream(RECORDS, script=script, usual=Answer(cut="end")).serving() as upstream:
        answers = [await whole(upstream) for _ in range(5)]
    assert [answer[:12] for answer in answers] == [
        b"HTTP/1.1 503",
        b"HTTP/1.1 429",
        b"HTTP/1.1 302",
        b"?!",
        b"HTTP/1.1 200",
    ]
    assert b"\r\nx-rate-limit-reset: 7\r\n" in answers[1]
    assert b"\r\nLocation: /x\r\n" in answers[2]


async def test_it_may_never_answer() -> None:
    async with Upstream(RECORDS, usual=Answer(raw=b"")).serving() as upstream, asking(upstream) as answer:
        await wait_until(lambda: upstream.requests)
        assert upstream.connections == 1
        assert not answer.at_eof()


async def test_a_body_can_be_cut_into_chunks_of_any_size() -> None:
    async with Upstream(RECORDS, chunk_bytes=7, usual=Answer(cut="end"), keep_alive_every=0).serving() as upstream:
        received = await body(upstream)
    assert received.startswith(b'7\r\n{"n":0}\r\n7\r\n\r\n{"n":\r\n')
    assert received.endswith(b"3\r\n}\r\n\r\n0\r\n\r\n")


async def test_compressed_records_are_flushed_one_by_one() -> None:
    async with Upstream(RECORDS, usual=Answer(gzip="flush"), keep_alive_every=0).serving() as upstream:
        async with asking(upstream) as answer:
            assert b"\r\nContent-Encoding: gzip\r\n" in await answer.readuntil(b"\r\n\r\n")
            member = zlib.decompressobj(wbits=31)
            for record in RECORDS:
                size = int(await answer.readline(), 16)
                assert member.decompress(await answer.readexactly(size)) == record + b"\r\n"
                await answer.readline()


async def test_a_bomb_is_a_gigabyte_in_a_megabyte() -> None:
    async with Upstream([], usual=Answer(gzip="bomb")).serving() as upstream, asking(upstream) as answer:
        await answer.readuntil(b"\r\n\r\n")
        member = zlib.decompressobj(wbits=31)
        size = int(await answer.readline(), 16)
        assert size < 2000
        assert len(member.decompress(await answer.readexactly(size))) >= 1 << 20


async def test_requests_are_kept_with_their_headers() -> None:
    seen: list[Request] = []
    async with Upstream([], usual=Answer(503), on_request=seen.append).serving() as upstream:
        await whole(upstream, "Authorization: Bearer x", "X-Some: thing: here")
    assert seen == upstream.requests
    assert seen[0].target == "/stream"
    assert seen[0].headers == {"host": "here", "authorization": "Bearer x", "x-some": "thing: here"}


async def test_the_rate_is_kept() -> None:
    async with Upstream(RECORDS * 10, rate=1000.0, usual=Answer(cut="end")).serving() as upstream:
        began = time.monotonic()
        await whole(upstream)
        assert time.monotonic() - began >= 0.049


async def test_no_connection_outlives_it() -> None:
    before = asyncio.all_tasks()
    async with Upstream(RECORDS).serving() as upstream:
        async with asking(upstream) as answer:
            await answer.readuntil(b'{"n":4}')
    assert asyncio.all_tasks() == before
    assert upstream.connections == 0


def test_scripts_can_be_written_in_a_line() -> None:
    assert list(script_of("line@10,503,429:x-rate-limit-reset=7,end@0")) == [
        Answer(after=10, cut="line"),
        Answer(503),
        Answer(429, {"x-rate-limit-reset": "7"}),
        Answer(after=0, cut="end"),
    ]
    assert list(script_of("")) == []


def test_records_are_the_lines_that_are_not_blank(tmp_path: Path) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(b"{}\n\r\n\n[]\r\n{cut")
    assert records_of(path) == [b"{}", b"[]", b"{cut"]


async def test_as_a_process_of_its_own_it_says_where_logs_requests_and_ends_by_a_signal(tmp_path: Path) -> None:
    path, log = tmp_path / "posts.ndjson", tmp_path / "requests"
    path.write_bytes(b"\n".join(RECORDS))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("upstream.py")), "--file", str(path), "--log", str(log)),
        *("--mode", "sse", "--overlap", "1", "--script", "503", "--cut", "any", "--cut-every", "2"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            there = Upstream([], url=(await process.stdout.readline()).decode().strip())
            assert b" 503 " in await whole(there)
            first, second = await body(there), await body(there, "Last-Event-ID: 2")
        assert first.count(b"id: ") == 3  # two events, and half of the third: "line"
        assert second.count(b"id: ") == 3  # back by one, two events, and half of another: "chunk"
        asked = [json.loads(line)["headers"].get("last-event-id") for line in log.read_text().splitlines()]
        assert asked == [None, None, "2"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
