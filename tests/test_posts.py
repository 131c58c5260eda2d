"""The vocabulary between formats and the publisher."""

import msgspec
import pytest

from tweetboard.posts import Post, Skip


def test_a_post_without_hashtags_has_an_empty_tuple_of_them() -> None:
    assert Post("1", 2, "alice") == Post("1", 2, "alice", ())


@pytest.mark.parametrize("value", [Post("1", 2, "alice", ("x",)), Skip("edit")])
def test_posts_and_skips_do_not_change_and_can_be_counted(value: Post | Skip) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, value.__struct_fields__[0], "other")
    assert {value: 1}[msgspec.structs.replace(value)] == 1
