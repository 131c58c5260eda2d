"""Moments: what sources write, as whole Unix seconds; 0 for what cannot be read, and never an exception."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tweetboard.formats.times import from_iso, from_snowflake, from_x_v1

LATEST = 4_102_444_800  # the year 2100
MOMENTS = st.integers(0, LATEST).map(lambda second: datetime.fromtimestamp(second, UTC))
ANY_TEXT = st.text() | st.text("0123456789-:+TZ. WaySunMoJan")


@given(MOMENTS)
def test_every_moment_that_a_source_writes_is_read(moment: datetime) -> None:
    second = int(moment.timestamp())
    assert from_iso(moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")) == second
    assert from_iso(moment.strftime("%Y-%m-%dT%H:%M:%SZ")) == second
    assert from_x_v1(moment.strftime("%a %b %d %H:%M:%S +0000 %Y")) == second


@given(st.integers(1_293_840_000_000, LATEST * 1000), st.integers(0, (1 << 22) - 1))
def test_every_id_of_x_holds_its_moment(milliseconds: int, sequence: int) -> None:
    assert from_snowflake(str((milliseconds - 1_288_834_974_657) << 22 | sequence)) == milliseconds // 1000


@given(ANY_TEXT)
@example("\ud800")
@example("0001-01-01T00:00:00")
@example("9999-12-31T23:59:59")
@example("Mon Jan 01 00:00:00 +2359 0001")
@example("Mon Jan 01 00:00:00 -2359 9999")
@example("Mon Feb 30 00:00:00 +0000 2020")
@example("9" * 400)
@example("²" * 18)
def test_no_text_raises_and_none_is_before_1970(text: str) -> None:
    assert from_iso(text) >= 0
    assert from_x_v1(text) >= 0
    assert from_snowflake(text) >= 0


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2021-13-01T00:00:00Z", "2021-04-01T25:00:00Z", "1955-01-01T00:00:00Z"]
)
def test_what_is_no_moment_is_0(text: str) -> None:
    assert from_iso(text) == 0
    assert from_x_v1(text) == 0


@pytest.mark.parametrize("post_id", ["", "20", "29700859247", "-1377650090978992134", "1377650090978992134x", "9" * 21])
def test_what_is_no_id_of_x_is_0(post_id: str) -> None:
    assert from_snowflake(post_id) == 0


def test_ids_of_today_lie_between_x_and_2100() -> None:
    assert 1_288_834_974 < from_snowflake("1895700000000000001") < LATEST


@pytest.mark.parametrize("parse", [from_iso, from_x_v1])
def test_of_a_text_that_is_too_long_for_a_moment_only_the_beginning_is_remembered(parse: Callable[[str], int]) -> None:
    """Else the memory of a parser would hold some thousands of whatever an upstream sends in a moment's place."""
    long = "Sun Aug 31 00:29:15 +0000 2014" + "x" * 1_000_000
    references = sys.getrefcount(long)
    assert parse(long) == 0
    assert sys.getrefcount(long) == references
