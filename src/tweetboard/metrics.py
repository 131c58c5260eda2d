"""What an operator's Prometheus reads: every part's own counters, under names and units by Prometheus's rules.

What lives here: the names. What must not: counting - each part counts what it does in plain numbers of its own, which
are read here at each scrape, so that a post costs nothing more for being watched. No label ever holds a user's name.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tweetboard import __version__
from tweetboard.feed import Feed
from tweetboard.follower import Heard
from tweetboard.histogram import Histogram
from tweetboard.store import Store

Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily
F = TypeVar("F", CounterMetricFamily, GaugeMetricFamily)


@dataclass(kw_only=True, eq=False)
class Watched(Collector):
    """Everything that is watched: the parts' own states, read when asked."""

    store: Store
    feeds: Sequence[Feed]
    heard: Mapping[str, Heard]
    requests: Counter[tuple[str, str]]
    cleared: Callable[[], Mapping[str, int]] = dict
    embedded_restarts: Callable[[], int] = lambda: 0
    viewers: Callable[[], int] = lambda: 0
    failed_writes: Callable[[], int] = lambda: 0

    def render(self) -> bytes:
        """Write all metrics down in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as of now."""
        yield _gauges("build_info", "The running version.", ("version",), [((__version__,), 1)])
        yield _gauge("tasks", "Tasks on the event loop; more and more of them would be a leak.", _tasks())
        yield from self._of_streams()
        yield from self._of_publishers()
        yield from self._of_subscribers()
        yield _gauge("redis_up", "Whether the last command found Redis.", self.store.available)
        failed = "What Redis failed to write down when it last tried: its file, a rewrite of it, a snapshot."
        yield _gauge("redis_failed_writes", failed, self.failed_writes())
        yield _counter("redis_round_trips", "Commands answered by Redis.", self.store.round_trips)
        yield _counter(
            "embedded_restarts", "Times the embedded server had to be started again.", self.embedded_restarts()
        )
        yield _gauge("viewers", "Connections over which boards are watched.", self.viewers())
        requests = self.requests.items()
        yield _counters("http_requests", "Requests answered.", ("route", "status"), requests)

    def _of_streams(self) -> Iterator[Metric]:
        def state(name: str, text: str, attribute: str, make: Callable[..., Family]) -> Metric:
            return self._each(make, f"stream_{name}", text, lambda feed: float(getattr(feed.state, attribute)))

        yield state("up", "Whether the stream is connected.", "live", _gauges)
        yield state("up_changed_timestamp_seconds", "When it was connected, or lost.", "since", _gauges)
        yield state("connects", "Connections made to the stream.", "connects", _counters)
        lost = [((feed.title, cause), count) for feed in self.feeds for cause, count in feed.state.lost.items()]
        yield _counters("stream_losses", "Connections that ended or failed.", ("stream", "cause"), lost)
        yield state("received_bytes", "Bytes read from the stream.", "received_bytes", _counters)
        yield state("last_received_timestamp_seconds", "When it last said anything.", "last_received", _gauges)
        yield state("gap_seconds", "Time nobody listened to a stream that cannot go back.", "gap_s", _counters)
        yield state("repeats", "Records that a resumed stream sent again.", "repeats", _counters)
        quiet = "Whether a live stream brings no posts for unusually long."
        yield self._each(_gauges, "stream_quiet", quiet, lambda feed: feed.volume.quiet)
        left_out = "Posts that the stream said it left out, being more than it delivers."
        yield self._each(_counters, "stream_undelivered_posts", left_out, lambda feed: feed.skipped.undelivered)
        nothing = [
            ((feed.title, reason), count) for feed in self.feeds for reason, count in feed.came_to_nothing.items()
        ]
        yield _counters("skipped", "Records and names that came to nothing.", ("stream", "reason"), nothing)

    def _of_publishers(self) -> Iterator[Metric]:
        def done(name: str, text: str, attribute: str, make: Callable[..., Family] = _counters) -> Metric:
            return self._each(make, name, text, lambda feed: float(getattr(feed.publisher.published, attribute)))

        yield done("posts", "Posts read.", "posts")
        yield done("names", "Names read, for all channels.", "names")
        yield done("batches", "Batches put together.", "batches")
        yield done("batches_sent_again", "Batches that had to be sent again.", "sent_again")
        yield done("batches_lost", "Batches gone before every board had them.", "lost_batches")
        yield done("names_lost", "Names lost with a session, at most.", "lost_names")
        yield done("posts_repeated", "Posts that an upstream's refill sent again.", "repeats")
        yield done("sessions", "Sessions begun.", "sessions")
        yield done("unapplied_bytes", "Names read and not on every board yet.", "unapplied_bytes", _gauges)
        yield done("standby", "Whether another instance has the stream.", "standby", _gauges)

    def _each(self, make: Callable[..., Family], name: str, text: str, value: Callable[[Feed], float]) -> Metric:
        return make(name, text, ("stream",), [((feed.title,), value(feed)) for feed in self.feeds])

    def _of_subscribers(self) -> Iterator[Metric]:
        def each(name: str, text: str, attribute: str) -> Metric:
            values = (((board,), int(getattr(heard, attribute))) for board, heard in self.heard.items())
            return _counters(name, text, ("board",), values)

        up = [((board,), heard.subscribed) for board, heard in self.heard.items()]
        yield _gauges("channel_up", "Whether the channel is subscribed.", ("board",), up)
        applied = [((board,), heard.applied_at) for board, heard in self.heard.items()]
        yield _gauges("applied_timestamp_seconds", "When names last went onto a board.", ("board",), applied)
        cleared = (((board,), count) for board, count in self.cleared().items())
        cleared_text = "Windows and trending scores begun anew because the clock went back."
        yield _counters("windows_cleared", cleared_text, ("board",), cleared)
        yield each("messages", "Messages heard.", "messages")
        yield each("messages_foreign", "Messages of other instances or sessions.", "foreign")
        yield each("messages_unreadable", "Messages that are none of ours.", "unreadable")
        yield each("messages_overflows", "Times that more was heard than is kept.", "overflows")
        yield each("catch_ups", "Times a board was brought up to date from the journal.", "catch_ups")
        yield each("applies", "Steps in which names went onto a board.", "applies")
        for attribute, name, text in (
            ("apply_s", "apply_seconds", "How long steps took that put names onto a board."),
            ("lag_s", "post_lag_seconds", "How old names were when they came onto a board, by their posts' own times."),
        ):
            family = HistogramMetricFamily(f"tweetboard_{name}", text, labels=("board",))
            for board, heard in self.heard.items():
                found: Histogram = getattr(heard, attribute)
                family.add_metric((board,), found.cumulative(), found.sum)
            yield family
        yield each("names_applied", "Names that went onto a board.", "names")
        yield each("bare_names", "Bare names that went onto a board.", "bare_names")
        yield each("bare_names_dropped", "Bare names that did not.", "bare_names_dropped")


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no event loop: somebody reads the metrics of parts that do not run
        return 0


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tweetboard_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"tweetboard_{name}", text, value=value)


def _counters(name: str, text: str, labels: tuple[str, ...], values: Values) -> CounterMetricFamily:
    return _filled(CounterMetricFamily(f"tweetboard_{name}", text, labels=labels), values)


def _gauges(name: str, text: str, labels: tuple[str, ...], values: Values) -> GaugeMetricFamily:
    return _filled(GaugeMetricFamily(f"tweetboard_{name}", text, labels=labels), values)


def _filled(family: F, values: Values) -> F:
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
