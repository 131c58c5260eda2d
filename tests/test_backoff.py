"""Delays between attempts: X's ladders, rung by rung, with chance passed in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tweetboard.backoff import LADDERS, Backoff

CAUSES = ("network", "http", "rate_limit")


def certain() -> float:
    return 1.0


def delays(cause: str, attempts: int) -> list[float]:
    backoff = Backoff(certain)
    return [backoff.delay_s(cause) for _ in range(attempts)]


def test_after_a_network_failure_the_first_retry_is_immediate_and_each_other_waits_250_ms_more() -> None:
    assert delays("network", 6) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert delays("network", 65)[-2:] == [15.75, 16.0]
    assert delays("network", 200)[-1] == 16.0


def test_after_an_http_error_delays_double_from_5_s_to_320_s() -> None:
    assert delays("http", 9) == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 320.0, 320.0]


def test_after_a_refusal_for_the_rate_delays_double_from_60_s() -> None:
    backoff = Backoff(lambda: 0.0)
    assert [backoff.delay_s("rate_limit") for _ in range(6)] == [60.0, 120.0, 240.0, 480.0, 960.0, 960.0]


@pytest.mark.parametrize("cause", CAUSES)
def test_a_million_failures_are_no_overflow(cause: str) -> None:
    assert LADDERS[cause].rung(1_000_000) == LADDERS[cause].longest_s


@settings(deadline=None)
@given(st.floats(0, 1), st.sampled_from(CAUSES), st.integers(1, 100))
def test_chance_takes_its_part_of_a_rung(chance: float, cause: str, attempts: int) -> None:
    """Any part after a cut; after a refusal at least half, and where the rate was too high always all of it."""
    least, most = {"network": (0, 1), "http": (0.5, 1), "rate_limit": (1, 1.25)}[cause]
    ladder, backoff = LADDERS[cause], Backoff(lambda: chance)
    for attempt in range(1, attempts + 1):
        delay_s = backoff.delay_s(cause)
        number = attempt - (cause == "network")
        rung = ladder.rung(number) if number else 0.0
        assert delay_s == pytest.approx(rung * (least + chance * (most - least)))


def test_only_data_leads_back_to_the_bottom() -> None:
    backoff = Backoff(certain)
    climbed = [backoff.delay_s("http") for _ in range(3)]
    backoff.data_flowed()
    assert climbed == [5.0, 10.0, 20.0]
    assert backoff.delay_s("http") == 5.0
    backoff.data_flowed()
    assert backoff.delay_s("network") == 0.0


@given(st.floats(0, 1), st.floats(0, 3600), st.sampled_from(["http", "rate_limit"]), st.integers(1, 20))
def test_the_upstreams_own_word_is_never_undercut_and_hardly_passed(
    chance: float, wanted_s: float, cause: str, attempts: int
) -> None:
    backoff = Backoff(lambda: chance)
    for _ in range(attempts):
        assert wanted_s <= backoff.delay_s(cause, wanted_s) <= wanted_s + 5
