"""A stream that is alive and brings no posts is told from one that seldom does."""

import random

import pytest

from tweetboard.volume import BUCKET_S, FIRST_POST_S, LATE_S, QUIET_S, USUAL_BUCKETS, Lag, Volume

HOUR_S = int(BUCKET_S * USUAL_BUCKETS)


def after(volume: Volume, seconds: int, posts_per_s: float, *, at_s: float = 0.0, posts: int = 0) -> tuple[float, int]:
    """Let so many seconds pass, evenly filled; returns the moment and the number of posts then."""
    for second in range(1, seconds + 1):
        assert not volume.look(posts + int(second * posts_per_s), at_s + second, live=True)
    return at_s + seconds, posts + int(seconds * posts_per_s)


@pytest.mark.parametrize("posts_per_s", [0.01, 0.5, 40, 5_000])
def test_what_is_usual_is_what_came(posts_per_s: float) -> None:
    volume = Volume()
    after(volume, 2 * HOUR_S, posts_per_s)
    assert volume.posts_per_s == pytest.approx(posts_per_s, rel=0.1)


def test_a_busy_stream_that_falls_silent_is_quiet_after_a_minute_and_is_not_when_posts_come_again() -> None:
    volume = Volume()
    now_s, posts = after(volume, 1_000, 40)
    changes = [second for second in range(1, 200) if volume.look(posts, now_s + second, live=True)]
    assert changes == [pytest.approx(QUIET_S, abs=BUCKET_S)]
    assert volume.quiet
    assert volume.silent_s == 199
    back = [second for second in range(1, 60) if volume.look(posts + 40 * second, now_s + 199 + second, live=True)]
    assert back == [pytest.approx(4, abs=2)]
    assert not volume.quiet


def test_a_stream_that_seldom_says_anything_may_be_silent_for_long() -> None:
    volume = Volume()
    now_s, posts = after(volume, 100_000, 0.01)
    changes = [second for second in range(1, 3_000) if volume.look(posts, now_s + second, live=True)]
    assert changes == [pytest.approx(2_000, rel=0.3)]


@pytest.mark.parametrize("posts_per_s", [0.02, 1.0, 30.0])
def test_chance_alone_raises_no_alarm(posts_per_s: float) -> None:
    rng, volume, posts = random.Random(1), Volume(), 0
    for second in range(50_000):
        posts += sum(rng.random() < posts_per_s / 50 for _ in range(50))
        volume.look(posts, float(second), live=True)
        assert not volume.quiet


def test_time_without_a_connection_is_no_silence_and_breaks_none_off() -> None:
    """Some services end every connection after some minutes: a stream may fall silent all the same."""
    volume = Volume()
    now_s, posts = after(volume, 1_000, 40)
    assert not any(volume.look(posts, now_s + second, live=False) for second in range(1, 1_000))
    looks = [volume.look(posts, now_s + 1_000 + second, live=second % 20 != 0) for second in range(200)]
    assert looks.count(True) == 1
    assert volume.silent_s == 190


@pytest.mark.parametrize("trickle_s", [2, 50])
def test_next_to_nothing_is_quiet_too_until_it_is_what_is_usual(trickle_s: int) -> None:
    volume = Volume()
    now_s, posts = after(volume, 1_000, 40)
    looks = [volume.look(posts + second // trickle_s, now_s + second, live=True) for second in range(1, 2 * HOUR_S)]
    assert looks.count(True) == 2
    assert looks.index(True) < 100
    assert looks[:HOUR_S].count(True) <= 2
    assert not volume.quiet


def test_nothing_at_all_never_becomes_usual() -> None:
    volume = Volume()
    now_s, posts = after(volume, 1_000, 40)
    for second in range(1, 4 * HOUR_S):
        volume.look(posts, now_s + second, live=True)
    assert volume.quiet


def test_a_burst_of_what_was_missed_does_not_make_an_alarm_of_what_follows() -> None:
    volume = Volume()
    now_s, posts = after(volume, 5, 50_000)
    assert not any(volume.look(posts + second // 300, now_s + second, live=True) for second in range(1, 3 * HOUR_S))


def test_a_stream_that_never_brings_a_post_is_quiet_once_it_had_time_enough() -> None:
    volume = Volume()
    changes = [second for second in range(10_000) if volume.look(0, float(second), live=True)]
    assert changes == [FIRST_POST_S]
    assert volume.look(1, 10_000.0, live=True)
    assert not volume.quiet


def test_what_comes_while_nothing_can_be_said_does_not_become_usual() -> None:
    """A stream catches up for minutes, much faster than it is read when it has."""
    volume = Volume()
    for second in range(300):
        assert not volume.look(2_000 * second, float(second), live=False)
    after(volume, 4_000, 10, at_s=300, posts=600_000)
    assert volume.posts_per_s == pytest.approx(10, rel=0.1)


def looked(ages_s: list[float | None]) -> list[float]:
    """Look once a second at posts of such an age; returns how far behind the stream is said to be each time."""
    lag, said = Lag(), []
    for age_s in ages_s:
        if age_s is not None:
            lag.came(age_s)
        lag.look()
        said.append(lag.behind_s)
    return said


def test_a_stream_that_brings_old_posts_alone_is_behind_until_it_brings_new_ones() -> None:
    assert looked([7_200, 7_000, 6_000, 3_000, 61, 59, 1]) == [0, 0, 6_000, 3_000, 61, 0, 0]


def test_where_nothing_more_comes_nothing_is_left_of_it() -> None:
    assert looked([900, 900, 900, *[None] * 6, 900]) == [0, 0, 900, 900, 900, 900, 900, 0, 0, 0]


def test_an_old_post_among_fresh_ones_is_no_sign_of_it() -> None:
    """Mastodon passes on posts, hours old, of servers that were away."""
    lag = Lag()
    for _ in range(100):
        lag.came(7_200)
        lag.came(0.5)
        lag.came(LATE_S)
        lag.look()
        assert lag.behind_s == 0
    assert not any(looked([LATE_S + 1, LATE_S - 1] * 50))
