"""Values are counted up to each bound, and none is lost beyond the last."""

from hypothesis import given
from hypothesis import strategies as st

from tweetboard.histogram import Histogram

BOUNDS = (0.5, 1, 5)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5))))
def test_each_bound_has_all_values_that_are_no_larger(values: list[tuple[float, int]]) -> None:
    histogram = Histogram(BOUNDS)
    for value, times in values:
        histogram.observe(value, times)
    counts = dict(histogram.cumulative())
    for bound in BOUNDS:
        assert counts[str(float(bound))] == sum(times for value, times in values if value <= bound)
    assert counts["+Inf"] == sum(times for _, times in values)
    assert abs(histogram.sum - sum(value * times for value, times in values)) < 1e-6


def test_before_the_first_value_there_is_nothing() -> None:
    assert Histogram(BOUNDS).cumulative() == [("0.5", 0), ("1.0", 0), ("5.0", 0), ("+Inf", 0)]
