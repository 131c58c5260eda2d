"""What docs/redis.md says of a Redis of one's own is so: rights, TLS, and what is not supported."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from processes import count, daemon
from test_daemon import flat, town
from tweetboard.embedded import find_binary
from tweetboard.store import Store, open_store
from upstream import Upstream

DOCUMENT = Path(__file__).parents[1] / "docs" / "redis.md"
SERVERS = {"valkey": find_binary(), "redis": shutil.which("redis-server")}


@asynccontextmanager
async def a_server(folder: Path, binary: str, *settings: str) -> AsyncIterator[Store]:
    """Run a server at `folder`/s; yields a store of its default user."""
    process = await asyncio.create_subprocess_exec(
        *(binary, "--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--save", "", *settings),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with open_store(f"unix://{folder / 's'}", connections=2) as store, asyncio.timeout(20):
            await store.wait()
        async with open_store(f"unix://{folder / 's'}", connections=2) as store:
            yield store
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("server", SERVERS)
async def test_the_documented_rights_are_all_that_is_needed(tmp_path: Path, server: str) -> None:
    """With windows, a board of leaders, and what takes posts away again; no command is refused."""
    binary = SERVERS[server]
    if binary is None:
        pytest.skip(f"there is no {server}")
    line = next(line for line in DOCUMENT.read_text().splitlines() if line.strip().startswith("ACL SETUSER"))
    (tmp_path / "config.toml").write_text(
        '[boards.usernames]\nstore = "leaders"\n'
        '[boards.hashtags]\nforget = "1h"\nonce_per_author = "1s"\nmax_members = 100\n'
    )
    posts = town(300)
    usernames, _ = count(posts)
    async with a_server(tmp_path, binary, "--appendonly", "yes") as store:
        await store.execute(*line.split())
        environ = {"TWEETBOARD_REDIS_PASSWORD": "PASSWORD"}
        async with Upstream(flat(posts)).serving() as upstream:
            flags = ("--stream", upstream.url, "--redis", f"unix://tweetboard@{tmp_path}/s")
            async with daemon(tmp_path, *flags, environ=environ) as running:
                await running.ready()
                async with asyncio.timeout(20):
                    while await running.board("usernames") != usernames:
                        await asyncio.sleep(0.02)
                status, _ = await running.get("/readyz")
        refused = await store.execute("ACL", "LOG")
    assert (status, refused) == (200, [])


@pytest.mark.parametrize("url", ["redis+sentinel://h:26379/main", "redis+cluster://h:7000", "sentinel://h"])
async def test_what_is_not_supported_yet_is_said_to_be(tmp_path: Path, url: str) -> None:
    async with daemon(tmp_path, "--redis", url) as running:
        assert await running.ended() == 2
    assert re.search(r"redis.url: .* Sentinel and Cluster are not supported yet", running.errors)
