"""Who asks over HTTP: by which name of ours, from which address, and how much of it at once.

What lives here: names, addresses and counts, and what is refused for them. What must not: sockets (serving.py), routes
(api.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from aiohttp import web

from tweetboard.answers import ProblemFound

MAX_KNOWN_HOSTS: Final = 1_000
"""Spellings of Host that have been let in are remembered, for reading one costs as much as answering."""

UNIX: Final = "unix"
"""Stands among proxies for all that ask over a Unix socket, and have no address."""

MAX_VIEWERS: Final = 20_000
"""Connections over which boards are watched, some 15 KB each."""


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
        spelling = request.host  # that of the request's target, where this has one: it goes before the header
        if spelling in self._known:
            return
        try:
            host = (request.url.host or "").lower()
        except ValueError as error:
            raise ProblemFound(400, "what the request has for a host is none") from error
        if host not in self._names and _address(host) is None:
            raise ProblemFound(421, f"this is not {host!r}; if it should be, add it to http.allowed_hosts")
        if len(self._known) < MAX_KNOWN_HOSTS and spelling:
            self._known.add(spelling)


class Clients:
    """Counts who watches: `MAX_VIEWERS` in all, and from each address no more than `max_viewers`.

    What stands in X-Forwarded-For counts where the request comes from one of the `proxies`: networks, addresses, or
    `UNIX` for whoever asks over a Unix socket. Who comes from this machine itself may be anybody whom a proxy here lets
    in, and is not bounded by address.
    """

    def __init__(self, max_viewers: int, proxies: Iterable[str] = ()) -> None:
        self._max_viewers = max_viewers
        proxies = list(proxies)
        self._trusts_unix = UNIX in proxies
        self._proxies = [ip_network(one, strict=False) for one in proxies if one != UNIX]
        self._viewers = Counter[str]()

    def address(self, request: web.Request) -> str:
        """Say where a request comes from: the last address on its way that is no proxy's; "" where that has none."""
        here = _address(request.remote or "")
        lines = request.headers.getall("X-Forwarded-For", ())
        forwarded = [one.strip() for line in lines for one in line.split(",") if one.strip()]
        while forwarded and self._is_proxy(here):
            before = _address(_without_port(forwarded.pop()))
            if before is None:
                break
            here = before
        return "" if here is None else str(here)

    def _is_proxy(self, address: IPv4Address | IPv6Address | None) -> bool:
        return self._trusts_unix if address is None else any(address in network for network in self._proxies)

    @contextmanager
    def watching(self, request: web.Request) -> Iterator[None]:
        """Count one more who watches, until the block ends; raises `ProblemFound` where these would be too many."""
        address = self.address(request)
        is_far = address and not ip_address(address).is_loopback
        share = _share(address)
        if self._viewers.total() >= MAX_VIEWERS:
            raise ProblemFound(503, f"{MAX_VIEWERS:,} connections watch boards already")
        if is_far and self._viewers[share] >= self._max_viewers:
            told = f"{self._max_viewers} connections from {share} watch boards already (http.max_viewers_per_address)"
            raise ProblemFound(429, told)
        self._viewers[share] += 1
        try:
            yield
        finally:
            self._viewers[share] -= 1
            if not self._viewers[share]:
                del self._viewers[share]


def _without_port(text: str) -> str:
    """Take off what some proxies write behind an address: `192.0.2.1:5000`, `[2001:db8::1]:5000`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _share(address: str) -> str:
    """Say with which others an address has its share: of IPv6 those of its /64, which are one household's."""
    return str(ip_network(f"{address.partition('%')[0]}/64", strict=False)) if ":" in address else address


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    # An IPv4 client of a socket that listens at both has an address of IPv6.
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
