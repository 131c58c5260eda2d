"""A stream that is alive and brings no posts is told from one that seldom does."""

import random

import pytest

from tweetboard.volume import QUIET_S, USUAL_S, Volume


def after(volume: Volume, seconds: int, posts_per_s: float, *, at_s: float = 0.0, posts: int = 0) -> tuple[float, int]:
    """Let so many seconds pass, evenly filled; returns the moment and the number of posts then."""
    for second in range(1, seconds + 1):
        assert not volume.look(posts + int(second * posts_per_s), at_s + second, live=True)
    return at_s + seconds, posts + int(seconds * posts_per_s)


@pytest.mark.parametrize("posts_per_s", [0.01, 0.5, 40, 5_000])
def test_what_is_usual_is_what_came(posts_per_s: float) -> None:
    volume = Volume()
    after(volume, 20 * int(USUAL_S), posts_per_s)
    assert volume.posts_per_s == pytest.approx(posts_per_s, rel=0.1)


def test_a_busy_stream_that_falls_silent_is_quiet_after_a_minute_and_is_not_when_posts_come_again() -> None:
    volume = Volume()
    now_s, posts = after(volume, 1_000, 40)
    changes = [second for second in range(1, 200) if volume.look(posts, now_s + second, live=True)]
    assert changes == [QUIET_S + 1]
    assert volume.quiet
    assert volume.silent_s == 199
    assert volume.look(posts + 1, now_s + 200, live=True)
    assert not volume.quiet


def test_a_stream_that_seldom_says_anything_may_be_silent_for_long() -> None:
    volume = Volume()
    now_s, posts = after(volume, 100_000, 0.01)
    changes = [second for second in range(1, 3_000) if volume.look(posts, now_s + second, live=True)]
    assert changes == [pytest.approx(2_000, rel=0.2)]


@pytest.mark.parametrize("posts_per_s", [0.02, 1.0, 30.0])
def test_chance_alone_raises_no_alarm(posts_per_s: float) -> None:
    rng, volume, posts = random.Random(1), Volume(), 0
    for second in range(50_000):
        posts += sum(rng.random() < posts_per_s / 50 for _ in range(50))
        volume.look(posts, float(second), live=True)
        assert not volume.quiet


def test_time_without_a_connection_is_not_silence() -> None:
    volume = Volume()
    now_s, posts = after(volume, 1_000, 40)
    assert not any(volume.look(posts, now_s + second, live=False) for second in range(1, 1_000))
    assert not volume.look(posts, now_s + 1_050, live=True)
    assert volume.silent_s == 51


def test_before_the_first_post_nothing_is_usual() -> None:
    volume = Volume()
    assert not any(volume.look(0, float(second), live=True) for second in range(10_000))
