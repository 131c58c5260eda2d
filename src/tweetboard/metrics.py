"""What an operator's Prometheus reads: every part's own counters, under names and units by Prometheus's rules.

What lives here: the names. What must not: counting - each part counts what it does in plain numbers of its own, which
are read here at each scrape, so that a post costs nothing more for being watched. No label ever holds a user's name.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tweetboard import __version__
from tweetboard.formats.decoding import Skipped
from tweetboard.outbox import Published
from tweetboard.store import Store
from tweetboard.subscriber import Heard
from tweetboard.supervision import StreamState
from tweetboard.volume import Volume


@dataclass(kw_only=True, eq=False)
class Watched(Collector):
    """Everything that is watched: the parts' own states, read when asked."""

    store: Store
    stream: StreamState
    published: Published
    heard: Mapping[str, Heard]
    skipped: Skipped
    volume: Volume
    requests: Counter[tuple[str, str]]
    embedded_restarts: Callable[[], int] = lambda: 0

    def render(self) -> bytes:
        """Write all metrics down in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as of now."""
        build = GaugeMetricFamily("tweetboard_build_info", "The running version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield _gauge("tasks", "Tasks on the event loop; more and more of them would be a leak.", _tasks())
        yield from self._of_stream()
        yield from self._of_publisher()
        yield from self._of_subscribers()
        yield _gauge("redis_up", "Whether the last command found Redis.", self.store.available)
        yield _counter("redis_round_trips", "Commands answered by Redis.", self.store.round_trips)
        yield _counter(
            "embedded_restarts", "Times the embedded server had to be started again.", self.embedded_restarts()
        )
        requests = self.requests.items()
        yield _counters("http_requests", "Requests answered.", ("route", "status"), requests)

    def _of_stream(self) -> Iterator[Metric]:
        state = self.stream
        yield _gauge("stream_up", "Whether the stream is connected.", state.live)
        yield _counter("stream_connects", "Connections made to the stream.", state.connects)
        lost = (((cause,), count) for cause, count in state.lost.items())
        yield _counters("stream_losses", "Connections that ended or failed.", ("cause",), lost)
        yield _counter("stream_received_bytes", "Bytes read from the stream.", state.received_bytes)
        yield _gauge("stream_last_received_timestamp_seconds", "When it last said anything.", state.last_received)
        yield _counter("stream_gap_seconds", "Time nobody listened to a stream that cannot go back.", state.gap_s)
        yield _gauge("stream_quiet", "Whether a live stream brings no posts for unusually long.", self.volume.quiet)
        text = "Posts that the stream said it left out, being more than it delivers."
        yield _counter("stream_undelivered_posts", text, self.skipped.undelivered)
        yield _counter("stream_repeats", "Records that a resumed stream sent again.", state.repeats)
        skipped = [((reason,), count) for reason, count in self.skipped.items()]
        skipped.append((("oversized",), state.oversized))
        yield _counters("skipped", "Records and names that came to nothing.", ("reason",), skipped)

    def _of_publisher(self) -> Iterator[Metric]:
        done = self.published
        yield _counter("posts", "Posts read.", done.posts)
        yield _counter("names", "Names read, for all channels.", done.names)
        yield _counter("batches", "Batches put together.", done.batches)
        yield _counter("batches_sent_again", "Batches that had to be sent again.", done.sent_again)
        yield _counter("batches_lost", "Batches gone before every board had them.", done.lost_batches)
        yield _counter("names_lost", "Names lost with a session, at most.", done.lost_names)
        yield _counter("posts_repeated", "Posts that an upstream's refill sent again.", done.repeats)
        yield _counter("sessions", "Sessions begun.", done.sessions)
        yield _gauge("unapplied_bytes", "Names read and not on every board yet.", done.unapplied_bytes)
        yield _gauge("standby", "Whether another instance has the stream.", done.standby)

    def _of_subscribers(self) -> Iterator[Metric]:
        def each(name: str, text: str, attribute: str) -> Metric:
            values = (((board,), int(getattr(heard, attribute))) for board, heard in self.heard.items())
            return _counters(name, text, ("board",), values)

        up = GaugeMetricFamily("tweetboard_channel_up", "Whether the channel is subscribed.", labels=["board"])
        for board, heard in self.heard.items():
            up.add_metric([board], heard.subscribed)
        yield up
        yield each("messages", "Messages heard.", "messages")
        yield each("messages_foreign", "Messages of other instances or sessions.", "foreign")
        yield each("messages_unreadable", "Messages that are none of ours.", "unreadable")
        yield each("messages_overflows", "Times that more was heard than is kept.", "overflows")
        yield each("catch_ups", "Times a board was brought up to date from the journal.", "catch_ups")
        yield each("applies", "Steps in which names went onto a board.", "applies")
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


def _counters(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = CounterMetricFamily(f"tweetboard_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
