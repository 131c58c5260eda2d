"""From `redis.url` to a connection pool: its options, and whether what they name is there and fits.

What lives here: what can be wrong before anything is sent. What must not: sending (store.py).
"""

import difflib
import os
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import redis.asyncio as aioredis
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tweetboard.errors import ConfigurationError

_TAKEN: Final = ("db", "username", "password")
_OF_TLS: Final = (
    "ssl_ca_certs",
    "ssl_ca_data",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
)
_OURS: Final[dict[str, object]] = {
    "protocol": 2,
    "socket_timeout": None,
    "retry_on_timeout": False,
    "health_check_interval": 0,
    "decode_responses": False,
    "client_name": "tweetboard",
}
_PASSED_OVER: Final = (
    "encoding",
    "encoding_errors",
    "lib_name",
    "lib_version",
    "max_connections",
    "retry_on_error",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_read_size",
)
"""May stand in a URL that was made for others, and change nothing."""


def connection_pool(
    url: str, *, connections: int, connect_timeout_s: float, password: str = ""
) -> aioredis.ConnectionPool:
    """Make a pool of at most `connections` connections to `url` (redis://, rediss:// or unix://); nothing is sent yet.

    `password` is used where the URL has none. Raises `ConfigurationError` for options that can never work.

    RESP2 and no socket timeout of redis-py's own: with RESP3 it logs each push, and its timeout can swallow a
    cancellation on Python 3.11. No retries either: a command repeated behind our back could count twice. The URL's own
    options cannot change any of this.
    """
    _check_names(url)
    try:
        pool = aioredis.ConnectionPool.from_url(url)
        for name in _PASSED_OVER:
            pool.connection_kwargs.pop(name, None)
        if version := pool.connection_kwargs.get("ssl_min_version"):
            pool.connection_kwargs["ssl_min_version"] = ssl.TLSVersion(int(version))
        pool.connection_class(**pool.connection_kwargs)  # opens nothing, but refuses what cannot be
    except (TypeError, ValueError, redis_errors.RedisError) as error:
        raise ConfigurationError(f"redis.url: {error}") from error
    _check_tls(pool.connection_kwargs)
    pool.max_connections = connections
    pool.connection_kwargs |= _OURS | {"socket_connect_timeout": connect_timeout_s, "retry": Retry(NoBackoff(), 0)}
    if not url.startswith("unix:"):
        pool.connection_kwargs["socket_keepalive"] = True
    if password:
        pool.connection_kwargs.setdefault("password", password)
    return pool


def _check_names(url: str) -> None:
    """Look whether the URL has options that are none: redis-py would take further ones, which no text can be."""
    known = [*_TAKEN, *_OURS, *_PASSED_OVER, *(_OF_TLS if url.startswith("rediss:") else ())]
    for name in parse_qs(urlsplit(url).query, keep_blank_values=True):
        if name in known:
            continue
        if name in _OF_TLS:
            raise ConfigurationError(f"redis.url: {name} is for rediss:// alone")
        if not re.search(rf"[?&]{re.escape(name)}=", url):
            raise ConfigurationError("redis.url: what stands behind ? is no option")  # but a part of a password perhaps
        close = difflib.get_close_matches(name, [*_TAKEN, *_OF_TLS], n=1)
        raise ConfigurationError(f"redis.url: {name} is no option{f' (did you mean {close[0]}?)' if close else ''}")


def _check_tls(options: Mapping[str, object]) -> None:
    """Look whether what TLS needs is there and fits: at each attempt to connect it would look like a server's fault."""
    given = {name: str(value) for name, value in options.items() if name.startswith("ssl_") and value}
    if not given:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Without a password OpenSSL would ask for one, at a terminal that may not be there.
    key, password = given.get("ssl_keyfile"), given.get("ssl_password", "")
    attempts: dict[str, Callable[[str], object]] = {
        "ssl_ca_certs": context.load_verify_locations,
        "ssl_ca_path": os.listdir,
        "ssl_ca_data": lambda text: context.load_verify_locations(cadata=text),
        "ssl_ciphers": context.set_ciphers,
        "ssl_keyfile": lambda path: Path(path).read_bytes(),
        "ssl_certfile": lambda path: context.load_cert_chain(path, key, password),
    }
    for name, attempt in attempts.items():
        if name in given:
            try:
                attempt(given[name])
            except (OSError, ValueError) as error:
                why = (error.strerror if isinstance(error, OSError) else "") or str(error).strip("(',)")
                with_what = " (with ssl_keyfile and ssl_password)" if name == "ssl_certfile" else ""
                raise ConfigurationError(f"redis.url: {name}: {given[name][:200]}{with_what}: {why}") from error
    if key and "ssl_certfile" not in given:
        raise ConfigurationError("redis.url: ssl_keyfile: a key is of no use without its ssl_certfile")
