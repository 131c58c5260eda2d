"""Posts become batches, and batches are remembered until Redis surely has them (DESIGN section 3). Pure.

What lives here: gathering, numbering, going back, forgetting, and how much of it all may be in memory. What must not:
sending (publisher.py), clocks (a caller passes the time in).
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from tweetboard.channel import GONE_NAMES, body
from tweetboard.errors import SessionEnded
from tweetboard.posts import Channel, Post, authors

MAX_BATCH_NAMES: Final = 16_384
"""A script over so many names holds Redis for some 50 ms, which every reader of a board waits for."""

SHARED_NAMES: Final = 4
"""Where names go into several sets, a batch has fewer of them; down to so small a share, for small ones cost more."""

MAX_BATCH_BYTES: Final = 1 << 20

MAX_UNAPPLIED_BYTES: Final = 8 << 20
"""Read this far ahead of the boards, then let TCP tell upstream; also well under Redis's limit for slow subscribers."""

MAX_UNAPPLIED_NAMES: Final = 262_144
"""However short they are: at a stop they must be on the boards within 3 s, and a slow core does 100,000 in one."""

REMEMBERED_S: Final = 5.0
"""Redis may come back from a crash without its last second or two (`appendfsync everysec`); batches stay this long."""

MAX_REMEMBERED_BYTES: Final = 64 << 20
"""Beyond this the oldest remembered batches go, and a rollback that far starts a session anew."""


def max_names(most: int, sets: int) -> int:
    """Give how many names go into one step, `most` of them where each goes into one set, where it goes into so many."""
    return max(most // min(sets, SHARED_NAMES), 1)


class Batch(msgspec.Struct, gc=False):
    """What goes out as one: a body per channel, and how far upstream it reaches.

    `ids` are its posts', `again` those of earlier batches that came once more. `size_bytes` is the bodies' length
    together; `sent_at` is when it was sent last, in monotonic seconds, 0 before.
    """

    seq: int
    position: str
    bodies: dict[str, bytes]
    names: int
    ids: list[str]
    size_bytes: int
    again: list[str] = []
    sent_at: float = 0.0


class Column:
    """What one channel has gathered, as its message says it: names, times, authors, posts, and what of them is gone."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.names: list[str] = []
        self.authors: list[str] = []
        self.posts: list[tuple[str, int]] = []
        self.gone: list[tuple[str, int]] = []
        self.times: list[tuple[int, int]] = []

    def add(self, posts: Sequence[Post], starts: Sequence[int], *, same: bool) -> int:
        """Take in the names of posts, each with the start of its bucket, perhaps all the `same`.

        Returns their size in a body.
        """
        if not self.channel.reposts and any(post.is_repost for post in posts):
            kept = [(post, start) for post, start in zip(posts, starts, strict=True) if not post.is_repost]
            posts, starts = [post for post, _ in kept], [start for _, start in kept]
        names = self.channel.names(posts)
        if names and same:
            _lengthen(self.times, starts[0], len(names))
        elif names:
            for start, post in zip(starts, posts, strict=True):
                _lengthen(self.times, start, len(self.channel.names([post])))
        before = len(self.names)
        self.names += names
        size_bytes = _size_bytes(names) + 3 * len(names)  # two quotes and a comma each
        if self.channel.with_authors:
            writers = [post.author for post in posts for _ in self.channel.names([post])]
            self.authors += writers
            size_bytes += _size_bytes(writers) + 3 * len(writers)
        if self.channel.with_ids:
            size_bytes += self._add_ids(posts, before)
        return size_bytes

    def _add_ids(self, posts: Sequence[Post], names: int) -> int:
        """Note which posts brought names, and which are gone, behind so many `names`; returns the size of that."""
        for post in posts:
            if post.is_gone:
                self.gone.append((post.id, names))
            elif count := len(self.channel.names([post])):
                self.posts.append((post.id, count))
                names += count
        return _size_bytes(post.id for post in posts) + 12 * len(posts)


class Draft:
    """A batch that is still being gathered, for these channels."""

    def __init__(self, channels: Sequence[Channel] = ()) -> None:
        self.columns = [Column(channel) for channel in channels]
        self._max_names = max_names(MAX_BATCH_NAMES, max((channel.sets for channel in channels), default=1))
        self.displays: dict[str, str] = {}
        self.ids: list[str] = []
        self.again: list[str] = []
        self.position = ""
        self.size_bytes = 0
        self._sealed: tuple[dict[str, bytes], int] | None = None

    @classmethod
    def of(cls, batch: "Batch") -> "Draft":
        """Make a batch a draft again, for another session to number, in which earlier batches may be gone."""
        draft = cls()
        draft.ids, draft.position, draft.size_bytes = batch.ids, batch.position, batch.size_bytes
        draft._sealed = batch.bodies, batch.names
        return draft

    @property
    def names(self) -> int:
        """How many names are in it, on all channels together."""
        return self._sealed[1] if self._sealed else sum(len(column.names) for column in self.columns)

    @property
    def full(self) -> bool:
        """Whether further posts belong into another draft."""
        weight = self.names + GONE_NAMES * max((len(column.gone) for column in self.columns), default=0)
        return self._sealed is not None or weight >= self._max_names or self.size_bytes >= MAX_BATCH_BYTES

    def add(self, posts: Sequence[Post], position: str, *, now: int, bucket_s: int, untimed: int = 0) -> None:
        """Take in one post or more; `untimed`, else `now`, stands in for a time they lack or one ahead of `now`."""
        stand_in = untimed or now
        times = [post.time if 0 < post.time < now else stand_in for post in posts]
        starts = [time - time % bucket_s for time in times]
        same = min(starts) == max(starts)  # nearly always: a block of a busy stream is milliseconds long
        for column in self.columns:
            self.size_bytes += column.add(posts, starts, same=same)
        displays = {post.author: post.display for post in posts if post.display}
        if displays:
            self.displays |= displays
            self.size_bytes += _size_bytes(displays) + _size_bytes(displays.values()) + 6 * len(displays)
        self.position = position

    def batch(self, seq: int) -> Batch:
        """Encode it as the batch `seq`."""
        bodies, names = self.seal()
        size_bytes = sum(map(len, bodies.values()))
        return Batch(seq, self.position, bodies, names, self.ids, size_bytes, self.again)

    def seal(self) -> tuple[dict[str, bytes], int]:
        """Encode the names, nothing is added any more: as Python's strings they take four times the memory."""
        if self._sealed is None:
            bodies = {
                column.channel.name: body(
                    column.times,
                    column.names,
                    displays=self.displays if column.channel.names is authors else None,
                    authors=column.authors,
                    posts=column.posts,
                    gone=column.gone,
                )
                for column in self.columns
            }
            self._sealed = bodies, self.names
            self.columns, self.displays = [], {}
        return self._sealed


class Published(msgspec.Struct):
    """What a publisher has done so far; `unapplied_bytes` and `standby` are the present state.

    `lost_names` were read, but their session ended before they were surely in Redis, and nobody can read them again.
    """

    posts: int = 0
    names: int = 0
    batches: int = 0
    sent_again: int = 0
    sessions: int = 0
    repeats: int = 0
    lost_batches: int = 0
    lost_names: int = 0
    unapplied_bytes: int = 0
    standby: bool = False


class Left(NamedTuple):
    """What an ended session has left: `drafts` for the one that follows it.

    Of all others, which are `dropped_names`, `lost_names` cannot be read again; `lost_batches` were in Redis, which has
    lost them, and are in memory no more.
    """

    drafts: list[Draft]
    lost_names: int
    dropped_names: int
    lost_batches: int


class Outbox:
    """Drafts on their way to being batches of these channels, and batches on their way out of memory. Pure.

    One task at a time. `acknowledged` is the last batch known to be in the journal; `drafts` are what an earlier
    session has left.
    """

    def __init__(
        self,
        seq: int,
        channels: Sequence[Channel],
        *,
        bucket_s: int,
        published: Published,
        keep_ids: bool = False,
        drafts: Iterable[Draft] = (),
    ) -> None:
        self.acknowledged = seq
        self._channels = channels
        self._drafts = deque(drafts)
        self._batches: deque[Batch] = deque()  # ascending without a gap: remembered ones, then ones to be sent
        self._bucket_s = bucket_s
        self._keep_ids = keep_ids
        self._forgets = any(channel.with_ids for channel in channels)
        self._published = published
        self._applied = seq
        self._batch_bytes = 0
        self._unapplied_names = 0
        self._measure()

    def gather(
        self, posts: Sequence[Post], position: str, now: int, untimed: int = 0, again: Iterable[str] = ()
    ) -> None:
        """Put one post or more into the last draft, or into a new one where that is full.

        `untimed` is when posts without a time came; the ids that came `again` go out with it, to be kept for longer.
        """
        if not self._drafts or self._drafts[-1].full:
            if self._drafts:
                self._drafts[-1].seal()
            self._drafts.append(Draft(self._channels))
        draft = self._drafts[-1]
        before = draft.names
        draft.add(posts, position, now=now, bucket_s=self._bucket_s, untimed=untimed)
        came = [post for post in posts if not post.is_gone] if self._forgets else posts
        if self._keep_ids:
            draft.again += again
            draft.ids += [post.id for post in came if post.id]
        self._published.posts += len(came)
        self._published.names += draft.names - before
        self._measure()

    def next(self) -> Batch | None:
        """Give out the batch after the last acknowledged one; None where there is none."""
        if not self._batches or self._batches[-1].seq == self.acknowledged:
            if not self._drafts:
                return None
            batch = self._drafts.popleft().batch(self.acknowledged + 1)
            self._batches.append(batch)
            self._batch_bytes += batch.size_bytes
            self._published.batches += 1
        return self._batches[self.acknowledged + 1 - self._batches[0].seq]

    def acknowledge(self, batch: Batch) -> None:
        """Note that `batch` is in the journal, and forget what is `REMEMBERED_S` older and on every board."""
        self.acknowledged = batch.seq
        # A batch is in, answered or not, by the time the one after it is sent; when its own answer came says less.
        while (
            (first := self._batches[0]) is not batch
            and first.seq <= self._applied
            and (batch.sent_at - self._batches[1].sent_at >= REMEMBERED_S or self._batch_bytes > MAX_REMEMBERED_BYTES)
        ):
            self._batches.popleft()
            self._batch_bytes -= first.size_bytes
        self._measure()

    def go_back_to(self, seq: int) -> None:
        """Go on behind batch `seq`, which is where Redis really is.

        Raises `SessionEnded` where that is further back, or further on, than memory reaches.
        """
        if seq == self.acknowledged:
            return
        if not self._batches or not self._batches[0].seq - 1 <= seq <= self._batches[-1].seq:
            raise SessionEnded(f"Redis is at batch {seq}, memory begins later")
        self._published.sent_again += max(self.acknowledged - seq, 0)
        self.acknowledged = seq
        self._measure()

    def leave(self, seq: int | None, *, boards_ahead: bool = False) -> Left:
        """Divide what an ended session has left, for a session of ours that goes on after batch `seq`; None: for none.

        With `boards_ahead` the boards have more than the stream, whose state somebody has deleted: whatever was sent
        may be on them.
        """
        for draft in self._drafts:
            draft.again.clear()  # what came again was in batches that may be gone
        in_journal = self.acknowledged if seq is None else max(self.acknowledged, seq)
        unsent_names = _names(self._after(in_journal))
        forgotten = 0 if seq is None else self._forgotten_after(seq)
        if seq is None or boards_ahead or forgotten:
            # Positions must not go past what is missing: what came with one is read again.
            self._batches = deque(batch for batch in self._batches if not batch.position)
            self._drafts = deque(draft for draft in self._drafts if not draft.position)
        drafts = [] if seq is None else self._after(math.inf if boards_ahead else seq)
        return Left(
            drafts,
            lost_names=max(_names(self._after(in_journal)) - _names(drafts), 0),
            dropped_names=max(unsent_names - _names(drafts), 0),
            lost_batches=forgotten if self._batches or self._drafts else 0,
        )

    @property
    def position(self) -> str:
        """How far upstream the drafts reach, for whoever reads on; "" where there are none."""
        return self._drafts[-1].position if self._drafts else ""

    @property
    def ids(self) -> list[str]:
        """The ids of the posts that are in no batch yet."""
        return [post_id for draft in self._drafts for post_id in draft.ids]

    def _after(self, seq: float) -> list[Draft]:
        return [Draft.of(batch) for batch in self._batches if batch.seq > seq] + list(self._drafts)

    def _forgotten_after(self, seq: int) -> int:
        """Count the batches after `seq` that are in memory no more, or never were: they were another session's."""
        before_memory = self._batches[0].seq - 1 if self._batches else self.acknowledged
        return max(before_memory - seq, 0)

    def applied(self, lowest: int) -> None:
        """Note the last batch that every board has."""
        self._applied = lowest
        self._measure()

    @property
    def gathered_names(self) -> int:
        """How many names are in no batch yet."""
        return _names(self._drafts)

    @property
    def outstanding_names(self) -> int:
        """How many names have been read and are not known to be on every board."""
        return self.gathered_names + sum(batch.names for batch in self._batches if batch.seq > self._applied)

    @property
    def room(self) -> bool:
        """Whether more may be read."""
        return self._published.unapplied_bytes < MAX_UNAPPLIED_BYTES and self._unapplied_names < MAX_UNAPPLIED_NAMES

    def _measure(self) -> None:
        size_bytes = sum(draft.size_bytes for draft in self._drafts)
        names = self.gathered_names
        for batch in reversed(self._batches):
            if batch.seq <= self._applied:
                break
            size_bytes += batch.size_bytes
            names += batch.names
        self._published.unapplied_bytes = size_bytes
        self._unapplied_names = names


def _names(drafts: Iterable[Draft]) -> int:
    return sum(draft.names for draft in drafts)


def _size_bytes(names: Iterable[str]) -> int:
    joined = "".join(names)
    return len(joined) if joined.isascii() else len(joined.encode())


def _lengthen(runs: list[tuple[int, int]], start: int, names: int) -> None:
    """Lengthen the last run by so many names, or begin another."""
    if runs and runs[-1][0] == start:
        runs[-1] = (start, runs[-1][1] + names)
    elif names:
        runs.append((start, names))
