"""Every route and every way in which a request can go wrong, over real HTTP."""

import asyncio
import logging
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
from yarl import URL

from conftest import wait_until
from tweetboard import __version__, page
from tweetboard.answers import Problem
from tweetboard.api import About, Api, Part
from tweetboard.asked import MAX_LIMIT, MAX_OFFSET
from tweetboard.board.reads import STEPS
from tweetboard.board.rows import Page, Row
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.board.windows import NOTHING_MORE, Kept, window
from tweetboard.channel import Message
from tweetboard.errors import StoreRefused
from tweetboard.feed import Condition
from tweetboard.formats.hashtags import fold
from tweetboard.lease import Lease
from tweetboard.live import Live
from tweetboard.serving import listening
from tweetboard.store import Store, open_store

PROBLEM = "application/problem+json"
SCORES = {"alice": 9, "bob": 7, "chloë": 7, **{f"user {number:02}": 3 for number in range(20)}}


class Answer(NamedTuple):
    """An HTTP answer, read."""

    status: int
    headers: Any
    body: bytes
    json: Any


class Site:
    """A listening Api and a client of it; what it was made from can be changed while it runs."""

    def __init__(self, address: str, client: aiohttp.ClientSession) -> None:
        self.address = address
        self.port = URL(address).port
        self.client = client
        self.requests = Counter[tuple[str, str]]()
        self.parts = {"redis": Part(ok=True, detail="answers"), "stream": Part(ok=True, detail="connected")}
        self.streams = dict[str, Condition]()
        self.live = Live(dict)
        self.metrics = b"# HELP tweetboard_posts_total Posts read.\n"

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path as it stands, without anything being tidied up."""
        async with self.client.request(method, URL(self.address + path, encoded=True), headers=headers) as response:
            body = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "") and body
            return Answer(
                response.status, response.headers, body, await response.json(content_type=None) if is_json else None
            )

    async def say(self, request: bytes) -> Answer:
        """Send bytes that no client library would, and read until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.replace(b"\n", b"\r\n") + b"Connection: close\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        return Answer(int(lines[0].split()[1]), headers, body, None)


@asynccontextmanager
async def serving(
    boards: dict[str, Any], *, hosts: tuple[str, ...] = (), demo: bool = False, host: str = "127.0.0.1"
) -> AsyncIterator[Site]:
    """Serve boards on a free port."""
    sites = list[Site]()
    requests = Counter[tuple[str, str]]()
    api = Api(
        boards,
        About(readiness=lambda: sites[0].parts, streams=lambda: sites[0].streams, metrics=lambda: sites[0].metrics),
        requests=requests,
        hosts=hosts,
        demo=demo,
    )
    async with listening(api.application(), host, 0) as address, aiohttp.ClientSession() as client:
        sites.append(Site(address, client))
        sites[0].live = api.live
        sites[0].requests = requests
        yield sites[0]


@pytest.fixture
async def site(fake_store: Store) -> AsyncIterator[Site]:
    """Serve two boards, one of them with names on it."""
    for name, score in SCORES.items():
        await fake_store.execute("ZADD", "username_scoreboard", score, name)
    boards = {
        "usernames": Scoreboard(fake_store, "usernames", "username_scoreboard"),
        "hashtags": Scoreboard(fake_store, "hashtags", "hashtags_scoreboard"),
    }
    async with serving(boards) as made:
        yield made


NOW = 1_763_805_600


class Board:
    """A board whose answer is made by a test."""

    name = "usernames"
    kept = NOTHING_MORE

    def __init__(self, top: Callable[[], Any]) -> None:
        self._top = top

    def version(self, _: str) -> object:
        return object()

    async def top(self, **_: object) -> Page:
        page = self._top()
        result: Page = await page if asyncio.iscoroutine(page) else page
        return result


def problem(answer: Answer, status: int, title: str) -> str:
    """Show that an answer is a problem document, and return its detail."""
    assert answer.status == status
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert set(answer.json) <= {"title", "status", "detail"}, "type is about:blank, which need not be said"
    assert (answer.json["title"], answer.json["status"]) == (title, status)
    detail: str = answer.json.get("detail", "")
    return detail


# --- What there is ---


async def test_a_board_is_its_top_ten_with_ranks_and_a_total(site: Site) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    answer = await site.get("/usernames")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert list(answer.json) == ["board", "window", "total", "as_of", "max_error", "results"]
    assert (answer.json["board"], answer.json["window"], answer.json["total"]) == ("usernames", "all", 23)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.json["as_of"])
    assert before <= datetime.fromisoformat(answer.json["as_of"]) <= datetime.now(UTC)
    results = answer.json["results"]
    assert len(results) == 10
    assert results[:3] == [
        {"rank": 1, "name": "alice", "display": "alice", "score": 9},
        {"rank": 2, "name": "chloë", "display": "chloë", "score": 7},
        {"rank": 2, "name": "bob", "display": "bob", "score": 7},
    ]
    assert [(row["rank"], row["name"]) for row in results[3:5]] == [(4, "user 19"), (4, "user 18")]
    assert all(type(row["score"]) is int for row in results)


async def test_a_board_without_names_is_empty_and_not_missing(site: Site) -> None:
    answer = await site.get("/hashtags")
    assert (answer.status, answer.json["total"], answer.json["results"]) == (200, 0, [])


async def test_scores_are_integers_however_large() -> None:
    page = Page(1, [Row(1, "alice", "alice", 2**53)])
    async with serving({"usernames": Board(lambda: page)}) as site:
        assert b'"score":9007199254740992}' in (await site.get("/usernames")).body


async def test_names_are_json_whatever_is_in_them(fake_store: Store) -> None:
    odd = '</script><img src=x onerror="alert(1)">\\\u2028 \x01'
    await fake_store.execute("ZADD", "ub", 1, odd)
    async with serving({"usernames": Scoreboard(fake_store, "usernames", "ub")}) as site:
        assert (await site.get("/usernames")).json["results"][0]["name"] == odd


async def test_the_boards_are_listed_with_their_addresses(site: Site) -> None:
    answer = await site.get("/boards")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == {
        "demo": False,
        "boards": {
            "usernames": {"url": "usernames", "windows": ["all"], "sign": "", "half_life_s": 0},
            "hashtags": {"url": "hashtags", "windows": ["all"], "sign": "", "half_life_s": 0},
        },
    }


async def test_a_name_is_searched_for_on_all_boards_at_once(timed: Site) -> None:
    found = (await timed.get("/search?name=%23TEA&around=1")).json["found"]
    assert found == [{**(await timed.get("/hashtags/tea?around=1")).json, "as_of": found[0]["as_of"]}]
    within = (await timed.get("/search?name=tea&boards=hashtags:5m,hashtags,hashtags:5m")).json["found"]
    assert [(one["window"], one["score"]) for one in within] == [("5m", 1), ("all", 2)]


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("name=nobody", 200, ""),
        ("name=", 200, ""),
        ("name=%23", 200, ""),
        ("", 400, "name is missing: whom to search for"),
        ("name=a&boards=mine", 400, "boards: 'mine' is not one of: hashtags"),
        ("name=a&boards=hashtags:7x", 400, "window '7x' is not one of: all, 5m, trending"),
        ("name=a&boards=", 400, "boards: '' is not one of: hashtags"),
        ("name=a&limit=3", 400, "unknown parameter 'limit': there are name, boards, around and history"),
    ],
)
async def test_a_search_finds_nobody_or_says_what_is_wrong(timed: Site, query: str, status: int, detail: str) -> None:
    answer = await timed.get(f"/search?{query}")
    if status == 200:
        assert (answer.status, answer.json) == (200, {"found": []})
    else:
        assert problem(answer, 400, "Bad Request") == detail


async def test_the_page_and_its_files_are_small_and_bound_to_this_host(site: Site) -> None:
    size = 0
    for path, answer in page.files().items():
        got = await site.get(path)
        assert (got.status, got.body, got.headers["Content-Type"]) == (200, answer.body, answer.media_type)
        policy = got.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert (await site.get(path, **{"If-None-Match": got.headers["ETag"]})).status == 304
        assert not re.search(rb"(?:src|href|url|import|from)\W{1,3}(?:https?:)?//", answer.body), path
        size += len(got.body)
    assert "/" in page.files()
    assert size < 60_000


async def test_a_demo_says_so() -> None:
    async with serving({}, demo=True) as site:
        assert (await site.get("/boards")).json == {"demo": True, "boards": {}}


async def test_whoever_answers_is_alive(site: Site) -> None:
    answer = await site.get("/healthz")
    assert (answer.status, answer.headers["Content-Type"], answer.json) == (
        200,
        "application/json",
        {"status": "alive"},
    )


async def test_ready_is_where_every_part_works(site: Site) -> None:
    answer = await site.get("/readyz")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == {
        "status": "ready",
        "parts": {"redis": {"ok": True, "detail": "answers"}, "stream": {"ok": True, "detail": "connected"}},
    }
    site.parts["stream"] = Part(ok=False, detail="refused")
    answer = await site.get("/readyz")
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
    assert (answer.json["status"], answer.json["parts"]["stream"]) == ("not ready", {"ok": False, "detail": "refused"})


async def test_metrics_are_prometheus_text_read_anew_each_time(site: Site) -> None:
    for text in (b"one 1\n", b"two 2\n"):
        site.metrics = text
        answer = await site.get("/metrics")
        assert (answer.status, answer.body) == (200, text)
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/boards", "/healthz", "/readyz", "/metrics", "/usernames?limit=3", "/nowhere"])
async def test_head_is_get_without_its_body(site: Site, path: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    got, headed = await site.get(path, **plain), await site.get(path, "HEAD", **plain)
    assert (headed.status, headed.body) == (got.status, b"")
    for name in ("Content-Type", "X-Content-Type-Options"):
        assert headed.headers[name] == got.headers[name]
    assert abs(int(headed.headers["Content-Length"]) - len(got.body)) <= 1, "the method's name is in the 404's detail"


# --- Parameters ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=1", ["alice"]),
        ("limit=2&offset=1", ["chloë", "bob"]),
        ("offset=22", ["user 00"]),
        ("limit=1000&offset=21", ["user 01", "user 00"]),
        ("limit=0000000003&offset=0", ["alice", "chloë", "bob"]),
        ("offset=23", []),
        (f"offset={MAX_OFFSET}&limit={MAX_LIMIT}&window=all", []),
        ("limit=1&", ["alice"]),
        ("%6Cimit=%31", ["alice"]),
    ],
)
async def test_a_page_is_asked_for_by_limit_and_offset(site: Site, query: str, expected: list[str]) -> None:
    answer = await site.get(f"/usernames?{query}")
    assert answer.status == 200
    assert [row["name"] for row in answer.json["results"]] == expected
    assert answer.json["total"] == 23


@pytest.mark.parametrize("name", ["limit", "offset"])
@pytest.mark.parametrize(
    "text",
    [
        *["", "-1", "%2B5", "+5", "1.0", "1e2", "0x10", "ten", "%00", "5%00", "5%0A", "%205", "5 ".replace(" ", "%20")],
        *["%D9%A3", "%C2%B2", "%FF", "1_0", "9" * 13, "1" * 5000, "5;offset=2", "[]", "null"],
    ],
)
async def test_what_is_no_whole_number_is_refused(site: Site, name: str, text: str) -> None:
    detail = problem(await site.get(f"/usernames?{name}={text}"), 400, "Bad Request")
    assert detail.startswith(f"{name} must be a whole number from ")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("limit=0", "limit must be from 1 to 1000, not 0"),
        ("limit=1001", "limit must be from 1 to 1000, not 1001"),
        (f"offset={MAX_OFFSET + 1}", f"offset must be from 0 to {MAX_OFFSET}, not {MAX_OFFSET + 1}"),
        ("limit=5&limit=5", "limit stands there more than once"),
        ("offset=1&limit=5&offset=2", "offset stands there more than once"),
        ("window=all&window=all", "window stands there more than once"),
        ("window=5m", "window '5m' is not one of: all"),
        ("window=", "window '' is not one of: all"),
        ("window=ALL", "window 'ALL' is not one of: all"),
        ("window=%00", "window '\\x00' is not one of: all"),
        ("limits=5", "unknown parameter 'limits': there are limit, offset, window and history"),
        ("Limit=5", "unknown parameter 'Limit': there are limit, offset, window and history"),
        ("limit=5&z=1&a=2", "unknown parameter 'a': there are limit, offset, window and history"),
        ("%00=1", "unknown parameter '\\x00': there are limit, offset, window and history"),
        ("=", "unknown parameter '': there are limit, offset, window and history"),
        ("limit%5B%5D=5", "unknown parameter 'limit[]': there are limit, offset, window and history"),
    ],
)
async def test_parameters_that_are_out_of_bounds_repeated_or_unknown_are_refused(
    site: Site, query: str, complaint: str
) -> None:
    assert problem(await site.get(f"/usernames?{query}"), 400, "Bad Request") == complaint


async def test_a_refused_request_does_not_reach_redis(fake_store: Store, site: Site) -> None:
    before = fake_store.round_trips
    await site.get("/usernames?limit=0")
    await site.get("/usernames", Host="evil.example")
    await site.get("/nowhere")
    await site.get("/usernames", "POST")
    assert fake_store.round_trips == before


# --- Windows, names, history ---


@pytest.fixture
async def timed(store: Store) -> AsyncIterator[Site]:
    """Serve a board of hashtags with a window and trending scores."""
    kept = Kept((window("5m"),), 3600)
    board = Scoreboard(store, "hashtags", "hashtags_scoreboard", fold, kept=kept, clock=lambda: NOW)
    await store.execute("HSET", "tweetboard:x", "owner", "me", "seq", 1)
    await store.execute("HSET", "hashtags_scoreboard:applied", "x", 0)
    times = [(NOW - 3600, 4), (NOW - 300, 1), (NOW, 2)]
    names = ["old", "old", "old", "old", "Tea", "Tea", "salt"]
    await board.apply("tweetboard:x", "me", [Message("x", "me", 1, times, names)])
    async with serving({"hashtags": board}) as made:
        yield made


@pytest.mark.parametrize(
    ("window", "scores"),
    [
        ("all", {"old": 4, "tea": 2, "salt": 1}),
        ("5m", {"tea": 1, "salt": 1}),
        ("trending", {"old": 2.0, "tea": pytest.approx(1 + 2 ** (-1 / 12), rel=1e-4), "salt": 1.0}),
    ],
)
async def test_a_window_is_asked_for_by_its_name(timed: Site, window: str, scores: dict[str, object]) -> None:
    answer = await timed.get(f"/hashtags?window={window}")
    assert answer.json["window"] == window
    assert {row["name"]: row["score"] for row in answer.json["results"]} == scores
    assert answer.json["total"] == len(scores)


async def test_the_boards_list_says_which_windows_there_are(timed: Site) -> None:
    assert (await timed.get("/boards")).json["boards"]["hashtags"]["windows"] == ["all", "5m", "trending"]


async def test_another_window_is_refused_with_those_there_are(timed: Site) -> None:
    detail = problem(await timed.get("/hashtags?window=7x"), 400, "Bad Request")
    assert detail == "window '7x' is not one of: all, 5m, trending"


async def test_a_history_has_a_count_for_each_bucket(timed: Site) -> None:
    answer = await timed.get("/hashtags?window=5m&history=1")
    assert {row["name"]: (len(row["history"]), row["history"][-1]) for row in answer.json["results"]} == {
        "tea": (60, 1),
        "salt": (60, 1),
    }


async def test_of_a_board_of_leaders_it_is_said_where_ranks_end(store: Store) -> None:
    board = Scoreboard(store, "usernames", "ub", kept=Kept(leaders=2), clock=lambda: NOW)
    await store.execute("SET", "lease", "me")
    scores = {"ann": 6, "ben": 5, "cleo": 4, "dan": 3, "eve": 2}
    await board.add_bare("lease", "me", Counter(scores).elements())
    await board.add_bare("lease", "me", ["late"])
    async with serving({"usernames": board}) as site:
        page = (await site.get("/usernames")).json
        assert [row["name"] for row in page["results"]] == ["ann", "ben"]
        assert (page["total"], page["ranked"]) == (6, 2)
        assert (await site.get("/usernames?offset=2")).json["results"] == []
        below = (await site.get("/usernames/late?around=1")).json
        assert (below["rank"], below["score"], below["below"]) == (None, 1, 2)
        assert [row["name"] for row in below["around"]] == ["late"]
        shared = (await site.get("/usernames/cleo")).json
        assert (shared["rank"], shared.get("below")) == (3, None)
        found = (await site.get("/search?name=dan")).json["found"]
        assert [(one["rank"], one["below"]) for one in found] == [(None, 2)]


async def test_of_a_board_that_keeps_all_names_nothing_is_said_of_ranks(timed: Site) -> None:
    assert "ranked" not in (await timed.get("/hashtags")).json
    assert "below" not in (await timed.get("/hashtags/salt")).json


@pytest.mark.parametrize("spelling", ["tea", "TEA", "%23Tea", "%EF%BC%83tea", "tea%E2%80%8B"])
async def test_a_name_is_found_however_it_is_spelled(timed: Site, spelling: str) -> None:
    answer = await timed.get(f"/hashtags/{spelling}?around=1")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    answer.json.pop("as_of")
    assert answer.json == {
        "board": "hashtags",
        "window": "all",
        "total": 3,
        "max_error": 0,
        "rank": 2,
        "name": "tea",
        "display": "Tea",
        "score": 2,
        "around": [
            {"rank": 1, "name": "old", "display": "old", "score": 4},
            {"rank": 2, "name": "tea", "display": "Tea", "score": 2},
            {"rank": 3, "name": "salt", "display": "salt", "score": 1},
        ],
    }


async def test_a_name_in_a_window(timed: Site) -> None:
    answer = await timed.get("/hashtags/salt?window=5m")
    assert (answer.json["rank"], answer.json["score"], answer.json["window"]) == (1, 1, "5m"), "it shares its rank"
    detail = problem(await timed.get("/hashtags/old?window=5m"), 404, "Not Found")
    assert detail == "'old' is not on the board hashtags in the window 5m"


NO_NAME = "what the path has for a name can be none: it is empty, or too long"


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/usernames/nobody", 404, "'nobody' is not on the board usernames"),
        ("/usernames/%00", 404, NO_NAME),
        ("/usernames/" + "x" * 7_000, 404, NO_NAME),
        ("/usernames/" + "x" * 10_000, 404, NO_NAME),
        ("/usernames/" + "%E6%97%A5" * 3_000, 404, NO_NAME),
        ("/usernames/%FF", 400, "what the path has for a name is no UTF-8"),
        ("/usernames/%ED%A0%80", 400, "what the path has for a name is no UTF-8"),
        ("/usernames/alice/bob", 404, "'alice/bob' is not on the board usernames"),
        ("/usernames/alice%2Fbob", 404, "'alice/bob' is not on the board usernames"),
        ("/usernames/alice?around=101", 400, "around must be from 0 to 100, not 101"),
        ("/usernames/alice?limit=5", 400, "unknown parameter 'limit': there are around, window and history"),
    ],
)
async def test_a_name_that_is_not_there_or_none_is_a_problem(site: Site, path: str, status: int, detail: str) -> None:
    assert problem(await site.get(path), status, "Not Found" if status == 404 else "Bad Request") == detail
    assert dict(site.requests) == {("/usernames/{name}", str(status)): 1}, "no name is ever a label"


async def test_no_name_is_taken_for_the_board(site: Site) -> None:
    assert (await site.get("/usernames")).status == 200
    for nothing in ("%00", "%E2%80%8B", "x" * 7_000):
        problem(await site.get(f"/usernames/{nothing}"), 404, "Not Found")


async def test_a_boards_name_may_be_percent_encoded_too(site: Site) -> None:
    assert (await site.get("/%75sernames")).json["board"] == "usernames"
    assert (await site.get("/%75sernames/alice")).json["rank"] == 1


async def test_a_name_with_a_slash_is_found_plain_and_encoded(fake_store: Store) -> None:
    await fake_store.execute("ZADD", "ub", 1, "a/b é?")
    async with serving({"usernames": Scoreboard(fake_store, "usernames", "ub")}) as site:
        for path in ("/usernames/a/b%20%C3%A9%3F", "/usernames/a%2Fb%20%C3%A9%3F"):
            assert (await site.get(path)).json["name"] == "a/b é?"


# --- Encoded once ---


async def test_what_somebody_has_already_is_not_sent_again(site: Site) -> None:
    first = await site.get("/usernames")
    tag = first.headers["ETag"]
    assert re.fullmatch(r'W/"[0-9a-f]+"', tag)
    for known in (tag, f'"x", {tag}', "*", tag.removeprefix("W/")):
        again = await site.get("/usernames", **{"If-None-Match": known})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert (await site.get("/usernames", **{"If-None-Match": '"another"'})).status == 200
    assert (await site.get("/usernames?limit=3")).headers["ETag"] != tag


async def test_the_tag_is_another_when_the_board_is(fake_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tweetboard.answers.FRESH_S", 0.0)
    async with serving({"usernames": Scoreboard(fake_store, "usernames", "ub")}) as site:
        tags = [(await site.get("/usernames")).headers["ETag"] for _ in range(2)]
        await fake_store.execute("ZADD", "ub", 1, "alice")
        tags.append((await site.get("/usernames")).headers["ETag"])
        await fake_store.execute("HSET", "ub:lacking", "all", 3)
        tags.append((await site.get("/usernames")).headers["ETag"])
    assert tags[0] == tags[1]
    assert len(set(tags[1:])) == 3, "also when only max_error is"


async def test_all_who_ask_the_same_share_one_read(
    fake_store: Store, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tweetboard.answers.FRESH_S", 60.0)
    before = fake_store.round_trips
    async with asyncio.TaskGroup() as group:
        requests = [group.create_task(site.get("/usernames")) for _ in range(20)]
    assert len({request.result().body for request in requests}) == 1
    assert fake_store.round_trips == before + 1


async def test_what_this_process_counts_is_seen_at_once(fake_store: Store) -> None:
    board = Scoreboard(fake_store, "usernames", "ub")
    await Lease(fake_store, "lease", "me").hold()
    async with serving({"usernames": board}) as site:
        for count in range(1, 4):
            await board.add_bare("lease", "me", ["alice"])
            assert (await site.get("/usernames")).json["results"][0]["score"] == count


async def test_what_is_asked_for_in_vain_takes_no_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tweetboard.answers.MAX_REMEMBERED", 3)
    for number in range(10):
        await site.get(f"/usernames/nobody{number}")
        assert (await site.get(f"/usernames?offset={number}")).status == 200


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("br;q=1.0, gzip;q=0.8", "gzip"),
        ("*", "gzip"),
        ("*;q=0, gzip", "gzip"),
        ("gzip;q=0, *", None),
        ("gzip;q=0", None),
        ("gzip; q=0.0, br", None),
        ("identity", None),
    ],
)
async def test_a_long_answer_is_compressed_for_who_takes_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, accepted: str, encoding: str | None
) -> None:
    monkeypatch.setattr("tweetboard.answers.FRESH_S", 60.0)
    plain = await site.get("/usernames?limit=1000", **{"Accept-Encoding": "identity"})
    answer = await site.get("/usernames?limit=1000", **{"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == encoding
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.body == plain.body
    assert "Content-Encoding" not in (await site.get("/usernames?limit=1", **{"Accept-Encoding": accepted})).headers


async def test_every_answer_ends_its_line(site: Site) -> None:
    for path in ("/boards", "/healthz", "/readyz", "/usernames", "/usernames/alice", "/nowhere"):
        assert (await site.get(path)).body.endswith(b"}\n")


# --- What there is not ---


@pytest.mark.parametrize(
    "path",
    [
        *["/nowhere", "/usernames/", "/Usernames", "/usernames%00", "/%00", "/usernames%2F", "//"],
        *[
            "/usernames%0A",
            "/../etc/passwd",
            "/%2E%2E/%2E%2E/etc/passwd",
            "/%FF",
            "/%ED%A0%80",
            "/%C3%A9",
            "/" + "x" * 8000,
        ],
        "//evil.example/usernames",
    ],
)
async def test_every_other_path_is_not_found_and_counted_without_its_name(site: Site, path: str) -> None:
    problem(await site.get(path), 404, "Not Found")
    assert dict(site.requests) == {("unknown", "404"): 1}


async def test_a_path_that_is_not_found_is_repeated_as_json_only(site: Site) -> None:
    answer = await site.get("/%3Cscript%3E%22%00")
    assert problem(answer, 404, "Not Found") == (
        'GET /<script>"\x00: there are /boards, /search, /events, /openapi.json, /usernames, /hashtags'
    )


@pytest.mark.parametrize("path", ["/", "/boards", "/healthz", "/readyz", "/metrics", "/usernames"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_boards_are_only_read(site: Site, path: str, method: str) -> None:
    answer = await site.get(path, method)
    assert problem(answer, 405, "Method Not Allowed") == f"{method} {path}"
    assert answer.headers["Allow"] == "GET,HEAD"


# --- Hosts ---


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "127.0.0.1", "10.1.2.3:80", "[::1]:8080", "board.example", "Board.Example:1"],
)
async def test_our_own_names_and_every_address_are_answered(host: str) -> None:
    async with serving({}, hosts=("Board.example",)) as site:
        assert (await site.get("/healthz", Host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "board.example.", "localhost.", "127.1", "a b"]
)
async def test_a_name_that_is_not_ours_is_refused_and_says_the_way_out(host: str) -> None:
    async with serving({}, hosts=("board.example",)) as site:
        detail = problem(await site.get("/usernames", Host=host), 421, "Misdirected Request")
        assert detail == f"this is not {host!r}; if it should be, add it to http.allowed_hosts"
        assert dict(site.requests) == {("unknown", "421"): 1}


async def test_the_name_in_a_requests_target_goes_before_its_header_and_lets_nobody_else_in(site: Site) -> None:
    """RFC 9112 (3.2.2); what is remembered of one must not be believed of the other."""
    for target, host, status in (
        (b"http://localhost/usernames", b"evil.example", 200),
        (b"/usernames", b"evil.example", 421),
        (b"http://evil.example/usernames", b"localhost", 421),
        (b"/usernames", b"localhost", 200),
        (b"http://evil.example/usernames", b"localhost", 421),
    ):
        answer = await site.say(b"GET " + target + b" HTTP/1.1\nHost: " + host + b"\n")
        assert (target, host, answer.status) == (target, host, status)


@pytest.mark.parametrize("host", [b"localhost:99999999", b"localhost:x", b"\xff", b"xn--\xc3\xbc.example"])
async def test_a_host_that_is_none_is_a_bad_request_and_no_line_in_the_log(
    site: Site, host: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await site.say(b"GET /usernames HTTP/1.1\nHost: " + host + b"\n")
    assert (answer.status, answer.headers["Content-Type"]) == (400, PROBLEM)
    assert dict(site.requests) == {("/usernames", "400"): 1}
    assert caplog.messages == []


@pytest.mark.parametrize(
    "request_line",
    [
        b"nonsense",
        b"BREW / HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1",
        b"GET / HTTP/1.1\nHost: x\nA: " + b"x" * 40_000,
        b"GET / HTTP/1.1\nA: 1\nHost: x\nHost: y",
    ],
    ids=lambda line: repr(line[:20]),
)
async def test_what_is_no_request_is_answered_and_no_line_in_the_log(
    site: Site, request_line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await site.say(request_line + b"\n")
    assert (answer.status, answer.headers["Content-Type"]) == (400, PROBLEM)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    found = msgspec.json.decode(answer.body, type=Problem)
    assert (found.title, found.status) == ("Bad Request", 400)
    assert len(found.detail) < 200, "and not all that came"
    assert "\n" not in found.detail
    assert "bytearray" not in found.detail
    assert (await site.get("/healthz")).status == 200
    assert caplog.messages == []


@pytest.mark.parametrize("expected", [b"100-continue", b"a miracle"])
async def test_what_a_request_expects_is_passed_over(
    site: Site, expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = b" HTTP/1.1\nHost: localhost\nExpect: " + expected + b"\n"
    assert (await site.say(b"GET /usernames" + head)).status == 200
    assert (await site.say(b"GET /nowhere" + head)).status == 404
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", site.port or 0)) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.sendall(b"GET /usernames" + head.replace(b"\n", b"\r\n") + b"Content-Length: 10\r\n\r\n")
    assert (await site.get("/healthz")).status == 200
    assert caplog.messages == [], "and whoever has gone meanwhile leaves no traceback"


# --- Watching a board ---


async def next_event(stream: aiohttp.StreamReader) -> dict[str, str]:
    """Read one event with data, as a browser does."""
    async with asyncio.timeout(5):
        while True:
            text = (await stream.readuntil(b"\n\n")).decode()
            fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
            if "data" in fields:
                return fields


async def test_whoever_watches_a_board_sees_it_at_once_and_when_it_changes(fake_store: Store) -> None:
    board = Scoreboard(fake_store, "usernames", "ub")
    await Lease(fake_store, "lease", "me").hold()
    async with serving({"usernames": board}) as site:
        async with site.client.get(f"{site.address}/events/usernames?window=all") as response:
            assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
            assert response.headers["Cache-Control"] == "no-cache, no-transform"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            state = await next_event(response.content)
            assert 1_000 <= int(state.pop("retry")) <= 5_000
            assert state == {
                "event": "state",
                "data": f'{{"version":"{__version__}","ready":true,"streams":{{}},"troubles":{{}}}}',
            }
            first = await next_event(response.content)
            assert msgspec.json.decode(first["data"], type=dict[str, Any])["results"] == []
            await board.add_bare("lease", "me", ["alice"])
            second = await next_event(response.content)
            answer = await site.get("/usernames")
            said = msgspec.json.decode(second["data"], type=dict[str, Any])
            assert {**answer.json, "as_of": ""} == {**said, "as_of": ""}
            assert answer.headers["ETag"] == f'W/"{second["id"]}"'
            site.parts["stream"] = Part(ok=False, detail="lost")
            told = await next_event(response.content)
            assert told["data"].endswith('"ready":false,"streams":{},"troubles":{"stream":"lost"}}')
        known = {"Last-Event-ID": second["id"]}
        async with site.client.get(f"{site.address}/events/usernames", headers=known) as response:
            assert (await next_event(response.content))["event"] == "state"
            await board.add_bare("lease", "me", ["bob"])
            assert "bob" in (await next_event(response.content))["data"]


async def test_what_cannot_be_watched_is_a_problem_and_no_stream(site: Site) -> None:
    for path, status in (
        ("/events/nobody", 404),
        ("/events/usernames?window=7x", 400),
        ("/events/hashtags?limit=101", 400),
    ):
        answer = await site.get(path)
        assert (answer.status, answer.headers["Content-Type"]) == (status, PROBLEM)
    head = await site.get("/events/usernames", "HEAD")
    assert (head.status, head.headers["Content-Type"], head.body) == (200, "text/event-stream", b"")


async def test_who_goes_at_once_is_no_error(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for path in (b"/events", b"/events/usernames", b"/usernames"):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", site.port or 0)) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await site.get("/healthz")).status == 200
    await wait_until(lambda: site.live.viewers == 0)
    assert caplog.messages == []
    assert not [status for _, status in site.requests if status >= "500"]


async def test_strangers_may_watch_what_they_like_and_the_usual_pages_are_there_for_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tweetboard.live.MAX_PAGES", 3)
    async with AsyncExitStack() as stack:
        for limit in (1, 2, 3):
            path = f"{site.address}/events/usernames?limit={limit}"
            watching = await stack.enter_async_context(site.client.get(path))
            await next_event(watching.content)
        assert (await site.get("/events/usernames?limit=4")).status == 503
        for path in ("/events", "/events/hashtags?window=all", "/events/usernames?limit=3"):
            async with site.client.get(f"{site.address}{path}") as response:
                assert response.status == 200


async def test_an_old_client_gets_no_chunks(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"GET /events/usernames HTTP/1.0\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head.lower()
        assert (await reader.readuntil(b"\n")).startswith(b"retry: ")
        assert (await reader.readuntil(b"\n\n")).startswith(b"event: state\n")
        assert (await reader.readuntil(b"\n\n")).startswith(b"id: ")
    writer.close()


async def test_viewers_go_when_the_server_does_and_hold_nothing_up(fake_store: Store) -> None:
    """They come back to whoever serves next."""
    begin_s = 0.0
    async with serving({"usernames": Scoreboard(fake_store, "usernames", "ub")}) as site:
        response = await site.client.get(f"{site.address}/events/usernames")
        await next_event(response.content)
        begin_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begin_s < 2.0
    response.close()


# --- Redis in trouble ---


async def test_without_redis_the_boards_are_unavailable_and_the_rest_is_there(free_port: int) -> None:
    async with open_store(f"redis://me:hunter2@127.0.0.1:{free_port}", connections=2) as store:
        async with serving({"usernames": Scoreboard(store, "usernames", "ub")}) as site:
            answer = await site.get("/usernames")
            detail = problem(answer, 503, "Service Unavailable")
            assert detail.startswith(f"Redis at 127.0.0.1:{free_port} is unavailable: ")
            assert b"hunter2" not in answer.body
            assert answer.headers["Retry-After"] == "1"
            for path in ("/", "/boards", "/healthz", "/readyz", "/metrics"):
                assert (await site.get(path)).status == 200
            assert site.requests["/usernames", "503"] == 1


async def test_a_board_is_there_again_with_redis(valkey_url: str, store: Store, free_port: int) -> None:
    await store.execute("ZADD", "ub", 1, "alice")
    async with AsyncExitStack() as stack:
        away = await stack.enter_async_context(open_store(f"redis://127.0.0.1:{free_port}", connections=1))
        back = await stack.enter_async_context(open_store(valkey_url, connections=1))
        boards = {"usernames": Scoreboard(away, "usernames", "ub")}
        site = await stack.enter_async_context(serving(boards))
        assert (await site.get("/usernames")).status == 503
        boards["usernames"] = Scoreboard(back, "usernames", "ub")
        assert (await site.get("/usernames")).json["total"] == 1


async def test_a_board_that_redis_refuses_is_an_error_and_the_others_are_there(fake_store: Store, site: Site) -> None:
    await fake_store.execute("SET", "hashtags_scoreboard", "x")
    detail = problem(await site.get("/hashtags"), 500, "Internal Server Error")
    assert detail.startswith("Redis at redis refused read on hashtags_scoreboard, ")
    assert "WRONGTYPE" in detail
    assert (await site.get("/usernames")).status == 200


async def test_a_refusal_is_no_surprise_and_not_worth_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> Page:
        raise StoreRefused("ub: score b'nan' is not a number this board wrote")

    async with serving({"usernames": Board(refuse)}) as site:
        assert "score b'nan'" in problem(await site.get("/usernames"), 500, "Internal Server Error")
    assert caplog.messages == []


async def test_a_bug_of_ours_is_a_problem_without_its_inside_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> Page:
        raise ZeroDivisionError("secret inside")

    async with serving({"usernames": Board(fail)}) as site:
        answer = await site.get("/usernames")
        assert problem(answer, 500, "Internal Server Error") == ""
        assert dict(site.requests) == {("/usernames", "500"): 1}
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "GET /usernames failed")
    assert record.exc_info
    assert "secret" not in answer.body.decode()


# --- Load ---


async def test_with_redis_silent_nobody_waits_for_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, each has its 503 after one time limit, not after as many as there are turns before it."""
    monkeypatch.setattr("tweetboard.store.COMMAND_TIMEOUT_S", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(silent, "127.0.0.1", 0) as server,
        open_store(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", connections=4) as store,
        serving({"usernames": Scoreboard(store, "usernames", "ub")}) as site,
    ):
        begin_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            requests = [group.create_task(site.get(f"/usernames?offset={n // 2}")) for n in range(80)]
            names = [group.create_task(site.get("/usernames/alice")) for _ in range(20)]
        assert asyncio.get_running_loop().time() - begin_s < 1.2, "fifty turns would take 15 s"
        assert Counter(request.result().status for request in requests + names) == {503: 100}


async def test_a_failed_read_makes_room_for_the_next() -> None:
    def fail() -> Page:
        raise StoreRefused("no")

    async with serving({"usernames": Board(fail)}) as site:
        for _ in range(20):
            assert (await site.get("/usernames")).status == 500


async def test_many_requests_at_once_take_few_connections(valkey_url: str) -> None:
    async with open_store(valkey_url, connections=STEPS) as store:
        async with serving({"usernames": Scoreboard(store, "usernames", "ub")}) as site, asyncio.TaskGroup() as group:
            requests = [group.create_task(site.get(f"/usernames?offset={n}")) for n in range(100)]
        assert Counter(request.result().status for request in requests) == {200: 100}
        assert site.requests == {("/usernames", "200"): 100}


async def test_answers_are_counted_by_route_and_status_never_by_raw_path(site: Site) -> None:
    for path in (
        "/usernames?limit=1",
        "/usernames?limit=2",
        "/usernames?limit=x",
        "/%75sernames",
        "/alice",
        "/bob",
        "/",
    ):
        await site.get(path)
    await site.get("/usernames", "HEAD")
    await site.get("/usernames", "POST")
    await site.get("/usernames", Host="evil.example")
    assert site.requests == {
        ("/usernames", "200"): 4,
        ("/usernames", "400"): 1,
        ("/usernames", "421"): 1,
        ("/", "200"): 1,
        ("unknown", "404"): 2,
        ("unknown", "405"): 1,
    }


# --- Listening ---


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    api = Api({}, About(), requests=Counter())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="ddress already in use"):
            async with listening(api.application(), "127.0.0.1", taken.getsockname()[1]):
                pass


async def test_an_address_of_version_6_stands_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    async with serving({}, host="::1") as site:
        assert site.address.startswith("http://[::1]:")
        assert (await site.get("/boards")).status == 200


async def test_a_stop_does_not_wait_long_for_a_request_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tweetboard.serving.SHUTDOWN_TIMEOUT_S", 0.05)
    asked = asyncio.Event()

    async def never() -> Page:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with aiohttp.ClientSession() as client, asyncio.timeout(2):
        api = Api({"usernames": Board(never)}, About(), requests=Counter())  # type: ignore[dict-item]
        async with listening(api.application(), "127.0.0.1", 0) as address:
            asking = asyncio.create_task(client.get(f"{address}/usernames"))
            await asked.wait()
        with pytest.raises(aiohttp.ClientError):
            await asking
