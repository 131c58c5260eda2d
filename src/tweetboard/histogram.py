"""Counting values by how large they are, for whoever wants to know how many were slow. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Histogram:
    """Counts values up to each of some ascending `bounds`, and those beyond; `sum` is that of all values."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value so many times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    def cumulative(self) -> list[tuple[str, int]]:
        """Give for each bound, and at last for +Inf, how many values are no larger, as Prometheus has it."""
        bounds = [str(float(bound)) for bound in self._bounds] + ["+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True))
