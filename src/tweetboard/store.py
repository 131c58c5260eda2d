"""The one connection pool to Redis, which is bus and store in one, and the one place that judges its failures.

What lives here: commands and scripts with a deadline each, the sorting of every failure into `StoreUnavailable` (wait)
or `StoreRefused` (say it and stop), waiting with backoff, and whether Redis is there right now. What must not: the
meaning of any key (journal.py, scoreboard.py).
"""

import asyncio
import contextlib
import hashlib
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Final, Literal, TypeAlias, cast

import redis.asyncio as aioredis
from redis import exceptions as redis_errors
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection

from tweetboard.errors import StoreError, StoreRefused, StoreUnavailable
from tweetboard.pool import connection_pool

Argument: TypeAlias = str | bytes | int | float
Reply: TypeAlias = object

COMMAND_TIMEOUT_S: Final = 3.0
"""No answer for this long counts as unavailable: longer than any script here takes, shorter than a person waits."""

HURRIED_TIMEOUT_S: Final = 1.0
"""While stopping: a connection that leads nowhere is given up in time to bring what is left over another."""

BACKOFF_S: Final = (0.05, 1.0)
"""First and longest pause between two attempts to reach Redis; it doubles in between."""

AGAIN_S: Final = 5.0
"""Who waits again so soon after a wait has ended begins with a pause."""

PROBE_MS: Final = 100

TELL_AGAIN_S: Final = 10.0
"""The same trouble, gone and back, is logged at most this often."""

_PASSING = (
    redis_errors.ConnectionError,  # also BusyLoadingError
    redis_errors.TimeoutError,
    redis_errors.ReadOnlyError,  # a primary that was demoted: the failover ends
    redis_errors.OutOfMemoryError,
    redis_errors.TryAgainError,
    redis_errors.MasterDownError,
    redis_errors.ClusterDownError,
    OSError,
)
_PASSING_CODES = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN")
_WRITE_REFUSALS = ("MISCONF", "NOREPLICAS", "OOM", "READONLY")
"""It answers, and even reads; but for us it is not there."""

_CODES: Final = {redis_errors.OutOfMemoryError: "OOM", redis_errors.ReadOnlyError: "READONLY"}
"""What redis-py takes off, by the class that it makes of it."""

Proof: TypeAlias = Callable[[Reply], bool]
"""Whether a reply proves that something was written, which a script may decide only within Redis."""


def always(_: Reply) -> bool:
    """Take any reply for a proof."""
    return True


def never(_: Reply) -> bool:
    """Take no reply for a proof."""
    return False


_IN_A_SCRIPT: Final = re.compile(r"\.? script: (?:[0-9a-f]{40}, )?on @user_script:\d+\.?$")
"""What Redis says behind an error of where in a script it came from: nothing for whoever runs a daemon."""

_FINAL = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)

_HUNG_UP: Final = {
    "redis": "; does it want TLS (rediss://)?",
    "rediss": "; does it want a certificate of ours, or another one (ssl_certfile)?",
}
"""By the URL's scheme, why a server may hang up on whom it has never answered."""

_HUNG_UP_WORDS: Final = ("reset by peer", "closed by server", "_ALERT_")

_WRITES: Final = {
    "aof_last_write_status": "Redis's last write to its append-only file",
    "aof_last_bgrewrite_status": "Redis's last rewrite of its append-only file",
    "rdb_last_bgsave_status": "Redis's last snapshot",
}

log = logging.getLogger(__name__)


class Script:
    """A Lua script shipped beside the modules, run by its digest.

    `name` is the file's, in the `package`, without `.lua`; `parts` are those of files that stand before it, as one text
    with it.
    """

    def __init__(self, name: str, *, parts: Sequence[str] = (), package: str = __package__) -> None:
        self.name = name
        self.text = "\n".join((files(package) / f"{one}.lua").read_text(encoding="utf-8") for one in (*parts, name))
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class Store:
    """Redis behind one pool; every failure leaves here as a `StoreError`, `CancelledError` as itself.

    `address` is for messages and never holds a password. `available` is what the last command found; a server that
    refuses to write is not, until it has written. `answered_at` is when it last answered, Unix seconds, 0 for never.
    `hung_up_hint` is said of one that has hung up and never answered.
    """

    def __init__(self, client: aioredis.Redis, *, prefix: str = "", address: str = "redis") -> None:
        self._client = client
        self.prefix = prefix
        self.address = address
        self.available = False
        self.trouble = "not reached yet"
        self.round_trips = 0
        self.answered_at = 0.0
        self.hung_up_hint = ""
        self._timeout_s = COMMAND_TIMEOUT_S
        self._under_way = set[asyncio.Timeout]()
        self._refuses_writes = False
        self._down_since: float | None = None
        self._waited_at_s = -math.inf
        self._again_pause_s = 0.0
        self._told: tuple[float, str] = (-math.inf, "")

    def key(self, name: str) -> str:
        """Put the configured prefix before a key's or a channel's name."""
        return self.prefix + name

    async def execute(self, *command: Argument) -> Reply:
        """Run one command.

        Raises `StoreUnavailable` where waiting may mend it (whether the command was carried out is then unknown) and
        `StoreRefused` where it will not.
        """
        return await self._ask(command)

    async def run(self, script: Script, keys: Sequence[str], *arguments: Argument, proof: Proof = always) -> Reply:
        """Run a script over already prefixed `keys`; a server that has forgotten it is taught it again.

        A reply that is a `proof` of something written shows that a server which has refused to write is well again.
        """
        try:
            return await self._ask(("EVALSHA", script.digest, len(keys), *keys, *arguments), proof)
        except redis_errors.NoScriptError:
            return await self._ask(("EVAL", script.text, len(keys), *keys, *arguments), proof)

    def hurry(self) -> None:
        """Give every command, also those under way, `HURRIED_TIMEOUT_S` from here on: a stop has no more to spare."""
        self._timeout_s = HURRIED_TIMEOUT_S
        due_s = asyncio.get_running_loop().time() + HURRIED_TIMEOUT_S
        for scope in self._under_way:
            scope.reschedule(min(scope.when() or due_s, due_s))

    async def _ask(self, command: Sequence[Argument], proof: Proof = never) -> Reply:
        scope = asyncio.timeout(self._timeout_s)
        self._under_way.add(scope)
        try:
            async with scope:
                reply = cast(
                    "Reply",
                    await self._client.execute_command(*command),  # type: ignore[no-untyped-call]
                )
        except redis_errors.NoScriptError:
            raise
        except TimeoutError as error:
            # One connection that leads nowhere is seldom alone: each of the pool's would cost another time limit.
            with contextlib.suppress(redis_errors.RedisError, OSError):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise self._judge(error, command) from error
        except (redis_errors.RedisError, OSError) as error:
            raise self._judge(error, command) from error
        finally:
            self._under_way.discard(scope)
        self.round_trips += 1
        self.answered_at = time.time()
        if not self._refuses_writes or proof(reply):
            self._refuses_writes = False
            self._note(None)
        return reply

    def pubsub(self) -> PubSub:
        """Open a Pub/Sub interface, which holds one of the pool's connections until it is closed."""
        return self._client.pubsub()

    async def wait(self) -> None:
        """Return as soon as Redis answers, and writes where it has refused to; pauses double from 50 ms to 1 s.

        Raises `StoreRefused` where Redis is there but will never serve us, such as for a wrong password.
        """
        pause_s, longest_s = BACKOFF_S
        # A server that answers but refuses to write (full, a replica) brings every writer back here at once.
        again = time.monotonic() - self._waited_at_s < AGAIN_S
        self._again_pause_s = min(max(self._again_pause_s * 2, pause_s), longest_s) if again else 0.0
        if again:
            await asyncio.sleep(self._again_pause_s)
        while True:
            try:
                await self.execute("PING")
                if self._refuses_writes:
                    await self._probe()
            except StoreUnavailable:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, longest_s)
            else:
                self._waited_at_s = time.monotonic()
                return

    async def _probe(self) -> None:
        """Write something that nobody reads, which is gone at once. Raises `StoreUnavailable`."""
        try:
            await self._ask(("SET", self.key("tweetboard:probe"), 1, "PX", PROBE_MS), always)
        except StoreRefused:  # an account that may not: what is written next will tell
            self._refuses_writes = False

    async def version(self) -> str:
        """Read which server this is, such as `valkey 9.1.2`. Raises `StoreError`."""
        await self.execute("PING")  # which every account may ask, as soon as it has been let in
        facts = await self._facts("server")
        name = facts.get("server_name", "redis")
        return f"{name} {facts.get(f'{name}_version', facts.get('redis_version', 'of an unknown version'))}"

    async def cautions(self) -> list[str]:
        """Say what about this server can cost scores: that it may evict them, or writes nothing down.

        Raises `StoreError`; what an account is not permitted to ask is passed over.
        """
        memory, persistence = await self._facts("memory"), await self._facts("persistence")
        found = []
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            found.append(f"maxmemory-policy is {policy}: under pressure Redis deletes scores; set noeviction")
        if not persistence.get("aof_enabled", 1) and await self._takes_no_snapshots():
            found.append("neither appendonly nor save is set: a restart of Redis loses all scores; set appendonly yes")
        return found

    async def failed_writes(self) -> list[str]:
        """Say what this server could not write down when it last tried. Raises `StoreError`."""
        facts = await self._facts("persistence")
        return [
            f"{what} failed, and a restart of Redis would lose what is not written down: its disk, its log?"
            for key, what in _WRITES.items()
            if facts.get(key, "ok") != "ok"
        ]

    async def _takes_no_snapshots(self) -> bool:
        try:
            reply = await self.execute("CONFIG", "GET", "save")
        except StoreRefused:
            return False
        return isinstance(reply, list) and len(reply) == 2 and not reply[1]

    async def _facts(self, section: str) -> dict[str, object]:
        try:
            reply = await self.execute("INFO", section)
        except StoreRefused:
            return {}
        return cast("dict[str, object]", reply) if isinstance(reply, dict) else {}

    async def stage(self, patience_s: float = COMMAND_TIMEOUT_S) -> Literal["away", "loading", "ready"]:
        """Ask once how far a server that starts has come, of one that reads its data seldom at once; never logs."""
        try:
            async with asyncio.timeout(patience_s):
                await self._client.execute_command("PING")  # type: ignore[no-untyped-call]
        except redis_errors.BusyLoadingError:
            return "loading"
        except (redis_errors.RedisError, OSError, TimeoutError):
            return "away"
        return "ready"

    def failed(self, error: Exception, channel: str) -> StoreError:
        """Judge a failure met outside `execute`, on a connection subscribed to a channel, and remember it like any."""
        return self._judge(error, ("SUBSCRIBE", channel))

    def _judge(self, error: Exception, command: Sequence[Argument]) -> StoreError:
        if isinstance(error.__cause__, redis_errors.RedisError):
            error = error.__cause__  # over a Unix socket, redis-py wraps what Redis said while connecting
        # Redis repeats the arguments of a command that it does not know, and with them users' names.
        text = str(error).partition(", with args beginning with")[0] or type(error).__name__
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), "")
        text = _IN_A_SCRIPT.sub("", f"{code} {text}".strip())
        passing = isinstance(error, (*_PASSING, TimeoutError)) or text.partition(" ")[0] in _PASSING_CODES
        if passing and not isinstance(error, _FINAL):
            if isinstance(error, TimeoutError) and not isinstance(error, redis_errors.RedisError):
                text = f"no answer for {self._timeout_s:g} s"
            elif not self.round_trips and any(word in text for word in _HUNG_UP_WORDS):
                text += self.hung_up_hint
            self._refuses_writes |= text.partition(" ")[0] in _WRITE_REFUSALS
            self._note(text)
            return StoreUnavailable(f"Redis at {self.address} is unavailable: {text}")
        if isinstance(error, redis_errors.AuthenticationError):
            text += " The password belongs in TWEETBOARD_REDIS_PASSWORD, or in the credential redis-password"
        return StoreRefused(f"Redis at {self.address} refused {_described(command)}: {text}")

    def _note(self, trouble: str | None) -> None:
        if trouble is None:
            if self._down_since is not None and self._told[0] == self._down_since:
                log.info("redis is back after %.1f s: %s", time.monotonic() - self._down_since, self.address)
            self.available, self.trouble, self._down_since = True, "", None
        else:
            if self._down_since is None:
                self._down_since = now_s = time.monotonic()
                if trouble != self._told[1] or now_s - self._told[0] > TELL_AGAIN_S:
                    self._told = now_s, trouble
                    log.warning("redis is unavailable, waiting for it: %s: %s", self.address, trouble)
            self.available, self.trouble = False, trouble


@asynccontextmanager
async def open_store(url: str, *, connections: int, prefix: str = "", password: str = "") -> AsyncIterator[Store]:
    """Open a pool of at most `connections` connections to `url` (redis://, rediss:// or unix://); nothing is sent yet.

    `password` is used where the URL has none.
    """
    pool = connection_pool(url, connections=connections, connect_timeout_s=COMMAND_TIMEOUT_S, password=password)
    client = aioredis.Redis(connection_pool=pool)
    try:
        store = Store(client, prefix=prefix, address=_address(client))
        store.hung_up_hint = _HUNG_UP.get(url.partition(":")[0], "")
        yield store
    finally:
        try:
            await pool.aclose()
        finally:
            # The pool closes each connection in a task: cancelled before its first turn of the loop, that closes none.
            # Whatever is still open is closed here, where there is no moment for another cancellation.
            await _close([*pool._available_connections, *pool._in_use_connections])  # noqa: SLF001


async def _close(connections: Iterable[AbstractConnection]) -> None:
    """Close connections at once, without waiting for the other side."""
    for connection in list(connections):
        await connection.disconnect(nowait=True)


def _address(client: aioredis.Redis) -> str:
    """Say where Redis is, without its password."""
    where = client.connection_pool.connection_kwargs
    return str(where["path"]) if "path" in where else f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"


def _described(command: Sequence[Argument]) -> str:
    """Name a command and its keys for a message, never its other arguments: those are users' names."""
    verb = str(command[0])
    if verb not in ("EVAL", "EVALSHA"):
        return " ".join(str(part) for part in command[:2])
    count = int(command[2])
    keys = ", ".join(str(key) for key in command[3 : 3 + count])
    script_verb = command[3 + count] if len(command) > 3 + count else ""
    return f"{script_verb!s} on {keys}"
