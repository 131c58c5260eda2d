"""Paths into any JSON, such as `user.screen_name` or `quotes[].symbol`, compiled into Structs of those keys alone.

What lives here: reading a path, and the names that stand where it leads, both pure. What must not: what is done with
them (fields.py is the format that is made of nothing else; decoding.py reads them beside another format).
"""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

_ANY: Final = msgspec.json.Decoder()

MAX_STEPS: Final = 32
"""No record is nested deeper than that on purpose."""

_STEP: Final = re.compile(r'([^.\[\]\s"\\\x00-\x1f]+)(\[\])?')  # msgspec takes no other key

Names = tuple[tuple[str, ...], ...]
"""For each path, what stands there."""


class Path(NamedTuple):
    """Where a board's names stand in a record; `are_tags` where they are cleaned as hashtags are."""

    text: str
    are_tags: bool = False


class Fields:
    """The names at `paths` of a record; `record` is the Struct that decodes it.

    Raises `ValueError` for a path that is none, or that wants another shape at some key than one before it.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._root = root = _Object(is_list=False)
        self._readers = [_reader([attrgetter(part) for part in root.add(path.text)]) for path in paths]
        self.record = root.struct()
        # Without the hook a number out of range, such as 1e999, would cost the whole record.
        self._json = msgspec.json.Decoder(self.record, float_hook=float)

    def names(self, record: object) -> Names:
        """Read the names at each path, once each, as they are spelled; "" stands for what can be no name."""
        return tuple([read(record) for read in self._readers])

    def names_in(self, data: bytes) -> Names:
        """Decode a record and read its names; raises what msgspec raises, and `RecursionError`."""
        try:
            record = self._json.decode(data)
        except msgspec.ValidationError:
            record = self.lenient(data)
        return self.names(record)

    def lenient(self, data: bytes) -> Any:  # noqa: ANN401 - an instance of `record`, None for what is no object
        """Decode a record in which something on the way is of another shape: nothing stands there, the rest does.

        Raises what msgspec raises, and `RecursionError`.
        """
        return self._root.of(_ANY.decode(data))

    @property
    def no_names(self) -> Names:
        """What a record has that has nothing at any path."""
        return ((),) * len(self.paths)


class _Object:
    """What is read of a JSON object, or of each in a list: by key an object further down, or None for names."""

    def __init__(self, *, is_list: bool) -> None:
        self.is_list = is_list
        self.below: dict[str, _Object | None] = {}
        self._struct = msgspec.Struct

    def add(self, text: str) -> list[str]:
        """Add a path; returns the attributes that lead there, in parts, between which a list is gone through."""
        *ways, last = parse(text)
        parts, node = [""], self
        for key, is_list in ways:
            below = node.below.setdefault(key, _Object(is_list=is_list))
            if below is None or below.is_list != is_list:
                raise ValueError(f"{text!r} and another path want different things of {key!r}")
            parts[-1] += f".{node.attribute(key)}"
            parts += [""] if is_list else []
            node = below
        if node.below.setdefault(last[0], None) is not None:
            raise ValueError(f"{text!r} and another path want different things of {last[0]!r}")
        parts[-1] += f".{node.attribute(last[0])}"
        return [part.lstrip(".") for part in parts]

    def of(self, value: object) -> Any:  # noqa: ANN401 - an instance of `struct`, or a list of them
        """Make of any JSON what `struct` would be, with None for what has another shape."""
        if self.is_list and isinstance(value, list):
            return [self._one(item) for item in value]
        return None if self.is_list else self._one(value)

    def _one(self, value: object) -> msgspec.Struct | None:
        if not isinstance(value, dict):
            return None
        found = {key: value.get(key) for key in self.below}
        return self._struct(*[found[key] if node is None else node.of(found[key]) for key, node in self.below.items()])

    def attribute(self, key: str) -> str:
        """Name what holds a key's value: a key may be spelled as no attribute can be."""
        return f"f{list(self.below).index(key)}"

    def struct(self) -> type[msgspec.Struct]:
        """Compile a Struct of these keys and no other, all of which may be missing or null."""
        fields: list[tuple[str, Any, Any]] = []
        for key, node in self.below.items():
            kind: Any = object
            if node is not None:
                kind = node.struct() | None
                kind = list[kind] | None if node.is_list else kind
            fields.append((self.attribute(key), kind, None))
        rename = {self.attribute(key): key for key in self.below}
        self._struct = msgspec.defstruct("Record", fields, rename=rename, gc=False)
        return self._struct


def parse(text: str) -> list[tuple[str, bool]]:
    """Read a path as its keys, and for each whether its value is a list (`[]`). Raises `ValueError`.

    A dot before it says that a single word is a path, and not what a format knows by that name.
    """
    found = [_STEP.fullmatch(part) for part in text.removeprefix(".").split(".")]
    steps = [(step[1], step[2] is not None) for step in found if step is not None]
    if len(steps) < len(found) or len(steps) > MAX_STEPS:
        raise ValueError(f"{text!r} is not a path such as user.screen_name or quotes[].symbol")
    return steps


def _reader(getters: Sequence[Callable[[Any], Any]]) -> Callable[[object], tuple[str, ...]]:
    """Make what reads the names at one path; most lead there without going through a list."""
    first, *more = getters

    def names(record: object) -> tuple[str, ...]:
        try:
            value = first(record)
        except AttributeError:  # something on the way there is missing
            return ()
        if more:
            value = [found for item in value or () for found in _values(item, more)]
        return (value,) if isinstance(value, str) else _spelled(value)

    return names


def _values(node: object, getters: Sequence[Callable[[Any], Any]]) -> list[Any]:
    get, *more = getters
    try:
        value = get(node)
    except AttributeError:
        return []
    if more:
        return [found for item in value or () for found in _values(item, more)]
    return value if isinstance(value, list) else [value]


def _spelled(value: object) -> tuple[str, ...]:
    """Spell the names in a value, or in each of a list, once each."""
    if value is None or value == []:
        return ()
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys([one if isinstance(one, str) else _text(one) for one in values if one is not None]))


def _text(value: object) -> str:
    """Spell what is no text: a number may be a name, what holds others is none."""
    return str(value).lower() if isinstance(value, bool | int | float) else ""
