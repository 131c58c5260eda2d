"""Hashtags in text: where they begin and end, in any script."""

import re
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
