"""Bad input: each record counts once, as a post or under its reason, whatever stands around it."""

import json

import pytest
from decodes import FIXTURES, Decoded, block_of, decode, decode_blocks, events_of, in_groups, lines_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import EXAMPLE_BYTES, Decoder, Skipped, count_objects
from tweetboard.formats.flat import FORMAT
from tweetboard.formats.paths import Path
from tweetboard.framing import Block, Event, LineFramer
from tweetboard.posts import Post

DEEP = b"[" * 5_000 + b"]" * 5_000
BOTTOMLESS = b"[" * 300_000 + b"]" * 300_000  # too deep for every Python
FIRST, LAST = b'{"username": "first"}', b'{"username": "last", "hashtags": ["x"]}'

# A busy machine makes a slow example, not a wrong one.
patiently = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def between(record: bytes, name: str = "flat") -> Decoded:
    """Decode a record between two good ones, check that these are kept, and return what came of it."""
    found = decode(name, FIRST, record, LAST)
    assert found.posts[0] == Post("", 0, "first")
    assert found.posts[-1] == Post("", 0, "last", ("x",))
    assert len(found.posts) + found.dropped == 3
    assert decode(name, record) == (found.posts[1:-1], found.skipped)
    return Decoded(found.posts[1:-1], found.skipped)


def used_and_unused(value: bytes) -> list[bytes]:
    return [b'{"username": "a", "hashtags": [%b]}' % value, b'{"username": "a", "unused": %b}' % value]


@pytest.mark.parametrize(
    "record",
    [
        b"{",
        b"}",
        b"void",
        b'{"username": "a"',
        b'{"username": "a",}',
        b'{"username": "a"}}',
        b'{"username": "a"} {"username": "b"}',
        b'{"username": "a"}{"username": "b"}',
        b'{"username": "a"}\r{"username": "b"}',
        b'{"username": "a", "unused": nan}',
        b'{"username": "a", "unused": 01}',
        b"{'username': 'a'}",
        b'{"username": "a\0b"}',
        b'{"username": "a\x1bb"}',
        b'{"username": "a", "unused": "\x01"}',
        b'{"username": "a\\x41"}',
        b'{"username": "\xff\xfe"}',
        b'{"username": "cut\xe2\x82"}',
        b'{"username": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"username": "a"}',
        b'\xff\xfe{\0"\0',
        b"\0",
    ],
)
def test_what_is_no_json_is_counted_and_its_neighbours_are_kept(record: bytes) -> None:
    assert between(record) == ([], {"broken_json": 1})


@pytest.mark.parametrize(
    "record", [b"null", b"1", b'"text"', b"[]", b'[{"username": "a"}]', b"true", b"1e999", b"9" * 400]
)
def test_json_that_is_no_object_is_counted(record: bytes) -> None:
    assert between(record) == ([], {"unexpected_type": 1})


@pytest.mark.parametrize("record", used_and_unused(BOTTOMLESS))
def test_what_is_nested_too_deep_is_counted(record: bytes) -> None:
    assert between(record) == ([], {"nested_too_deep": 1})


@pytest.mark.parametrize("record", used_and_unused(DEEP))
def test_a_nest_of_5000_counts_once(record: bytes) -> None:
    # Python 3.11 gives up before that; later ones may not, and then it is a post with an unusual field.
    found = between(record)
    assert found.skipped in ({"nested_too_deep": 1}, {}, {"invalid_name": 1})


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1E-999", b"9" * 400, b"-" + b"9" * 400, b"0." + b"3" * 400])
def test_huge_numbers_cost_no_post(number: bytes) -> None:
    used, unused = used_and_unused(number)
    assert between(used) == ([Post("", 0, "a")], {"invalid_name": 1})
    assert between(unused) == ([Post("", 0, "a")], {})
    assert between(b'{"username": %b}' % number) == ([], {"unexpected_type": 1})


def test_an_endless_number_counts_once() -> None:
    used, unused = used_and_unused(b"9" * 100_000)
    assert between(used) == ([], {"unexpected_type": 1})
    assert between(unused) == ([Post("", 0, "a")], {})


@pytest.mark.parametrize(
    "half", [rb"\ud83d", rb"\udc00", rb"\uDC00\uD83D", rb"\ud83d\ud83d", rb"\ud83dx", rb"\\\ud83d"]
)
def test_half_a_character_costs_the_name_that_has_it_and_no_more(half: bytes) -> None:
    assert between(b'{"username": "a", "text": "cut off %b"}' % half) == ([Post("", 0, "a")], {})
    assert between(b'{"username": "a", "hashtags": ["%b", "ok"]}' % half) == (
        [Post("", 0, "a", ("ok",))],
        {"invalid_name": 1},
    )
    assert between(b'{"username": "%b", "hashtags": ["ok"]}' % half) == (
        [Post("", 0, "", ("ok",))],
        {"invalid_name": 1},
    )


def test_halves_that_belong_together_and_texts_that_look_like_halves_stay() -> None:
    whole = rb'{"username": "\ud83d\ude00", "hashtags": ["\\ud83d", "\ud83d\ude00"], "unused": "\ud83d"}'
    assert between(whole) == ([Post("", 0, "😀", (r"\ud83d", "😀"))], {})


def test_half_a_character_does_not_hide_what_else_is_wrong() -> None:
    assert between(rb'{"username": 1, "text": "\ud83d"}') == ([], {"unexpected_type": 1})
    assert between(rb'{"username": "a", "text": "\ud83d"') == ([], {"broken_json": 1})


def test_bytes_that_are_no_utf8_in_an_unused_field_cost_no_post() -> None:
    assert between(b'{"username": "a", "text": "\xff"}') == ([Post("", 0, "a")], {})


@pytest.mark.parametrize(
    ("name", "author"),
    [
        (r"a\u0000b", "ab"),
        (r"a\nb\r\tc", "abc"),
        (r"\u001b[31mred", "[31mred"),
        (r"\u202eevil\u202c", "evil"),
        (r"\u2066x\u2069\u200e\u200f\u061c", "x"),
        (r"zero\u200bwidth\ufeff\u2060", "zerowidth"),
        (r"py\u200cthon \u200d", "py\u200cthon"),
        (r"  spaces\u00a0\u3000", "spaces"),
        (r"\u0085\u009f\u2028\u2029x", "x"),
    ],
)
def test_a_name_loses_what_nobody_sees(name: str, author: str) -> None:
    assert between(f'{{"username": "{name}"}}'.encode()) == ([Post("", 0, author)], {})


@pytest.mark.parametrize("name", [r"\u0000", r" \n ", r"\u200b\u200d\ufeff", "x" * 257, "ü" * 129, "😀" * 65])
def test_a_name_of_which_nothing_or_too_much_is_left_is_dropped(name: str) -> None:
    record = f'{{"username": "{name}", "hashtags": ["{name}", "ok"]}}'.encode()
    assert between(record) == ([Post("", 0, "", ("ok",))], {"invalid_name": 2})


@pytest.mark.parametrize("blank", [b"", b"\r", b" \t ", b"\r\r"])
def test_keep_alives_are_neither_posts_nor_bad_input(blank: bytes) -> None:
    assert decode("flat", blank, FIRST, blank, blank, LAST, blank).skipped == {}
    assert decode("flat", blank) == ([], {})


def test_an_event_may_spread_its_record_over_several_data_lines() -> None:
    spread = events_of([FIRST, b'{"username":\n"a",\n"hashtags": []}', b"", LAST])
    assert [post.author for post in decode_blocks("flat", [spread]).posts] == ["first", "a", "last"]


def test_an_event_holds_one_record() -> None:
    both = events_of([FIRST, FIRST + b"\n" + LAST, FIRST + LAST, LAST])
    found = decode_blocks("flat", [both])
    assert [post.author for post in found.posts] == ["first", "last"]
    assert found.skipped == {"broken_json": 2}


def test_a_line_over_the_bound_is_skipped_to_its_newline_and_its_neighbours_are_kept() -> None:
    framer = LineFramer(100)
    stream = b"\r\n".join([FIRST, b'{"username": "' + b"x" * 100 + b'"}', LAST, b""])
    found = decode_blocks("flat", [framer.push(stream[at : at + 7]) for at in range(0, len(stream), 7)])
    assert [post.author for post in found.posts] == ["first", "last"]
    assert found.skipped == {}
    assert framer.oversized == 1


# Grouping

RECORDS: tuple[dict[str, object], ...] = (
    {"username": "a", "hashtags": ["x"]},
    {"username": "b", "hashtags": None, "more": [{}, {"username": "c"}]},
    {},
    {"username": "\ud800"},
    {"username": "}{", "more": {"more": {}}},
)
BREAKS = st.sampled_from(["", "", "", " ", "\n", "\r\n", "\n\n"])
NOISE = st.sampled_from(["", "", "", "", "{", "}", '{"username":', '"z"}', "]", ",", "\n,", "null", "\x0b", "{}"])


@st.composite
def torn_lines(draw: st.DrawFn) -> list[bytes]:
    """Write records with line ends in all the wrong places: between two tokens, or missing between two records."""
    text = ""
    for record in draw(st.lists(st.sampled_from(RECORDS), min_size=1, max_size=6)):
        for token in json.JSONEncoder().iterencode(record):
            text += token + draw(BREAKS)
        text += draw(NOISE) + draw(st.sampled_from(["\n", "\n", "\r\n", "", " "]))
    return text.encode().split(b"\n")


@patiently
@given(torn_lines(), st.lists(st.integers(0, 30), max_size=5))
@example([b'{"username":"a"} {"username":"b"}', b'{"username":', b'"c"}'], [])
@example([b'{"username":', b'"a"} {}'], [])
@example([b'{"username":"a","more":{}', b"} {}", b""], [])
def test_what_comes_of_a_line_does_not_depend_on_the_lines_beside_it(lines: list[bytes], cuts: list[int]) -> None:
    alone = decode_blocks("flat", [block_of([line]) for line in lines])
    assert decode_blocks("flat", [block_of(lines)]) == alone
    assert decode_blocks("flat", [block_of(group) for group in in_groups(lines, cuts)]) == alone


@patiently
@given(torn_lines(), st.lists(st.integers(0, 30), max_size=5))
def test_what_comes_of_an_event_does_not_depend_on_the_events_beside_it(data: list[bytes], cuts: list[int]) -> None:
    alone = decode_blocks("flat", [events_of([record]) for record in data])
    assert decode_blocks("flat", [events_of(group) for group in in_groups(data, cuts) if group]) == alone


@patiently
@given(torn_lines())
def test_a_line_counts_once_and_as_a_post_only_if_it_is_json_by_itself(lines: list[bytes]) -> None:
    for line in lines:
        found = decode("flat", line)
        if not line.strip():
            assert found == ([], {})
            continue
        assert len(found.posts) + found.dropped == 1
        try:
            is_object = isinstance(json.loads(line), dict)
        except ValueError:
            is_object = False
        assert "broken_json" not in found.skipped if is_object else not found.posts


@pytest.mark.parametrize("name", ["flat", "x-v1", "x-v2"])
@given(cuts=st.lists(st.integers(0, 30), max_size=6))
@settings(max_examples=50, deadline=None)
def test_any_grouping_of_the_fixtures_gives_the_same(name: str, cuts: list[int]) -> None:
    lines = lines_of(FIXTURES / f"{name}.ndjson")
    assert decode_blocks(name, [block_of(group) for group in in_groups(lines, cuts)]) == decode(name, *lines)


@pytest.mark.parametrize("name", ["flat", "x-v1", "x-v2"])
def test_the_same_records_as_events_give_the_same(name: str) -> None:
    lines = [line for line in lines_of(FIXTURES / f"{name}.ndjson") if line.strip()]
    assert decode_blocks(name, [events_of(lines)]) == decode(name, *lines)


@pytest.mark.parametrize(
    ("lines", "objects"),
    [
        (b"", 0),
        (b"\n", 0),
        (b"{}\n", 1),
        (b'{"a":1}\r\n\r\n\n{}\n\r\n', 2),
        (b"{}{}\n{}\n", 2),
        (b"{}\n{\n{}\n", 0),
        (b"{}\n}\n{}\n", 0),
        (b"{}\n{} \n", 0),
        (b" {}\n", 0),
        (b"[]\n", 0),
        (b"{}\n\x0b\n", 0),
    ],
)
def test_a_block_is_decoded_at_once_only_where_all_its_lines_are_braced(lines: bytes, objects: int) -> None:
    assert count_objects(lines) == objects


def test_lines_that_are_records_are_decoded_at_once_and_a_broken_one_costs_only_itself() -> None:
    decoder = Decoder(FORMAT, Skipped())
    one_by_one = list[bytes]()
    decoder._record = one_by_one.append  # type: ignore[method-assign, assignment]  # noqa: SLF001 - the slow way
    assert [post.author for post in decoder.decode(block_of([FIRST, b"", LAST]))] == ["first", "last"]
    assert one_by_one == []
    decoder.decode(block_of([FIRST, b"{]}", LAST]))
    assert one_by_one == [FIRST, b"{]}", LAST]


# What the log shows


def test_the_last_example_of_each_reason_is_kept_short_and_printable() -> None:
    skipped = Skipped()
    Decoder(FORMAT, skipped).decode(block_of([b"first", b"\x1b]0;evil\x07" + b"x" * 1_000_000, b"[1]"]))
    assert set(skipped.examples) == {"broken_json", "unexpected_type"}
    assert all(text.isprintable() and len(text) < EXAMPLE_BYTES * 4 + 200 for text in skipped.examples.values())
    assert "evil" in skipped.examples["broken_json"]


@pytest.mark.parametrize(
    ("name", "block", "gone"),
    [
        ("x-v1", Block(lines=b'{"delete":{"status":{"id_str":"7"}}}\n{"delete":{"status":5}}\n'), ["7"]),
        ("mastodon", Block(events=[Event("delete", b"7\n", ""), Event("delete", b"", "")]), ["7"]),
        (
            "bluesky",
            Block(
                lines=b'{"did":"d","kind":"commit","commit":{"operation":"delete","collection":"app.bsky.feed.post",'
                b'"rkey":"k"}}\n{"did":"d","kind":"commit","commit":{"operation":"delete","collection":"x","rkey":"k"}}\n'
            ),
            ["d/k"],
        ),
    ],
)
def test_which_posts_are_gone_is_told_where_somebody_wants_to_know(name: str, block: Block, gone: list[str]) -> None:
    for tells_gone in (True, False):
        skipped = Skipped()
        posts = decoder_for(name, skipped, tells_gone=tells_gone).decode(block)
        assert posts == [Post(post_id, 0, "", is_gone=True) for post_id in gone if tells_gone]
        assert skipped["delete"] >= 1


def test_what_is_gone_keeps_its_place_among_the_posts() -> None:
    """An account of Bluesky may write a record anew under the same key."""
    change = b'{"did":"d","kind":"commit","commit":{"operation":"%b","collection":"app.bsky.feed.post","rkey":"k"}}\n'
    block = Block(lines=b"".join(change % one for one in (b"create", b"delete", b"create")))
    came, gone = Post("d/k", 0, "d"), Post("d/k", 0, "", is_gone=True)
    assert decoder_for("bluesky", Skipped(), tells_gone=True).decode(block) == [came, gone, came]
    assert decoder_for("auto", Skipped(), tells_gone=True).decode(block) == [came, gone, came]


def test_a_post_that_is_gone_has_no_names_at_any_path() -> None:
    block = Block(lines=b'{"delete":{"status":{"id_str":"7"}}}\n' * 9)
    posts = decoder_for("x-v1", Skipped(), [Path("a"), Path("b", are_tags=True)], tells_gone=True).decode(block)
    assert posts == [Post("7", 0, "", fields=((), ()), is_gone=True)] * 9
