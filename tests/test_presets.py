"""Names for streams that exist, and what an address alone says."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tweetboard import settings
from tweetboard.presets import FORMS, Place, place_of, preset


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_an_address_and_a_format(form: str) -> None:
    place = place_of(form.replace("HOST", "social.example"))
    assert urlsplit(place.url).scheme in ("https", "wss")
    assert place.format in settings.FORMATS
    assert place_of(place.url) == place, "its address alone says the same"


def test_mastodons_public_timeline_is_at_any_host() -> None:
    assert place_of("mastodon:social.example") == Place("https://social.example/api/v1/streaming/public", "mastodon")


@pytest.mark.parametrize("which", ["filtered", "sample"])
def test_x_is_asked_for_all_that_is_needed(which: str) -> None:
    query = parse_qs(urlsplit(place_of(f"x:{which}").url).query)
    wanted = {
        "author_id",
        "created_at",
        "edit_history_tweet_ids",
        "entities",
        "lang",
        "note_tweet",
        "referenced_tweets",
    }
    assert set(query["tweet.fields"][0].split(",")) == wanted
    assert query["expansions"] == ["author_id,referenced_tweets.id"]
    assert query["user.fields"] == ["username"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "twitter",
        "x",
        "x:",
        "x:all",
        "mastodon",
        "mastodon:",
        "mastodon:a b",
        "mastodon:social.example/x",
        "bluesky:x",
        "bluesky:",
        "mastodon:social.example:0",
        "mastodon:social.example:65536",
        "mastodon:\u017focial.example",
        f"mastodon:{'x' * 64}.example",
    ],
)
def test_what_is_no_preset_is_none(text: str) -> None:
    assert preset(text) is None


@pytest.mark.parametrize(
    ("url", "wanted", "found"),
    [
        ("https://stream.wikimedia.org/v2/stream/mediawiki.recentchange", "auto", "wikimedia"),
        ("wss://jetstream1.us-west.bsky.network/subscribe", "auto", "bluesky"),
        ("https://api.twitter.com/2/tweets/search/stream", "auto", "x-v2"),
        ("https://social.example/api/v1/streaming/hashtag?tag=tea", "auto", "mastodon"),
        ("https://example.org/stream", "auto", "auto"),
        ("https://me:pw@mirror.example:8443/v2/stream/recentchange?since=1", "auto", "wikimedia"),
        ("ws://jetstream.example/subscribe?x=1&wantedDids=did:plc:a", "auto", "bluesky"),
        ("ws://jetstream.example/subscribe", "auto", "auto"),
        ("https://api.x.com.example/2/tweets/sample/stream", "auto", "auto"),
        ("https://stream.wikimedia.org/v2/stream/page-create", "auto", "auto"),
        ("https://api.x.com/2/tweets/compliance/stream", "auto", "auto"),
        ("wss://social.example/api/v1/streaming?stream=public", "auto", "auto"),
        ("https://social.example/api/v1/streaming/health", "auto", "auto"),
        ("wikimedia", "flat", "flat"),
        ("https://example.org/stream", "x-v1", "x-v1"),
    ],
)
def test_an_address_may_say_the_format_and_the_settings_go_before(url: str, wanted: str, found: str) -> None:
    assert place_of(url, wanted).format == found
