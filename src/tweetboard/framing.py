"""Bytes to records: NDJSON lines and Server-Sent Events, both bounded in memory and linear in time.

What belongs here: where one record ends and the next begins, however the bytes were cut on their way. What must not:
I/O, clocks, connections (stream.py), or what a record means (formats/). Push bytes as they come, and take from each
push the records that it completed; any cutting of the same bytes gives the same records.
"""

import msgspec

# Where a stream names no type, the standard's event is a "message".
_DEFAULT_TYPE = "message"
_BOM = b"\xef\xbb\xbf"
_COLON = 0x3A
# 31,000 years: nobody waits longer, and int() raises on more than 4,300 digits, which an upstream could send.
_MAX_RETRY_DIGITS = 15


class Event(msgspec.Struct, frozen=True, gc=False):
    """One dispatched Server-Sent Event.

    `type` is "message" where the stream names none; `data` comes without its last newline, but holds one between any
    two data lines; `id` is the last event id as it stands after this event, "" if there was none so far.
    """

    type: str
    data: bytes
    id: str


class Block(msgspec.Struct, gc=False):
    r"""What one push completed: `lines` from a LineFramer, `events` from an SSEFramer, in the stream's order.

    `lines` is whole lines of NDJSON, each with its b"\n". Blank and CR-only lines (X's keep-alives) stay in: to JSON
    they are whitespace, and taking them out would cost a copy.
    """

    lines: bytes = b""
    events: list[Event] = msgspec.field(default_factory=list)


class LineFramer:
    r"""Lines of NDJSON, ended by b"\n" and by nothing else: U+2028, U+0085 and a lone CR may stand within JSON text.

    A line of more than `max_line_bytes` (its CR counted, its newline not) is dropped and counted in `oversized`, once,
    as soon as it passes the bound; the lines around it are kept. Held between pushes: at most `max_line_bytes`, so that
    a stream that never ends its line cannot fill the memory; within one, the chunk besides. A byte order mark at the
    very beginning is left out, as some editors put one there.
    """

    def __init__(self, max_line_bytes: int) -> None:
        self.oversized = 0
        self._max_line_bytes = max_line_bytes
        self._partial = bytearray()
        self._skipping = False
        self._at_start = True

    def push(self, chunk: bytes) -> Block:
        """Take the stream's next bytes and return the lines that they completed."""
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            self._hold(chunk)
            return Block()
        if self._skipping:
            whole = chunk[chunk.index(b"\n") + 1 : cut]
            self._skipping = self._at_start = False
        elif self._partial:
            whole = b"".join((self._partial, memoryview(chunk)[:cut]))  # a slice would be a second copy
            self._partial.clear()
        else:
            whole = chunk[:cut]
        if self._at_start:
            whole = whole.removeprefix(_BOM)
            self._at_start = False
        block = Block(lines=self._within_bound(whole))
        self._hold(chunk[cut:])
        return block

    def end(self) -> Block:
        """Return what was left as a line of its own, for a file may lack its last newline, and be ready to start anew.

        A connection that was cut leaves half a record here; only the caller knows which of the two it was.
        """
        rest = bytes(self._partial).removeprefix(_BOM if self._at_start else b"")
        block = Block(lines=rest + b"\n") if rest else Block()
        self._partial.clear()
        self._skipping = False
        self._at_start = True
        return block

    def _hold(self, rest: bytes) -> None:
        if self._skipping:
            return
        self._partial += rest
        if len(self._partial) > self._max_line_bytes:
            self._partial.clear()
            self._skipping = True
            self.oversized += 1

    def _within_bound(self, whole: bytes) -> bytes:
        kept = []
        start = 0
        while start < len(whole):
            # All lines up to the last newline of a window this wide are within the bound, so none need be looked at
            # alone; a block shorter than the bound is one window, and neither slice nor join copies it.
            end = start + self._max_line_bytes + 1
            stop = whole.rfind(b"\n", start, end) + 1
            if stop:
                kept.append(whole[start:stop])
            else:
                stop = whole.index(b"\n", end) + 1
                self.oversized += 1
            start = stop
        return b"".join(kept)


class SSEFramer:
    r"""Server-Sent Events, by section 9.2.6 of the WHATWG HTML standard, "Interpreting an event stream".

    `last_id` is the standard's last event ID string, to be sent when connecting again; `retry_ms` is the delay before
    that, as the stream asked for it, or None. An event is dispatched with its blank line's first byte: where that is a
    CR, without waiting whether an LF follows.

    Three things the standard leaves open or to the client:

    - A given `last_id` stands until the stream sends another, as browsers have it: by the letter, the first keep-alive
      comment with a blank line after a reconnection would forget the position.
    - An event whose field lines together pass `max_line_bytes` (line ends not counted), or one of whose lines does, is
      dropped up to its blank line and counted in `oversized`, once, as soon as it passes the bound. Its `id` still
      becomes `last_id` at that blank line, wherever it stands in the event, so that a resume goes past the event; only
      an `id` line that is itself over the bound is lost. Comments are not kept, so their length is free.
    - A `retry` of more than 15 digits is ignored.

    Held between pushes: at most `max_line_bytes`, and the ids; within one, the chunk besides, cut into its lines. `id`
    and `type` are decoded with U+FFFD for what is no UTF-8; `data` stays as it came.
    """

    def __init__(self, max_line_bytes: int, last_id: str = "") -> None:
        self.oversized = 0
        self.last_id = last_id
        self.retry_ms: int | None = None
        self._max_line_bytes = max_line_bytes
        self._start_anew()

    def push(self, chunk: bytes) -> Block:
        """Take the stream's next bytes and return the events that they completed."""
        block = Block()
        chunk = self._unmarked(chunk)
        if not chunk:
            return block
        # Of bytes (unlike str), splitlines splits at LF, CR and CRLF only: the standard's three.
        lines = chunk.splitlines()
        rest = b"" if chunk[-1] in b"\r\n" else lines.pop()
        if lines and self._partial:
            lines[0] = b"".join((self._partial, lines[0]))
            self._partial.clear()
        for line in lines:
            if not line:
                self._dispatch(block.events)
            elif line[0] != _COLON:
                self._take_field(line)
        if rest:
            self._hold(rest)
        return block

    def end(self) -> Block:
        """Discard the event that lacks its blank line, as the standard wants, and be ready for the next connection.

        `last_id`, `retry_ms` and `oversized` stay; the block is always empty.
        """
        self._start_anew()
        return Block()

    def _start_anew(self) -> None:
        self._head: bytes | None = b""  # as much as came of a byte order mark; None once past it
        self._after_cr = False
        self._partial = bytearray()
        self._id = self.last_id
        self._reset_event()

    def _reset_event(self) -> None:
        self._data: bytes | bytearray | None = None  # None: no data line, the standard's empty buffer
        self._type = _DEFAULT_TYPE
        self._size = 0
        self._dropping = False

    def _unmarked(self, chunk: bytes) -> bytes:
        """Take away what is no part of any line: a byte order mark, and the LF of a CRLF that was cut in two."""
        if self._head is not None:
            chunk = self._head + chunk
            if _BOM.startswith(chunk):
                self._head = chunk
                return b""
            self._head = None
            chunk = chunk.removeprefix(_BOM)
        if chunk:
            if self._after_cr:
                chunk = chunk.removeprefix(b"\n")
            self._after_cr = chunk.endswith(b"\r")
        return chunk

    def _hold(self, rest: bytes) -> None:
        self._partial += rest
        if self._partial[0] == _COLON:
            del self._partial[1:]
        elif len(self._partial) > self._max_line_bytes:
            self._drop()
            # What is still to come of this line is taken for a comment, and so kept no more.
            self._partial[:] = b":"
        elif self._size + len(self._partial) > self._max_line_bytes:
            self._drop()

    def _drop(self) -> None:
        if not self._dropping:
            self._reset_event()
            self._dropping = True
            self.oversized += 1

    def _take_field(self, line: bytes) -> None:
        self._size += len(line)
        if self._size > self._max_line_bytes:
            self._drop()
            if len(line) > self._max_line_bytes:
                return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"id":
            if b"\0" not in value:
                self._id = value.decode(errors="replace")
        elif name == b"retry":
            if value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self.retry_ms = int(value)
        elif self._dropping:
            return
        elif name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._type = value.decode(errors="replace") or _DEFAULT_TYPE

    def _add_data(self, value: bytes) -> None:
        if self._data is None:
            self._data = value
            return
        # Most events have one data line, which is never copied; only more of them need a buffer that grows.
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += b"\n"
        self._data += value

    def _dispatch(self, events: list[Event]) -> None:
        self.last_id = self._id
        if self._data is not None:
            events.append(Event(self._type, bytes(self._data), self.last_id))
        self._reset_event()


def framer_for(content_type: str, max_line_bytes: int, last_id: str = "") -> LineFramer | SSEFramer:
    """Choose the framer by a response's Content-Type: Server-Sent Events for text/event-stream, lines for all else.

    Upper or lower case and parameters such as a charset make no difference (RFC 9110, section 8.3.1). Lines have no
    ids, so for them `last_id` says nothing.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return SSEFramer(max_line_bytes, last_id)
    return LineFramer(max_line_bytes)
