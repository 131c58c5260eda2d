"""What an upstream sends again is known by its id, for as long as that may happen."""

from tweetboard.posts import Post
from tweetboard.recent import RecentIds


def post(author: str, post_id: str = "") -> Post:
    return Post(post_id, 0, author)


def test_ids_seen_within_their_time_are_dropped_and_then_forgotten() -> None:
    ids = RecentIds(60)
    ids.load(["7"], 0)
    fresh = ids.new([post("a", post_id="7"), post("a", post_id="8"), post("a", post_id="8"), post("b")], 1)
    assert [one.id for one in fresh] == ["8", ""]
    for now_s in range(2, 60):
        assert ids.new([post("a")], now_s)
    assert ids.new([post("a", post_id="8")], 60) == []
    assert [one.id for one in ids.new([post("a"), post("a", post_id="9")], 60)] == ["", "9"]
    for now_s in range(61, 121):
        ids.new([post("a")], now_s)
    assert [one.id for one in ids.new([post("a", post_id="8"), post("a", post_id="9")], 121)] == ["8", "9"]


def test_a_pause_of_the_stream_makes_no_id_older() -> None:
    """Upstream sends again what came just before the pause, however long that was."""
    ids = RecentIds(60)
    ids.new([post("a", post_id="7")], 100)
    assert ids.new([post("a", post_id="7")], 100_000) == []


def test_what_comes_over_and_over_is_never_new() -> None:
    """Connections that end within the overlap bring the same posts for as long as that goes on, some of them fewer."""
    ids = RecentIds(60)
    everything = [post("a", post_id=str(number)) for number in range(10)]
    assert len(ids.new(everything, 0)) == 10
    for now_s in range(1, 300, 2):
        assert ids.new(everything[:4], now_s) == []
        assert [one.id for one in ids.new([*everything, post("b", post_id=f"b{now_s}")], now_s + 1)] == [f"b{now_s}"]


def test_an_id_that_has_come_again_is_to_be_stored_anew() -> None:
    ids = RecentIds(60)
    ids.load(["7", "8"], 0)
    ids.new([post("a", post_id="7"), post("a", post_id="7")], 1)
    again = ids.again()
    assert again == ["7"]
    assert ids.again() == []


def test_posts_without_an_id_are_never_taken_for_one_another() -> None:
    ids = RecentIds(60)
    assert len(ids.new([post("a"), post("a")], 0)) == 2


def test_without_refill_no_ids_are_kept() -> None:
    ids = RecentIds(0)
    assert len(ids.new([post("a", post_id="8"), post("a", post_id="8")], 0)) == 2


def test_the_id_of_a_post_that_is_gone_may_come_again() -> None:
    """Sent again from before the deletion on, the post comes before it and counts for nothing once more."""
    ids = RecentIds(60)
    came, gone = post("a", "1"), Post("1", 0, "", is_gone=True)
    assert ids.new([came, came, gone, came, came, gone, gone], 0.0) == [came, gone, came, gone, gone]
    assert ids.new([came, came], 0.0) == [came]
