"""Clients of Server-Sent Events that others wrote watch boards: an npm package, a Python one, and curl."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from serving_boards import Wall, wall
from tweetboard.store import Store

PACKAGE = Path(sys.prefix) / "node" / "node_modules" / "eventsource" / "dist" / "index.js"
SCRIPT = Path(__file__).parent / "fixtures" / "eventsource.mjs"


@asynccontextmanager
async def lines_of(*command: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run a command; yields what it says, and ends it."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            yield process.stdout
    finally:
        process.kill()
        await process.wait()


def shown(said: dict[str, Any]) -> tuple[str, list[str]]:
    return said["board"], [row["name"] for row in said["results"]]


async def test_npm_eventsource_watches_and_comes_back_to_whoever_serves_next(store: Store, free_port: int) -> None:
    if (node := shutil.which("node")) is None or not PACKAGE.exists():
        pytest.skip(f"there is no node, or none of the npm package eventsource in {PACKAGE.parents[3]}")

    async def come(lines: asyncio.StreamReader) -> list[Any]:
        found: list[Any] = json.loads(await lines.readline())
        return found

    async with lines_of(node, str(SCRIPT), str(PACKAGE), f"http://127.0.0.1:{free_port}/events") as lines:
        assert await come(lines) == ["lost"], "nobody serves yet"
        async with wall(store, port=free_port) as made:
            while (event := await come(lines)) == ["lost"]:
                pass
            assert (event[0], event[2]["ready"]) == ("state", True)
            seen = [await come(lines) for _ in made.boards]
            assert [(kind, *shown(said)) for kind, _, said in seen] == [
                ("message", "usernames", []),
                ("message", "hashtags", []),
            ]
            await made.count("hashtags", {"tea": 1})
            kind, event_id, said = await come(lines)
            assert (kind, *shown(said)) == ("message", "hashtags", ["tea"])
            assert len(event_id) >= 10
        assert await come(lines) == ["lost"]
        async with wall(store, port=free_port) as made:
            while (event := await come(lines)) == ["lost"]:
                pass
            assert event[0] == "state"
            assert shown((await come(lines))[2]) == ("usernames", []), "the board of its last id is not said again"
            await made.count("hashtags", {"salt": 2})
            assert shown((await come(lines))[2]) == ("hashtags", ["salt", "tea"])


async def test_httpx_sse_watches(store: Store) -> None:
    async with wall(store) as made, httpx.AsyncClient() as client, asyncio.timeout(20):
        async with aconnect_sse(client, "GET", f"{made.address}/events/hashtags?window=5m") as source:
            events = source.aiter_sse()
            state = await anext(events)
            assert (state.event, state.json()["troubles"]) == ("state", {})
            assert 1_000 <= (state.retry or 0) <= 5_000
            assert shown((await anext(events)).json()) == ("hashtags", [])
            await made.count("hashtags", {"tea": 1})
            event = await anext(events)
            assert (event.event, *shown(event.json())) == ("message", "hashtags", ["tea"])
        headers = {"Last-Event-ID": event.id}
        async with aconnect_sse(client, "GET", f"{made.address}/events/hashtags?window=5m", headers=headers) as source:
            events = source.aiter_sse()
            assert (await anext(events)).event == "state"
            await made.count("hashtags", {"salt": 2})
            assert shown((await anext(events)).json()) == ("hashtags", ["salt", "tea"])


@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
async def test_curl_watches(store: Store, version: str) -> None:
    if (curl := shutil.which("curl")) is None:
        pytest.skip("there is no curl")
    async with wall(store) as made, lines_of(curl, "-sN", version, f"{made.address}/events/hashtags") as lines:
        await lines.readuntil(b'"results":[]}\n\n')
        await made.count("hashtags", {"tea": 1})
        text = (await lines.readuntil(b"\n\n")).decode()
        assert text.startswith("id: ")
        assert '"name":"tea"' in text


async def test_what_is_not_understood_is_no_stream_of_events(store: Store) -> None:
    async with wall(store) as made, httpx.AsyncClient() as client:
        await _refused(client, made, "boards=nobody", "boards: 'nobody' is not one of: usernames, hashtags")
        await _refused(client, made, "boards=usernames:7x", "window '7x' is not one of: all, 5m, 1h, trending")
        await _refused(client, made, "window=5m", "unknown parameter 'window': there are boards, limit and history")


async def _refused(client: httpx.AsyncClient, made: Wall, query: str, detail: str) -> None:
    answer = await client.get(f"{made.address}/events?{query}")
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)
