"""The layers that settings are read from: defaults, then the file, then the environment, then flags.

What lives here: reading, and a line for everything that is wrong in any layer. What must not: what a setting may be, or
what follows from it (settings.py).
"""

import contextlib
import difflib
import functools
import operator
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tweetboard.errors import ConfigurationError
from tweetboard.formats.paths import Fields
from tweetboard.formats.paths import Path as FieldPath
from tweetboard.presets import same_place
from tweetboard.settings import (
    DEMO,
    FIELDS,
    SECRETS,
    BoardSettings,
    Secret,
    Section,
    Settings,
    StreamSettings,
    shown,
    stream_name,
    table_name,
)

_CONFIG: Final = "TWEETBOARD_CONFIG"
_MEANT: Final = {"hashtag": "hashtags", "authors": "author"}


class Flag(msgspec.Struct, frozen=True):
    """What was typed on the command line: the flag's name without its dashes, and its text."""

    name: str
    text: str


def load(
    argv_overrides: Mapping[str, Flag],
    environ: Mapping[str, str],
    cwd: Path,
    *,
    without_streams: bool = False,
    had_file: bool = False,
) -> Settings:
    """Read the settings; a later layer wins. Who reads none of the tables of streams loads `without_streams`.

    Where it `had_file`, a file that has gone since is not taken for one that was never there.

    `argv_overrides` has flags by the dotted path of the key they set, and the one that names the file as "config".
    Raises ConfigurationError with a line for every value that is wrong in any layer, also where a later one wins.
    """
    reading = _Reading()
    reading.file(argv_overrides.get("config"), environ, cwd, had_file=had_file)
    reading.environment(environ)
    reading.credentials(environ)
    for path, flag in argv_overrides.items():
        if path != "config":
            reading.take_text(f"--{flag.name}", path, flag.text)
    if without_streams:
        reading.tree["streams"] = {}
    reading.together()
    if reading.problems:
        raise ConfigurationError(*reading.problems)
    return msgspec.convert(reading.tree, Settings)


def check_together(settings: Settings) -> None:
    """Look at what can only be wrong together, of settings from two readings; raises `ConfigurationError`."""
    reading = _Reading()
    reading.tree = msgspec.to_builtins(settings)
    reading.together()
    if reading.problems:
        raise ConfigurationError(*(f"together with what takes a restart, {line}" for line in reading.problems))


def _keys(section: type[Section], path: str = "") -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(section):
        if hasattr(field.type, "__metadata__"):
            yield path + field.name, field.type
        elif path + field.name in _NAMED:
            yield from _keys(_NAMED[path + field.name], f"{path}{field.name}.*.")
        else:
            yield from _keys(field.type, f"{path}{field.name}.")


_NAMED: Final[dict[str, type[Section]]] = {"boards": BoardSettings, "streams": StreamSettings}
"""Tables of tables, whose names are the user's to choose."""

_KEYS: Final = dict(_keys(Settings))
"""Annotated[type, check] by dotted path, with * for a name that is the user's to choose."""

_KINDS: Final = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number",
    list[str]: 'a list of texts, such as ["one", "other"]',
}


def _pattern(path: str) -> str:
    """Write a path as it stands in `_KEYS`."""
    first, *rest = path.split(".")
    return ".".join([first, "*", *rest[1:]]) if first in _NAMED and rest else path


def _variable(path: str) -> str:
    return f"TWEETBOARD_{path.upper().replace('.', '_').replace('-', '_')}"


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
        self.tree: dict[str, Any] = msgspec.to_builtins(Settings())
        self.wrong: set[str] = set()
        self.labels: dict[str, str] = {}  # path -> where it was set, the last set last

    def take(self, label: str, path: str, value: object) -> None:
        kind, (check,) = _KEYS[_pattern(path)].__origin__, _KEYS[_pattern(path)].__metadata__
        try:
            wrong = list(check(value if kind is Secret else msgspec.convert(value, kind)))
        except msgspec.ValidationError:
            wrong = [f"{shown(value)} is not {_KINDS[kind]}" if kind in _KINDS else "is not a table of texts"]
        self.problems += [f"{label}: {path}: {line}" for line in wrong]
        if wrong:
            self.wrong.add(path)
        else:
            table, _, name = path.rpartition(".")
            self._begin(label, table)
            functools.reduce(operator.getitem, table.split("."), self.tree)[name] = msgspec.to_builtins(value)
            self.labels = {known: self.labels[known] for known in self.labels if known != path} | {path: label}

    def take_text(self, label: str, path: str, text: str) -> None:
        """Take a text as TOML where that gives the key's type, else as it stands."""
        value: object = text
        with contextlib.suppress(ValueError):  # msgspec's ValidationError is one too
            table = _parse_toml(f"value = {text}")
            value = msgspec.convert(table["value"], _KEYS[_pattern(path)].__origin__) if len(table) == 1 else text
        self.take(label, path, value)

    def file(self, flag: Flag | None, environ: Mapping[str, str], cwd: Path, *, had_file: bool) -> None:
        asked = Flag(f"--{flag.name}", flag.text) if flag else Flag(_CONFIG, environ.get(_CONFIG, ""))
        name = asked.text or "config.toml"
        label = f"{asked.name}: {name}" if flag or asked.text else name
        try:
            table = _parse_toml((cwd / name).read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            if label != name or had_file or not isinstance(error, FileNotFoundError):
                self.problems.append(f"{label}: cannot be read: {getattr(error, 'strerror', error)}")
        else:
            self.table(name, table)

    def table(self, label: str, table: Mapping[str, object], path: str = "") -> None:
        above = _pattern(f"{path}*")[:-1]
        names = dict.fromkeys(key.removeprefix(above).partition(".")[0] for key in _KEYS if key.startswith(above))
        for name, value in table.items():
            here = path + name
            if "." not in name and _pattern(here) in _KEYS:
                self.take(label, here, value)
                continue
            wrong = list(table_name[path[:-1]](name)) if "*" in names else []
            if "*" not in names and name not in names:
                wrong.append(f"unknown key{_suggestion(name, names)}")
            elif not isinstance(value, dict):
                wrong.append(f"{shown(value)} is not a table")
            elif not wrong:
                self._begin(label, here)
                self.table(label, value, f"{here}.")
            place = path + (name if name.isprintable() else repr(name))
            self.problems += [f"{label}: {place}: {line}" for line in wrong]

    def _begin(self, label: str, path: str) -> None:
        """Begin a table of the user's choosing, where the path is that of one."""
        kind, _, name = path.partition(".")
        if name and name not in self.tree[kind]:
            self.tree[kind][name] = _defaults(kind, name)
        if name:
            self.labels.setdefault(path, label)

    def environment(self, environ: Mapping[str, str]) -> None:
        for name in sorted(name for name in environ if name.startswith("TWEETBOARD_") and name != _CONFIG):
            text, path = environ[name], self._path_of(name)
            if sum(_variable(one) == name for one in self._tables()) > 1:
                self.problems.append(f"{name}: stands for more than one table, whose names differ in - and _ alone")
            elif path is None:
                known = [_variable(one) for one in _KEYS if "*" not in one] + list(map(_variable, self._tables()))
                self.problems.append(f"{name}: unknown variable{_suggestion(name, known)}")
            elif path.rpartition(".")[2] not in SECRETS:
                self.take_text(name, path, text)
            elif text.strip():
                self.take(name, path, Secret(text.strip()))

    def _tables(self) -> Iterator[str]:
        """Name the keys of all tables that there are."""
        for key in _KEYS:
            kind, star, rest = key.partition(".*")
            if star:
                yield from (f"{kind}.{name}{rest}" for name in self.tree[kind])

    def _path_of(self, variable: str) -> str | None:
        """Find the path of the key that an environment variable sets."""
        for path in self._tables():
            if _variable(path) == variable:
                return path
        for key in _KEYS:
            if found := re.fullmatch(_variable(key).replace("*", "([A-Z0-9_]+)"), variable):
                kind, _, rest = key.partition(".*")
                name = found[1].lower() if found.groups() else ""
                if not name:
                    return key
                if not list(table_name[kind](name)):
                    return f"{kind}.{name}{rest}"
        return None

    def credentials(self, environ: Mapping[str, str]) -> None:
        """Take secrets from systemd's credentials where the environment has none."""
        folder = environ.get("CREDENTIALS_DIRECTORY")
        files = {
            "redis.password": "redis-password",
            "stream.token": "stream-token",
            **{f"streams.{name}.token": f"stream-token.{name}" for name in self.tree["streams"]},
        }
        for path, file in files.items():
            if folder is None or path in self.labels:
                continue
            label = f"credential {file}"
            try:
                with contextlib.suppress(FileNotFoundError):  # the unit may have other credentials alone
                    if text := Path(folder, file).read_text("utf-8").strip():
                        self.take(label, path, Secret(text))
            except (OSError, ValueError):  # a decoding error's text would show bytes of it
                self.problems.append(f"{label}: {path}: cannot be read")

    def together(self) -> None:
        """Look at what can only be wrong together."""
        self._board_keys()
        self._board_fields()
        self._board_stores()
        if self.tree["streams"]:
            self._streams()

    def _board_keys(self) -> None:
        keys = {f"boards.{name}.key": board["key"] for name, board in self.tree["boards"].items()}
        shared = [path for path in keys if list(keys.values()).count(keys[path]) > 1]
        if shared:  # the one that was set last is to blame, or else the one that came last
            last = ([path for path in self.labels if path in shared] or shared)[-1]
            self._wrong(last, f"{shown(keys[last])} is another board's key too")
        for path, key in keys.items():
            if any(key.startswith(f"{other}:") for other in keys.values()):
                self._wrong(path, f"{shown(key)} is another board's key with more behind it, where that keeps its own")

    def _board_fields(self) -> None:
        paths: list[FieldPath] = []
        any_json = {one["format"] for one in self.tree["streams"].values() or [self.tree["stream"]]} == {"fields"}
        for name, board in self.tree["boards"].items():
            text, path = board["field"], f"boards.{name}.field"
            if path in self.wrong:
                continue
            if not text and name not in FIELDS:
                known = _suggestion(name, FIELDS)
                self._wrong(f"boards.{name}", f"has no field: author, hashtags, or a path such as user.lang{known}")
            elif meant := _MEANT.get(text):
                self._wrong(path, f"{text!r} may be meant as {meant!r}; for a path write '.{text}'")
            elif text in FIELDS.values() and any_json:
                self._wrong(path, f"{text!r} is what other formats know; of fields write '.{text}'")
            elif text and text not in FIELDS.values():
                try:
                    Fields([*paths, FieldPath(text)])
                except ValueError as error:
                    self._wrong(path, str(error))
                else:
                    paths.append(FieldPath(text))
        if any_json and not self.wrong:
            self._only_fields(paths)

    def _board_stores(self) -> None:
        """Look for boards of leaders that would count down: a leader who falls cannot be told from the rest."""
        for name, board in self.tree["boards"].items():
            for key in ("forget", "max_members"):
                if board["store"] == "leaders" and board[key]:
                    self._wrong(f"boards.{name}.store", f"'leaders' does not go together with {key}")

    def _only_fields(self, paths: Sequence[FieldPath]) -> None:
        """Look at what goes together with no other format than `fields`."""
        if not paths:
            example = '[boards.usernames] field = "user.name"'
            self._wrong("stream.format", f"'fields' needs a board that says what it counts, such as {example}")
        if self.tree["filter"]["languages"]:
            self._wrong("filter.languages", "the format 'fields' knows no languages")
        if not self.tree["filter"]["bots"]:
            self._wrong("filter.bots", "the format 'fields' knows no bots")
        for name, board in self.tree["boards"].items():
            for key, what in (("once_per_author", "authors"), ("forget", "posts that are gone")):
                if board[key]:
                    self._wrong(f"boards.{name}.{key}", f"the format 'fields' knows no {what}")

    def _streams(self) -> None:
        default = msgspec.to_builtins(StreamSettings())
        for path in self.labels:
            section, _, key = path.partition(".")
            if section == "stream" and (
                self.tree["stream"][key] != default[key] or self.labels[path].startswith(("--", "TWEETBOARD_STREAM_"))
            ):
                self._wrong(path, "does not go together with tables [streams.NAME]: put it into one of them")
        names, places = dict[str, str](), dict[str, str]()
        for table, stream in self.tree["streams"].items():
            if f"streams.{table}.url" in self.wrong:
                continue
            if stream["url"] == DEMO:
                self._wrong(f"streams.{table}.url", "is missing, or demo:, which is only shown alone")
                continue
            other = names.setdefault(stream_name(StreamSettings(url=stream["url"], name=stream["name"])), table)
            key = "name" if stream["name"] else "url"
            if other == table:
                other, key = places.setdefault(same_place(stream["url"]), table), "url"
            if other != table:
                self._wrong(f"streams.{table}.{key}", f"is that of streams.{other} too: each post would count twice")

    def _wrong(self, path: str, line: str) -> None:
        table = path.rpartition(".")[0]
        label = self.labels.get(path) or self.labels.get(table) or "settings"
        self.problems.append(f"{label}: {path}: {line}")


def _defaults(kind: str, name: str) -> dict[str, Any]:
    """Give what a table of the user's choosing begins with."""
    settings = BoardSettings(key=f"{name}_scoreboard") if kind == "boards" else StreamSettings()
    defaults: dict[str, Any] = msgspec.to_builtins(settings)
    return defaults
