"""A stream's journal: each batch is written, published and numbered in one atomic step, and kept until all have it.

What lives here: begin, append and reading back (journal.lua has the steps themselves), and `Session`, what publisher
and subscribers of one process know of each other. What must not: how batches are gathered (publisher.py) or applied
(scoreboard.py).
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from tweetboard import schema
from tweetboard.channel import message
from tweetboard.errors import SessionEnded
from tweetboard.outbox import Batch
from tweetboard.store import Reply, Script, Store, never

_SCRIPT = Script("journal")

NO_BATCH: Final = -1

MAX_UNANSWERED: Final = 100
"""So many begins whose answer was lost are remembered: they may have been carried out, or still be."""


class Begun(msgspec.Struct, frozen=True):
    """What a stream's state was when a session began on it.

    `heard_until` is when anybody listened to upstream last, in Unix seconds, 0 where that is not known.
    """

    token: str
    seq: int
    position: str
    predecessor: str
    dropped_boards: list[str]
    lost_batches: int
    boards_ahead: int = 0
    heard_until: float = 0.0


class OutOfStep(Exception):
    """An append or apply whose number does not follow; `seq` is where the other side really is."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"out of step: at batch {seq}")
        self.seq = seq


class Session:
    """One ownership of the stream as this process knows it: shared by the publisher and the subscribers.

    `tokens` are all that it has had. `began_after` is the last batch before it, `began_at` where upstream that ends,
    `seq` the last one known to be in the journal; `applied` has, for each board, the last one known to be on it.
    `on_applied` is told the lowest of these whenever a board advances, and `advanced` is set; whoever waits for that
    clears it first. `broken` says why it must end.
    """

    def __init__(self, begun: Begun, boards: Sequence[str], on_applied: Callable[[int], None] = lambda _: None) -> None:
        self.token = begun.token
        self.tokens = {begun.token}
        self.predecessor = begun.predecessor
        self.began_after = begun.seq
        self.began_at = begun.position
        self.seq = begun.seq
        self.applied = dict.fromkeys(boards, NO_BATCH)
        self._on_applied = on_applied
        self.advanced = asyncio.Event()
        self.broken = ""

    def broken_by(self, reason: str) -> SessionEnded:
        """Mark the session as one that must end, so that the publisher ends it; returns the error to raise."""
        self.broken = reason
        return SessionEnded(reason)

    def go_on_as(self, token: str) -> None:
        """Go on under another token; what was written under the ones before is still ours."""
        self.token, self.broken = token, ""
        self.tokens.add(token)

    @property
    def lowest_applied(self) -> int:
        """The last batch that all boards have."""
        return min(self.applied.values())

    def go_back_to(self, seq: int) -> None:
        """Note where the journal really ends; no board can have more than that."""
        self.seq = seq
        self.applied = {board: min(applied, seq) for board, applied in self.applied.items()}
        self._on_applied(self.lowest_applied)

    def note_applied(self, board: str, seq: int) -> None:
        """Remember that a board has all up to `seq`."""
        self.applied[board] = seq
        self._on_applied(self.lowest_applied)
        self.advanced.set()


class Journal:
    """The journal of the stream `name`, feeding boards given as (channel, board key) pairs; people call it `title`.

    `session` is the present ownership, None while there is none; `unanswered` are the tokens of begins
    whose answer was lost; `listeners` are called whenever what they remember of the session may not hold any more.
    """

    def __init__(self, store: Store, name: str, boards: Sequence[tuple[str, str]], title: str = "") -> None:
        self._store = store
        self.name, self.title = name, title or name
        self._boards = boards
        self.stream_key = store.key(f"tweetboard:{name}")
        self._ids_key = f"{self.stream_key}:ids"
        self._keys = [
            self.stream_key,
            f"{self.stream_key}:journal",
            self._ids_key,
            store.key(schema.NAME),
            *(f"{store.key(key)}:applied" for _, key in boards),
        ]
        self.session: Session | None = None
        self.unanswered = deque[str](maxlen=MAX_UNANSWERED)
        self.listeners: list[Callable[[], None]] = []

    def open(self, session: Session) -> None:
        """Make `session` the present one, or say that it went back, and call the `listeners`."""
        self.session = session
        for listener in self.listeners:
            listener()

    async def begin(self) -> Begun:
        """Become the stream's owner under a fresh token; whoever was it before is fenced. Raises `StoreError`.

        The lease must be held: it is what keeps two daemons from fencing each other for ever.
        """
        token = secrets.token_hex(8)
        boards = msgspec.json.encode([f"{self._store.key(key)} ({channel})" for channel, key in self._boards])
        unanswered = msgspec.json.encode(list(self.unanswered))
        self.unanswered.append(token)
        reply = await self._store.run(_SCRIPT, self._keys, "begin", self.name, token, boards, unanswered, schema.SCHEMA)
        self.unanswered.remove(token)
        seq, position, predecessor, dropped, lost, ahead, heard = cast(
            "tuple[int, bytes, bytes, bytes, int, int, bytes]", reply
        )
        return Begun(
            token=token,
            seq=seq,
            position=position.decode(),
            predecessor=predecessor.decode(),
            dropped_boards=msgspec.json.decode(dropped, type=list[str]),
            lost_batches=lost,
            boards_ahead=ahead,
            heard_until=float(heard),
        )

    async def append(self, session: Session, batch: Batch, *, keep_ids_s: int = 0) -> int:
        """Journal and publish a batch in one step; returns the lowest batch that all boards have applied.

        Raises `SessionEnded` where another session owns the stream, `OutOfStep` where the batch does not follow, and
        `StoreError`; after `StoreUnavailable` the batch may be in or not, and only `look` can tell.
        """
        arguments: list[str | bytes | int] = [session.token, batch.seq, batch.position]
        arguments += [msgspec.json.encode(batch.again + batch.ids if keep_ids_s else []), keep_ids_s]
        for channel, encoded in batch.bodies.items():
            arguments += [self._store.key(channel), message(self.name, session.token, batch.seq, encoded)]
        reply = await self._store.run(_SCRIPT, self._keys, "append", self.name, *arguments, proof=_is_appended)
        outcome, number = cast("tuple[bytes, int]", reply)
        if outcome == b"fenced":
            raise SessionEnded(f"stream {self.name}: another session has taken over")
        if not _is_appended(reply):
            raise OutOfStep(number)
        return number

    async def look(self, token: str = "", heard_until: float = 0.0) -> tuple[str, int]:
        """Read the stream's owner and its last batch. Raises `StoreError`.

        The owner, who shows its `token`, also notes until when it has listened to upstream, in Unix seconds.
        """
        heard = f"{heard_until:.3f}" if heard_until else "0"
        reply = await self._store.run(_SCRIPT, self._keys, "look", self.name, token, heard, proof=never)
        owner, seq = cast("tuple[bytes, int]", reply)
        return owner.decode(), seq

    async def recent_ids(self) -> list[str]:
        """Read the ids of recent posts, where append was told to keep them. Raises `StoreError`."""
        reply = await self._store.execute("ZRANGE", self._ids_key, 0, -1)
        return [post_id.decode() for post_id in cast("list[bytes]", reply)]

    async def read(self, channel: str, after: int, count: int) -> list[tuple[int, bytes]]:
        """Read one channel's messages of up to `count` batches that follow batch `after`, as (seq, message).

        Raises `StoreError`; the result is empty where the journal has nothing later.
        """
        reply = await self._store.execute("XRANGE", f"{self.stream_key}:journal", f"{after + 1}-0", "+", "COUNT", count)
        wanted = self._store.key(channel).encode()
        batches = []
        for entry_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", reply):
            seq = int(entry_id.partition(b"-")[0])
            # A board that is new to the stream starts at the present seq: no entry without its channel is ever read.
            batches.append((seq, fields[wanted]))
        return batches


def _is_appended(reply: Reply) -> bool:
    return cast("tuple[bytes, int]", reply)[0] == b"appended"
