"""The built-in demo: an invented town that posts about its day, served over real HTTP as X serves its filtered stream.

What lives here: who posts what and when (`Town`: chance and arithmetic, no clock and no I/O), and the server around it
(`demo_server`). What must not: the words (demo_words.py), and anything the daemon needs for a real stream: it reads
this one through the same client and the same format as X's own.
"""

import asyncio
import collections
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Iterable
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from yarl import URL

from tweetboard import demo_words as words
from tweetboard.demo_words import Account, Event, Theme
from tweetboard.errors import ConfigurationError

logger = logging.getLogger(__name__)
Json = dict[str, Any]

RETWEETS, REPLIES = 0.25, 0.10  # shares of all posts
HASHTAGS = (35, 39, 18, 8)  # percent of posts that have none, one, two, three
RETWEET_CHARS = 140  # X cuts a retweet's text here, and forgets the hashtags behind the cut
X_EPOCH_MS = 1_288_834_974_657  # X's ids hold the milliseconds since, above 22 bits of sequence

# A burst shoots up within seconds and fades within a minute. What bursts add on average is taken from the ordinary
# rate, so that the mean stays what was asked for.
BURST_RISE_S, BURST_FADE_S, BURST_END_S = 3.0, 20.0, 80.0
BURST_HEIGHT = (0.8, 3.2)  # posts per second on top, as multiples of the mean
BURST_EVERY_S = (120.0, 240.0)
FIRST_BURST_S = (85.0, 95.0)  # half a minute after the prelude: early enough to be seen by whoever is trying this out
_BURST_AREA = BURST_RISE_S / 2 + BURST_FADE_S * (1 - math.exp((BURST_RISE_S - BURST_END_S) / BURST_FADE_S))
ORDINARY = 1 - sum(BURST_HEIGHT) / sum(BURST_EVERY_S) * _BURST_AREA
PEAK = ORDINARY + BURST_HEIGHT[1]
EVENT_TAGGED = 0.55  # the share of a burst's tagged posts that name its event: all of them would dwarf the board
RISE_S, FALL_S, RISE_SHARE = 600.0, 300.0, 0.12  # a rising hashtag's climb, its end, and its share of tagged posts
ZIPF = [1 / (rank + 1) for rank in range(9)]  # how much more popular a theme's first hashtags are than its last
MATCHING_RULES = [{"id": "1377649934414049282", "tag": "the town"}]
MOOD_S = 5.0  # how long everybody's mood lasts before it is reckoned anew

PATH, REFILL = "/2/tweets/search/stream", "backfill_minutes"
CRLF, END = b"\r\n", b""
TICK_S, LONGEST_TICK_S = 0.05, 5.0  # a laptop that slept wakes up to go on, not to catch up
MAX_PRELUDE = 10_000  # posts; about 9 MB and a third of a second to invent, whatever the rate
MAX_BEHIND, BEHIND_S = 1_000, 1.0  # posts that may wait for one client, as X has it; at high rates, a second's worth


class Burst(NamedTuple):
    """Everybody posts about one event from `start_s` (the town's age) on; `height` as in BURST_HEIGHT."""

    start_s: float
    height: float
    event: Event

    def on_top(self, age_s: float) -> float:
        """Say how much this adds to the rate at an age, in multiples of the mean rate."""
        since_s = age_s - self.start_s
        shape = min(since_s / BURST_RISE_S, math.exp((BURST_RISE_S - since_s) / BURST_FADE_S))
        return self.height * shape if 0 <= since_s < BURST_END_S else 0.0


class Town:
    """Invented people and the posts they write, as X v2 records; the same seed and times give the same bytes.

    The town has an age of its own, which only `posts` advances. `posts_per_s` is the mean rate; bursts reach four
    times that.
    """

    def __init__(self, seed: int, *, posts_per_s: float = 40.0) -> None:
        if posts_per_s <= 0:
            raise ConfigurationError(f"the demo's posts per second must be above 0, not {posts_per_s:g}")
        self._rng = random.Random(seed)  # noqa: S311 - a show: it must be repeatable, not secret
        self.posts_per_s = posts_per_s
        self._accounts = words.settle(self._rng)
        self._moods = [(self._rng.uniform(120, 600), self._rng.random()) for _ in self._accounts]
        self._events = words.events(self._rng)
        self._rising_tags = self._rng.sample(words.RISING, len(words.RISING))
        self._recent: collections.deque[tuple[Account, Json]] = collections.deque(maxlen=2_000)
        self._age_s = self._next_s = 0.0  # of the town; of the next post, or of what thinning drops
        self._last_id = 0
        self._mood_at_s, self._talk = -MOOD_S, [0.0]  # the weights of who posts, summed up
        self._burst = Burst(self._rng.uniform(*FIRST_BURST_S), BURST_HEIGHT[1], next(self._events))

    def posts(self, now_s: float, elapsed_s: float) -> list[bytes]:
        """Return the posts of the `elapsed_s` seconds that end at `now_s` (Unix time), oldest first, one JSON each.

        How the time is cut into calls does not change what is posted: arrivals are a Poisson process over the town's
        age, thinned from the peak rate to that of the moment.
        """
        self._age_s += elapsed_s
        posted = []
        while self._next_s <= self._age_s:
            age_s = self._next_s
            self._next_s += self._rng.expovariate(PEAK * self.posts_per_s)
            if age_s >= self._burst.start_s + BURST_END_S:
                self._burst = self._another_burst()
            extra = self._burst.on_top(age_s)
            lot = self._rng.random() * PEAK
            if lot < ORDINARY + extra:
                event = self._burst.event if lot < extra else None
                posted.append(self._post(age_s, now_s - (self._age_s - age_s), event))
        return posted

    def _another_burst(self) -> Burst:
        start_s = self._burst.start_s + self._rng.uniform(*BURST_EVERY_S)
        return Burst(start_s, self._rng.uniform(*BURST_HEIGHT), next(self._events))

    def _author(self, age_s: float, event: Event | None) -> Account:
        """Pick who posts: some people are always busier than others, and everybody has livelier minutes."""
        if age_s - self._mood_at_s >= MOOD_S:
            self._mood_at_s = age_s
            moods = (1.15 + math.sin(math.tau * (age_s / period_s + phase)) for period_s, phase in self._moods)
            # Zipf's law, flattened at the top: a race between several, not one name far ahead of all.
            self._talk = list(accumulate(mood / (rank + 6) ** 0.85 for rank, mood in enumerate(moods)))
        candidates = self._rng.choices(self._accounts, cum_weights=self._talk, k=3)
        return next((one for one in candidates if event and event.theme is one.theme), candidates[0])

    def _post(self, age_s: float, at_s: float, event: Event | None) -> bytes:
        author = self._author(age_s, event)
        kind = self._rng.random()
        if kind < RETWEETS + REPLIES and self._recent:
            # Newer posts find more readers.
            other, original = self._recent[-1 - int(len(self._recent) * self._rng.random() ** 2)]
            if other is not author:
                answer = self._retweet if kind < RETWEETS else self._reply
                return _record(answer(author, at_s, other, original), author, other, original)
        data = self._original(author, age_s, at_s, event)
        self._recent.append((author, data))
        return _record(data, author)

    def _original(self, author: Account, age_s: float, at_s: float, event: Event | None) -> Json:
        theme = author.theme if self._rng.random() < 0.8 else self._rng.choice(self._accounts).theme
        sayings, first, lang = theme.sayings, None, theme.lang
        if event:
            theme, sayings, lang = self._rng.choice((event.theme, theme)), event.sayings, "en"
            first = event.tag if self._rng.random() < EVENT_TAGGED else None
        elif rising := self._rising(age_s):
            sayings, first, lang = words.RISING_SAYINGS, rising, "en"
        text = " ".join(self._rng.sample(sayings, self._rng.choice((1, 1, 2))))
        return _written(self._head(author, at_s, lang), text, self._tags(at_s, theme, first))

    def _reply(self, author: Account, at_s: float, other: Account, original: Json) -> Json:
        text = f"@{other.username} {self._rng.choice(words.REPLIES)}"
        data = _written(self._head(author, at_s, "en"), text, self._tags(at_s, other.theme, None), other)
        referenced = [{"type": "replied_to", "id": original["id"]}]
        return {**data, "in_reply_to_user_id": other.id, "referenced_tweets": referenced}

    def _retweet(self, author: Account, at_s: float, other: Account, original: Json) -> Json:
        prefix = f"RT @{other.username}: "
        text = prefix + original["text"]
        if len(text) > RETWEET_CHARS:
            text = text[: RETWEET_CHARS - 1] + "\N{HORIZONTAL ELLIPSIS}"
        data = _written(self._head(author, at_s, original["lang"]), text, (), other)
        for tag in original["entities"].get("hashtags", ()):
            start, end = tag["start"] + len(prefix), tag["end"] + len(prefix)
            if end < RETWEET_CHARS:
                data["entities"].setdefault("hashtags", []).append({"start": start, "end": end, "tag": tag["tag"]})
        return {**data, "referenced_tweets": [{"type": "retweeted", "id": original["id"]}]}

    def _head(self, author: Account, at_s: float, lang: str) -> Json:
        # The next free number of the millisecond; and a clock that is set back must not make ids fall.
        self._last_id = max(self._last_id + 1, (int(at_s * 1000) - X_EPOCH_MS) << 22)
        return {
            "id": str(self._last_id),
            "edit_history_tweet_ids": [str(self._last_id)],
            "author_id": author.id,
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at_s)),
            "lang": lang,
        }

    def _rising(self, age_s: float) -> str | None:
        """Pick the hashtag that is climbing, the one that climbed before it and now fades, or mostly none."""
        turn, since_s = divmod(age_s, RISE_S)
        climbing = RISE_SHARE * since_s / RISE_S
        fading = RISE_SHARE * max(0.0, 1 - since_s / FALL_S) if turn else 0.0
        lot = self._rng.random()
        if lot >= climbing + fading:
            return None
        return self._rising_tags[(int(turn) - (lot >= climbing)) % len(self._rising_tags)]

    def _tags(self, at_s: float, theme: Theme, first: str | None) -> list[str]:
        wanted = self._rng.choices(range(len(HASHTAGS)), HASHTAGS)[0]
        tags = [first] if first and wanted else []
        while len(tags) < wanted:
            tag = self._rng.choices(theme.tags, ZIPF[: len(theme.tags)])[0]
            if tag not in tags:
                tags.append(tag)
        today = words.WEEKDAYS[time.gmtime(at_s).tm_wday]
        return [words.spelled(self._rng, today if tag == words.WEEKDAY else tag) for tag in tags]


def _written(data: Json, text: str, tags: Iterable[str], mention: Account | None = None) -> Json:
    """Add a post's text, its hashtags at the end, and where in it everything stands (in code points, as X counts)."""
    entities: Json = {}
    if mention:
        start = text.index("@")
        end = start + 1 + len(mention.username)
        entities["mentions"] = [{"start": start, "end": end, "username": mention.username, "id": mention.id}]
    for tag in tags:
        start = len(text) + 1
        text += f" #{tag}"
        entities.setdefault("hashtags", []).append({"start": start, "end": len(text), "tag": tag})
    return {**data, "text": text, "entities": entities}


def _record(data: Json, author: Account, other: Account | None = None, original: Json | None = None) -> bytes:
    users = [{"id": one.id, "name": one.name, "username": one.username} for one in (author, other) if one]
    includes = {"users": users, "tweets": [original]} if original else {"users": users}
    return msgspec.json.encode({"data": data, "includes": includes, "matching_rules": MATCHING_RULES})


class _Broadcast:
    """The town's posts as they come, for every client from its connect on; the last minute's for a new one."""

    def __init__(self, town: Town, prelude_s: float, keep_alive_s: float) -> None:
        self._town = town
        self._prelude_s = prelude_s
        self._keep_alive_s = keep_alive_s
        self._max_behind = max(MAX_BEHIND, BEHIND_S * town.posts_per_s)
        self._recent: collections.deque[tuple[float, list[bytes]]] = collections.deque()  # by the loop's time
        self._clients: dict[asyncio.Queue[bytes], asyncio.Transport] = {}

    async def rehearse(self) -> None:
        """Live through the prelude's seconds at once."""
        wall_s, loop_s = time.time(), asyncio.get_running_loop().time()
        for ago_s in reversed(range(math.ceil(self._prelude_s))):
            self._live(wall_s - ago_s, loop_s - ago_s, 1.0)
            await asyncio.sleep(0)

    async def run(self) -> None:
        """Post as time passes, until cancelled."""
        loop = asyncio.get_running_loop()
        last_s = beat_s = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now_s = loop.time()
            lines = self._live(time.time(), now_s, min(now_s - last_s, LONGEST_TICK_S))
            if now_s - beat_s >= self._keep_alive_s:
                beat_s = now_s
                lines = [*lines, CRLF]
            self._offer(lines)
            last_s = now_s

    def _live(self, wall_s: float, loop_s: float, elapsed_s: float) -> list[bytes]:
        lines = [post + CRLF for post in self._town.posts(wall_s, elapsed_s)]
        self._recent.append((loop_s, lines))
        while self._recent and self._recent[0][0] <= loop_s - self._prelude_s:
            self._recent.popleft()
        return lines

    def _offer(self, lines: list[bytes]) -> None:
        for queue, transport in self._clients.items():
            if queue.qsize() < self._max_behind:
                for line in lines:
                    queue.put_nowait(line)
            elif not transport.is_closing():
                logger.warning("a reader of the demo stream is %d posts behind: disconnected", queue.qsize())
                transport.abort()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Answer one client: the prelude, then every post and keep-alive as a chunk of its own."""
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        await response.prepare(request)
        if (transport := request.transport) is None:
            return response
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        # As X does: who asks for a refill may be sent posts again, and must know them by their ids.
        prelude = [lines for _, lines in self._recent] if request.query.get(REFILL, "0") != "0" else []
        self._clients[queue] = transport  # in one step with the prelude: nothing is missed, nothing comes twice
        try:
            for lines in prelude:
                for line in lines:
                    await response.write(line)
                await asyncio.sleep(0)  # writes that need not wait do not let anybody else run
            while line := await queue.get():
                await response.write(line)
        except ConnectionResetError:
            logger.debug("a reader of the demo stream is gone")
        finally:
            del self._clients[queue]
            if not queue.empty():  # the stop's deadline passed: a mere close() would wait until all is read
                transport.abort()
        return response

    async def close(self, _: web.Application) -> None:
        """End every response, after what waits in its queue; cut off those who do not read."""
        for queue, transport in self._clients.items():
            if transport.get_write_buffer_size():
                transport.abort()
            else:
                queue.put_nowait(END)


@contextlib.asynccontextmanager
async def demo_server(
    *,
    posts_per_s: float = 40.0,
    seed: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    keep_alive_s: float = 20.0,
    prelude_s: float = 60.0,
) -> AsyncIterator[str]:
    """Serve an invented town's posts as X serves its v2 filtered stream; yields the stream's URL.

    A client that asks for it, as the URL does, first gets the posts of the last `prelude_s` seconds (at most
    MAX_PRELUDE posts), then live ones, and a keep-alive every `keep_alive_s` seconds; one that falls MAX_BEHIND posts
    behind is cut off. Without a `seed`, every start invents another town.
    """
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    town = Town(seed, posts_per_s=posts_per_s)
    broadcast = _Broadcast(town, min(prelude_s, MAX_PRELUDE / posts_per_s), keep_alive_s)
    await broadcast.rehearse()
    app = web.Application()
    app.router.add_get(PATH, broadcast.stream, allow_head=False)
    app.on_shutdown.append(broadcast.close)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)  # for what still waits in queues
    failure: Exception | None = None
    try:
        url = await _listen(runner, host, port)
        logger.debug("the demo stream of seed %d is at %s", seed, url)
        async with asyncio.TaskGroup() as group:
            posting = group.create_task(broadcast.run(), name="demo posts")
            try:
                yield url
            except Exception as error:  # noqa: BLE001 - raised again below, where the group does not wrap it in another
                failure = error
            posting.cancel()
    finally:
        await runner.cleanup()
    if failure:
        raise failure


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigurationError(f"the demo stream cannot listen on {host}:{port}: {error.strerror}") from error
    address, bound = runner.addresses[0][:2]
    return str(URL.build(scheme="http", host=address, port=bound, path=PATH, query={REFILL: "1"}))
