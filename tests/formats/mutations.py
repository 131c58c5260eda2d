"""Damaged records: bytes, cuts, line ends and values that no source should send, drawn from a seeded generator."""

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

WRONG_TYPES: Final = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b"1e999", b"9" * 400, b'""', b'"x"', b'"\\ud800"', b'"\xff"'),
    *(b"[]", b"{}", b"[null]", b"[{}]", b'["x", 1]', b'{"id": 1}', b"[" * 600 + b"]" * 600),
)
"""Raw JSON, and what only looks like it, for any place in a record."""

ODD_VALUES: Final = (
    *WRONG_TYPES,
    *(b"false", b"-1e-999", b"1" + b"0" * 30, b"-" + b"9" * 5_000, b"nan", b"01", b""),
    *(b'"#x"', b'"\\u0000"', b'"\\udc00\\ud83d"', b'"\xed\xa0\x80"', b'"a\nb"', b'"' + b"\xc3\xbc" * 300 + b'"'),
    *(
        b"[[]]",
        b'[{"tag": 1}]',
        b'[{"features": 1}]',
        b'{"a":' * 600 + b"1" + b"}" * 600,
        b"[" * 20_000 + b"]" * 20_000,
    ),
)

_TOKENS: Final = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\\",
    b"\\ud800",
    b"\xff",
    b"\xe2\x82",
    b"\0",
    b"\xef\xbb\xbf",
)
_BREAKS: Final = (b"\n", b"\r\n", b"\r", b"\n\r\n")
_AGAIN: Final = b"\\u0001again"


def mutated(record: bytes, rng: random.Random) -> bytes:
    """Damage a record, mostly once; what comes out may be several lines, or none."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            record = rng.choice(_MUTATIONS)(record, rng)
        except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError, IndexError):
            continue  # an earlier mutation left nothing for this one
    return record


def containers(value: object) -> Iterator[Any]:
    """Go through a JSON value's objects and lists, itself first, empty ones left out."""
    if isinstance(value, dict | list) and value:
        yield value
        for below in value.values() if isinstance(value, dict) else value:
            yield from containers(below)


def places_of(container: Any) -> list[Any]:  # noqa: ANN401 - any JSON
    return list(container) if isinstance(container, dict) else list(range(len(container)))


def _inside(change: Callable[[Any, random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    """Make a mutation of a change to one object or list within a record."""

    def mutation(record: bytes, rng: random.Random) -> bytes:
        whole = msgspec.json.decode(record)
        change(rng.choice(list(containers(whole))), rng)
        # Python's objects cannot have a key twice; the second has a mark that is taken away here.
        return msgspec.json.encode(whole).replace(_AGAIN, b"")

    return mutation


def _odd_value(container: Any, rng: random.Random) -> None:  # noqa: ANN401
    container[rng.choice(places_of(container))] = msgspec.Raw(rng.choice(ODD_VALUES))


def _missing(container: Any, rng: random.Random) -> None:  # noqa: ANN401
    del container[rng.choice(places_of(container))]


def _swapped(container: Any, rng: random.Random) -> None:  # noqa: ANN401
    one, other = rng.choice(places_of(container)), rng.choice(places_of(container))
    container[one], container[other] = container[other], container[one]


def _doubled_key(container: Any, rng: random.Random) -> None:  # noqa: ANN401
    if isinstance(container, dict):
        key = rng.choice(list(container))
        container[f"{key}\1again"] = rng.choice((container[key], msgspec.Raw(rng.choice(ODD_VALUES))))


def _shuffled_keys(container: Any, rng: random.Random) -> None:  # noqa: ANN401
    if isinstance(container, dict):
        pairs = list(container.items())
        rng.shuffle(pairs)
        container.clear()
        container.update(pairs)


def _flipped(record: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(record)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _cut(record: bytes, rng: random.Random) -> bytes:
    start, stop = sorted((rng.randrange(len(record) + 1), rng.randrange(len(record) + 1)))
    return rng.choice((record[:start], record[stop:], record[:start] + record[stop:], record[:stop] + record[start:]))


def _with_token(record: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(record) + 1)
    return record[:start] + rng.choice((*_TOKENS, rng.randbytes(3))) + record[start + rng.randrange(2) :]


def _over_lines(record: bytes, rng: random.Random) -> bytes:
    """Break the line anywhere, or where JSON may have a space."""
    starts = [place for place, byte in enumerate(record) if byte in b",:{"]
    start = rng.choice((rng.choice(starts) + 1, rng.randrange(len(record) + 1)))
    return record[:start] + rng.choice(_BREAKS) + record[start:]


def _two_on_a_line(record: bytes, rng: random.Random) -> bytes:
    return record + rng.choice((b"", b" ", b",", b"\r", b"\t\r")) + rng.choice((record, b"{}", b"\r", b"]"))


_MUTATIONS: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    *map(_inside, (_odd_value, _odd_value, _odd_value, _missing, _swapped, _doubled_key, _shuffled_keys)),
    *(_flipped, _cut, _with_token, _over_lines, _two_on_a_line),
)
