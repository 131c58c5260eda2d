"""From `redis.url` to a connection pool: its options, and whether what they name is there and fits.

What lives here: what can be wrong before anything is sent. What must not: sending (store.py).
"""

import difflib
import inspect
import os
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import redis.asyncio as aioredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tweetboard.errors import ConfigurationError


def connection_pool(
    url: str, *, connections: int, connect_timeout_s: float, password: str = ""
) -> aioredis.ConnectionPool:
    """Make a pool of at most `connections` connections to `url` (redis://, rediss:// or unix://); nothing is sent yet.

    `password` is used where the URL has none. Raises `ConfigurationError` for options that can never work.

    RESP2 and no socket timeout of redis-py's own: with RESP3 it logs each push, and its timeout can swallow a
    cancellation on Python 3.11. No retries either: a command repeated behind our back could count twice. The URL's own
    options cannot change any of this.
    """
    try:
        pool = aioredis.ConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)  # opens nothing, but refuses options that do not exist
    except (TypeError, ValueError, redis_errors.RedisError) as error:
        raise ConfigurationError(f"redis.url: {_url_trouble(str(error))}") from error
    _check_tls(pool.connection_kwargs)
    pool.max_connections = connections
    pool.connection_kwargs.pop("max_connections", None)
    pool.connection_kwargs |= {
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": connect_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "decode_responses": False,
        "client_name": "tweetboard",
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
    }
    if password:
        pool.connection_kwargs.setdefault("password", password)
    return pool


def _url_trouble(text: str) -> str:
    """Put what redis-py says of a URL into words for who wrote it."""
    if found := re.search(r"unexpected keyword argument '(.*)'", text):
        close = difflib.get_close_matches(found[1], _options(), n=1)
        return f"{found[1]} is no option{f' (did you mean {close[0]}?)' if close else ''}"
    return text.rpartition("__init__() ")[2]


def _options() -> set[str]:
    kinds = (SSLConnection, aioredis.Connection, AbstractConnection)
    return {name for kind in kinds for name in inspect.signature(kind).parameters} - {"args", "kwargs"}


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
                why = (error.strerror if isinstance(error, OSError) else "") or error
                with_what = " (with ssl_keyfile and ssl_password)" if name == "ssl_certfile" else ""
                raise ConfigurationError(f"redis.url: {name}: {given[name][:200]}{with_what}: {why}") from error
    if key and "ssl_certfile" not in given:
        raise ConfigurationError("redis.url: ssl_keyfile: a key is of no use without its ssl_certfile")
