"""Streams that exist, by name: where they are, how they are asked, what they write (DESIGN section 6). Pure.

What lives here: addresses and the formats that belong to them. What must not: anything of a connection.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_X_FIELDS: Final = (
    "tweet.fields=author_id,created_at,edit_history_tweet_ids,entities,lang,note_tweet,referenced_tweets"
    "&expansions=author_id,referenced_tweets.id&user.fields=username"
)
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})+(?::([0-9]{{1,5}}))?", re.IGNORECASE | re.ASCII)


class Place(NamedTuple):
    """Where a stream is, and the format it writes; "auto" where only its records can tell."""

    url: str
    format: str


def _mastodon(host: str) -> Place | None:
    found = _HOST.fullmatch(host)
    if found is None or not 0 < int(found[1] or 443) < 65_536:
        return None
    return Place(f"https://{host}/api/v1/streaming/public", "mastodon")


def _x(which: str) -> Place | None:
    path = {"filtered": "search", "sample": "sample"}.get(which)
    return None if path is None else Place(f"https://api.x.com/2/tweets/{path}/stream?{_X_FIELDS}", "x-v2")


def _one(place: Place) -> Callable[[str], Place | None]:
    return lambda rest: None if rest else place


_PRESETS: Final[dict[str, Callable[[str], Place | None]]] = {
    "wikimedia": _one(Place("https://stream.wikimedia.org/v2/stream/recentchange", "wikimedia")),
    "bluesky": _one(
        Place("wss://jetstream2.us-east.bsky.network/subscribe?wantedCollections=app.bsky.feed.post", "bluesky")
    ),
    "mastodon": _mastodon,
    "x": _x,
}

FORMS: Final = ("wikimedia", "bluesky", "mastodon:HOST", "x:filtered", "x:sample")
"""What may stand in the place of an address."""

_HTTP, _WS = r"https?://(?:[^/?#@]*@)?", r"wss?://(?:[^/?#@]*@)?"
_KNOWN: Final = (
    (re.compile(_HTTP + r"[^/?#]+/v2/stream/(mediawiki\.)?recentchange([?#]|$)"), "wikimedia"),
    (re.compile(_WS + r"([^/?#]+\.)?bsky\.network(:\d+)?/subscribe([?#]|$)"), "bluesky"),
    (re.compile(_WS + r"[^/?#]+/subscribe\?([^#]*&)?wanted(Collections|Dids)="), "bluesky"),
    (re.compile(_HTTP + r"api\.(x|twitter)\.com(:\d+)?/2/tweets/(search|sample|sample10)/stream([?#]|$)"), "x-v2"),
    (re.compile(_HTTP + r"[^/?#]+/api/v1/streaming/(public|hashtag|list|direct|user)\b"), "mastodon"),
)
"""Services by their addresses, mirrors of theirs among them."""


def preset(text: str) -> Place | None:
    """Look up a preset, such as `wikimedia` or `mastodon:mastodon.social`; None for what is none."""
    name, colon, rest = text.partition(":")
    return None if name not in _PRESETS or (colon and not rest) else _PRESETS[name](rest)


def place_of(url: str, wanted: str = "auto") -> Place:
    """Say where `stream.url` leads and what is written there; `wanted`, where it is not "auto", goes before all that.

    A known service is known by its address too: its first record would come too late to say how to go on from where an
    earlier connection ended.
    """
    known = (found for address, found in _KNOWN if address.match(url))
    place = preset(url) or Place(url, next(known, "auto"))
    return place if wanted == "auto" else Place(place.url, wanted)


def same_place(url: str) -> str:
    """Write where `stream.url` leads so that two spellings of one place come to the same text."""
    parts = urlsplit(place_of(url).url)
    port = (
        "" if parts.port in (None, {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme)) else parts.port
    )
    return f"{parts.scheme}://{parts.hostname or ''}:{port}{parts.path or '/'}?{parts.query}"
