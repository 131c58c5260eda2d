"""Whose certificates are believed where this process asks over TLS.

What lives here: the authorities. What must not: Redis's own, which are options of its URL (pool.py).
"""

import errno
import os
import ssl
from pathlib import Path

from tweetboard.errors import ConfigurationError


def wants_tls(url: str) -> bool:
    """Whether TLS is spoken with whom an address names; with a proxy on the way it may be all the same."""
    return url.startswith(("https:", "wss:"))


def trusted() -> ssl.SSLContext:
    """Take the system's authorities, or those that SSL_CERT_FILE or SSL_CERT_DIR in the environment names.

    Raises `ConfigurationError` where a variable leads nowhere: OpenSSL would pass over it, and then find fault with
    every certificate.
    """
    context = ssl.create_default_context()
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if not (path := os.environ.get(name)):
            continue
        try:
            if name == "SSL_CERT_FILE":
                context.load_verify_locations(path)
            elif not any(Path(folder).is_dir() for folder in path.split(os.pathsep)):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:  # SSLError is one, whose `strerror` says where in OpenSSL
            why = "has no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigurationError(f"{name}: {path}: {why}") from error
    return context
