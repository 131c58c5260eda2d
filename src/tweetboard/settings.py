"""What a user may set: the settings' names, types, defaults and bounds, and what follows from them.

What must not come here: where settings are read from (config.py), or acting on one. The Structs' defaults are the
source of truth; `config.toml` at the top level repeats them for people to read and change.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import platformdirs

from tweetboard.board.windows import parse_window
from tweetboard.formats.paths import parse
from tweetboard.presets import FORMS, preset

FORMATS: Final = ("auto", "flat", "x-v2", "x-v1", "mastodon", "wikimedia", "bluesky", "fields")
"""What `stream.format` may be; a new format adds its name here."""

FIELDS: Final = {"usernames": "author", "hashtags": "hashtags"}
"""What the two boards count that are always there, where nothing else is said; also what any board may count."""

TAKEN: Final = frozenset({"boards", "events", "search", "trends", "healthz", "readyz", "metrics", "redis", "stream"})
"""A board's name is its address and a part's in `/readyz` too, and these are others'."""

DEMO = "demo:"
EMBEDDED = "embedded:"
_BOARDS = {"usernames": "username_scoreboard", "hashtags": "hashtags_scoreboard"}
_WAY_OUT = (
    "put the token into TWEETBOARD_STREAM_TOKEN or the systemd credential stream-token "
    "(for [streams.x]: TWEETBOARD_STREAMS_X_TOKEN, stream-token.x), never here"
)
SECRETS: Final = frozenset({"token", "password"})
"""Keys, the last words of their paths, that come from the environment or a credential alone."""

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


def shown(value: object) -> str:
    """Name a wrong value, without a secret that may be in it."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict | list) for one in value)):
        return "a table" if isinstance(value, dict) else "a list"
    return repr(masked(value)) if isinstance(value, str) else masked(str(value))


# A check yields what is wrong with a value of its key's type: the end of the line that the user reads.
def _must(holds: Callable[..., bool], complaint: str) -> Callable[[object], Iterator[str]]:
    def check(value: object) -> Iterator[str]:
        if not holds(value):
            yield f"{shown(value)} {complaint}"

    return check


def _between(low: int, high: int) -> Callable[[object], Iterator[str]]:
    return _must(lambda value: low <= value <= high, f"is not between {low} and {high}")


def _anything(_: object) -> Iterator[str]:
    return iter(())


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
    if parts.scheme in ("redis", "rediss"):  # redis-py would silently take another path for database 0
        is_whole = is_whole and re.fullmatch(r"/?|/[0-9]{1,9}", parts.path) is not None
    return is_whole and url.startswith(tuple(f"{scheme}://" for scheme in schemes)) and _is_plain(url)


def _headers(value: dict[str, str]) -> Iterator[str]:
    # No header's value is ever shown: services that know no bearer token take their keys there.
    for name, text in value.items():
        if name.lower() in ("connection", "content-length", "transfer-encoding", "upgrade"):
            yield f"{name!r} is not taken: it is the connection's own"
        elif [other.lower() for other in value].count(name.lower()) > 1:
            yield f"{name!r} stands there twice, in another spelling"
        elif not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            yield f"{shown(name)} cannot be the name of a header"
        elif name.lower() == "authorization":
            yield f"{name!r} is not taken: {_WAY_OUT}"
        elif not re.fullmatch(r"[\t\x20-\x7e]*", text):
            yield f"the value of {name!r} has characters other than printable ASCII"


def _token(value: object) -> Iterator[str]:
    if not isinstance(value, Secret):
        yield _WAY_OUT
    elif not re.fullmatch(r"[\x21-\x7e]+", value.value):
        yield "has spaces or characters other than ASCII; give the token alone, without 'Bearer'"


def _password(value: object) -> Iterator[str]:
    if not isinstance(value, Secret):
        yield "put the password into TWEETBOARD_REDIS_PASSWORD or the systemd credential redis-password, never here"


def _durations(value: list[str]) -> Iterator[str]:
    for place, text in enumerate(value):
        try:
            parse_window(text)
        except ValueError as error:
            yield str(error)
        if text in value[:place]:
            yield f"{shown(text)} stands there twice"


def _duration(text: str) -> Iterator[str]:
    return _durations([text] if text else [])


STORES: Final = ("zset", "leaders")
"""Where `boards.NAME.store` keeps scores: all in the sorted set, or only those of the leaders there."""

_MEMBERS: Final = "is neither 0, for all of them, nor between 100 and 1000000000"
_stream_url = _must(
    lambda url: url == DEMO or preset(url) is not None or _is_address(url, "http", "https", "ws", "wss"),
    f"is none of what a stream can be: demo:, {', '.join(FORMS)}, "
    "or a whole address: http://, https://, ws:// or wss://",
)


def _redis_url(url: str) -> Iterator[str]:
    if re.match(r"[a-z+-]*(sentinel|cluster)[a-z+-]*:", url):
        yield f"{shown(url)}: Sentinel and Cluster are not supported yet; name one server, such as redis://host:6379"
    elif url != EMBEDDED and not _is_address(url, "redis", "rediss", "unix"):
        yield f"{shown(url)} is none of embedded:, redis://host:port, rediss://host:port, unix:///path/to/socket"


_name = _must(
    lambda name: name not in ("bare", "schema") and re.fullmatch(r"[a-z0-9_-]{0,64}", name) is not None,
    "is not a name of up to 64 of the characters a-z, 0-9, _ and -, other than 'bare' and 'schema'",
)
_prefix = _must(lambda text: len(text) <= 64 and _is_plain(text), "is not up to 64 characters without spaces")
_board_name = _must(
    lambda name: name not in TAKEN and re.fullmatch(r"[a-z0-9_-]{1,64}", name) is not None,
    f"is not a name of up to 64 of the characters a-z, 0-9, _ and -, other than {', '.join(sorted(TAKEN))}",
)
_table = _must(lambda name: name != "", "is no name for a table")
table_name: Final[Mapping[str, Callable[[object], Iterator[str]]]] = {
    "boards": _board_name,
    "streams": lambda name: itertools.chain(_table(name), _name(name)),
}
"""What the tables of boards and of streams may be called."""
_board_key = _must(
    lambda key: key != "" and key.isprintable() and not key.startswith("tweetboard:"),
    "is empty, has control characters, or begins with 'tweetboard:', which is kept for tweetboard's own keys",
)
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("auto", "text", "logfmt", "json")
_log_level = _must(LOG_LEVELS.__contains__, f"is not one of {', '.join(LOG_LEVELS)}")
_log_format = _must(LOG_FORMATS.__contains__, f"is not one of {', '.join(LOG_FORMATS)}")
_store = _must(STORES.__contains__, f"is not one of {', '.join(STORES)}")
_format = _must(FORMATS.__contains__, f"is not one of {', '.join(FORMATS)}")
_path = _must(lambda path: path.isprintable() and not re.match("~[^/]", path), "is not the path of a file or folder")
_language = _must(
    lambda tag: re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", tag) is not None,
    "is not a language tag such as en or pt-BR",
)


def _host(host: str) -> Iterator[str]:
    if not host or not _is_plain(host) or "/" in host:
        yield f"{shown(host)} is not a host's name or address"
    elif ":" in host and not _is_ip(host):
        yield f"{shown(host)} has more than a name or address: a port (that is http.port), or brackets"


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _network(text: str) -> Iterator[str]:
    if text == "unix":  # who asks over a Unix socket, see clients.py
        return
    try:
        ip_network(text, strict=False)
    except ValueError:
        yield f"{shown(text)} is neither an address, nor a network such as 10.0.0.0/8, nor unix"


def _field(text: str) -> Iterator[str]:
    try:
        _ = parse(text) if text else []
    except ValueError as error:
        yield str(error)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of settings; its secrets do not show."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        shown = {"url": masked(fields.get("url", "")), "headers": dict.fromkeys(fields.get("headers", {}), Secret())}
        return [(name, shown.get(name, value)) for name, value in fields.items()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class StreamSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where posts come from; `stall_timeout_s` 0 is the format's own, `token` comes from the environment alone."""

    url: Annotated[str, _stream_url] = DEMO
    name: Annotated[str, _name] = ""
    format: Annotated[str, _format] = "auto"
    headers: Annotated[dict[str, str], _headers] = {}
    stall_timeout_s: Annotated[float, _between(0, 1_000_000_000)] = 0.0
    max_line_bytes: Annotated[int, _between(1024, 67_108_864)] = 1_048_576
    token: Annotated[Secret, _token] = Secret()


class RedisSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where boards are kept; `data_dir()` says what an empty `data_dir` means.

    `password`, where `url` has none, comes from the environment alone.
    """

    url: Annotated[str, _redis_url] = EMBEDDED
    prefix: Annotated[str, _prefix] = ""
    data_dir: Annotated[str, _path] = ""
    password: Annotated[Secret, _password] = Secret()


class HttpSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where boards are served; port 0 is any free one."""

    host: Annotated[str, _host] = "127.0.0.1"
    port: Annotated[int, _between(0, 65_535)] = 8080
    allowed_hosts: Annotated[list[str], lambda hosts: (line for host in hosts for line in _host(host))] = []
    trusted_proxies: Annotated[list[str], lambda ones: (line for one in ones for line in _network(one))] = []
    max_viewers_per_address: Annotated[int, _between(1, 1_000_000)] = 100


class FilterSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which posts and hashtags count, and which names are shown; each default lets everything pass."""

    languages: Annotated[list[str], lambda tags: (line for tag in tags for line in _language(tag))] = []
    bots: Annotated[bool, _anything] = True
    min_hashtag_length: Annotated[int, _between(1, 256)] = 1
    numeric_hashtags: Annotated[bool, _anything] = True
    blocklist: Annotated[str, _path] = ""


class LogSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is said on standard error, and how; `auto` is text on a terminal and key=value elsewhere."""

    level: Annotated[str, _log_level] = "info"
    format: Annotated[str, _log_format] = "auto"


class BoardSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One board: its sorted set, what it counts, its windows, and the half-life of its trending scores ("" is off).

    An author adds to a name at most once in `once_per_author`; what a post has added can be taken away for `forget`;
    `max_members` 0 lets no name go. `store` is one of `STORES`.
    """

    key: Annotated[str, _board_key]
    field: Annotated[str, _field] = ""
    reposts: Annotated[bool, _anything] = True
    windows: Annotated[list[str], _durations] = msgspec.field(default_factory=lambda: ["5m", "1h", "24h"])
    trending: Annotated[str, _duration] = "1h"
    once_per_author: Annotated[str, _duration] = ""
    forget: Annotated[str, _duration] = ""
    max_members: Annotated[int, _must(lambda count: count == 0 or 100 <= count <= 10**9, _MEMBERS)] = 0
    store: Annotated[str, _store] = "zset"


class Settings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings; checked where they come from `load`, taken as they are where made by hand."""

    stream: StreamSettings = msgspec.field(default_factory=StreamSettings)
    streams: dict[str, StreamSettings] = {}
    redis: RedisSettings = msgspec.field(default_factory=RedisSettings)
    http: HttpSettings = msgspec.field(default_factory=HttpSettings)
    filter: FilterSettings = msgspec.field(default_factory=FilterSettings)
    log: LogSettings = msgspec.field(default_factory=LogSettings)
    boards: dict[str, BoardSettings] = msgspec.field(
        default_factory=lambda: {name: BoardSettings(key=key) for name, key in _BOARDS.items()}
    )


def with_live(settings: Settings, wanted: Settings) -> Settings:
    """Give the settings with what of the `wanted` ones can change while a daemon runs."""
    http = msgspec.structs.replace(wanted.http, host=settings.http.host, port=settings.http.port)
    return msgspec.structs.replace(settings, boards=wanted.boards, filter=wanted.filter, log=wanted.log, http=http)


def differences(settings: Settings, other: Settings) -> list[str]:
    """Name the keys that differ, or the tables that only one of them has."""
    return list(_differences(msgspec.to_builtins(settings), msgspec.to_builtins(other), ""))


def _differences(one: dict[str, object], other: dict[str, object], path: str) -> Iterator[str]:
    for name in one | other:
        first, second = one.get(name), other.get(name)
        if isinstance(first, dict) and isinstance(second, dict) and name != "headers":
            yield from _differences(first, second, f"{path}{name}.")
        elif first != second:
            yield f"{path}{name}"


class Stream(NamedTuple):
    """One stream to be counted: its table in the settings, what people call it, and its settings."""

    table: str
    title: str
    settings: StreamSettings


def streams_of(settings: Settings) -> dict[str, Stream]:
    """Give the streams to be counted, by their identity in Redis."""
    if not settings.streams:
        name = stream_name(settings.stream)
        return {name: Stream("stream", name, settings.stream)}
    return {stream_name(stream): Stream(f"streams.{name}", name, stream) for name, stream in settings.streams.items()}


def stream_name(stream: StreamSettings) -> str:
    """Give a stream's identity in Redis: the configured name, else one that no other URL has."""
    if stream.name or stream.url == DEMO:
        return stream.name or "demo"
    by_name = preset(stream.url) is not None
    if by_name and re.fullmatch(r"[a-z]+(:[a-z]+(\.[a-z]+)*)?", stream.url) and len(stream.url) <= 64:
        return re.sub(r"[:.]", "-", stream.url)
    # Any other spelling could be that of another stream too.
    host = re.sub(r"[^a-z0-9]+", "-", stream.url.lower() if by_name else urlsplit(stream.url).hostname or "")
    host = host[:55].strip("-")
    return f"{host or 'stream'}-{hashlib.sha256(stream.url.encode()).hexdigest()[:8]}"


def data_dir(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Give the folder of the embedded server's data: the configured one, else systemd's, else the user's own."""
    # systemd gives a colon-separated list where a unit names several state directories.
    folder = settings.redis.data_dir or environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder).expanduser() if folder else platformdirs.user_data_path("tweetboard")
