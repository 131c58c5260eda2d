"""X API v2: who posted, under which hashtags, and what in such a stream is no post."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from decodes import FIXTURES, counted, decode, identity, lines_of

from tweetboard.posts import Post

Json = dict[str, Any]
PROBLEM = "https://api.twitter.com/2/problems/"


def post(data: Json, **rest: object) -> bytes:
    return json.dumps({"data": {"id": "1", "author_id": "7", **data}, **rest}).encode()


def entities(*tags: str) -> Json:
    return {"hashtags": [{"start": 0, "end": 1, "tag": tag} for tag in tags]}


def reference(kind: str, post_id: str) -> Json:
    return {"referenced_tweets": [{"type": kind, "id": post_id}]}


def only(*records: bytes) -> Post:
    found = decode("x-v2", *records)
    assert found.skipped == {}
    (one,) = found.posts
    return one


def counted_plainly(lines: list[bytes]) -> tuple[Counter[str], Counter[str]]:
    """Count the same with nothing of the project: plain json, and the rules as X documents its payloads."""
    authors, hashtags = Counter[str](), Counter[str]()
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        data = record.get("data")
        if not data or "author_id" not in data:
            continue
        if data.get("edit_history_tweet_ids", [data["id"]])[0] != data["id"]:
            continue
        includes = record.get("includes", {})
        names = {user["id"]: user["username"] for user in includes.get("users", [])}
        authors[names.get(data["author_id"], "id:" + data["author_id"])] += 1
        originals = {tweet["id"]: tweet for tweet in includes.get("tweets", [])}
        repeated = [one["id"] for one in data.get("referenced_tweets", []) if one["type"] == "retweeted"]
        source = originals.get(repeated[0], data) if repeated else data
        hashtags.update({identity(entry["tag"]) for entry in source.get("entities", {}).get("hashtags", [])})
    return authors, hashtags


def test_the_fixture_counts_as_it_does_by_plain_json() -> None:
    lines = lines_of(FIXTURES / "x-v2.ndjson")
    found = decode("x-v2", *lines)
    assert counted(found.posts) == counted_plainly(lines)
    assert found.skipped == {
        "edit": 1,
        "no_author": 1,
        "operational_disconnect": 1,
        "connection_refused": 1,
        "upstream_error": 1,
        "broken_json": 1,
    }
    assert len(found.posts) == 9


def test_the_real_sample_counts_as_it_does_by_plain_json_but_for_its_last_line_which_is_cut_off(samples: Path) -> None:
    lines = lines_of(samples / "x-v2.ndjson")
    found = decode("x-v2", *lines)
    assert counted(found.posts) == counted_plainly(lines)
    assert found.skipped == {"broken_json": 1}
    assert len(found.posts) == len(lines) - 1


def test_an_author_has_the_name_from_includes() -> None:
    users = [{"id": "6", "username": "other"}, {"id": "7", "username": "Anna"}]
    assert only(post({}, includes={"users": users})).author == "Anna"


@pytest.mark.parametrize("rest", [{}, {"includes": {}}, {"includes": {"users": [{"id": "6", "username": "other"}]}}])
def test_an_author_who_is_not_included_counts_by_id(rest: Json) -> None:
    assert only(post({}, **rest)).author == "id:7"


def test_an_account_that_is_included_twice_has_its_name_from_where_it_stands() -> None:
    nameless: list[Json] = [{"id": "7"}, {"id": "7", "username": "Anna"}]
    assert only(post({}, includes={"users": nameless})).author == "Anna"


def test_only_the_first_retweet_of_a_post_tells_its_original() -> None:
    tweets = [{"id": "9", "entities": entities("other")}]
    references = {"referenced_tweets": [{"type": "retweeted", "id": one} for one in ("8", "9")]}
    assert only(post({**references, "entities": entities("own")}, includes={"tweets": tweets})).hashtags == ("own",)


def test_a_retweet_has_the_hashtags_of_its_original_for_its_own_are_cut_off() -> None:
    original = {"id": "5", "entities": entities("One", "Two", "Three")}
    record = post({**reference("retweeted", "5"), "entities": entities("One")}, includes={"tweets": [original]})
    assert only(record).hashtags == ("One", "Two", "Three")


def test_a_retweet_of_a_post_without_hashtags_has_none() -> None:
    record = post({**reference("retweeted", "5"), "entities": entities("RT")}, includes={"tweets": [{"id": "5"}]})
    assert only(record).hashtags == ()


def test_a_retweet_whose_original_is_not_included_has_its_own_hashtags() -> None:
    elsewhere = {"id": "4", "entities": entities("Other")}
    record = post({**reference("retweeted", "5"), "entities": entities("One")}, includes={"tweets": [elsewhere]})
    assert only(record).hashtags == ("One",)


@pytest.mark.parametrize("kind", ["quoted", "replied_to"])
def test_quotes_and_answers_have_their_own_hashtags(kind: str) -> None:
    other = {"id": "5", "entities": entities("Theirs")}
    record = post({**reference(kind, "5"), "entities": entities("Mine")}, includes={"tweets": [other]})
    assert only(record).hashtags == ("Mine",)


def test_a_post_counts_when_it_is_new_and_not_again_with_each_edit() -> None:
    first = post({"id": "1", "edit_history_tweet_ids": ["1"]})
    edit = post({"id": "2", "edit_history_tweet_ids": ["1", "2"]})
    later = post({"id": "3", "edit_history_tweet_ids": ["1", "2", "3"]})
    found = decode("x-v2", edit, first, later)
    assert [one.id for one in found.posts] == ["1"]
    assert found.skipped == {"edit": 2}


def test_a_hashtag_counts_once_a_post_in_its_first_spelling() -> None:
    assert only(post({"entities": entities("Rye", "rye", "ＲＹＥ", "Bread")})).hashtags == ("Rye", "Bread")


@pytest.mark.parametrize(
    ("data", "time"),
    [
        ({"created_at": "2021-04-01T15:52:31.000Z"}, 1617292351),
        ({"id": "1377650090978992134"}, 1617292351),
        ({"id": "1377650090978992134", "created_at": "no moment"}, 0),
        ({"id": "20"}, 0),
        ({"created_at": "1955-04-01T15:52:31.000Z"}, 0),
    ],
)
def test_the_moment_is_the_posts_own_or_its_ids(data: Json, time: int) -> None:
    assert only(post(data)).time == time


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"errors": [{"type": PROBLEM + "operational-disconnect"}]}, "operational_disconnect"),
        ({"errors": [{"title": "?"}, {"type": PROBLEM + "operational-disconnect"}]}, "operational_disconnect"),
        ({"title": "ConnectionException", "type": PROBLEM + "streaming-connection"}, "connection_refused"),
        ({"errors": [{"type": PROBLEM + "news-to-us"}]}, "upstream_error"),
        ({"errors": []}, "not_a_post"),
        ({"data": None}, "not_a_post"),
        ({}, "not_a_post"),
        ({"data": {"id": "1", "text": "default fields"}}, "no_author"),
        ({"data": [{"id": "1"}]}, "unexpected_type"),
    ],
)
def test_what_is_no_post_is_counted_by_reason(record: Json, reason: str) -> None:
    assert decode("x-v2", json.dumps(record).encode()) == ([], {reason: 1})


def test_the_control_lines_of_the_sample_are_all_known(samples: Path) -> None:
    lines = [line for line in lines_of(samples / "control-lines.ndjson") if b"problems/" in line]
    assert decode("x-v2", *lines) == ([], {"operational_disconnect": 1, "connection_refused": 1})


def test_a_partial_error_beside_a_post_does_not_matter() -> None:
    assert only(post({}, errors=[{"type": PROBLEM + "resource-not-found"}])).author == "id:7"
