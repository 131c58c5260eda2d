"""One module per source: a record's bytes become a `Post` or a reason why not. Pure: no I/O, no clock.

What lives in this file: the list of formats, and telling them apart from a stream's first records.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tweetboard.errors import StreamRefused
from tweetboard.formats import bluesky, fields, flat, mastodon, wikimedia, x_v1, x_v2
from tweetboard.formats.decoding import Decoder, Format, Skipped, mended, records_of
from tweetboard.formats.paths import Fields, Path
from tweetboard.framing import Block
from tweetboard.posts import Post

_MODULES: Final = (flat, x_v2, wikimedia, bluesky, mastodon, x_v1)

FORMATS: Final[dict[str, Format[Any]]] = {module.FORMAT.name: module.FORMAT for module in _MODULES}
"""By the name used in `stream.format`, in the order in which `auto` tries them.

Bluesky's messages of accounts have a key that is Mastodon's, and Mastodon's statuses one that is v1.1's.
"""

UNDECIDED_RECORDS: Final = 100
"""So many records without a known shape, and `auto` gives up: more are no stream of posts."""

_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class AutoDecoder:
    """Decodes like the format that the first records turn out to have; `format` is None until then."""

    def __init__(self, skipped: Skipped, fields: Fields | None = None, *, tells_gone: bool = False) -> None:
        self.skipped = skipped
        self._fields = fields
        self._tells_gone = tells_gone
        self._decoder: Decoder[Any] | None = None
        self._unknown = 0

    @property
    def format(self) -> Format[Any] | None:
        """The format found so far."""
        return None if self._decoder is None else self._decoder.format

    def decode(self, block: Block) -> list[Post]:
        """Turn a block's records into posts, in order.

        Raises `StreamRefused` when the first `UNDECIDED_RECORDS` records have no known shape.
        """
        if self._decoder is None:
            block = self._detect(block)
        return [] if self._decoder is None else self._decoder.decode(block)

    def _detect(self, block: Block) -> Block:
        """Set the decoder by the first record that shows whose it is, and return the block from there on.

        That is one of a known shape, or an event of a type that only one source sends.
        """
        records = records_of(block)
        types = [event.type for event in block.events] or [""] * len(records)
        for place, record in enumerate(records):
            for source in FORMATS.values():
                if types[place] == source.event_type != "" or types[place] in source.other_events:
                    return self._found(source, block, records, place)
            if not record or record.isspace():
                continue
            try:
                keys = set(_KEYS.decode(mended(record)))
            except msgspec.ValidationError:
                keys = set()
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                self._note_unknown("broken_json", record, set(), error)
                continue
            for source in FORMATS.values():
                if not source.signature.isdisjoint(keys):
                    return self._found(source, block, records, place)
            self._note_unknown("unknown_format", record, keys)
        return Block()

    def _found(self, source: Format[Any], block: Block, records: Sequence[bytes], place: int) -> Block:
        self._decoder = Decoder(source, self.skipped, self._fields, tells_gone=self._tells_gone)
        return Block(b"" if block.events else b"\n".join(records[place:]), block.events[place:])

    def _note_unknown(self, reason: str, record: bytes, keys: set[str], error: Exception | None = None) -> None:
        self.skipped.note(reason, record, error)
        self._unknown += 1
        if self._unknown >= UNDECIDED_RECORDS:
            raise StreamRefused(
                f"stream.format: auto: none of {', '.join(FORMATS)} fits the first {self._unknown} records "
                f"(the last one has {', '.join(sorted(keys)[:8]) or 'no keys'}); name the format, or check the URL"
            )


def decoder_for(
    name: str, skipped: Skipped, paths: Sequence[Path] = (), *, tells_gone: bool = False
) -> Decoder[Any] | AutoDecoder:
    """Make the decoder for a `stream.format`; what it drops is counted by reason in `skipped`.

    `paths` lead to what boards count besides authors and hashtags; with `tells_gone`, posts that are no more stand
    among the others. Raises `ValueError` for a path that is none, or for two that contradict each other.
    """
    read = Fields(paths)
    if name == fields.NAME:
        return Decoder(fields.format_of(read), skipped, read)
    beside = read if paths else None
    if name == "auto":
        return AutoDecoder(skipped, beside, tells_gone=tells_gone)
    return Decoder(FORMATS[name], skipped, beside, tells_gone=tells_gone)
