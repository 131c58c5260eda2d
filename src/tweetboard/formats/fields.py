"""Any JSON: what the boards count stands at paths that their settings name (DESIGN section 6)."""

from typing import Any, Final

from tweetboard.formats.decoding import Format
from tweetboard.formats.paths import Fields
from tweetboard.posts import Post, Skip

NAME: Final = "fields"

_NO_FIELD: Final = Skip("no_field")


def format_of(fields: Fields) -> Format[Any]:
    """Make the format of records that have one of these fields; without id or time, they count as of their arrival."""
    names_of = fields.names

    def post(record: object) -> Post | Skip:
        names = names_of(record)
        return Post("", 0, "", fields=names) if any(names) else _NO_FIELD

    return Format(name=NAME, record=fields.record, new_post=lambda: post, signature=frozenset(), lenient=fields.lenient)
