"""One channel is listened to: batches go to the follower of their stream, bare names onto the board.

What lives here: listening, telling streams apart, bare names. What must not: in which order batches count
(follower.py), or the steps inside Redis (scoreboard.lua).
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec

from tweetboard.board.scoreboard import Scoreboard
from tweetboard.channel import decode_head, subscribe
from tweetboard.errors import StoreUnavailable
from tweetboard.follower import Follower, Heard
from tweetboard.journal import Journal
from tweetboard.lease import Lease
from tweetboard.store import BACKOFF_S, Store
from tweetboard.waiting import pass_cancellation

MAX_BARE_NAMES: Final = 65_536
"""Bare names heard but not added; beyond it further ones are lost, which at-most-once allows, and counted."""


class Subscriber:
    """Counts one channel onto one board: the batches of each journal's session, and bare names while `bare` is held."""

    def __init__(self, store: Store, journals: Iterable[Journal], board: Scoreboard, bare: Lease) -> None:
        self._store = store
        self._board = board
        self._bare_lease = bare
        self.heard = Heard()
        self.subscribed = asyncio.Event()
        self._bare: list[str] = []
        self._bare_came = asyncio.Event()
        self._resubscribe = asyncio.Event()
        self._followers = {
            journal.name: Follower(store, journal, board, self.heard, self._resubscribe.set) for journal in journals
        }

    async def run(self) -> None:
        """Listen and apply until cancelled; raises `StoreRefused` in a group."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name=f"listen {self._board.name}")
            group.create_task(self._add_bare_names(), name=f"bare {self._board.name}")
            for stream, follower in self._followers.items():
                group.create_task(follower.run(), name=f"apply {self._board.name} of {stream}")

    async def _listen(self) -> None:
        while True:
            self._resubscribe.clear()
            try:
                async with asyncio.TaskGroup() as group:
                    hearing = group.create_task(self._hear(), name=f"hear {self._board.name}")
                    await self._resubscribe.wait()
                    hearing.cancel()
            except* StoreUnavailable:
                self._lose_track()
            pass_cancellation()
            self.subscribed.clear()
            self.heard.subscribed = False
            await asyncio.sleep(BACKOFF_S[0])
            await self._store.wait()

    async def _hear(self) -> None:
        async with subscribe(self._store, self._board.name) as subscription:
            async for data in subscription:
                if data is None:
                    self._lose_track()
                    self.heard.subscribed = True
                    self.subscribed.set()
                elif data.startswith(b"{"):
                    self._accept(data)
                else:
                    self._accept_bare(data)

    def _lose_track(self) -> None:
        for follower in self._followers.values():
            follower.lose_track()

    def _accept(self, data: bytes) -> None:
        self.heard.messages += 1
        try:
            message = decode_head(data)
        except (msgspec.MsgspecError, UnicodeError):
            self.heard.unreadable += 1
            return
        follower = self._followers.get(message.source)
        if follower is None or not follower.accept(message, data):
            self.heard.foreign += 1

    def _accept_bare(self, data: bytes) -> None:
        name = self._board.cleaned(data.decode("utf-8", "surrogateescape"))
        if not name or len(self._bare) >= MAX_BARE_NAMES:
            self.heard.bare_names_dropped += 1
        elif self._bare_lease.held:
            self._bare.append(name)
            self._bare_came.set()

    async def _add_bare_names(self) -> None:
        while True:
            await self._bare_came.wait()
            self._bare_came.clear()
            names, self._bare = self._bare, []
            try:
                # At most once: what fails here may be in, so it is not tried again.
                added = await self._board.add_bare(self._bare_lease.key, self._bare_lease.holder, names)
            except StoreUnavailable:
                await self._store.wait()
                continue
            if added:
                self.heard.bare_names += len(names)
            else:
                self.heard.bare_names_dropped += len(names)
