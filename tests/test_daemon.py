"""The whole, as a user has it: real processes, a real server, real HTTP; compared with independent counts."""

import asyncio
import itertools
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from processes import (
    Daemon,
    alive,
    children,
    connected,
    count,
    daemon,
    end_lease,
    ours_removed,
    redis_server,
    redis_url,
    stream_key,
)
from tweetboard import daemon as daemon_module
from tweetboard.daemon import Reload, serve
from tweetboard.errors import StoreUnavailable
from tweetboard.opening import check_places
from tweetboard.settings import FilterSettings, HttpSettings, RedisSettings, Settings, StreamSettings
from tweetboard.store import Store
from upstream import Answer, Cut, Upstream

SEED = int(os.environ.get("TWEETBOARD_TEST_SEED", "20261122"))

Posts = list[tuple[str, list[str]]]


@pytest.fixture(autouse=True)
def no_settings_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TWEETBOARD_")]:
        monkeypatch.delenv(name)


def town(posts: int, seed: int = SEED) -> Posts:
    """Invent posts of a few people about a few things, some of them spelled in two ways."""
    rng = random.Random(seed)
    tags = ["Redis", "redis", "python", "CATS", "cats", "tea"]
    return [
        (f"user-{int(rng.paretovariate(0.8)) % 50}", rng.sample(tags, rng.choice([0, 1, 2, 3]))) for _ in range(posts)
    ]


def flat(posts: Posts) -> list[bytes]:
    return [json.dumps({"username": author, "hashtags": tags}).encode() for author, tags in posts]


def x_v2(path: Path) -> Posts:
    """Read a file of X v2 posts with the standard library alone; the last line may be cut off."""
    posts: Posts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        names = {user["id"]: user["username"] for user in record["includes"]["users"]}
        tags = [tag["tag"] for tag in record["data"].get("entities", {}).get("hashtags", [])]
        posts.append((names[record["data"]["author_id"]], tags))
    return posts


def x_v1(path: Path) -> Posts:
    """Read a file of X v1.1 posts with the standard library alone."""
    posts: Posts = []
    for line in path.read_bytes().split(b"\n"):
        if line.strip():
            record = json.loads(line)
            tags = record.get("retweeted_status", record)["entities"]["hashtags"]
            posts.append((record["user"]["screen_name"], [tag["text"] for tag in tags]))
    return posts


async def test_one_command_shows_two_full_boards(tmp_path: Path) -> None:
    """Nothing but the package: an embedded server, the demo over HTTP, ten rows on both boards within seconds."""
    async with daemon(tmp_path) as running:
        await running.ready()
        for board in ("usernames", "hashtags"):
            await running.until(f'tweetboard_names_applied_total{{board="{board}"}}', 300)
            status, answer = await running.get(f"/{board}")
            assert status == 200
            assert answer.keys() == {"board", "window", "total", "as_of", "max_error", "results"}
            rows = answer["results"]
            assert isinstance(rows, list)
            assert len(rows) == 10
            assert all(type(row["score"]) is int for row in rows)
            assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        running.signal(signal.SIGTERM)
        assert await running.ended() == 0


@pytest.mark.parametrize(("sample", "read"), [("x-v2", x_v2), ("x-v1", x_v1)])
async def test_real_posts_served_as_x_does_are_counted_as_they_are(
    tmp_path: Path, samples: Path, sample: str, read: Callable[[Path], Posts]
) -> None:
    """Each post its own chunk, keep-alives between: both boards equal an independent count of the same file."""
    path = samples / f"{sample}.ndjson"
    usernames, hashtags = count(read(path))
    records = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    async with Upstream(records).serving() as upstream, daemon(tmp_path, "--stream", upstream.url) as running:
        await running.ready()
        await running.until("tweetboard_posts_total", sum(usernames.values()))
        await running.counts(usernames, hashtags)


async def test_the_flat_shape_is_counted_exactly_and_the_boards_stay_over_a_restart(tmp_path: Path) -> None:
    posts = town(3_000)
    usernames, hashtags = count(posts)
    async with Upstream(flat(posts)).serving() as upstream:
        data = ["--stream", upstream.url, "--data-dir", str(tmp_path / "data")]
        async with daemon(tmp_path, *data) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", len(posts))
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
        async with daemon(tmp_path, *data) as running:
            await running.ready()
            await running.counts(usernames, hashtags)


async def test_killed_five_times_mid_stream_it_ends_exact_member_by_member(tmp_path: Path) -> None:
    """Server-Sent Events with ids, an upstream that goes back too far and cuts in every way, kill -9 at random."""
    posts = town(12_000)
    rng = random.Random(SEED)
    cuts: list[Cut] = ["line", "chunk", "end", "record", "reset"]
    script = (Answer(after=rng.randrange(1, 3_000), cut=cut) for cut in itertools.cycle(cuts))
    upstream = Upstream(flat(posts), mode="sse", overlap=25, script=script, rate=10_000)
    async with upstream.serving(), redis_server(tmp_path / "redis"):
        arguments = ["--stream", upstream.url, "--redis", redis_url(tmp_path / "redis")]
        for kill in range(5):
            async with daemon(tmp_path, *arguments) as running:
                await running.ready()
                await running.until("tweetboard_posts_total", rng.randrange(100, 1_500))
                running.signal(signal.SIGKILL)
                assert await running.ended() == -signal.SIGKILL, f"seed {SEED}, kill {kill}"
            await end_lease(tmp_path / "redis")
        upstream.script = ()
        async with daemon(tmp_path, *arguments) as running:
            await running.ready()
            await running.counts(*count(posts), timeout_s=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_in_full_flow_leaves_every_read_post_on_the_boards(tmp_path: Path, number: signal.Signals) -> None:
    """It ends with 0 within 5 s, and the boards are the posts up to the stored position, not one more or less."""
    posts = town(200_000)
    async with Upstream(flat(posts), mode="sse", rate=20_000).serving() as upstream, redis_server(tmp_path / "redis"):
        async with daemon(tmp_path, "--stream", upstream.url, "--redis", redis_url(tmp_path / "redis")) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 2_000)
            began_s = time.monotonic()
            running.signal(number)
            assert await running.ended() == 0, running.errors
            assert time.monotonic() - began_s < 5
        async with connected(tmp_path / "redis") as store:
            reached = await store.execute("HGET", await stream_key(tmp_path / "redis"), "position")
            assert isinstance(reached, bytes)
            usernames, hashtags = count(posts[: int(reached)])
            assert 2_000 <= int(reached) < len(posts)
            for key, expected in (("username_scoreboard", usernames), ("hashtags_scoreboard", hashtags)):
                flat_rows = await store.execute("ZRANGE", key, 0, -1, "WITHSCORES")
                assert isinstance(flat_rows, list)
                assert dict(zip(flat_rows[::2], flat_rows[1::2], strict=True)) == {
                    name.encode(): str(score).encode() for name, score in expected.items()
                }


async def test_redis_that_goes_away_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    """HTTP says 503 with a problem document meanwhile; afterwards the boards are exact, from a stream without ids."""
    posts = town(4_000)
    upstream = Upstream(flat(posts), rate=2_000)
    folder = tmp_path / "redis"
    async with upstream.serving():
        async with (
            redis_server(folder) as server,
            daemon(tmp_path, "--stream", upstream.url, "--redis", redis_url(folder)) as running,
        ):
            await running.ready()
            await running.until("tweetboard_posts_total", 500)
            server.kill()
            await server.wait()
            await until_status(running, "/usernames", 503)
            status, problem = await running.get("/usernames")
            assert (status, problem["status"]) == (503, 503)
            assert "unavailable" in str(problem["detail"])
            assert (await running.get("/readyz"))[0] == 503
            assert (await running.get("/healthz"))[0] == 200
            async with redis_server(folder):
                await until_status(running, "/readyz", 200)
                await running.until("tweetboard_posts_total", len(posts))
                await running.counts(*count(posts))
                running.signal(signal.SIGTERM)
                assert await running.ended() == 0
    assert len(upstream.requests) == 1, "the stream was never let go"


async def test_a_stop_while_redis_is_away_says_how_many_names_it_leaves(tmp_path: Path) -> None:
    """A deadline that passes with names outstanding is no success: exit code 1, within 5 s."""
    posts = [(f"user-{number}", list[str]()) for number in range(1_000)]
    folder = tmp_path / "redis"
    async with Upstream(flat(posts), rate=500).serving() as upstream:
        async with (
            redis_server(folder) as server,
            daemon(tmp_path, "--stream", upstream.url, "--redis", redis_url(folder)) as running,
        ):
            await running.ready()
            await running.until("tweetboard_posts_total", 100)
            server.kill()
            await server.wait()
            await running.until("tweetboard_unapplied_bytes", 1)
            began_s = time.monotonic()
            running.signal(signal.SIGTERM)
            assert await running.ended() == 1
            assert time.monotonic() - began_s < 5
        last = running.errors.splitlines()[-1]
        assert re.fullmatch(r"tweetboard: stopped with \d+ names read but not on the boards: .*", last)


async def test_the_embedded_server_never_outlives_the_daemon(tmp_path: Path) -> None:
    """Not even kill -9 leaves it behind, and the next daemon finds the data."""
    posts = town(500)
    async with Upstream(flat(posts), mode="sse").serving() as upstream:
        arguments = ["--stream", upstream.url, "--data-dir", str(tmp_path / "data")]
        async with daemon(tmp_path, *arguments) as running:
            await running.ready()
            (server,) = children(running.pid)
            await running.until("tweetboard_posts_total", len(posts))
            running.signal(signal.SIGKILL)
            await running.ended()
            async with asyncio.timeout(5):
                while alive(server):
                    await asyncio.sleep(0)
        async with daemon(tmp_path, *arguments) as running:
            await running.ready()
            await running.counts(*count(posts))


async def test_ctrl_c_in_a_terminal_does_not_take_the_embedded_server_first(tmp_path: Path) -> None:
    """A terminal signals the whole process group; the server must still be there for the last batch."""
    async with Upstream(flat(town(100_000)), mode="sse", rate=20_000).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 1_000)
            os.killpg(running.pid, signal.SIGINT)
            assert await running.ended() == 0, running.errors


async def test_an_embedded_server_that_is_killed_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    posts = town(4_000)
    async with Upstream(flat(posts), rate=2_000).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, "--data-dir", str(tmp_path / "d")) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", 500)
            (server,) = children(running.pid)
            os.kill(server, signal.SIGKILL)
            await running.until("tweetboard_posts_total", len(posts))
            await running.counts(*count(posts))
        assert "the embedded server ended (signal SIGKILL), starting it again" in running.errors


async def test_a_second_daemon_on_the_same_data_names_the_first(tmp_path: Path) -> None:
    async with Upstream([]).serving() as upstream:
        arguments = ["--stream", upstream.url, "--data-dir", str(tmp_path / "data")]
        async with daemon(tmp_path, *arguments) as first:
            await first.ready()
            async with daemon(tmp_path, *arguments) as second:
                assert await second.ended() == 2
                assert f"is in use by process {first.pid}" in second.errors


async def test_a_port_that_is_taken_is_named(tmp_path: Path, free_port: int) -> None:
    async with daemon(tmp_path, port=free_port) as first:
        await first.ready()
        async with daemon(tmp_path, port=free_port) as second:
            assert await second.ended() == 2
            assert f"tweetboard: http.port: cannot listen on 127.0.0.1:{free_port}" in second.errors


async def test_a_host_that_nobody_knows_is_named(tmp_path: Path) -> None:
    async with daemon(tmp_path, "--host", "no-such-host.invalid") as running:
        assert await running.ended() == 2
        assert "tweetboard: http.host: cannot listen on no-such-host.invalid:" in running.errors


async def test_a_check_beside_a_running_daemon_tries_its_server_and_the_stream(tmp_path: Path) -> None:
    async with Upstream([]).serving() as upstream:
        arguments = ["--stream", upstream.url, "--data-dir", str(tmp_path / "data")]
        async with daemon(tmp_path, *arguments) as running:
            await running.ready()
            async with command(tmp_path, "check", *arguments) as check:
                assert await check.ended() == 0
                assert "ok       redis: valkey 9" in check.output
                assert "ok       stream: 200" in check.output


async def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """Names outstanding and Redis gone: the first asks for a drain, the second ends it at once."""
    folder = tmp_path / "redis"
    async with Upstream(flat(town(2_000)), rate=500).serving() as upstream:
        async with (
            redis_server(folder) as server,
            daemon(tmp_path, "--stream", upstream.url, "--redis", redis_url(folder)) as running,
        ):
            await running.ready()
            await running.until("tweetboard_posts_total", 100)
            server.kill()
            await running.until("tweetboard_unapplied_bytes", 1)
            running.signal(signal.SIGINT)
            with pytest.raises(TimeoutError):
                await running.ended(0.3)
            began_s = time.monotonic()
            running.signal(signal.SIGINT)
            assert await running.ended() == 1
            assert time.monotonic() - began_s < 1.5


async def test_a_stream_that_is_refused_ends_the_daemon_with_one_line_and_keeps_what_came_before(
    tmp_path: Path,
) -> None:
    """A token revoked in mid-stream: what to do about it is the last line, and the posts before it are counted."""
    posts = town(300)
    script = [Answer(after=299, cut="end"), Answer(status=401)]
    folder = tmp_path / "redis"
    async with Upstream(flat(posts), script=script).serving() as upstream, redis_server(folder):
        token = {"TWEETBOARD_STREAM_TOKEN": "a-very-secret-token"}
        arguments = ["--stream", upstream.url, "--redis", redis_url(folder), "--log-level", "debug"]
        async with daemon(tmp_path, *arguments, environ=token) as running:
            await running.ready()
            assert await running.ended() == 1
        last = running.errors.splitlines()[-1]
        assert last.startswith("tweetboard: the stream answered HTTP 401: the token is missing or not accepted")
        assert last.endswith("set TWEETBOARD_STREAM_TOKEN")
        assert upstream.requests[0].headers["authorization"] == "Bearer a-very-secret-token"
        assert "a-very-secret-token" not in running.errors
        async with connected(folder) as store:
            assert await store.execute("ZCARD", "username_scoreboard") == len(count(posts[:299])[0])


async def test_bad_input_is_counted_by_its_reason_and_nothing_else_is_lost(tmp_path: Path) -> None:
    """Each kind between two good lines, through every layer, compressed; the good ones are all there."""
    bad = {
        "broken_json": [b'{"username": "eve"', b"\xff\xfe", b"not json at all", b'{"username": "e\xffve"}'],
        "nested_too_deep": [b'{"username": "eve", "deep": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"],
        "unexpected_type": [b'{"username": 1e999}', b'{"username": ["eve"]}', b"[]"],
        "no_author": [b"{}", b'{"hashtags": ["x"]}', b'{"username": null}', b'{"username": ""}'],
        "invalid_name": [b'{"username": "\\u0000\\n\\u202e\\u200b"}', b'{"username": "%b"}' % (b"x" * 257)],
        "oversized": [b'{"username": "eve", "text": "%b"}' % (b"x" * 3_000_000)],
    }
    good = [b'{"username": "ann", "n": 1e999}', b'{"username": "a\\u200bnn\\u0000", "hashtags": [1, "tea", null]}']
    records = [line for lines in bad.values() for one in lines for line in (good[0], one)] + good
    answer = Answer(gzip="flush")
    environ = {"TWEETBOARD_STREAM_MAX_LINE_BYTES": "2500000"}
    environ["TWEETBOARD_STREAM_FORMAT"] = "flat"
    async with Upstream(records, usual=answer).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, environ=environ) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", records.count(good[0]) + 1 + len(bad["invalid_name"]))
            await running.counts({"ann": records.count(good[0]) + 1}, {"tea": 1})
            for reason, lines in bad.items():
                extra = 2 if reason == "invalid_name" else 0  # the 1 and the null among the hashtags
                assert await running.metric(f'tweetboard_skipped_total{{reason="{reason}"}}') == len(lines) + extra


async def test_a_bomb_ends_the_connection_and_not_the_process(tmp_path: Path) -> None:
    """A gigabyte of nothing in a megabyte: cut off with bounded memory, and the next connection counts."""
    posts = town(200)
    script = [Answer(after=100, gzip="bomb")]
    async with Upstream(flat(posts), script=script).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", len(posts))
            await running.counts(*count(posts))
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{running.pid}/status").read_text())
            assert peak is not None
            assert int(peak[1]) < 150_000
        assert "decompression bomb" in running.errors


async def until_status(running: Daemon, path: str, status: int) -> None:
    async with asyncio.timeout(20):
        while (await running.get(path))[0] != status:
            await asyncio.sleep(0)


# --- The first signal ends every other command too ---


class Command:
    """A running command that ends by itself: `output` and `errors` are what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return (self._folder / "command.out").read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        return (self._folder / "command.err").read_text(encoding="utf-8")

    async def ended(self, within_s: float = 20) -> int:
        """Wait for the end; returns the exit code."""
        async with asyncio.timeout(within_s):
            return await self._process.wait()

    async def stopped(self, number: signal.Signals, within_s: float) -> int:
        """Send one signal and wait for the end; returns the exit code."""
        assert self._process.returncode is None, self.errors
        self._process.send_signal(number)
        try:
            async with asyncio.timeout(within_s):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"it did not end within {within_s} s: {self.errors}") from None


@asynccontextmanager
async def command(folder: Path, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> AsyncIterator[Command]:
    """Run a command in `folder`, where its data lies too; ends it by its id, whatever happens."""
    with (folder / "command.out").open("wb") as output, (folder / "command.err").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tweetboard", *arguments),
            stdin=stdin,
            stdout=output,
            stderr=errors,
            cwd=folder,
            env={**ours_removed(), "STATE_DIRECTORY": str(folder / "state")},
        )
    try:
        yield Command(process, folder)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Accept connections and never answer; yields the port, and an event that is set once somebody has asked."""
    asked = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            asked.set()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        yield port, asked


async def until_reply(store: Store, reply: object, *asked: str) -> None:
    async with asyncio.timeout(20):
        while await store.execute(*asked) != reply:
            await asyncio.sleep(0)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows what a process has loaded")
async def test_ctrl_c_ends_a_process_that_has_only_begun(tmp_path: Path) -> None:
    """At any moment of its first second, in most of which modules are imported: nobody has to press it again."""
    for pause_ms in range(0, 1_000, 100):
        async with command(tmp_path, "run", "--redis", redis_url(tmp_path / "nowhere"), "--port", "0") as running:
            # Until our own imports begin it is Python's to hear the signal.
            maps = Path(f"/proc/{running.pid}/maps")
            while "msgspec" not in maps.read_text():
                await asyncio.sleep(0.001)
            await asyncio.sleep(pause_ms / 1000)
            assert await running.stopped(signal.SIGINT, 5) in (0, -signal.SIGINT), running.errors
            assert "Traceback" not in running.errors


async def test_a_replay_of_a_fifo_that_nobody_writes_to_ends_at_the_first_signal(tmp_path: Path) -> None:
    fifo = tmp_path / "posts"
    os.mkfifo(fifo)
    folder = tmp_path / "redis"
    async with redis_server(folder), connected(folder) as store:
        async with command(tmp_path, "replay", str(fifo), "--redis", redis_url(folder)) as running:
            await until_reply(store, 1, "EXISTS", "demo:replay:tweetboard:replay")
            assert await running.stopped(signal.SIGINT, 5) == 0, running.errors
            assert "usernames (0 names)" in running.output


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("posts", signal.SIGTERM),
        ("-", signal.SIGINT),
        ("-", signal.SIGTERM),
        ("/dev/stdin", signal.SIGINT),
        ("/dev/fd/0", signal.SIGINT),
    ],
)
async def test_a_replay_of_a_silent_pipe_ends_at_the_first_signal_with_what_it_has_read(
    tmp_path: Path, place: str, number: signal.Signals
) -> None:
    """Standard input by any of its names, a FIFO, and what a shell makes of `<(...)`, which is /dev/fd/63."""
    reading, writing = os.pipe()
    if place == "posts":
        os.mkfifo(tmp_path / "posts")
        os.close(writing)
        writing = os.open(tmp_path / "posts", os.O_RDWR)
    folder = tmp_path / "redis"
    try:
        async with redis_server(folder), connected(folder) as store:
            async with command(tmp_path, "replay", place, "--redis", redis_url(folder), stdin=reading) as running:
                os.write(writing, b'{"username": "ann"}\n' * 3)
                await until_reply(store, 3.0, "ZSCORE", "demo:replay:username_scoreboard", "ann")
                assert await running.stopped(number, 5) == 0, running.errors
                assert "usernames (1 name)" in running.output
                assert "ann" in running.output
                assert f"stopped before the end of {place}: this is a part of it" in running.errors
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_replay_whose_redis_stands_still_says_so_at_the_first_signal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "posts")
    writing = os.open(tmp_path / "posts", os.O_RDWR)
    folder = tmp_path / "redis"
    async with redis_server(folder) as server, connected(folder) as store:
        async with command(tmp_path, "replay", "posts", "--redis", redis_url(folder)) as running:
            await until_reply(store, 1, "EXISTS", "demo:replay:tweetboard:replay")
            server.send_signal(signal.SIGSTOP)
            assert await running.stopped(signal.SIGTERM, 5) == 1
            assert "tweetboard: replay: stopped, Redis at " in running.errors.splitlines()[-1]
            server.send_signal(signal.SIGCONT)
    os.close(writing)


async def test_a_check_of_a_silent_stream_ends_at_the_first_signal(tmp_path: Path) -> None:
    async with silent_server() as (port, asked):
        async with command(tmp_path, "check", "--stream", f"http://127.0.0.1:{port}/s") as running:
            async with asyncio.timeout(20):
                await asked.wait()
            assert await running.stopped(signal.SIGTERM, 2) == 1
            assert "ok       redis: " in running.output
            assert running.errors == "tweetboard: check: stopped before there was an answer from: stream\n"


async def test_a_check_of_a_silent_redis_ends_at_the_first_signal(tmp_path: Path) -> None:
    async with silent_server() as (port, asked):
        async with command(tmp_path, "check", "--redis", f"redis://127.0.0.1:{port}") as running:
            async with asyncio.timeout(20):
                await asked.wait()
            assert await running.stopped(signal.SIGINT, 2) == 1
            assert running.errors == "tweetboard: check: stopped before there was an answer from: redis, stream\n"


async def test_a_replay_without_its_redis_says_so_at_the_first_signal(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "posts").write_text('{"username": "ann"}\n')
    async with command(tmp_path, "replay", "posts", "--redis", f"redis://:hush@127.0.0.1:{free_port}") as running:
        async with asyncio.timeout(20):
            while "redis is unavailable, waiting for it" not in running.errors:
                await asyncio.sleep(0)
        assert await running.stopped(signal.SIGINT, 2) == 1
        last = running.errors.splitlines()[-1]
        assert last.startswith(f"tweetboard: replay: stopped, Redis at 127.0.0.1:{free_port} is unavailable: ")
        assert "hush" not in running.errors


async def test_a_replay_with_a_silent_redis_says_so_at_the_first_signal(tmp_path: Path) -> None:
    (tmp_path / "posts").write_text('{"username": "ann"}\n')
    async with silent_server() as (port, asked):
        async with command(tmp_path, "replay", "posts", "--redis", f"redis://127.0.0.1:{port}") as running:
            async with asyncio.timeout(20):
                await asked.wait()
            assert await running.stopped(signal.SIGINT, 2) == 1
            assert f"replay: stopped, Redis at 127.0.0.1:{port} is unavailable: " in running.errors.splitlines()[-1]


# --- What a kill leaves behind ---


@pytest.fixture
def temp() -> Iterator[Path]:
    """Make a folder with a short path, to be the system's temporary one."""
    with tempfile.TemporaryDirectory(prefix="tb-") as folder:
        yield Path(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a child with its parent")
async def test_the_next_demo_sweeps_what_a_killed_one_left_and_nothing_of_a_living_one(
    tmp_path: Path, temp: Path
) -> None:
    environ = {"TMPDIR": str(temp)}
    async with daemon(tmp_path, environ=environ) as living:
        await living.ready()
        (in_use,) = temp.iterdir()
        async with daemon(tmp_path, environ=environ) as killed:
            await killed.ready()
            (server,) = children(killed.pid)
            killed.signal(signal.SIGKILL)
            await killed.ended()
        async with asyncio.timeout(5):
            while alive(server):
                await asyncio.sleep(0)
        (left,) = set(temp.iterdir()) - {in_use}
        async with daemon(tmp_path, environ=environ) as following:
            await following.ready()
            assert not left.exists()
            assert (await living.get("/readyz"))[0] == 200
            following.signal(signal.SIGTERM)
            assert await following.ended() == 0
        assert list(temp.iterdir()) == [in_use]
        assert living.errors.count("ended") == 0
        living.signal(signal.SIGTERM)
        assert await living.ended() == 0
    assert list(temp.iterdir()) == []


async def test_a_name_on_the_blocklist_is_gone_within_a_second_of_sighup_and_comes_back_whole(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked.txt"
    blocked.write_text("# nobody yet\n")
    posts = town(200)
    usernames, hashtags = count(posts)
    first = max(usernames, key=lambda name: (usernames[name], name))
    environ = {"TWEETBOARD_FILTER_BLOCKLIST": str(blocked)}
    async with Upstream(flat(posts)).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, environ=environ) as running:
            await running.ready()
            await running.counts(usernames, hashtags)
            blocked.write_text(f"@{first}\n#redis\n")
            running.signal(signal.SIGHUP)
            async with asyncio.timeout(1):
                while first in await running.board("usernames") or "redis" in await running.board("hashtags"):
                    pass
            _, page = await running.get("/usernames")
            assert page["total"] == len(usernames) - 1
            assert len(await running.board("usernames")) == len(usernames) - 1
            blocked.unlink()
            running.signal(signal.SIGHUP)
            async with asyncio.timeout(5):
                while "stay as they were" not in running.errors:
                    await asyncio.sleep(0)
            assert first not in await running.board("usernames")
            blocked.write_text("")
            running.signal(signal.SIGHUP)
            await running.counts(usernames, hashtags)


@pytest.mark.skipif(sys.platform != "linux", reason="which signals a process has blocked is read from /proc")
async def test_a_wish_for_other_settings_that_comes_before_there_are_any_is_heard_and_ends_nothing(
    tmp_path: Path,
) -> None:
    def waits_with_it(pid: int) -> bool:
        found = re.search(r"^SigBlk:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return bool(int(found[1], 16) & 1 << signal.SIGHUP - 1)

    async with daemon(tmp_path) as running:
        async with asyncio.timeout(20):
            while not waits_with_it(running.pid):
                await asyncio.sleep(0)
            running.signal(signal.SIGHUP)
            await running.ready()
            while "names that are not shown: 0" not in running.errors:
                await asyncio.sleep(0)
        assert [waits_with_it(pid) for pid in (running.pid, *children(running.pid))] == [False, False]


async def test_a_blocklist_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    environ = {"TWEETBOARD_FILTER_BLOCKLIST": "nowhere.txt"}
    async with daemon(tmp_path, environ=environ) as running:
        assert await running.ended() == 2
    assert running.errors == "tweetboard: filter.blocklist: nowhere.txt: cannot be read: No such file or directory\n"


async def test_a_terminal_that_is_gone_stops_what_ran_in_it(tmp_path: Path) -> None:
    """It sends the same signal by which a service is told to read its settings again."""
    ours, its = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tweetboard", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=its,
        cwd=tmp_path,
        env=ours_removed(),
        start_new_session=True,
    )
    os.close(its)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            await process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await process.wait()
            os.close(ours)
            process.send_signal(signal.SIGHUP)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_streams_of_several_kinds_add_up_and_one_that_is_refused_leaves_the_others(tmp_path: Path) -> None:
    """Any JSON among them, each with a token of its own; and all go on where they were after a kill."""
    posts = town(300)
    visits = [{"who": {"name": f"user-{number % 3}"}, "at": [{"town": f"T{number % 5}"}]} for number in range(150)]
    usernames, hashtags = count(posts)
    (tmp_path / "config.toml").write_text(
        "[streams.town]\nformat = 'flat'\n[streams.visits]\nformat = 'fields'\n[streams.closed]\n"
        "[boards.visitors]\nfield = 'who.name'\n[boards.towns]\nfield = 'at[].town'\n"
    )
    refusing = Upstream([], usual=Answer(401))
    places = [json.dumps(visit).encode() for visit in visits]
    async with Upstream(flat(posts), "sse").serving() as first, Upstream(places, "sse").serving() as second:
        async with refusing.serving():
            environ = {
                "TWEETBOARD_STREAMS_TOWN_URL": first.url,
                "TWEETBOARD_STREAMS_VISITS_URL": second.url,
                "TWEETBOARD_STREAMS_CLOSED_URL": refusing.url,
                "TWEETBOARD_STREAMS_CLOSED_TOKEN": "a-very-secret-token",
            }
            for number in range(2):
                async with daemon(tmp_path, environ=environ) as running:
                    await running.ready()
                    if number == 0:
                        await running.until('tweetboard_posts_total{stream="town"}', 100)
                        running.signal(signal.SIGKILL)
                        await running.ended()
                        continue
                    await running.counts(usernames, hashtags)
                    async with asyncio.timeout(10):
                        while await running.board("visitors") != {f"user-{number}": 50 for number in range(3)}:
                            await asyncio.sleep(0)
                    assert await running.board("towns") == {f"T{number}": 30 for number in range(5)}
                    status, ready = await running.get("/readyz")
                    parts = ready["parts"]
                    assert isinstance(parts, dict)
                    assert (status, parts["stream closed"]["ok"], parts["stream town"]["ok"]) == (503, False, True)
                    assert "401" in parts["stream closed"]["detail"]
                    assert "TWEETBOARD_STREAMS_CLOSED_TOKEN" in parts["stream closed"]["detail"]
                    assert refusing.requests[-1].headers["authorization"] == "Bearer a-very-secret-token"
                    assert "authorization" not in first.requests[-1].headers
                    assert "a-very-secret-token" not in running.errors


@pytest.mark.usefixtures("store")  # which empties the server
async def test_a_key_that_is_another_programs_stops_the_start_and_no_command_touches_it(
    valkey_url: str, store: Store, tmp_path: Path
) -> None:
    await store.execute("SET", "theirs", "precious")
    (tmp_path / "config.toml").write_text("[boards.hashtags]\nkey = 'theirs'\n")
    told = "tweetboard: boards.hashtags.key: theirs is a string in Redis, and no board's\n"
    async with Upstream(flat(town(5))).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, "--redis", valkey_url) as running:
            assert (await running.ended(), running.errors) == (2, told)
    for words in (["reset", "--yes", "hashtags"], ["export", "hashtags"]):
        async with command(tmp_path, *words, "--redis", valkey_url) as minding:
            assert (await minding.ended(), minding.errors) == (2, told)
    assert await store.execute("GET", "theirs") == b"precious"


async def test_a_redis_that_goes_away_while_settings_are_read_again_is_waited_for(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish is not forgotten, and the daemon does not end: the settings are taken once Redis is back."""
    looked, taken, stopping = 0, asyncio.Event(), asyncio.Event()
    look = check_places

    async def goes_away_first(*of_what: Any) -> None:  # noqa: ANN401 - as the other has it
        nonlocal looked
        looked += 1
        if looked == 2:  # behind the look at the start
            raise StoreUnavailable("it has gone")
        await look(*of_what)

    monkeypatch.setattr(daemon_module, "check_places", goes_away_first)
    async with Upstream(flat(town(5))).serving() as upstream, asyncio.timeout(20):
        settings = Settings(
            stream=StreamSettings(url=upstream.url), redis=RedisSettings(url=valkey_url), http=HttpSettings(port=0)
        )
        wanted = msgspec.structs.replace(settings, filter=FilterSettings(bots=False))
        reload = Reload(asyncio.Event(), lambda: wanted, lambda _: taken.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(settings, {}, stopping, reload, lambda _: reload.asked.set()))
            await taken.wait()
            stopping.set()
    assert looked > 2
    assert len(upstream.requests) == 1


@pytest.mark.usefixtures("store")  # which empties the server
async def test_names_that_were_read_with_the_settings_go_on_with_them_though_their_file_is_gone(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Between reading and going on Redis may be away for an hour; a daemon that runs must not end by that."""
    blocked, taken, stopping = tmp_path / "blocked.txt", asyncio.Event(), asyncio.Event()
    blocked.write_text("@ann\n")
    caplog.set_level("INFO")

    async def meanwhile(*of_what: Any) -> None:  # noqa: ANN401 - as the other has it
        if taken_before:
            blocked.unlink(missing_ok=True)
        await check_places(*of_what)

    taken_before = list[bool]()
    monkeypatch.setattr(daemon_module, "check_places", meanwhile)
    async with Upstream(flat(town(5))).serving() as upstream, asyncio.timeout(20):
        settings = Settings(
            stream=StreamSettings(url=upstream.url),
            redis=RedisSettings(url=valkey_url),
            http=HttpSettings(port=0),
            filter=FilterSettings(blocklist=str(blocked)),
        )
        wanted = msgspec.structs.replace(settings, filter=FilterSettings(blocklist=str(blocked), bots=False))
        reload = Reload(asyncio.Event(), lambda: wanted, lambda _: taken.set())

        def ready(_: str) -> None:
            taken_before.append(True)
            reload.asked.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(serve(settings, {}, stopping, reload, ready))
            await taken.wait()
            while sum("counting stream" in message for message in caplog.messages) < 2:
                await asyncio.sleep(0)
            stopping.set()
    assert not blocked.exists()
