"""As much of Redis as the project uses, in memory, running the project's own Lua; it can go back in time.

What lives here: commands, scripts, expiry, publishing, and every state of the last seconds. What must not: time of its
own, connections and their faults (model_network.py). test_model.py compares it with a real server.
"""

import hashlib
import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgspec
from lupa import lua51
from redis.exceptions import NoScriptError, ResponseError

from tweetboard.board.scoreboard import SCRIPT
from tweetboard.store import Script

EPOCH_S: Final = 1_763_804_600
"""What the clock's zero is in Unix seconds."""

SCRIPTS: Final = {"journal": Script("journal").text, "scoreboard": SCRIPT.text, "lease": Script("lease").text}
"""The project's, by name."""

Word: TypeAlias = str | bytes | int | float
Reply: TypeAlias = Any
Lua: TypeAlias = Any  # a value of a script's, or a function

HISTORY_S = 2.0
"""How far back a restart may take it: what `appendfsync everysec` can lose."""

_LUA = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
_compiled: dict[str, Lua] = {}


class Entries(msgspec.Struct):
    """A stream: fields by the first half of their ids (the second is always 0), and the last id there ever was."""

    fields: dict[int, dict[bytes, bytes]] = {}
    last: int = -1


class State(msgspec.Struct):
    """Everything that a Redis holds, and `ledger`, what the test knows about each batch in it (never shown to Lua)."""

    strings: dict[bytes, tuple[bytes, float]] = {}
    hashes: dict[bytes, dict[bytes, bytes]] = {}
    zsets: dict[bytes, dict[bytes, float]] = {}
    streams: dict[bytes, Entries] = {}
    ledger: dict[int, Any] = {}

    def copy(self) -> "State":
        """Copy it as deep as `Redis` changes it in place: the values themselves are replaced, not changed."""
        return State(dict(self.strings), dict(self.hashes), dict(self.zsets), dict(self.streams), self.ledger)


class Redis:
    """One server. `clock` gives seconds; `publish` is called with (channel, data) for each message."""

    def __init__(self, clock: Callable[[], float], publish: Callable[[bytes, bytes], int]) -> None:
        self.state = State()
        self._clock = clock
        self._publish = publish
        self._texts: dict[bytes, str] = {}
        self._changed: set[bytes] = set()  # keys whose values this command has copied already
        self._history: deque[tuple[float, State]] = deque()
        self.substitutes: Mapping[str, str] = {}

    # What a client may do

    def execute(self, *command: Word) -> Reply:
        """Run one command as a client sends it, atomically. Raises `ResponseError`."""
        words = [_encoded(word) for word in command]
        try:
            return self._command(words)
        finally:
            if self._changed:
                self._remember()

    # What happens to a server

    def restart(self, loss_s: float) -> None:
        """Come back as it was `loss_s` seconds ago; what was lost then can never come back."""
        until = self._clock() - loss_s
        while len(self._history) > 1 and self._history[-1][0] > until:
            self._history.pop()
        if self._history:
            self.state = self._history[-1][1].copy()
        self._history.clear()
        self._remember()

    def changed_ago(self) -> list[float]:
        """Say how many seconds ago each change was that may still be lost; leases and noted ranks do not count."""
        now = self._clock()
        hashes = [
            (time, {key: one for key, one in state.hashes.items() if b":ranks" not in key})
            for time, state in self._history
        ]
        return [now - time for (_, before), (time, after) in pairwise(hashes) if before != after]

    def forget_scripts(self) -> None:
        """Lose the scripts, as a server does that starts anew and a replica that takes over need not."""
        self._texts.clear()

    def wipe(self) -> None:
        """Lose everything."""
        self.state = State()
        self._history.clear()
        self._remember()

    def note(self, ledger: dict[int, Any]) -> None:
        """Let the test change what it knows, as a part of the command that was carried out last."""
        self.state.ledger = ledger
        if self._history:
            self._history[-1][1].ledger = ledger

    def _remember(self) -> None:
        self._changed.clear()
        now = self._clock()
        self._history.append((now, self.state.copy()))
        while len(self._history) > 1 and self._history[1][0] < now - HISTORY_S:
            self._history.popleft()

    # Scripts

    def _eval(self, text: str, count: int, words: Sequence[bytes]) -> Reply:
        keys, arguments = _LUA.table_from(words[:count]), _LUA.table_from(words[count:])
        _running.append(self)
        try:
            return _from_lua(_function(self.substitutes.get(text, text))(keys, arguments, _API, _CJSON))
        finally:
            _running.pop()

    def call(self, *command: Word) -> Lua:
        """Run one command as a script sends it."""
        return _to_lua(self._command([_encoded(word) for word in command]))

    def _command(self, words: list[bytes]) -> Reply:
        name = words[0].decode().lower()
        method: Callable[..., Reply] | None = getattr(self, f"do_{name}", None)
        if method is None:
            raise NotImplementedError(f"the model's Redis does not know {name.upper()}: teach it in model_redis.py")
        return method(*words[1:])

    def do_evalsha(self, digest: bytes, count: bytes, *words: bytes) -> Reply:
        if digest not in self._texts:
            raise NoScriptError("No matching script. Please use EVAL.")
        return self._eval(self._texts[digest], int(count), words)

    def do_eval(self, script: bytes, count: bytes, *words: bytes) -> Reply:
        digest = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
        self._texts[digest] = script.decode()
        return self._eval(self._texts[digest], int(count), words)

    # Keys and strings

    def do_time(self) -> Reply:
        return [b"%d" % (EPOCH_S + self._clock()), b"0"]

    def do_ping(self) -> Reply:
        return b"PONG"

    def do_del(self, *keys: bytes) -> Reply:
        state, found = self.state, 0
        for key in keys:
            self._changed.add(key)
            tables: list[dict[bytes, Any]] = [state.strings, state.hashes, state.zsets, state.streams]
            found += sum(table.pop(key, None) is not None for table in tables)
        return found

    do_unlink = do_del

    def do_rename(self, key: bytes, new_key: bytes) -> Reply:
        table = self.state.hashes.pop(key)
        self._changed |= {key, new_key}
        self.state.hashes[new_key] = table
        return b"OK"

    def do_get(self, key: bytes) -> Reply:
        value, expires = self.state.strings.get(key, (None, 0.0))
        return value if expires > self._clock() else None

    def do_set(self, key: bytes, value: bytes, px: bytes = b"PX", life_ms: bytes = b"") -> Reply:
        if px != b"PX":
            raise NotImplementedError("the model's Redis does not know this form")
        self._changed.add(key)
        self.state.strings[key] = (value, self._clock() + int(life_ms) / 1000 if life_ms else math.inf)
        return b"OK"

    def do_exists(self, key: bytes) -> Reply:
        state = self.state
        return int(
            any(key in table for table in (state.hashes, state.zsets, state.streams)) or self.do_get(key) is not None
        )

    # Hashes

    def do_hget(self, key: bytes, field: bytes) -> Reply:
        return self.state.hashes.get(key, {}).get(field)

    def do_hmget(self, key: bytes, *fields: bytes) -> Reply:
        found = self.state.hashes.get(key, {})
        return [found.get(field) for field in fields]

    def do_hkeys(self, key: bytes) -> Reply:
        return list(self.state.hashes.get(key, {}))

    def do_hgetall(self, key: bytes) -> Reply:
        return [word for pair in self.state.hashes.get(key, {}).items() for word in pair]

    def do_hlen(self, key: bytes) -> Reply:
        return len(self.state.hashes.get(key, {}))

    def do_hset(self, key: bytes, *pairs: bytes) -> Reply:
        table = self._own(self.state.hashes, key)
        before = len(table)
        table.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(table) - before

    def do_hdel(self, key: bytes, *fields: bytes) -> Reply:
        return self._removed(self.state.hashes, key, fields)

    def do_hscan(self, key: bytes, _cursor: bytes, _count: bytes, _number: bytes) -> Reply:
        return [b"0", [word for pair in self.state.hashes.get(key, {}).items() for word in pair]]

    # Sorted sets

    def do_zadd(self, key: bytes, *pairs: bytes) -> Reply:
        table = self._own(self.state.zsets, key)
        before = len(table)
        table.update(zip(pairs[1::2], map(float, pairs[::2]), strict=True))
        return len(table) - before

    def do_zmscore(self, key: bytes, *members: bytes) -> Reply:
        table = self.state.zsets.get(key, {})
        return [_encoded(table[member]) if member in table else None for member in members]

    def do_zcard(self, key: bytes) -> Reply:
        return len(self.state.zsets.get(key, {}))

    def do_zcount(self, key: bytes, low: bytes, high: bytes) -> Reply:
        scores = self.state.zsets.get(key, {}).values()
        if high == b"+inf":
            least = float(low.removeprefix(b"("))
            return sum(score > least or (score == least and not low.startswith(b"(")) for score in scores)
        if low != b"-inf" or not high.startswith(b"("):
            raise NotImplementedError("the model's Redis counts up from a bound, or down from an exclusive one, only")
        return sum(score < float(high[1:]) for score in scores)

    def do_zrange(self, key: bytes, start: bytes, stop: bytes, with_scores: bytes = b"") -> Reply:
        table = self.state.zsets.get(key, {})
        members = sorted(table, key=lambda member: (table[member], member))[int(start) :]
        return self._with_scores(key, members[: int(stop) + 1 or None], with_scores)

    def do_zrevrange(self, key: bytes, start: bytes, stop: bytes, with_scores: bytes = b"") -> Reply:
        members = self.do_zrange(key, b"0", b"-1")[::-1][int(start) : int(stop) + 1]
        return self._with_scores(key, members, with_scores)

    def _with_scores(self, key: bytes, members: list[bytes], with_scores: bytes) -> Reply:
        table = self.state.zsets.get(key, {})
        return [word for one in members for word in (one, _encoded(table[one]))] if with_scores else members

    def do_zrem(self, key: bytes, *members: bytes) -> Reply:
        return self._removed(self.state.zsets, key, members)

    def do_zremrangebyrank(self, key: bytes, start: bytes, stop: bytes) -> Reply:
        return self._removed(self.state.zsets, key, self.do_zrange(key, start, stop))

    def do_zunionstore(self, key: bytes, count: bytes, source: bytes, weights: bytes, weight: bytes) -> Reply:
        if (key, count, weights) != (source, b"1", b"WEIGHTS"):
            raise NotImplementedError("the model's Redis multiplies a sorted set only")
        table = self._own(self.state.zsets, key)
        table.update({member: score * float(weight) for member, score in table.items()})
        return len(table)

    def do_zremrangebyscore(self, key: bytes, low: bytes, high: bytes) -> Reply:
        if low != b"-inf" or not high.startswith(b"("):
            raise NotImplementedError("the model's Redis removes everything below an exclusive bound only")
        gone = [member for member, score in self.state.zsets.get(key, {}).items() if score < float(high[1:])]
        return self._removed(self.state.zsets, key, gone)

    # Streams

    def do_xadd(self, key: bytes, entry_id: bytes, *pairs: bytes) -> Reply:
        number = _number(entry_id)
        last = self.state.streams.get(key, Entries()).last
        if number <= last:
            raise ResponseError("The ID specified in XADD is equal or smaller than the target stream top item")
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        old = self.state.streams.get(key, Entries()).fields
        self._changed.add(key)
        self.state.streams[key] = Entries({**old, number: fields}, number)
        return entry_id

    def do_xrange(self, key: bytes, start: bytes, stop: bytes, count: bytes, limit: bytes) -> Reply:
        if (stop, count) != (b"+", b"COUNT"):
            raise NotImplementedError("the model's Redis does not know this form")
        stream = self.state.streams.get(key, Entries())
        first = -1 if start == b"-" else _number(start)
        found = [number for number in stream.fields if number >= first][: int(limit)]
        return [(b"%d-0" % number, stream.fields[number]) for number in found]

    def do_xtrim(self, key: bytes, minid: bytes, bound: bytes) -> Reply:
        if minid != b"MINID":
            raise NotImplementedError("the model's Redis does not know this form")
        stream = self.state.streams.get(key)
        if stream is None:
            return 0
        kept = {number: fields for number, fields in stream.fields.items() if number >= _number(bound)}
        gone = len(stream.fields) - len(kept)
        if gone:
            self._changed.add(key)
            self.state.streams[key] = Entries(kept, stream.last)
        return gone

    # Pub/Sub

    def do_publish(self, channel: bytes, data: bytes) -> Reply:
        return self._publish(channel, data)

    def _own(self, tables: dict[bytes, dict[bytes, Any]], key: bytes) -> dict[bytes, Any]:
        """Give out a value to be changed: a copy of it, once for each command."""
        if key not in self._changed:
            self._changed.add(key)
            tables[key] = dict(tables.get(key, {}))
        return tables.setdefault(key, {})

    def _removed(self, tables: dict[bytes, dict[bytes, Any]], key: bytes, names: Sequence[bytes]) -> int:
        """Remove from a hash or a sorted set, which is gone when it is empty; says how many there were."""
        if key not in tables:
            return 0
        table = self._own(tables, key)
        found = sum(table.pop(name, None) is not None for name in names)
        if not table:
            del tables[key]
        return found


def without(text: str, guard: int) -> str:
    """Take a script's guard (a line that ends in `-- guard`, counted from 0) out of it."""
    lines = text.splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if line.rstrip().endswith("-- guard")]
    del lines[places[guard]]
    return "".join(lines)


def _function(text: str) -> Lua:
    if text not in _compiled:
        _compiled[text] = _LUA.eval(b"function(KEYS, ARGV, redis, cjson)\n" + text.encode() + b"\nend")
    return _compiled[text]


def _number(entry_id: bytes) -> int:
    found = re.fullmatch(rb"(\d+)-0", entry_id)
    if found is None:
        raise ResponseError("Invalid stream ID specified as stream command argument")
    return int(found[1])


def _encoded(word: Word) -> bytes:
    """Make a word of a command bytes: numbers as Redis does for both its clients and Lua."""
    match word:
        case bytes():
            return word
        case str():
            return word.encode()
        case int():
            return b"%d" % word
        case _:
            return b"%.17g" % word


def _to_lua(reply: Reply) -> Lua:
    """Make a reply what redis.call gives to a script: no value is false, and streams' fields are lists."""
    match reply:
        case None:
            return False
        case list() | tuple():
            return _LUA.table_from([_to_lua(item) for item in reply])
        case dict():
            return _LUA.table_from([item for pair in reply.items() for item in pair])
        case _:
            return reply


def _from_lua(value: Lua) -> Reply:
    """Make what a script returns a reply: a list ends at its first nil, and numbers lose their fractions."""
    if lua51.lua_type(value) == "table":
        return [_from_lua(value[place]) for place in range(1, len(value) + 1)]
    if value is False or value is None:
        return None
    if isinstance(value, float):
        return math.trunc(value)
    return value


def _cjson_decode(text: bytes) -> Lua:
    return _decoded(msgspec.json.decode(text))


def _decoded(value: Reply) -> Lua:
    match value:
        case dict() as pairs:
            return _LUA.table_from({key.encode(): _decoded(one) for key, one in pairs.items()})
        case list() as items:
            return _LUA.table_from([_decoded(one) for one in items])
        case str():
            return value.encode()
        case _:
            return value


def _cjson_encode(table: Lua) -> bytes:
    """Encode a list of strings, or numbers by string."""
    items = dict(table.items())
    if all(isinstance(key, bytes) for key in items) and items:
        return msgspec.json.encode({key.decode(): value for key, value in items.items()})
    return msgspec.json.encode([item.decode() for item in items.values()])


def _call(*command: Word) -> Lua:
    return _running[-1].call(*command)


def _error_reply(text: bytes) -> Lua:
    raise ResponseError(text.decode())


_running: list[Redis] = []  # whose script runs; Lua must hold no server, for nobody could collect the two
_API = _LUA.table_from({b"call": _call, b"error_reply": _error_reply})
_CJSON = _LUA.table_from({b"decode": _cjson_decode, b"encode": _cjson_encode})
