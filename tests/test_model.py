"""The promise, on a thousand simulated histories: boards stay exact whatever happens to daemons, Redis and messages."""

import asyncio
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextvars import copy_context
from typing import cast

import msgspec
import pytest
from redis.exceptions import ResponseError

from conftest import wait_until
from model import Outcome, simulate
from model_loop import PROCESS, Deadlock, Process, VirtualLoop
from model_redis import SCRIPTS, Redis, Word
from pipe import ListSource, a_pipe, running, scores
from tweetboard.board.windows import Kept, Window
from tweetboard.channel import body, message
from tweetboard.errors import StoreRefused
from tweetboard.outbox import Outbox, Published
from tweetboard.posts import Channel, Post, authors
from tweetboard.store import Store

GUARDS = [
    pytest.param("journal", 0, "fenced", id="append-owner"),
    pytest.param("journal", 1, "out of step", id="append-seq"),
    pytest.param("scoreboard", 0, "fenced", id="apply-owner"),
    pytest.param("scoreboard", 1, "ahead", id="apply-ahead"),
    pytest.param("scoreboard", 2, "out of step", id="apply-out-of-step"),
]

GUARD_RUNS = 400
"""Within so many runs each missing guard is noticed; a change of the code moves the first one that does."""

OFTEN = {
    "append fenced": 50,
    "append fenced late": 100,
    "append out of step": 30,
    "append out of step late": 150,
    "apply ahead late": 10,
    "apply fenced late": 150,
    "apply out of step": 30,
    "apply out of step late": 150,
    "batch sent again": 200,
    "begin done late": 150,
    "begun again": 30,
    "catch-up": 5000,
    "crash": 1000,
    "cut": 300,
    "message missed": 300,
    "message overtaken": 300,
    "message repeated": 300,
    "out of reach": 10,
    "outage": 300,
    "pause": 500,
    "rollback past a batch": 400,
    "rollback past a begin": 200,
    "session": 1500,
    "stopped clean": 500,
    "went on": 500,
    "wipe": 100,
}
"""What a thousand runs are about: each at least so often, some third of what it was when this was written."""


CHUNK = 10


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Yield a process for each core."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def some(first: int, missing: tuple[str, int] | None) -> list[Outcome]:
    """Run a chunk of seeds, in a worker."""
    return [simulate(seed, missing) for seed in range(first, first + CHUNK)]


def outcomes(pool: ProcessPoolExecutor, seeds: range, missing: tuple[str, int] | None = None) -> Iterator[Outcome]:
    """Run seeds on all cores; they come in their order, and what is not asked for any more is not begun."""
    runs = [pool.submit(some, first, missing) for first in seeds[::CHUNK]]
    try:
        for run in runs:
            yield from run.result()
    finally:
        for run in runs:
            run.cancel()


def check(pool: ProcessPoolExecutor, seeds: range) -> Counter[str]:
    """Run seeds of which none may fail; returns how often everything occurred."""
    counts = Counter[str]()
    failures = []
    for outcome in outcomes(pool, seeds):
        counts.update(outcome.counts)
        if outcome.failure:
            failures.append(outcome)
    if failures:
        failed = " ".join(str(outcome.seed) for outcome in failures)
        pytest.fail(f"{failures[0].failure}\n{len(failures)} of {len(seeds)} seeds failed: {failed}", pytrace=False)
    return counts


def test_a_thousand_histories_end_exact_and_are_exact_at_every_moment(workers: ProcessPoolExecutor) -> None:
    """A board equals batches 1..`applied`, `position` is where batch `seq` ends, and nothing is missing at the end."""
    counts = check(workers, range(1000))
    rare = {what: counts[what] for what, least in OFTEN.items() if counts[what] < least}
    assert not rare, "these hardly occur any more, so nothing shows that they do no harm"
    assert not [what for what in counts if "error" in what]


@pytest.mark.long
@pytest.mark.parametrize("first", range(1_000, 11_000, 2_000))
def test_ten_thousand_histories_end_exact(first: int) -> None:
    """The same, where a fault that needs three coincidences has its chance; Lua's memory begins anew each time."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        check(pool, range(first, first + 2_000))


@pytest.mark.parametrize(("script", "guard", "words"), GUARDS)
def test_each_guard_is_needed(workers: ProcessPoolExecutor, script: str, guard: int, words: str) -> None:
    """Without any one of the five, the same weather breaks what the boards promise."""
    lines = [line for line in SCRIPTS[script].splitlines() if line.endswith("-- guard")]
    assert words in lines[guard]
    runs = outcomes(workers, range(GUARD_RUNS), (script, guard))
    caught = next((one.seed for one in runs if one.failure.startswith("Broken: ")), None)
    assert caught is not None, f"{GUARD_RUNS} runs went well without: {lines[guard].strip()}"


def test_there_is_no_guard_that_these_tests_do_not_know() -> None:
    texts = SCRIPTS.values()
    assert sum(text.count("-- guard\n") for text in texts) == len(GUARDS)


def test_a_seed_takes_the_same_course_in_every_process(workers: ProcessPoolExecutor) -> None:
    """Otherwise the seed of a failure would be worth nothing."""
    failed = a_failure().seed
    assert some(failed, ("scoreboard", 2)) == workers.submit(some, failed, ("scoreboard", 2)).result()


def test_a_failure_says_how_to_see_it_again() -> None:
    outcome = a_failure()
    assert f"python tests/model.py {outcome.seed} scoreboard 2" in outcome.failure
    assert "apply model" in outcome.failure, "the trace"


def a_failure() -> Outcome:
    """Run without a guard until it is missed."""
    return next(one for seed in range(GUARD_RUNS) if (one := simulate(seed, ("scoreboard", 2))).failure)


# The ground that the simulation stands on


async def test_the_models_redis_answers_as_a_real_one(store: Store) -> None:
    """The same scripts and commands, in an order without sense, have the same answers and leave the same."""
    model = Redis(lambda: 0.0, lambda _channel, _data: 0)
    rng = random.Random(7)
    outcomes = Counter[str]()
    for turn in range(800):
        command = a_command(rng, model)
        answered = answer(model, command)
        assert unordered(answered) == unordered(await real_answer(store, command)), command
        outcomes[str(answered[0]) if isinstance(answered, list) and answered else ""] += 1
        if turn % 10 == 0:
            assert model.state.zsets.keys() == {
                key for key in await keys_of(store) if await store.execute("TYPE", key) == b"zset"
            }
            for key, scores in model.state.zsets.items():
                found = cast("list[bytes]", await store.execute("ZRANGE", key, 0, -1, "WITHSCORES"))
                real = dict(zip(found[::2], map(float, found[1::2]), strict=True))
                # Ids are kept with the server's own time, and no two servers have the same.
                assert (real.keys() if key == b"s:ids" else real) == (scores.keys() if key == b"s:ids" else scores)
    assert min(outcomes[one] for one in ("b'appended'", "b'applied'")) > 5, outcomes  # else nothing was compared


async def keys_of(store: Store) -> list[bytes]:
    return cast("list[bytes]", await store.execute("KEYS", "*"))


KEPT = [
    Kept((Window("5m", 5, 60), Window("9s", 3, 3)), half_life_s=3600),
    Kept((Window("5m", 5, 60),), half_life_s=30),
    Kept((Window("9s", 3, 3),), leaders=1),
]
"""The first is the usual one: what a board keeps changes seldom."""


def a_command(rng: random.Random, model: Redis) -> list[Word]:
    """Make up a command that the project might send, most often one that will be carried out."""
    journal, scoreboard, lease = SCRIPTS["journal"], SCRIPTS["scoreboard"], SCRIPTS["lease"]
    keys: list[Word] = [6, "s", "s:journal", "s:ids", "schema", "b1:applied", "b2:applied"]
    board, token, seq = rng.choice(("b1", "b2")), rng.choice(("t1", "t2")), rng.randint(1, 9)
    stream, applied = (model.state.hashes.get(key, {}) for key in (b"s", f"{board}:applied".encode()))
    fits = rng.random() < 0.7
    if fits:
        token, seq = stream.get(b"owner", b"t1").decode(), int(stream.get(b"seq", b"0")) + 1
    next_one = int(applied.get(b"x", b"0")) + 1 if fits else seq
    ids = rng.choice(("[]", f'["p{seq}"]'))
    said = rng.choice(('{"source":"x","session":"t1"}', '{"a":1}'))  # the second is no message of ours
    batch: list[Word] = [token, seq, f"at {seq}", ids, 600, "c1", said, "c2", "{}"]
    names = rng.choice(
        (
            ('[[100,{"a":1,"b":2}]]', "", "{}"),
            ("[]", "", '{"a":"A"}'),
            ('[[90,{"b":3}],[100,{"a":1}]]', "[]", "{}"),
            ('[[100,{"a":4,"b":1}]]', '[["a","A",1],["a","Ä",2],["b","B",1]]', "{}"),
        )
    )
    now: Word = rng.choice((95, 100, 105, 400, 9_000))
    kept = msgspec.json.encode(rng.choice((*KEPT, *[KEPT[0]] * 4))._asdict())
    append: list[Word] = ["EVAL", journal, *keys, "append", "x", *batch]
    at: list[Word] = [board, f"{board}:spelling", f"{board}:spellings"]
    step: list[Word] = ["apply", "x", token, next_one, next_one, now, kept, *names]
    apply: list[Word] = ["EVAL", scoreboard, 5, *at, f"{board}:applied", "s", *step]
    age: list[Word] = ["EVAL", scoreboard, 1, board, "age", now, kept, "[]", rng.choice((":0", "5m:0")), 100]
    unanswered = rng.choice(("[]", '["t1"]'))
    commands: list[list[Word]] = [
        [
            "EVAL",
            journal,
            *keys,
            "begin",
            "x",
            token,
            '["b1:applied","b2:applied"]',
            unanswered,
            rng.choice((1, 1, 1, 2)),
        ],
        ["EVAL", journal, *keys, "look", "x", token, rng.choice(("0", "100.5"))],
        *[append] * 6,
        *[apply] * 6,
        *[age] * 2,
        ["EVAL", scoreboard, 3, *at, "reset"],
        ["EVAL", lease, 1, "lease", rng.choice(("hold", "release")), token, 100_000],
        ["HMGET", "s", "owner", "seq", "position"],
        ["HGET", f"{board}:applied", "x"],
        ["XRANGE", "s:journal", f"{seq}-0", "+", "COUNT", 3],
        ["ZCARD", "s:ids"],
        ["HMGET", f"{board}:ranks_before:5m", "", "a", "b"],
        ["HMGET", rng.choice(at[1:]), "a", "A", "Ä", "b", "B"],
        ["DEL", rng.choice(("s", "b1", "b1:applied", "lease", "schema", "none"))],
    ]
    return rng.choice(commands)


def answer(redis: Redis, command: list[Word]) -> object:
    """Ask the model's server."""
    try:
        return redis.execute(*command)
    except ResponseError:
        return "an error"


def unordered(answered: object) -> object:
    """Take JSON objects as what they hold, for no two Luas write them in the same order."""
    if isinstance(answered, list):
        return [unordered(one) for one in answered]
    return msgspec.json.decode(answered) if isinstance(answered, bytes) and answered.startswith(b"{") else answered


async def real_answer(store: Store, command: list[Word]) -> object:
    """Ask a real server."""
    try:
        return await store.execute(*command)
    except StoreRefused:
        return "an error"


def test_a_stopped_process_does_nothing_and_then_everything_that_came_due() -> None:
    """SIGSTOP: its timers and messages wait for it, in their order, and others live on."""
    loop = VirtualLoop()
    process = Process("p")
    seen: list[tuple[str, float]] = []

    async def live(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            seen.append((name, loop.time() - 1000))

    async def main() -> None:
        context = copy_context()
        context.run(PROCESS.set, process)
        lives = [loop.create_task(live("stopped"), context=context), loop.create_task(live("other"))]
        await asyncio.sleep(1.5)
        process.stopped = True
        await asyncio.sleep(4)
        loop.cont(process)
        await asyncio.wait(lives)

    loop.run_until_complete(main())
    loop.close()
    assert [at_s for name, at_s in seen if name == "other"] == [1, 2, 3]
    assert [at_s for name, at_s in seen if name == "stopped"] == [1, 5.5, 6.5]


def test_who_waits_for_nothing_is_found_out() -> None:
    """A deadlock is a failure, not a test that hangs."""
    loop = VirtualLoop()
    waiting = loop.create_task(asyncio.Event().wait())
    with pytest.raises(Deadlock):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()


# What the simulation has found, each by itself


def test_a_batch_whose_answer_was_lost_is_remembered_as_long_as_any_other() -> None:
    """It was forgotten with the next one, and Redis going back half a second then cost a stream that cannot rewind."""
    box = Outbox(0, [Channel("usernames", authors)], bucket_s=1, published=Published())
    for number in range(2):
        box.gather([Post("", 0, "alice")], "", 1_763_805_600)
        batch = box.next()
        assert batch is not None
        batch.sent_at = 1000 + number / 10
        if number == 0:
            box.go_back_to(batch.seq)
        else:
            box.acknowledge(batch)
    box.go_back_to(0)


PREDECESSOR_WENT_ON = """
redis.call('FLUSHALL')
redis.call('HSET', 'tweetboard:test', 'owner', ARGV[1], 'seq', 1, 'position', '2', 'boards', ARGV[2])
redis.call('XADD', 'tweetboard:test:journal', '1-0', 'usernames', ARGV[3], 'hashtags', ARGV[4])
for _, board in ipairs(cjson.decode(ARGV[2])) do redis.call('HSET', board .. ':applied', 'test', 0) end
"""


async def test_batches_of_a_predecessor_that_went_on_are_not_taken_for_our_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis went back behind our begin, and who was the owner before wrote a batch 1 that holds our batches 1 and 2."""
    monkeypatch.setattr("tweetboard.publisher.RENEW_S", 0.05)
    names = ["alice", "bob", "carol"]
    predecessor = (await a_pipe(store).feed.journal.begin()).token
    pipe = a_pipe(store)
    source = ListSource([{"username": names[0]}], stays=True)
    async with running(pipe, source):
        await wait_until(lambda: pipe.feed.publisher.published.batches == 1)
        source.add({"username": names[1]})
        await wait_until(lambda: pipe.feed.publisher.published.batches == 2)
        await wait_until(lambda: pipe.feed.publisher.published.unapplied_bytes == 0)
        bodies = body([(1_763_805_600, 2)], names[:2]), body([], [])
        messages = [message("test", predecessor, 1, one) for one in bodies]
        boards = '["username_scoreboard","hashtags_scoreboard"]'
        await store.execute("EVAL", PREDECESSOR_WENT_ON, 0, predecessor, boards, *messages)
        source.add({"username": names[2]})
        await wait_until(lambda: source.asked[-1] == "2")
    assert await scores(pipe, "usernames") == dict.fromkeys(names, 1)
