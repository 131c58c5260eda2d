"""The plainest shape: a name, and hashtags in any way that somebody may think of."""

import json
from collections import Counter
from typing import Any

import pytest
from decodes import FIXTURES, counted, decode, identity, lines_of

from tweetboard.posts import Post, languages_of


def only(**record: object) -> Post:
    (one,) = decode("flat", json.dumps(record).encode()).posts
    return one


def test_the_fixture_counts_as_it_does_by_plain_json() -> None:
    authors, hashtags = Counter[str](), Counter[str]()
    lines = lines_of(FIXTURES / "flat.ndjson")
    for record in map(json.loads, lines):
        found = record.get("hashtags") or []
        if isinstance(record.get("username"), str) and record["username"] and isinstance(found, list | str):
            authors[record["username"].strip()] += 1
            texts = [found] if isinstance(found, str) else [tag for tag in found if isinstance(tag, str)]
            hashtags.update({identity(tag) for tag in texts} - {""})
    found = decode("flat", *lines)
    assert counted(found.posts) == (authors, hashtags)
    assert found.skipped == {"no_author": 3, "unexpected_type": 2, "invalid_name": 6 + 3}
    assert len(found.posts) == 8


def test_a_post_has_neither_id_nor_moment() -> None:
    assert only(username="alice", hashtags=["redis"]) == Post("", 0, "alice", ("redis",))


@pytest.mark.parametrize(
    ("record", "hashtags"),
    [
        ({}, ()),
        ({"hashtags": None}, ()),
        ({"hashtags": []}, ()),
        ({"hashtags": "python"}, ("python",)),
        ({"hashtags": "#python"}, ("python",)),
        ({"hashtags": ["python", "#redis", "PYTHON"]}, ("python", "redis")),
        ({"hashtags": ["c#", "C++", "two words"]}, ("c#", "C++", "two words")),
    ],
)
def test_hashtags_may_be_absent_null_one_text_or_a_list(record: dict[str, Any], hashtags: tuple[str, ...]) -> None:
    assert only(username="alice", **record).hashtags == hashtags


def test_what_is_no_text_in_the_list_is_counted_and_the_texts_are_kept() -> None:
    line = b'{"username": "a", "hashtags": [1, 2.5, 1e999, -1E-999, %s, null, true, {"a": 1}, ["b"], "c"]}' % (
        b"9" * 400
    )
    found = decode("flat", line)
    assert found.posts == [Post("", 0, "a", ("c",))]
    assert found.skipped == {"invalid_name": 9}


@pytest.mark.parametrize("record", [{}, {"username": None}, {"username": ""}, {"hashtags": ["orphan"]}])
def test_without_a_username_there_is_no_post(record: dict[str, Any]) -> None:
    assert decode("flat", json.dumps(record).encode()) == ([], {"no_author": 1})


@pytest.mark.parametrize("record", [{"username": 1}, {"username": ["a"]}, {"username": "a", "hashtags": 5}])
def test_fields_of_another_type_are_counted(record: dict[str, Any]) -> None:
    assert decode("flat", json.dumps(record).encode()) == ([], {"unexpected_type": 1})


def test_a_username_that_is_no_name_leaves_its_hashtags() -> None:
    found = decode("flat", json.dumps({"username": "\u200b\u202e", "hashtags": ["x"]}).encode())
    assert found == ([Post("", 0, "", ("x",))], {"invalid_name": 1})


@pytest.mark.parametrize(
    ("lang", "languages"), [("de", ["de"]), (["de", 5, "en"], ["de", "en"]), (5, []), (None, []), ({}, [])]
)
def test_a_language_that_makes_no_sense_costs_the_post_nothing(lang: object, languages: list[str]) -> None:
    (post,) = decode("flat", json.dumps({"username": "alice", "lang": lang}).encode()).posts
    assert (post.author, languages_of(post)) == ("alice", languages)
