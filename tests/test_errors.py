"""The tree of errors is the one that its docstring draws, and each error says what a person needs."""

import inspect
from typing import Any

import pytest

from tweetboard import errors
from tweetboard.errors import ConfigurationError, StoreError, StoreUnavailable, StreamError, StreamLost, TweetboardError

CLASSES: dict[str, Any] = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)
}


def drawn() -> dict[str, str]:
    """Read each error's parent from the docstring's indented tree."""
    parents = dict[str, str]()
    above = list[tuple[int, str]]()
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        indent, words = len(line) - len(line.lstrip()), line.split()
        if indent and words[0] in CLASSES:
            while above and above[-1][0] >= indent:
                above.pop()
            parents[words[0]] = above[-1][1] if above else "Exception"
            above.append((indent, words[0]))
    return parents


def test_the_docstring_draws_the_tree_that_there_is() -> None:
    assert drawn() == {name: one.__bases__[0].__name__ for name, one in CLASSES.items()}


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_says_in_a_sentence_what_it_is(name: str) -> None:
    docstring = CLASSES[name].__dict__["__doc__"]
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", CLASSES)
def test_only_what_is_the_users_to_mend_has_exit_code_2(name: str) -> None:
    assert issubclass(CLASSES[name], TweetboardError)
    assert CLASSES[name].exit_code == (2 if name == "ConfigurationError" else 1)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"ConfigurationError"}))
def test_an_errors_text_is_its_one_line(name: str) -> None:
    assert str(CLASSES[name]("what happened, and the way out")) == "what happened, and the way out"


def test_a_configuration_error_has_every_problem_on_a_line_of_its_own() -> None:
    error = ConfigurationError("stream.url: is none", "http.port: is not between 0 and 65535")
    assert error.problems == ("stream.url: is none", "http.port: is not between 0 and 65535")
    assert str(error).splitlines() == list(error.problems)


def test_a_lost_stream_says_what_it_was_lost_to_and_when_to_come_back() -> None:
    plain = StreamLost("cut")
    assert (str(plain), plain.cause, plain.retry_after_s) == ("cut", "network", None)
    busy = StreamLost("busy", cause="rate_limit", retry_after_s=12.5)
    assert (busy.cause, busy.retry_after_s) == ("rate_limit", 12.5)


def test_whose_fault_it_is_can_be_told_by_type() -> None:
    assert issubclass(StreamLost, StreamError)
    assert issubclass(StoreUnavailable, StoreError)
    assert not issubclass(StreamError, StoreError)
    assert not issubclass(StoreError, StreamError)


def test_an_upstream_writes_no_lines_of_its_own() -> None:
    error = StreamLost("closed: 1011 bye\nERROR forged\x1b[2J\u202e über")
    assert str(error) == r"closed: 1011 bye\nERROR forged\x1b[2J\u202e über"
