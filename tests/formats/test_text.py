"""Hashtags in text: where they begin and end, in any script."""

import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tweetboard.formats.text import hashtags_in


def tags(text: str) -> list[str]:
    return [found.tag for found in hashtags_in(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("#", []),
        ("nothing here", []),
        ("#Tea and ＃Coffee", ["Tea", "Coffee"]),
        ("(#tea), #tea! #tea: #tea", ["tea"] * 4),
        ("a#tea 1#tea &#tea _#tea é#tea", []),
        ("#tea#coffee", []),  # a sign follows the first, and a letter stands before the second
        ("#42 #_ #4_2", []),
        ("#4th #route_66", ["4th", "route_66"]),
        ("#️⃣ #⃣", []),
        ("☕#tea ☕️#tea 👩🏽#tea", ["tea"] * 3),
        ("https://example.org/#tea and example.org/page#tea", []),
        ("see example.org. #tea", ["tea"]),
        ("#http://example.org", []),
        ("#tea\n#coffee", ["tea", "coffee"]),
        ("#Straße #naïve #ñandú", ["Straße", "naïve", "ñandú"]),
        ("#コーヒー、#紅茶。", ["コーヒー", "紅茶"]),
        ("#می‌خواهم #שלום־עליכם #ขอบคุณ", ["می‌خواهم", "שלום־עליכם", "ขอบคุณ"]),
    ],
)
def test_hashtags_are_found_as_they_are_spelled(text: str, found: list[str]) -> None:
    assert tags(text) == found


@given(st.text(st.sampled_from("#＃a1_é &.:/h\u200d\ufe0f日"), max_size=30))
def test_each_is_where_it_says_and_has_no_sign_inside(text: str) -> None:
    found = hashtags_in(text)
    for one in found:
        assert text[one.start] in "#＃"
        assert text[one.start + 1 : one.stop] == one.tag
        assert not re.search("[#＃ ]", one.tag)
        assert any(map(str.isalpha, one.tag)) or "\ufe0f" in one.tag
    assert [one.start for one in found] == sorted({one.start for one in found})


@pytest.mark.parametrize("group", ["hashtags", "hashtags_from_astral", "hashtags_with_indices"])
def test_twitter_texts_own_cases(conformance: Path, group: str) -> None:
    cases = yaml.safe_load((conformance / "twitter-text-extract.yml").read_text(encoding="utf-8"))["tests"][group]
    assert cases
    for case in cases:
        found, wanted = hashtags_in(case["text"]), case["expected"]
        if group == "hashtags_with_indices":
            spans = [(one["hashtag"], *one["indices"]) for one in wanted]
            assert [(one.tag, one.start, one.stop) for one in found] == spans, case["description"]
        else:
            assert [one.tag for one in found] == wanted, case["description"]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("見て https://t.co/abc\u3000#タグ", ["タグ"]),
        ("https://t.co/abcです、#タグ", ["タグ"]),
        ("https://t.co/abc\u00a0#tag", ["tag"]),
        ("https://x.example/wiki/Foo）#tag", ["tag"]),
        ("https://x.example/a(b)#no", []),
        ("https://x.example/a)#tag", ["tag"]),
        ("x.example/a#no and x.example #tag", ["tag"]),
        ("https://x.example/ä#no #tag", ["tag"]),
        ("https://x.example/#no https://y.example/#no #tag", ["tag"]),
    ],
)
def test_an_address_ends_where_no_address_goes_on(text: str, tags: list[str]) -> None:
    assert [found.tag for found in hashtags_in(text)] == tags


@pytest.mark.parametrize(
    "part", ["a.", "a", "#a x.yz/ ", "(", "https://", "https://x/(", "#", "#a", "a-", "a.b/", "#a.", "\u3042", "a@"]
)
def test_a_text_of_any_length_is_read_once(part: str) -> None:
    """Ten times as long takes ten times as long, not a hundred times: one record must not stop everything else."""
    short, long = (min(timed(part * count + " #x") for _ in range(3)) for count in (2_000, 20_000))
    assert long < max(40 * short, 0.5)


def timed(text: str) -> float:
    began_s = time.perf_counter()
    hashtags_in(text)
    return time.perf_counter() - began_s
