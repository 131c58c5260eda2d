"""Who says nothing, or slowly, holds nobody up; every answer is safe to be looked at."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from processes import daemon
from tweetboard import serving
from tweetboard.api import About, Api
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.store import Store

DRIPPING = 1_000
MANY = 10_000


@asynccontextmanager
async def boards(store: Store) -> AsyncIterator[tuple[str, int]]:
    """Serve a board; yields the address and the port."""
    api = Api({"usernames": Scoreboard(store, "usernames", "ub")}, About(), requests=Counter())
    async with serving.listening(api.application(), "127.0.0.1", 0) as address:
        yield address, int(address.rpartition(":")[2])


async def served_once(store: Store) -> weakref.ref[Api]:
    api = Api({"usernames": Scoreboard(store, "usernames", "ub")}, About(), requests=Counter())
    async with serving.listening(api.application(), "127.0.0.1", 0) as address, aiohttp.ClientSession() as session:
        async with session.get(f"{address}/usernames") as answer:
            assert answer.status == 200
            assert answer.headers["Server"] == "tweetboard"
    return weakref.ref(api)


async def test_what_was_served_is_forgotten_when_another_takes_its_place(store: Store) -> None:
    """As at each change of settings: aiohttp remembers handlers, and with them all that they hold."""
    gone = await served_once(store)
    async with asyncio.timeout(5):  # the last connection may still be on its way out
        while gone() is not None:
            await asyncio.sleep(0)
            gc.collect()


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


async def test_one_connection_too_many_is_told_so_and_those_that_are_there_go_on(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    async with boards(fake_store) as (_, port), asyncio.timeout(10):
        async with asyncio.TaskGroup() as group:
            two = [group.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(2)]
        first, second = (task.result() for task in two)
        await asked(*first)
        await asked(*second)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "application/problem+json" in answer
        assert answer.endswith('"detail":"2 connections are open already"}\n'), answer
        await asked(*first)
        for _, writer in (first, second):
            writer.close()
            await writer.wait_closed()
        third = await asyncio.open_connection("127.0.0.1", port)
        await asked(*third)
        third[1].close()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask over a connection that stays, and read the answer."""
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length"))
    await reader.readexactly(length)


async def test_who_does_not_read_an_answer_loses_it_and_who_reads_slowly_does_not(
    fake_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read for three times as long as nothing may be; the kernel's buffer is as small as on a slow line."""
    monkeypatch.setattr(serving, "UNREAD_S", 0.5)
    names = [f"{number:05}{'x' * 200}" for number in range(1_000)]
    await fake_store.execute("ZADD", "ub", *(word for name in names for word in (1, name)))
    api = Api({"usernames": Scoreboard(fake_store, "usernames", "ub")}, About(), requests=Counter())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        async with serving.serving_on(api.application(), [listener]), asyncio.timeout(20):
            with asking(listener) as deaf, asking(listener) as slow:
                began_s, read = time.monotonic(), 0
                while more := await asyncio.get_running_loop().sock_recv(slow, 16_384):
                    read += len(more)
                    await asyncio.sleep(0.05)
                assert time.monotonic() - began_s > 3 * serving.UNREAD_S
                assert read > 400_000 > await read_on(deaf)  # a page has both copies of each name


def asking(listener: socket.socket) -> socket.socket:
    """Connect and ask for a large page, with little room to receive it."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    one.connect(listener.getsockname())
    one.sendall(b"GET /usernames?limit=1000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    one.setblocking(False)
    return one


async def read_on(client: socket.socket) -> int:
    """Read to the end, or to where the connection was thrown away; returns how many bytes came."""
    read = 0
    with contextlib.suppress(ConnectionResetError):
        while more := await asyncio.get_running_loop().sock_recv(client, 65_536):
            read += len(more)
    return read


def test_a_sandbox_that_hides_the_limit_of_files_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemd's @resources, which our unit forbids, has the system call for both looking and raising."""

    def forbidden(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(resource, "setrlimit", forbidden)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 65_536))
    assert serving.most_connections() == 1_024 - serving.RESERVED_FILES
    monkeypatch.setattr(resource, "getrlimit", forbidden)
    assert serving.most_connections() == serving.MAX_CONNECTIONS


async def test_ten_thousand_open_connections_hold_nobody_up(tmp_path: Path) -> None:
    """Each has asked once and stays; a daemon that was started with a low limit of files has raised it by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if min(hard, serving.MAX_CONNECTIONS) < MANY + 1_000:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
    try:
        starting = daemon(tmp_path, "--stream", "http://127.0.0.1:1/nobody")
        async with starting as running:
            resource.setrlimit(resource.RLIMIT_NOFILE, (MANY + 1_000, hard))
            await running.ready()
            port = int(running.address.rpartition(":")[2])
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MANY)]
            for reader, writer in opened:
                await asked(reader, writer)
            began_s = time.monotonic()
            for _ in range(20):
                status, _ = await running.get("/usernames")
                assert status == 200
            assert time.monotonic() - began_s < 5
            for _, writer in opened:
                writer.close()
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
