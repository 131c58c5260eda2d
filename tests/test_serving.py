"""Who says nothing, or slowly, holds nobody up; every answer is safe to be looked at."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tweetboard import serving
from tweetboard.api import About, Api
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.store import Store

DRIPPING = 1_000


@asynccontextmanager
async def boards(store: Store) -> AsyncIterator[tuple[str, int]]:
    """Serve a board; yields the address and the port."""
    api = Api({"usernames": Scoreboard(store, "usernames", "ub")}, About(), requests=Counter())
    async with serving.listening(api.application(), "127.0.0.1", 0) as address:
        yield address, int(address.rpartition(":")[2])


async def test_a_connection_that_asks_nothing_ends(fake_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FIRST_REQUEST_S", 0.05)
    async with boards(fake_store) as (_, port), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Drip: ")
        assert await reader.read() == b"", "nor does one that begins and does not come to an end"
        writer.close()


async def test_one_that_has_asked_may_wait_before_it_asks_again(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "FIRST_REQUEST_S", 0.2)
    async with boards(fake_store) as (_, port), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            while (await reader.readline()).strip():
                pass
            await reader.readline()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await reader.read(1)
        writer.close()


async def test_a_thousand_that_drip_hold_nobody_up(fake_store: Store) -> None:
    async with boards(fake_store) as (address, port), asyncio.timeout(60):
        dripping = [await asyncio.open_connection("127.0.0.1", port) for _ in range(DRIPPING)]

        async def drip() -> None:
            while True:
                for _, writer in dripping:
                    writer.write(b"G")
                await asyncio.sleep(0.05)

        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            task = group.create_task(drip())
            slowest_s = 0.0
            for _ in range(50):
                began_s = time.monotonic()
                async with session.get(f"{address}/usernames") as response:
                    assert response.status == 200
                slowest_s = max(slowest_s, time.monotonic() - began_s)
            task.cancel()
        assert slowest_s < 2
        for _, writer in dripping:
            writer.close()


@pytest.mark.parametrize("path", ["/", "/usernames", "/nowhere", "/readyz", "/metrics", "/page.css", "/usernames?x=1"])
async def test_every_answer_is_safe_to_be_looked_at(fake_store: Store, path: str) -> None:
    async with boards(fake_store) as (address, _), aiohttp.ClientSession() as session:
        async with session.get(address + path) as response:
            assert set(serving.SECURITY_HEADERS) <= set(response.headers)
            policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors" in policy


async def test_what_is_no_request_is_answered_as_safely(fake_store: Store) -> None:
    async with boards(fake_store) as (_, port), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HELLO\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
    assert answer.startswith("HTTP/1.0 400")
    assert all(f"{name}: {value}" in answer for name, value in serving.SECURITY_HEADERS.items())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_only_reading_is_allowed(fake_store: Store, method: str) -> None:
    async with boards(fake_store) as (address, _), aiohttp.ClientSession() as session:
        async with session.request(method, f"{address}/usernames", data=b"x") as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")


async def test_a_line_or_a_header_that_is_too_long_is_refused(fake_store: Store) -> None:
    async with boards(fake_store) as (address, _), aiohttp.ClientSession() as session:
        for path, headers in (("x" * 40_000, {}), ("", {"X-Long": "x" * 40_000})):
            async with session.get(f"{address}/{path}", headers=headers) as response:
                assert response.status == 400
