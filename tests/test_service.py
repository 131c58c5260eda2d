"""The daemon as a service has it: what systemd hears of it, sockets handed over, settings read again while it runs."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from processes import Daemon, count, daemon, ours_removed
from test_daemon import flat, town
from tweetboard.embedded import find_binary, running_url
from tweetboard.store import open_store
from upstream import Answer, Upstream

BACKLOG = 64


class Manager:
    """A service manager's end of the socket: `heard` is what it was told so far."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    async def until(self, line: str) -> None:
        """Listen until it hears something that begins so."""
        async with asyncio.timeout(20):
            while True:
                told = (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()
                self.heard.append(told)
                if told.startswith(line):
                    return

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


async def test_the_manager_hears_when_it_is_ready_lives_reloads_and_stops(tmp_path: Path, manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"}
    async with daemon(tmp_path, environ=environ) as running:
        await manager.until("READY=1")
        await running.ready()
        await manager.until("STATUS=demo live")
        await manager.until("WATCHDOG=1")
        await manager.until("WATCHDOG=1")
        running.signal(signal.SIGHUP)
        await manager.until("RELOADING=1\nMONOTONIC_USEC=")
        await manager.until("READY=1")
        running.signal(signal.SIGTERM)
        await manager.until("STOPPING=1")
        assert await running.ended() == 0


async def test_the_manager_hears_what_is_the_matter(tmp_path: Path, manager: Manager) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"}
    flags = ("--redis", f"unix://{tmp_path}/nobody.sock")
    async with daemon(tmp_path, *flags, environ=environ) as running:
        await manager.until("READY=1")
        await manager.until("STATUS=redis: ")
        await manager.until("WATCHDOG=1")
        running.signal(signal.SIGTERM)
        await running.ended()


async def test_who_connects_while_it_starts_anew_is_served_and_not_refused(tmp_path: Path) -> None:
    """As systemd does it: the socket outlives the service."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        statuses = list[int]()
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                asked = asyncio.ensure_future(session.get(f"{address}/healthz"))
                async with activated(tmp_path, listener) as process:
                    async with asyncio.timeout(20):
                        answer = await asked
                    statuses.append(answer.status)
                    answer.release()
                    process.send_signal(signal.SIGTERM)
                    assert await process.wait() == 0
    assert statuses == [200, 200]


@asynccontextmanager
async def activated(folder: Path, listener: socket.socket) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a daemon as systemd does that has its socket: as file 3."""
    number = 103
    os.dup2(listener.fileno(), number)
    shell = f'exec 3<&{number} {number}<&-; LISTEN_PID=$$ LISTEN_FDS=1 exec "{sys.executable}" -m tweetboard'
    with (folder / "errors").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", shell),
            pass_fds=(number,),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            cwd=folder,
            env={**ours_removed(), "STATE_DIRECTORY": str(folder / "state")},
        )
    os.close(number)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# --- Settings that change while it runs ---


async def reloaded(running: Daemon, words: str) -> None:
    """Let it read its settings again, and wait until it has said something of them once more."""
    before = running.errors.count(words)
    running.signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while running.errors.count(words) == before:
            await asyncio.sleep(0)


async def test_what_is_wrong_with_the_new_settings_is_said_while_redis_is_away(tmp_path: Path) -> None:
    async with daemon(tmp_path, "--redis", f"unix://{tmp_path}/nobody.sock") as running:
        await running.ready()
        (tmp_path / "config.toml").write_text("[boards.hashtags]\nwindow = ['1m']\n")
        await reloaded(running, "boards.hashtags.window: unknown key (did you mean windows?)")


async def test_no_post_is_lost_and_no_connection_while_boards_windows_and_filters_change(tmp_path: Path) -> None:
    """The stream is one that cannot go back: what it says while nobody reads is gone."""
    posts = town(3_000)
    usernames, hashtags = count(posts)
    settings = tmp_path / "config.toml"
    settings.write_text('[boards.usernames]\nwindows = ["1h"]\n')
    async with Upstream(flat(posts), rate=1_500).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url) as running:
            await running.ready()
            for number in range(2, 9):
                await running.until("tweetboard_names_applied_total", 20)
                board = "" if number % 2 else f'[boards.more-{number}]\nfield = "author"\n'
                settings.write_text(f'[boards.usernames]\nwindows = ["{number}h"]\nstore = "leaders"\n{board}')
                await reloaded(running, "boards.usernames.windows")
            await running.counts(usernames, hashtags)
            _, boards = await running.get("/boards")
            known = boards["boards"]
            assert isinstance(known, dict)
            assert sorted(known) == ["hashtags", "more-8", "usernames"]
            assert known["usernames"]["windows"] == ["all", "8h", "trending"]
            assert sum((await running.board("more-8")).values()) > 0
    assert len(upstream.requests) == 1
    assert "is now" not in running.errors


async def test_a_filter_counts_from_the_moment_it_is_read(tmp_path: Path) -> None:
    posts = town(400)
    settings = tmp_path / "config.toml"
    upstream = Upstream([*flat(posts)])
    async with upstream.serving():
        async with daemon(tmp_path, "--stream", upstream.url) as running:
            await running.ready()
            await running.counts(*count(posts))
            settings.write_text("[filter]\nmin_hashtag_length = 4\n")
            await reloaded(running, "filter.min_hashtag_length")
            async with asyncio.timeout(10):
                while (await running.get("/readyz"))[1]["status"] != "ready":
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[boards.usernames]\nwindows = ['7x']\n", "boards.usernames.windows: '7x' is not a duration"),
        ("[stream\n", "config.toml"),
        ("[filter]\nblocklist = 'nowhere'\n", "filter.blocklist: nowhere: cannot be read"),
        ("[redis]\nprefix = 'x:'\n", "redis.prefix is another one now: that takes a restart"),
        ("[boards.usernames]\nkey = 'tweetboards'\n", "boards.usernames.key: tweetboards is a string in Redis"),
    ],
)
async def test_what_cannot_be_taken_over_is_said_and_all_goes_on(tmp_path: Path, text: str, told: str) -> None:
    posts = town(200)
    async with Upstream(flat(posts)).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url) as running:
            await running.ready()
            async with open_store(running_url(tmp_path / "state") or "", connections=1) as store:
                await store.execute("SET", "tweetboards", "somebody else's")
            (tmp_path / "config.toml").write_text(text)
            await reloaded(running, told)
            await running.counts(*count(posts))


async def test_new_boards_that_do_not_go_together_with_the_stream_as_it_is_change_nothing(tmp_path: Path) -> None:
    """What the file says is right by itself, but its other format takes a restart."""
    records = [b'{"data": {"lang": "en"}}'] * 3
    (tmp_path / "config.toml").write_text("[stream]\nformat = 'fields'\n[boards.usernames]\nfield = 'data.lang'\n")
    async with Upstream(records).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 3)
            (tmp_path / "config.toml").write_text(
                "[stream]\nformat = 'fields'\n[boards.usernames]\nfield = 'data.lang'\nwindows = ['1m']\n"
            )
            await reloaded(running, "boards.usernames.windows")
            (tmp_path / "config.toml").write_text("[filter]\nlanguages = ['en']\n")
            told = "all settings stay as they were: together with what takes a restart, "
            await reloaded(running, f"{told}settings: filter.languages: the format 'fields' knows no languages")
            (tmp_path / "config.toml").unlink()
            await reloaded(running, "all settings stay as they were: config.toml: cannot be read: No such file")
            async with asyncio.timeout(10):
                while await running.board("usernames") != {"en": 3}:
                    await asyncio.sleep(0)
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
            assert "stopped: 3 posts read" in running.errors, "those before a change of settings count as well"


async def test_the_level_of_the_log_changes_too(tmp_path: Path) -> None:
    async with daemon(tmp_path) as running:
        await running.ready()
        (tmp_path / "config.toml").write_text('[log]\nlevel = "debug"\nformat = "json"\n')
        await reloaded(running, "from now on: log.level, log.format")
        await reloaded(running, '"message": "names that are not shown: 0"')
        assert json.loads(running.errors.splitlines()[-1])["part"]


# --- Secrets ---

TOKEN, PASSWORD, KEY = "token-5a1f", "password-77c2", "key-90d4"


async def test_secrets_are_used_and_stand_nowhere(tmp_path: Path) -> None:
    """In no log at any level, no answer, no metric, no process's arguments; nor in what a failure says."""
    posts = town(200)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "stream-token").write_text(TOKEN)
    (credentials / "redis-password").write_text(PASSWORD)
    (tmp_path / "config.toml").write_text(f'[log]\nlevel = "debug"\n[stream]\nheaders = {{"X-Key" = "{KEY}"}}\n')
    server = tmp_path / "redis.conf"
    server.write_text(f"requirepass {PASSWORD}\n")
    process = await asyncio.create_subprocess_exec(
        *(find_binary(), str(server), "--port", "0", "--unixsocket", str(tmp_path / "redis.sock"), "--save", ""),
        stdout=asyncio.subprocess.DEVNULL,
        cwd=tmp_path,
    )
    said = ""
    try:
        async with Upstream(flat(posts), script=[Answer(503)]).serving() as upstream:
            flags = ("--stream", upstream.url, "--redis", f"unix://{tmp_path}/redis.sock")
            async with daemon(tmp_path, *flags, environ={"CREDENTIALS_DIRECTORY": str(credentials)}) as running:
                await running.ready()
                await running.counts(*count(posts))
                said += Path(f"/proc/{running.pid}/cmdline").read_text()
                async with aiohttp.ClientSession() as session:
                    for path in ("/metrics", "/readyz", "/boards", "/openapi.json", "/usernames", "/x", "/"):
                        async with session.get(running.address + path) as response:
                            said += await response.text() + str(response.headers)
                process.kill()
                await process.wait()
                async with asyncio.timeout(20):
                    while "redis is unavailable" not in running.errors:
                        await asyncio.sleep(0.02)
                running.signal(signal.SIGTERM)
                await running.ended()
                said += running.errors
            assert upstream.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
            assert upstream.requests[-1].headers["x-key"] == KEY
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "level=debug" in said
    assert not [secret for secret in (TOKEN, PASSWORD, KEY) if secret in said]
