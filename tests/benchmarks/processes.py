"""The processes that a benchmark runs: each ended by its id whatever happens, each read from /proc."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, cast

import redis

from benchmarks.posts import LAST_AUTHOR, LAST_TAG, Posts
from tweetboard.embedded import find_binary

HERE: Final = Path(__file__).parent
BOARDS: Final = {"usernames": "username_scoreboard", "hashtags": "hashtags_scoreboard"}
START_TIMEOUT_S: Final = 30.0
SEND_TIMEOUT_S: Final = 90.0
POLL_S: Final = 0.002
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Child:
    """A started process, what it says, and what it costs."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self._name = name
        self._process = process
        self.pid = process.pid

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def line(self, timeout_s: float = START_TIMEOUT_S) -> str:
        """Read the one line that it is to write now; fails where it ends, or takes too long."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline().decode() if ready else ""
        assert line, f"{self._name} said nothing within {timeout_s:g} s (exit code {self._process.poll()})"
        return line.strip()

    def cpu_s(self) -> float:
        """Read its processor time so far, its own and the kernel's for it, threads included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def resident_mb(self, *, peak: bool = False) -> float:
        """Read how much memory it has resident, or the most it ever had."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:" if peak else "VmRSS:")[2].split()[0]) / 1024

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


@contextmanager
def started(name: str, *command: str, log: Path, says: bool = True) -> Iterator[Child]:
    """Run a command; what it writes on standard error goes to `log`, and with it all that it says where not `says`."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TWEETBOARD_")}
    environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, sys.path)])
    with log.open("ab") as output, ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if says else output,
                stderr=output,
                env=environ,
                cwd=log.parent,  # where no other config.toml lies
            )
        )
        try:
            yield Child(name, process)
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


class Server:
    """A valkey-server set up as the embedded one is, and its boards as anybody may read them.

    `url` is its Unix socket, by which the embedded one is reached, `tcp_url` its port, as with a Redis of one's own.
    """

    def __init__(self, child: Child, path: Path, port: int) -> None:
        self.child = child
        self.url = f"unix://{path}"
        self.tcp_url = f"redis://127.0.0.1:{port}"
        self.client = redis.Redis(unix_socket_path=str(path), protocol=2)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def score_of_last(self) -> int:
        """Read how often the last post has counted, on the board that is behind."""
        return min(self._score("usernames", LAST_AUTHOR), self._score("hashtags", LAST_TAG))

    def _score(self, board: str, name: str) -> int:
        key = BOARDS[board]
        score = self.client.zscore(key, name) or self.client.hget(f"{key}:rest", name) or 0
        return int(cast("float", score))

    def memory_mb(self) -> float:
        """Read how much memory it says it uses."""
        return int(cast("dict[str, int]", self.client.info("memory"))["used_memory"]) / 1e6

    def wait_for_last(self, times: int, timeout_s: float = SEND_TIMEOUT_S) -> float:
        """Wait until the last post has counted so often, and with it all before it; returns the moment."""
        deadline = time.monotonic() + timeout_s
        while (score := self.score_of_last()) < times:
            assert time.monotonic() < deadline, f"the last post has counted {score} times, not {times}"
            time.sleep(POLL_S)
        return time.monotonic()

    def differences(self, posts: Posts, times: int = 1) -> list[str]:
        """Compare both boards, member by member, with posts sent so often; [] where they are equal."""
        found = []
        expected = {"usernames": posts.usernames, "hashtags": posts.hashtags}
        for name, key in BOARDS.items():
            rows = cast("list[tuple[bytes, float]]", self.client.zrange(key, 0, -1, withscores=True))
            rest = cast("dict[bytes, bytes]", self.client.hgetall(f"{key}:rest"))
            everybody: list[tuple[bytes, float | bytes]] = [*rows, *rest.items()]
            board = Counter({member.decode(): int(score) for member, score in everybody})
            wanted = Counter({member: score * times for member, score in expected[name].items()})
            if board != wanted:
                wrong = sorted(member for member in board.keys() | wanted.keys() if board[member] != wanted[member])
                found += [f"{name}: {member}: {board[member]}, not {wanted[member]}" for member in wrong[:5]]
        return found


@contextmanager
def valkey(folder: Path) -> Iterator[Server]:
    """Run a valkey-server with an append-only file, as the embedded one has it; its folder must be new."""
    folder.mkdir()
    path = folder / "s"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    settings = ["--port", str(port), "--bind", "127.0.0.1"]
    settings += ["--unixsocket", str(path), "--dir", str(folder), "--save", ""]
    settings += ["--appendonly", "yes", "--appendfsync", "everysec"]
    with started("valkey", find_binary(), *settings, log=folder / "log", says=False) as child:
        server = Server(child, path, port)
        with server.client:
            server.wait_until_ready()
            yield server


@contextmanager
def upstream(folder: Path, posts: Posts) -> Iterator[tuple[Child, str]]:
    """Run a stream server over a file of posts; yields it and its URL."""
    with started(
        "upstream", sys.executable, "-m", "benchmarks.upstream", str(posts.path), log=folder / "upstream"
    ) as child:
        yield child, f"http://127.0.0.1:{child.line()}/2/tweets/sample/stream"


def kept(windows: Sequence[str], trending: str, store: str = "zset") -> str:
    """Write the settings of boards that keep these beside the scores of all time, and those in such a store."""
    text = f"windows = {json.dumps(list(windows))}\ntrending = {json.dumps(trending)}\nstore = {json.dumps(store)}\n"
    return "".join(f"[boards.{name}]\n{text}" for name in BOARDS)


ALL_TIME: Final = kept([], "")


@contextmanager
def daemon(folder: Path, stream_url: str, redis_url: str, settings: str = "") -> Iterator[tuple[Child, str]]:
    """Run the real daemon, with the default settings but for these; yields it and the address of its boards."""
    (folder / "config.toml").write_text(settings)
    flags = ["--stream", stream_url, "--redis", redis_url, "--port", "0", "--format", "x-v2"]
    with started("daemon", sys.executable, "-m", "tweetboard", *flags, log=folder / "daemon") as child:
        said = child.line()
        yield child, said.removeprefix("boards at ").partition("/, ")[0]


def sent_at(child: Child) -> float:
    """Wait until what an upstream was to send is on its way; returns the moment of the first byte."""
    return float(child.line(SEND_TIMEOUT_S))


def middle(values: Sequence[float]) -> float:
    """Take the median; of an even number of values the upper."""
    return sorted(values)[len(values) // 2]


def verdict(*, met: bool) -> str:
    return "target met" if met else "target MISSED"
