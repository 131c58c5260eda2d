"""Invented posts in the shape of X's v2 stream, some 0.9 KB each, and an independent count of what they say."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

LAST_AUTHOR: Final = "the_last_post"
LAST_TAG: Final = "thelastpost"
"""Names that only the last post of a file has: batches are applied in order, so when it counts, all before it do."""

TAGS: Final = 50_000
TAG_EXPONENT: Final = 1.0
TAGS_A_POST: Final = {0: 62, 1: 22, 2: 10, 3: 6}
"""How many hashtags so many posts of a hundred have: 0.6 on average."""

POSTS_A_SECOND: Final = 5_000
"""By the posts' own times, so that a batch holds several seconds of them."""

BEGIN_S: Final = 1_760_000_000
SEED: Final = 20251122
FIRST_ID: Final = 1_976_200_000_000_000_000

SENTENCES: Final = (
    "The early train was late again, but the coffee at the station made up for most of it.",
    "Nobody told me that moving house means finding eleven phone chargers and not one of them fits!",
    "Tonight's match went into extra time and I am far too old for this kind of excitement.",
    "If you have never seen the harbour at six in the morning, put it on your list. Worth the alarm clock.",
    "Three days of rain and the tomatoes have doubled in size. I take back everything I said about the weather.",
    "Reading the new report on the housing market. Page one and I already need a walk. More later in this thread.",
)
ANNOTATIONS: Final = (
    '"context_annotations":[{"domain":{"id":"66","name":"Interests and Hobbies Category","description":"A grouping of '
    'interests and hobbies entities, like Novelty Food or Destinations"},"entity":{"id":"853980498816679937",'
    '"name":"Dogs","description":"Dogs"}}],'
)


@dataclass(frozen=True)
class Population:
    """Who posts: the author of rank r does so with weight r ** -exponent; 0 is all the same."""

    label: str
    authors: int
    exponent: float


ZIPF: Final = Population("Zipf, exponent 1, over 200,000 authors", 200_000, 1.0)
UNIFORM: Final = Population("uniform over 1,000,000 authors", 1_000_000, 0.0)


@dataclass
class Posts:
    """A file of posts as HTTP chunks, one each, and what they amount to."""

    path: Path
    count: int
    size_bytes: int = 0
    usernames: Counter[str] = field(default_factory=Counter)
    hashtags: Counter[str] = field(default_factory=Counter)

    @property
    def names(self) -> int:
        return self.usernames.total() + self.hashtags.total()

    @property
    def mean_bytes(self) -> float:
        return self.size_bytes / self.count


def write_posts(path: Path, population: Population, count: int, *, begin_s: int = BEGIN_S) -> Posts:
    """Write `count` posts, always the same; the last of them alone has `LAST_AUTHOR` and `LAST_TAG`."""
    posts = Posts(path, count)
    rng = random.Random(SEED)
    with path.open("wb") as file:
        for number, (author, tags) in enumerate(_drawn(population, count, rng)):
            line = render(number, author, tags, kind=rng.randrange(20), begin_s=begin_s)
            posts.size_bytes += file.write(b"%x\r\n%b\r\n" % (len(line), line))
            posts.usernames[author] += 1
            posts.hashtags.update({tag.lower() for tag in tags})
    return posts


def render(number: int, author: str, tags: tuple[str, ...], *, kind: int, begin_s: int = BEGIN_S) -> bytes:
    """Write one post as X sends it: of 20 kinds, 2 are retweets, 3 are answers and 5 are annotated."""
    post_id, author_id = FIRST_ID + number * 4194304 // POSTS_A_SECOND, 100_000_000 + _number_of(author)
    created = datetime.fromtimestamp(begin_s + number // POSTS_A_SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    text = SENTENCES[number % len(SENTENCES)] + "".join(f" #{tag}" for tag in tags)
    entities = _entities(text, tags)
    users, tweets, extra = f"[{_user(author_id, author)}]", "", ""
    if kind < 2:
        original = f'"id":"{post_id - 999}","author_id":"{author_id - 7}","created_at":"{created}","lang":"en"'
        tweets = f',"tweets":[{{{original},{entities},"text":"{text}"}}]'
        users = f"[{_user(author_id, author)},{_user(author_id - 7, 'another_one')}]"
        extra = f'"referenced_tweets":[{{"type":"retweeted","id":"{post_id - 999}"}}],'
        text, entities = f"RT @another_one: {text}"[:100] + "…", '"entities":{}'
    elif kind < 5:
        extra = f'"in_reply_to_user_id":"77","referenced_tweets":[{{"type":"replied_to","id":"{post_id - 999}"}}],'
    elif kind < 10:
        extra = ANNOTATIONS
    return (
        f'{{"data":{{"author_id":"{author_id}","conversation_id":"{post_id}",{extra}"created_at":"{created}",'
        f'"edit_history_tweet_ids":["{post_id}"],{entities},"id":"{post_id}","lang":"en","possibly_sensitive":false,'
        '"public_metrics":{"retweet_count":0,"reply_count":0,"like_count":0,"quote_count":0,"impression_count":0},'
        f'"reply_settings":"everyone","text":"{text}"}},"includes":{{"users":{users}{tweets}}},'
        '"matching_rules":[{"id":"1377649934414049282","tag":"everything"}]}\r\n'
    ).encode()


def _entities(text: str, tags: tuple[str, ...]) -> str:
    found, at = [], 0
    for tag in tags:
        at = text.index(f"#{tag}", at)
        found.append(f'{{"start":{at},"end":{at + len(tag) + 1},"tag":"{tag}"}}')
    return f'"entities":{{"hashtags":[{",".join(found)}]}}' if found else '"entities":{}'


def _user(user_id: int, name: str) -> str:
    return (
        f'{{"created_at":"2011-10-09T20:16:10.000Z","description":"Mostly about trains, tomatoes and the sea.",'
        f'"id":"{user_id}","name":"{name.title()}","username":"{name}","verified":false,"protected":false,'
        '"public_metrics":{"followers_count":4485,"following_count":2934,"tweet_count":51498,"listed_count":145}}'
    )


def _number_of(name: str) -> int:
    """Make an account's number from its name, the same in every run."""
    return sum(map(ord, name)) * 7919 + len(name)


def _drawn(population: Population, count: int, rng: random.Random) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Draw each post's author and hashtags; a hashtag is always spelled the same, one in ten in Japanese."""
    tag_weights = list(itertools.accumulate(rank**-TAG_EXPONENT for rank in range(1, TAGS + 1)))
    numbers = rng.choices(range(4), list(TAGS_A_POST.values()), k=count - 1)
    tags = iter(rng.choices(range(TAGS), cum_weights=tag_weights, k=sum(numbers)))
    if population.exponent:
        weights = itertools.accumulate(rank**-population.exponent for rank in range(1, population.authors + 1))
        authors = rng.choices(range(population.authors), cum_weights=list(weights), k=count - 1)
    else:
        authors = [rng.randrange(population.authors) for _ in range(count - 1)]
    for author, number in zip(authors, numbers, strict=True):
        yield f"town{author % 97}_{author}", tuple({_tag(tag): None for tag in itertools.islice(tags, number)})
    yield LAST_AUTHOR, (LAST_TAG,)


def _tag(rank: int) -> str:
    return (f"話題{rank}", f"Topic{rank}", f"NewsAt{rank}")[0 if rank % 10 == 9 else 1 + rank % 2]
