"""The demo stream: the invented town is lively, repeatable and shaped like X; its server behaves like X's."""

import asyncio
import collections
import contextlib
import datetime as dt
import itertools
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from tweetboard import demo_words, simulate
from tweetboard.errors import ConfigurationError
from tweetboard.simulate import Town, demo_server

Record = dict[str, Any]

MONDAY_S = 1_763_942_400.0  # 2025-11-24T00:00:00Z, whole seconds, so that steps of 1/16 s add up without rounding

# Every field of the posts in a recording of X's v2 stream that the demo has too; the ids of a rule were numbers then.
AS_X_SENDS_THEM = """
    data.author_id:str data.created_at:str data.id:str data.in_reply_to_user_id:str data.lang:str data.text:str
    data.entities.hashtags[].end:int data.entities.hashtags[].start:int data.entities.hashtags[].tag:str
    data.entities.mentions[].end:int data.entities.mentions[].start:int data.entities.mentions[].username:str
    data.referenced_tweets[].id:str data.referenced_tweets[].type:str
    includes.tweets[].author_id:str includes.tweets[].created_at:str includes.tweets[].id:str
    includes.tweets[].lang:str includes.tweets[].text:str
    includes.users[].id:str includes.users[].name:str includes.users[].username:str
"""
# What X has added since that recording, and what its authors happened not to use.
AS_X_SAYS_TODAY = """
    data.edit_history_tweet_ids[]:str data.entities.mentions[].id:str
    includes.tweets[].edit_history_tweet_ids[]:str
    includes.tweets[].entities.hashtags[].end:int includes.tweets[].entities.hashtags[].start:int
    includes.tweets[].entities.hashtags[].tag:str
    matching_rules[].id:str matching_rules[].tag:str
"""


def paths(value: object, path: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from paths(inner, f"{path}.{key}" if path else key)
        case list():
            for inner in value:
                yield from paths(inner, f"{path}[]")
        case _:
            yield f"{path}:{type(value).__name__}"


def read(posts: list[bytes]) -> list[Record]:
    return [json.loads(post) for post in posts]


def sent_at(record: Record) -> dt.datetime:
    return dt.datetime.fromisoformat(record["data"]["created_at"])


def is_retweet(record: Record) -> bool:
    return any(other["type"] == "retweeted" for other in record["data"].get("referenced_tweets", ()))


def hashtags(record: Record) -> list[str]:
    """Return the hashtags as the boards count them: a retweet's are its original's."""
    tweet = record["includes"]["tweets"][0] if is_retweet(record) else record["data"]
    return [hashtag["tag"] for hashtag in tweet["entities"].get("hashtags", ())]


@pytest.fixture(scope="module")
def quarter() -> list[Record]:
    """Live through a quarter of an hour at ten posts a second, second by second."""
    town = Town(7, posts_per_s=10)
    return [record for second in range(1, 901) for record in read(town.posts(MONDAY_S + second, 1.0))]


def per_second(records: list[Record]) -> collections.Counter[int]:
    return collections.Counter(int(sent_at(record).timestamp() - MONDAY_S) for record in records)


# --- the town ---


def test_the_same_seed_and_times_give_the_same_bytes() -> None:
    """A show can be repeated exactly; another seed is another town."""
    first, second, other = Town(1), Town(1), Town(2)
    for step in range(1, 21):
        now_s = MONDAY_S + step
        assert first.posts(now_s, 1.0) == (posts := second.posts(now_s, 1.0))
        assert posts
        assert posts != other.posts(now_s, 1.0)


def test_how_the_time_is_cut_does_not_change_what_is_posted() -> None:
    """Ticks of any length, even late ones, show the same town."""
    whole = read(Town(3, posts_per_s=20).posts(MONDAY_S + 60, 60.0))
    town = Town(3, posts_per_s=20)
    ticks = [record for tick in range(1, 961) for record in read(town.posts(MONDAY_S + tick / 16, 1 / 16))]
    assert len(whole) == len(ticks)
    for one, same in zip(whole, ticks, strict=True):
        assert one["includes"]["users"] == same["includes"]["users"]
        assert hashtags(one) == hashtags(same)


def test_no_time_no_posts() -> None:
    """A tick of no length posts nothing twice, and a rate must be one."""
    town = Town(1)
    town.posts(MONDAY_S, 1.0)
    assert town.posts(MONDAY_S, 0.0) == []
    with pytest.raises(ConfigurationError, match="above 0"):
        Town(1, posts_per_s=0)


def test_posts_have_the_fields_of_real_ones(quarter: list[Record]) -> None:
    """Every field is one that X sends, of X's type, and the whole vocabulary of them is used."""
    assert {path for record in quarter for path in paths(record)} == {
        *AS_X_SENDS_THEM.split(),
        *AS_X_SAYS_TODAY.split(),
    }


def test_ids_are_snowflakes_unique_and_rising(quarter: list[Record]) -> None:
    """An id holds the millisecond of its post, and no edit makes a post count twice."""
    ids = [int(record["data"]["id"]) for record in quarter]
    assert all(one < after for one, after in itertools.pairwise(ids))
    for record, id_ in zip(quarter, ids, strict=True):
        assert ((id_ >> 22) + 1_288_834_974_657) // 1000 == sent_at(record).timestamp()
        assert record["data"]["edit_history_tweet_ids"] == [str(id_)]


def test_ids_rise_even_when_the_clock_is_set_back() -> None:
    """A correction of the clock must not make posts look like repeats."""
    town = Town(4)
    posted = read(town.posts(MONDAY_S, 5.0) + town.posts(MONDAY_S - 3600, 5.0))
    ids = [int(record["data"]["id"]) for record in posted]
    assert all(one < after for one, after in itertools.pairwise(ids))


def test_people_have_plausible_handles(quarter: list[Record]) -> None:
    """Two to three hundred people take part, with handles that X would allow, and the same id all along."""
    people = {user["id"]: user["username"] for record in quarter for user in record["includes"]["users"]}
    assert 200 <= len(people) <= 300
    assert len({username.casefold() for username in people.values()}) == len(people)
    assert all(re.fullmatch(r"[A-Za-z0-9_]{4,15}", username) for username in people.values())
    for record in quarter:
        assert record["includes"]["users"][0]["id"] == record["data"]["author_id"]


def test_some_people_are_much_busier_than_others_but_nobody_runs_away(quarter: list[Record]) -> None:
    """The boards show a race: a long tail, and no name that is out of reach."""
    ranked = collections.Counter(record["data"]["author_id"] for record in quarter).most_common()
    assert ranked[0][1] < 2.5 * ranked[4][1]
    assert ranked[0][1] > 10 * ranked[150][1]


def test_retweets_replies_and_posts_without_a_hashtag_have_their_shares(quarter: list[Record]) -> None:
    """A quarter are retweets, a tenth replies, about a third name no hashtag."""
    kinds = collections.Counter(
        other["type"] for record in quarter for other in record["data"].get("referenced_tweets", ())
    )
    assert kinds["retweeted"] / len(quarter) == pytest.approx(0.25, abs=0.03)
    assert kinds["replied_to"] / len(quarter) == pytest.approx(0.10, abs=0.02)
    assert sum(not hashtags(record) for record in quarter) / len(quarter) == pytest.approx(0.35, abs=0.03)


def test_a_retweet_carries_its_original_and_is_itself_cut_off(quarter: list[Record]) -> None:
    """Whoever counts a retweet's own entities misses hashtags now and then, as with X."""
    retweets = [record for record in quarter if is_retweet(record)]
    cut = 0
    for record in retweets:
        data, (original,) = record["data"], record["includes"]["tweets"]
        author = next(user for user in record["includes"]["users"] if user["id"] == original["author_id"])
        whole = f"RT @{author['username']}: {original['text']}"
        assert data["text"] in {whole, whole[:139] + "…"}
        assert data["referenced_tweets"] == [{"type": "retweeted", "id": original["id"]}]
        assert int(original["id"]) < int(data["id"])
        own = [hashtag["tag"] for hashtag in data["entities"].get("hashtags", ())]
        assert own == hashtags(record)[: len(own)]
        cut += own != hashtags(record)
    assert 0.05 < cut / len(retweets) < 0.35


def test_a_reply_says_to_whom(quarter: list[Record]) -> None:
    """A reply's own hashtags count, not those of the post it answers."""
    replies = [record for record in quarter if "in_reply_to_user_id" in record["data"]]
    assert replies
    for record in replies:
        (original,) = record["includes"]["tweets"]
        assert record["data"]["in_reply_to_user_id"] == original["author_id"] != record["data"]["author_id"]
        assert record["data"]["referenced_tweets"] == [{"type": "replied_to", "id": original["id"]}]


def test_indices_say_where_in_the_text_a_hashtag_or_mention_stands(quarter: list[Record]) -> None:
    """Positions are code points, as X's v2 counts them, also behind emoji and right-to-left words."""
    for record in quarter:
        for tweet in (record["data"], *record["includes"].get("tweets", ())):
            text, entities = tweet["text"], tweet["entities"]
            assert len(text) <= 280
            for hashtag in entities.get("hashtags", ()):
                assert text[hashtag["start"] : hashtag["end"]] == f"#{hashtag['tag']}"
            for mention in entities.get("mentions", ()):
                assert text[mention["start"] : mention["end"]] == f"@{mention['username']}"


def test_one_hashtag_is_spelled_in_several_ways(quarter: list[Record]) -> None:
    """Boards that do not fold spellings would show the same hashtag twice; on a Monday it is Monday's."""
    spellings = {tag for record in quarter for tag in hashtags(record)}
    assert {"Python", "python", "PYTHON"} <= spellings
    assert {"MondayMotivation", "mondaymotivation", "MONDAYMOTIVATION"} <= spellings
    assert not spellings & {*demo_words.WEEKDAYS[1:], demo_words.WEEKDAY}


def test_hashtags_come_in_many_languages(quarter: list[Record]) -> None:
    """About 150 hashtags, with accents, Japanese, Arabic, Devanagari, and Persian's zero-width non-joiner."""
    folded = {tag.casefold() for record in quarter for tag in hashtags(record)}
    assert 140 <= len(folded) <= 200
    persian = "کتاب\N{ZERO WIDTH NON-JOINER}خوانی"
    assert {"café", "コーヒー", "قهوة", "चाय", "frühstück", persian} <= folded
    assert not any(re.search(r"[\s#()]", tag) for tag in folded)


def test_the_mean_rate_over_an_hour_is_the_one_asked_for() -> None:
    """Bursts are part of the mean; they reach about four times it, and calm minutes are never empty."""
    town = Town(11, posts_per_s=5)
    minutes = [[len(town.posts(MONDAY_S + 60 * m + s, 1.0)) for s in range(60)] for m in range(60)]
    seconds = [count for minute in minutes for count in minute]
    assert sum(seconds) / 3600 == pytest.approx(5, rel=0.1)
    peak = max(sum(seconds[at : at + 5]) / 5 for at in range(3595))
    assert 2.5 * 5 < peak < 5 * 5
    assert min(map(sum, minutes)) > 0.5 * 5 * 60


def test_half_a_minute_after_the_prelude_a_match_kicks_off(quarter: list[Record]) -> None:
    """The rate jumps within seconds, one new hashtag leads the board, and a minute later it is over."""
    seconds = per_second(quarter)
    start = next(at for at in range(900) if sum(seconds[at + ahead] for ahead in range(5)) > 5 * 10 * 2)
    assert 80 <= start <= 97

    def tags(begin: int, end: int) -> collections.Counter[str]:
        chosen = [one for one in quarter if begin <= sent_at(one).timestamp() - MONDAY_S < end]
        return collections.Counter(tag.casefold() for record in chosen for tag in hashtags(record))

    (match, count), (_, runner_up) = tags(start, start + 30).most_common(2)
    assert re.fullmatch("(?:{0})vs(?:{0})".format("|".join(demo_words.CLUBS).casefold()), match)
    assert count > 1.5 * runner_up
    assert match not in tags(0, 80)
    assert tags(start + 70, start + 100)[match] < count / 4


def test_a_hashtag_rises_for_ten_minutes(quarter: list[Record]) -> None:
    """It comes from nowhere, climbs slowly and steadily, and then makes room for the next one."""
    rising = {tag.casefold() for tag in demo_words.RISING}
    by_turn = collections.defaultdict[str, list[int]](lambda: [0] * 6)
    for record in quarter:
        for tag in {tag.casefold() for tag in hashtags(record)} & rising:
            by_turn[tag][int(sent_at(record).timestamp() - MONDAY_S) // 150] += 1
    (first, second) = by_turn.values()
    assert first[0] < first[1] < first[2] < first[3] > first[5]
    assert first[3] > 50
    assert second[:4] == [0, 0, 0, 0]
    assert 0 < second[4] < second[5]


# --- the server ---


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Connect a client of its own; it yields the HTTP chunks as they were sent, one by one."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert response.headers["Transfer-Encoding"] == "chunked"
        yield chunks(response)


async def chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    gathered = b""
    async for data, ends_chunk in response.content.iter_chunks():
        gathered += data
        if ends_chunk:
            yield gathered
            gathered = b""


async def take(count: int, stream: AsyncIterator[bytes]) -> list[bytes]:
    return [await anext(stream) for _ in range(count)]


def asked(url: str) -> tuple[str, int, bytes]:
    """Host, port and request for a client that is written by hand."""
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    return host, int(port), b"GET /2/tweets/search/stream?backfill_minutes=1 HTTP/1.1\r\nHost: demo\r\n\r\n"


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Whatever a test does, the server takes all its tasks with it."""
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_gets_the_last_minute_at_once_then_live_posts() -> None:
    """Boards fill within a second: the prelude lies in the past, and every post is an HTTP chunk and a CRLF line."""
    started = time.time()
    async with asyncio.timeout(5), demo_server(seed=1) as url, connected(url) as stream:
        assert url.endswith("/2/tweets/search/stream?backfill_minutes=1")
        records = []
        async for chunk in stream:
            assert chunk.endswith(b"}\r\n")
            assert chunk.count(b"\n") == 1
            records.append(json.loads(chunk))
            if sent_at(records[-1]).timestamp() > started:
                break
        times = [sent_at(record).timestamp() for record in records]
        assert times == sorted(times)
        assert started - 62 < times[0] < started - 58
        assert 1_000 < sum(at < started - 1 for at in times) < 3_000
        assert len({record["data"]["id"] for record in records}) == len(records)


async def test_who_asks_for_no_refill_gets_only_what_is_new() -> None:
    """A program that knows no post's id may connect again without counting anything twice."""
    started = time.time()
    async with asyncio.timeout(5), demo_server(seed=1, posts_per_s=400) as url, connected(url.split("?")[0]) as stream:
        first = json.loads((await take(1, stream))[0])
    assert sent_at(first).timestamp() > started - 1


async def test_silence_is_filled_with_keep_alives() -> None:
    """A bare CRLF as a chunk of its own shows a reader that the connection lives."""
    server = demo_server(posts_per_s=0.001, seed=1, keep_alive_s=0.01, prelude_s=0)
    async with asyncio.timeout(5), server as url, connected(url) as stream:
        beats = await take(3, stream)
    assert beats.count(b"\r\n") >= 2  # the first second of a town may bring its first post


async def test_all_clients_get_the_same_live_posts() -> None:
    """Who comes later misses what was before, and from then on nothing."""
    server = demo_server(posts_per_s=400, seed=1, prelude_s=0)
    async with asyncio.timeout(5), server as url, connected(url) as early:
        first = await take(20, early)
        async with connected(url) as late:
            second = await take(60, late)
        async for chunk in early:
            first.append(chunk)
            if chunk == second[-1]:
                break
    assert first[-len(second) :] == second
    assert len(first) > len(second)


async def test_a_client_that_does_not_read_is_disconnected_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full-buffer disconnect, as X does it: its own connection is cut in the middle, another reader notices nothing."""
    dropped, warnings = asyncio.Event(), list[str]()

    def warn(message: str, *values: object) -> None:
        warnings.append(message % values)
        dropped.set()

    monkeypatch.setattr(simulate.logger, "warning", warn)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(simulate, "BEHIND_S", 0.5)  # so that 1,000 posts are soon too many
    server = demo_server(posts_per_s=2_000, seed=1)  # its prelude alone is more than the kernel's buffers hold
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        async with asyncio.timeout(5), server as url, connected(url) as diligent:
            host, port, request = asked(url)
            await loop.sock_connect(lazy, (host, port))
            await loop.sock_sendall(lazy, request)
            async for _ in diligent:
                if dropped.is_set():
                    break
            assert await anext(diligent)
            received = b""
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)  # a small one is drained in a crawl
            with contextlib.suppress(ConnectionResetError):
                while data := await loop.sock_recv(lazy, 1 << 20):
                    received = received[-100:] + data
            assert not received.endswith(b"0\r\n\r\n")
    (warning,) = warnings
    assert re.search(r"1\d\d\d posts behind", warning)


async def test_a_client_that_leaves_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """Coming and going costs the others nothing and leaves no noise in the log."""
    server = demo_server(posts_per_s=400, seed=1, prelude_s=1)
    async with asyncio.timeout(5), server as url, connected(url) as stays:
        for _ in range(3):
            async with connected(url) as leaves:
                assert await anext(leaves)
        assert await take(350, stays)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_stop_is_prompt_and_leaves_nothing_behind() -> None:
    """A reader sees a proper end, one that does not read is cut off, and both within half a second."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        async with asyncio.timeout(5), contextlib.AsyncExitStack() as stack:
            server = contextlib.AsyncExitStack()
            url = await server.enter_async_context(demo_server(posts_per_s=200, seed=1))
            host, port, request = asked(url)
            await loop.sock_connect(lazy, (host, port))
            await loop.sock_sendall(lazy, request)
            stream = await stack.enter_async_context(connected(url))
            async for chunk in stream:
                if sent_at(json.loads(chunk)).timestamp() > time.time() - 1:
                    break
            assert "demo posts" in {task.get_name() for task in asyncio.all_tasks()}
            began = loop.time()
            await server.aclose()
            assert loop.time() - began < 0.5
            assert asyncio.all_tasks() == before
            rest = [chunk async for chunk in stream]  # ends, and without an error: the last chunk was sent
            assert all(chunk.endswith(b"\r\n") for chunk in rest)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, port)


async def test_what_is_raised_beside_the_server_arrives_as_it_is() -> None:
    """The server's task group does not wrap the errors of those who use it."""
    with pytest.raises(LookupError, match="mine"):
        async with demo_server(seed=1):
            raise LookupError("mine")


async def test_a_cancellation_passes() -> None:
    """Who cancels the task that holds the server gets a cancelled task, promptly."""
    serving = asyncio.Event()

    async def hold() -> None:
        async with demo_server(seed=1) as url, connected(url) as stream:
            await anext(stream)
            serving.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(hold())
        await serving.wait()
        task.cancel()
    assert task.cancelled()


async def test_a_failure_inside_unwinds_who_uses_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that has died is not shown as a silent one."""

    def broken(*_: object) -> list[bytes]:
        raise ZeroDivisionError("the town fell apart")

    async def watch() -> None:
        async with asyncio.timeout(5), demo_server(seed=1):
            monkeypatch.setattr(Town, "posts", broken)
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await watch()
    assert caught.group_contains(ZeroDivisionError, match="fell apart")


async def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    """The address is the user's choice, and so the message names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}"):
            async with demo_server(port=port, seed=1):
                pytest.fail("it must not start")
