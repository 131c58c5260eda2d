"""The words and the people of the demo: what they are called, what they care about, and what they say.

What belongs here: word lists, and the making of names out of them. What must not: time, or how a post looks on the wire
(simulate.py). Keep all of it harmless: a stranger's first look at the project is made of these words, on a big screen.
"""

import random
from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

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


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _theme(emoji: str, tags: str, things: str, doings: str, sayings: str, lang: str = "en") -> Theme:
    return Theme(emoji, _words(tags), _words(things), _words(doings), _lines(sayings), lang)


WEEKDAY = "(weekday)"  # stands for the hashtag of the day, of which each weekday has its own
WEEKDAYS = _words(
    "MondayMotivation TastyTuesday WednesdayWisdom ThrowbackThursday FridayFeeling SlowSaturday SundayFunday"
)

THEMES = (
    _theme(
        "☕",
        "Coffee FlatWhite Espresso LatteArt PourOver ColdBrew CoffeeBreak MokaPot",
        "crema beans espresso mokapot cortado roast",
        "brews roasts pours",
        """First cup done, now I can pretend to be a morning person.
        The new roast tastes of plums and good decisions.
        Dialled in the grinder at last. It only took eleven shots.
        Whoever invented the second coffee deserves a statue.
        My latte art is a leaf if you tilt your head.
        Quiet cafe, window seat, rain outside. Nobody move.""",
    ),
    _theme(
        "🐍",
        "Python asyncio OpenSource pytest TypeHints CodeReview TIL DevLife",
        "pixel lambda monday_build bytecode semicolon tuple",
        "codes ships debugs types",
        """Deleted four hundred lines today and everything still works.
        The bug was in the comment. I had believed the comment.
        Wrote the test first. It failed for a reason I did not expect, which is why we write the test first.
        Three hours of debugging, one character of diff.
        My type checker and I are friends again.
        Release is out. Small, boring, and I am proud of it.
        Today I learned what the second argument of iter() is for.""",
    ),
    _theme(
        "📊",
        "Redis SelfHosted Postgres DataViz SQLite Linux PubSub OpenData",
        "sortedset replica uptime cronjob dashboard rackroom",
        "queries plots hosts",
        """Moved the leaderboard into a sorted set and went home early.
        The old laptop under the stairs has been up for 1,000 days.
        A good chart needs one sentence and no legend.
        Backups are only backups once you have restored one. Today we did!
        The cache was right. It is always the cache, except today.
        Put my bookshelf into a database. Regret nothing.""",
    ),
    _theme(
        "\u26bd",
        "Matchday FootballEvening AwayDays GrassrootsFootball CleanSheet HalfTime ExtraTime WomensFootball",
        "terrace crossbar halfway corner touchline",
        "on_tour chants in_goal",
        """Scarf on, pie in hand, hope restored.
        Under 12s won 1-0 and celebrated as if it were the cup.
        What a save. What. A. Save.
        Four hours on a bus for a goalless draw, and I would do it again.
        The floodlights are on and so is my heart rate.
        Full voice at kick-off, no voice at half time.""",
    ),
    _theme(
        "🧗",
        "Climbing Bouldering CragDay SendIt TradClimbing HangBoard Belay RestDay",
        "crimp sloper chalkbag arete crux",
        "climbs belays boulders",
        """Fell off the last move four times. The fifth one counts.
        Rock is dry, rope is packed, see you at the crag.
        New shoes: half a grade better, two sizes too small.
        Someone flashed my project while I was tying my shoes.
        Fingers sore, spirits high.
        The best beta came from a nine year old.""",
    ),
    _theme(
        "🌱",
        "Gardening Tomatoes GrowYourOwn Allotment Compost Dahlias SeedSwap NoDig",
        "compost dahlia fern trellis seedling marrow moss",
        "grows digs prunes",
        """The first tomato of the year was eaten standing up, still warm.
        The slugs have sent a thank-you card for the lettuce.
        Swapped a bag of beans for six dahlias. Best trade of the season.
        Turned the compost and met a very calm toad.
        Nothing came up, nothing came up, everything came up.
        One courgette plant is enough. I have planted four.""",
    ),
    _theme(
        "🥐",
        "Baking Sourdough CinnamonBuns StarterLife RyeBread PieCrust Croissants",
        "crumb starter ryeloaf proofing bun",
        "bakes kneads proves",
        """The starter has doubled. So has my confidence.
        Cinnamon buns at seven, none left at ten past.
        Open crumb, crackling crust, flour on the ceiling.
        Left the dough overnight and it tried to leave the bowl.
        The neighbours have noticed when I bake. Suspiciously friendly today.""",
    ),
    _theme(
        "📚",
        "AmReading BookClub PoetryDaily LibraryHaul ShortStories FirstLines Paperback",
        "margin chapter bookmark paperback verse",
        "reads annotates",
        """One more chapter, I said, three chapters ago.
        The library had it. The library always has it.
        Book club lasted four hours and nobody mentioned the book.
        Found a bus ticket from 1974 as a bookmark. Somebody stopped at page 60.
        That last line. I have been staring at the wall since.""",
    ),
    _theme(
        "🐦",
        "Birding GardenBirds Swifts Owls Migration WetlandWatch Goldfinch",
        "wren siskin heron swift goldcrest",
        "birds watches",
        """The swifts are back over our street!
        Heron on the canal, entirely unimpressed by the morning traffic.
        Eleven goldfinches on one feeder and a very cross robin.
        Stood in a marsh for two hours. Saw one bird. Perfect.
        An owl called at four and I was awake to hear it.""",
    ),
    _theme(
        "🚂",
        "Trains SleeperTrain SlowTravel RailPass NightFerry BranchLine Timetable",
        "platform siding signalbox sleeper viaduct",
        "by_rail travels",
        """Woke up in another country with the curtain open and the sea beside the track.
        Four changes, five minutes each, all made. I am invincible.
        The branch line runs twice a day and the driver waves.
        Night ferry, top bunk, engine humming.
        A good timetable is the best kind of poetry.""",
    ),
    _theme(
        "🚲",
        "Cycling BikeCommute Gravel CargoBike HillRepeats CycleTouring",
        "spoke derailleur gravel tailwind pannier",
        "rides pedals",
        """Tailwind both ways. I do not ask how.
        Two kids, one cello and a week of shopping: the cargo bike does it all.
        The hill won again.
        Fixed a puncture in the rain in nine minutes. Personal best.
        Got lost on purpose. Best forty kilometres of the month.""",
    ),
    _theme(
        "🎶",
        "NowPlaying Vinyl Jazz ChoirPractice OpenMic Synths CrateDigging",
        "bside tapeloop reverb vinyl oboe",
        "hums plays sings",
        """Side B, track 3. Trust me.
        Found it at last, for two coins, at the bottom of the last crate.
        The altos were right all along.
        Open mic tonight: three songs, two chords, one nervous me.
        Bought a synthesizer to make one sound. It makes the sound.""",
    ),
    _theme(
        "🪐",
        "Astronomy Stargazing Moon Jupiter DeepSky Saturn StarParty",
        "perigee nebula orbit umbra comet",
        "stargazes looks_up",
        """Saturn's rings through my own telescope. I may have shouted.
        Clouds from nine to four. Clear at five, of course.
        Four moons of Jupiter in a row, like beads.
        Showed the whole street the Moon tonight.
        That light left before anybody had written anything down.""",
    ),
    _theme(
        "🏺",
        "Pottery Knitting KilnDay Glaze Crochet WheelThrown YarnStash",
        "kiln glaze yarn stitch claypot",
        "throws knits mends",
        """Opened the kiln with my eyes closed. You can look now.
        The glaze came out sea green. I had mixed brown.
        Just one more row, at half past midnight.
        This mug leans. It has character.
        Unravelled the whole sleeve. It is fine. I am fine.""",
    ),
    _theme(
        "📷",
        "Photography GoldenHour FilmPhotography 35mm StreetPhoto Darkroom FoggyMorning",
        "aperture shutter halide contact grain",
        "frames develops",
        """Waited an hour for the light. It stayed for eight seconds.
        Thirty-six frames, one keeper, no regrets.
        The fog did all the work this morning.
        First print in the new darkroom, still dripping.
        Left the camera at home today. Saw everything, of course.""",
    ),
    _theme(
        "🐾",
        "CatsOfTwitter DogsOfTwitter RescueDog Caturday Zoomies Pawtrait",
        "whisker biscuit tabby otter paw",
        "and_dog walks",
        """He has brought me the same stick for two hours.
        The cat has moved into the box. The new bed is still in its wrapping.
        One year since she came home with us from the shelter.
        Zoomies at three in the morning, asleep at nine. What a life.
        Sat down for a minute. There is a cat on me now. I live here.""",
    ),
    _theme(
        "🌅",
        f"{WEEKDAY} GoodMorning SmallWins TeaTime Sunrise Gratitude WordOfTheDay Rain",
        "sunday teapot pebble umbrella lantern",
        "at_home daily",
        """Windows open, radio on, nowhere to be until ten.
        Small win: the drawer that has stuck since March no longer sticks.
        Today's word is petrichor. Went outside to check. Confirmed.
        Called my grandmother. She had news. All of it.
        Be kind, drink water, reply to that one message.""",
    ),
    _theme(
        "♟️",
        "Chess BoardGames Crossword Endgame BlitzNight PuzzleTime",
        "gambit rook endgame meeple zugzwang",
        "castles puzzles",
        """Up a queen, out of time. That is blitz.
        Nine across has been living in my head since breakfast.
        The rules took an hour, the game took twenty minutes, we play again tomorrow.
        Rook endgames: simple, they said.
        She let me win for years. I have the scorebooks.""",
    ),
    _theme(
        "🥾",
        "Hiking TrailRunning ColdSwim OpenWater SummitDay 10kSunday",
        "cairn summit contour tarn ridge",
        "hikes runs swims",
        """Two degrees in the lake, one very loud person in it.
        Above the clouds by nine, back for lunch.
        Slowest 10k of the year, best view of the year.
        The map said path. The map was optimistic.
        Dry socks are the greatest invention of mankind.""",
    ),
    _theme(
        "🍵",
        "コーヒー 猫 おはよう 読書 写真好きな人と繋がりたい",
        "kissa neko hanami yunomi komorebi",
        "to_neko desu",
        """今日のコーヒーは格別においしい。
        窓辺で猫が寝ています。
        おはようございます。いい天気ですね。
        雨の日は本を読むのがいちばん。
        朝の光がきれいでした。""",
        "ja",
    ),
    _theme(
        "🌻",
        "café jardín montaña BuenosDías fútbol",
        "huerta sendero terraza cafetal",
        "en_ruta lee",
        """El primer café de la mañana sabe a gloria.
        ¡Por fin florecieron los girasoles!
        Subimos antes del amanecer y valió la pena.
        Buenos días a todos, menos al despertador.
        Domingo, sol y partido con los amigos.""",
        "es",
    ),
    _theme(
        "🌙",
        "قهوة صباح_الخير كتب",
        "qahwa waraq nakhla",
        "wa_qahwa",
        """صباح جميل مع فنجان قهوة.
        كتاب جديد وشاي ساخن.
        صباح الخير يا أصدقاء.""",
        "ar",
    ),
    _theme(
        "🌼",
        "चाय नमस्ते किताबें बारिश",
        "chai kitab baarish",
        "ki_chai",
        """बारिश और गरम चाय, और क्या चाहिए।
        सबको सुप्रभात।
        आज एक नई किताब शुरू की।""",
        "hi",
    ),
    # U+200C, the zero-width non-joiner, is part of how these Persian words are spelled: boards must keep it.
    _theme(
        "🍃",
        "کتاب\u200cخوانی چای صبح\u200cبخیر",
        "ketab chaikhane bahar",
        "va_chai",
        """یک فنجان چای و یک کتاب خوب.
        صبح همگی بخیر.
        امروز هوا خیلی خوب است.""",
        "fa",
    ),
    _theme(
        "🥨",
        "Frühstück Gemüsegarten Bücher Käsekuchen",
        "brezel kuchen schrebergarten",
        "liest",
        """Frische Brezeln, starker Kaffee, Fenster auf.
        Die Radieschen sind da!
        Nur noch ein Kapitel. Wirklich.
        Das Rezept meiner Oma, endlich gelungen.""",
        "de",
    ),
)

# Invented clubs: a match's hashtag is two of them. Names of real ones would put real results on the wall.
CLUBS = _words("Millbrook Eastmoor Saltby Fernley Norvale Harwick Ashcombe Tidewell")
_MATCH = """
And we are off!
GOAL! GOAL! GOAL!
Off the post! How did that stay out?
Penalty. I cannot watch. Somebody tell me.
What a start to this match.
That pass. Frame it.
The keeper is having the game of her life.
Equaliser! My neighbours now know my name.
Best half of football in years.
The whole terrace is singing.
"""


def _event(tag: str, about: str, sayings: str) -> Event:
    return Event(tag, next(theme for theme in THEMES if about in theme.tags), tuple(sayings.split(" / ")))


EVENTS = (
    _event(
        "NorthernLights",
        "Astronomy",
        "Look north. Now! / Green all the way up to the zenith. / The whole sky is moving. / Wake the children!",
    ),
    _event(
        "PyReleaseDay",
        "Python",
        "It is tagged! / Wheels are up, changelog is readable. / All tests green on the new release. / Thank you all!",
    ),
    _event(
        "FirstSnow",
        WEEKDAY,
        "It is snowing! / Big slow flakes over the harbour. / School run by sledge. / Everything is quiet and white.",
    ),
    _event(
        "ChessFinal",
        "Chess",
        "She sacrificed the queen! / Thirty seconds left on the clock. / Mate in four, and she saw it. / What a final.",
    ),
    _event(
        "DoubleRainbow",
        "Photography",
        "Two of them, all the way across! / Everybody is outside. / Run to a window. / The second one is reversed!",
    ),
    _event(
        "BigBake",
        "Baking",
        "The tower is leaning. IT IS LEANING. / Nine layers! / It set! It actually set! / Tears over a meringue.",
    ),
    _event(
        "Liftoff",
        "Astronomy",
        "And it is flying! / Clean separation. / That sound, even through the screen. / Orbit. What a sight.",
    ),
)

# Each climbs for ten minutes, one after the other, so that the trending board has a story to tell.
RISING = _words("SilentBookClub RepairCafe TinyGarden NightWalks OneLinePoem LetterWriting MossSpotting PorchSongs")
RISING_SAYINGS = _lines(
    """Trying this for the first time. Who else?
    Day three and I am hooked.
    Everyone I know seems to be doing it.
    How did I not know about this?
    Joining in, quietly."""
)

REPLIES = _lines(
    """Same here!
    Oh, that is lovely.
    Where is this?
    Congratulations!
    Saving this for the weekend.
    You have convinced me.
    More of this, please.
    I needed that today, thank you.
    Tell us how it went!
    Strongly agree."""
)

FIRST_NAMES = _words(
    """
    marta jonas ines noor elif tomas aiko bram chidi dalia emeka farah greta hugo imani jiro kavya lena mateo nadia olu
    petra quinn rafa sana theo uma viktor wanda ximena yuki zoe anselm bea callum dina enzo freya goran hana idris juno
    kofi lucia milo nils orla paolo rosa sven tamar ugo vera wren yara zain ayo bodil cleo
"""
)
ADJECTIVES = _words("quiet slow little sleepy daily tiny foggy northern lucky rusty velvet early salty second paper")
PAPERS = _words("weekly report hour notes club post digest times")


def events(rng: random.Random) -> Iterator[Event]:
    """Invent what happens in town, for ever: first a match, then whatever comes, nothing twice in a row."""
    others = cycle(rng.sample(EVENTS, len(EVENTS)))
    while True:
        home, guests = rng.sample(CLUBS, 2)
        yield _event(f"{home}Vs{guests}", "Matchday", " / ".join(_lines(_MATCH)))
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
