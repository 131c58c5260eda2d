"""What Prometheus reads: everything that the parts count, under names by its rules, and never a user's name."""

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tweetboard import __version__
from tweetboard.channel import Message
from tweetboard.feed import Feed
from tweetboard.follower import Heard
from tweetboard.metrics import Watched
from tweetboard.posts import Skip
from tweetboard.presets import Place
from tweetboard.settings import Settings
from tweetboard.store import Store


class Parts:
    """The states of all parts, and what is rendered of them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.feed = Feed(store, Settings(), "town", Place("", "auto"), "me")
        self.stream, self.published = self.feed.state, self.feed.publisher.published
        self.skipped, self.volume = self.feed.skipped, self.feed.volume
        self.heard = {"usernames": Heard(), "hashtags": Heard()}
        self.requests = Counter[tuple[str, str]]()
        self.watched = Watched(
            store=store,
            feeds=[self.feed],
            heard=self.heard,
            requests=self.requests,
        )

    def families(self) -> list[Metric]:
        return list(text_string_to_metric_families(self.watched.render().decode()))

    def samples(self) -> list[Sample]:
        return [sample for family in self.families() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Read one sample; what is told of the stream has its name as a label."""
        names = (labels, labels | {"stream": "town"})
        (found,) = [one.value for one in self.samples() if one.name == f"tweetboard_{name}" and one.labels in names]
        return found


@pytest.fixture
def parts(fake_store: Store) -> Parts:
    return Parts(fake_store)


@pytest.fixture
def busy(parts: Parts) -> Parts:
    """Give every part something to tell."""
    parts.stream.lost = {"network": 3, "http": 1}
    parts.skipped.note("broken_json", b'{"username": "alice_of_the_posts"')
    parts.volume.quiet = True
    parts.skipped.count(Skip("limit", undelivered=12))
    parts.requests["/usernames", "200"] = 5
    parts.requests["unknown", "404"] = 6
    return parts


def primes() -> Iterator[int]:
    return (number for number in range(1009, 100_000) if all(number % divisor for divisor in range(2, 317)))


def test_every_field_of_every_state_is_told_exactly_once(parts: Parts) -> None:
    fresh = primes()
    expected = list[int]()
    for state in (parts.stream, parts.published, *parts.heard.values()):
        for field in msgspec.structs.fields(state):
            if field.type in (int, float):
                expected.append(next(fresh))
                setattr(state, field.name, expected[-1])
    told = Counter(sample.value for sample in parts.samples())
    assert len(expected) > 30
    assert [told[number] for number in expected] == [1] * len(expected)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("stream_up", {}),
        ("standby", {}),
        ("redis_up", {}),
        ("channel_up", {"board": "usernames"}),
        ("channel_up", {"board": "hashtags"}),
    ],
)
def test_what_is_or_is_not_so_is_told_as_1_or_0(parts: Parts, name: str, labels: dict[str, str]) -> None:
    assert parts.value(name, **labels) == 0
    parts.stream.live = parts.published.standby = parts.store.available = True
    for heard in parts.heard.values():
        heard.subscribed = True
    assert parts.value(name, **labels) == 1


async def test_redis_is_told_as_the_store_finds_it(parts: Parts) -> None:
    await parts.store.execute("PING")
    await parts.store.execute("PING")
    assert (parts.value("redis_up"), parts.value("redis_round_trips_total")) == (1, 2)


def test_what_is_counted_by_a_word_is_told_by_that_word(busy: Parts) -> None:
    busy.stream.oversized = 4
    assert busy.value("stream_losses_total", cause="network") == 3
    assert busy.value("stream_losses_total", cause="http") == 1
    assert busy.value("skipped_total", reason="broken_json") == 1
    assert busy.value("skipped_total", reason="oversized") == 4
    assert busy.value("stream_undelivered_posts_total") == 12
    assert busy.value("stream_quiet") == 1
    assert busy.value("http_requests_total", route="/usernames", status="200") == 5
    assert busy.value("http_requests_total", route="unknown", status="404") == 6


def test_the_running_version_is_told(parts: Parts) -> None:
    assert parts.value("build_info", version=__version__) == 1


def test_each_scrape_is_as_of_now(parts: Parts) -> None:
    for posts in (0, 1, 143_199_000):
        parts.published.posts = posts
        assert parts.value("posts_total") == posts


def test_before_anything_has_happened_there_is_already_everything_without_a_word_of_its_own(parts: Parts) -> None:
    told = {sample.name for sample in parts.samples()}
    assert {"tweetboard_posts_total", "tweetboard_messages_total", "tweetboard_stream_received_bytes_total"} <= told


def test_names_are_by_prometheuss_rules(busy: Parts) -> None:
    families = busy.families()
    assert len({family.name for family in families}) == len(families)
    ours = [family for family in families if not family.name.startswith("process_")]  # those are the library's
    for family in ours:
        assert re.fullmatch(r"tweetboard_[a-z]+(_[a-z]+)*", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter")


def test_promtool_has_nothing_to_say_against_them(busy: Parts) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool")
    done = subprocess.run([promtool, "check", "metrics"], input=busy.watched.render(), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_how_long_steps_took_and_how_old_names_were_is_told(parts: Parts) -> None:
    message = Message("x", "me", 1, [(int(time.time()) - 3, 2), (int(time.time()) - 100, 1)], ["a", "b", "c"])
    parts.heard["usernames"].applied([message], 0.004)
    assert parts.value("apply_seconds_count", board="usernames") == 1
    assert parts.value("apply_seconds_bucket", board="usernames", le="0.0025") == 0
    assert parts.value("apply_seconds_bucket", board="usernames", le="0.005") == 1
    assert parts.value("post_lag_seconds_bucket", board="usernames", le="5.0") == 2
    assert parts.value("post_lag_seconds_bucket", board="usernames", le="+Inf") == 3
    assert parts.value("post_lag_seconds_count", board="hashtags") == 0
    assert parts.value("applied_timestamp_seconds", board="usernames") == pytest.approx(time.time(), abs=5)


def test_no_sample_stands_there_twice(busy: Parts) -> None:
    told = Counter((sample.name, *sorted(sample.labels.items())) for sample in busy.samples())
    assert set(told.values()) == {1}


def test_labels_are_few_fixed_words_and_never_a_users_name(busy: Parts) -> None:
    assert "alice" in busy.skipped.examples["broken_json"], "which is for the log alone"
    assert b"alice" not in busy.watched.render()
    labels = {label for sample in busy.samples() for label in sample.labels}
    assert labels == {"version", "cause", "reason", "route", "status", "board", "stream", "le"}


def test_a_word_with_anything_in_it_is_still_one_label(parts: Parts) -> None:
    odd = 'a "quoted" \\ back\nnew line'
    parts.skipped[odd] = 7
    assert parts.value("skipped_total", reason=odd) == 7
