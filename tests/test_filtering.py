"""Which posts and hashtags are left out before anything counts, and that they are counted as such."""

from collections.abc import Mapping

import pytest

from tweetboard.filtering import Filtered
from tweetboard.formats.decoding import Skipped
from tweetboard.formats.paths import Path
from tweetboard.framing import Block
from tweetboard.posts import Post
from tweetboard.settings import FilterSettings


def filtered(settings: FilterSettings, *posts: Post) -> tuple[list[Post], Mapping[str, int]]:
    skipped = Skipped()
    return Filtered(lambda _: list(posts), settings, skipped).decode(Block()), dict(skipped)


def speaking(*languages: str) -> Post:
    return Post("", 0, "/".join(languages) or "nobody knows", languages=list(languages))


def test_without_a_word_everything_passes() -> None:
    posts = [speaking(), speaking("en"), Post("", 0, "robot", ("1", "x"), is_bot=True)]
    assert filtered(FilterSettings(), *posts) == (posts, {})


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (["en"], ["en", "en-GB", "de/en", "EN"]),
        (["pt-BR"], ["pt-BR", "pt-br-x-y"]),
        (["PT", "de"], ["pt-BR", "pt", "pt-br-x-y", "de/en"]),
        (["nl"], []),
    ],
)
def test_languages_take_their_varieties_and_nothing_that_only_begins_alike(wanted: list[str], kept: list[str]) -> None:
    spoken = [("en",), ("en-GB",), ("pt-BR",), ("pt",), ("pt-br-x-y",), ("de", "en"), ("EN",), ("eng",), ("ptx",), ()]
    posts, skipped = filtered(FilterSettings(languages=wanted), *(speaking(*languages) for languages in spoken))
    assert sorted(post.author for post in posts) == sorted(kept)
    assert skipped == {"language": len(spoken) - len(kept)}


def test_bots_that_say_so_are_left_out() -> None:
    robot, human = Post("", 0, "robot", is_bot=True), Post("", 0, "human")
    assert filtered(FilterSettings(bots=False), robot, human) == ([human], {"bot": 1})


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (FilterSettings(min_hashtag_length=2), ("42", "tea", "ab1", "４２")),
        (FilterSettings(min_hashtag_length=3), ("tea", "ab1")),
        (FilterSettings(numeric_hashtags=False), ("x", "tea", "ab1")),
        (FilterSettings(min_hashtag_length=3, numeric_hashtags=False), ("tea", "ab1")),
    ],
)
def test_short_and_numeric_hashtags_are_left_out_and_the_post_is_kept(
    settings: FilterSettings, kept: tuple[str, ...]
) -> None:
    tags = ("x", "42", "tea", "ab1", "４２")
    posts, skipped = filtered(settings, Post("", 0, "alice", tags), Post("", 0, "bob"))
    assert posts == [Post("", 0, "alice", kept), Post("", 0, "bob")]
    assert skipped == {"hashtag": len(tags) - len(kept)}


def test_hashtags_at_a_path_are_left_out_like_all_others() -> None:
    skipped = Skipped()
    post = Post("", 0, "", fields=(("x", "42", "tea"), ("x", "42")))
    settings = FilterSettings(min_hashtag_length=2, numeric_hashtags=False)
    paths = [Path("tags", are_tags=True), Path("codes")]
    kept = Filtered(lambda _: [post], settings, skipped, paths).decode(Block())
    assert ([one.fields for one in kept], dict(skipped)) == ([(("tea",), ("x", "42"))], {"hashtag": 2})


def test_what_is_gone_passes_every_filter() -> None:
    """What it takes away may have come before somebody wanted less."""
    gone = Post("1", 0, "", is_gone=True)
    settings = FilterSettings(languages=["en"], bots=False, min_hashtag_length=3, numeric_hashtags=False)
    assert filtered(settings, gone, speaking("de")) == ([gone], {"language": 1})
