import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetboard.board.windows import Kept, bucket_s, finest_bucket_s, parse_window, window

WIDTHS = st.lists(st.integers(min_value=1, max_value=10**6), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("90s", 90), ("5m", 300), ("1h", 3_600), ("24h", 86_400), ("7d", 604_800)]
)
def test_a_window_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_window(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "m", "0m", "05m", "-5m", "1.5h", "5 m", " 5m", "5m\n", "5M", "5w", "1h30m", "\u0665m", "1" * 5_000 + "s"],
)
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 90s, 5m, 24h or 7d"):
        parse_window(text)


@pytest.mark.parametrize(("window", "bucket"), [(1, 1), (60, 1), (61, 2), (300, 5), (3_600, 60), (86_400, 1_440)])
def test_a_bucket_is_a_sixtieth_of_its_window_rounded_up(window: int, bucket: int) -> None:
    assert bucket_s(window) == bucket


def test_the_finest_bucket_of_the_default_windows_is_that_of_the_shortest() -> None:
    assert finest_bucket_s([300, 3_600, 86_400]) == 5


def test_the_finest_bucket_of_windows_that_do_not_divide_one_another_is_finer_than_each() -> None:
    assert finest_bucket_s([6 * 60, 10 * 60]) == 2


def test_without_windows_the_finest_bucket_is_a_second() -> None:
    assert finest_bucket_s([]) == 1


@given(windows=WIDTHS, number=st.integers(min_value=0, max_value=10**9))
def test_a_whole_finest_bucket_lies_in_one_bucket_of_every_window(windows: list[int], number: int) -> None:
    finest = finest_bucket_s(iter(windows))
    first, last = number * finest, (number + 1) * finest - 1
    for width in map(bucket_s, windows):
        assert first // width == last // width


@pytest.mark.parametrize(
    ("kept", "finest"),
    [
        (Kept(), 0),
        (Kept((window("5m"), window("24h"))), 5),
        (Kept((window("24h"),)), 60),
        (Kept((), 60), 1),
        (Kept((), 0, 3600, 100), 0),
    ],
)
def test_a_board_looks_at_the_time_as_often_as_its_finest_bucket_but_each_minute_at_least(
    kept: Kept, finest: int
) -> None:
    assert kept.finest_s == finest


def test_a_window_is_made_of_sixty_buckets_or_of_its_seconds() -> None:
    assert [window(text)[1:] for text in ("1s", "59s", "90s", "5m", "24h", "7d")] == [
        *[(1, 1), (1, 59), (2, 45), (5, 60), (1440, 60), (10_080, 60)]
    ]


def test_all_that_can_be_asked_for_has_a_name() -> None:
    assert Kept((window("5m"),), 60).names == ["all", "5m", "trending"]
