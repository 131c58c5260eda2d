"""From the settings to the client of a stream: which transport, and how a service goes on from where it was.

What lives here: choosing and making. What must not: any transport's own ways (stream.py, websocket.py).
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tweetboard.formats import FORMATS, flat
from tweetboard.presets import Place
from tweetboard.settings import DEMO, StreamSettings
from tweetboard.stream import HttpStream, open_client, open_session
from tweetboard.supervision import Supervised
from tweetboard.websocket import WebSocketStream

UNKNOWN: Final = flat.FORMAT
"""What only its first record will tell has no ways of its own to go on; those of the plainest format are none."""


@asynccontextmanager
async def open_stream(
    settings: StreamSettings, place: Place, table: str = "stream", stall_timeout_s: Callable[[], float] = lambda: 0
) -> AsyncIterator[Supervised]:
    """Make the client of the stream at `place`, which the settings' `table` describes; nothing is connected yet."""
    source = FORMATS.get(place.format, UNKNOWN)
    if place.url.startswith(("ws://", "wss://")):
        async with open_session(place.url) as session:
            web_socket = WebSocketStream(
                session,
                place.url,
                token=settings.token.value,
                headers=settings.headers,
                stall_timeout_s=stall_timeout_s,
                max_line_bytes=settings.max_line_bytes,
                position_of=source.position,
            )
            web_socket.resume_id, web_socket.table = source.resume_id, table
            yield web_socket
    else:
        async with open_client(place.url) as client:
            stream = HttpStream(
                client,
                place.url,
                token=settings.token.value,
                headers=settings.headers,
                stall_timeout_s=stall_timeout_s,
                max_line_bytes=settings.max_line_bytes,
                refill_s=math.inf if settings.url == DEMO else _refill_s(place.url),  # nobody misses an invented town
            )
            stream.resume_id, stream.table = source.resume_id, table
            yield stream


def keep_ids_s(place: Place) -> int:
    """How long posts' ids matter: as long as posts may come again, and a minute."""
    refill_s = _refill_s(place.url)
    return max(refill_s + 60 if refill_s else 0, FORMATS.get(place.format, UNKNOWN).keep_ids_s)


def _refill_s(url: str) -> int:
    """How much X sends again on a new connection: only where it was asked to refill some minutes."""
    minutes = parse_qs(urlsplit(url).query).get("backfill_minutes", [""])[-1]
    return int(minutes) * 60 if minutes.isascii() and minutes.isdigit() else 0
