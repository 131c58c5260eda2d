"""Framing: the same bytes give the same records however they were cut, bounded in memory and linear in time."""

import itertools
import re
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tweetboard.framing import Block, Event, LineFramer, SSEFramer, framer_for

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"
SAMPLES = Path(__file__).parents[2] / "shared" / "samples"

# A busy machine makes a slow example, not a wrong one.
patiently = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Framed(NamedTuple):
    """All that can be seen of a framer after some bytes."""

    lines: bytes = b""
    events: tuple[Event, ...] = ()
    oversized: int = 0
    last_id: str = ""
    retry_ms: int | None = None


def seen(framer: LineFramer | SSEFramer, blocks: Iterable[Block]) -> Framed:
    blocks = list(blocks)  # pushed before the attributes are read
    lines = b"".join(block.lines for block in blocks)
    events = tuple(event for block in blocks for event in block.events)
    if isinstance(framer, SSEFramer):
        return Framed(lines, events, framer.oversized, framer.last_id, framer.retry_ms)
    return Framed(lines, events, framer.oversized)


def frame_lines(*chunks: bytes, bound: int = MIB, end: bool = False) -> Framed:
    framer = LineFramer(bound)
    blocks = [framer.push(chunk) for chunk in chunks]
    return seen(framer, [*blocks, framer.end()] if end else blocks)


def frame_events(*chunks: bytes, bound: int = MIB, last_id: str = "") -> Framed:
    framer = SSEFramer(bound, last_id)
    return seen(framer, [framer.push(chunk) for chunk in chunks])


def events_of(*chunks: bytes) -> tuple[Event, ...]:
    return frame_events(*chunks).events


def message(data: bytes, id: str = "") -> Event:  # noqa: A002 - the field's name
    return Event("message", data, id)


def in_pieces(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def cut_at(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:stop] for start, stop in itertools.pairwise(edges)]


def reference_lines(stream: bytes, bound: int) -> Framed:
    """Apply the same rules to the whole stream at once, as plainly as they can be written."""
    *whole, unfinished = stream.split(b"\n")
    kept = b"".join(line + b"\n" for line in whole if len(line) <= bound)
    return Framed(lines=kept, oversized=sum(len(line) > bound for line in [*whole, unfinished]))


def reference_events(stream: bytes, bound: int, last_id: str = "") -> Framed:
    """Parse the whole stream at once by the standard, event by event."""
    if BOM.startswith(stream):
        return Framed(last_id=last_id)
    *lines, unfinished = re.split(rb"\r\n|\r|\n", stream.removeprefix(BOM))
    found: list[Event] = []
    oversized, retry_ms, id_buffer = 0, None, last_id
    while True:
        complete = b"" in lines
        stop = lines.index(b"") if complete else len(lines)
        own = [line for line in lines[:stop] if not line.startswith(b":")]
        tail = [] if complete or unfinished.startswith(b":") else [unfinished]
        too_large = sum(map(len, own + tail)) > bound
        oversized += too_large
        pairs = [(name, re.sub(rb"\A ", b"", value)) for name, _, value in (line.partition(b":") for line in own)]
        for line, (name, value) in zip(own, pairs, strict=True):
            if name == b"id" and b"\0" not in value and len(line) <= bound:
                id_buffer = value.decode("utf-8", "replace")
            if name == b"retry" and re.fullmatch(rb"[0-9]{1,15}", value) and len(line) <= bound:
                retry_ms = int(value)
        if not complete:
            return Framed(b"", tuple(found), oversized, last_id, retry_ms)
        last_id = id_buffer
        data = b"".join(value + b"\n" for name, value in pairs if name == b"data")
        kind = next((value for name, value in reversed(pairs) if name == b"event"), b"").decode("utf-8", "replace")
        if data and not too_large:
            found.append(Event(kind or "message", data[:-1], last_id))
        lines = lines[stop + 1 :]


# Any cutting gives the same


STREAMS_OF_LINES = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"{}", b'{"a":1}', b"\xe2\x80\xa8", b"\xc2\x85", b"x" * 9]), max_size=30
).map(b"".join)
FIELD_PARTS = (
    b"data",
    b"data:",
    b"data: ",
    b"event: ",
    b"id",
    b"id: ",
    b"retry:",
    b":",
    b" ",
    b"data: a\n",
    b"id: 7\n",
)
ENDS_AND_VALUES = (b"\n", b"\r", b"\r\n", b"\n\n", b"1", b"a", b"\0", b"\xc3", b"\xa9", b"\x0b", b"x" * 9, BOM, BOM[:2])
STREAMS_OF_EVENTS = st.lists(st.sampled_from(FIELD_PARTS + ENDS_AND_VALUES), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=8)
BOUNDS = st.sampled_from([1, 2, 6, 9, 10, 13, 20, 30, MIB])


@patiently
@given(STREAMS_OF_LINES | st.binary(), CUTS, BOUNDS)
@example(b"aaa\nb\n", [], 1)
def test_any_cutting_of_any_bytes_gives_the_lines_of_the_whole(stream: bytes, cuts: list[int], bound: int) -> None:
    expected = reference_lines(stream, bound)
    assert frame_lines(stream, bound=bound) == expected
    assert frame_lines(*cut_at(stream, cuts), bound=bound) == expected


@patiently
@given(STREAMS_OF_EVENTS | st.binary(), CUTS, BOUNDS, st.sampled_from(["", "before"]))
def test_any_cutting_of_any_bytes_gives_the_events_of_the_whole(
    stream: bytes, cuts: list[int], bound: int, last_id: str
) -> None:
    expected = reference_events(stream, bound, last_id)
    assert frame_events(stream, bound=bound, last_id=last_id) == expected
    assert frame_events(*cut_at(stream, cuts), bound=bound, last_id=last_id) == expected


@patiently
@given(STREAMS_OF_EVENTS, BOUNDS)
def test_no_event_waits_for_a_byte_after_its_own(stream: bytes, bound: int) -> None:
    framer = SSEFramer(bound)
    blocks = []
    for stop in range(1, len(stream) + 1):
        blocks.append(framer.push(stream[stop - 1 : stop]))
        assert seen(framer, blocks) == reference_events(stream[:stop], bound)


@patiently
@given(STREAMS_OF_LINES, BOUNDS)
def test_no_line_waits_for_a_byte_after_its_own(stream: bytes, bound: int) -> None:
    framer = LineFramer(bound)
    blocks = []
    for stop in range(1, len(stream) + 1):
        blocks.append(framer.push(stream[stop - 1 : stop]))
        assert seen(framer, blocks) == reference_lines(stream[:stop], bound)


TRICKY_LINES = b'\r\n{"a":"\xe2\x80\xa8\xc2\x85\r"}\r\n\n\r\n' + b"x" * 20 + b'\n{"b":2}\n{"trailing'
TRICKY_EVENTS = (
    BOM + b":ok\r\n\r\nid: 1\rid\r\nevent: e\r\ndata: a\rdata:  b\ndata\n\r\nid:\xc3\xa9\n: c\n\rretry:30\r\r\n"
    b"data: " + b"x" * 40 + b"\r\nid: 2\r\n\r\n\ndata\r\n\r\ndata: trailing"
)


@pytest.mark.parametrize("cut", range(len(TRICKY_LINES) + 1))
def test_every_cut_in_two_of_tricky_lines_gives_the_same(cut: int) -> None:
    expected = Framed(lines=TRICKY_LINES.replace(b"x" * 20 + b"\n", b"").removesuffix(b'{"trailing'), oversized=1)
    assert frame_lines(TRICKY_LINES[:cut], TRICKY_LINES[cut:], bound=19) == expected


@pytest.mark.parametrize("cut", range(len(TRICKY_EVENTS) + 1))
def test_every_cut_in_two_of_tricky_events_gives_the_same(cut: int) -> None:
    expected = Framed(events=(Event("e", b"a\n b\n", ""), message(b"", "2")), oversized=1, last_id="2", retry_ms=30)
    assert frame_events(TRICKY_EVENTS[:cut], TRICKY_EVENTS[cut:], bound=40) == expected


@pytest.mark.parametrize("size", [7, 997, 65_536, MIB])
@pytest.mark.parametrize("name", ["mastodon.sse", "wikimedia-recentchange.sse", "x-v1.ndjson", "x-v2.ndjson"])
def test_real_streams_frame_like_the_reference(name: str, size: int) -> None:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"no sample at {path}")
    stream = path.read_bytes()
    if name.endswith(".sse"):
        framed = frame_events(*in_pieces(stream, size))
        assert framed == reference_events(stream, MIB)
        assert len(framed.events) == len(re.findall(rb"^data:.*\n\n", stream, re.MULTILINE))
    else:
        assert frame_lines(*in_pieces(stream, size), end=True) == Framed(lines=stream)


# Lines


def test_a_line_ends_at_a_newline_and_nowhere_else() -> None:
    line = '{"a": "\u2028\u2029\x85"}'.encode() + b"\r\x0b\x0c\x1c\n"
    assert [LineFramer(MIB).push(line).lines, frame_lines(*in_pieces(line, 1)).lines] == [line, line]
    assert frame_lines(line[:-1]).lines == b""


def test_keep_alive_lines_stay_in_and_decode_lines_passes_over_them() -> None:
    stream = b'\r\n\n{"a":1}\r\n\r\n\r\n\n{"a":2}\n\r\n'
    block = LineFramer(MIB).push(stream)
    assert block == Block(lines=stream)
    assert msgspec.json.Decoder().decode_lines(block.lines) == [{"a": 1}, {"a": 2}]
    assert msgspec.json.Decoder().decode_lines(LineFramer(MIB).push(b"\r\n").lines) == []


def test_a_push_that_completes_nothing_gives_an_empty_block() -> None:
    framer = LineFramer(MIB)
    assert [framer.push(b""), framer.push(b"{"), framer.push(b"")] == [Block(), Block(), Block()]
    assert framer.push(b"}\n") == Block(lines=b"{}\n")


def test_a_block_within_the_bound_is_not_copied() -> None:
    chunk = b"{}\n" * 1000
    assert LineFramer(MIB).push(chunk).lines is chunk


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_only_the_lines_over_the_bound_are_dropped_and_each_is_counted_once(size: int) -> None:
    stream = b"12345\n123456\n\n1\n1234567890\n123456789012\n54321\n12345\r\n1\n"
    framed = frame_lines(*in_pieces(stream, size), bound=5)
    assert framed == Framed(lines=b"12345\n\n1\n54321\n1\n", oversized=4)


def test_a_line_over_the_bound_is_counted_before_its_newline_comes() -> None:
    framer = LineFramer(3)
    counts = [(framer.push(piece), framer.oversized)[1] for piece in (b"12", b"3", b"4", b"567", b"89\n", b"1\n")]
    assert counts == [0, 0, 1, 1, 1, 1]


def test_the_end_gives_the_last_line_that_lacks_its_newline() -> None:
    assert frame_lines(b'{"a":1}\n{"a"', b":2}", end=True) == Framed(lines=b'{"a":1}\n{"a":2}\n')


def test_the_end_gives_nothing_where_nothing_was_left_or_it_was_too_long() -> None:
    assert frame_lines(b"1\n", end=True) == Framed(lines=b"1\n")
    assert frame_lines(end=True) == Framed()
    assert frame_lines(b"1\n1234", b"5", bound=3, end=True) == Framed(lines=b"1\n", oversized=1)


def test_after_the_end_lines_start_anew() -> None:
    framer = LineFramer(3)
    framer.push(b"1234")
    framer.end()
    assert (framer.push(b"1\n2").lines, framer.end().lines, framer.end().lines) == (b"1\n", b"2\n", b"")


# Events, by the standard. The streams of the first four tests are its own examples (section 9.2.6).


def test_data_lines_are_joined_by_newlines() -> None:
    assert events_of(b"data: YHOO\ndata: +2\ndata: 10\n\n") == (message(b"YHOO\n+2\n10"),)


def test_comments_say_nothing_and_an_empty_id_forgets_the_last() -> None:
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"
    assert events_of(stream + b"\n") == (
        message(b"first event", "1"),
        message(b"second event"),
        message(b" third event"),
    )
    assert len(events_of(stream)) == 2


def test_an_event_of_empty_data_lines_is_one_and_one_without_its_blank_line_is_none() -> None:
    assert events_of(b"data\n\ndata\ndata\n\ndata:") == (message(b""), message(b"\n"))


def test_exactly_one_space_after_the_colon_is_taken_off() -> None:
    assert events_of(b"data:test\n\ndata: test\n\ndata:  test\n\ndata:\ttest\n\n") == (
        *[message(b"test")] * 2,
        message(b" test"),
        message(b"\ttest"),
    )


def test_only_the_first_colon_separates() -> None:
    assert events_of(b"data: a: b:c\n\n") == (message(b"a: b:c"),)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_lf_cr_or_crlf(end: bytes) -> None:
    stream = end.join([b"event: e", b"data: 1", b"", b"data: 2", b"", b"data: 3", b"", b""])
    assert events_of(stream) == (Event("e", b"1", ""), message(b"2"), message(b"3"))


def test_what_ends_a_line_of_text_elsewhere_ends_none_here() -> None:
    data = "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b".encode()
    assert events_of(b"data: " + data + b"\n\n") == (message(data),)


def test_an_event_is_dispatched_at_its_cr_and_an_lf_that_follows_is_no_further_line() -> None:
    framer = SSEFramer(MIB)
    chunks = (b"data: 1\r", b"\r", b"\ndata: 2\r", b"\n", b"\r", b"\ndata: 3\r", b"", b"\ndata: 4\n\n")
    blocks = [framer.push(chunk) for chunk in chunks]
    assert [[event.data for event in block.events] for block in blocks] == [
        [],
        [b"1"],
        [],
        [],
        [b"2"],
        [],
        [],
        [b"3\n4"],
    ]


def test_one_byte_order_mark_at_the_very_start_is_ignored() -> None:
    assert events_of(BOM + b"data: 1\n\n") == (message(b"1"),)
    assert events_of(*in_pieces(BOM + b"data: 1\n\n", 1)) == (message(b"1"),)
    assert events_of(BOM + BOM + b"data: 1\n\n") == ()
    assert events_of(b"data: 1\n\n" + BOM + b"data: 2\n\n") == (message(b"1"),)


def test_an_event_without_data_is_none_but_its_id_counts_and_its_type_does_not_stay() -> None:
    framed = frame_events(b"event: e\nid: 5\n\ndata: 1\n\n")
    assert framed.events == (message(b"1", "5"),)
    assert frame_events(b"id: 5\n\n").last_id == "5"


def test_an_id_counts_from_its_events_blank_line_on_and_stays() -> None:
    assert frame_events(b"id: 5\ndata: 1\n").last_id == ""
    assert frame_events(b"id: 5\ndata: 1\n\ndata: 2\n\n").events == (message(b"1", "5"), message(b"2", "5"))


def test_an_id_with_a_nul_is_ignored() -> None:
    assert frame_events(b"id: 1\n\nid: 2\x003\ndata: 1\n\n").events == (message(b"1", "1"),)


def test_the_last_of_several_ids_and_types_counts() -> None:
    assert events_of(b"id: 1\nevent: a\nid: 2\nevent: b\ndata\n\n") == (Event("b", b"", "2"),)
    assert events_of(b"event: a\nevent\ndata\n\n") == (message(b""),)


def test_a_given_last_id_stands_through_keep_alives_until_the_stream_sends_another() -> None:
    framer = SSEFramer(MIB, "41")
    assert framer.push(b":ok\n\n\ndata: 1\n\n").events == [message(b"1", "41")]
    assert framer.push(b"id: 42\n\n") == Block()
    assert framer.last_id == "42"


@pytest.mark.parametrize(
    ("value", "retry_ms"),
    [
        (b" 1500", 1500),
        (b"007", 7),
        (b"", None),
        (b" -1", None),
        (b"1.5", None),
        (b"  1", None),
        (b"1_0", None),
        ("\u0663".encode(), None),
        (b"9" * 5000, None),
    ],
)
def test_retry_takes_ascii_digits_only(value: bytes, retry_ms: int | None) -> None:
    assert frame_events(b"retry:" + value + b"\n").retry_ms == retry_ms


@pytest.mark.parametrize("line", [b"Data: x", b" data: x", b"data : x", b"foo", b"foo: bar", b": data: x", b":"])
def test_unknown_fields_and_comments_are_ignored(line: bytes) -> None:
    assert events_of(line + b"\n\n") == ()
    assert events_of(b"data: 1\n" + line + b"\n\n") == (message(b"1"),)


def test_what_is_no_utf8_is_replaced_in_id_and_type_and_stays_in_data() -> None:
    assert events_of(b"id: \xff\nevent: \xfe\ndata: \xfd\n\n") == (Event("\ufffd", b"\xfd", "\ufffd"),)


def test_the_end_discards_the_event_that_lacks_its_blank_line() -> None:
    framer = SSEFramer(MIB)
    framer.push(b"id: 1\nretry: 9\n\nid: 2\nevent: e\ndata: 1\ndata: 2")
    assert framer.end() == Block()
    assert framer.push(b"\n\n") == Block()
    assert (framer.last_id, framer.retry_ms) == ("1", 9)


def test_after_the_end_events_start_anew() -> None:
    framer = SSEFramer(20)
    framer.push(b"data: " + b"x" * 20)
    framer.end()
    assert framer.push(BOM + b"data: 1\n\n").events == [message(b"1")]
    framer.push(b"data: 2\r")
    framer.end()
    assert framer.push(b"\ndata: 3\n\n").events == [message(b"3")]


# Events over the bound


def test_an_event_is_over_the_bound_by_its_field_lines_together() -> None:
    at_the_bound = b"event: e\ndata: 12\ndata: 34\n\n"  # 8 + 8 + 8
    assert frame_events(at_the_bound, bound=24) == Framed(events=(Event("e", b"12\n34", ""),))
    assert frame_events(at_the_bound, bound=23) == Framed(oversized=1)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_event_over_the_bound_is_dropped_whole_and_those_around_it_are_kept(size: int) -> None:
    large = b"event: e\ndata: 1\ndata: " + b"x" * 30 + b"\ndata: 2\n" + b"data: y\n" * 9 + b"\n"
    framed = frame_events(*in_pieces(b"data: a\n\n" + large + b"data: b\n\n", size), bound=20)
    assert framed == Framed(events=(message(b"a"), message(b"b")), oversized=1)


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    "large", [b"id: 8\ndata: " + b"x" * 30, b"data: " + b"x" * 30 + b"\nid: 8", b"data: " + b"x" * 13 + b"\nid: 8"]
)
def test_the_id_of_an_event_over_the_bound_counts_so_that_a_resume_goes_past_it(large: bytes, size: int) -> None:
    stream = b"id: 7\ndata\n\n" + large + b"\n"
    assert frame_events(*in_pieces(stream, size), bound=20).last_id == "7"
    framed = frame_events(*in_pieces(stream + b"\n", size), bound=20)
    assert framed == Framed(events=(message(b"", "7"),), oversized=1, last_id="8")


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_id_line_over_the_bound_is_lost(size: int) -> None:
    stream = b"id: 7\n\nid: " + b"8" * 30 + b"\ndata: 1\n\n"
    assert frame_events(*in_pieces(stream, size), bound=20) == Framed(oversized=1, last_id="7")


def test_what_follows_of_a_line_over_the_bound_is_no_line_of_its_own() -> None:
    assert frame_events(b"data: " + b"x" * 30, b"id: 9\n\n", bound=20) == Framed(oversized=1)
    assert frame_lines(b"x" * 30, b"1\n2\n", bound=20) == Framed(lines=b"2\n", oversized=1)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_comments_of_any_length_and_number_do_not_count_towards_the_bound(size: int) -> None:
    stream = b":" + b"x" * 50 + b"\ndata: 1\n" + b":thump\n" * 50 + b"data: 2\n\n"
    assert frame_events(*in_pieces(stream, size), bound=20) == Framed(events=(message(b"1\n2"),))


def test_an_event_over_the_bound_is_counted_before_its_blank_line_comes() -> None:
    framer = SSEFramer(10)
    counts = [(framer.push(piece), framer.oversized)[1] for piece in (b"data: 1234", b"5", b"6" * 50, b"\n", b"\n")]
    assert counts == [0, 1, 1, 1, 1]


# Bounds of memory and time, by what is allocated: unlike the clock, that is the same on a busy machine


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def endless(piece: bytes) -> Callable[[int], Iterator[bytes]]:
    """Repeat one pattern of bytes in chunks of about `size` bytes, without an end."""
    return lambda size: itertools.repeat(piece * (size // len(piece)))


ENDLESS: pytest.MarkDecorator = pytest.mark.parametrize(
    ("framer_type", "stream"),
    [
        pytest.param(LineFramer, endless(b"x"), id="a line"),
        pytest.param(SSEFramer, endless(b"x"), id="a field line"),
        pytest.param(SSEFramer, endless(b":"), id="a comment"),
        pytest.param(SSEFramer, endless(b": x\n"), id="comments"),
        pytest.param(SSEFramer, endless(b"data:xy\n"), id="data lines"),
        pytest.param(SSEFramer, endless(b"data\n"), id="empty data lines"),
        pytest.param(SSEFramer, endless(b"event: abc\n"), id="types"),
        pytest.param(SSEFramer, endless(b"id: 12345678\n"), id="ids"),
    ],
)


@ENDLESS
@pytest.mark.usefixtures("traced")
def test_a_record_without_end_is_held_to_the_bound(
    framer_type: type[LineFramer | SSEFramer], stream: Callable[[int], Iterator[bytes]]
) -> None:
    bound, size = 64 * 1024, 4096
    framer = framer_type(bound)
    before, _ = tracemalloc.get_traced_memory()
    for chunk in itertools.islice(stream(size), 100):
        framer.push(chunk)
        held, _ = tracemalloc.get_traced_memory()
        assert held - before < bound * 1.2 + 2 * size  # a bytearray grows by an eighth ahead of need
    # The factor is what a chunk's lines cost as objects of their own (48 bytes for seven).
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < bound * 1.2 + 16 * size


def allocated_by(framer: LineFramer | SSEFramer, pieces: Iterable[bytes]) -> int:
    """Bytes that the pushes allocated, each at its peak: a push that copies all that is held shows here."""
    total = 0
    for piece in pieces:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        framer.push(piece)
        _, peak = tracemalloc.get_traced_memory()
        total += peak - before
    return total


@pytest.mark.parametrize(("length", "size"), [(MIB, 16 * 1024), (32 * 1024, 1)])
@pytest.mark.parametrize(
    ("framer_type", "stream"),
    [
        pytest.param(LineFramer, endless(b"x"), id="one line"),
        pytest.param(SSEFramer, endless(b"x"), id="one field line"),
        pytest.param(SSEFramer, endless(b"data:xy\n"), id="many data lines"),
    ],
)
@pytest.mark.usefixtures("traced")
def test_a_long_record_in_small_pieces_costs_in_proportion_to_its_length(
    framer_type: type[LineFramer | SSEFramer], stream: Callable[[int], Iterator[bytes]], length: int, size: int
) -> None:
    pieces = in_pieces(next(stream(length)), size)
    # Copying what is held at each push would come to 32 and 16,000 times the length; a push's own objects are constant.
    assert allocated_by(framer_type(2 * MIB), pieces) < 12 * length + 1000 * len(pieces)


# The choice


@pytest.mark.parametrize(
    "content_type",
    ["text/event-stream", "Text/Event-Stream; charset=UTF-8", " text/event-stream ;x", "TEXT/EVENT-STREAM"],
)
def test_an_event_stream_is_known_by_its_media_type_alone(content_type: str) -> None:
    framer = framer_for(content_type, 9, "7")
    assert isinstance(framer, SSEFramer)
    assert framer.last_id == "7"
    assert framer.push(b"data: 1234\n").events == []
    assert framer.oversized == 1


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/x-ndjson", "text/plain; a=text/event-stream"]
)
def test_everything_else_is_lines(content_type: str) -> None:
    framer = framer_for(content_type, 3)
    assert isinstance(framer, LineFramer)
    assert (framer.push(b"1234\n1\n").lines, framer.oversized) == (b"1\n", 1)
