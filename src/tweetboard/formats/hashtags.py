"""What makes two names the same, and which text may be a name at all (DESIGN section 6).

What lives here: cleaning and folding, both pure. What must not: finding hashtags in any source's records.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

MAX_NAME_BYTES: Final = 256
"""Longer than any source allows (X: 15 and 280 characters, Mastodon: 30 and 500 bytes or so): a bound for Redis."""

_SURE_LENGTH = MAX_NAME_BYTES // 4  # no character takes more than 4 bytes

# Control characters, soft line breaks, bidirectional controls, zero width space, word joiner, byte order mark.
_STRIPPED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]")
_SPACE_AT_AN_END = re.compile(r"\| | \|")
_JOINERS = re.compile("[\u200c\u200d]+")
# Half a character, as Python holds it and as decoding.py hands it on: U+FFFE, which no text may contain.
_HALVES = re.compile("[\ud800-\udfff\ufffe]")
_BEFORE_NAME = "# \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u1680\u2028\u2029"  # the sign, and what NFKC leaves of spaces


def clean(text: str) -> str:
    """Make untrusted text a name: invisible and direction-changing characters go, ends are trimmed.

    Returns "" for what cannot be a name: empty after that, with lone surrogates, over `MAX_NAME_BYTES` bytes.
    """
    if not text.isprintable():  # False for every character that would have to go
        text = _without_invisible(text)
    text = text.strip()
    if len(text) * 4 > MAX_NAME_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        return ""
    return text


@lru_cache(maxsize=65_536)
def fold(tag: str) -> str:
    """Fold a hashtag to its identity: compatibility forms and case are one (`＃PYTHON` is `python`), accents are not.

    Returns "" where nothing but the sign is left, or where folding made it longer than a name may be.
    """
    if tag.isascii():
        return tag.lstrip(_BEFORE_NAME).rstrip().lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tag).casefold())
    text = text.lstrip(_BEFORE_NAME).rstrip()
    return text if len(text.encode()) <= MAX_NAME_BYTES else ""


def names_of(spellings: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """Clean names that are no hashtags and keep each once; returns them and how many were none."""
    names = [clean(spelling) for spelling in spellings]
    return tuple(dict.fromkeys(filter(None, names))), names.count("")


def tags_of(spellings: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """Clean a post's hashtags and keep the first spelling of each; returns them and how many were no names."""
    kept: dict[str, str] = {}
    invalid = 0
    for spelling in spellings:
        tag = clean(spelling).lstrip("#＃ ")
        identity = fold(tag) if tag else ""
        if identity:
            kept.setdefault(identity, tag)
        else:
            invalid += 1
    return tuple(kept.values()), invalid


def are_clean(names: Sequence[str]) -> bool:
    """Whether it is plain at one glance that `clean` would change none of these; False says nothing.

    All are looked at together, at half the cost of cleaning each; what a source sends is nearly always clean.
    """
    text = "|".join(names)
    return (
        text.isprintable()
        and (" " not in text or not _SPACE_AT_AN_END.search(f"|{text}|"))
        and all(names)
        and (len(text) <= _SURE_LENGTH or max(map(len, names)) <= _SURE_LENGTH)
    )


def are_tags(posts: Sequence[Sequence[str]]) -> bool:
    """Whether it is plain at one glance that `tags_of` would change no post's hashtags; False says nothing."""
    if not posts:
        return True
    spellings = list(chain.from_iterable(posts))
    text = "".join(spellings)
    if "#" in text or "＃" in text or not are_clean(spellings):
        return False
    for tags in posts:
        if len(tags) > 1 or (tags and not tags[0].isascii()):
            # Of a clean hashtag in ASCII the fold is its lower case.
            folded = {tag.lower() if tag.isascii() else fold(tag) for tag in tags}
            if len(folded) < len(tags) or "" in folded:
                return False
    return True


def _without_invisible(text: str) -> str:
    if _HALVES.search(text):
        return ""
    text = _STRIPPED.sub("", text)
    # Persian and Sinhala words need joiners, between letters or behind a letter's mark; elsewhere, and more than one,
    # they only deceive.
    return _JOINERS.sub(lambda found: found[0][0] if _joins(text, *found.span()) else "", text)


def _joins(text: str, start: int, stop: int) -> bool:
    around = text[start - 1 : start] + text[stop : stop + 1]
    return start > 0 and len(around) == 2 and all(unicodedata.category(char)[0] in "LMN" for char in around)
