"""The live page: a few static files, all of them in this folder, which a browser loads once.

What lives here: which files, and what a browser is told about them. What they show they ask the API for; nothing of it
is made here.
"""

from collections.abc import Mapping
from importlib import resources
from typing import Final

from tweetboard.answers import Encoded, tagged

SOURCES: Final = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
BOUNDS: Final = "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'"

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": f"{SOURCES}; {BOUNDS}",
    "Referrer-Policy": "no-referrer",
}
"""Nothing comes from elsewhere, and nothing that stands in the page itself is run (Content Security Policy Level 3)."""

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""Media types by a file's ending; what has another is no part of the page."""

INDEX: Final = "index.html"


def files() -> dict[str, Encoded]:
    """Read the page's files, by the path at which each is asked for; no board's name has a dot in it."""
    found = {}
    for file in resources.files(__package__).iterdir():
        if (media_type := TYPES.get(file.name.rpartition(".")[2])) is not None:
            found["/" if file.name == INDEX else f"/{file.name}"] = tagged(file.read_bytes(), media_type)
    return found
