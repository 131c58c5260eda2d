"""Paths into any JSON: what they may be, and the names that stand where they lead."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetboard.formats.paths import Fields, Path, parse


def names(record: object, *texts: str) -> tuple[tuple[str, ...], ...]:
    return Fields([Path(text) for text in texts]).names_in(json.dumps(record).replace("Infinity", "1e999").encode())


@pytest.mark.parametrize(
    ("path", "record", "found"),
    [
        ("user.screen_name", {"user": {"screen_name": "alice"}}, ["alice"]),
        ("quotes[].symbol", {"quotes": [{"symbol": "ACME"}, {"symbol": "INIT"}, {"symbol": "ACME"}]}, ["ACME", "INIT"]),
        ("a[].b[].c", {"a": [{"b": [{"c": "1"}, {"c": "2"}]}, {"b": [{"c": "3"}]}]}, ["1", "2", "3"]),
        ("tags", {"tags": ["x", "y", "x"]}, ["x", "y"]),
        ("tags[]", {"tags": ["x", "y"]}, ["x", "y"]),
        ("tags[]", {"tags": "x"}, ["x"]),
        ("a[].tags", {"a": [{"tags": ["x"]}, {"tags": ["y", "x"]}]}, ["x", "y"]),
        (".author", {"author": "bob"}, ["bob"]),
        ("$type.@id.class", {"$type": {"@id": {"class": "x"}}}, ["x"]),
        ("level", {"level": 3}, ["3"]),
        ("price", {"price": 1.5}, ["1.5"]),
        ("ok", {"ok": True}, ["true"]),
        ("user.name", {"user": None}, []),
        ("user.name", {"user": {}}, []),
        ("user.name", {}, []),
        ("a[].b", {"a": [None, {"b": "x"}, {}]}, ["x"]),
        ("a[].b", {"a": None}, []),
        ("tags", {"tags": [None, "x"]}, ["x"]),
        ("tags", {"tags": ["x", {"y": 1}]}, ["x", ""]),
        ("user", {"user": {"name": "x"}}, [""]),
        ("big", {"big": 10**40}, ["1" + "0" * 40]),
        ("big", {"big": float("inf")}, ["inf"]),
    ],
)
def test_what_stands_where_a_path_leads(path: str, record: object, found: list[str]) -> None:
    """Once each; what is missing or null on the way is nothing, what can be no name is empty."""
    assert names(record, path) == (tuple(found),)


def test_several_paths_share_their_way() -> None:
    record = {"user": {"name": "alice", "lang": "en"}, "tags": ["x"], "quotes": [{"symbol": "A", "exchange": "N"}]}
    paths = ["user.lang", "tags", "user.name", "quotes[].exchange", "quotes[].symbol"]
    assert names(record, *paths) == (("en",), ("x",), ("alice",), ("N",), ("A",))


@pytest.mark.parametrize(
    "text", ["", ".", "a.", "a..b", "a[", "a[0]", "[]", "a.[]", "a b", "a.b\n", "a[][]", 'a"b', "a\\b"]
)
def test_what_is_no_path_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a path such as user\.screen_name"):
        parse(text)


@pytest.mark.parametrize(
    ("paths", "key"), [(["a", "a.b"], "a"), (["a.b", "a"], "a"), (["a[].b", "a.c"], "a"), (["x.a.b", "x.a[].c"], "a")]
)
def test_paths_that_want_different_things_of_a_key_are_named(paths: list[str], key: str) -> None:
    with pytest.raises(
        ValueError, match=f"{paths[1]!r}.* and another path want different things of {key!r}".replace("[]", r"\[\]")
    ):
        Fields([Path(text) for text in paths])


KEY = st.from_regex(r'[^.\[\]\s"\\\x00-\x1f\ud800-\udfff]{1,5}', fullmatch=True)


@given(
    st.lists(KEY, min_size=1, max_size=4), st.text(st.characters(codec="utf-8")).filter(lambda name: "Inf" not in name)
)
def test_any_key_can_stand_in_a_path(keys: list[str], name: str) -> None:
    record: object = name
    for key in reversed(keys):
        record = {key: record, f"not {key}": 1}
    assert names(record, "." + ".".join(keys)) == ((name,),)


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"user": "n2", "sym": "AAPL"}, ((), ("AAPL",), ())),
        ({"user": {"name": "n"}, "sym": ["A"], "quotes": {"symbol": "X"}}, (("n",), ("A",), ())),
        ({"user": [1], "sym": "A", "quotes": ["X", {"symbol": "Y"}, [{"symbol": "Z"}]]}, ((), ("A",), ("Y",))),
        ({"user": 5, "quotes": 5}, ((), (), ())),
    ],
)
def test_another_shape_at_one_path_costs_the_others_nothing(record: object, found: object) -> None:
    assert names(record, "user.name", "sym", "quotes[].symbol") == found
