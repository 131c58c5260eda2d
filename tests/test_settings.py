"""What follows from the settings: names, folders, which boards count what."""

import hashlib
import re
from pathlib import Path

import platformdirs
import pytest

from tweetboard.settings import RedisSettings, Settings, StreamSettings, data_dir, masked, stream_name


@pytest.mark.parametrize("url", ["demo:", "https://mastodon.example/@alice?tag=redis", "redis://h:6379/0", "unix:///s"])
def test_an_address_without_secrets_is_shown_whole(url: str) -> None:
    assert masked(url) == url


def test_a_stream_name_that_is_given_is_taken() -> None:
    assert stream_name(StreamSettings(url="https://a.org", name="mine")) == "mine"
    assert stream_name(StreamSettings(url="demo:", name="mine")) == "mine"


def test_the_demo_is_called_demo() -> None:
    assert stream_name(StreamSettings()) == "demo"


def test_a_derived_stream_name_shows_the_host_and_ends_in_the_urls_hash() -> None:
    url = "https://API.x.com:443/2/tweets/sample/stream"

    assert stream_name(StreamSettings(url=url)) == f"api-x-com-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def test_every_url_has_its_own_name_and_every_name_is_a_valid_one() -> None:
    urls = [
        "http://a.org",
        "https://a.org",
        "https://a.org/",
        "https://a.org/?q=1",
        "https://a.org/?q=2",
        "https://a.org:8443/",
        "https://[::1]/",
        "https://bare",
        "https://みんな",
        "https://" + "very-long." * 20 + "org",
    ]
    names = [stream_name(StreamSettings(url=url)) for url in urls]

    assert len(set(names)) == len(urls)
    assert all(re.fullmatch(r"[a-z0-9_-]{1,64}", name) and name != "bare" for name in names)


def test_the_data_folder_is_the_configured_one_else_systemds_else_the_users() -> None:
    configured = Settings(redis=RedisSettings(data_dir="/srv/boards"))
    at_home = Settings(redis=RedisSettings(data_dir="~/boards"))
    by_systemd = {"STATE_DIRECTORY": "/var/lib/tweetboard:/var/lib/other"}

    assert data_dir(configured, by_systemd) == Path("/srv/boards")
    assert data_dir(at_home, by_systemd) == Path.home() / "boards"
    assert data_dir(Settings(), by_systemd) == Path("/var/lib/tweetboard")
    assert data_dir(Settings(), {}) == platformdirs.user_data_path("tweetboard")
