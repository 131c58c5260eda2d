"""Which names are the same, and which text can be a name: cleaning and folding."""

import unicodedata

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tweetboard.formats.hashtags import MAX_NAME_BYTES, are_clean, are_tags, clean, fold, tags_of

ZWNJ, ZWJ = "\u200c", "\u200d"
PERSIAN = f"می{ZWNJ}خواهم"
SINHALA = f"ශ්{ZWJ}රී"
FAMILY = f"\N{MAN}{ZWJ}\N{WOMAN}{ZWJ}\N{GIRL}"
INVISIBLE = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029)]
INVISIBLE += [chr(code) for code in (*range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF)]

# Everything that one of the two treats in a way of its own, often beside each other.
AWKWARD = st.text(
    st.sampled_from(
        [*"#＃﹟ aAßİıſKﬃ", ZWNJ, ZWJ, "\ud800", "\ufffe", "\u0345", "\u0301", "\u3000", "\u1680", "خ", "්", *INVISIBLE]
    )
)
ANY = st.text() | AWKWARD | st.text(st.characters(categories=["Lu", "Lt", "Lm", "Mn", "No", "Zs"]))
thoroughly = settings(max_examples=1000, deadline=None)


@pytest.mark.parametrize(
    "word",
    [
        "python",
        "Zoë",
        "日本語",
        "ไทย",
        "ก้อ",
        "नमस्ते",
        "Ελλάδα",
        "C++",
        "two words",
        "a\u0301",
        "😀",
        PERSIAN,
        SINHALA,
        "x" * 256,
    ],
)
def test_words_are_left_as_they_are(word: str) -> None:
    assert clean(word) == word


@pytest.mark.parametrize("character", INVISIBLE)
def test_invisible_and_direction_changing_characters_go(character: str) -> None:
    assert clean(f"a{character}b") == "ab"
    assert clean(character * 3) == ""


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"{ZWJ}a{ZWNJ}", "a"),
        (f"a{ZWJ}", "a"),
        (f"a{ZWNJ} b", "a b"),
        (f"a{ZWJ}#b", "a#b"),
        (f"می{ZWNJ}{ZWNJ}خواهم", PERSIAN),
        (f"می{ZWNJ}\u200bخواهم", PERSIAN),
        (f"{SINHALA}{ZWJ}", SINHALA),
        (f"क्{ZWJ}ष", f"क्{ZWJ}ष"),
        (f"2{ZWNJ}3", f"2{ZWNJ}3"),
        (FAMILY, FAMILY.replace(ZWJ, "")),
        (f"\N{HEAVY BLACK HEART}\ufe0f{ZWJ}\N{FIRE}", "\N{HEAVY BLACK HEART}\ufe0f\N{FIRE}"),
        (ZWJ * 5, ""),
    ],
)
def test_joiners_stay_one_at_a_time_between_letters_and_nowhere_else(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ude00\ud83d", "a\ufffe", "\u200b\ud800"])
def test_half_a_character_makes_the_whole_no_name(text: str) -> None:
    assert clean(text) == ""


@pytest.mark.parametrize("character", ["x", "ü", "日", "😀", "\u0301"])
def test_a_name_has_at_most_256_bytes(character: str) -> None:
    most = MAX_NAME_BYTES // len(character.encode())
    assert clean(character * most) == character * most
    assert clean(character * most + "xxxx") == ""
    assert clean(f"  {character * most}\u200b\n") == character * most


def test_a_name_is_trimmed() -> None:
    assert clean("\u3000 a\u00a0b \t") == "a\u00a0b"
    assert clean(" \u3000 ") == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Python", "python"),
        ("＃ＰＹＴＨＯＮ", "python"),
        ("#Python", "Python"),
        ("﹟Python", "Python"),
        ("##Python", "Python"),
        ("# Python", "Python"),
        ("STRASSE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("Ａﬃ①", "affi1"),
        ("e\u0301te\u0301", "ÉTÉ"),
        ("ｶﾞ", "ガ"),
        ("ǅ", "ǆ"),
        ("\u00c5ngstr\u00f6m", "\u212bNGSTR\u00d6M"),
        ("ꭰ", "Ꭰ"),
    ],
)
def test_case_and_compatibility_forms_are_one(one: str, other: str) -> None:
    assert fold(one) == fold(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zähler", "Zahler"),
        ("ก้า", "กา"),
        ("İstanbul", "istanbul"),
        ("ı", "i"),
        (PERSIAN, PERSIAN.replace(ZWNJ, "")),
        ("c", "c#"),
        ("が", "か"),
    ],
)
def test_accents_tone_marks_and_joiners_change_the_word(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@pytest.mark.parametrize("text", ["", "#", "＃＃", " # ", "#\u3000＃", "\u1680", "ﷺ" * 85])
def test_where_no_name_is_left_or_one_too_long_the_identity_is_empty(text: str) -> None:
    assert fold(text) == ""


@thoroughly
@given(ANY)
@example("\xa0#x")
@example("#\x85#x")
@example("α\u0345\u0301")
@example("ſ\u0323\u0307")
@example("ﷺ" * 20)
def test_folding_what_is_folded_changes_nothing(text: str) -> None:
    identity = fold(clean(text))
    assert fold(identity) == identity
    assert len(identity.encode()) <= MAX_NAME_BYTES


@thoroughly
@given(ANY)
@example(f"a{ZWJ}{ZWJ}b")
@example(f" \u200b {ZWNJ} a")
@example("x" * 256 + "\u200b")
def test_cleaning_what_is_clean_changes_nothing(text: str) -> None:
    name = clean(text)
    assert clean(name) == name
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert name == name.strip()
    assert not set(name) & set(INVISIBLE)


@thoroughly
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_folding_is_what_the_standard_library_calls_compatible_and_caseless(text: str) -> None:
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()
    assume("#" not in plain and len(plain.encode()) <= MAX_NAME_BYTES)
    assert fold(text) == plain


def test_every_character_of_unicode_folds_to_a_fixed_point() -> None:
    unchanged = fold.__wrapped__  # without the cache, which would keep them all
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        identity = unchanged(f"{chr(code)}#a{chr(code)}")
        assert unchanged(identity) == identity, hex(code)


def test_a_posts_hashtags_come_once_each_in_order_and_first_spelling() -> None:
    assert tags_of(["Rye", "Bread", "RYE", "＃rye", "#bread", "Crumb"]) == (("Rye", "Bread", "Crumb"), 0)


def test_a_hashtag_is_shown_without_its_sign() -> None:
    assert tags_of(["#Python", "＃Ruby", "## Go", "c#"]) == (("Python", "Ruby", "Go", "c#"), 0)


def test_what_is_no_hashtag_is_counted_and_the_rest_kept() -> None:
    assert tags_of(["", "#", "\u200b", "\ud800", "x" * 257, "ﷺ" * 85, "ok"]) == (("ok",), 6)


@given(st.lists(ANY, max_size=6))
@settings(deadline=None)
def test_every_hashtag_is_kept_is_a_repeat_or_is_counted(spellings: list[str]) -> None:
    kept, invalid = tags_of(spellings)
    identities = [fold(tag) for tag in kept]
    assert len(set(identities)) == len(kept)
    assert "" not in identities
    assert invalid == sum(not fold(clean(spelling)) for spelling in spellings)


# Many names at one glance


def test_what_sources_usually_send_is_seen_to_be_clean_at_one_glance() -> None:
    assert are_clean(["alice", "Bob_1", "Zoë", "日本語", "x" * 64])
    assert are_tags([("Python",), ("redis", "話題", "Zähler"), ()])
    assert are_clean([])
    assert are_tags([])


@pytest.mark.parametrize("name", ["", " a", "a\u200b", "\ufffe", "x" * 257])
def test_one_name_that_is_not_clean_is_seen_among_others(name: str) -> None:
    assert not are_clean(["alice", name, "bob"])
    assert not are_tags([("redis",), ("python", name)])


@pytest.mark.parametrize("tags", [("#redis",), ("＃redis",), ("﹟",), ("Redis", "a", "rediS"), ("ﬁ", "FI")])
def test_hashtags_that_would_change_are_seen_among_others(tags: tuple[str, ...]) -> None:
    assert not are_tags([("python",), tags])


@thoroughly
@given(st.lists(ANY, max_size=8))
def test_what_is_clean_at_one_glance_is_clean_one_by_one(names: list[str]) -> None:
    assert not are_clean(names) or [clean(name) for name in names] == names


@thoroughly
@given(st.lists(st.lists(ANY, max_size=4).map(tuple), max_size=5))
def test_hashtags_in_order_at_one_glance_are_in_order_one_by_one(posts: list[tuple[str, ...]]) -> None:
    assert not are_tags(posts) or [tags_of(tags) for tags in posts] == [(tags, 0) for tags in posts]
