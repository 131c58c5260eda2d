"""From blocks of records to posts, at the speed of C as long as all is well, one by one where something is not.

What lives here: the shape of a format, and the decoder that runs one and counts what it drops. What must not: any
source's own fields (a module each), or bytes that are not yet records (framing.py).
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Generic, TypeVar

import msgspec

from tweetboard.formats.hashtags import are_clean, are_tags, clean, names_of, tags_of
from tweetboard.formats.paths import Fields, Names
from tweetboard.framing import Block, Event
from tweetboard.posts import Post, Skip

R = TypeVar("R")

FEW: Final = 3
"""So few posts are cleaned one by one sooner than looked at together; of a WebSocket each block has but one."""

MAX_ID_CHARS: Final = 256
"""No source's ids are longer."""

EXAMPLE_BYTES: Final = 80
"""So much of a broken record is shown in the log."""

_BROKEN: Final = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError)

_NOT_A_POST: Final = Skip("not_a_post")

_CR, _OPEN, _CLOSE = b"\r{}"

# Both halves of a character, half of one (whose digits are the group), any other escape.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u([dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


def _no_position(_: bytes) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Format(Generic[R]):
    """How one source writes posts.

    `record` names only the fields that are used. What `new_post` makes, for each decoder anew, turns one into a post,
    its names as the source spells them, "" for one that is no text. A record with one of the keys `signature` is
    recognised as this format's. `stall_timeout_s` is how long a live connection may say nothing at all, 0 where silence
    is normal. Of Server-Sent Events only those of `event_type` are records, where that is set; `other_events` says what
    the others are, and `gone_event` which has the id of a post that is no more. `position` reads a record's own where
    the transport knows none. A connection that goes on from a position asks for `resume_id` of it; what comes again
    then is known by the posts' ids, which are to be kept for `keep_ids_s`. `lenient` decodes a record in which not
    everything is of the right type, where that can be done.
    """

    name: str
    record: type[R]
    new_post: Callable[[], Callable[[R], Post | Skip]]
    signature: frozenset[str]
    stall_timeout_s: float = 0.0
    event_type: str = ""
    other_events: Mapping[str, Skip] = field(default_factory=dict)
    gone_event: str = ""
    position: Callable[[bytes], str] = _no_position
    resume_id: Callable[[str], str] = str
    lenient: Callable[[bytes], R] | None = None
    keep_ids_s: int = 0


class Skipped(Counter[str]):
    """Counts by reason what came to nothing; `examples` has the last of each, for the log.

    `undelivered` is how many posts the stream said it left out, over all connections.
    """

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, str] = {}
        self.undelivered = 0
        self._undelivered_here = 0

    def note(self, reason: str, record: bytes, error: Exception | None = None) -> None:
        """Count a record, and keep its beginning and what was wrong with it."""
        self[reason] += 1
        shown = repr(record[:EXAMPLE_BYTES])[1:] + ("..." if len(record) > EXAMPLE_BYTES else "")
        self.examples[reason] = f"{shown}: {error}" if error is not None else shown

    def count(self, skip: Skip) -> None:
        """Count a record that its format makes nothing of; a connection's totals may come out of order in it."""
        self[skip.reason] += 1
        if skip.undelivered > self._undelivered_here:
            self.undelivered += skip.undelivered - self._undelivered_here
            self._undelivered_here = skip.undelivered

    def connected(self) -> None:
        """Note that what follows comes over a new connection, whose own totals begin at 0."""
        self._undelivered_here = 0


class Decoder(Generic[R]):
    """Decodes blocks of one format; what comes to nothing is counted in `skipped`.

    `fields` are what boards count besides authors and hashtags. Where they are not the format's own record, each record
    is decoded once more for them. With `tells_gone`, posts that are no more stand among the others.
    """

    def __init__(
        self, source: Format[R], skipped: Skipped, fields: Fields | None = None, *, tells_gone: bool = False
    ) -> None:
        self.format = source
        self.skipped = skipped
        self._tells_gone = tells_gone
        self._gone: list[Post] = []
        self._fields = fields
        self._post = source.new_post()
        # Without the hook a number out of range, such as 1e999, would cost the whole record.
        self._json = msgspec.json.Decoder(source.record, float_hook=float)

    def decode(self, block: Block) -> list[Post]:
        """Turn a block's records into posts, in order; what is broken is counted and the rest kept."""
        if self._fields is not None and self._fields.record is not self.format.record:
            return self._cleaned(self._posts_with_fields(block, self._fields))
        posts: list[Post] = []
        for one in map(self._post, self._records(block)):
            if isinstance(one, Post):
                posts.append(one)
            else:
                posts += self._skipped(one)
        return self._cleaned(posts + self._take_gone())

    def _skipped(self, skip: Skip) -> list[Post]:
        """Count a record that is no post; what is left of it may be that another is gone."""
        self.skipped.count(skip)
        if not (skip.gone and self._tells_gone):
            return []
        return [Post(skip.gone, 0, "", fields=() if self._fields is None else self._fields.no_names, is_gone=True)]

    def _take_gone(self) -> list[Post]:
        """Give out what events of another type than records have said, behind the block that they were in."""
        gone, self._gone = self._gone, []
        return gone

    def _posts_with_fields(self, block: Block, fields: Fields) -> list[Post]:
        posts: list[Post] = []
        for data in self._data_of(block):
            record = self._record(data)
            post = None if record is None else self._post(record)
            if isinstance(post, Skip):
                posts += self._skipped(post)
            elif post is not None:
                posts.append(msgspec.structs.replace(post, fields=self._names_in(data, fields)))
        return posts + self._take_gone()

    def _names_in(self, data: bytes, fields: Fields) -> Names:
        """Read a post's further names; one that has another shape where a path leads keeps its author and hashtags."""
        try:
            return fields.names_in(mended(data))
        except _BROKEN as error:
            self.skipped.note("unexpected_type", data, error)
            return fields.no_names

    def _records(self, block: Block) -> list[R]:
        """Decode all at once where each surely is one record and none is broken, else one by one."""
        if block.lines and (objects := count_objects(block.lines)):
            try:
                records = self._json.decode_lines(block.lines)
            except _BROKEN:
                pass  # one by one it will show which
            else:
                if len(records) == objects:
                    return records
        data = self._data_of(block)
        if block.events:
            try:
                return list(map(self._json.decode, data))
            except _BROKEN:
                pass  # as above
        found = [self._record(one) for one in data]
        return [record for record in found if record is not None]

    def _data_of(self, block: Block) -> list[bytes]:
        """Cut a block into what may be records."""
        wanted = self.format.event_type
        if block.events and wanted:
            return [
                event.data for event in block.events if (event.type == wanted or self._is_record(event)) and event.data
            ]
        return [data for data in records_of(block) if data]

    def _is_record(self, event: Event) -> bool:
        """Whether an event of another type than the records' is one all the same; else it is counted."""
        if event.type == "message":  # the standard's word for an event of no type
            return True
        skip = self.format.other_events.get(event.type, _NOT_A_POST)
        if event.type == self.format.gone_event != "":
            skip = Skip(skip.reason, gone=event.data.decode("utf-8", "replace").strip()[:MAX_ID_CHARS])
        self._gone += self._skipped(skip)
        return False

    def _record(self, data: bytes) -> R | None:
        """Decode one record; None where it is blank, such as a keep-alive, or broken, which is counted."""
        try:
            return self._json.decode(data)
        except RecursionError as error:
            self.skipped.note("nested_too_deep", data, error)
        except msgspec.ValidationError as error:
            if (record := self._leniently(data)) is not None:
                return record
            self.skipped.note("unexpected_type", data, error)
        except _BROKEN as error:
            whole = mended(data)
            if whole != data:
                return self._record(whole)
            if not data.isspace():
                self.skipped.note("broken_json", data, error)
        return None

    def _leniently(self, data: bytes) -> R | None:
        if self.format.lenient is None:
            return None
        try:
            return self.format.lenient(mended(data))
        except _BROKEN:  # behind what was of the wrong type
            return None

    def _cleaned(self, posts: list[Post]) -> list[Post]:
        """Make names of what the source has spelled; nearly always all of them are names already."""
        if (
            len(posts) > FEW
            and are_clean([post.author for post in posts if post.author])
            and are_tags([post.hashtags for post in posts if post.hashtags])
            and (self._fields is None or self._are_names(posts, self._fields))
        ):
            return posts
        return [self._clean(post) for post in posts]

    def _are_names(self, posts: list[Post], fields: Fields) -> bool:
        """Whether it is plain that cleaning would change nothing at any path."""
        columns = [[post.fields[place] for post in posts] for place in range(len(fields.paths))]
        return all(
            are_tags(column) if path.are_tags else are_clean(list(chain.from_iterable(column)))
            for path, column in zip(fields.paths, columns, strict=True)
        )

    def _clean(self, post: Post) -> Post:
        """Clean one post's names; what is no name leaves the others standing."""
        author = clean(post.author)
        if author == post.author and not post.hashtags and not post.fields:
            return post
        paths = () if self._fields is None else self._fields.paths
        hashtags, invalid = tags_of(post.hashtags) if post.hashtags else ((), 0)
        if post.author and not author:
            invalid += 1
        fields = []
        for path, spellings in zip(paths, post.fields, strict=True):
            names, wrong = tags_of(spellings) if path.are_tags else names_of(spellings)
            fields.append(names)
            invalid += wrong
        if invalid:
            self.skipped["invalid_name"] += invalid
        if author == post.author and hashtags == post.hashtags and fields == list(post.fields):
            return post
        return msgspec.structs.replace(post, author=author, hashtags=hashtags, fields=tuple(fields))


def records_of(block: Block) -> list[bytes]:
    """Cut a block into its records; a blank one is a keep-alive."""
    return [event.data for event in block.events] or block.lines.split(b"\n")


def count_objects(lines: bytes) -> int:
    """Count lines that begin with a brace and end with one, blank ones aside; 0 where there is any other line.

    msgspec's `decode_lines` decodes a block in two thirds of the time of its records, but sees no lines: it would also
    take two records on one line, or one over two. Where all lines are braced, no record can go over a line's end:
    between one closing brace and one opening brace JSON wants a comma, and a text holds no bare line end. So if there
    are as many records as lines, each has a line of its own. A line without its end counts as none, so it is one more
    record than lines.
    """
    objects = start = 0
    find = lines.find
    while (end := find(b"\n", start)) >= 0:
        last = end - 1 if lines[end - 1] != _CR else end - 2
        if last > start and lines[start] == _OPEN and lines[last] == _CLOSE:
            objects += 1
        elif last >= start:
            return 0
        start = end + 1
    return objects


def mended(record: bytes) -> bytes:
    """Write halves of characters, which other JSON libraries let through, as U+FFFE: no name, but no broken record."""
    return _ESCAPE.sub(lambda found: rb"\ufffe" if found[1] else found[0], record)
