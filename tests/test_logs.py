"""Each line of the log is one line, in the form that was asked for, whatever is in it."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tweetboard import logs

HOSTILE = 'a "quoted"=thing\nERROR forged\x1b[2J \x9b2J \u2028 \u202e über'


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def said(chosen: str, capsys: pytest.CaptureFixture[str], *messages: str, level: str = "info") -> list[str]:
    logs.set_up(level, chosen, {})
    for message in messages:
        logging.getLogger("tweetboard.stream").warning("%s", message)
    return capsys.readouterr().err.splitlines()


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("text", capsys, "the stream ended") == ["WARNING the stream ended"]


def test_logfmt_is_key_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = said("logfmt", capsys, "lost")
    time, rest = line.split(" ", 1)
    assert time.startswith("time=20")
    assert rest == "level=warning part=stream message=lost"


def test_elsewhere_than_on_a_terminal_it_is_key_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("auto", capsys, "the stream ended")[0].endswith('level=warning part=stream message="the stream ended"')


def test_on_a_terminal_it_is_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert said("auto", capsys, "the stream ended") == ["WARNING the stream ended"]


@pytest.mark.parametrize("chosen", ["logfmt", "json"])
def test_what_is_in_a_message_makes_no_line_of_its_own(chosen: str, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = said(chosen, capsys, HOSTILE)
    assert line.isprintable()
    text = line.partition("message=")[2] if chosen == "logfmt" else line
    found = json.loads(text)
    assert (found if chosen == "logfmt" else found["message"]) == HOSTILE


def test_json_has_the_same_fields(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said("json", capsys, "lost")[0])
    assert list(found) == ["time", "level", "part", "message"]


def test_what_went_wrong_in_full_is_in_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("debug", "json", {})
    try:
        int("no")
    except ValueError:
        logging.getLogger("tweetboard.cli").debug("in full:", exc_info=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"].endswith("with base 10: 'no'")


def test_less_than_the_level_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert said("text", capsys, "x", level="error") == []


@pytest.mark.parametrize(
    ("level", "line"), [("info", "<6>level=info part=a message=m"), ("error", "<3>level=error part=a message=m")]
)
def test_the_journal_is_told_how_grave_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, line: str
) -> None:
    """It knows the time itself."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        status = os.fstat(stream.fileno())
        logs.set_up("info", "auto", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        getattr(logging.getLogger("tweetboard.a"), level)("m")
    assert path.read_text() == line + "\n"


def test_the_journal_is_told_so_of_each_line_of_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To it a line is a record, and why a process ends is one too."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        status = os.fstat(stream.fileno())
        logs.set_up("info", "text", {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        logging.getLogger("tweetboard.a").warning("one\ntwo")
        logs.say("wrong")
    assert path.read_text() == "<4>WARNING one\n<4>two\n<3>ERROR wrong\n"


def test_another_stream_than_the_journals_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "auto", {"JOURNAL_STREAM": "8:1"})
    logging.getLogger("tweetboard").info("m")
    assert capsys.readouterr().err.startswith("time=")


@pytest.mark.parametrize(
    ("chosen", "line"), [("auto", "tweetboard: wrong"), ("text", "tweetboard: wrong"), ("json", '"message": "wrong"')]
)
def test_why_a_process_ends_is_plain_but_where_programs_read(
    chosen: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("info", chosen, {})
    logs.say("wrong")
    assert line in capsys.readouterr().err


def test_a_stream_without_a_number_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.set_up("info", "auto", {"JOURNAL_STREAM": "8:1"})
    logging.getLogger("tweetboard").info("m")
    assert stream.getvalue().startswith("time=")
