"""Wikimedia: one edit an event, and where to go on after the last one."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from decodes import FIXTURES, decode, decode_blocks, lines_of

from tweetboard.formats.wikimedia import resume_id
from tweetboard.framing import SSEFramer
from tweetboard.posts import Post


def change(**fields: object) -> bytes:
    return json.dumps({"meta": {"id": "u1", "domain": "w.example"}, "user": "Mira", **fields}).encode()


def test_the_fixture_counts_as_its_reader_would() -> None:
    found = decode("wikimedia", *lines_of(FIXTURES / "wikimedia.ndjson"))
    names = Counter(post.author for post in found.posts)
    assert names == {"Mira": 2, "10.1.2.3": 1, "Jon Smith": 2, "Bot of Jon": 1, "": 1}
    assert Counter(tag for post in found.posts for tag in post.hashtags) == {"Garten": 1, "tea": 2, "4th": 1}
    assert found.skipped == {"canary": 1, "no_author": 1, "not_a_post": 1, "broken_json": 1}


def test_a_change_has_its_events_id_its_moment_and_the_hashtags_of_its_comment() -> None:
    record = change(comment="a #Tea, [[Tea#History]]", timestamp=1795341600)
    assert decode("wikimedia", record).posts == [Post("u1", 1795341600, "Mira", ("Tea",))]


@pytest.mark.parametrize("timestamp", [None, -1, 0, 10**30, 1e300])
def test_a_moment_that_is_none_is_left_out(timestamp: float | None) -> None:
    assert decode("wikimedia", change(timestamp=timestamp)).posts == [Post("u1", 0, "Mira")]


def test_a_canary_is_no_edit() -> None:
    assert decode("wikimedia", change(meta={"id": "u1", "domain": "canary"})) == ([], {"canary": 1})


def test_the_real_sample_counts_as_it_does_by_plain_json(samples: Path) -> None:
    data = (samples / "wikimedia-recentchange.sse").read_bytes()
    records: list[dict[str, Any]] = [
        json.loads(line.removeprefix("data: ")) for line in data.decode().split("\n") if line.startswith("data: ")
    ]
    edits = [record for record in records if record["meta"]["domain"] != "canary"]
    found = decode_blocks("wikimedia", [SSEFramer(1 << 20).push(data)])
    wanted = Counter(record["user"] for record in edits if "user" in record)
    assert Counter(post.author for post in found.posts if post.author) == wanted
    assert Counter(tag for post in found.posts for tag in post.hashtags) == {"gc": 2, "REDIRECT": 1, "titleparts": 1}
    nameless = sum("user" not in record for record in edits)
    assert found.skipped == {"canary": len(records) - len(edits), "no_author": nameless}
    assert len({post.id for post in found.posts}) == len(found.posts)


def test_to_go_on_each_time_is_stepped_back_a_millisecond_and_offsets_stay() -> None:
    position = (
        '[{"topic":"codfw.x","partition":0,"offset":-1},{"topic":"eqiad.x","partition":0,"timestamp":1795341600001}]'
    )
    assert json.loads(resume_id(position)) == [
        {"topic": "codfw.x", "partition": 0, "offset": -1},
        {"topic": "eqiad.x", "partition": 0, "timestamp": 1795341600000},
    ]


def test_a_topic_that_has_long_been_quiet_is_not_stepped_back() -> None:
    """Its last event would come again at every connection, long after its id is forgotten, and count each time."""
    position = [
        {"topic": "codfw.x", "partition": 0, "timestamp": 1795341590001},
        {"topic": "eqiad.x", "partition": 0, "timestamp": 1795341600001},
    ]
    assert json.loads(resume_id(json.dumps(position))) == [position[0], {**position[1], "timestamp": 1795341600000}]


@pytest.mark.parametrize("position", ["", "7", "{}", "[1]", "[", '[{"timestamp":[]}]'])
def test_an_id_of_any_other_shape_is_sent_back_as_it_stands(position: str) -> None:
    assert resume_id(position) == position
