"""What happens to a daemon in a life of years: certificates that run out, folders it may not write to."""

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest

from certificates import certificates, server_context
from processes import Daemon, count, daemon
from test_daemon import flat, town
from upstream import Answer, Upstream


async def until_part(running: Daemon, name: str, words: str, *, status: int) -> None:
    """Wait until /readyz says these words of a part."""
    parts: object = None
    try:
        async with asyncio.timeout(30):
            while True:
                answered, answer = await running.get("/readyz")
                parts = answer["parts"]
                assert isinstance(parts, dict)
                if answered == status and words in parts[name]["detail"]:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{name} has come to: {parts}; {running.errors}") from None


async def test_a_folder_that_cannot_be_written_to_is_named_and_nothing_starts(tmp_path: Path, small_disk: Path) -> None:
    """As with `ReadOnlyPaths=`, or a disk that was mounted anew after an error."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)  # noqa: ASYNC221 - it takes no time
    async with daemon(tmp_path, "--data-dir", str(small_disk / "data"), "--stream", "http://127.0.0.1:1/") as running:
        assert await running.ended() == 2
    assert running.errors == f"tweetboard: redis.data_dir: {small_disk / 'data'}: Read-only file system\n"


@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        ("unknown", "certificate verify failed"),
        ("wrong", "certificate is not valid for '127.0.0.1'"),
        ("old", "certificate has expired"),
    ],
)
async def test_a_streams_certificate_that_does_not_fit_is_said_and_no_token_is_shown_to_it(
    tmp_path: Path, certificate: str, told: str
) -> None:
    """It is tried again, for certificates are renewed; whoever that server is has not heard a word."""
    certificates(tmp_path)
    environ = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "TWEETBOARD_STREAM_TOKEN": "hush"}
    async with Upstream(flat(town(5)), tls=server_context(tmp_path, certificate)).serving() as upstream:
        for url in (upstream.url, upstream.url.replace("https:", "wss:")):
            async with daemon(tmp_path, "--stream", url, environ=environ) as running:
                await running.ready()
                await until_part(running, "stream", told, status=503)
                running.signal(signal.SIGTERM)
                assert await running.ended() == 0
            assert told in running.errors
        assert upstream.requests == []


async def test_a_streams_certificate_by_an_authority_of_ones_own_is_taken(tmp_path: Path) -> None:
    certificates(tmp_path)
    posts = town(20)
    usernames, hashtags = count(posts)
    environ = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    async with Upstream(flat(posts), tls=server_context(tmp_path, "good")).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, environ=environ) as running:
            await running.ready()
            await running.counts(usernames, hashtags)


async def test_a_token_that_is_missing_is_said_to_be_with_where_it_belongs(tmp_path: Path) -> None:
    """As of a credential whose file is not there: systemd starts the daemon all the same."""
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "nothing")}
    async with Upstream([], usual=Answer(status=401)).serving() as upstream:
        async with daemon(tmp_path, "--stream", upstream.url, environ=environ) as running:
            assert await running.ended() == 1
    assert "TWEETBOARD_STREAM_TOKEN" in running.errors
