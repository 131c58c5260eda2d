"""From an address to the client that reads it, and how that goes on."""

import pytest

from tweetboard.presets import Place
from tweetboard.settings import StreamSettings
from tweetboard.sources import keep_ids_s, open_stream
from tweetboard.stream import HttpStream
from tweetboard.supervision import Supervised
from tweetboard.websocket import WebSocketStream

WIKIMEDIA = '[{"topic":"a","partition":0,"timestamp":5}]'


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://a/", HttpStream),
        ("https://a/", HttpStream),
        ("ws://a/", WebSocketStream),
        ("wss://a/", WebSocketStream),
    ],
)
async def test_the_address_says_the_transport(url: str, kind: type[Supervised]) -> None:
    async with open_stream(StreamSettings(url=url), Place(url, "auto")) as stream:
        assert type(stream) is kind


@pytest.mark.parametrize(
    ("url", "written", "position", "asked", "kept_s"),
    [
        ("https://a/", "auto", "7", "7", 0),
        ("https://a/", "wikimedia", WIKIMEDIA, WIKIMEDIA.replace("5", "4"), 60),
        ("wss://a/", "bluesky", "6000000", "1000000", 60),
        ("https://a/?backfill_minutes=5", "x-v2", "", "", 360),
        ("https://a/?backfill_minutes=many", "x-v2", "", "", 0),
    ],
)
async def test_how_it_goes_on_is_the_formats_and_what_then_comes_again_is_known_by_ids(
    url: str, written: str, position: str, asked: str, kept_s: int
) -> None:
    place = Place(url, written)
    async with open_stream(StreamSettings(url=url), place) as stream:
        assert stream.resume_id(position) == asked
    assert keep_ids_s(place) == kept_s


async def test_a_websocket_that_nobody_knows_does_not_go_back_for_then_posts_would_count_twice() -> None:
    place = Place("wss://a/", "auto")
    async with open_stream(StreamSettings(url=place.url), place) as stream:
        assert isinstance(stream, WebSocketStream)
        assert stream._position_of(b'{"time_us": 5}') == ""  # noqa: SLF001 - nothing else shows it
    assert keep_ids_s(place) == 0
