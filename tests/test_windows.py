import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetboard.windows import bucket_s, finest_bucket_s, parse_window

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
