"""A simulation of DESIGN section 3 that runs the project's own code through weather no test bed could order.

One seed is one run: daemons (whole pipes: publisher, journal, subscribers, boards, leases) on an upstream and a Redis
of which everything may go wrong, in virtual time. After each change of Redis the invariant is checked, and at the end,
when the weather has calmed, that nothing is missing. The same seed takes the same course, however often it is run.

    python tests/model.py 1234                 # one seed again, with its trace
    python tests/model.py 1234 journal 0       # and without the first guard of journal.lua
"""

import asyncio
import contextlib
import logging
import random
import sys
import traceback
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any, ClassVar, Final
from unittest import mock

import msgspec

from model_loop import PROCESS, Clock, Deadlock, Process, VirtualLoop
from model_network import OUTSIDE, Command, Network, Weather
from model_redis import Reply, State, without
from tweetboard import journal, lease, outbox, publisher, store, subscriber
from tweetboard.config import Settings
from tweetboard.daemon import Pipe
from tweetboard.errors import NotDrained, SessionEnded
from tweetboard.framing import Block
from tweetboard.journal import Session
from tweetboard.outbox import Outbox
from tweetboard.posts import Post
from tweetboard.store import Script

STREAM: Final = "model"
STREAM_KEY: Final = b"tweetboard:model"
BOARDS: Final = {"usernames": b"username_scoreboard", "hashtags": b"hashtags_scoreboard"}
DRAIN_S: Final = 60.0
"""With everything well again, all must be on the boards by then: leases end, timeouts pass, a full catch-up."""

Scores = dict[bytes, int]


class Broken(AssertionError):
    """Something that must hold does not."""


class Plan(msgspec.Struct, frozen=True):
    """What one run is made of, drawn from its seed.

    `upstream` goes on from any position ("rewinds"), repeats what it sent with the same ids ("refills"), or does
    neither ("live"). `trouble` has the weights of what befalls daemons and Redis, `pause_s` the mean time between two
    such things, `coupling` how likely one trouble brings another: a begin is forgotten ("relapse"), something happens
    before a late command comes ("chase"). `bounds` are constants of the project, made small.
    """

    upstream: str
    daemons: int
    posts: int
    storm_s: float
    pause_s: float
    weather: Weather
    trouble: dict[str, float]
    coupling: dict[str, float]
    bounds: dict[str, float]


class Entry(msgspec.Struct, frozen=True):
    """What the test knows of a batch in the journal: where upstream it ends, and what batches 1 to it add up to."""

    position: bytes
    posts: frozenset[int]
    scores: dict[str, Scores]


class Reading(msgspec.Struct):
    """One session's reading of the source: what was handed over, and whether it is still open."""

    process: Process
    posts: list[int] = []
    is_open: bool = True


def plan(seed: int) -> Plan:
    """Draw a run: each kind of fault is absent, usual or frequent, so that runs differ in kind, not only in luck."""
    rng = random.Random(f"plan {seed}")

    def some(usual: float, *levels: float) -> float:
        return usual * rng.choice(levels or (0, 0, 1, 1, 3))

    weather = {
        "slow": some(4),
        "lost": some(4),
        "unanswered": some(5),
        "wandering": some(12, 0, 1, 1, 3),
        "stalled": some(1),
        "missed": some(5),
        "repeated": some(5),
        "overtaken": some(5),
    }
    trouble = {
        "power cut": some(3),
        "crash": some(3),
        "stop": some(1),
        "pause": some(2),
        "rollback": some(3),
        "outage": some(1),
        "wipe": some(1, 0, 0, 0, 0, 1),
        "cut": some(1),
        "drop": some(2),
        "none": 0.1,
    }
    bounds: dict[str, float] = {
        "MAX_BATCH_NAMES": rng.choice((2, 8, 16_384)),
        "MAX_APPLY_NAMES": rng.choice((4, 16, 16_384)),
        "CATCH_UP_BATCHES": rng.choice((1, 3, 16)),
        "MAX_HEARD_BYTES": rng.choice((300, 16 << 20, 16 << 20)),
        "MAX_UNAPPLIED_BYTES": rng.choice((200, 1000, 8 << 20)),
    }
    if rng.random() < 0.5:
        bounds |= {"LIFE_MS": 600, "RENEW_S": 0.2}  # others take over sooner, and slow ones lose it
    if rng.random() < 0.4:
        bounds |= rng.choice(({"REMEMBERED_S": rng.choice((0.0, 0.5))}, {"MAX_REMEMBERED_BYTES": rng.choice((1, 400))}))
    return Plan(
        upstream=rng.choice(("rewinds", "rewinds", "rewinds", "refills", "live")),
        daemons=rng.choice((1, 2)),
        posts=rng.randint(40, 120),
        storm_s=rng.uniform(3, 10),
        pause_s=rng.choice((0.2, 0.5, 1.5)),
        weather=weather,
        trouble=trouble,
        coupling={"relapse": rng.choice((0, 0.1, 0.5)), "chase": rng.choice((0, 0.3, 1))},
        bounds=bounds,
    )


class Upstream:
    """What there is to be read, and when it came to be."""

    def __init__(self, plan: Plan, rng: random.Random) -> None:
        self.kind = plan.upstream
        self.posts: list[Post] = []
        self.times_s: list[float] = []
        self.rng = rng
        gaps_s = [rng.choice((0.0, rng.expovariate(20), rng.expovariate(1))) for _ in range(plan.posts)]
        now_s = 1000.0
        for number, gap_s in enumerate(gaps_s):
            now_s += gap_s * plan.storm_s / sum(gaps_s)
            tags = {f"Tag{rng.randrange(5)}" for _ in range(rng.randrange(3))}
            own = () if self.kind == "rewinds" else (f"p{number}",)
            post_id = str(number) if self.kind == "refills" else ""
            self.posts.append(Post(post_id, 0, f"User{rng.randrange(6)}", (*sorted(tags), *own)))
            self.times_s.append(now_s)
        self.totals = [empty()]
        for post in self.posts:
            self.totals.append(added(self.totals[-1], [post]))

    def start(self, position: str, now_s: float) -> int:
        """Say with which post a new connection begins."""
        match self.kind:
            case "rewinds":
                return int(position or 0)
            case "refills":
                return 0
            case _:
                return self.reached(now_s)

    def reached(self, now_s: float) -> int:
        """Count the posts that there are by now."""
        return sum(time_s <= now_s for time_s in self.times_s)

    async def blocks(self, reading: Reading, position: str) -> AsyncGenerator[tuple[Block, str], None]:
        """Yield posts as they come, in blocks of any size; at times the connection ends, and another one follows."""
        loop = asyncio.get_running_loop()
        at = self.start(position, loop.time())
        block = self.rng.choice((1, 3, 10))
        try:
            while at < len(self.posts):
                wait_s = self.times_s[at] - loop.time()
                if wait_s >= 0:
                    await asyncio.sleep(wait_s + self.rng.uniform(0.0001, 0.01))
                if self.rng.random() < 0.02:
                    await asyncio.sleep(self.rng.uniform(0, 1))
                    at = self.start(str(at), loop.time())
                    continue
                if self.rng.random() < 0.3:
                    await asyncio.sleep(self.rng.uniform(0, 0.05))
                end = min(at + self.rng.randint(1, block), max(self.reached(loop.time()), at + 1))
                reading.posts.extend(range(at, end))
                lines = b" ".join(b"%d" % number for number in range(at, end))
                at = end
                yield Block(lines=lines), str(at) if self.kind == "rewinds" else ""
            await asyncio.Event().wait()
        finally:
            reading.is_open = False

    def decode(self, block: Block) -> list[Post]:
        """Turn a block's records into posts."""
        return [self.posts[int(number)] for number in block.lines.split()]


class Daemon:
    """One instance: started, killed, stopped, started again; each life is a process of its own."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._name = name
        self._lives = 0
        self.process = Process("")
        self.busy = False  # something is being done to it already
        self._life: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin a life."""
        self._lives += 1
        self.process = Process(f"{self._name}{self._lives}")
        self._stopping = asyncio.Event()
        context = copy_context()
        context.run(PROCESS.set, self.process)
        self._life = self._world.loop.create_task(self._live(self.process, self._stopping), context=context)
        self._world.happened("starts:", self.process.name)

    async def _live(self, process: Process, stopping: asyncio.Event) -> None:
        world = self._world
        upstream = world.upstream
        keep_ids_s = 600 if upstream.kind == "refills" else 0
        pipe = Pipe(world.network.store(process), Settings(), stream=STREAM, keep_ids_s=keep_ids_s)
        pipe.lease.holder = pipe.bare.holder = process.name
        try:
            async with pipe.subscribed() as group:
                publishing = group.create_task(pipe.publisher.run(Source(world, process), upstream, stopping))
                await pipe.drained(publishing, stopping)
        finally:
            world.counts["catch-up"] += sum(one.heard.catch_ups for one in pipe.subscribers.values())
            world.counts["batch sent again"] += pipe.publisher.published.sent_again

    async def kill(self) -> None:
        """End it as kill -9 does: nothing of what it does on its way out reaches anybody."""
        if self._life is None:
            return
        self._world.happened("is killed:", self.process.name)
        self.process.dead = True
        self._world.loop.cont(self.process)
        self._life.cancel()
        done, _ = await asyncio.wait([self._life], timeout=10)
        if not done:
            raise Broken(f"{self.process.name} did not end 10 s after it was cancelled")
        with contextlib.suppress(asyncio.CancelledError):
            self._life.result()
        self._life = None

    async def stop(self) -> bool:
        """Stop it as SIGTERM does; False where it says that it left something behind."""
        if self._life is None:
            return True
        self._world.happened("is stopped:", self.process.name)
        stopped_at = self._world.loop.time()
        reading = next((one for one in self._world.readings if one.is_open and one.process is self.process), None)
        self._stopping.set()
        done, _ = await asyncio.wait([self._life], timeout=20)
        if not done:
            raise Broken(f"{self.process.name} did not end 20 s after its stop")
        life, self._life = self._life, None
        clean = True
        try:
            life.result()
        except* NotDrained:
            clean = False
        self._world.count("stopped clean" if clean else "stopped with something left")
        if clean and reading is not None:
            self._world.check_stop(reading, stopped_at)
        return clean

    async def pause(self, seconds: float) -> None:
        """Stop its clock as SIGSTOP does."""
        self._world.happened("is paused for", seconds, "s:", self.process.name)
        self.process.stopped = True
        await asyncio.sleep(seconds)
        self._world.loop.cont(self.process)


class WatchedOutbox(Outbox):
    """The project's outbox, in a run that knows how far back its memory must reach."""

    world: ClassVar["World"]

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # the project's business
        self._begun_at = self.acknowledged

    def go_back_to(self, seq: int) -> None:
        """Go back as the project does, but never say that memory is too short for what it must remember."""
        self.world.count("went back" if seq < self.acknowledged else "went on")
        try:
            super().go_back_to(seq)
        except SessionEnded as error:
            self.world.count("out of reach")
            cut_short = {"REMEMBERED_S", "MAX_REMEMBERED_BYTES"} & self.world.plan.bounds.keys()
            if seq >= self._begun_at and not cut_short and not self.world.counts["wipe"]:
                raise Broken(f"{error}, but this session began at batch {self._begun_at}") from error
            raise


class Source:
    """The upstream as one process reads it."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process

    def blocks(self, position: str) -> AsyncGenerator[tuple[Block, str], None]:
        """Open a reading: each session has one."""
        self._world.count("session")
        reading = Reading(self._process)
        self._world.readings.append(reading)
        return self._world.upstream.blocks(reading, position)


class World:
    """Everything of one run. `missing` names a guard to leave out: a script and the guard's number."""

    def __init__(self, seed: int, missing: tuple[str, int] | None = None) -> None:
        self.seed = seed
        self.plan = plan(seed)
        self.loop = VirtualLoop()
        self.trace = deque[tuple[float, str, tuple[object, ...]]](maxlen=250)
        self.counts = Counter[str]()
        self.readings: list[Reading] = []
        self._rng = random.Random(seed)
        self.upstream = Upstream(self.plan, self._rng)
        self.network = Network(self.loop, self._rng, self.plan.weather, self)
        self.network.counts = self.counts
        self._storming = True
        self._troubles = set[asyncio.Task[None]]()
        self._daemons = [Daemon(self, name) for name in "AB"[: self.plan.daemons]]
        if missing is not None:
            text = Script(missing[0]).text
            self.network.redis.substitutes = {text: without(text, missing[1])}

    @property
    def running(self) -> str:
        """The name of the process that runs now, "" outside of all."""
        process = PROCESS.get()
        return process.name if process else ""

    def count(self, what: str) -> None:
        """Count something, for the test that the tests still test."""
        self.counts[what] += 1

    def happened(self, *words: object) -> None:
        """Write a line of the trace."""
        self.trace.append((self.loop.time(), self.running, words))

    def end(self) -> None:
        """Let everything go on that stands still, so that it can be cancelled."""
        for daemon in self._daemons:
            self.loop.cont(daemon.process)

    # What has to hold

    def executed(self, command: Command, reply: Reply) -> None:
        """Note what a command did, and check that everything holds after it."""
        late = command.answer.done()
        words = command.words
        self.trace.append((self.loop.time(), command.process.name, ("late" if late else "", words, "->", reply)))
        if words[0] not in ("EVAL", "EVALSHA"):
            return
        arguments = words[3 + int(words[2]) :]
        verb = str(arguments[0])
        if isinstance(reply, Exception):
            outcome = "unknown" if "NOSCRIPT" in str(reply) or "No matching" in str(reply) else "error"
        else:
            outcome = reply[0].decode() if verb in ("append", "apply") else "done"
        self.count(f"{verb} {outcome}{' late' * late}")
        state = self.network.redis.state
        if (verb, outcome) == ("append", "appended"):
            self.network.redis.note({**state.ledger, int(arguments[3]): self._entry(state, arguments)})
        elif (verb, outcome) == ("begin", "done"):
            if reply[0] == 0:
                self.network.redis.note({})
            self._perhaps("relapse", "rollback", self._rng.uniform(0.01, 1.5))
            if reply[4]:
                raise Broken(f"begin found {reply[4]} batches missing from the journal")
        self.check(state)
        if verb in ("append", "begin", "apply"):
            self.network.stir(0.03, 0.02)

    def _entry(self, state: State, arguments: Sequence[Any]) -> Entry:
        """Work out what the boards must be after this batch, from upstream's posts alone."""
        seq, position = int(arguments[3]), str(arguments[4])
        if self.upstream.kind == "rewinds":
            end = int(position)
            return Entry(position.encode(), frozenset(range(end)), self.upstream.totals[end])
        before = entry_of(state, seq - 1)
        if before is None:
            raise Broken(f"batch {seq} was appended, and there is no batch {seq - 1}")
        names = msgspec.json.decode(arguments[arguments.index("hashtags") + 1])["names"]
        numbers = [int(name[1:]) for name in names if name.startswith("p")]
        if len({*numbers} - before.posts) < len(numbers):
            raise Broken(f"batch {seq} has posts that were in the journal already")
        posts = [self.upstream.posts[number] for number in numbers]
        return Entry(b"", before.posts | {*numbers}, added(before.scores, posts))

    def check(self, state: State) -> None:
        """Check the invariant: a board equals the posts of batches 1..applied, and position is where batch seq ends."""
        stream = state.hashes.get(STREAM_KEY, {})
        seq = int(stream.get(b"seq", b"0"))
        last = entry_of(state, seq)
        if last is None or stream.get(b"position", b"") != last.position:
            raise Broken(f"position {stream.get(b'position')!r} is not where batch {seq} ends")
        for name, key in BOARDS.items():
            applied = applied_by(state, key)
            entry = entry_of(state, applied)
            if entry is None or applied > seq:
                raise Broken(f"{name} has applied batch {applied}, the journal ends at {seq}")
            scores = state.zsets.get(key, {})
            if scores != entry.scores[name]:
                raise Broken(f"{name} after batch {applied}: {differences(scores, entry.scores[name])}")

    def _on_boards(self) -> frozenset[int]:
        """Read which posts are on both boards now."""
        state = self.network.redis.state
        entry = entry_of(state, min(applied_by(state, key) for key in BOARDS.values()))
        return frozenset() if entry is None else entry.posts

    def check_stop(self, reading: Reading, stopped_at: float) -> None:
        """Check that who stopped clean has everything it read on the boards, unless Redis went back since."""
        state = self.network.redis.state
        last = entry_of(state, int(state.hashes.get(STREAM_KEY, {}).get(b"seq", b"0")))
        # What was a repeat was in the journal before, and is another session's to apply where this one has ended.
        there = last.posts if last is not None and self.upstream.kind == "refills" else self._on_boards()
        missing = {*reading.posts} - there
        if missing and self.network.restarted_at < stopped_at - 3:
            raise Broken(f"{reading.process.name} stopped clean, but {sorted(missing)} are not on the boards")

    # What happens

    async def run(self) -> None:
        """Live through the storm, then through calm weather until everything is where it belongs."""
        for daemon in self._daemons:
            daemon.start()
            await asyncio.sleep(self._rng.choice((0, self._rng.uniform(0, 2))))
        end = self.loop.time() + self.plan.storm_s
        while (pause_s := self._rng.expovariate(1 / self.plan.pause_s)) < end - self.loop.time():
            await asyncio.sleep(pause_s)
            self._start(self._rng.choices([*self.plan.trouble], [*self.plan.trouble.values()])[0], 0)
        self._storming = False
        while self._troubles:
            await asyncio.wait(self._troubles)
        self.network.change({})
        self.network.stir(1, 2)
        self.happened("calm weather from here on")
        lasting = [reading for reading in self.readings if reading.is_open]
        await self._drained()
        self._check_end(lasting)
        for daemon in self._daemons:
            if not await daemon.stop():
                raise Broken("a stop in calm weather left something behind")
        self.check(self.network.redis.state)

    def wanders(self) -> None:
        """Let something happen, perhaps, before a late command comes."""
        self._perhaps(
            "chase", self._rng.choice(("rollback", "power cut", "power cut", "crash")), self._rng.uniform(0.005, 0.2)
        )

    def _perhaps(self, why: str, kind: str, delay_s: float) -> None:
        """Let one trouble bring another, as likely as the plan says, while the storm lasts."""
        if self._storming and self._rng.random() < self.plan.coupling[why]:
            self.count(why)
            self._start(kind, delay_s)

    def _start(self, kind: str, delay_s: float) -> None:
        task = self.loop.create_task(self._trouble(kind, delay_s), context=OUTSIDE)
        self._troubles.add(task)
        task.add_done_callback(self._ended, context=OUTSIDE)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._troubles.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.loop.call_exception_handler({"message": "a trouble failed", "exception": error})

    async def _trouble(self, kind: str, delay_s: float) -> None:
        """Let one thing go wrong."""
        rng, network = self._rng, self.network
        await asyncio.sleep(delay_s)
        self.count(kind)
        if kind in ("rollback", "power cut"):
            # Most changes come in bursts, so a moment between two of them says more than any moment.
            loss_s = rng.choice([*network.redis.changed_ago(), rng.uniform(0, 2)]) + 0.0001
            network.restart(loss_s, rng.choice((0.02, rng.random())))
        match kind:
            case "outage":
                network.restart(0, rng.uniform(0.5, 5))
            case "wipe":
                network.wipe()
            case "drop":
                network.drop_one()
            case "power cut" | "crash" | "stop" | "pause" | "cut":
                daemon = rng.choice(self._daemons)
                if not daemon.busy:
                    daemon.busy = True
                    await self._trouble_for(daemon, kind)
                    daemon.busy = False

    async def _trouble_for(self, daemon: Daemon, kind: str) -> None:
        rng = self._rng
        match kind:
            case "power cut" | "crash":
                await daemon.kill()
                await asyncio.sleep(rng.choice((0, rng.uniform(0, 3))))
                daemon.start()
            case "stop":
                await daemon.stop()
                await asyncio.sleep(rng.uniform(0, 2))
                daemon.start()
            case "pause":
                await daemon.pause(rng.choice((rng.uniform(0, 1), rng.uniform(3, 7))))
            case _:
                self.network.cut(daemon.process, rng.uniform(0.05, 5))

    async def _drained(self) -> None:
        """Wait until all there is to be read has been read, and all that was read is on the boards."""
        until = self.loop.time() + DRAIN_S
        while self.loop.time() < until:
            await asyncio.sleep(0.2)
            if not self.network.settled or self.loop.time() < self.upstream.times_s[-1] + 2:
                continue
            wanted = {*range(self.plan.posts)}
            if self.upstream.kind == "live":
                wanted = {post for reading in self.readings if reading.is_open for post in reading.posts}
            if self._one_reads() and wanted <= self._on_boards():
                return
        raise Broken(f"not everything is on the boards {DRAIN_S:g} s after the storm")

    def _one_reads(self) -> bool:
        """Say whether just one process reads, and the stream is its own: whoever lost it has noticed."""
        readers = [reading.process.name for reading in self.readings if reading.is_open]
        owner = self.network.redis.state.hashes.get(STREAM_KEY, {}).get(b"owner", b"").decode()
        return readers == [owner.partition("-")[0]]

    def _check_end(self, lasting: list[Reading]) -> None:
        """Check that everything is there: all of upstream, or all that sessions read which never ended."""
        state = self.network.redis.state
        self.check(state)
        if self.upstream.kind != "live":
            for name, key in BOARDS.items():
                if state.zsets.get(key, {}) != self.upstream.totals[-1][name]:
                    raise Broken(f"{name} at the end: {differences(state.zsets[key], self.upstream.totals[-1][name])}")
        for reading in lasting:
            if reading.is_open and not {*reading.posts} <= self._on_boards():
                raise Broken(f"lost in a session that never ended: {sorted({*reading.posts} - self._on_boards())}")


class TraceHandler(logging.Handler):
    """Puts what the project logs into the trace."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.happened(record.levelname.lower() + ":", record.getMessage())


class Outcome(msgspec.Struct, frozen=True):
    """How a run went: what occurred how often, and the failure with the last events, "" where all held."""

    seed: int
    counts: dict[str, int]
    failure: str


def simulate(seed: int, missing: tuple[str, int] | None = None) -> Outcome:
    """Run one seed; `missing` names a guard to leave out."""
    world = World(seed, missing)
    with substituted(world):
        main = world.loop.create_task(world.run())
        try:
            world.loop.run_until_complete(main)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this seed
            failure = report(world, world.loop.failure or error, missing)
        else:
            failure = ""
        finally:
            unwind(world)
    return Outcome(seed, dict(world.counts), failure)


@contextlib.contextmanager
def substituted(world: World) -> Iterator[None]:
    """Give the project's modules virtual time, countable tokens, this run's bounds and a log that goes to the trace."""
    clock = Clock(world.loop)
    again = publisher.Publisher._begin_again  # noqa: SLF001 - only to count how often
    tokens = iter(range(1, sys.maxsize))

    async def begin_again(self: publisher.Publisher, session: Session, owner: str) -> int:
        world.happened("takes its session up again")
        seq = await again(self, session, owner)
        world.count("begun again")
        return seq

    log = logging.getLogger("tweetboard")
    handler = TraceHandler(world)
    with contextlib.ExitStack() as stack:
        WatchedOutbox.world = world
        stack.enter_context(mock.patch.object(publisher, "Outbox", WatchedOutbox))
        for module in (publisher, journal, store):
            stack.enter_context(mock.patch.object(module, "time", clock))
        secrets = SimpleNamespace(token_hex=lambda _: f"{world.running}-{next(tokens)}")
        stack.enter_context(mock.patch.object(journal, "secrets", secrets))
        stack.enter_context(mock.patch.object(publisher.Publisher, "_begin_again", begin_again))
        for module in (outbox, subscriber, lease, publisher):
            for name in vars(module).keys() & world.plan.bounds.keys():
                stack.enter_context(mock.patch.object(module, name, world.plan.bounds[name]))
        stack.enter_context(mock.patch.object(log, "propagate", new=False))
        log.addHandler(handler)
        stack.callback(log.removeHandler, handler)
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.INFO)
        yield


def unwind(world: World) -> None:
    """Cancel whatever a failed run left, and close the loop."""
    loop = world.loop
    loop.failure = loop.failure or Deadlock()  # one is enough: what goes wrong from here on does not matter
    world.end()
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(_gone(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _gone(tasks: set[asyncio.Task[Any]]) -> None:
    done, left = await asyncio.wait(tasks, timeout=10)
    assert not left, f"they do not end when cancelled: {left}"
    for task in done:
        if not task.cancelled():
            task.exception()  # whatever it was, the run has failed already


def report(world: World, error: BaseException, missing: tuple[str, int] | None) -> str:
    """Say what failed, with the way to see it again and the last events."""
    command = " ".join(map(str, ("python tests/model.py", world.seed, *(missing or ()))))
    lines = [f"{type(error).__name__}: {error}", f"again: {command}", f"{world.plan}", *map(told, world.trace)]
    if not isinstance(error, Broken):
        lines.append("".join(traceback.format_exception(error)))
    return "\n".join([*lines, lines[0]])


def told(event: tuple[float, str, tuple[object, ...]]) -> str:
    """Make a line of the trace of an event; commands show their verb and what follows their keys."""
    time_s, process, words = event
    shown = [f"{word:.3f}" if isinstance(word, float) else short(word) for word in words]
    return f"{time_s - 1000:9.4f} {process:4} {' '.join(shown)}"


def short(word: object) -> str:
    """Shorten a command to what matters: no digest, no keys."""
    if isinstance(word, tuple) and word and word[0] in ("EVAL", "EVALSHA"):
        word = word[3 + int(word[2]) :]
    text = " ".join(map(str, word)) if isinstance(word, tuple) else str(word)
    return text if len(text) < 300 else text[:300] + "..."


def empty() -> dict[str, Scores]:
    """Make boards without a name."""
    return {name: {} for name in BOARDS}


def added(before: dict[str, Scores], posts: Sequence[Post]) -> dict[str, Scores]:
    """Count posts onto boards, as a person would."""
    after = {name: dict(scores) for name, scores in before.items()}
    for post in posts:
        names = {"usernames": [post.author], "hashtags": [tag.lower() for tag in post.hashtags]}
        for board, board_names in names.items():
            for name in board_names:
                after[board][name.encode()] = after[board].get(name.encode(), 0) + 1
    return after


def applied_by(state: State, key: bytes) -> int:
    """Read which batch a board has applied last."""
    return int(state.hashes.get(key + b":applied", {}).get(STREAM.encode(), b"0"))


def entry_of(state: State, seq: int) -> Entry | None:
    """Look a batch up; before the first there is nothing."""
    entry: Entry | None = state.ledger.get(seq)
    return Entry(b"", frozenset(), empty()) if seq == 0 else entry


def differences(found: dict[bytes, float], wanted: Scores) -> str:
    """Say member by member what is wrong on a board."""
    members = sorted({*found, *wanted})
    wrong = [name for name in members if found.get(name, 0) != wanted.get(name, 0)]
    return ", ".join(f"{name.decode()} {found.get(name, 0):g} instead of {wanted.get(name, 0)}" for name in wrong)


if __name__ == "__main__":
    words = sys.argv[1:]
    outcome = simulate(int(words[0]), (words[1], int(words[2])) if words[1:] else None)
    sys.stdout.write((outcome.failure or f"all held: {outcome.counts}") + "\n")
    sys.exit(bool(outcome.failure))
