"""Mastodon: statuses, and the other events of its streams."""

import json
from collections import Counter
from pathlib import Path

import pytest
from decodes import FIXTURES, counted, decode, decode_blocks, identity, lines_of

from tweetboard.formats.mastodon import EVENTS
from tweetboard.framing import Block, Event, SSEFramer
from tweetboard.posts import Post


def status(**fields: object) -> bytes:
    return json.dumps({"id": "1", "account": {"acct": "mira"}, **fields}).encode()


def event(kind: str, data: bytes) -> Block:
    return Block(events=[Event(kind, data, "")])


def test_the_fixture_counts_as_it_does_by_plain_json() -> None:
    authors, hashtags = Counter[str](), Counter[str]()
    lines = lines_of(FIXTURES / "mastodon.ndjson")
    for record in map(json.loads, [line for line in lines if line != b"{broken"]):
        if "account" in record and record["reblog"] is None:
            authors[record["account"]["acct"].replace("\u202e", "").replace("\u200b", "")] += 1
            hashtags.update({identity(tag["name"]) for tag in record["tags"] or []})
    found = decode("mastodon", *lines)
    assert counted(found.posts) == (authors, hashtags)
    assert found.skipped == {"boost": 1, "no_author": 1, "broken_json": 1}


def test_a_status_has_its_id_its_moment_and_its_tags_as_they_are_spelled() -> None:
    record = status(created_at="2026-11-22T10:00:00.120Z", tags=[{"name": "Garten"}, {"name": "garten"}])
    assert decode("mastodon", record).posts == [Post("1", 1795341600, "mira", ("Garten",))]


@pytest.mark.parametrize("kind", EVENTS)
def test_other_events_are_counted_and_never_on_a_board(kind: str) -> None:
    for data in (b"115500000000000001", b"undefined", status()):
        assert decode_blocks("mastodon", [event(kind, data)]) == ([], {EVENTS[kind].reason: 1})


def test_an_event_that_nobody_knows_yet_is_no_post() -> None:
    assert decode_blocks("mastodon", [event("status.sing", status())]) == ([], {"not_a_post": 1})


@pytest.mark.parametrize("kind", ["update", "message"])
def test_an_update_is_a_post_and_so_is_an_event_without_a_type(kind: str) -> None:
    assert decode_blocks("mastodon", [event(kind, status())]) == ([Post("1", 0, "mira")], {})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (status(reblog={"id": "2"}), "boost"),
        (status(account=None), "no_author"),
        (status(account={}), "no_author"),
        (b'{"id": "", "account": {}}', "not_a_post"),
        (status(tags="tea"), "unexpected_type"),
    ],
)
def test_what_is_no_post_is_counted_by_reason(record: bytes, reason: str) -> None:
    assert decode("mastodon", record) == ([], {reason: 1})


def test_the_real_sample_counts_as_it_does_by_plain_json(samples: Path) -> None:
    data = (samples / "mastodon.sse").read_bytes()
    authors, hashtags, others = Counter[str](), Counter[str](), 0
    for record in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in record.split("\n") if not line.startswith(":") and ": " in line)
        if fields.get("event") == "update":
            post = json.loads(fields["data"])
            if post["reblog"] is None:
                authors[post["account"]["acct"]] += 1
                hashtags.update({identity(tag["name"]) for tag in post["tags"]})
                continue
        others += "data" in fields
    found = decode_blocks("mastodon", [SSEFramer(1 << 20).push(data)])
    assert counted(found.posts) == (authors, hashtags)
    assert authors
    assert found.dropped == others
