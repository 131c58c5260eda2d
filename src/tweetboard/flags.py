"""What may be typed behind `python -m tweetboard`: commands, flags, and what each means in a few words.

What must not come here: what a command does (cli.py), or what a setting may be (settings.py).
"""

import argparse
from typing import Final

from tweetboard import __version__
from tweetboard.asked import MAX_LIMIT
from tweetboard.board.windows import ALL

FLAGS: Final = {
    "stream": ("stream.url", "URL", "the stream of posts"),
    "format": ("stream.format", "NAME", "how the stream writes posts"),
    "redis": ("redis.url", "URL", "where the boards are kept"),
    "data-dir": ("redis.data_dir", "PATH", "where the embedded server keeps its data"),
    "host": ("http.host", "ADDRESS", "where to serve the boards"),
    "port": ("http.port", "NUMBER", "where to serve the boards; 0: any free port"),
    "log-level": ("log.level", "LEVEL", "how much to say on standard error: debug, info, warning, error"),
    "log-format": ("log.format", "NAME", "how to say it: text, logfmt (key=value), json; auto: text on a terminal"),
}
"""Flags that set a key: by name the key's path, what to put there, and a few words."""

MAX_RATE: Final = 10_000
"""Posts per second that one core can still invent."""

_EPILOG: Final = "Flags that set a key (tweetboard --help) may stand before or behind the command."


def parser() -> argparse.ArgumentParser:
    """Build the parser; what it parses has the command's name in `command`."""
    whole = argparse.ArgumentParser(
        prog="tweetboard", description="Live, exactly counted leaderboards from a stream of posts."
    )
    whole.add_argument("--version", action="version", version=f"tweetboard {__version__}")
    whole.set_defaults(command="run")
    _add_common(whole, default=None)
    commands = whole.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        # A flag may stand before or behind the command; SUPPRESS keeps the one from undoing the other.
        added = commands.add_parser(name, help=text, description=text, epilog=_EPILOG)
        added.set_defaults(command=name)
        _add_common(added, default=argparse.SUPPRESS)
        return added

    add("run", "count the stream and serve the boards (the default)")
    check = add("check", "say what would run, and try Redis and the stream once")
    replay = add("replay", "count a file of posts, and print its boards")
    replay.add_argument("file", metavar="FILE", help="posts, one JSON a line, or .sse; -: standard input")
    _add_top(add("top", "show the boards of a running daemon"))
    export = add("export", "write boards to standard output, a name a line, also of a running daemon")
    export.add_argument("board", metavar="BOARD", nargs="*", help="such as hashtags (all there are)")
    imports = add("import", "put exported boards in the place of those that are there")
    imports.add_argument("file", metavar="FILE", help="what export has written; -: standard input")
    reset = add("reset", "begin boards anew, also those of a running daemon")
    reset.add_argument("board", metavar="BOARD", nargs="+", help="such as hashtags")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    check.add_argument("--live", action="store_true", help="ask the running daemon instead: 0 where every part works")
    check.add_argument("--from", dest="address", metavar="URL", help="where it serves (http.host and http.port)")
    unit = add("unit", "print the unit for systemd, for this interpreter")
    kinds = unit.add_mutually_exclusive_group()
    kinds.add_argument("--socket", action="store_true", help="that of the socket, for restarts that nobody notices")
    kinds.add_argument("--alerts", action="store_true", help="rules for Prometheus instead")
    simulate = add("simulate", "serve the demo's invented posts as X would, for trying things out")
    simulate.add_argument("--rate", type=_rate, default=40.0, metavar="NUMBER", help="mean posts per second (40)")
    simulate.add_argument("--seed", type=int, metavar="NUMBER", help="the same town each time")
    simulate.add_argument("--listen", type=_port, default=0, metavar="PORT", help="where to serve it (any free port)")
    return whole


def _add_top(top: argparse.ArgumentParser) -> None:
    top.add_argument("board", metavar="BOARD", nargs="*", help="such as hashtags (all there are)")
    top.add_argument("--window", metavar="NAME", default=ALL, help="all, 5m, 1h, 24h, trending, ... (all)")
    top.add_argument("--limit", metavar="NUMBER", type=_limit, default=10, help="rows of each board (10)")
    top.add_argument("--watch", action="store_true", help="go on showing them, until Ctrl-C")
    top.add_argument("--json", action="store_true", help="as the API says it, one board a line")
    top.add_argument("--from", dest="address", metavar="URL", help="where they are served (http.host and http.port)")


def _add_common(taker: argparse.ArgumentParser, *, default: str | None) -> None:
    """Add the flags that every command takes; they are explained where they have a default, at the top."""

    def told(text: str) -> str:
        return argparse.SUPPRESS if default == argparse.SUPPRESS else text

    taker.add_argument(
        "--config",
        metavar="PATH",
        default=default,
        help=told("the settings (else TWEETBOARD_CONFIG, else ./config.toml)"),
    )
    for name, (path, metavar, text) in FLAGS.items():
        taker.add_argument(f"--{name}", dest=path, metavar=metavar, default=default, help=told(f"{text} ({path})"))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to {MAX_RATE:,}")
    return rate


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_LIMIT:,}")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)
