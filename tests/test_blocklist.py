"""A file of names that are not shown: what its lines mean, and what becomes of one that cannot be read."""

import os
from pathlib import Path

import pytest

from tweetboard import blocklist
from tweetboard.blocklist import Blocklist, Names, parse
from tweetboard.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "identities", "spelled"),
    [
        ("spam", ["spam"], ["spam"]),
        ("#Spam\n＃SPAM", ["spam"], []),
        ("@Alice\n@alice", [], ["Alice", "alice"]),
        ("  two words \r\n\n", ["two words"], ["two words"]),
        ("# who is this?\n#\n#\tx", [], []),
        ("Stra\u00dfe\n\u200bx", ["strasse", "x"], ["Stra\u00dfe", "x"]),
        ("x\nx\n#x", ["x"], ["x"]),
        ("\x00\n@\n" + "y" * 300, [], []),
        ("", [], []),
    ],
)
def test_what_a_line_means(text: str, identities: list[str], spelled: list[str]) -> None:
    assert parse(text) == Names(tuple(identities), tuple(spelled))


def test_it_is_read_when_asked_and_again_when_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("\ufeffone\n@two\n")
    names = Blocklist(str(path))
    assert names.names == Names()
    assert (names.load(), names.names) == (2, Names(("one",), ("one", "two")))
    path.write_text("")
    assert (names.load(), names.names) == (0, Names())


def test_none_is_none() -> None:
    assert Blocklist("").load() == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file or directory"), (b"\xff", "invalid start byte"), (b"a\nb\nc\nd", "more than 3 names")],
)
def test_one_that_cannot_be_read_is_named_and_what_was_read_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, why: str
) -> None:
    monkeypatch.setattr(blocklist, "MAX_NAMES", 3)
    path = tmp_path / "names"
    path.write_text("one")
    names = Blocklist(str(path))
    names.load()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"filter.blocklist: {path}: cannot be read: .*{why}"):
        names.load()
    assert names.names.spelled == ("one",)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "names")
    with pytest.raises(ConfigurationError, match="cannot be read: it is no file"):
        Blocklist(str(tmp_path / "names")).load()
