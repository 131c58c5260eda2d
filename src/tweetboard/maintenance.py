"""Boards saved, put back, and begun anew, from the command line and beside a running daemon.

What lives here: which boards, where they are written to and read from, and asking first. What must not: how a board is
copied (backup.py), or flags (cli.py).
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from tweetboard import schema
from tweetboard.board.backup import exported, imported
from tweetboard.board.scoreboard import Scoreboard
from tweetboard.errors import ConfigurationError
from tweetboard.store import Store


async def export_boards(store: Store, boards: dict[str, Scoreboard], names: Sequence[str]) -> None:
    """Write boards to standard output, all where none is named; raises `ConfigurationError` for one that is none."""
    for board in _named(boards, names):
        async with aclosing(exported(store, board)) as lines:  # whoever reads may have enough before the end
            async for line in lines:
                sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()


async def import_boards(store: Store, boards: dict[str, Scoreboard], path: str) -> None:
    """Put the boards in a file (`-`: standard input) in the place of those there are; raises as `imported` does."""
    if path == "-":
        counts = await imported(store, boards, sys.stdin.buffer, "standard input")
    else:
        try:
            with Path(path).open("rb") as file:  # noqa: ASYNC230 - nothing else goes on meanwhile
                counts = await imported(store, boards, file, path)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    await schema.claim(store)  # where nothing was ever counted, these are the first
    for name, count in counts.items():
        sys.stdout.write(f"{_told(store, boards[name], count)}\n")


async def reset_boards(store: Store, boards: dict[str, Scoreboard], names: Sequence[str], *, sure: bool) -> bool:
    """Begin boards anew, each after asking unless that is `sure`; False where one was not.

    Raises `ConfigurationError` where there is nobody to ask, or no such board, and `StoreError`.
    """
    if not sure and not sys.stdin.isatty():
        raise ConfigurationError("reset: there is nobody to ask here: --yes says that you are sure")
    all_done = True
    for board in _named(boards, names):
        total = (await board.top(limit=1)).total
        told = _told(store, board, total)
        if sure or await _asked(f"{told}: all scores and windows go. Sure? [y/N] "):
            await board.reset()
            sys.stdout.write(f"{told} are gone; it counts on from here\n")
        else:
            all_done = False
    return all_done


def _told(store: Store, board: Scoreboard, total: int) -> str:
    return f"{board.name}: {total:,} {'name' if total == 1 else 'names'} in {board.key} at {store.address}"


def _named(boards: dict[str, Scoreboard], names: Sequence[str]) -> list[Scoreboard]:
    for name in names:
        if name not in boards:
            raise ConfigurationError(f"no board {name!r} is in the settings, but {', '.join(boards)}")
    return [boards[name] for name in names or boards]


async def _asked(question: str) -> bool:
    """Wait for a line on standard input, such that a signal can come between."""
    sys.stdout.write(question)
    sys.stdout.flush()
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), answered.set)
    try:
        await answered.wait()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin.fileno())
