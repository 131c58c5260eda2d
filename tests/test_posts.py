"""The vocabulary between formats and the publisher."""

import json
from typing import Any

import msgspec
import pytest

from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.framing import Block
from tweetboard.posts import Post, Skip, languages_of


def test_a_post_without_hashtags_has_an_empty_tuple_of_them() -> None:
    assert Post("1", 2, "alice") == Post("1", 2, "alice", ())


@pytest.mark.parametrize("value", [Post("1", 2, "alice", ("x",)), Skip("edit")])
def test_posts_and_skips_do_not_change_and_can_be_counted(value: Post | Skip) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, value.__struct_fields__[0], "other")
    assert {value: 1}[msgspec.structs.replace(value)] == 1


V2: dict[str, Any] = {
    "data": {"id": "1", "author_id": "2", "text": "", "lang": "pt-BR"},
    "includes": {"tweets": [{"id": "0"}]},
}
V2_RETWEET = {**V2, "data": {**V2["data"], "referenced_tweets": [{"type": "retweeted", "id": "0"}]}}
V2_QUOTE = {**V2, "data": {**V2["data"], "referenced_tweets": [{"type": "quoted", "id": "0"}]}}
V1: dict[str, Any] = {"id_str": "1", "user": {"screen_name": "a"}, "lang": "en"}
STATUS: dict[str, Any] = {"id": "1", "account": {"acct": "a", "bot": True}, "language": "de", "tags": []}
EDIT = {"meta": {"id": "1", "domain": "de.wikipedia.org"}, "user": "a", "bot": True}
ELSEWHERE = {"meta": {"id": "1", "domain": "commons.wikimedia.org"}, "user": "a", "bot": False}


@pytest.mark.parametrize(
    ("form", "record", "languages", "is_bot", "is_repost"),
    [
        ("flat", {"username": "a", "lang": "en"}, ["en"], False, False),
        ("x-v2", V2, ["pt-BR"], False, False),
        ("x-v2", V2_RETWEET, ["pt-BR"], False, True),
        ("x-v2", V2_QUOTE, ["pt-BR"], False, False),
        ("x-v1", V1, ["en"], False, False),
        ("x-v1", {**V1, "retweeted_status": {}}, ["en"], False, True),
        ("mastodon", STATUS, ["de"], True, False),
        ("mastodon", {**STATUS, "account": {"acct": "a"}, "language": None}, [], False, False),
        ("wikimedia", EDIT, ["de"], True, False),
        ("wikimedia", ELSEWHERE, [], False, False),
    ],
)
def test_what_posts_can_be_chosen_by_is_found_in_every_source(
    form: str, record: object, languages: list[str], is_bot: bool, is_repost: bool
) -> None:
    (post,) = decoder_for(form, Skipped()).decode(Block(lines=json.dumps(record).encode() + b"\n"))
    assert (languages_of(post), post.is_bot, post.is_repost) == (languages, is_bot, is_repost)
