"""One run: daemons that live and die, the troubles that befall them, and the checks at each step.

What lives here: what happens, and when. What must not: how the project is put under virtual time (model.py).
"""

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextvars import copy_context
from typing import ClassVar, Final

from model_invariant import STREAM, STREAM_KEY, WINDOW, Broken, check, check_board, in_journal, next_entry, on_boards
from model_loop import PROCESS, Process, VirtualLoop
from model_network import OUTSIDE, Command, Network
from model_plan import BOARDS, Reading, Upstream, plan
from model_redis import EPOCH_S, SCRIPTS, Reply, State, without
from tweetboard.errors import NotDrained, SessionEnded
from tweetboard.framing import Block
from tweetboard.outbox import Outbox
from tweetboard.pipe import Pipe
from tweetboard.presets import Place
from tweetboard.settings import STORES, BoardSettings, Settings

DRAIN_S: Final = 60.0
"""With everything well again, all must be on the boards by then: leases end, timeouts pass, a full catch-up."""

SETTINGS: Final = Settings(
    boards={
        name: BoardSettings(key=key.decode(), windows=[WINDOW], trending="", store=store)
        for (name, key), store in zip(BOARDS.items(), STORES, strict=True)
    }
)


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
        minutes = 9 if upstream.kind == "refills" else 0
        place = Place(f"http://upstream/?backfill_minutes={minutes}", "flat")
        pipe = Pipe(world.network.store(process), SETTINGS, {STREAM: place}, clock=lambda: EPOCH_S + world.loop.time())
        feed = pipe.feeds[STREAM]
        feed.lease.holder = pipe.bare.holder = process.name
        try:
            async with pipe.subscribed() as group:
                publishing = group.create_task(feed.publisher.run(Source(world, process), upstream, stopping))
                await pipe.drained(publishing, stopping)
        finally:
            world.counts["catch-up"] += sum(one.heard.catch_ups for one in pipe.subscribers.values())
            world.counts["batch sent again"] += feed.publisher.published.sent_again

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
    """The upstream as one process reads it; what passes unheard is not measured here."""

    heard_until = 0.0

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process

    def blocks(self, position: str, _: float = 0.0) -> AsyncGenerator[tuple[Block, str], None]:
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
        self._begun: list[tuple[float, str]] = []  # sessions: when, and whose
        self._daemons = [Daemon(self, name) for name in "AB"[: self.plan.daemons]]
        if missing is not None:
            text = SCRIPTS[missing[0]]
            self.network.redis.substitutes = {text: without(text, missing[1])}

    @property
    def state(self) -> State:
        """What Redis holds now."""
        return self.network.redis.state

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
        if (verb, outcome) == ("append", "appended"):
            entry = next_entry(self.upstream, self.state, arguments)
            self.network.redis.note({**self.state.ledger, int(arguments[3]): entry})
        elif (verb, outcome) == ("begin", "done"):
            self._begun.append((self.loop.time(), command.process.name))
            if reply[0] == 0:
                self.network.redis.note({})
            self._perhaps("relapse", "rollback", self._rng.uniform(0.01, 1.5))
            if reply[4]:
                raise Broken(f"begin found {reply[4]} batches missing from the journal")
        check(self.state)
        if verb in ("append", "begin", "apply"):
            self.network.stir(0.03, 0.02)

    def check_stop(self, reading: Reading, stopped_at: float) -> None:
        """Check that who stopped clean has everything it read on the boards, unless Redis went back since.

        Where another has taken over, what is in the journal is for that one to apply, and the rest to read again.
        """
        holder = self.state.strings.get(STREAM_KEY + b":lease", (b"",))
        owner = self.state.hashes.get(STREAM_KEY, {}).get(b"owner", b"").decode().partition("-")[0]
        overtaken = {owner, holder[0].decode()} - {"", reading.process.name}
        if overtaken and self.upstream.kind == "rewinds":
            return
        # What was a repeat was in the journal before, and is another session's to apply where this one has ended.
        there = (in_journal if overtaken or self.upstream.kind == "refills" else on_boards)(self.state)
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
            replaced = self._was_replaced(daemon.process.name)
            clean = await daemon.stop()
            # What passes once only may be lost to a daemon that took over meanwhile: it says so, and has to. One that
            # was replaced cannot know what of its own was sent again to whoever came next (seeds 220, 5475, 31000491).
            if not clean and self.upstream.kind != "live" and not replaced:
                raise Broken("a stop in calm weather left something behind")
        check(self.state)

    def _was_replaced(self, process: str) -> bool:
        """Whether another had the stream after a session of this process, and since then it has hardly had it again."""
        begun = [*self._begun]
        while begun and begun[-1][1] == process and begun[-1][0] > self.loop.time() - 5:
            begun.pop()
        return bool(begun) and begun[-1][1] != process and process in (whose for _, whose in begun)

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
            if self._one_reads() and wanted <= on_boards(self.state):
                return
        raise Broken(f"not everything is on the boards {DRAIN_S:g} s after the storm")

    def _one_reads(self) -> bool:
        """Say whether just one process reads, and the stream is its own: whoever lost it has noticed."""
        readers = [reading.process.name for reading in self.readings if reading.is_open]
        owner = self.state.hashes.get(STREAM_KEY, {}).get(b"owner", b"").decode()
        return readers == [owner.partition("-")[0]]

    def _check_end(self, lasting: list[Reading]) -> None:
        """Check that everything is there: all of upstream, or all that sessions read which never ended."""
        check(self.state)
        if self.upstream.kind != "live":
            for name in BOARDS:
                check_board(self.state, name, self.upstream.totals[-1][name], "at the end")
        for reading in lasting:
            if reading.is_open and not {*reading.posts} <= on_boards(self.state):
                raise Broken(f"lost in a session that never ended: {sorted({*reading.posts} - on_boards(self.state))}")
