"""Bluesky: new posts among everything else that a Jetstream says."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from decodes import FIXTURES, counted, decode, identity, lines_of

from tweetboard.formats import bluesky
from tweetboard.formats.bluesky import position, resume_id
from tweetboard.posts import Post, languages_of

Json = dict[str, Any]


def commit(did: str = "did:plc:a", record: Json | None = None, **fields: object) -> bytes:
    whole = {"operation": "create", "collection": "app.bsky.feed.post", "rkey": "k", "record": record or {}, **fields}
    return json.dumps({"did": did, "time_us": 1795341600123456, "kind": "commit", "commit": whole}).encode()


def named(did: str, handle: str) -> bytes:
    return json.dumps(
        {"did": did, "time_us": 1, "kind": "identity", "identity": {"did": did, "handle": handle}}
    ).encode()


def shown(*records: bytes) -> list[str]:
    return [post.display for post in decode("bluesky", *records).posts]


def test_the_fixture_counts_as_its_reader_would() -> None:
    found = decode("bluesky", *lines_of(FIXTURES / "bluesky.ndjson"))
    assert counted(found.posts) == (
        {"did:plc:mira": 3, "did:plc:jon": 3},
        {"garten": 2, "tea": 1},
    )
    assert found.skipped == {
        "not_a_post": 1,
        "delete": 1,
        "edit": 1,
        "identity": 1,
        "account": 1,
        "invalid_name": 1,
        "no_author": 1,
        "broken_json": 1,
    }


def test_a_post_has_its_accounts_and_its_own_key_for_an_id_and_the_streams_time() -> None:
    facets = [{"features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "Tea"}]}]
    assert decode("bluesky", commit(record={"facets": facets})).posts == [
        Post("did:plc:a/k", 1795341600, "did:plc:a", ("Tea",))
    ]


def test_an_account_counts_as_itself_and_shows_the_handle_it_had_last() -> None:
    """Counted by its handle it would stand on the board once for each that it had, and once for none."""
    records = [commit(), named("did:plc:a", "one.example"), commit(), named("did:plc:a", "two.example"), commit()]
    assert {post.author for post in decode("bluesky", *records).posts} == {"did:plc:a"}
    assert shown(*records) == ["", "one.example", "two.example"]


@pytest.mark.parametrize(
    ("handle", "display"), [("", "did:plc:a"), ("\u202eelpmaxe.town", "elpmaxe.town"), ("x" * 300, "did:plc:a")]
)
def test_a_handle_is_cleaned_like_every_name(handle: str, display: str) -> None:
    assert shown(named("did:plc:a", handle), commit()) == [display]


def test_a_post_has_the_languages_that_its_author_said() -> None:
    (post,) = decode("bluesky", commit(record={"langs": ["de", "en-GB"]})).posts
    assert languages_of(post) == ["de", "en-GB"]


@pytest.mark.parametrize(
    "facets",
    [
        1,
        [{"features": 1}],
        [{"features": [{"$type": "app.bsky.richtext.facet#tag", "tag": 5}]}],
        [{"features": [{"$type": "app.bsky.richtext.facet#tag"}]}],
    ],
)
def test_a_record_of_another_shape_costs_its_author_nothing(facets: object) -> None:
    """Accounts write their records themselves; what they are made of is checked by nobody before."""
    assert decode("bluesky", commit(record={"facets": facets})) == (
        [Post("did:plc:a/k", 1795341600, "did:plc:a")],
        {"invalid_name": 1},
    )


def test_an_account_that_has_lost_its_handle_is_shown_without_it() -> None:
    assert shown(named("did:plc:a", "a.example"), named("did:plc:a", "handle.invalid"), commit()) == ["did:plc:a"]


def test_of_too_many_handles_those_seen_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bluesky, "MAX_HANDLES", 2)
    names = [named(did, f"{did}.example") for did in ("a", "b", "a", "c")]
    assert shown(*names, commit("a"), commit("b"), commit("c")) == ["a.example", "", "c.example"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (commit(collection="app.bsky.feed.like", record={"facets": 1}), "not_a_post"),
        (commit(operation="delete"), "delete"),
        (commit(operation="update"), "edit"),
        (commit(operation="sing"), "not_a_post"),
        (commit(did=""), "no_author"),
        (b'{"did": "d", "kind": "account"}', "account"),
        (b'{"did": "d", "kind": "sing"}', "not_a_post"),
        (b'{"did": "d", "kind": "commit"}', "not_a_post"),
    ],
)
def test_what_is_no_new_post_is_counted_by_reason(record: bytes, reason: str) -> None:
    assert decode("bluesky", record) == ([], {reason: 1})


def test_the_real_sample_counts_as_it_does_by_plain_json(samples: Path) -> None:
    lines = lines_of(samples / "bluesky-jetstream.ndjson")
    wanted, hashtags = Counter[str](), Counter[str]()
    for record in map(json.loads, lines):
        change = record["commit"]
        if (change["operation"], change["collection"]) == ("create", "app.bsky.feed.post"):
            wanted[record["did"]] += 1
            facets = change["record"].get("facets", [])
            features = [feature for facet in facets for feature in facet["features"]]
            hashtags.update({identity(feature["tag"]) for feature in features if "tag" in feature})
    found = decode("bluesky", *lines)
    assert counted(found.posts) == (wanted, hashtags)
    assert (wanted.total(), hashtags.total()) == (8, 2)


@pytest.mark.parametrize(
    ("position", "cursor"), [("1795341600000000", "1795341595000000"), ("7", "0"), ("x", ""), ("", "")]
)
def test_to_go_on_some_seconds_are_asked_for_again(position: str, cursor: str) -> None:
    assert resume_id(position) == cursor


@pytest.mark.parametrize(
    ("data", "wanted"),
    [(commit(), "1795341600123456"), (b'{"time_us": -1}', ""), (b"{}", ""), (b"{", ""), (b"[]", ""), (b"\xff", "")],
)
def test_a_messages_time_is_its_position(data: bytes, wanted: str) -> None:
    assert position(data) == wanted
