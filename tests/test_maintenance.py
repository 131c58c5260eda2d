"""export, import and reset as a person uses them: beside a running daemon, and asking first."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from processes import Daemon, connected, daemon, ours_removed, redis_server, redis_url
from tweetboard.schema import claim
from tweetboard.store import open_store
from upstream import Upstream

TAGS = ["Tea", "tea", "Tea", "Salt"]
RECORDS = [json.dumps({"username": f"u{number % 7}", "hashtags": [TAGS[number % 4]]}).encode() for number in range(60)]
AUTHORS = Counter(f"u{number % 7}" for number in range(60))


async def run(folder: Path, *arguments: str, said: bytes | None = None) -> tuple[int, str, str]:
    """Run a command; returns its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tweetboard", *arguments),
        cwd=folder,
        env=ours_removed(),
        stdin=subprocess.DEVNULL if said is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        output, errors = await process.communicate(said)
    return process.returncode or 0, output.decode(), errors.decode()


async def until_board(running: Daemon, name: str, scores: dict[str, int]) -> None:
    """Wait until a board is as it should be."""
    async with asyncio.timeout(20):
        while await running.board(name) != scores:
            await asyncio.sleep(0.05)


async def test_boards_of_a_running_daemon_are_saved_begun_anew_and_put_back(tmp_path: Path) -> None:
    """Through the embedded server's own socket; the daemon goes on, and counts what comes after."""
    data = str(tmp_path / "data")
    async with Upstream(RECORDS, "sse").serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, "--data-dir", data) as running:
            await running.ready()
            await until_board(running, "hashtags", {"tea": 45, "salt": 15})
            await until_board(running, "usernames", AUTHORS)
            code, saved, _ = await run(tmp_path, "export", "hashtags", "--data-dir", data)
            assert code == 0
            assert [json.loads(line).get("name") for line in saved.splitlines()] == [None, "tea", "salt"]
            code, said, _ = await run(tmp_path, "reset", "hashtags", "--yes", "--data-dir", data)
            assert code == 0
            assert "hashtags: 2 names in hashtags_scoreboard at" in said
            await until_board(running, "hashtags", {})
            code, said, _ = await run(tmp_path, "import", "-", "--data-dir", data, said=saved.encode())
            assert (code, said) == (0, f"hashtags: 2 names in hashtags_scoreboard at {data}/valkey.sock\n")
            await until_board(running, "hashtags", {"tea": 45, "salt": 15})
            assert await running.board("usernames") == AUTHORS
            async with open_store(f"unix://{data}/valkey.sock", connections=1) as store:
                await store.execute("PUBLISH", "hashtags", "TEA")
            await until_board(running, "hashtags", {"tea": 46, "salt": 15})
            assert await running.metric("tweetboard_sessions_total") == 1
        code, saved, _ = await run(tmp_path, "export", "--data-dir", data)
        assert [json.loads(line)["board"] for line in saved.splitlines() if "board" in line] == [
            "usernames",
            "hashtags",
        ]


async def test_where_nothing_was_ever_counted_that_is_said(tmp_path: Path) -> None:
    """As with the wrong settings, or the demo's: a backup of nothing would look like one."""
    nowhere, folder = tmp_path / "nowhere", tmp_path / "redis"
    async with redis_server(folder):
        for command in (["export"], ["reset", "hashtags", "--yes"]):
            code, output, errors = await run(tmp_path, *command, "--data-dir", str(nowhere))
            assert (code, output) == (2, "")
            assert errors.startswith(f"tweetboard: redis.data_dir: nothing was ever counted in {nowhere}: is this the")
            code, output, errors = await run(tmp_path, *command, "--redis", redis_url(folder))
            assert (code, output) == (2, "")
            assert errors.startswith(f"tweetboard: redis.url: nothing was ever counted in {folder}/redis.sock: is this")
    assert not nowhere.exists()


async def test_boards_are_put_back_where_nothing_was_ever_counted_and_counted_on(tmp_path: Path) -> None:
    """As on a new machine. An import that fails begins nothing."""
    data = str(tmp_path / "new")
    saved = b'{"tweetboard":1,"board":"hashtags","names":1}\n{"name":"tea","score":5}\n'
    assert (await run(tmp_path, "import", "nowhere", "--data-dir", data))[0] == 2
    assert (await run(tmp_path, "export", "--data-dir", data))[0] == 2
    assert (await run(tmp_path, "import", "-", "--data-dir", data, said=saved))[0] == 0
    code, again, _ = await run(tmp_path, "export", "hashtags", "--data-dir", data)
    assert (code, again.count("tea")) == (0, 1)
    async with Upstream(RECORDS, "sse").serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, "--data-dir", data) as running:
            await running.ready()
            await until_board(running, "hashtags", {"tea": 50, "salt": 15})


async def test_boards_of_another_layout_are_left_alone(tmp_path: Path) -> None:
    """A backup of them would not be one, and what is put back would be counted on wrongly."""
    folder = tmp_path / "redis"
    async with redis_server(folder), connected(folder) as store:
        await store.execute("SET", "tweetboard:schema", "2")
        await store.execute("ZADD", "hashtags_scoreboard", 5, "tea")
        for command in (["export"], ["reset", "hashtags", "--yes"], ["import", "-"]):
            code, output, errors = await run(tmp_path, *command, "--redis", redis_url(folder), said=b"")
            assert (code, output) == (2, "")
            assert "tweetboard:schema is '2', and this version of tweetboard knows 1 alone" in errors
        assert await store.execute("ZSCORE", "hashtags_scoreboard", "tea") == 5
        await store.execute("SET", "demo:replay:tweetboard:schema", "2")
        await store.execute("ZADD", "demo:replay:hashtags_scoreboard", 5, "tea")
        (tmp_path / "posts").write_text('{"username": "ann"}\n')
        code, _, errors = await run(tmp_path, "replay", "posts", "--redis", redis_url(folder))
        assert (code, "demo:replay:tweetboard:schema is '2'" in errors) == (2, True)
        assert await store.execute("ZSCORE", "demo:replay:hashtags_scoreboard", "tea") == 5


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\n", 1, 1)])
async def test_a_reset_asks_first(tmp_path: Path, answer: bytes, code: int, left: int) -> None:
    folder = tmp_path / "redis"
    async with redis_server(folder), connected(folder) as store:
        await claim(store)
        await store.execute("ZADD", "hashtags_scoreboard", 5, "tea")
        ours, theirs = pty.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tweetboard", "reset", "hashtags", "--redis", redis_url(folder)),
                cwd=tmp_path,
                env=ours_removed(),
                stdin=theirs,
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            async with asyncio.timeout(20):
                asked = await process.stdout.readuntil(b"[y/N] ")
                assert b"hashtags: 1 name in hashtags_scoreboard at" in asked
                os.write(ours, answer)
                assert await process.wait() == code
        finally:
            os.close(ours)
            os.close(theirs)
        assert await store.execute("ZCARD", "hashtags_scoreboard") == left


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["reset", "hashtags"], "tweetboard: reset: there is nobody to ask here: --yes says that you are sure\n"),
        (["reset", "nope", "--yes"], "tweetboard: no board 'nope' is in the settings, but usernames, hashtags\n"),
        (["export", "nope"], "tweetboard: no board 'nope' is in the settings, but usernames, hashtags\n"),
        (["import", "nowhere"], "tweetboard: nowhere: cannot be read: No such file or directory\n"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    folder = tmp_path / "redis"
    async with redis_server(folder), connected(folder) as store:
        await claim(store)
        assert await run(tmp_path, *arguments, "--redis", redis_url(folder)) == (2, "", told)
