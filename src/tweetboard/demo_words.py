"""The words and the people of the demo: what they are called, what they care about, and what they say.

What belongs here: reading the word lists (demo_words.toml), and the making of names and events out of them. What must
not: time, or how a post looks on the wire (simulate.py).
"""

import random
from collections.abc import Iterator
from importlib.resources import files
from itertools import cycle
from typing import NamedTuple

import msgspec

ACCOUNTS = 260
USERNAME_CHARS = 15  # as many as X allows


class Theme(NamedTuple):
    """Something people post about.

    `tags` stand in order of popularity; `things` and `doings` become handles (`the_kiln`, `marta_codes`); `emoji`
    decorates names; `lang` is the language of `sayings` as X spells it.
    """

    emoji: str
    tags: tuple[str, ...]
    things: tuple[str, ...]
    doings: tuple[str, ...]
    sayings: tuple[str, ...]
    lang: str = "en"


class Event(NamedTuple):
    """Something that makes everybody post at once, and the people of its theme most of all."""

    tag: str
    theme: Theme
    sayings: tuple[str, ...]


class Account(NamedTuple):
    """One of the town's invented people, and what they mostly post about."""

    id: str
    username: str
    name: str
    theme: Theme


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    """The file's shape; words stand side by side in one text."""

    weekdays: str
    clubs: str
    match: tuple[str, ...]
    rising: str
    rising_sayings: tuple[str, ...]
    replies: tuple[str, ...]
    first_names: str
    adjectives: str
    papers: str
    events: list["_WrittenEvent"]
    themes: list["_WrittenTheme"]


class _WrittenEvent(msgspec.Struct, forbid_unknown_fields=True):
    tag: str
    about: str
    sayings: tuple[str, ...]


class _WrittenTheme(msgspec.Struct, forbid_unknown_fields=True):
    emoji: str
    tags: str
    things: str
    doings: str
    sayings: tuple[str, ...]
    lang: str = "en"


_WRITTEN = msgspec.toml.decode((files(__package__) / "demo_words.toml").read_bytes(), type=_Written)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _event(tag: str, about: str, sayings: tuple[str, ...]) -> Event:
    return Event(tag, next(theme for theme in THEMES if about in theme.tags), sayings)


WEEKDAY = "(weekday)"  # stands for the hashtag of the day, of which each weekday has its own
WEEKDAYS = _words(_WRITTEN.weekdays)
THEMES = tuple(
    Theme(one.emoji, _words(one.tags), _words(one.things), _words(one.doings), one.sayings, one.lang)
    for one in _WRITTEN.themes
)
CLUBS = _words(_WRITTEN.clubs)
EVENTS = tuple(_event(one.tag, one.about, one.sayings) for one in _WRITTEN.events)
RISING, RISING_SAYINGS = _words(_WRITTEN.rising), _WRITTEN.rising_sayings
REPLIES = _WRITTEN.replies
FIRST_NAMES, ADJECTIVES, PAPERS = (
    _words(text) for text in (_WRITTEN.first_names, _WRITTEN.adjectives, _WRITTEN.papers)
)


def events(rng: random.Random) -> Iterator[Event]:
    """Invent what happens in town, for ever: first a match, then whatever comes, nothing twice in a row."""
    others = cycle(rng.sample(EVENTS, len(EVENTS)))
    while True:
        home, guests = rng.sample(CLUBS, 2)
        yield _event(f"{home}Vs{guests}", "Matchday", _WRITTEN.match)
        for _ in range(rng.choice((1, 1, 2))):
            yield next(others)


def settle(rng: random.Random) -> list[Account]:
    """Invent the town's people, no two with the same handle."""
    weights = [len(theme.tags) / (rank + 5) ** 0.7 for rank, theme in enumerate(THEMES)]
    themes = [*THEMES, *rng.choices(THEMES, weights, k=ACCOUNTS - len(THEMES))]  # nothing is nobody's theme
    rng.shuffle(themes)
    settled: dict[str, Account] = {}
    for theme in themes:
        username, name = _name(rng, theme)
        while len(username) > USERNAME_CHARS or username.casefold() in settled:
            username, name = _name(rng, theme)
        settled[username.casefold()] = Account(str(rng.randrange(10**8, 10**10)), username, name, theme)
    return list(settled.values())


def _name(rng: random.Random, theme: Theme) -> tuple[str, str]:
    """Invent a handle and the name shown beside it, in one of the ways in which people make up theirs."""
    first, adjective, paper = (rng.choice(some) for some in (FIRST_NAMES, ADJECTIVES, PAPERS))
    thing, other = rng.sample(theme.things, 2)
    doing = rng.choice(theme.doings)
    person = f"{first.title()} {theme.emoji}"
    ways = (
        (f"{first}_{doing}", person),
        (f"{first}{doing}".replace("_", ""), person),
        (f"{first}{rng.randrange(1964, 2004)}", first.title()),
        (f"{first}_{rng.choice('bdhklmrstvz')}", person),
        (f"{first.title()}{thing.title()}", person),
        (f"{thing}_{first}", person),
        (f"the{adjective}{thing}", f"The {adjective.title()} {thing.title()}"),
        (f"{adjective}_{thing}", f"{adjective} {thing} {theme.emoji}"),
        (f"{thing}and{other}", f"{thing.title()} & {other.title()}"),
        (f"{thing}_{paper}", f"{thing.title()} {paper.title()}"),
    )
    return rng.choice(ways)


def spelled(rng: random.Random, tag: str) -> str:
    """Spell a hashtag as somebody in a hurry might: boards must see through it."""
    lot = rng.random()
    if lot < 0.7:
        return tag
    if tag.islower():
        return tag.capitalize()
    return tag.lower() if lot < 0.93 else tag.upper()
