"""One stream's batches go onto one board, in order: as heard while all is well, from the journal whenever in doubt.

What lives here: keeping messages in order, applying, catching up. What must not: listening (subscriber.py), or the
steps inside Redis (scoreboard.lua). Nobody here trusts memory after an error: `applied` is read again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tweetboard.board.scoreboard import Scoreboard
from tweetboard.channel import Head, Message, decode, decode_head
from tweetboard.errors import SessionEnded, StoreUnavailable
from tweetboard.histogram import Histogram
from tweetboard.journal import NO_BATCH, Journal, OutOfStep, Session
from tweetboard.outbox import max_names
from tweetboard.store import Store
from tweetboard.waiting import within

MAX_APPLY_NAMES: Final = 16_384
"""As many names go into one step as into a batch, see `outbox.MAX_BATCH_NAMES`; fewer where they go into many sets."""

MAX_HEARD_BYTES: Final = 16 << 20
"""Messages heard but not applied; twice what a publisher may be ahead. Beyond it they go, the journal has them."""

CATCH_UP_BATCHES: Final = 16
"""Batches read from the journal at once: at most 16 MiB."""

OVERDUE_S: Final = 1.0
"""The journal may be ahead of a board for this long before the channel is taken for dead."""


APPLY_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)
LAG_BOUNDS_S: Final = (1, 2, 5, 10, 30, 60, 300, 1_800, 7_200)
"""From a step that nobody notices to one that ran into its time limit; from at once to hours, as after a pause."""


class Heard(msgspec.Struct):
    """What one board's channel has brought so far; `subscribed` is the present state.

    `apply_s` is how long steps took that put names onto the board, `lag_s` how old names were by then, by their posts'
    own times, `applied_at` when the last step was, in Unix seconds, 0 for never.
    """

    messages: int = 0
    foreign: int = 0
    unreadable: int = 0
    overflows: int = 0
    catch_ups: int = 0
    applies: int = 0
    names: int = 0
    bare_names: int = 0
    bare_names_dropped: int = 0
    subscribed: bool = False
    apply_s: Histogram = msgspec.field(default_factory=lambda: Histogram(APPLY_BOUNDS_S))
    lag_s: Histogram = msgspec.field(default_factory=lambda: Histogram(LAG_BOUNDS_S))
    applied_at: float = 0.0

    def applied(self, messages: Sequence[Message], took_s: float) -> None:
        """Note a step that put the names of batches onto the board."""
        self.applied_at = now = time.time()
        self.applies += 1
        self.apply_s.observe(took_s)
        for message in messages:
            self.names += len(message.names)
            for start, names in message.times:
                self.lag_s.observe(max(now - start, 0.0), names)


class Follower:
    """Counts the batches of one journal's session onto one board.

    What it does is counted in `heard`; `resubscribe` is called where the channel seems to be dead.
    """

    def __init__(
        self, store: Store, journal: Journal, board: Scoreboard, heard: Heard, resubscribe: Callable[[], None]
    ) -> None:
        self._store = store
        self._journal = journal
        self._board = board
        self._heard = heard
        self._resubscribe = resubscribe
        self._max_names = max_names(MAX_APPLY_NAMES, board.kept.sets)
        self._messages: deque[tuple[Head, bytes]] = deque()
        self._message_bytes = 0
        self._applied = NO_BATCH
        self._in_doubt = True  # about _applied: it must be read again
        self._wake = asyncio.Event()
        journal.listeners.append(self.lose_track)

    def accept(self, message: Head, data: bytes) -> bool:
        """Take in a message of this stream; False where it is another session's."""
        session = self._journal.session
        if session is None or message.session != session.token:
            return False
        self._messages.append((message, data))
        self._message_bytes += len(data)
        if self._message_bytes > MAX_HEARD_BYTES:
            self._heard.overflows += 1
            self.lose_track()
        self._wake.set()
        return True

    def lose_track(self) -> None:
        """Forget everything that was heard: from here on only what Redis says counts."""
        self._forget()
        self._wake.set()

    def _forget(self) -> None:
        self._in_doubt = True
        self._messages.clear()
        self._message_bytes = 0

    async def run(self) -> None:
        """Apply until cancelled; raises `StoreRefused`."""
        while True:
            session = self._journal.session
            try:
                if session is not None:
                    await self._advance(session)
            except StoreUnavailable:
                self._forget()
                await self._store.wait()
            except OutOfStep:
                self._forget()
            except SessionEnded:
                self._forget()
                await self._rest(session)
            else:
                await self._rest(session)

    async def _advance(self, session: Session) -> None:
        """Bring the board as far as can be known from here. Raises what `Scoreboard.apply` raises."""
        while True:
            if self._in_doubt:
                self._in_doubt = False
                await self._catch_up(session)
            elif run := self._next_run():
                try:
                    await self._apply(session, run)
                except (msgspec.MsgspecError, UnicodeError):
                    self._heard.unreadable += 1  # its head was sound, its names are not: the journal has the true ones
                    self._forget()
            elif not self._in_doubt:
                return

    def _next_run(self) -> list[tuple[int, bytes]]:
        """Take the messages that follow what is applied, as many as go into one step; a gap is cause for doubt."""
        run: list[tuple[int, bytes]] = []
        weight = 0
        while self._messages:
            message, data = self._messages[0]
            expected = self._applied + 1 + len(run)
            if message.seq == expected:
                weight += message.weight
                if run and weight > self._max_names:
                    break
                run.append((message.seq, data))
            elif message.seq > expected:
                if not run:
                    self._forget()
                break
            self._messages.popleft()
            self._message_bytes -= len(data)
        return run

    async def _apply(self, session: Session, run: list[tuple[int, bytes]]) -> None:
        last = run[-1][0]
        messages = [decode(data) for _, data in run]
        began_s = time.monotonic()
        await self._board.apply(self._journal.stream_key, session.token, messages)
        self._applied = last
        self._heard.applied(messages, time.monotonic() - began_s)
        session.note_applied(self._board.name, last)

    async def _catch_up(self, session: Session) -> None:
        """Read what is applied, then apply what the journal has after it until it has no more.

        Raises `SessionEnded`, and marks the session as broken, where batches are missing or nothing says where the
        board stands: the begin of another session settles that.
        """
        self._heard.catch_ups += 1
        self._applied = await self._read_applied(session)
        while batches := await self._journal.read(self._board.name, self._applied, CATCH_UP_BATCHES):
            if batches[0][0] != self._applied + 1:
                # An apply whose answer was lost may have been carried out since; only if not, the batch is gone.
                applied, self._applied = self._applied, await self._read_applied(session)
                if applied == self._applied:
                    raise session.broken_by(f"batch {applied + 1} has gone from the journal")
                continue
            _check_ours(batches, session)
            while batches:
                fitting = _fitting(batches, self._max_names)
                await self._apply(session, batches[:fitting])
                del batches[:fitting]

    async def _read_applied(self, session: Session) -> int:
        applied = await self._board.applied(self._journal.name)
        if applied is None:
            raise session.broken_by(f"{self._board.applied_key} says nothing about stream {self._journal.name}")
        session.note_applied(self._board.name, applied)
        return applied

    async def _rest(self, session: Session | None) -> None:
        """Wait for something to do; a channel that stays silent while the journal is ahead is given up."""
        if session is None:
            await self._wake.wait()
        else:
            due = session.seq
            if not await within(OVERDUE_S, self._wake) and session.applied[self._board.name] < due <= session.seq:
                self._forget()
                self._resubscribe()
        self._wake.clear()


def _check_ours(batches: list[tuple[int, bytes]], session: Session) -> None:
    """Raise `SessionEnded` where another session has gone on from where ours began.

    Its batches are not to be applied under our token: should Redis go back and forget it, they would stand for ours of
    the same numbers (found by the model, seed 9477).
    """
    for seq, data in batches:
        if seq > session.began_after and decode_head(data).session not in session.tokens:
            raise SessionEnded(f"batch {seq} is another session's")


def _fitting(batches: list[tuple[int, bytes]], most: int) -> int:
    """Count the first batches that go into one step together, which weigh no more than `most` names; at least one."""
    weight = 0
    for number, (_, data) in enumerate(batches):
        weight += decode_head(data).weight
        if number and weight > most:
            return number
    return len(batches)
