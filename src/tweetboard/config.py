"""What a user may set: the settings' names, types, defaults and bounds, and the layers they are read from.

What must not come here: acting on a setting. The Structs' defaults are the source of truth; `config.toml` at the top
level repeats them for people to read and change.
"""

import contextlib
import difflib
import functools
import hashlib
import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import platformdirs

from tweetboard.errors import ConfigurationError
from tweetboard.presets import FORMS, preset
from tweetboard.windows import parse_window

FORMATS = ("auto", "flat", "x-v2", "x-v1", "mastodon", "wikimedia", "bluesky")
"""What `stream.format` may be; a new format adds its name here."""

DEMO = "demo:"
EMBEDDED = "embedded:"
_BOARDS = {"usernames": "username_scoreboard", "hashtags": "hashtags_scoreboard"}
_CONFIG = "TWEETBOARD_CONFIG"
_TOKEN = "TWEETBOARD_STREAM_TOKEN"  # noqa: S105 - a variable's name
_WAY_OUT = f"put the token into {_TOKEN} or the systemd credential stream-token, never here"
_SECRET_QUERY = re.compile(r"([?&][^=&#]*(?:token|secret|passw(?:or)?d|auth|sig|signature|key)=)[^&#]*", re.IGNORECASE)


def masked(url: str) -> str:
    """Make an address fit to be shown: its user, its password and the secrets in its query become `***`."""
    # Wrong addresses are shown too, so all before the last @ goes, unless that can only belong to an HTTP path.
    if not re.match(r"https?://[^/?#@:]+[/?#]", url):
        url = re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1***@", url, flags=re.DOTALL | re.IGNORECASE)
    return _SECRET_QUERY.sub(r"\1***", url)


class Secret(msgspec.Struct, frozen=True):
    """A text that shows as `***` wherever it is printed; only `.value` gives it away. An empty one is false."""

    value: str = ""

    def __repr__(self) -> str:
        return "***"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("value", "***")]

    def __bool__(self) -> bool:
        return bool(self.value)


def _shown(value: object) -> str:
    """Name a wrong value, without a secret that may be in it."""
    if isinstance(value, dict):
        return "a table"
    return repr(masked(value)) if isinstance(value, str) else masked(str(value))


# A check yields what is wrong with a value of its key's type: the end of the line that the user reads.
def _must(holds: Callable[..., bool], complaint: str) -> Callable[[object], Iterator[str]]:
    def check(value: object) -> Iterator[str]:
        if not holds(value):
            yield f"{_shown(value)} {complaint}"

    return check


def _between(low: int, high: int) -> Callable[[object], Iterator[str]]:
    return _must(lambda value: low <= value <= high, f"is not between {low} and {high}")


def _is_plain(text: str) -> bool:
    return text.isprintable() and " " not in text  # isprintable() refuses every other kind of space


def _is_address(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    # unix:// with two slashes would silently take the first folder for a host.
    is_whole = not parts.hostname and len(parts.path) > 1 if parts.scheme == "unix" else bool(parts.hostname)
    return is_whole and url.startswith(tuple(f"{scheme}://" for scheme in schemes)) and _is_plain(url)


def _headers(value: dict[str, str]) -> Iterator[str]:
    # No header's value is ever shown: services that know no bearer token take their keys there.
    for name, text in value.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            yield f"{_shown(name)} cannot be the name of a header"
        elif name.lower() == "authorization":
            yield f"{name!r} is not taken: {_WAY_OUT}"
        elif not re.fullmatch(r"[\t\x20-\x7e]*", text):
            yield f"the value of {name!r} has characters other than printable ASCII"


def _token(value: object) -> Iterator[str]:
    if not isinstance(value, Secret):
        yield _WAY_OUT
    elif not re.fullmatch(r"[\x21-\x7e]+", value.value):
        yield "has spaces or characters other than ASCII; give the token alone, without 'Bearer'"


def _durations(value: list[str]) -> Iterator[str]:
    for place, text in enumerate(value):
        try:
            parse_window(text)
        except ValueError as error:
            yield str(error)
        if text in value[:place]:
            yield f"{_shown(text)} stands there twice"


_stream_url = _must(
    lambda url: url == DEMO or preset(url) is not None or _is_address(url, "http", "https", "ws", "wss"),
    f"is none of what a stream can be: demo:, {', '.join(FORMS)}, "
    "or a whole address: http://, https://, ws:// or wss://",
)
_redis_url = _must(
    lambda url: url == EMBEDDED or _is_address(url, "redis", "rediss", "unix"),
    "is none of embedded:, redis://host:port, rediss://host:port, unix:///path/to/socket",
)
_name = _must(
    lambda name: name != "bare" and re.fullmatch(r"[a-z0-9_-]{0,64}", name) is not None,
    "is not a name of up to 64 of the characters a-z, 0-9, _ and -, other than 'bare'",
)
_prefix = _must(lambda text: len(text) <= 64 and _is_plain(text), "is not up to 64 characters without spaces")
_board_key = _must(
    lambda key: key != "" and key.isprintable() and not key.startswith("tweetboard:"),
    "is empty, has control characters, or begins with 'tweetboard:', which is kept for tweetboard's own keys",
)
_format = _must(FORMATS.__contains__, f"is not one of {', '.join(FORMATS)}")
_folder = _must(lambda path: path.isprintable() and not re.match("~[^/]", path), "is not the path of a folder")
_host = _must(lambda host: host != "" and _is_plain(host), "is not a host's name or address")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    def __rich_repr__(self) -> list[tuple[str, object]]:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        shown = {"url": masked(fields.get("url", "")), "headers": dict.fromkeys(fields.get("headers", {}), Secret())}
        return [(name, shown.get(name, value)) for name, value in fields.items()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class StreamSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where posts come from; `stall_timeout_s` 0 is the format's own, `token` comes from the environment alone."""

    url: Annotated[str, _stream_url] = DEMO
    name: Annotated[str, _name] = ""
    format: Annotated[str, _format] = "auto"
    headers: Annotated[dict[str, str], _headers] = {}
    stall_timeout_s: Annotated[float, _between(0, 1_000_000_000)] = 0.0
    max_line_bytes: Annotated[int, _between(1024, 67_108_864)] = 1_048_576
    token: Annotated[Secret, _token] = Secret()


class RedisSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where boards are kept; `data_dir()` says what an empty `data_dir` means."""

    url: Annotated[str, _redis_url] = EMBEDDED
    prefix: Annotated[str, _prefix] = ""
    data_dir: Annotated[str, _folder] = ""


class HttpSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where boards are served; port 0 is any free one."""

    host: Annotated[str, _host] = "127.0.0.1"
    port: Annotated[int, _between(0, 65_535)] = 8080
    allowed_hosts: Annotated[list[str], lambda hosts: (line for host in hosts for line in _host(host))] = []


class BoardSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One board: its sorted set, its windows, and the half-life of its trending scores ("" is off)."""

    key: Annotated[str, _board_key]
    windows: Annotated[list[str], _durations] = msgspec.field(default_factory=lambda: ["5m", "1h", "24h"])
    trending: Annotated[str, lambda text: _durations([text] if text else [])] = "1h"


class Settings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings; checked where they come from `load`, taken as they are where made by hand."""

    stream: StreamSettings = msgspec.field(default_factory=StreamSettings)
    redis: RedisSettings = msgspec.field(default_factory=RedisSettings)
    http: HttpSettings = msgspec.field(default_factory=HttpSettings)
    boards: dict[str, BoardSettings] = msgspec.field(
        default_factory=lambda: {name: BoardSettings(key=key) for name, key in _BOARDS.items()}
    )


def stream_name(settings: Settings) -> str:
    """Give the stream's identity in Redis: the configured name, else one that no other URL has."""
    stream = settings.stream
    if stream.name or stream.url == DEMO:
        return stream.name or "demo"
    if preset(stream.url) is not None:
        return re.sub(r"[^a-z0-9]+", "-", stream.url.lower())[:64].strip("-")
    host = re.sub(r"[^a-z0-9]+", "-", urlsplit(stream.url).hostname or "")[:55].strip("-")
    return f"{host or 'stream'}-{hashlib.sha256(stream.url.encode()).hexdigest()[:8]}"


def data_dir(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Give the folder of the embedded server's data: the configured one, else systemd's, else the user's own."""
    # systemd gives a colon-separated list where a unit names several state directories.
    folder = settings.redis.data_dir or environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder).expanduser() if folder else platformdirs.user_data_path("tweetboard")


class Flag(msgspec.Struct, frozen=True):
    """What was typed on the command line: the flag's name without its dashes, and its text."""

    name: str
    text: str


def load(argv_overrides: Mapping[str, Flag], environ: Mapping[str, str], cwd: Path) -> Settings:
    """Read the settings: defaults, then the file, then the environment, then flags; a later layer wins.

    `argv_overrides` has flags by the dotted path of the key they set, and the one that names the file as "config".
    Raises ConfigurationError with a line for every value that is wrong in any layer, also where a later one wins.
    """
    reading = _Reading()
    reading.file(argv_overrides.get("config"), environ, cwd)
    reading.environment(environ)
    reading.token(environ)
    for path, flag in argv_overrides.items():
        if path != "config":
            reading.take_text(f"--{flag.name}", path, flag.text)
    reading.board_keys()
    if reading.problems:
        raise ConfigurationError(*reading.problems)
    return msgspec.convert(reading.tree, Settings)


def _keys(section: _Section, path: str = "") -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, _Section):
            yield from _keys(value, f"{path}{field.name}.")
        elif hasattr(field.type, "__metadata__"):
            yield path + field.name, field.type
        else:  # the boards, by name
            for name, board in value.items():
                yield from _keys(board, f"{path}{field.name}.{name}.")


_KEYS = dict(_keys(Settings()))  # dotted path -> Annotated[type, check]
_VARIABLES = {f"TWEETBOARD_{path.upper().replace('.', '_')}": path for path in _KEYS}
_KINDS = {str: "text", int: "a whole number", float: "a number", list[str]: "a list of texts"}


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""


def _parse_toml(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (RecursionError, ValueError) as error:  # a plain ValueError: a number of more digits than Python reads
        end = f"at line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"
        raise ValueError(f"not TOML: {error}".replace("at end of document", end)) from None


class _Reading:
    """The settings as they come in, layer by layer, and a line for each that is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.tree = msgspec.to_builtins(Settings())
        self.labels: dict[str, str] = {}  # path -> where it was set, the last set last

    def take(self, label: str, path: str, value: object) -> None:
        kind, (check,) = _KEYS[path].__origin__, _KEYS[path].__metadata__
        try:
            wrong = list(check(value if kind is Secret else msgspec.convert(value, kind)))
        except msgspec.ValidationError:
            wrong = [f"{_shown(value)} is not {_KINDS[kind]}" if kind in _KINDS else "is not a table of texts"]
        self.problems += [f"{label}: {path}: {line}" for line in wrong]
        if not wrong:
            *tables, name = path.split(".")
            functools.reduce(operator.getitem, tables, self.tree)[name] = msgspec.to_builtins(value)
            self.labels = {known: self.labels[known] for known in self.labels if known != path} | {path: label}

    def take_text(self, label: str, path: str, text: str) -> None:
        """Take a text as TOML where that gives the key's type, else as it stands."""
        value: object = text
        with contextlib.suppress(ValueError):  # msgspec's ValidationError is one too
            table = _parse_toml(f"value = {text}")
            value = msgspec.convert(table["value"], _KEYS[path].__origin__) if len(table) == 1 else text
        self.take(label, path, value)

    def file(self, flag: Flag | None, environ: Mapping[str, str], cwd: Path) -> None:
        asked = Flag(f"--{flag.name}", flag.text) if flag else Flag(_CONFIG, environ.get(_CONFIG, ""))
        name = asked.text or "config.toml"
        label = f"{asked.name}: {name}" if flag or asked.text else name
        try:
            table = _parse_toml((cwd / name).read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            if label != name or not isinstance(error, FileNotFoundError):
                self.problems.append(f"{label}: cannot be read: {getattr(error, 'strerror', error)}")
        else:
            self.table(name, table)

    def table(self, label: str, table: Mapping[str, object], path: str = "") -> None:
        names = dict.fromkeys(key.removeprefix(path).partition(".")[0] for key in _KEYS if key.startswith(path))
        for name, value in table.items():
            if name not in names:
                hint = f" (the boards are {' and '.join(names)})" if path == "boards." else _suggestion(name, names)
                self.problems.append(f"{label}: {path}{name if name.isprintable() else repr(name)}: unknown key{hint}")
            elif path + name in _KEYS:
                self.take(label, path + name, value)
            elif isinstance(value, dict):
                self.table(label, value, f"{path}{name}.")
            else:
                self.problems.append(f"{label}: {path}{name}: {_shown(value)} is not a table")

    def environment(self, environ: Mapping[str, str]) -> None:
        for name in sorted(name for name in environ if name.startswith("TWEETBOARD_")):
            if name not in _VARIABLES and name != _CONFIG:
                self.problems.append(f"{name}: unknown variable{_suggestion(name, _VARIABLES)}")
            elif name not in {_CONFIG, _TOKEN}:
                self.take_text(name, _VARIABLES[name], environ[name])

    def token(self, environ: Mapping[str, str]) -> None:
        label, text = _TOKEN, environ.get(_TOKEN, "").strip()
        if not text and "CREDENTIALS_DIRECTORY" in environ:
            label = "credential stream-token"
            try:
                with contextlib.suppress(FileNotFoundError):  # the unit may have other credentials alone
                    text = Path(environ["CREDENTIALS_DIRECTORY"], "stream-token").read_text("utf-8").strip()
            except (OSError, ValueError):  # a decoding error's text would show bytes of it
                self.problems.append(f"{label}: stream.token: cannot be read")
        if text:
            self.take(label, "stream.token", Secret(text))

    def board_keys(self) -> None:
        keys = {f"boards.{name}.key": board["key"] for name, board in self.tree["boards"].items()}
        set_twice = [path for path in self.labels if list(keys.values()).count(keys.get(path)) > 1]
        for path in set_twice[-1:]:
            self.problems.append(f"{self.labels[path]}: {path}: {_shown(keys[path])} is the other board's key too")
