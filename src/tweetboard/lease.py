"""A lease: the instance named in a Redis key with a short life, renewed while it lives.

What lives here: holding, keeping and releasing. What must not: what the lease is for. A lease can be lost at any moment
without its holder knowing (a stopped process, a clock); whatever it guards needs a check of its own inside Redis.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from typing import Final, cast

from tweetboard.errors import StoreUnavailable
from tweetboard.store import Script, Store, never

LIFE_MS: Final = 3000
RENEW_S: Final = 1.0
"""Three chances to renew within one life."""

WANTED_S: Final = 0.1
"""So soon it is looked again whether a lease is wanted that was not."""

RELEASE_TIMEOUT_S: Final = 0.3
"""Giving a lease up is a courtesy, for it ends by itself: no stop waits for it longer."""

_SCRIPT = Script("lease")

log = logging.getLogger(__name__)


def instance_name() -> str:
    """Make a name no other instance has, telling a person where this one runs: `host:pid:random`."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


class Lease:
    """One lease at an unprefixed `key`, wanted by the instance `holder`.

    `held` is what the last renewal found; `other` names the instance that was found in our place, "" where none was.
    """

    def __init__(self, store: Store, key: str, holder: str) -> None:
        self._store = store
        self.key = store.key(key)
        self.holder = holder
        self.held = False
        self.other = ""

    async def hold(self) -> bool:
        """Take the lease or renew it; True where it is ours now. Raises `StoreError`."""
        ours = self.holder.encode()
        reply = await self._store.run(_SCRIPT, [self.key], "hold", self.holder, LIFE_MS, proof=lambda one: one == ours)
        found = cast("bytes", reply).decode()
        self.held = found == self.holder
        self.other = "" if self.held else found
        return self.held

    async def release(self) -> None:
        """Give the lease up where it is ours, so that a standby need not wait for its end; without Redis, it does."""
        self.held = False
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._store.run(_SCRIPT, [self.key], "release", self.holder, proof=never)
        except (StoreUnavailable, TimeoutError) as error:
            log.debug("lease %s not released, it ends by itself: %r", self.key, error)

    async def keep(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Take and renew the lease as long as it is `wanted`, as far as Redis is there; release it when cancelled."""
        try:
            while True:
                try:
                    if wanted():
                        await self.hold()
                    elif self.held:
                        await self.release()
                except StoreUnavailable:
                    self.held = False
                    await self._store.wait()
                else:
                    await asyncio.sleep(RENEW_S if self.held or self.other else WANTED_S)
        finally:
            if self.held:
                await self.release()
