"""Real payloads through every layer: a service as on the net, the daemon as a process, its boards; kill -9 between."""

import contextlib
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from processes import Daemon, daemon, end_lease, redis_server, redis_url
from services import EventStream, Jetstream, Service, events_in
from tweetboard.formats.hashtags import fold
from tweetboard.formats.text import hashtags_in

Boards = tuple[dict[str, int], dict[str, int]]


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
    events = events_in((samples / "mastodon.sse").read_bytes())
    posts = [
        json.loads(event.partition(b"data: ")[2].partition(b"\n")[0]) for event in events if b"event: update" in event
    ]
    boosts = sum(post["reblog"] is not None for post in posts)
    own = [post for post in posts if post["reblog"] is None]
    usernames = Counter(post["account"]["acct"] for post in own)
    hashtags = Counter(tag for post in own for tag in {fold(tag["name"]) for tag in post["tags"]})
    async with EventStream(events=events).serving() as service, counting(tmp_path, service, "mastodon") as running:
        await running.until("tweetboard_posts_total", len(own))
        await running.until('tweetboard_skipped_total{reason="edit"}', 7)
        await running.counts(usernames, hashtags)
        assert await running.metric('tweetboard_skipped_total{reason="delete"}') == 6
        if boosts:
            assert await running.metric('tweetboard_skipped_total{reason="boost"}') == boosts


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
