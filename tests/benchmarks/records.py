"""Invented records in the shapes and sizes of real streams, one writer a format, and an independent count of each.

The shares of what is no post, of retweets and of hashtags are those of live streams, roughly: X's and Bluesky's asked
for as the presets ask, v1.1 with the deletions of its sample stream.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.posts import BEGIN_S, FIRST_ID, SENTENCES
from tweetboard.framing import Block, Event

BLOCK_BYTES: Final = 65_536
"""One read of a busy stream; of a WebSocket each message is a block."""

RECORDS_A_SECOND: Final = 500
AUTHORS: Final = 200_000
TAGS: Final = 50_000
"""Both by Zipf's law, exponent 1."""

TAGS_A_POST: Final = {0: 75, 1: 13, 2: 6, 3: 4, 6: 2}
"""How many hashtags so many posts of a hundred have: 0.5 on average."""

TEXTS: Final = (
    *SENTENCES,
    "lol same",
    "本日の電車も遅れていますが、駅のコーヒーだけは相変わらず美味しいです。また明日も頑張りましょう😊✨",
    "Não acredito que já é segunda-feira outra vez, alguém me explica como o fim de semana passou tão depressa? 😂😂",
    "القطار متأخر مرة أخرى لكن القهوة في المحطة تعوض عن كل شيء تقريبا",
    "Der Zug war wieder zu spät & niemand weiß, warum. Morgen früh dann eben mit dem Fahrrad zur Arbeit.",
    "기차가 또 늦었지만 커피는 맛있었어요~~~",
)

Json = dict[str, Any]

X_V1_STATUS: Final[Json] = msgspec.json.decode(
    '{"created_at":"","id":1,"id_str":"1","text":"","source":"<a href=\\"http://twitter.com/download/iphone\\" '
    'rel=\\"nofollow\\">Twitter for iPhone</a>","truncated":false,"in_reply_to_status_id":null,'
    '"in_reply_to_status_id_str":null,"in_reply_to_user_id":null,"in_reply_to_user_id_str":null,'
    '"in_reply_to_screen_name":null,"user":{"id":1,"id_str":"1","name":"Mira 前田","screen_name":"","location":"静岡",'
    '"description":"","url":"http://t.co/5EclbQiRX4","entities":{"url":{"urls":[{"url":"http://t.co/5EclbQiRX4",'
    '"expanded_url":"http://ap.town.example/index.html","display_url":"ap.town.example/index.html","indices":[0,22]}]},'
    '"description":{"urls":[]}},"protected":false,"followers_count":1387,"friends_count":903,"listed_count":25,'
    '"created_at":"Tue Feb 16 16:13:41 +0000 2010","favourites_count":492,"utc_offset":32400,"time_zone":"Osaka",'
    '"geo_enabled":false,"verified":false,"statuses_count":12679,"lang":"ja","contributors_enabled":false,'
    '"is_translator":false,"is_translation_enabled":false,"profile_background_color":"C0DEED",'
    '"profile_background_image_url":"http://abs.twimg.com/images/themes/theme1/bg.png",'
    '"profile_background_image_url_https":"https://abs.twimg.com/images/themes/theme1/bg.png",'
    '"profile_background_tile":false,"profile_image_url":"","profile_image_url_https":"",'
    '"profile_banner_url":"https://pbs.twimg.com/profile_banners/114786346/1403600232","profile_link_color":"0084B4",'
    '"profile_sidebar_border_color":"C0DEED","profile_sidebar_fill_color":"DDEEF6","profile_text_color":"333333",'
    '"profile_use_background_image":true,"default_profile":true,"default_profile_image":false,"following":false,'
    '"follow_request_sent":false,"notifications":false},"geo":null,"coordinates":null,"place":null,"contributors":null,'
    '"retweet_count":0,"favorite_count":0,"entities":{"hashtags":[],"symbols":[],"urls":[],"user_mentions":['
    '{"screen_name":"miura","name":"miura desu","id":114188950,"id_str":"114188950","indices":[0,15]}]},'
    '"favorited":false,"retweeted":false,"lang":"ja"}'
)
MASTODON_STATUS: Final[Json] = msgspec.json.decode(
    '{"id":"1","created_at":"","in_reply_to_id":null,"in_reply_to_account_id":null,"sensitive":false,"spoiler_text":"",'
    '"visibility":"public","language":"en","uri":"","url":"","replies_count":0,"reblogs_count":0,"favourites_count":0,'
    '"edited_at":null,"content":"","reblog":null,"application":{"name":"Web","website":null},"account":{"id":"1",'
    '"username":"","acct":"","display_name":"Mira ⴳ","locked":false,"bot":false,"discoverable":true,"group":false,'
    '"created_at":"2018-08-18T00:00:00.000Z","note":"","url":"","avatar":"","avatar_static":"","header":"",'
    '"header_static":"","followers_count":37,"following_count":41,"statuses_count":18442,"last_status_at":"2025-10-09",'
    '"emojis":[],"fields":[{"name":"Website","value":"<a href=\\"https://town.example\\" target=\\"_blank\\" '
    'rel=\\"nofollow noopener noreferrer me\\"><span class=\\"invisible\\">https://</span><span>town.example</span></a>",'
    '"verified_at":"2019-08-29T04:14:55.571+00:00"},{"name":"pronouns","value":"they","verified_at":null}]},'
    '"media_attachments":[],"mentions":[],"tags":[],"emojis":[],"card":null,"poll":null}'
)
WIKIMEDIA_CHANGE: Final[Json] = msgspec.json.decode(
    '{"$schema":"/mediawiki/recentchange/1.0.0","meta":{"uri":"","id":"","dt":"","domain":"en.wikipedia.org",'
    '"stream":"mediawiki.recentchange","topic":"eqiad.mediawiki.recentchange","partition":0,"offset":1},"id":1,'
    '"type":"edit","namespace":0,"title":"","comment":"","timestamp":1,"bot":false,"minor":false,'
    '"length":{"old":1203,"new":1210},"revision":{"old":14,"new":15},"server_url":"https://en.wikipedia.org",'
    '"server_name":"en.wikipedia.org","wiki":"enwiki"}'
)


class Draw(NamedTuple):
    """What a record is to say, in whatever format; `kind`, one of a hundred, decides what else there is to it."""

    number: int
    account: int
    tags: tuple[str, ...]
    kind: int

    @property
    def author(self) -> str:
        return f"town{self.account % 97}_{self.account}"

    @property
    def other(self) -> "Draw":
        """Somebody else's older post, which this one repeats, answers or quotes."""
        return Draw(self.number - 999, self.account * 7 % AUTHORS + 1, self.tags, 99)

    @property
    def text(self) -> str:
        return TEXTS[self.number % len(TEXTS)] + "".join(f" #{tag}" for tag in self.tags)

    @property
    def id(self) -> str:
        return str(FIRST_ID + self.number * 4_194_304 // RECORDS_A_SECOND)

    def at(self, how: str) -> str:
        return datetime.fromtimestamp(BEGIN_S + self.number // RECORDS_A_SECOND, UTC).strftime(how)

    @property
    def hashed(self) -> str:
        """Digits as ids and file names have them, 32 of them."""
        return f"{(self.account * 1_000_003 + self.number) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"


class Written(NamedTuple):
    """A record; `author` is "" where it is no post."""

    json: object
    author: str = ""
    tags: tuple[str, ...] = ()
    event: str = "message"


@dataclass
class Stream:
    """Blocks of a format's records, and what they amount to."""

    blocks: list[Block]
    size_bytes: int
    posts: int
    authors: Counter[str]
    hashtags: Counter[str]


def stream_of(name: str, records: int, seed: int = 20251122) -> Stream:
    """Write a format's records; the same seed, the same bytes."""
    written = list(WRITERS[name](_drawn(records, random.Random(seed))))
    texts = [msgspec.json.encode(record.json) for record in written]
    events = [Event(record.event, text, "") for record, text in zip(written, texts, strict=True)]
    if name == "bluesky":
        blocks = [Block(events=[event]) for event in events]
    elif name in ("mastodon", "wikimedia"):
        blocks = [Block(events=group) for group in _in_blocks(events)]
    else:
        blocks = [Block(b"".join(event.data + b"\r\n" for event in group)) for group in _in_blocks(events)]
    authors = Counter(record.author for record in written if record.author)
    hashtags = Counter(tag.lower() for record in written for tag in record.tags)
    return Stream(blocks, sum(map(len, texts)), authors.total(), authors, hashtags)


def _drawn(count: int, rng: random.Random) -> Iterator[Draw]:
    numbers = rng.choices(list(TAGS_A_POST), list(TAGS_A_POST.values()), k=count)
    for number, tags in enumerate(numbers):
        spelled = {_tag(int(TAGS ** rng.random())): None for _ in range(tags)}
        yield Draw(number, int(AUTHORS ** rng.random()), tuple(spelled), rng.randrange(100))


def _tag(rank: int) -> str:
    return (f"話題{rank}", f"Topic{rank}", f"NewsAt{rank}")[0 if rank % 10 == 9 else 1 + rank % 2]


def _in_blocks(events: Iterable[Event]) -> Iterator[list[Event]]:
    sizes = itertools.accumulate((len(event.data) for event in events), initial=0)
    for _, group in itertools.groupby(zip(events, sizes, strict=False), lambda pair: pair[1] // BLOCK_BYTES):
        yield [event for event, _ in group]


def flat(draws: Iterable[Draw]) -> Iterator[Written]:
    """Write what a producer of one's own would."""
    for draw in draws:
        yield Written({"username": draw.author, "hashtags": draw.tags}, draw.author, draw.tags)


def fields(draws: Iterable[Draw]) -> Iterator[Written]:
    """Write any JSON, of which a user's name and the tags stand somewhere."""
    for draw in draws:
        user = {"id": draw.account, "screen_name": draw.author, "verified": draw.kind < 5}
        text = {"body": draw.text, "tags": draw.tags, "length": len(draw.text)}
        yield Written({"at": BEGIN_S + draw.number // 50, "user": user, "message": text}, draw.author, draw.tags)


def x_v2(draws: Iterable[Draw]) -> Iterator[Written]:
    """Write posts with the preset's fields: of 100, 35 are retweets, 20 answers and 5 quotes; one has no user."""
    for draw in draws:
        tweet, users, tweets = _x_v2_tweet(draw), [_x_v2_user(draw)], []
        reference = {0: "retweeted", 1: "replied_to", 2: "quoted"}.get((draw.kind >= 35) + (draw.kind >= 55), "")
        if draw.kind < 60:
            tweet["referenced_tweets"] = [{"type": reference, "id": draw.other.id}]
            tweets = [_x_v2_tweet(draw.other)]
            users.append(_x_v2_user(draw.other))
        if reference == "retweeted" and draw.kind < 35:
            tweet["text"] = f"RT @{draw.other.author}: {draw.text}"[:100] + "…"
            tweet["entities"] = {"mentions": [{"start": 3, "end": 15, "username": draw.other.author, "id": "12"}]}
        includes = {"users": users[draw.kind == 99 :]} | ({"tweets": tweets} if tweets else {})
        rules = [{"id": "1377649934414049282", "tag": "everything"}]
        author = draw.author if draw.kind != 99 else f"id:{draw.account}"
        yield Written({"data": tweet, "includes": includes, "matching_rules": rules}, author, draw.tags)


def _x_v2_tweet(draw: Draw) -> Json:
    entities: Json = {}
    if draw.tags:
        entities["hashtags"] = [{"start": 70, "end": 71 + len(tag), "tag": tag} for tag in draw.tags]
    if draw.number % 3 == 0:
        entities["urls"] = [
            {"start": 89, "end": 112, "url": "https://t.co/YbMgHU5xRX", "display_url": "town.example/news/2025/11…"}
            | {"expanded_url": f"https://www.town.example/news/2025/11/{draw.hashed}", "status": 200}
            | {"title": TEXTS[draw.account % len(TEXTS)], "description": TEXTS[draw.account % 7] * 2}
        ]
    tweet = {
        "author_id": str(draw.account),
        "created_at": draw.at("%Y-%m-%dT%H:%M:%S.000Z"),
        "edit_history_tweet_ids": [draw.id],
        "id": draw.id,
        "lang": "en",
        "text": draw.text,
    }
    return tweet | ({"entities": entities} if entities else {})


def _x_v2_user(draw: Draw) -> Json:
    return {"id": str(draw.account), "name": draw.author.title() + " 💙", "username": draw.author}


def x_v1(draws: Iterable[Draw]) -> Iterator[Written]:
    """Write statuses: of 100 records 12 are deletions and one is a limit; of the statuses, a third are retweets."""
    for draw in draws:
        if draw.kind < 12:
            yield Written({"delete": {"status": {"id": int(draw.id), "id_str": draw.id, "user_id": draw.account}}})
        elif draw.kind == 12:
            yield Written({"limit": {"track": draw.number}})
        else:
            status = _x_v1_status(draw)
            if draw.kind < 42:
                status |= {"retweeted_status": _x_v1_status(draw.other), "text": f"RT @a: {draw.text}"[:139] + "…"}
                status["entities"] = status["entities"] | {"hashtags": []}
            yield Written(status, draw.author, draw.tags)


def _x_v1_status(draw: Draw) -> Json:
    hashtags = [{"text": tag, "indices": [70, 71 + len(tag)]} for tag in draw.tags]
    long = draw.kind > 85
    entities = X_V1_STATUS["entities"] | {"hashtags": [] if long else hashtags}
    images = f"http://pbs.twimg.com/profile_images/{draw.account}/{draw.hashed[:8]}_normal.jpeg"
    user = {"id": draw.account, "id_str": str(draw.account), "screen_name": draw.author, "profile_image_url": images}
    about = {"description": TEXTS[draw.account % len(TEXTS)], "profile_image_url_https": images}
    status = X_V1_STATUS | {
        "created_at": draw.at("%a %b %d %H:%M:%S +0000 %Y"),
        "id": int(draw.id),
        "id_str": draw.id,
        "text": draw.text,
        "truncated": long,
        "user": X_V1_STATUS["user"] | user | about,
        "entities": entities,
    }
    whole = {"full_text": draw.text * 2, "entities": X_V1_STATUS["entities"] | {"hashtags": hashtags}}
    return status | ({"extended_tweet": whole} if long else {})


def mastodon(draws: Iterable[Draw]) -> Iterator[Written]:
    """Write a public timeline: of 100 events 12 are deletions and 12 are edits."""
    for draw in draws:
        if draw.kind < 12:
            yield Written(int(draw.id), event="delete")
        elif draw.kind < 24:
            yield Written(_mastodon_status(draw), event="status.update")
        else:
            acct = draw.author if draw.kind < 40 else f"{draw.author}@elsewhere.example"
            yield Written(_mastodon_status(draw), acct, draw.tags, event="update")


def _mastodon_status(draw: Draw) -> Json:
    server, files = "https://town.example", f"https://files.town.example/accounts/{draw.account}/original"
    tags = [{"name": tag, "url": f"{server}/tags/{tag}"} for tag in draw.tags]
    links = "".join(f' <a href="{tag["url"]}" class="mention hashtag" rel="tag">#<span>x</span></a>' for tag in tags)
    images = dict.fromkeys(("avatar", "avatar_static", "header", "header_static"), f"{files}/{draw.hashed}.png")
    account = {
        "id": str(draw.account),
        "username": draw.author,
        "acct": draw.author if draw.kind < 40 else f"{draw.author}@elsewhere.example",
        "note": f"<p>{TEXTS[draw.account % len(TEXTS)] * 3}</p>",
        "url": f"{server}/@{draw.author}",
    }
    return MASTODON_STATUS | {
        "id": draw.id,
        "created_at": draw.at("%Y-%m-%dT%H:%M:%S.839Z"),
        "uri": f"{server}/users/{draw.author}/statuses/{draw.id}",
        "url": f"{server}/@{draw.author}/{draw.id}",
        "content": f"<p>{draw.text}{links}</p>",
        "account": MASTODON_STATUS["account"] | account | images,
        "tags": tags,
    }


COMMENTS: Final = (
    *("/* Scores */", "Bot: Automatska zamjena teksta  (-[[Administrativna podjela Meksika|Admin]] +[[Admi]])") * 12,
    *("添加[[李洛能八大弟子]]", "/* Нет */ дополнение", "", "expanding lead + missing RS", "إضافة [[تصنيف:المرأة]]")
    * 5,
    "[[Discussion modèle:Infobox Municipalité du Canada#4]]",
    "请求快速删除（[[WP:CSD#G11|CSD G11]]）",
)
TAGGED: Final = "clean up - typo - mef #gc, typos fixed: t Juin → t juin, avec [[Wikipédia:AutoWikiBrowser|AWB]]"


def wikimedia(draws: Iterable[Draw]) -> Iterator[Written]:
    """Write edits: of 100, one is a canary, one has no user and 9 a user with spaces; four comments have a sign."""
    for draw in draws:
        user = f"Anna {draw.account} Müller" if draw.kind < 10 else draw.author
        meta = WIKIMEDIA_CHANGE["meta"] | {
            "uri": f"https://en.wikipedia.org/w/index.php?diff={727_144_213 + draw.number}&oldid=727144184",
            "id": f"{draw.hashed[:8]}-{draw.hashed[8:12]}-4000-8000-{draw.hashed[20:]}",
            "dt": draw.at("%Y-%m-%dT%H:%M:%S.959Z"),
            "offset": 9_000_000 + draw.number,
        }
        change = WIKIMEDIA_CHANGE | {
            "meta": meta,
            "id": 1_000_000 + draw.number,
            "title": TEXTS[draw.number % len(TEXTS)][:20],
            "comment": TAGGED if draw.kind == 50 else COMMENTS[draw.number % len(COMMENTS)],
            "timestamp": BEGIN_S + draw.number // RECORDS_A_SECOND,
        }
        tags = ("gc",) if draw.kind == 50 else ()
        if draw.kind == 98:
            yield Written(change | {"meta": meta | {"domain": "canary"}})
        elif draw.kind == 99:
            yield Written(change)
        else:
            yield Written(change | {"user": user}, user, tags)


def bluesky(draws: Iterable[Draw]) -> Iterator[Written]:
    """Write posts as the preset asks for them: of 100 messages 8 are deletions, one an edit, 4 of accounts.

    No account that gets a handle here posts, so that an author is a DID, however the format names the others.
    """
    for draw in draws:
        did = f"did:plc:{draw.account * 0x9E3779B97F4A7C15 % 36**16:024d}"
        time_us = (BEGIN_S * RECORDS_A_SECOND + draw.number) * 1_000_000 // RECORDS_A_SECOND
        message: Json = {"did": did, "time_us": time_us, "kind": "commit"}
        if draw.kind < 4:
            kind = "identity" if draw.kind < 2 else "account"
            about = {"did": f"{did}s", "handle": f"{draw.author}.bsky.social", "seq": draw.number, "active": True}
            yield Written({"did": f"{did}s", "time_us": time_us, "kind": kind, kind: about})
        elif draw.kind < 12:
            yield Written(message | {"commit": _bluesky_commit(draw, "delete")})
        else:
            commit = _bluesky_commit(draw, "create") | {"record": _bluesky_post(draw), "cid": f"bafyrei{draw.hashed}"}
            if draw.kind == 12:
                yield Written(message | {"commit": commit | {"operation": "update"}})
            else:
                yield Written(message | {"commit": commit}, did, draw.tags)


def _bluesky_commit(draw: Draw, operation: str) -> Json:
    place = {"collection": "app.bsky.feed.post", "rkey": f"3mpt{draw.number:09}"}
    return {"rev": f"3mpt{draw.hashed[:9]}", "operation": operation} | place


def _bluesky_post(draw: Draw) -> Json:
    facets: list[Json] = [{"$type": "app.bsky.richtext.facet#tag", "tag": tag} for tag in draw.tags]
    if draw.number % 4 == 0:
        facets.append({"$type": "app.bsky.richtext.facet#link", "uri": f"https://town.example/{draw.hashed}"})
    index = {"byteEnd": 140, "byteStart": 125}
    post: Json = {"$type": "app.bsky.feed.post", "createdAt": draw.at("%Y-%m-%dT%H:%M:%S.323Z"), "langs": ["en"]}
    if facets:
        post["facets"] = [{"features": [feature], "index": index} for feature in facets]
    if draw.kind > 40:
        parent = {
            "cid": f"bafyrei{draw.hashed * 2}",
            "uri": f"at://did:plc:{draw.hashed}/app.bsky.feed.post/3mpt6d6eu5k2p",
        }
        post["reply"] = {"parent": parent, "root": parent}
    return post | {"text": draw.text}


WRITERS: Final[dict[str, Callable[[Iterable[Draw]], Iterator[Written]]]] = {
    "flat": flat,
    "fields": fields,
    "x-v2": x_v2,
    "x-v1": x_v1,
    "mastodon": mastodon,
    "wikimedia": wikimedia,
    "bluesky": bluesky,
}
