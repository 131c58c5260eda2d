"""What many tests need: a real server of their own, a store on it, and a fake one where losses do not matter."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import fakeredis
import pytest

from processes import SERVER
from tweetboard.store import Store, open_store

SHARED = Path(__file__).parents[2] / "shared"


MAX_WORKERS = 4
"""Each starts servers and daemons, whose timeouts are meant for a machine that is not wholly taken."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run tests side by side, but one by one what measures, or prints what it measures."""
    alone = {"benchmark", "faults", "guard", "long"} & set(str(config.option.markexpr).split())
    return 0 if alone and "not" not in config.option.markexpr else min(os.cpu_count() or 1, MAX_WORKERS)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Run one real valkey-server for the whole test run; yields where it listens."""
    with tempfile.TemporaryDirectory(prefix="tb-") as folder:
        path = Path(folder) / "valkey.sock"
        settings = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        process = subprocess.Popen([SERVER, *settings], stdout=subprocess.DEVNULL)
        try:
            wait_for_socket(path)
            yield f"unix://{path}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@pytest.fixture
async def store(valkey_url: str) -> AsyncIterator[Store]:
    """Open a store on the real server, emptied."""
    async with open_store(valkey_url, connections=16) as opened:
        await opened.execute("FLUSHALL")
        yield opened


@pytest.fixture
async def fake_store() -> AsyncIterator[Store]:
    """Open a store on a fake server, for what needs no real one."""
    client = fakeredis.FakeAsyncRedis(protocol=2)
    yield Store(client)
    await client.aclose()


@pytest.fixture
def samples() -> Path:
    """Find the folder of real stream payloads, which only the developers have; skips without it."""
    folder = SHARED / "samples"
    if not folder.is_dir():
        pytest.skip("the folder of real stream payloads is not here")
    return folder


@pytest.fixture
def conformance() -> Path:
    """Find the folder of others' test cases, which only the developers have; skips without it."""
    folder = SHARED / "conformance"
    if not folder.is_dir():
        pytest.skip("the folder of others' test cases is not here")
    return folder


@pytest.fixture
def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_socket(path: Path, timeout_s: float = 10.0) -> None:
    """Block until something accepts connections at a Unix socket."""
    deadline = os.times().elapsed + timeout_s
    while os.times().elapsed < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
    raise TimeoutError(f"nothing listens at {path}")


async def wait_until(holds: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Let other tasks run until something holds; raises `TimeoutError` where it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 32 MB; skips where that is not permitted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
