"""Any JSON as a stream of posts, and the fields of other formats' records."""

import json
import random

import pytest
from decodes import block_of, decode, events_of
from mutations import mutated

from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.formats.paths import Path
from tweetboard.framing import Block
from tweetboard.posts import Post

QUOTE = b'{"at": 1, "quotes": [{"symbol": "ACME", "price": 1.5}, {"symbol": "INIT"}], "venue": {"name": "North"}}'
QUOTES = [Path("quotes[].symbol"), Path("venue.name")]
META = b'{"id": "1", "domain": "sv.wikipedia.org"}'
EDIT = b'{"$schema": "x", "meta": %b, "user": "mira", "wiki": "svwiki", "type": "edit"}' % META


def decoded(name: str, block: Block, *paths: Path) -> tuple[list[Post], dict[str, int]]:
    skipped = Skipped()
    return decoder_for(name, skipped, paths).decode(block), dict(skipped)


def fields(name: str, block: Block, *paths: Path) -> list[tuple[tuple[str, ...], ...]]:
    return [post.fields for post in decoded(name, block, *paths)[0]]


@pytest.mark.parametrize("block", [block_of([QUOTE]), events_of([QUOTE])])
def test_a_record_is_a_post_of_its_fields(block: Block) -> None:
    assert decoded("fields", block, *QUOTES) == ([Post("", 0, "", fields=(("ACME", "INIT"), ("North",)))], {})


def test_a_record_without_any_of_the_fields_is_no_post_and_broken_ones_are_counted() -> None:
    records = [QUOTE, b'{"at": 2}', b"[1]", b'{"quotes": {"symbol": "X"}}', b"{", b"", b'{"quotes": 1, "at"}']
    records += [b'{"quotes": {"symbol": "X"}, "venue": {"name": "South"}}']
    posts, skipped = decoded("fields", block_of(records), *QUOTES)
    assert [post.fields for post in posts] == [(("ACME", "INIT"), ("North",)), ((), ("South",))]
    assert skipped == {"no_field": 2, "unexpected_type": 2, "broken_json": 1}


def test_names_are_cleaned_once_each_and_what_is_none_is_counted() -> None:
    record = json.dumps(
        {"quotes": [{"symbol": " A\u200b"}, {"symbol": "A"}, {"symbol": {}}, {"symbol": "\x00"}]}
    ).encode()
    posts, skipped = decoded("fields", block_of([record]), *QUOTES)
    assert ([post.fields for post in posts], skipped) == ([(("A",), ())], {"invalid_name": 2})


def test_a_field_of_hashtags_is_cleaned_as_hashtags_are() -> None:
    record = b'{"tags": ["#Tea", "tea", "#", "\\uff03TEA"]}'
    posts, skipped = decoded("fields", block_of([record]), Path("tags", are_tags=True))
    assert ([post.fields for post in posts], skipped) == ([(("Tea",),)], {"invalid_name": 1})


@pytest.mark.parametrize("block", [block_of([EDIT, EDIT]), events_of([EDIT, EDIT])])
@pytest.mark.parametrize("name", ["wikimedia", "auto"])
def test_a_post_of_any_format_has_its_fields_beside_its_author_and_hashtags(name: str, block: Block) -> None:
    posts, skipped = decoded(name, block, Path("wiki"), Path("type"))
    assert [(post.author, post.fields) for post in posts] == [("mira", (("svwiki",), ("edit",)))] * 2
    assert skipped == {}


def test_what_is_no_post_has_no_fields_and_is_counted_once() -> None:
    canary = EDIT.replace(b"sv.wikipedia.org", b"canary")
    assert decoded("wikimedia", block_of([canary, b"{"]), Path("wiki")) == ([], {"canary": 1, "broken_json": 1})


def test_a_field_of_another_shape_costs_the_post_nothing_else() -> None:
    posts, skipped = decoded("wikimedia", block_of([EDIT]), Path("wiki.name"))
    assert ([(post.author, post.fields) for post in posts], skipped) == ([("mira", ((),))], {})


def test_halves_of_characters_cost_a_field_alone() -> None:
    record = EDIT.replace(b"svwiki", b"a\\ud800")
    posts, skipped = decoded("wikimedia", block_of([record]), Path("wiki"))
    assert ([(post.author, post.fields) for post in posts], skipped) == ([("mira", ((),))], {"invalid_name": 1})


def test_damaged_records_are_each_a_post_or_counted_and_their_neighbours_are_kept() -> None:
    rng = random.Random(11)
    good = fields("fields", block_of([QUOTE]), *QUOTES)
    for turn in range(5_000):
        record = mutated(QUOTE, rng).replace(b"\n", b" ")
        if record and not record.isspace():
            posts, skipped = decoded("fields", block_of([QUOTE, record, QUOTE]), *QUOTES)
            dropped = sum(count for reason, count in skipped.items() if reason != "invalid_name")
            assert len(posts) + dropped == 3, f"seed 11, round {turn}: {record!r}"
            assert [posts[0].fields, posts[-1].fields] == good * 2, f"seed 11, round {turn}: {record!r}"


def test_without_paths_a_post_has_no_fields() -> None:
    assert decode("flat", b'{"username": "alice"}').posts == [Post("", 0, "alice")]
