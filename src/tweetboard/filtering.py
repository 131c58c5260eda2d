"""Which posts count, and which of their hashtags: by language, by who writes, by shape. Pure.

What lives here: choosing before anything is counted. What must not: names that count but are not shown (blocklist.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from tweetboard.formats.decoding import Skipped
from tweetboard.formats.hashtags import fold
from tweetboard.formats.paths import Path
from tweetboard.framing import Block
from tweetboard.posts import Post, languages_of
from tweetboard.settings import FilterSettings


@dataclass(frozen=True)
class Filtered:
    """What `decode_all` makes of a block, without the posts and hashtags that `settings` leave out; these are counted.

    `paths` are those of the posts' `fields`.
    """

    decode_all: Callable[[Block], list[Post]]
    settings: FilterSettings
    skipped: Skipped
    paths: Sequence[Path] = ()

    def decode(self, block: Block) -> list[Post]:
        """Turn a block's records into the posts that count, in order."""
        posts = self.decode_all(block)
        wanted = self.settings
        if wanted.languages:
            languages = tuple(tag.lower() for tag in wanted.languages)
            posts = self._kept("language", posts, [post for post in posts if post.is_gone or _speaks(post, languages)])
        if not wanted.bots:
            posts = self._kept("bot", posts, [post for post in posts if not post.is_bot])
        if wanted.min_hashtag_length > 1 or not wanted.numeric_hashtags:
            posts = [self._with_fewer(post) for post in posts]
        return posts

    def _kept(self, reason: str, before: Sequence[Post], after: list[Post]) -> list[Post]:
        if len(after) < len(before):
            self.skipped[reason] += len(before) - len(after)
        return after

    def _with_fewer(self, post: Post) -> Post:
        kept = tuple(filter(self._counts, post.hashtags))
        fields = tuple(
            tuple(filter(self._counts, names)) if path.are_tags else names
            for path, names in zip(self.paths, post.fields, strict=False)  # of any format, a post may have none
        )
        fewer = len(post.hashtags) - len(kept) + sum(map(len, post.fields)) - sum(map(len, fields))
        if not fewer:
            return post
        self.skipped["hashtag"] += fewer
        return msgspec.structs.replace(post, hashtags=kept, fields=fields)

    def _counts(self, tag: str) -> bool:
        identity = fold(tag)
        return len(identity) >= self.settings.min_hashtag_length and (
            self.settings.numeric_hashtags or not identity.isdecimal()
        )


def _speaks(post: Post, wanted: Sequence[str]) -> bool:
    """Whether one of a post's languages is wanted, or a variety of one that is (`pt` takes `pt-BR`; RFC 4647)."""
    return any(f"{tag.lower()}-".startswith(f"{language}-") for tag in languages_of(post) for language in wanted)
