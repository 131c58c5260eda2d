"""Which layout the keys in Redis have, so that no version counts on, or shows, what another one has written otherwise.

What lives here: the number and looking at it. What must not: the layout itself (journal.lua, board/), or changing one
into another, which is for the version that brings a second one.
"""

from typing import Final, cast

from tweetboard.errors import StoreRefused
from tweetboard.store import Store

SCHEMA: Final = 1
"""The layout that this version reads and writes; another one is another number, whatever the version is called."""

NAME: Final = "tweetboard:schema"
"""The key that says it, unprefixed; written when a stream is first counted (journal.lua)."""


async def check(store: Store) -> None:
    """Look whether the keys are laid out as this version knows them; raises `StoreRefused` where not, `StoreError`."""
    found = cast("bytes | None", await store.execute("GET", store.key(NAME)))
    if found is not None and found != str(SCHEMA).encode():
        raise StoreRefused(
            f"Redis at {store.address}: {store.key(NAME)} is {found.decode(errors='replace')!r}, "
            f"and this version of tweetboard knows {SCHEMA} alone; "
            "use the version that wrote it, or another redis.prefix"
        )
