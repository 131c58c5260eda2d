"""What a person at a terminal gets, without running the daemon itself (test_daemon.py does that)."""

import argparse
import asyncio
import gzip
import io
import json
import logging
import os
import random
import re
import signal
import socket
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from tweetboard import __version__, cli
from tweetboard.errors import StoreUnavailable, StreamRefused
from tweetboard.settings import Settings


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Run in an empty folder, with no variable of ours set and logging as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    for name in list(os.environ):
        if name.startswith("TWEETBOARD_"):
            monkeypatch.delenv(name)
    return tmp_path


def lines(path: Path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_replay_prints_both_boards_with_shared_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    posts = [{"username": name, "hashtags": ["Redis"]} for name in ("ann", "ann", "bob", "cid")]
    assert cli.main(["replay", lines(tmp_path / "posts.ndjson", *posts)]) == 0
    out = capsys.readouterr().out
    assert "usernames (3 names)" in out
    assert re.findall(r"(\d) │ (\w+) +│ +(\d)", out) == [
        ("1", "ann", "2"),
        ("2", "cid", "1"),
        ("2", "bob", "1"),
        ("1", "Redis", "4"),
    ]


def test_replay_says_what_came_to_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "posts.ndjson"
    path.write_bytes(b'{"username":"ann"}\n{"username":\n\n{"hashtags":["x"]}')
    assert cli.main(["replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "skipped 1: broken_json" in out
    assert "skipped 1: no_author" in out


def test_replay_draws_no_colours_or_markup_out_of_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name is untrusted text: neither terminal codes nor rich's own markup get through it."""
    posts = [{"username": "[bold red]x[/]"}, {"username": "\x1b[31mred"}]
    assert cli.main(["replay", lines(tmp_path / "p.ndjson", *posts)]) == 0
    out = capsys.readouterr().out
    assert "[bold red]x[/]" in out
    assert "\x1b" not in out


def test_everything_wrong_is_named_at_once(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nowhere / "config.toml").write_text('[stream]\nfromat = "x-v2"\n')
    assert cli.main(["--port", "abc", "--format", "xv2"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3
    assert all(line.startswith("tweetboard: ") for line in err)
    assert "config.toml: stream.fromat: unknown key (did you mean format?)" in err[0]


@pytest.mark.parametrize("arguments", [["check", "--port", "0"], ["--port", "0", "check"]])
def test_check_says_what_would_run_and_tries_it(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A flag may stand before or behind the command."""
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "stream   demo: as demo, format auto, without a token" in out
    assert "http     127.0.0.1:0" in out
    assert "ok       redis: " in out
    assert "ok       stream: 200 application/json" in out


def test_check_fails_where_a_part_cannot_be_reached_and_tries_the_other_too(
    free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis://:hush@127.0.0.1:{free_port}"
    assert cli.main(["check", "--redis", url, "--stream", f"http://127.0.0.1:{free_port}/s"]) == 1
    told = capsys.readouterr()
    assert re.search(r"^FAILED   redis: .*unavailable", told.out, re.MULTILINE)
    assert re.search(r"^FAILED   stream: ", told.out, re.MULTILINE)
    assert "hush" not in told.out + told.err


def test_check_names_what_else_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["check", "--port", str(port)]) == 0
    out = capsys.readouterr().out
    assert "board    usernames in demo:username_scoreboard" in out
    taken_by = f"cannot listen on 127.0.0.1:{port}: address already in use, by a running daemon perhaps"
    assert f"caution  http: http.port: {taken_by}" in out.lower()


def test_check_fails_where_the_boards_could_not_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--host", "192.0.2.1"]) == 1
    assert "FAILED   http: http.host: cannot listen on 192.0.2.1:8080" in capsys.readouterr().out


def test_a_file_whose_compressed_end_is_missing_is_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    posts = b"".join(b'{"username": "u%d"}\n' % random.getrandbits(64) for _ in range(1_000))
    (tmp_path / "posts.gz").write_bytes(gzip.compress(posts)[:-2_000])
    assert cli.main(["replay", str(tmp_path / "posts.gz")]) == 1
    told = capsys.readouterr()
    assert "usernames (" in told.out
    assert "posts.gz ends in the middle of what is compressed: a part" in told.err


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", "nowhere.ndjson"]) == 2
    assert "tweetboard: replay: nowhere.ndjson: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--listen", "99999"], "argument --listen: '99999' is not a port from 0 to 65535"),
        (["--listen", "z"], "argument --listen: 'z' is not a port from 0 to 65535"),
        (["--rate", "x"], "argument --rate: 'x' is not a number above 0 and up to 10,000"),
        (["--rate", "0"], "argument --rate: '0' is not a number above 0 and up to 10,000"),
        (["--rate", "nan"], "argument --rate: 'nan' is not a number above 0 and up to 10,000"),
    ],
)
def test_a_wrong_number_is_told_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(told)


def test_whoever_has_read_enough_may_go(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`check | head -1` leaves no error behind, not even where the pipe broke inside a group of tasks."""

    def fall(_: object) -> int:
        raise ExceptionGroup("g", [BrokenPipeError()])

    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as output:
        os.close(reading)
        monkeypatch.setattr("sys.stdout", output)
        monkeypatch.setattr(cli, "_run", fall)
        assert cli.main([]) == 1
    assert capsys.readouterr().err == ""


def test_the_log_does_not_run_into_the_progress_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler()
    before = handler.stream
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    with Progress(console=Console(stderr=True)) as bars, cli._log_above():  # noqa: SLF001 - what replay does
        bars.add_task("", total=1)
        logging.getLogger().warning("a line of its own")
    assert handler.stream is before
    assert re.search(r"(^|[\n\r]|\x1b\[2K)a line of its own\n", capsys.readouterr().err)


def test_a_stop_while_the_embedded_server_still_reads_its_data_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing has been read yet, so there is nothing to wait for."""
    ended: list[str] = []

    async def slow_to_start(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    monkeypatch.setattr(cli, "serve", slow_to_start)
    assert cli.main([]) == 0
    assert ended == ["cancelled"]
    assert capsys.readouterr().err == ""


def test_version_and_help_name_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"tweetboard {__version__}\n"
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert {"run", "check", "replay", "simulate"} <= set(capsys.readouterr().out.split())


def test_of_many_failures_the_person_reads_ours_first() -> None:
    """A group of what fell over together is no message; the one that says whose fault it was is."""
    inner = ExceptionGroup("b", [KeyError("x"), StreamRefused("set the token")])
    found = cli._first(ExceptionGroup("a", [ValueError("y"), inner]))  # noqa: SLF001 - what main prints
    assert str(found) == "set the token"


def test_what_nobody_foresaw_is_one_line_with_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall(_: object) -> int:
        raise KeyError("who")

    monkeypatch.setattr(cli, "_run", fall)
    assert cli.main([]) == 1
    assert re.fullmatch(r"tweetboard: unexpected KeyError at test_cli.py:\d+: 'who'; .*\n", capsys.readouterr().err)


def test_ours_end_with_their_own_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fall(_: object) -> int:
        raise ExceptionGroup("g", [StoreUnavailable("gone")])

    monkeypatch.setattr(cli, "_run", fall)
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "tweetboard: gone\n"


def test_standard_input_that_is_a_file_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "p.ndjson", {"username": "ann"})
    with Path(path).open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        assert cli.main(["replay", "-"]) == 0
    assert "usernames (1 name)" in capsys.readouterr().out


def test_a_file_without_posts_is_a_failure_that_shows_what_a_post_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "posts.csv").write_text("username,hashtags\nann,redis\n")
    assert cli.main(["replay", str(tmp_path / "posts.csv")]) == 1
    assert 'posts.csv: one JSON object a line, such as {"username": "alice"' in capsys.readouterr().err


def test_where_a_format_was_chosen_that_is_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "p.ndjson", {"username": "ann"})
    assert cli.main(["replay", str(path), "--format", "mastodon"]) == 1
    assert f"no posts in {path}: is its format mastodon? (stream.format)" in capsys.readouterr().err


async def test_a_signal_to_stop_that_is_told_twice_is_one() -> None:
    """As uvloop does where SIGTERM comes some microseconds behind SIGHUP: what was read must still reach the boards."""

    async def command(_: Settings, __: argparse.Namespace, stopping: asyncio.Event) -> int:
        for _turn in range(2):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0.01)  # in which a handler has its turn
        assert stopping.is_set()
        return 7

    assert await cli._stoppable(command, Settings(), argparse.Namespace()) == 7  # noqa: SLF001 - signals' one place
