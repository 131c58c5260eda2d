"""Real payloads through every layer: a service as on the net, the daemon as a process, its boards; kill -9 between."""

import contextlib
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from processes import Daemon, daemon, end_lease, redis_server, redis_url
from services import EventStream, Jetstream, Passing, Service, events_in
from tweetboard.formats.hashtags import fold
from tweetboard.formats.text import hashtags_in

Boards = tuple[Counter[str], Counter[str]]


@contextlib.asynccontextmanager
async def counting(folder: Path, service: Service, form: str, kills: int = 0, every: int = 0) -> AsyncIterator[Daemon]:
    """Run the daemon on a service, killed so often after so many posts and started again; yields the last one."""
    url = service.url.replace("http:", "ws:") if isinstance(service, Jetstream) else service.url
    arguments = ["--stream", url, "--format", form, "--redis", redis_url(folder / "redis")]
    async with redis_server(folder / "redis"):
        for _ in range(kills):
            async with daemon(folder, *arguments) as running:
                await running.ready()
                await running.until("tweetboard_posts_total", every)
                running.signal(signal.SIGKILL)
                await running.ended()
            await end_lease(folder / "redis")
        async with daemon(folder, *arguments) as running:
            await running.ready()
            yield running


def in_whole_seconds(event: bytes) -> bytes:
    """Let many events fall into one millisecond, as on a busy day: its id names the one after it."""
    before, _, rest = event.partition(b"id: ")
    position, _, data = rest.partition(b"\n")
    places = json.loads(position)
    places[1]["timestamp"] = places[1]["timestamp"] // 10_000 * 10_000 + 1
    return before + b"id: " + json.dumps(places).encode() + b"\n" + data


async def test_wikimedias_edits_count_once_each_over_ends_and_kills(tmp_path: Path, samples: Path) -> None:
    """To go on from an event is to hear again all of its millisecond."""
    events = [in_whole_seconds(event) for event in events_in((samples / "wikimedia-recentchange.sse").read_bytes())[1:]]
    edits = [json.loads(event.partition(b"data: ")[2]) for event in events]
    edits = [edit for edit in edits if edit["meta"]["domain"] != "canary"]
    usernames = Counter(edit["user"] for edit in edits if "user" in edit)
    hashtags = Counter(tag for edit in edits for tag in {fold(found.tag) for found in hashtags_in(edit["comment"])})
    async with EventStream(a_second=400, cut=170, events=events).serving() as service:
        async with counting(tmp_path, service, "wikimedia", kills=3, every=60) as running:
            await running.counts(usernames, hashtags, timeout_s=60)
            assert await running.metric("tweetboard_posts_repeated_total") > 0
            assert await running.metric("tweetboard_stream_gap_seconds_total") == 0


async def test_mastodons_updates_are_counted_and_nothing_else_is(tmp_path: Path, samples: Path) -> None:
    """Mastodon cannot go back; what has passed before the daemon is killed is on the boards, and so is what follows."""
    events = events_in((samples / "mastodon.sse").read_bytes())
    updates = [number for number, event in enumerate(events, 1) if b"event: update" in event]
    posts = [json.loads(events[number - 1].partition(b"data: ")[2].partition(b"\n")[0]) for number in updates]
    own = [(number, post) for number, post in zip(updates, posts, strict=True) if post["reblog"] is None]
    usernames = Counter(post["account"]["acct"] for _, post in own)
    hashtags = Counter(tag for _, post in own for tag in {fold(tag["name"]) for tag in post["tags"]})
    middle = len(own) // 2
    service = Passing(records=[event + b"\n\n" for event in events], content_type="text/event-stream")
    service.until = own[middle - 1][0]
    async with service.serving(), redis_server(tmp_path / "redis"):
        arguments = ["--stream", service.url, "--format", "mastodon", "--redis", redis_url(tmp_path / "redis")]
        async with daemon(tmp_path, *arguments) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", middle)
            await running.until('tweetboard_names_applied_total{board="usernames"}', middle)
            running.signal(signal.SIGKILL)
            await running.ended()
        await end_lease(tmp_path / "redis")
        service.until = len(events)
        async with daemon(tmp_path, *arguments) as running:
            await running.ready()
            await running.until("tweetboard_posts_total", len(own) - middle)
            await running.counts(usernames, hashtags)
            rest = events[own[middle - 1][0] :]
            for kind in ("delete", "status.update"):
                reason = {"status.update": "edit"}.get(kind, kind)
                told = sum(f"event: {kind}\n".encode() in event for event in rest)
                await running.until(f'tweetboard_skipped_total{{reason="{reason}"}}', told)
                assert await running.metric(f'tweetboard_skipped_total{{reason="{reason}"}}') == told


def retweet(number: int, original: dict[str, Any]) -> bytes:
    """Make a retweet of X's documented shape: its own text and entities are cut off, the original is in `includes`."""
    text = f"RT @somebody: {original['text']}"[:40] + "\u2026"
    tweet = {
        "id": str(10**18 + number),
        "author_id": str(number % 7),
        "created_at": "2026-11-22T10:00:00.000Z",
        "edit_history_tweet_ids": [str(10**18 + number)],
        "text": text,
        "entities": {"mentions": []},
        "referenced_tweets": [{"type": "retweeted", "id": original["id"]}],
    }
    users = [{"id": str(number % 7), "username": f"passes_on_{number % 7}", "name": "x"}]
    return json.dumps({"data": tweet, "includes": {"tweets": [original], "users": users}}).encode()


def of_x_v2(lines: list[bytes]) -> Boards:
    """Count posts of X's version 2 by plain JSON."""
    usernames, hashtags = Counter[str](), Counter[str]()
    for record in map(json.loads, lines):
        post, includes = record["data"], record.get("includes", {})
        names = {user["id"]: user["username"] for user in includes.get("users", [])}
        usernames[names.get(post["author_id"], f"id:{post['author_id']}")] += 1
        others = {tweet["id"]: tweet for tweet in includes.get("tweets", [])}
        repeated = [one["id"] for one in post.get("referenced_tweets", []) if one["type"] == "retweeted"]
        source = others[repeated[0]] if repeated and repeated[0] in others else post
        hashtags.update({fold(one["tag"]) for one in source.get("entities", {}).get("hashtags", [])})
    return usernames, hashtags


def of_x_v1(lines: list[bytes]) -> Boards:
    """Count posts of X's version 1.1 by plain JSON."""
    usernames, hashtags = Counter[str](), Counter[str]()
    for record in map(json.loads, lines):
        usernames[record["user"]["screen_name"]] += 1
        status = record.get("retweeted_status") or record
        entities = status.get("extended_tweet", status)["entities"]
        hashtags.update({fold(one["text"]) for one in entities["hashtags"]})
    return usernames, hashtags


@pytest.mark.parametrize("name", ["x-v2", "x-v1"])
async def test_posts_of_x_count_once_each_over_cuts_and_kills(tmp_path: Path, samples: Path, name: str) -> None:
    """The sample over and over with new ids, retweets of its posts, and all control lines, with X's refill."""
    lines = [line for line in (samples / f"{name}.ndjson").read_bytes().splitlines() if line.endswith(b"}")]
    control = [line for line in (samples / "control-lines.ndjson").read_bytes().splitlines() if line.strip()]
    control = [line for line in control if (b"problems/" in line) == (name == "x-v2")]
    posts = list[bytes]()
    for copy in range(600 // len(lines)):
        for line in lines:
            record = json.loads(line)
            post = record["data"] if name == "x-v2" else record
            key = "id" if name == "x-v2" else "id_str"
            post[key] = str(int(post[key]) + 1_000 * copy)
            posts.append(json.dumps(record).encode())
    if name == "x-v2":
        originals = [json.loads(line)["data"] for line in lines if b'"hashtags"' in line]
        posts += [retweet(number, originals[number % len(originals)]) for number in range(100)]
    records = [line + b"\r\n" for place, post in enumerate(posts) for line in (post, *control[: place % 50 == 0 and 9])]
    usernames, hashtags = (of_x_v2 if name == "x-v2" else of_x_v1)(posts)
    service = Passing(a_second=1_500, cut=250, records=records, refill=100)
    async with service.serving():
        service.url += "?backfill_minutes=5"
        async with counting(tmp_path, service, name, kills=2, every=90) as running:
            await running.counts(usernames, hashtags, timeout_s=60)
            assert await running.metric("tweetboard_posts_repeated_total") > 0
            assert await running.metric('tweetboard_skipped_total{reason="broken_json"}') == 0


@pytest.mark.parametrize("copies", [1, 25])
async def test_blueskys_posts_count_once_each_over_ends_and_kills(tmp_path: Path, samples: Path, copies: int) -> None:
    """Some seconds of the stream come again at each start; their times are not quite in order."""
    lines = (samples / "bluesky-jetstream.ndjson").read_bytes().splitlines()
    messages = []
    for copy in range(copies):
        for line in lines:
            record = json.loads(line)
            record["time_us"] += 500_000 * copy
            record["commit"]["rkey"] += f"-{copy}"
            messages.append(json.dumps(record).encode())
    commits = [(record["did"], record["commit"]) for record in map(json.loads, messages)]
    posts = [
        (did, commit["record"])
        for did, commit in commits
        if (commit["operation"], commit["collection"]) == ("create", "app.bsky.feed.post")
    ]
    features = [feature for _, post in posts for facet in post.get("facets", []) for feature in facet["features"]]
    usernames = Counter(did for did, _ in posts)
    hashtags = Counter(fold(feature["tag"]) for feature in features if "tag" in feature)
    kills = 2 if copies > 1 else 0
    cut = 1_200 if copies > 1 else None
    async with Jetstream(a_second=2_000, cut=cut, messages=messages).serving() as service:
        async with counting(tmp_path, service, "bluesky", kills=kills, every=60) as running:
            await running.counts(usernames, hashtags, timeout_s=60)
            if kills:
                assert await running.metric("tweetboard_posts_repeated_total") > 0
