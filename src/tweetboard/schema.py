"""Which layout the keys in Redis have, so that no version counts on, or shows, what another one has written otherwise.

What lives here: the number and looking at it. What must not: the layout itself (journal.lua, board/), or changing one
into another, which is for the version that brings a second one.
"""

from typing import Final, cast

from tweetboard.errors import ConfigurationError
from tweetboard.store import Store

SCHEMA: Final = 1
"""The layout that this version reads and writes; another one is another number, whatever the version is called."""

NAME: Final = "tweetboard:schema"
"""The key that says it, unprefixed; written when a stream is first counted (journal.lua), or boards are put back."""


async def claim(store: Store) -> None:
    """Say that the keys are laid out as this version does it, where nobody has said anything; raises `StoreError`."""
    await store.execute("SET", store.key(NAME), SCHEMA, "NX")


async def check(store: Store) -> bool:
    """Look whether the keys are laid out as this version knows them; returns whether anything was ever counted.

    Raises `ConfigurationError` where they are not, and `StoreError`.
    """
    found = cast("bytes | None", await store.execute("GET", store.key(NAME)))
    if found is not None and found != str(SCHEMA).encode():
        raise ConfigurationError(
            f"Redis at {store.address}: {store.key(NAME)} is {found.decode(errors='replace')!r}, "
            f"and this version of tweetboard knows {SCHEMA} alone; "
            "use the version that wrote it, or another redis.prefix"
        )
    return found is not None
