"""What docs/proxy.md says is so: its lines for nginx, over TLS, and its settings, as they stand there."""

import asyncio
import re
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from processes import Daemon, daemon
from upstream import Upstream

DOCUMENT = Path(__file__).parents[1] / "docs" / "proxy.md"
HOST = "boards.example.org"

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx (Debian: nginx-light) is not installed")


def code() -> list[str]:
    """Take the document's blocks of code."""
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip() for block in blocks]


def recipe(folder: Path, running: Daemon, port: int) -> str:
    """Make of the document's lines a whole configuration, for these ports and a certificate in `folder`."""
    lines = code()[0]
    for there, here in {
        "server 127.0.0.1:8080;": f"server {running.address.removeprefix('http://')};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "# ssl_certificate ...; ssl_certificate_key ...;": f"ssl_certificate {folder}/all.pem; "
        f"ssl_certificate_key {folder}/all.pem;",
    }.items():
        assert lines.count(there) == 1
        lines = lines.replace(there, here)
    more = re.findall(r"`(location [^`]*})`", DOCUMENT.read_text(encoding="utf-8"))
    assert len(more) == 2
    lines = f"{lines.removesuffix('}')}{' '.join(more)}\n}}"
    own = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"pid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{own}{lines}\n}}\n"


@asynccontextmanager
async def nginx(folder: Path, running: Daemon, port: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Run it before the daemon; yields a session that takes it for `HOST`."""
    authority = trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(folder / "all.pem")
    (folder / "nginx.conf").write_text(recipe(folder, running, port))
    process = await asyncio.create_subprocess_exec(
        *("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"),
        stderr=asyncio.subprocess.PIPE,
    )
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    try:
        async with aiohttp.ClientSession(
            f"https://127.0.0.1:{port}",
            connector=aiohttp.TCPConnector(ssl=trust),
            headers={"Host": HOST},
            timeout=aiohttp.ClientTimeout(20),
        ) as session:
            async with asyncio.timeout(20):
                while not (folder / "nginx.pid").exists():
                    assert process.returncode is None
                    await asyncio.sleep(0)
            yield session
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def test_below_a_path_there_is_all_of_it_and_what_tells_more_can_be_kept_back(
    tmp_path: Path, free_port: int
) -> None:
    (tmp_path / "config.toml").write_text(code()[1])
    async with daemon(tmp_path) as running:
        await running.ready()
        async with nginx(tmp_path, running, free_port) as session:
            for path, status in {
                "/boards/": 200,
                "/boards/usernames": 200,
                "/boards/page.js": 200,
                "/metrics": 403,
            }.items():
                async with session.get(path, server_hostname=HOST) as answer:
                    assert (path, answer.status) == (path, status)


async def test_page_boards_and_events_are_there_over_tls_and_each_viewer_has_an_address_of_its_own(
    tmp_path: Path, free_port: int
) -> None:
    (tmp_path / "config.toml").write_text(code()[1].replace("[http]", "[http]\nmax_viewers_per_address = 1"))
    records = [b'{"username": "ann"}', b'{"username": "bob"}']
    async with Upstream(records).serving() as upstream, daemon(tmp_path, "--stream", upstream.url) as running:
        await running.ready()
        await running.counts({"ann": 1, "bob": 1}, {})
        async with nginx(tmp_path, running, free_port) as session:
            async with session.get("/", server_hostname=HOST) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
            async with session.get("/usernames", server_hostname=HOST) as answer:
                assert {row["name"] for row in (await answer.json())["results"]} == {"ann", "bob"}
            # The proxy writes its own client's address, 127.0.0.1, behind what that has said.
            for far in ("192.0.2.1", "192.0.2.2"):
                headers = {"X-Forwarded-For": far}
                async with session.get("/events", headers=headers, server_hostname=HOST) as events:
                    assert events.status == 200
                    while (
                        b'"display":"ann"' not in await events.content.readline()
                    ):  # at once, and not when much has come
                        pass
                    async with session.get("/events", headers=headers, server_hostname=HOST) as second:
                        assert second.status == 429
                        assert far in (await second.json())["detail"]
