"""Batches are gathered, numbered, remembered and forgotten as the design says, with no clock but the test's."""

import json

import pytest

from tweetboard import outbox
from tweetboard.channel import GONE_NAMES, decode_head, message
from tweetboard.errors import SessionEnded
from tweetboard.outbox import Batch, Draft, Left, Outbox, Published
from tweetboard.posts import Channel, Post, authors, hashtags

NOW = 1_763_805_603
CHANNELS = [Channel("usernames", authors), Channel("hashtags", hashtags)]


def post(author: str, *hashtags: str, time: int = 0, post_id: str = "") -> Post:
    return Post(post_id, time, author, hashtags)


def told(batch: Batch, channel: str) -> dict[str, object]:
    """Decode a batch's body as the message on the channel would have it."""
    decoded: dict[str, object] = json.loads(b"{" + batch.bodies[channel])
    return decoded


def sent(box: Outbox, at_s: float, *, applied: bool = True) -> Batch:
    batch = box.next()
    assert batch is not None
    batch.sent_at = at_s
    if applied:
        box.applied(batch.seq - 1)  # all before it, as it usually is by then
    box.acknowledge(batch)
    return batch


def test_names_stand_in_order_and_spelling_with_run_lengths_of_their_times() -> None:
    draft = Draft(CHANNELS)
    times = [NOW - 100, NOW - 100, NOW - 40, NOW - 100]
    names = ["alice", "Bob", "alice", "chloë"]
    draft.add([post(name, time=time) for name, time in zip(names, times, strict=True)], "p", now=NOW, bucket_s=60)
    old, new = (NOW - 100) // 60 * 60, (NOW - 40) // 60 * 60
    assert told(draft.batch(1), "usernames") == {"times": [[old, 2], [new, 1], [old, 1]], "names": names}


def test_a_post_without_a_time_or_from_the_future_counts_as_now() -> None:
    draft = Draft(CHANNELS)
    draft.add([post("a"), post("b", time=NOW + 3600)], "", now=NOW, bucket_s=5)
    assert told(draft.batch(1), "usernames")["times"] == [[NOW - NOW % 5, 2]]


@pytest.mark.parametrize("name", ["alice", "話題", "👩‍👩‍👧‍👦"])
def test_a_draft_is_as_large_as_its_batch_in_whatever_letters(name: str) -> None:
    """In bytes: what may be read ahead of the boards is bounded by them, and so is a batch."""
    draft = Draft(CHANNELS)
    draft.add([post(name, name, name) for _ in range(1_000)], "p", now=NOW, bucket_s=1)
    gathered = draft.size_bytes
    assert gathered == pytest.approx(draft.batch(1).size_bytes, rel=0.01, abs=100)


def test_what_is_not_on_every_board_is_neither_forgotten_nor_uncounted_however_old_it_is() -> None:
    """Else a Redis that is slow to apply would let memory's bound slide along with time."""
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    for number in range(20):
        box.gather([post(f"a{number}")], "", NOW)
        sent(box, 10.0 * number, applied=False)
    assert box.outstanding_names == 20
    box.applied(15)
    assert box.outstanding_names == 5
    box.gather([post("last")], "", NOW)
    sent(box, 1_000.0, applied=False)
    box.go_back_to(15)
    with pytest.raises(SessionEnded):
        box.go_back_to(14)


def test_what_a_session_has_left_goes_out_as_it_was_under_new_numbers() -> None:
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published(), keep_ids=True)
    for number in range(3):
        box.gather([post(f"a{number}", post_id=str(number))], "", NOW)
        sent(box, 0.0)
    box.gather([post("unsent", post_id="u")], "", NOW)
    following = Outbox(7, CHANNELS, bucket_s=1, published=Published(), keep_ids=True, drafts=box.leave(1).drafts)
    assert following.ids == ["1", "2", "u"]
    following.gather([post("new", post_id="n")], "", NOW)
    assert following.outstanding_names == 4
    batches = [sent(following, 0.0) for _ in range(3)]
    assert [batch.seq for batch in batches] == [8, 9, 10]
    assert [told(batch, "usernames")["names"] for batch in batches] == [["a1"], ["a2"], ["unsent", "new"]]
    assert [batch.ids for batch in batches] == [["1"], ["2"], ["u", "n"]]


def test_nothing_is_added_to_a_batch_that_was_left() -> None:
    """It is encoded already; names behind it would be lost in silence, with their ids noted as counted."""
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    box.gather([post("left")], "", NOW)
    sent(box, 0.0)
    following = Outbox(0, CHANNELS, bucket_s=1, published=Published(), drafts=box.leave(0).drafts)
    following.gather([post("new")], "", NOW)
    assert [told(sent(following, 0.0), "usernames")["names"] for _ in range(2)] == [["left"], ["new"]]


def test_whoever_goes_on_reads_on_where_what_was_left_ends() -> None:
    """Not where Redis's last batch ends: what lies between is in memory already."""
    left = an_ended_one("at 1", "at 2").leave(1)
    assert names(left) == ["sent", "unsent"]
    following = Outbox(1, CHANNELS, bucket_s=1, published=Published(), drafts=left.drafts)
    assert following.position == "at 2"
    assert Outbox(1, CHANNELS, bucket_s=1, published=Published()).position == ""


def an_ended_one(*positions: str) -> Outbox:
    """Make an outbox that has sent a batch a position, and has one name more."""
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    for position in positions:
        box.gather([post("sent")], position, NOW)
        sent(box, 0.0)
    box.gather([post("unsent")], positions[-1], NOW)
    return box


def names(left: Left) -> list[object]:
    return [name for draft in left.drafts for name in told(draft.batch(1), "usernames")["names"]]  # type: ignore[attr-defined]


def test_what_nobody_can_read_again_is_lost_where_somebody_else_goes_on_with_the_stream() -> None:
    assert an_ended_one("", "").leave(None) == ([], 1, 1, 0)
    assert an_ended_one("a", "b").leave(None) == ([], 0, 1, 0)


def test_what_is_in_the_journal_is_neither_taken_on_nor_lost() -> None:
    """An append that was never answered may be in."""
    box = an_ended_one("", "")
    assert box.next() is not None
    assert box.leave(3) == ([], 0, 0, 0)


def test_behind_what_memory_has_forgotten_only_what_has_no_position_goes_on() -> None:
    """A position must not go past what is missing; that is read again, and what cannot be is lost."""
    for positions, lost_batches in ((["", "", ""], 1), (["a", "b", "c"], 0)):
        box = an_ended_one(*positions)
        box._batches.popleft()  # noqa: SLF001 - as time does
        left = box.leave(0)
        assert names(left) == (["sent", "sent", "unsent"] if lost_batches else [])
        assert (left.lost_names, left.lost_batches) == (0, lost_batches)


@pytest.mark.parametrize(("position", "goes_on", "lost_batches"), [("c", [], 0), ("", ["unsent"], 1)])
def test_what_was_read_behind_another_sessions_lost_batch_does_not_go_before_it(
    position: str, goes_on: list[str], lost_batches: int
) -> None:
    """Nothing was sent yet, so memory has no batch that would show where it begins (model seed 9278)."""
    box = Outbox(3, CHANNELS, bucket_s=1, published=Published())
    box.gather([post("unsent")], position, NOW)
    left = box.leave(2)
    assert names(left) == goes_on
    assert (left.lost_names, left.lost_batches) == (0, lost_batches)


def test_where_the_boards_have_more_than_the_stream_nothing_is_sent_a_second_time() -> None:
    assert names(an_ended_one("", "").leave(0, boards_ahead=True)) == ["unsent"]


def test_a_channel_without_names_goes_out_empty_so_that_its_numbers_have_no_holes() -> None:
    draft = Draft(CHANNELS)
    draft.add([post("a")], "", now=NOW, bucket_s=1)
    assert told(draft.batch(1), "hashtags") == {"times": [], "names": []}


def test_an_author_that_is_no_name_leaves_the_hashtags_standing() -> None:
    draft = Draft(CHANNELS)
    draft.add([post("", "x", "y")], "", now=NOW, bucket_s=1)
    assert told(draft.batch(1), "usernames")["names"] == []
    assert told(draft.batch(1), "hashtags")["names"] == ["x", "y"]


def test_posts_gather_while_a_batch_is_under_way_and_a_lone_one_leaves_at_once() -> None:
    box = Outbox(7, CHANNELS, bucket_s=1, published=Published())
    box.gather([post("a")], "p1", NOW)
    first = box.next()
    assert first is not None
    assert (first.seq, first.names, first.position) == (8, 1, "p1")
    box.gather([post("b")], "p2", NOW)
    box.gather([post("c")], "p3", NOW)
    assert box.next() is first, "not acknowledged yet: it is the one to send"
    box.acknowledge(first)
    second = box.next()
    assert second is not None
    assert (second.seq, second.names, second.position) == (9, 2, "p3")


def test_a_flood_is_cut_into_bounded_batches_at_the_ends_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_BATCH_NAMES", 10)
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    for number in range(10):
        box.gather([post("a"), post("b"), post("c")], f"p{number}", NOW)
    sizes, positions = [], []
    while (batch := box.next()) is not None:
        box.acknowledge(batch)
        sizes.append(batch.names)
        positions.append(batch.position)
    assert sizes == [12, 12, 6]
    assert positions == ["p3", "p7", "p9"]


def test_posts_that_are_gone_weigh_more_than_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is to be taken out of everything that it went into, one name after the other."""
    monkeypatch.setattr(outbox, "MAX_BATCH_NAMES", 10 * GONE_NAMES)
    box = Outbox(0, [Channel("gone", hashtags, with_ids=True)], bucket_s=1, published=Published())
    for number in range(5):
        box.gather([Post(f"{number}/{place}", 0, "", is_gone=True) for place in range(6)], f"p{number}", NOW)
    gone = []
    while (batch := box.next()) is not None:
        box.acknowledge(batch)
        gone.append(len(decode_head(message("x", "me", batch.seq, batch.bodies["gone"])).gone))
    assert gone == [12, 12, 6]


def test_what_is_gone_keeps_its_place_among_the_names() -> None:
    channels = [Channel("hashtags", hashtags, with_ids=True), Channel("usernames", authors)]
    box = Outbox(0, channels, bucket_s=1, published=(published := Published()), keep_ids=True)
    first, second, gone = post("a", "x", "y", post_id="1"), post("b", post_id="2"), Post("1", 0, "", is_gone=True)
    box.gather([gone, first, second], "p", NOW)
    box.gather([gone, first], "q", NOW)
    batch = box.next()
    assert batch is not None
    assert json.loads(b"{" + batch.bodies["hashtags"]) == {
        "times": [[NOW, 4]],
        "names": ["x", "y", "x", "y"],
        "posts": [["1", 2], ["1", 2]],
        "gone": [["1", 0], ["1", 2]],
    }
    assert json.loads(b"{" + batch.bodies["usernames"]) == {"times": [[NOW, 3]], "names": ["a", "b", "a"]}
    assert (published.posts, published.names, batch.ids) == (3, 7, ["1", "2", "1"])


def test_what_redis_forgot_is_sent_again_byte_by_byte_the_same() -> None:
    published = Published()
    box = Outbox(0, CHANNELS, bucket_s=1, published=published)
    batches = []
    for number in range(5):
        box.gather([post(f"u{number}")], f"p{number}", NOW)
        batches.append(sent(box, number / 10))
    box.go_back_to(2)
    assert published.sent_again == 3
    assert [sent(box, 1) for _ in range(3)] == batches[2:]
    assert box.next() is None


def test_an_answer_that_was_lost_moves_on_without_sending_twice() -> None:
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    box.gather([post("a")], "p", NOW)
    assert box.next() is not None
    box.go_back_to(1)
    assert box.next() is None


@pytest.mark.parametrize("seq", [0, 1, 9])
def test_beyond_memory_the_session_ends(seq: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "REMEMBERED_S", 2.0)
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    for number in range(5):
        box.gather([post("a")], "p", NOW)
        sent(box, number)
    with pytest.raises(SessionEnded):
        box.go_back_to(seq)
    box.go_back_to(3)


def test_batches_are_forgotten_when_one_five_seconds_younger_is_in_and_not_before() -> None:
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    for at_s in (0.0, 1.0, 4.9):
        box.gather([post("a")], "p", NOW)
        sent(box, at_s)
    box.go_back_to(0)
    for at_s in (4.9, 4.9, 4.9, 5.0):
        box.gather([post("a")], "p", NOW)
        sent(box, at_s)
    box.go_back_to(0)  # the first went out again at 4.9, so it is young once more
    for at_s in (9.8, 9.9, 9.95, 15.0):
        box.gather([post("a")], "p", NOW)
        sent(box, at_s)
    with pytest.raises(SessionEnded):
        box.go_back_to(0)


def test_an_idle_stream_keeps_its_last_batches_however_old() -> None:
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    box.gather([post("a")], "p", NOW)
    sent(box, 0)
    box.go_back_to(0)
    assert sent(box, 3600).seq == 1


def test_memory_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_REMEMBERED_BYTES", 1000)
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published())
    for _ in range(50):
        box.gather([post("a" * 90)], "p", NOW)
        sent(box, 0)
    with pytest.raises(SessionEnded):
        box.go_back_to(20)
    box.go_back_to(45)


def test_reading_stops_while_more_than_eight_mebibytes_are_not_on_the_boards() -> None:
    published = Published()
    box = Outbox(0, CHANNELS, bucket_s=1, published=published)
    blocks = 0
    while box.room:
        box.gather([post("x" * 250) for _ in range(100)], "p", NOW)
        blocks += 1
    assert (8 << 20) <= published.unapplied_bytes < (8 << 20) + 30_000
    assert box.outstanding_names == blocks * 100
    last = 0
    while (batch := box.next()) is not None:
        last = batch.seq
        box.acknowledge(batch)
    assert not box.room, "in the journal is not on the boards"
    box.applied(last - 1)
    assert box.outstanding_names < blocks * 100
    box.applied(last)
    assert published.unapplied_bytes < (8 << 20)
    assert published.unapplied_bytes == 0
    assert box.outstanding_names == 0


def test_a_post_without_a_time_is_of_when_the_caller_says() -> None:
    draft = Draft(CHANNELS)
    draft.add([post("a"), post("b", time=NOW - 50), post("c", time=NOW + 9)], "", now=NOW, bucket_s=1, untimed=NOW - 60)
    assert told(draft.batch(1), "usernames")["times"] == [[NOW - 60, 1], [NOW - 50, 1], [NOW - 60, 1]]


def test_ids_that_came_again_go_out_with_the_next_batch_of_their_session() -> None:
    box = Outbox(0, CHANNELS, bucket_s=1, published=Published(), keep_ids=True)
    box.gather([post("a", post_id="9")], "p", NOW, again=["7"])
    batch = box.next()
    assert batch is not None
    assert (batch.again, batch.ids) == (["7"], ["9"])
    for draft in box.leave(0).drafts:
        assert draft.batch(1).again == [], "in another session the batch that it was in may be gone"
