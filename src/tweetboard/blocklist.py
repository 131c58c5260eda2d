"""Names that count, but are not shown: a file of them, read at the start and again whenever somebody asks.

What lives here: the file and what its lines mean. What must not: leaving names out of what is read (scoreboard.py).
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

from tweetboard.errors import ConfigurationError
from tweetboard.formats.hashtags import clean, fold

MAX_NAMES: Final = 10_000
"""Each reading of a board looks every one of them up, which takes Redis some milliseconds for so many."""

_COMMENT: Final = re.compile(r"#(\s|$)")


class Names(NamedTuple):
    """What is not shown: on boards of hashtags these `identities`, on others the names as they are spelled."""

    identities: tuple[str, ...] = ()
    spelled: tuple[str, ...] = ()


class Blocklist:
    """The names in the file at `path`; "" is no file, and nobody is left out. Nothing is read before `load`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.names = Names()

    def load(self) -> int:
        """Read the file; returns how many names it has. Raises `ConfigurationError`, and keeps what was read before."""
        if not self._path:
            return 0
        try:
            names = parse(_text_of(Path(self._path).expanduser()))
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"filter.blocklist: {self._path}: cannot be read: {what}") from error
        self.names = names
        return len({*names.identities, *names.spelled})


def _text_of(path: Path) -> str:
    if path.exists() and not path.is_file():  # a FIFO would be waited for, and everything with it
        raise ValueError("it is no file")
    return path.read_text("utf-8-sig")


def parse(text: str) -> Names:
    """Read a name a line: `#tag` on boards of hashtags, `@name` on the others, without a sign on all.

    Blank lines are passed over, and lines that begin with # and a space. Raises `ValueError` for too many names.
    """
    identities, spelled = dict[str, None](), dict[str, None]()
    for line in map(str.strip, text.splitlines()):
        if not line or _COMMENT.match(line):
            continue
        if not line.startswith("@") and (identity := fold(clean(line))):
            identities[identity] = None
        if not line.startswith(("#", "＃")) and (name := clean(line.removeprefix("@"))):
            spelled[name] = None
    if max(len(identities), len(spelled)) > MAX_NAMES:
        raise ValueError(f"more than {MAX_NAMES:,} names")
    return Names(tuple(identities), tuple(spelled))
