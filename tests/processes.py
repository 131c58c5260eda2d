"""Real processes for what only processes show: the daemon, a Redis server, and what is left when they are gone."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tweetboard.embedded import find_binary
from tweetboard.store import Store, open_store

START_TIMEOUT_S = 20.0

SERVER = os.environ.get("TWEETBOARD_TEST_SERVER") or find_binary()
"""The server that tests run on, but for those of the embedded one: another Redis or Valkey where one is named."""


class Daemon:
    """A running `python -m tweetboard`: `address` is where it serves, `errors` what it said on standard error."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.address = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def errors(self) -> str:
        return self._log.read_text(encoding="utf-8")

    async def ready(self) -> "Daemon":
        """Wait for the line that says where the boards are."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            line = (await self._process.stdout.readline()).decode()
        found = re.match(r"boards at (http://[^/]+)/", line)
        assert found, f"it said {line!r} and {self.errors!r}"
        self.address = found[1]
        return self

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self, timeout_s: float = 10.0) -> int:
        """Wait for the end; returns the exit code, negative for a signal."""
        async with asyncio.timeout(timeout_s):
            return await self._process.wait()

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        """Ask over HTTP; returns the status and the JSON."""
        async with aiohttp.ClientSession() as session, session.get(self.address + path) as response:
            answer: dict[str, object] = json.loads(await response.read())
            return response.status, answer

    async def board(self, name: str) -> dict[str, int]:
        """Read a whole board over HTTP."""
        _, answer = await self.get(f"/{name}?limit=1000")
        rows = answer["results"]
        assert isinstance(rows, list)
        return {row["name"]: row["score"] for row in rows}

    async def metric(self, sample: str) -> float:
        """Read a metric, summed up over all samples that have the labels given; 0 where there is none."""
        async with aiohttp.ClientSession() as session, session.get(self.address + "/metrics") as response:
            text = await response.text()
        name, _, labels = sample.removesuffix("}").partition("{")
        found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
        wanted = set(filter(None, labels.split(",")))
        return sum(float(value) for has, value in found if wanted <= set(has.split(",")))

    async def counts(self, usernames: dict[str, int], hashtags: dict[str, int], timeout_s: float = 20.0) -> None:
        """Wait until as many names are on the boards as there should be and none is on its way; then compare all."""
        boards: tuple[dict[str, int], dict[str, int]] = ({}, {})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    outstanding = await self.metric("tweetboard_unapplied_bytes")
                    boards = await self.board("usernames"), await self.board("hashtags")
                    reached = sum(boards[0].values()) >= sum(usernames.values())
                    if reached and sum(boards[1].values()) >= sum(hashtags.values()) and not outstanding:
                        break
        assert boards == (usernames, hashtags), self.errors

    async def until(self, sample: str, value: float, timeout_s: float = 20.0) -> None:
        """Wait until a metric has reached a value."""
        seen = 0.0
        try:
            async with asyncio.timeout(timeout_s):
                while (seen := await self.metric(sample)) < value:
                    await asyncio.sleep(0)
        except TimeoutError:
            raise AssertionError(f"{sample} stayed at {seen}, not {value}: {self.errors}") from None


@asynccontextmanager
async def daemon(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None, port: int = 0
) -> AsyncIterator[Daemon]:
    """Start a daemon in `folder`, whose data and log lie there too; ends it by its id, whatever happens."""
    folder.mkdir(exist_ok=True)
    number = len(list(folder.glob("*.err")))
    log = folder / f"{number}.err"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tweetboard", "--port", str(port), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            env={**ours_removed(), "STATE_DIRECTORY": str(folder / "state"), **(environ or {})},
            start_new_session=True,
        )
    try:
        yield Daemon(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def redis_server(folder: Path, *settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server at `folder`/redis.sock with its data in `folder`, fit to be killed and started again."""
    folder.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        SERVER,
        *("--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder), "--save", ""),
        *("--appendonly", "yes", *settings),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with connected(folder):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[Store]:
    """Open a store on the server of `redis_server`, once it answers."""
    async with open_store(redis_url(folder), connections=2) as store:
        async with asyncio.timeout(START_TIMEOUT_S):
            await store.wait()
        yield store


async def end_lease(folder: Path) -> None:
    """Let the lease of whom a test has killed end at once, which by itself takes 3 s."""
    async with connected(folder) as store:
        await store.execute("DEL", f"{await stream_key(folder)}:lease")


async def stream_key(folder: Path) -> str:
    async with connected(folder) as store:
        keys = await store.execute("KEYS", "tweetboard:*")
    assert isinstance(keys, list)
    names: Sequence[str] = [key.decode() for key in keys]
    return next(name for name in names if name.count(":") == 1 and name not in ("tweetboard:bare", "tweetboard:schema"))


def ours_removed() -> dict[str, str]:
    """Take the environment without the project's own variables, of which a daemon refuses those it does not know."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TWEETBOARD_")}


def redis_url(folder: Path) -> str:
    return f"unix://{folder / 'redis.sock'}"


def children(pid: int) -> list[int]:
    """Find the ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def count(posts: Sequence[tuple[str, Sequence[str]]]) -> tuple[dict[str, int], dict[str, int]]:
    """Count (author, hashtags) pairs the plain way: the independent truth that boards are compared with."""
    usernames, hashtags = dict[str, int](), dict[str, int]()
    for author, tags in posts:
        usernames[author] = usernames.get(author, 0) + 1
        for tag in {tag.lower() for tag in tags}:
            hashtags[tag] = hashtags.get(tag, 0) + 1
    return usernames, hashtags
