"""What stands between a daemon and its Redis: a client like redis-py's, and everything that can go wrong on the way.

What lives here: the fate of each command and message, restarts, cut connections. What must not: when which trouble
comes, and what has to hold (model.py).
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import accumulate
from typing import Any, Final, Protocol, TypeAlias, cast

import msgspec
from redis import exceptions as redis_errors
from redis.asyncio import Redis as AsyncRedis

from model_loop import Process, VirtualLoop
from model_redis import Redis, Reply, State, Word
from tweetboard.channel import decode
from tweetboard.store import Store

OUTSIDE = Context()
"""The context of steps that belong to no process: what is on the wire or inside Redis."""

Heard = list[Any] | Exception


Weather: TypeAlias = dict[str, float]
"""How likely each fate is in this run, as weights; all that is missing is 0, but "fine" is always 100.

For commands: "slow" arrives late, "lost" never arrives, "unanswered" is carried out and the answer lost, "wandering"
fails now and is carried out later, "stalled" arrives about when its sender gives up; the last two befall scripts only,
and late commands like to come when something happens. For messages: "missed", "repeated", "overtaken".
"""

FINE: Final = 100.0
READS: Final = ("slow", "lost", "unanswered")
SCRIPTS: Final = (*READS, "wandering", "stalled")
MESSAGES: Final = ("missed", "repeated", "overtaken")


class Dice:
    """Draws one of some fates, or "fine", by the weights of the weather."""

    def __init__(self, rng: random.Random, weather: Weather, fates: Sequence[str]) -> None:
        self._rng = rng
        self._fates = ("fine", *fates)
        self._bounds = [*accumulate([FINE, *(weather.get(fate, 0.0) for fate in fates)])]

    def roll(self) -> str:
        """Draw a fate."""
        return self._rng.choices(self._fates, cum_weights=self._bounds)[0]


class Command(msgspec.Struct, eq=False):
    """One command on its way; `answer` is where its sender waits, None where nobody does."""

    process: Process
    words: tuple[Word, ...]
    answer: asyncio.Future[Reply]
    fate: str
    epoch: int
    wanders: bool = False

    @property
    def batch(self) -> tuple[str, int] | None:
        """What an append or apply is about: who sends it, and the first batch in it."""
        if self.words[0] not in ("EVAL", "EVALSHA"):
            return None
        verb, *arguments = self.words[3 + int(self.words[2]) :]
        return (str(arguments[1]), int(arguments[2])) if verb in ("append", "apply") else None


class Watcher(Protocol):
    """Who is told what happens on the network."""

    def executed(self, command: Command, reply: Reply) -> None:
        """Note that Redis has carried a command out."""

    def wanders(self) -> None:
        """Note that a command's sender will be told that it failed, and that it will be carried out later."""

    def happened(self, *words: object) -> None:
        """Note something else that belongs into the trace."""


class Network:
    """One Redis and the connections of all processes to it."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, weather: Weather, watcher: Watcher) -> None:
        self.redis = Redis(loop.time, self._publish)
        self.counts = Counter[str]()
        self.restarted_at = 0.0
        self._loop = loop
        self._rng = rng
        self._watcher = watcher
        self.change(weather)
        self._down = False
        self._unreachable = 0  # processes
        self._epoch = 0  # of connections: a restart cuts them all
        self._waiting: dict[Command, None] = {}  # for an answer
        self._wandering: dict[Command, None] = {}  # given up by its sender, perhaps, and not yet carried out
        self._ears: dict[Ear, None] = {}
        self._late: dict[Late, None] = {}

    def change(self, weather: Weather) -> None:
        """Let the weather change."""
        self._reads, self._scripts, self._messages = (
            Dice(self._rng, weather, fates) for fates in (READS, SCRIPTS, MESSAGES)
        )

    @property
    def settled(self) -> bool:
        """Whether everything is where it belongs: nothing on the way, Redis there, everybody able to reach it."""
        return not (self._down or self._wandering or self._unreachable)

    def store(self, process: Process) -> Store:
        """Make the project's own store over a client of this network."""
        return Store(cast("AsyncRedis", Client(self, process)))

    def at(self, delay_s: float, act: Callable[..., object], *arguments: object) -> None:
        """Do something later that belongs to no process."""
        self._loop.call_later(delay_s, act, *arguments, context=OUTSIDE)

    def latency(self) -> float:
        """Draw the time that one way takes."""
        return self._rng.uniform(0.0005, 0.01)

    # Commands

    def send(self, process: Process, words: tuple[Word, ...]) -> asyncio.Future[Reply]:
        """Put a command on its way; the future is where the answer will come, or not."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        command = Command(process, words, answer, self._fate(words), self._epoch)
        if self._down or process.unreachable or process.dead:
            if self._rng.random() < 0.7 or process.dead:
                self.at(self.latency(), self._fail, command, "connection refused")
            return answer  # otherwise into a black hole, until the sender gives up
        self._waiting[command] = None
        match command.fate:
            case "lost":
                self.at(self.latency(), self._fail, command, "connection lost")
            case "wandering":
                self.at(self.latency(), self._fail, command, "connection lost")
                self._wander(command, self._rng.uniform(0, 8))
            case "stalled":
                self._wander(command, self._rng.uniform(2.5, 5.0))
            case fate:
                self.at(self._rng.uniform(0.01, 0.8) if fate == "slow" else self.latency(), self._arrive, command)
        return answer

    def _wander(self, command: Command, delay_s: float) -> None:
        command.wanders = True
        self._wandering[command] = None
        self._watcher.wanders()
        self.at(delay_s, self._come_late, command)

    def _come_late(self, command: Command) -> None:
        if self._down:
            self.at(self._rng.uniform(0.02, 0.1), self._come_late, command)  # as if a proxy held it
        elif command in self._wandering:
            del self._wandering[command]
            self._arrive(command)

    def stir(self, chance: float, within_s: float) -> None:
        """Let late commands come soon, each with this chance."""
        for command in self._wandering:
            if command.fate == "wandering" and self._rng.random() < chance:
                self.at(self._rng.uniform(0, within_s), self._come_late, command)

    def _overtaken(self, command: Command) -> None:
        """Let late commands about the same batch come just before this one, rather those of another session."""
        for rival in [*self._wandering]:
            if command.batch is None or rival.batch is None or rival.fate != "wandering":
                continue
            chance = 0.12 if rival.batch[0] == command.batch[0] else 0.7
            if rival.batch[1] == command.batch[1] and self._rng.random() < chance:
                self._come_late(rival)

    def _fate(self, words: tuple[Word, ...]) -> str:
        if words[0] == "PING":
            return "fine"
        # What time does to a board is the same whoever does it, and when: it takes no evil from what counts names.
        counts = words[0] in ("EVAL", "EVALSHA") and words[3 + int(words[2])] != "age"
        return (self._scripts if counts else self._reads).roll()

    def _arrive(self, command: Command) -> None:
        """Carry a command out, if Redis is there and the connection still the same; a wandering one needs none."""
        if self._down or not (command.wanders or (command.epoch == self._epoch and not command.process.unreachable)):
            self._fail(command, "connection lost")
            return
        if not command.wanders:
            self._overtaken(command)
        reply: Reply
        try:
            reply = self.redis.execute(*command.words)
        except redis_errors.ResponseError as error:
            reply = error
        self._watcher.executed(command, reply)
        if command.fate == "unanswered":
            self.at(self.latency(), self._fail, command, "connection lost")
        else:
            self.at(self.latency(), self._answer, command, reply)

    def _answer(self, command: Command, reply: Reply) -> None:
        if command.process.unreachable:
            self.at(0.05, self._answer, command, reply)  # TCP sends it again when it can
        elif not command.answer.done():
            self._waiting.pop(command, None)
            if isinstance(reply, Exception):
                command.answer.set_exception(reply)
            else:
                command.answer.set_result(reply)

    def _fail(self, command: Command, reason: str) -> None:
        self._waiting.pop(command, None)
        if not command.answer.done():
            command.answer.set_exception(redis_errors.ConnectionError(reason))

    # Pub/Sub

    def listen(self, ear: "Ear") -> None:
        """Confirm a subscription, or break it where Redis is not there."""
        if ear.closed:
            return
        if self._down or ear.process.unreachable:
            ear.hear(redis_errors.ConnectionError("connection refused"))
        else:
            self._ears[ear] = None
            self._deliver(ear, [b"subscribe", ear.channel, 1])

    def forget(self, ear: "Ear") -> None:
        """End a subscription."""
        self._ears.pop(ear, None)

    def drop(self, ear: "Ear") -> None:
        """Cut a subscription's connection; the client says so, or connects again and has only the confirmation."""
        self.forget(ear)
        ear.wire += 1
        if self._rng.random() < 0.5:
            ear.hear(redis_errors.ConnectionError("connection lost"))
        else:
            self.at(self._rng.uniform(0.01, 0.5), self._listen_again, ear)

    def drop_one(self) -> None:
        """Cut one subscription's connection."""
        if self._ears:
            self.drop(self._rng.choice(list(self._ears)))

    def _listen_again(self, ear: "Ear") -> None:
        if (self._down or ear.process.unreachable) and not ear.closed:
            self.at(0.1, self._listen_again, ear)
        else:
            self.listen(ear)

    def _publish(self, channel: bytes, data: bytes) -> int:
        ears = [ear for ear in self._ears if ear.channel == channel]
        for late in [*self._late]:  # one about the same batch likes to come just before
            if late.ear.channel == channel and late.seq == decode(data).seq and self._rng.random() < 0.7:
                self._deliver_late(late)
        for ear in ears:
            fate = self._messages.roll()
            self.counts[f"message {fate}"] += 1
            message = [b"message", channel, data]
            match fate:
                case "missed":
                    continue
                case "overtaken":
                    self._delay(ear, message)
                case "repeated":
                    self._delay(ear, message)
                    self._deliver(ear, message)
                case _:
                    self._deliver(ear, message)
        return len(ears)

    def _deliver(self, ear: "Ear", message: list[Any]) -> None:
        """Put a message on the wire behind those that are on it already."""
        ear.last_at = max(ear.last_at, self._loop.time() + self.latency())
        self.at(ear.last_at - self._loop.time(), self._deliver_from, ear.wire, ear, message)

    def _delay(self, ear: "Ear", message: list[Any]) -> None:
        late = Late(ear, message, decode(message[2]).seq)
        self._late[late] = None
        self.at(self._rng.uniform(0.02, 3), self._deliver_late, late)

    def _deliver_late(self, late: "Late") -> None:
        """Let a message come behind later ones, even from before a restart, to whoever listens there by now."""
        if late in self._late:
            del self._late[late]
            for ear in self._ears:
                if ear.process is late.ear.process and ear.channel == late.ear.channel:
                    self._deliver_from(ear.wire, ear, late.message)

    def _deliver_from(self, wire: int, ear: "Ear", message: list[Any]) -> None:
        if ear.process.unreachable:
            self.at(0.05, self._deliver_from, wire, ear, message)
        elif wire == ear.wire:
            ear.hear(message)

    # Trouble

    def restart(self, loss_s: float, down_s: float) -> None:
        """Let Redis crash and come back without its last seconds; every connection is cut."""
        self._watcher.happened("redis crashes, and is back in", down_s, "s as it was", loss_s, "s ago")
        self._down = True
        self._epoch += 1
        self.restarted_at = self._loop.time() + down_s
        before = self.redis.state
        self.redis.restart(loss_s)
        if self._rng.random() < 0.3:
            self.redis.forget_scripts()
        self.counts["rollback"] += self.redis.state != before
        self.counts["rollback past a begin"] += told(self.redis.state, b"owner") != told(before, b"owner")
        self.counts["rollback past a batch"] += told(self.redis.state, b"seq") != told(before, b"seq")
        for command in [*self._waiting]:
            self.at(self.latency(), self._fail, command, "connection lost")
        for ear in [*self._ears]:
            self.drop(ear)
        self.at(down_s, self._up)

    def wipe(self) -> None:
        """Let Redis crash and come back empty."""
        self.restart(0, 0.1)
        self._watcher.happened("redis has lost everything")
        self.redis.wipe()
        self.counts["wipe"] += 1

    def _up(self) -> None:
        self._down = False

    def cut(self, process: Process, seconds: float) -> None:
        """Let a process not reach Redis for a while; its connections outlive it, or break."""
        self._watcher.happened("cut off for", seconds, "s:", process.name)
        process.unreachable = True
        self._unreachable += 1
        if self._rng.random() < 0.5:
            for command in [one for one in self._waiting if one.process is process and not one.wanders]:
                self.at(self.latency(), self._fail, command, "connection lost")
            for ear in [ear for ear in self._ears if ear.process is process]:
                self.drop(ear)
        self.at(seconds, self._reach, process)

    def _reach(self, process: Process) -> None:
        process.unreachable = False
        self._unreachable -= 1


class Client:
    """What the store sees of redis-py: commands and Pub/Sub."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def execute_command(self, *words: Word) -> Reply:
        return await self._network.send(self._process, words)

    @property
    def connection_pool(self) -> "Client":
        return self

    async def disconnect(self, *, inuse_connections: bool) -> None:
        """Close what nobody uses: here every command has a connection of its own."""
        assert not inuse_connections

    def pubsub(self) -> "Ear":
        return Ear(self._network, self._process)


class Ear:
    """What a subscription sees of redis-py's PubSub, one channel each."""

    def __init__(self, network: Network, process: Process) -> None:
        self.process = process
        self.channel = b""
        self.closed = False
        self.last_at = 0.0  # when the last message will be here: what is sent later comes later
        self.wire = 0  # the connection's number: what was sent on an earlier one never comes
        self._network = network
        self._heard: deque[Heard] = deque()
        self._wake = asyncio.Event()

    async def subscribe(self, channel: str) -> None:
        self.channel = channel.encode()
        self._network.at(self._network.latency(), self._network.listen, self)
        await asyncio.sleep(0)

    async def parse_response(self) -> Heard:
        while not self._heard:
            self._wake.clear()
            await self._wake.wait()
        heard = self._heard.popleft()
        if isinstance(heard, Exception):
            raise heard
        return heard

    async def aclose(self) -> None:
        self.closed = True
        self._network.forget(self)

    def hear(self, heard: Heard) -> None:
        """Take in what came over the wire, or how the connection ended."""
        self._heard.append(heard)
        self._wake.set()


class Late(msgspec.Struct, eq=False):
    """A message that others overtake."""

    ear: Ear
    message: list[Any]
    seq: int


def told(state: State, field: bytes) -> bytes | None:
    """Read a field of the stream's hash."""
    streams = [table for key, table in state.hashes.items() if key.startswith(b"tweetboard:")]
    return streams[0].get(field) if streams else None
