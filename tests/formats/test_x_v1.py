"""X API v1.1: statuses, and the control lines between them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from decodes import FIXTURES, counted, decode, identity, lines_of

from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.framing import Block
from tweetboard.posts import Post

Json = dict[str, Any]
CONTROL = ("delete", "scrub_geo", "limit", "status_withheld", "user_withheld", "disconnect", "warning")


def entities(*tags: str) -> Json:
    return {"hashtags": [{"text": tag, "indices": [0, 1]} for tag in tags]}


def status(**fields: object) -> bytes:
    return json.dumps({"id_str": "1", "user": {"screen_name": "dora"}, **fields}).encode()


def only(record: bytes) -> Post:
    found = decode("x-v1", record)
    assert found.skipped == {}
    (one,) = found.posts
    return one


def counted_plainly(lines: list[bytes]) -> tuple[Counter[str], Counter[str]]:
    """Count the same with nothing of the project: plain json, and the rules as X documented its payloads."""
    authors, hashtags = Counter[str](), Counter[str]()
    for line in lines:
        record = json.loads(line) if line.strip() else {}
        if "user" not in record:
            continue
        authors[record["user"]["screen_name"]] += 1
        source = record.get("retweeted_status", record)
        if source.get("truncated"):
            source = source.get("extended_tweet", source)
        hashtags.update({identity(entry["text"]) for entry in source.get("entities", {}).get("hashtags", [])})
    return authors, hashtags


def test_the_fixture_counts_as_it_does_by_plain_json() -> None:
    lines = lines_of(FIXTURES / "x-v1.ndjson")
    found = decode("x-v1", *lines)
    assert counted(found.posts) == counted_plainly(lines)
    assert found.skipped == {"delete": 1, "no_author": 1, "not_a_post": 1}
    assert len(found.posts) == 8


def test_the_real_sample_counts_as_it_does_by_plain_json(samples: Path) -> None:
    lines = lines_of(samples / "x-v1.ndjson")
    found = decode("x-v1", *lines)
    assert counted(found.posts) == counted_plainly(lines)
    assert found.skipped == {}
    assert len(found.posts) == len(lines)


def test_a_truncated_status_has_the_hashtags_of_its_extended_one() -> None:
    extended = {"full_text": "...", "entities": entities("One", "Two")}
    assert only(status(truncated=True, entities=entities("One"), extended_tweet=extended)).hashtags == ("One", "Two")


@pytest.mark.parametrize("rest", [{}, {"extended_tweet": None}, {"extended_tweet": {"full_text": "..."}}])
def test_a_truncated_status_without_its_whole_has_what_is_left(rest: Json) -> None:
    assert only(status(truncated=True, entities=entities("One"), **rest)).hashtags == ("One",)


def test_a_retweet_has_the_hashtags_of_its_original_which_may_be_extended() -> None:
    whole = {"truncated": True, "entities": entities("One"), "extended_tweet": {"entities": entities("One", "Two")}}
    assert only(status(entities=entities("Cut"), retweeted_status=whole)).hashtags == ("One", "Two")
    assert only(status(entities=entities("Cut"), retweeted_status={"entities": entities()})).hashtags == ()


def test_a_quote_has_its_own_hashtags() -> None:
    quoted = {"quoted_status": {"entities": entities("Theirs")}}
    assert only(status(entities=entities("Mine"), **quoted)).hashtags == ("Mine",)


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"created_at": "Sun Aug 31 00:29:15 +0000 2014"}, 1409444955),
        ({"created_at": "Sun Aug 31 02:29:15 +0200 2014"}, 1409444955),
        ({"id_str": "505874924095815681"}, 1409444955),
        ({"id_str": "505874924095815681", "created_at": "yesterday"}, 0),
        ({}, 0),
    ],
)
def test_the_moment_is_the_statuss_own_or_its_ids(fields: Json, time: int) -> None:
    assert only(status(**fields)).time == time


@pytest.mark.parametrize("name", CONTROL)
def test_control_lines_are_counted_by_name(name: str) -> None:
    assert decode("x-v1", json.dumps({name: {"some": ["thing"]}}).encode()) == ([], {name: 1})


@pytest.mark.parametrize(
    ("limit", "undelivered"),
    [(b'{"track": 12}', 12), (b'{"track": -1}', 0), (b"{}", 0), (b'{"track": "many"}', 0), (b"[]", 0), (b'"1"', 0)],
)
def test_a_limit_says_how_many_posts_were_left_out(limit: bytes, undelivered: int) -> None:
    skipped = Skipped()
    assert decoder_for("x-v1", skipped).decode(Block(b'{"limit": %b}\n' % limit)) == []
    assert (skipped, skipped.undelivered) == ({"limit": 1}, undelivered)


def test_each_control_line_of_the_fixture_is_known() -> None:
    assert decode("x-v1", *lines_of(FIXTURES / "control-lines.ndjson")) == ([], dict.fromkeys(CONTROL, 1))


def test_each_control_line_of_the_sample_is_known(samples: Path) -> None:
    lines = [line for line in lines_of(samples / "control-lines.ndjson") if b"problems/" not in line]
    assert decode("x-v1", *lines) == ([], dict.fromkeys(CONTROL, 1))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"friends": [1, 2]}, "not_a_post"),
        ({"id_str": "1"}, "no_author"),
        ({"id_str": "1", "user": {"screen_name": ""}}, "no_author"),
        ({"id_str": "1", "user": {"screen_name": None}}, "unexpected_type"),
    ],
)
def test_what_is_no_status_is_counted_by_reason(record: Json, reason: str) -> None:
    assert decode("x-v1", json.dumps(record).encode()) == ([], {reason: 1})
