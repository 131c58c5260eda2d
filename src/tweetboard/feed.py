"""One stream, with everything that is its own: journal, lease, decoder, publisher, and what is known of how it goes.

What lives here: putting these together, and saying how the stream does. What must not: boards (pipe.py), and where the
bytes come from (sources.py).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from tweetboard.boards import boards_of, bucket_s_of
from tweetboard.errors import StreamError
from tweetboard.filtering import Filtered
from tweetboard.formats import decoder_for
from tweetboard.formats.decoding import Skipped
from tweetboard.formats.paths import Path
from tweetboard.framing import Block
from tweetboard.journal import Journal
from tweetboard.lease import Lease
from tweetboard.posts import Post
from tweetboard.presets import Place
from tweetboard.publisher import Publisher, Source
from tweetboard.settings import Settings, streams_of
from tweetboard.sources import keep_ids_s
from tweetboard.store import Store
from tweetboard.supervision import StreamState
from tweetboard.volume import LATE_S, Lag, Volume
from tweetboard.watchdog import Work

FIRST_REPORT_S, REPORT_S = 1.0, 10.0
"""What came to nothing is logged so soon after a quiet time, and at most so often."""

LOOK_S: Final = 1.0
"""How often it is looked whether posts still come."""

EMPTY_POSTS: Final = 100
"""Where a path leads to nothing in so many posts, somebody should hear of it."""

EXPECTED: Final = frozenset(
    {"bot", "delete", "edit", "hashtag", "language", "limit", "scrub_geo", "status_withheld", "user_withheld"}
)
"""What a healthy stream also says, and what somebody wants left out; counted, but not worth a line in the log."""

WORK_LIMIT_S: Final = 60.0
"""What has been read is published by then, and a connection that has said nothing for too long is made anew."""

log = logging.getLogger(__name__)


Status: TypeAlias = Literal["live", "catching up", "quiet", "connecting", "standby", "ended"]


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a stream does: in a word, why, and since when it has been connected, or has not.

    The posts that come are `behind_s` old, in whole minutes, where it catches up; `gap_s` is how long nobody listened
    to it since the start, where it cannot go back; `left_out` is how many posts it says it has not sent, roughly.
    """

    status: Status
    since: datetime
    detail: str = ""
    behind_s: int = 0
    gap_s: float = 0.0
    left_out: int = 0


class Health(NamedTuple):
    """How a part does: whether it works, how it goes in some words, and how long ago it last did something."""

    ok: bool
    detail: str
    age_s: float | None = None


class UnmetPaths:
    """The paths at which nothing stands in any of so many `streams`: most likely they are misspelt."""

    def __init__(self, paths: Sequence[Path], streams: int) -> None:
        self._texts = {place: path.text for place, path in enumerate(paths)}
        self._waiting_for = streams

    def __bool__(self) -> bool:
        return bool(self._texts)

    def look_at(self, posts: Sequence[Post]) -> None:
        """Take out those at which something stands in one of the posts."""
        for place in [place for place in self._texts if any(post.fields[place] for post in posts)]:
            del self._texts[place]

    def seen_enough(self) -> None:
        """Note that a stream has brought `EMPTY_POSTS`; when all have, log what is left."""
        self._waiting_for -= 1
        if self._waiting_for == 0:
            for text in self._texts.values():
                log.warning("at %s nothing stands in the first %d posts", text, EMPTY_POSTS)
            self._texts.clear()


class Feed:
    """The stream `name` at `place`, feeding the settings' boards; `holder` is the name of this instance.

    People call it by its `title`. Which paths are `unmet` it shares with the other streams.

    `state` is to be set to that of the source, and `on_posts` to what is called whenever it brings some; `failure` is
    why the stream ended for good.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        name: str,
        place: Place,
        holder: str,
        title: str = "",
        unmet: UnmetPaths | None = None,
    ) -> None:
        boards, paths = boards_of(settings)
        self.name, self.title = name, title or name
        self.journal = Journal(store, name, [(board, found.key) for board, found in boards.items()], title)
        self.lease = Lease(store, f"tweetboard:{name}:lease", holder)
        self.skipped = Skipped()
        self._forgets = any(board.kept.forget_s for board in boards.values())
        self._decoder = decoder_for(place.format, self.skipped, paths, tells_gone=self._forgets)
        self.decoder = Filtered(self._decode, settings.filter, self.skipped, paths)
        self.publisher = Publisher(
            store,
            self.journal,
            self.lease,
            channels=[board.channel for board in boards.values()],
            bucket_s=bucket_s_of(settings),
            keep_ids_s=keep_ids_s(place),
        )
        stream = streams_of(settings).get(name)
        self._set_stall_s = stream.settings.stall_timeout_s if stream is not None else 0.0
        self.volume, self.lag = Volume(), Lag()
        self.state = StreamState()
        self.failure: StreamError | None = None
        self.on_posts: Callable[[], None] = lambda: None
        self._decoded_posts = 0
        self._behind_s = 0.0
        self._unmet = UnmetPaths(paths, 1) if unmet is None else unmet

    @property
    def stall_timeout_s(self) -> float:
        """How long a connection may say nothing at all, as set or as usual for the format; 0 where neither is known."""
        found = self._decoder.format
        return self._set_stall_s or (0.0 if found is None else found.stall_timeout_s)

    def _decode(self, block: Block) -> list[Post]:
        posts = self._decoder.decode(block)
        came = [post for post in posts if not post.is_gone] if self._forgets else posts
        if came:
            if self._unmet:
                self._unmet.look_at(came)
                if self._decoded_posts < EMPTY_POSTS <= self._decoded_posts + len(came):
                    self._unmet.seen_enough()
            self._decoded_posts += len(came)
            self._behind_s = time.time() - came[-1].time if came[-1].time else 0.0
            self.lag.came(self._behind_s)
            self.on_posts()
        return posts

    @property
    def came_to_nothing(self) -> Counter[str]:
        """Count, by reason, the records and names that are on no board."""
        return Counter({**self.skipped, **({"oversized": self.state.oversized} if self.state.oversized else {})})

    async def publish(self, source: Source, stopping: asyncio.Event) -> None:
        """Publish until `stopping` is set or the source ends, for good where it fails; raises `StoreRefused`."""
        try:
            await self.publisher.run(source, self.decoder, stopping)
        except StreamError as error:
            self.failure = error

    async def watch_volume(self) -> None:
        """Look whether posts come, and how old; log when a live stream brings none any more, and when it does again."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.lag.look()
            live = self.state.live and not self.publisher.published.standby
            live = live and not self.publisher.held_up and self._behind_s < LATE_S
            if not self.volume.look(self._decoded_posts, time.monotonic(), live=live):
                continue
            if self.volume.quiet:
                log.warning(
                    "stream %s: next to no posts, the last one %.0f s ago, though it is alive and usually brings %.3g "
                    "a second: its rules, its quota?",
                    *(self.title, self.volume.silent_s, self.volume.posts_per_s),
                )
            else:
                log.info("stream %s: posts come again, or so few are what is usual now", self.title)

    async def report(self) -> None:
        """Log what came to nothing: soon the first time, then seldom, and the rest at the end."""
        reported = self.came_to_nothing  # by a feed before this one, which has said so
        pause_s = FIRST_REPORT_S
        try:
            while True:
                await asyncio.sleep(pause_s)
                pause_s = REPORT_S if self._report_skipped(reported) else FIRST_REPORT_S
        finally:
            self._report_skipped(reported)

    def _report_skipped(self, reported: Counter[str]) -> bool:
        """Log a line for each reason that has more than is `reported`; True where there was one."""
        more = self.came_to_nothing - reported
        told = [(reason, count) for reason, count in more.items() if reason not in EXPECTED]
        for reason, count in told:
            example = self.skipped.examples.get(reason)
            log.warning("stream %s: skipped %d: %s%s", self.title, count, reason, f": {example}" if example else "")
        reported.update(dict(told))
        return bool(told)

    def condition(self) -> Condition:
        """Say how the stream does, in a form that changes only when that does."""
        state, behind_s, detail = self.state, 0, ""
        since = datetime.fromtimestamp(int(state.since), UTC)
        status: Status = "live"
        if self.failure is not None:
            status, detail = "ended", str(self.failure)
        elif self.publisher.published.standby:
            status, detail = "standby", f"{self.lease.other} has it"
        elif not state.live:
            status, detail = "connecting", state.trouble
        elif self.volume.quiet:
            status = "quiet"
        elif self.lag.behind_s:
            status, behind_s = "catching up", int(self.lag.behind_s // 60 * 60)
        left_out = int(float(f"{self.skipped.undelivered:.2g}"))
        return Condition(status, since, detail, behind_s, round(state.gap_s, 1), left_out)

    def work(self, *, available: bool) -> dict[str, Work]:
        """Say what the stream's client and its publisher have to do; `available` says whether Redis is."""
        state, published, stall_s = self.state, self.publisher.published, self.stall_timeout_s
        left = self.publisher.outstanding_names
        heard = (state.received_bytes, state.connects)
        is_due = state.live and stall_s > 0 and not self.publisher.held_up
        return {
            "stream": Work(is_due and available, heard, stall_s + WORK_LIMIT_S),
            "publisher": Work(left > 0 and available, (published.batches, left), WORK_LIMIT_S),
        }

    def described(self) -> Health:
        """Say whether all is well with the stream, how it goes in some words, and when it was last heard."""
        state, now = self.state, time.time()
        heard_s = now - state.last_received if state.last_received else None
        if self.failure is not None:
            return Health(False, str(self.failure), heard_s)
        if self.publisher.published.standby:
            return Health(True, f"standby: {self.lease.other} has it", heard_s)
        detail = state.trouble or ("connected" if heard_s is None else f"last heard {heard_s:.1f} s ago")
        if not state.live and now - state.since >= 1:
            detail += f", for {now - state.since:.0f} s"
        if self.volume.quiet:
            detail += f"; next to no posts, the last one {self.volume.silent_s:.0f} s ago, which is unusual"
        if state.gap_s:
            detail += f"; {state.gap_s:.1f} s at most went by unheard since the start"
        if self.skipped.undelivered:
            detail += f"; the stream says that it left out {self.skipped.undelivered:,} posts"
        return Health(state.live, detail, heard_s)
