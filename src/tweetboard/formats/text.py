"""Hashtags in plain text, by twitter-text's rules, for sources that do not say what stands in their posts. Pure.

What lives here: where a hashtag begins and ends. What must not: what makes two hashtags the same (hashtags.py).
"""

import re
import unicodedata
from typing import Final, NamedTuple

_SIGNS: Final = re.compile("[#＃]")
_SPECIAL: Final = frozenset(
    "_·\u200c\u200d\ua67e\u05be\u05f3\u05f4\uff5e\u301c\u309b\u309c\u30a0\u30fb\u3003\u0f0b\u0f0c"
)
"""Neither letters, marks nor digits, but parts of words: joiners, Hebrew, Japanese and Tibetan punctuation."""

_VARIATION_SELECTORS: Final = "\ufe0e\ufe0f"  # marks by their category, but they only say how an emoji looks
_KEYCAP: Final = "\u20e3"
# An address ends at the first character that none has: white space of any kind, quotes, the letters and punctuation of
# Chinese, Japanese and Korean; a bracket belongs to it only with its other half. It is looked for only where one can
# begin, and no part is tried again from another start: a text of any length is read once.
_IN_PATH: Final = r"(?:[!#-'*-;=?-Z\[\]_a-z|~\u00c0-\u024f\u0400-\u04ff]|\([^\s()]*+\))*+"
_URL: Final = re.compile(
    rf"https?://{_IN_PATH}|(?<![a-z0-9.-])(?:[a-z0-9-]++\.)++[a-z]{{2,}}+/{_IN_PATH}", re.IGNORECASE | re.ASCII
)


class Hashtag(NamedTuple):
    """One hashtag of a text: where its sign stands, where it ends, and what is between."""

    start: int
    stop: int
    tag: str


def hashtags_in(text: str) -> list[Hashtag]:
    """Find the hashtags of a text, in order, as they are spelled.

    One stands at the beginning or behind anything but a letter, digit or `&`; it has a letter; no sign and no `://`
    follows it, and it is no part of an address.
    """
    if "#" not in text and "＃" not in text:
        return []
    signs = [found.start() for found in _SIGNS.finditer(text)]
    addresses = [found.span() for found in _URL.finditer(text)][::-1]
    found, stop = [], 0
    for start in signs:
        while addresses and addresses[-1][0] <= start:
            stop = addresses.pop()[1]
        if start >= stop and (hashtag := _hashtag_at(text, start)) is not None:
            found.append(hashtag)
    return found


def _hashtag_at(text: str, start: int) -> Hashtag | None:
    if start and (text[start - 1] == "&" or _is_part(text[start - 1])) and text[start - 1] not in _VARIATION_SELECTORS:
        return None
    first = stop = start + 1
    if text.startswith((*_VARIATION_SELECTORS, _KEYCAP), first):
        return None
    while stop < len(text) and _is_part(text[stop]):
        stop += 1
    if not any(map(_is_letter, text[first:stop])) or text.startswith(("#", "＃", "://"), stop):
        return None
    return Hashtag(start, stop, text[first:stop])


def _is_letter(char: str) -> bool:
    return char.isalpha() or unicodedata.category(char)[0] == "M"


def _is_part(char: str) -> bool:
    return char.isdecimal() or char in _SPECIAL or _is_letter(char)
