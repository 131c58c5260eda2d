"""Every failure of Redis is sorted into wait or stop, and nobody who gives up on a command harms the next one."""

import asyncio
import contextlib
import gc
import logging
import random
import signal
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hiredis
import pytest
import uvloop
from redis import exceptions as redis_errors

from conftest import wait_for_socket, wait_until
from processes import SERVER
from tweetboard import store as store_module
from tweetboard.channel import subscribe
from tweetboard.errors import ConfigurationError, StoreError, StoreRefused, StoreUnavailable
from tweetboard.lease import Lease
from tweetboard.store import BACKOFF_S, Script, Store, open_store

PASSWORD = "correct-horse"  # noqa: S105 - of servers that live for a test
NAME = "alice_of_the_posts"
WRITE = ("SET", "tweetboard:k", NAME)


class Server:
    """A real server that a test may harm: its own process in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *settings: str, wait: bool = True) -> None:
        base = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)]
        self._process = subprocess.Popen([SERVER, *base, *settings], stdout=subprocess.DEVNULL)
        if wait:
            wait_for_socket(self.socket)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tb-") as folder:
        made = Server(Path(folder))
        made.start()
        yield made
        made.kill()


@contextlib.asynccontextmanager
async def answering(folder: Path, answer: Callable[[list[bytes]], bytes | None]) -> AsyncIterator[str]:
    """Run a fake server: `answer` makes the reply to a command, None ends the connection; setting up always works."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            while isinstance(command := parser.gets(), list):
                reply = b"+OK\r\n" if command[0] == b"CLIENT" else answer(command)
                if reply is None:
                    writer.close()
                    return
                writer.write(reply)
        writer.close()

    path = folder / "fake"
    listener = await asyncio.start_unix_server(serve, path)
    try:
        yield f"unix://{path}"
    finally:
        listener.close()


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb-") as folder:
        yield Path(folder)


async def failure(store: Store, *command: str | int) -> StoreError:
    """Run a command that must fail; its message must name the server and nothing that is secret."""
    with pytest.raises(StoreError) as caught:
        await store.execute(*command)
    message = str(caught.value)
    assert message.startswith(f"Redis at {store.address} ")
    assert PASSWORD not in message
    assert NAME not in message
    assert not (store.available and isinstance(caught.value, StoreUnavailable))
    return caught.value


def pool_of(store: Store) -> tuple[int, int]:
    """How many of the pool's connections are in use, and how many there are."""
    pool = store._client.connection_pool  # noqa: SLF001 - what no caller should see is what must not leak
    return len(pool._in_use_connections), len(pool._in_use_connections) + len(pool._available_connections)  # noqa: SLF001


# --- Which failures pass, and which do not ---


async def test_a_server_that_is_not_there_is_unavailable(short_path: Path) -> None:
    async with open_store(f"unix://{short_path}/nobody?password={PASSWORD}", connections=1) as store:
        error = await failure(store, *WRITE)
    assert isinstance(error, StoreUnavailable)
    assert str(short_path / "nobody") in str(error)


async def test_a_port_nobody_listens_on_is_unavailable_and_its_password_is_in_no_message(free_port: int) -> None:
    async with open_store(f"redis://me:{PASSWORD}@127.0.0.1:{free_port}/3", connections=1) as store:
        assert store.address == f"127.0.0.1:{free_port}"
        error = await failure(store, *WRITE)
    assert isinstance(error, StoreUnavailable)
    assert "Error 111" in str(error) or "Error 61" in str(error)


async def test_a_server_that_is_loading_its_data_is_unavailable(server: Server) -> None:
    async with open_store(server.url, connections=1) as store:
        await store.execute("EVAL", "for i = 1, 10000 do redis.call('SET', i, i) end", 0)
        await store.execute("SAVE")
    server.kill()
    # Each key takes 0.1 ms, and every hundred or so the server has a look at its clients.
    slow = ["--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024"]
    server.start(*slow)
    async with open_store(server.url, connections=1) as store:
        error = await failure(store, "PING")
        assert await store.stage() == "loading"
    assert isinstance(error, StoreUnavailable)
    assert "loading the dataset" in str(error)


async def test_a_primary_that_became_a_replica_is_unavailable_until_the_failover_ends(server: Server) -> None:
    async with open_store(server.url, connections=1) as store:
        await store.execute("REPLICAOF", "127.0.0.1", 1)
        writing = await failure(store, *WRITE)
        with pytest.raises(StoreUnavailable, match="read only replica"):
            await Lease(store, "tweetboard:lease", "me").hold()
        await store.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
        reading = await failure(store, "GET", "tweetboard:k")
        await store.execute("REPLICAOF", "NO", "ONE")
        await store.execute(*WRITE)
    assert isinstance(writing, StoreUnavailable)
    assert isinstance(reading, StoreUnavailable)


async def test_a_server_out_of_memory_is_unavailable(server: Server) -> None:
    async with open_store(server.url, connections=1) as store:
        await store.execute("CONFIG", "SET", "maxmemory", "1")
        assert isinstance(await failure(store, *WRITE), StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            await Lease(store, "tweetboard:lease", "me").hold()


async def test_a_server_that_cannot_save_is_unavailable(server: Server) -> None:
    gone = server.folder / "gone"
    gone.mkdir()
    server.kill()
    server.start("--dir", str(gone), "--save", "3600 100000")
    gone.rmdir()
    async with open_store(server.url, connections=1) as store:
        await store.execute("BGSAVE")
        async with asyncio.timeout(5):
            while b"rdb_last_bgsave_status:err" not in _text(await store.execute("EVAL", _PERSISTENCE, 0)):
                pass
        error = await failure(store, *WRITE)
        with pytest.raises(StoreUnavailable):
            await Lease(store, "tweetboard:lease", "me").hold()
    assert isinstance(error, StoreUnavailable)
    assert "MISCONF" in str(error)


_PERSISTENCE = "return redis.call('INFO', 'persistence')"


def _text(reply: object) -> bytes:
    assert isinstance(reply, bytes)
    return reply


async def test_a_server_without_enough_replicas_is_unavailable(server: Server) -> None:
    async with open_store(server.url, connections=1) as store:
        await store.execute("CONFIG", "SET", "min-replicas-to-write", "1")
        error = await failure(store, *WRITE)
    assert isinstance(error, StoreUnavailable)
    assert "NOREPLICAS" in str(error)


async def test_a_server_busy_with_somebody_elses_script_is_unavailable(server: Server) -> None:
    async with open_store(server.url, connections=2) as store:
        await store.execute("CONFIG", "SET", "busy-reply-threshold", "1")
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            endless = group.create_task(_failure_of(store, "EVAL", "while true do end", 0))
            error: StoreError | None = None
            while error is None:
                with contextlib.suppress(StoreRefused):  # "not busy" at the first tries
                    error = await _try(store, *WRITE)
            await store.execute("SCRIPT", "KILL")
            assert isinstance(await endless, StoreRefused)
    assert isinstance(error, StoreUnavailable)
    assert "busy running a script" in str(error)


async def _try(store: Store, *command: str) -> StoreError | None:
    try:
        await store.execute(*command)
    except StoreUnavailable as error:
        return error
    return None


async def _failure_of(store: Store, *command: str | int) -> StoreError | None:
    try:
        await store.execute(*command)
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize(
    "reply",
    [
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "LOADING Redis is loading the dataset in memory",
        "ERR max number of clients reached",
    ],
)
async def test_what_a_server_says_while_something_passes_is_unavailable(short_path: Path, reply: str) -> None:
    async with (
        answering(short_path, lambda _: f"-{reply}\r\n".encode()) as url,
        open_store(url, connections=1) as store,
    ):
        assert isinstance(await failure(store, *WRITE), StoreUnavailable)


@pytest.mark.parametrize(
    "reply",
    [
        "ERR unknown subcommand",
        "BUSYGROUP Consumer Group name already exists",
        "MOVED 3999 127.0.0.1:6381",
        "CROSSSLOT Keys in request don't hash to the same slot",
        f"ERR unknown command 'SET', with args beginning with: 'tweetboard:k' '{NAME}' ",
    ],
)
async def test_what_waiting_does_not_mend_is_refused_and_says_no_users_name(short_path: Path, reply: str) -> None:
    async with (
        answering(short_path, lambda _: f"-{reply}\r\n".encode()) as url,
        open_store(url, connections=1) as store,
    ):
        assert not isinstance(await failure(store, *WRITE), StoreUnavailable)


async def test_what_is_no_redis_at_all_is_refused(short_path: Path) -> None:
    async with (
        answering(short_path, lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as url,
        open_store(url, connections=1) as store,
    ):
        assert isinstance(await failure(store, *WRITE), StoreRefused)


async def test_a_wrong_password_is_refused_and_in_no_message(server: Server) -> None:
    async with open_store(server.url, connections=1) as admin:
        await admin.execute("ACL", "SETUSER", "board", "on", f">not-{PASSWORD}", "~*", "&*", "+@all")
    async with open_store(f"{server.url.replace('unix://', 'unix://board:' + PASSWORD + '@')}", connections=1) as store:
        error = await failure(store, *WRITE)
        with pytest.raises(StoreRefused):
            async with asyncio.timeout(5):
                await store.wait()
    assert isinstance(error, StoreRefused)
    assert "invalid username-password pair" in str(error)
    assert "The password belongs in TWEETBOARD_REDIS_PASSWORD" in str(error)


@pytest.mark.parametrize(
    ("refuse", "accept", "told"),
    [
        (("CONFIG", "SET", "maxmemory", "1mb"), ("CONFIG", "SET", "maxmemory", "0"), "OOM command not allowed"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY You can't write"),
    ],
)
async def test_a_server_that_takes_no_writes_is_unavailable_until_something_was_written(
    server: Server, refuse: tuple[str, ...], accept: tuple[str, ...], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever else it answers: `/readyz` would turn to and fro, and the log say that it is back."""
    caplog.set_level(logging.INFO)
    async with open_store(server.url, connections=2) as store:
        ours, theirs = Lease(store, "ours", "me"), Lease(store, "theirs", "me")
        assert await Lease(store, "theirs", "somebody").hold()
        await store.execute(*refuse)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=told) as refused:
                await ours.hold()
            assert "script" not in str(refused.value)
            await store.execute("PING")
            assert not await theirs.hold(), "which only reads where somebody else has it"
            assert not store.available
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.wait()
        await store.execute(*accept)
        assert not await theirs.hold()
        assert not store.available
        await store.wait()
        assert store.trouble == "", "which a standby, that writes nothing, would not find out otherwise"
    assert [message.partition(" after ")[0].partition(",")[0] for message in caplog.messages] == [
        "redis is unavailable",
        "redis is back",
    ]


async def test_a_missing_password_is_refused(server: Server) -> None:
    async with open_store(server.url, connections=1) as store:
        await store.execute("CONFIG", "SET", "requirepass", PASSWORD)
        async with open_store(server.url, connections=1) as stranger:
            assert isinstance(await failure(stranger, *WRITE), StoreRefused)


async def test_a_command_that_is_not_permitted_is_refused(server: Server) -> None:
    async with open_store(server.url, connections=1) as store:
        await store.execute("ACL", "SETUSER", "default", "-set")
        error = await failure(store, *WRITE)
    assert isinstance(error, StoreRefused)
    assert "refused SET tweetboard:k: " in str(error)


async def test_a_key_of_the_wrong_type_is_refused_by_its_name(store: Store) -> None:
    await store.execute("LPUSH", "tweetboard:k", "x")
    assert isinstance(await failure(store, "GET", "tweetboard:k"), StoreRefused)
    with pytest.raises(StoreRefused, match="refused hold on tweetboard:k: WRONGTYPE"):
        await Lease(store, "tweetboard:k", NAME).hold()


async def test_no_answer_within_the_deadline_is_unavailable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(server.url, connections=2) as store:
        await store.execute("CLIENT", "PAUSE", "60000", "WRITE")
        monkeypatch.setattr(store, "_timeout_s", 0.05)
        error = await failure(store, *WRITE)
        monkeypatch.undo()
        await store.execute("CLIENT", "UNPAUSE")
        await store.execute(*WRITE)
    assert isinstance(error, StoreUnavailable)
    assert str(error).endswith("no answer for 0.05 s")


async def test_a_socket_that_never_says_a_word_is_unavailable(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT_S", 0.05)
    async with (
        answering(short_path, lambda _: b"") as url,
        open_store(url, connections=1) as store,
    ):
        assert isinstance(await failure(store, *WRITE), StoreUnavailable)
        assert await store.stage() == "away"
        assert pool_of(store)[0] == 0


async def test_a_connection_cut_instead_of_an_answer_is_unavailable(short_path: Path) -> None:
    async with answering(short_path, lambda _: None) as url, open_store(url, connections=1) as store:
        assert isinstance(await failure(store, *WRITE), StoreUnavailable)


# --- Nothing is done twice ---


async def test_a_command_whose_answer_is_lost_is_not_sent_again(short_path: Path) -> None:
    heard: list[list[bytes]] = []
    async with (
        answering(short_path, heard.append) as url,
        open_store(url, connections=4) as store,
    ):
        await failure(store, "ZINCRBY", "username_scoreboard", 1, NAME)
    assert heard == [[b"ZINCRBY", b"username_scoreboard", b"1", NAME.encode()]]


async def test_a_script_the_server_has_forgotten_is_taught_again(store: Store) -> None:
    lease = Lease(store, "tweetboard:lease", "me")
    assert await lease.hold()
    await store.execute("SCRIPT", "FLUSH")
    assert await store.execute("SCRIPT", "EXISTS", Script("lease").digest) == [0]
    assert await lease.hold()
    assert await store.execute("SCRIPT", "EXISTS", Script("lease").digest) == [1]


# --- Whoever gives up ---


async def test_a_cancellation_leaves_as_itself_and_gives_the_connection_back(short_path: Path) -> None:
    async with answering(short_path, lambda _: b"") as url, open_store(url, connections=1) as store:
        command = asyncio.create_task(store.execute("PING"))
        await wait_until(lambda: pool_of(store)[0] == 1)
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
        assert pool_of(store) == (0, 1)
        assert store.trouble == "not reached yet", "giving up says nothing about Redis"


async def test_after_hundreds_of_cancelled_commands_each_next_one_gets_its_own_answer(store: Store) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    rng = random.Random(seed)
    cancelled = 0
    async with asyncio.timeout(30):
        for number in range(600):
            command = asyncio.create_task(store.execute("ECHO", f"cancelled {number}"))
            for _ in range(rng.randrange(16)):
                await asyncio.sleep(0)
            command.cancel()
            try:
                assert await command == f"cancelled {number}".encode()
            except asyncio.CancelledError:
                cancelled += 1
            assert await store.execute("ECHO", f"whole {number}") == f"whole {number}".encode()
    assert cancelled > 100
    assert pool_of(store) == (0, 1), "one at a time, so one connection is enough"


async def test_commands_that_run_into_the_deadline_do_not_exhaust_the_pool(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = True
    async with (
        answering(short_path, lambda _: b"" if silent else b"+PONG\r\n") as url,
        open_store(url, connections=2) as store,
    ):
        monkeypatch.setattr(store, "_timeout_s", 0.02)
        for _ in range(10):
            assert "no answer" in str(await failure(store, "PING"))
        silent = False
        monkeypatch.undo()
        async with asyncio.TaskGroup() as group:
            replies = [group.create_task(store.execute("PING")) for _ in range(2)]
        assert [reply.result() for reply in replies] == [True, True]


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_500_cancellations_at_random_ticks_leave_nothing_behind(
    valkey_url: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Commands, subscriptions and a lease in one TaskGroup end when they are cancelled, whatever they were at."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 - to run a failure again
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_cancel_at_random_ticks(valkey_url, 250, random.Random(seed)))


async def _cancel_at_random_ticks(url: str, times: int, rng: random.Random) -> None:
    ours = asyncio.all_tasks()
    async with open_store(url, connections=4) as store:
        for number in range(times):
            whole = asyncio.create_task(_everything(store))
            for _ in range(rng.randrange(60)):
                await asyncio.sleep(0)
            whole.cancel()
            await asyncio.wait([whole], timeout=10)
            assert whole.cancelled(), f"run {number} has swallowed the cancellation"
            assert pool_of(store)[0] == 0, f"run {number} has kept a connection"
            assert asyncio.all_tasks() == ours, f"run {number} has left a task"
        assert await store.execute("ECHO", "sane") == b"sane"


async def _everything(store: Store) -> None:
    lease = Lease(store, "tweetboard:x:lease", "me")
    async with asyncio.TaskGroup() as group:
        group.create_task(lease.keep())
        group.create_task(_publish_for_ever(store))
        group.create_task(_publish_for_ever(store))
        group.create_task(_listen_for_ever(store))


async def _publish_for_ever(store: Store) -> None:
    while True:
        await store.execute("PUBLISH", "usernames", NAME)
        await store.execute("HMGET", "tweetboard:x", "owner", "seq")


async def _listen_for_ever(store: Store) -> None:
    async with subscribe(store, "usernames") as subscription:
        async for _ in subscription:
            pass


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_store_cancelled_in_any_turn_of_the_loop_closes_its_connections(
    short_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop], again: bool
) -> None:
    """Whether it connects, asks, listens or closes just then; `again`: and is cancelled in each turn that follows."""
    with warnings.catch_warnings(record=True) as caught:
        # Recorded, for as an error one keeps uvloop from closing what it is about, and then its loop.
        warnings.simplefilter("always", ResourceWarning)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_cancel_in_each_turn(short_path, again=again))
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def _cancel_in_each_turn(folder: Path, *, again: bool) -> None:
    async with (
        asyncio.timeout(20),
        answering(folder, lambda command: b"+PONG\r\n" if command[0] == b"PING" else b"") as url,
    ):
        ours = asyncio.all_tasks()
        turns, ended = 0, False
        while not ended:
            using = asyncio.create_task(_use(url))
            for _ in range(turns):
                await asyncio.sleep(0)
            ended = using.done()
            while using.cancel() and again:
                await asyncio.sleep(0)
            await asyncio.wait([using])
            assert using.cancelled() or ended, f"turn {turns}: {using}"
            turns += 1
        gc.collect()
        await wait_until(lambda: asyncio.all_tasks() == ours)  # the fake server's ends are closed, too


async def _use(url: str) -> None:
    async with open_store(url, connections=2) as store:
        assert await store.stage() == "ready"
        async with subscribe(store, "usernames"):
            await store.execute("PING")


# --- Waiting ---


class Failing:
    """A client whose commands fail a given number of times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def execute_command(self, *_: object) -> bool:
        self.failures -= 1
        if self.failures >= 0:
            raise redis_errors.ConnectionError("Connection refused")
        return True


async def test_the_pauses_between_attempts_double_from_50_ms_to_one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = list[float]()

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await Store(Failing(8)).wait()  # type: ignore[arg-type]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert (pauses[0], pauses[-1]) == BACKOFF_S
    pauses.clear()
    await Store(Failing(1)).wait()  # type: ignore[arg-type]
    assert pauses == [0.05], "a later wait begins with the shortest pause again"


async def test_waiting_ends_when_the_server_comes_back(server: Server) -> None:
    async with open_store(server.url, connections=2) as store:
        await store.wait()
        server.kill()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            waiting = group.create_task(store.wait())
            await wait_until(lambda: not store.available)
            assert not waiting.done()
            server.start()
            await waiting
        assert store.available


async def test_one_line_is_logged_when_redis_goes_and_one_when_it_returns(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tweetboard.store.TELL_AGAIN_S", -1.0)  # the same trouble twice within seconds, each told
    caplog.set_level(logging.DEBUG, "tweetboard")
    async with open_store(server.url, connections=1) as store:
        await store.execute("PING")
        assert not caplog.messages, "nothing is worth a line while all is well"
        for _ in range(2):
            server.kill()
            for _ in range(5):
                await failure(store, *WRITE)
            server.start()
            await store.execute("PING")
            await store.execute("PING")
            went, returned = caplog.messages
            assert went.startswith(f"redis is unavailable, waiting for it: {server.socket}: ")
            assert returned.startswith("redis is back after ")
            caplog.clear()


async def test_a_server_not_there_yet_is_asked_without_a_line_in_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tweetboard")
    async with open_store(server.url, connections=1) as store:
        assert await store.stage() == "ready"
        server.kill()
        assert await store.stage() == "away"
    assert not caplog.messages


# --- What it knows ---


async def test_what_the_last_command_found_is_known(server: Server) -> None:
    async with open_store(server.url, connections=1) as store:
        assert (store.available, store.trouble, store.round_trips) == (False, "not reached yet", 0)
        await store.execute("PING")
        assert (store.available, store.trouble, store.round_trips) == (True, "", 1)
        server.kill()
        error = await failure(store, "PING")
        assert (store.available, store.round_trips) == (False, 1)
        assert str(error).endswith(store.trouble)


async def test_a_failure_met_on_a_pubsub_connection_is_judged_alike(fake_store: Store) -> None:
    await fake_store.execute("PING")
    error = fake_store.failed(redis_errors.ConnectionError("Connection closed by server."), "hashtags")
    assert isinstance(error, StoreUnavailable)
    assert not fake_store.available
    refused = fake_store.failed(redis_errors.NoPermissionError("No permissions to access a channel"), "hashtags")
    assert isinstance(refused, StoreRefused)
    assert "refused SUBSCRIBE hashtags: No permissions" in str(refused)


async def test_the_version_is_the_servers_own(store: Store) -> None:
    name, _, version = (await store.version()).partition(" ")
    assert name in {"valkey", "redis"}
    assert version.split(".")[0].isdigit()


async def test_every_key_has_the_prefix(valkey_url: str) -> None:
    async with open_store(valkey_url, connections=1, prefix="{tb}:") as store:
        assert store.key("usernames") == "{tb}:usernames"
        await store.execute("FLUSHALL")
        await Lease(store, "tweetboard:x:lease", "me").hold()
        assert await store.execute("KEYS", "*") == [b"{tb}:tweetboard:x:lease"]


async def test_closing_the_store_closes_its_connections(server: Server) -> None:
    async with open_store(server.url, connections=1) as watcher:
        async with open_store(server.url, connections=3) as store, asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(store.execute("PING"))
        clients = await watcher.execute("CLIENT", "LIST")
    assert _text(clients).count(b" name=tweetboard ") == 1, "only the watcher itself"


@pytest.mark.parametrize(
    "options",
    ["socket_timeout=5", "protocol=3", "decode_responses=true", "max_connections=1", "encoding=nope", "lib_name=x"],
)
async def test_options_in_the_url_cannot_undo_what_exactness_needs(valkey_url: str, options: str) -> None:
    """redis-py lets a URL's query win; a socket timeout there would bring back swallowed cancellations."""
    async with open_store(f"{valkey_url}?{options}", connections=4) as store:
        replies = await asyncio.gather(*(store.execute("ECHO", number) for number in range(4)))
        assert replies == [b"0", b"1", b"2", b"3"]
        made = store.pubsub().connection_pool.connection_kwargs
        assert (made["socket_timeout"], made["protocol"]) == (None, 2)


# --- What a server's own settings can cost ---


async def test_a_server_that_may_delete_scores_or_writes_nothing_down_is_told(store: Store) -> None:
    try:
        (nothing_written,) = await store.cautions()
        assert nothing_written.startswith("neither appendonly nor save is set: a restart of Redis loses all scores")
        await store.execute("CONFIG", "SET", "save", "3600 1")
        assert await store.cautions() == []
        await store.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        (deletes,) = await store.cautions()
        assert deletes.startswith("maxmemory-policy is allkeys-lru: under pressure Redis deletes scores")
    finally:
        await store.execute("CONFIG", "SET", "save", "")
        await store.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_what_may_not_be_asked_is_passed_over(store: Store, valkey_url: str) -> None:
    await store.execute("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-config", "-info")
    try:
        async with open_store(f"{valkey_url}?username=limited&password=secret", connections=1) as limited:
            assert await limited.cautions() == []
            assert await limited.version() == "redis of an unknown version"
    finally:
        await store.execute("ACL", "DELUSER", "limited")


async def test_whoever_is_not_let_in_is_told_no_version(valkey_url: str) -> None:
    """`check` asks for it, and must not say "ok" where the daemon would be refused."""
    async with open_store(valkey_url.replace("unix://", "unix://nobody:wrong@"), connections=1) as store:
        with pytest.raises(StoreRefused, match="invalid username-password pair"):
            await store.version()


async def test_options_of_tls_want_tls() -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.url: ssl_ca_certs is for rediss:// alone"):
        async with open_store("redis://localhost/0?ssl_ca_certs=/x", connections=1):
            pass


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("ssl_ca_certs=/nowhere/ca.pem", "redis.url: ssl_ca_certs: /nowhere/ca.pem: No such file"),
        ("ssl_ca_path=/etc/passwd", "redis.url: ssl_ca_path: /etc/passwd: Not a directory"),
        (f"ssl_ca_certs={'x' * 300}", "redis.url: ssl_ca_certs: x+: File name too long"),
        ("ssl_ca_data=nonsense", "redis.url: ssl_ca_data: nonsense: "),
        ("ssl_ciphers=nonsense", "redis.url: ssl_ciphers: nonsense: "),
        ("ssl_keyfile=/etc/passwd", "redis.url: ssl_keyfile: a key is of no use without its ssl_certfile"),
        ("ssl_cert_reqs=perhaps", "redis.url: .*perhaps"),
        ("nonsense=1", "redis.url: nonsense is no option$"),
        ("credential_provider=x", "redis.url: credential_provider is no option$"),
        ("ssl_min_version=9", "redis.url: 9 is not a valid TLSVersion"),
        ("a-part-of-a-password", r"redis.url: what stands behind \? is no option$"),
        ("ssl_ciphers=ZZ", "redis.url: ssl_ciphers: ZZ: No cipher can be selected.$"),
        ("ssl_ca_cert=/x", r"redis.url: ssl_ca_cert is no option \(did you mean ssl_ca_certs\?\)"),
    ],
)
async def test_an_option_that_cannot_be_right_is_named_before_anything_is_opened(option: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        async with open_store(f"rediss://localhost/0?{option}", connections=1):
            pass
