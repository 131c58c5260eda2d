"""The socket that HTTP is served on, and who may ask there.

What lives here: listening, and refusing requests that are none of ours. What must not: any route (api.py).
"""

import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tweetboard.answers import ProblemFound

SHUTDOWN_TIMEOUT_S: Final = 0.5

MAX_LINE_BYTES: Final = 32_768
"""A request's address or a header may be as long: longer than any name, which is then refused in our own words."""

MAX_KNOWN_HOSTS: Final = 1_000
"""Spellings of Host that have been let in are remembered, for reading one costs as much as answering."""


@asynccontextmanager
async def listening(application: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application; yields its address as a URL. Raises `OSError` where the port cannot be had."""
    server_log = logging.getLogger(f"{__name__}.server")
    server_log.addFilter(_is_no_malformed_request)
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=server_log,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        handle_signals=False,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{shown}:{bound[1]}"
    finally:
        await runner.cleanup()


def port_is_free(host: str, port: int) -> bool:
    """Whether `listening` could have the port at this moment; a host that cannot be looked up is another trouble."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


class Hosts:
    """The names by which browsers may ask: localhost, every address, and `names`.

    A page elsewhere could make its own name lead here and read the boards; an address cannot be made to lead anywhere
    else.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = {"localhost", *(name.lower() for name in names)}
        self._known = set[str]()

    def check(self, request: web.Request) -> None:
        """Raise `ProblemFound` for a request by a name that is none of these."""
        spelling = request.headers.get("Host", "")
        if spelling in self._known and request.rel_url.raw_host is None:
            return
        try:
            host = (request.url.host or "").lower()
        except ValueError as error:
            raise ProblemFound(400, "what the request has for a host is none") from error
        if host not in self._names and not _is_address(host):
            raise ProblemFound(421, f"this is not {host!r}; if it should be, add it to http.allowed_hosts")
        if len(self._known) < MAX_KNOWN_HOSTS and spelling:
            self._known.add(spelling)


def _is_no_malformed_request(record: logging.LogRecord) -> bool:
    """Keep tracebacks out of the log that anybody could fill it with; aiohttp has answered such a request with 400."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
