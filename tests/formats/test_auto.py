"""Telling formats apart by a stream's first records."""

import json

import pytest
from decodes import FIXTURES, block_of, decode, decode_blocks, events_of, in_groups, lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tweetboard.errors import StreamRefused
from tweetboard.formats import FORMATS, UNDECIDED_RECORDS, AutoDecoder, decoder_for
from tweetboard.formats.decoding import Decoder, Skipped
from tweetboard.framing import Block, Event

FLAT = b'{"username": "alice"}'
UNKNOWN = b'{"neither": 1, "nor": 2}'


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_fixture_is_recognised_and_decoded_as_if_its_format_had_been_named(name: str) -> None:
    lines = lines_of(FIXTURES / f"{name}.ndjson")
    decoder = AutoDecoder(Skipped())
    decoder.decode(block_of(lines))
    assert decoder.format is FORMATS[name]
    assert decode("auto", *lines) == decode(name, *lines)
    filled = [line for line in lines if line.strip()]
    assert decode_blocks("auto", [events_of(filled)]) == decode(name, *filled)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"username": "a"}, "flat"),
        ({"hashtags": ["a"]}, "flat"),
        ({"data": {"id": "1"}}, "x-v2"),
        ({"delete": {"status": {}}}, "x-v1"),
        ({"limit": {"track": 1}}, "x-v1"),
        ({"id_str": "1", "user": {}}, "x-v1"),
        ({"id": "1", "account": {}}, "mastodon"),
        ({"$schema": "/mediawiki/recentchange/1.0.0", "user": "a"}, "wikimedia"),
        ({"did": "did:plc:a", "kind": "commit"}, "bluesky"),
    ],
)
def test_one_key_is_enough(record: object, name: str) -> None:
    decoder = AutoDecoder(Skipped())
    decoder.decode(block_of([json.dumps(record).encode()]))
    assert decoder.format is FORMATS[name]


def test_no_format_is_known_before_the_first_record() -> None:
    decoder = AutoDecoder(Skipped())
    assert decoder.decode(Block()) == []
    assert decoder.decode(Block(lines=b"\r\n\r\n")) == []
    assert decoder.format is None
    assert decoder.skipped == {}


def test_records_before_the_first_known_one_are_counted_and_cost_none_behind_it() -> None:
    found = decode("auto", UNKNOWN, b"{broken", b"[1]", FLAT, UNKNOWN, FLAT)
    assert [post.author for post in found.posts] == ["alice", "alice"]
    assert found.skipped == {"unknown_format": 2, "broken_json": 1, "no_author": 1}


@given(
    st.lists(st.sampled_from([FLAT, UNKNOWN, b"{broken", b"", b'{"username": "\\ud800"}', b"[" * 9_000]), max_size=9),
    st.lists(st.integers(0, 9), max_size=4),
)
@settings(deadline=None)
def test_any_grouping_of_the_first_records_gives_the_same(lines: list[bytes], cuts: list[int]) -> None:
    groups = in_groups(lines, cuts)
    assert decode_blocks("auto", [block_of(group) for group in groups]) == decode("auto", *lines)
    filled = [group for group in groups if group]
    assert decode_blocks("auto", [events_of(group) for group in filled]) == decode("auto", *lines)


@pytest.mark.parametrize("size", [1, 7, UNDECIDED_RECORDS, 1000])
def test_a_stream_without_any_known_record_is_refused_with_what_to_do(size: int) -> None:
    skipped = Skipped()
    decoder = AutoDecoder(skipped)
    before = (UNDECIDED_RECORDS - 1) // size
    assert [decoder.decode(block_of([UNKNOWN] * size)) for _ in range(before)] == [[]] * before
    with pytest.raises(
        StreamRefused,
        match=r"none of flat, x-v2, .*, x-v1 fits.*neither, nor.*name the format",
    ):
        decoder.decode(block_of([UNKNOWN] * size))
    assert skipped == {"unknown_format": UNDECIDED_RECORDS}


def test_the_refusal_shows_no_more_than_some_keys() -> None:
    wide = json.dumps({f"key{number:04}": "secret" for number in range(1000)}).encode()
    with pytest.raises(StreamRefused) as refused:
        decode("auto", *[wide] * UNDECIDED_RECORDS)
    assert "key0007" in str(refused.value)
    assert "key0008" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_named_format_needs_no_guess() -> None:
    assert isinstance(decoder_for("auto", Skipped()), AutoDecoder)
    for name, source in FORMATS.items():
        decoder = decoder_for(name, Skipped())
        assert isinstance(decoder, Decoder)
        assert decoder.format is source
        assert source.name == name


def test_only_what_is_kept_alive_has_a_stall_watch() -> None:
    watched = {name: source.stall_timeout_s for name, source in FORMATS.items() if source.stall_timeout_s}
    assert watched == {"x-v2": 30, "x-v1": 90, "mastodon": 60, "bluesky": 30}


@pytest.mark.parametrize(
    ("first", "wanted"),
    [
        (b'{"did":"did:plc:a","time_us":1,"kind":"account","account":{"active":true}}', "bluesky"),
        (b'{"did":"did:plc:a","time_us":1,"kind":"identity","identity":{"handle":"a.example"}}', "bluesky"),
        (b'{"did":"did:plc:a","time_us":1,"kind":"commit","commit":{}}', "bluesky"),
        (b'{"delete":{"status":{"id":1}}}', "x-v1"),
        (b'{"limit":{"track":3}}', "x-v1"),
        (b'{"$schema":"x","meta":{"domain":"canary"}}', "wikimedia"),
        (b'{"id":"1","account":{"acct":"a"},"tags":[]}', "mastodon"),
    ],
)
def test_whatever_a_stream_says_first_shows_whose_it_is(first: bytes, wanted: str) -> None:
    decoder = decoder_for("auto", Skipped())
    decoder.decode(block_of([first]))
    assert decoder.format is not None
    assert decoder.format.name == wanted


@pytest.mark.parametrize(("kind", "data"), [("delete", b"1234"), ("update", b"{"), ("filters_changed", b"undefined")])
def test_an_events_type_shows_a_source_whose_data_do_not(kind: str, data: bytes) -> None:
    skipped = Skipped()
    decoder = decoder_for("auto", skipped)
    decoder.decode(Block(events=[Event(kind, data, "")]))
    assert decoder.format is not None
    assert decoder.format.name == "mastodon"
    assert skipped.total() == 1


def test_records_with_a_user_are_not_taken_for_posts_of_x() -> None:
    assert decode("auto", b'{"user":"alice","at":1}').skipped == {"unknown_format": 1}
