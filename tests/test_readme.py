"""The README says what the code does: every key, route, metric, command and reason in it, and none that is not."""

import argparse
import re
from collections import Counter
from pathlib import Path

import pytest

from tweetboard import config, flags, formats, page
from tweetboard.api import About, Api
from tweetboard.backoff import LADDERS
from tweetboard.feed import Feed
from tweetboard.follower import Heard
from tweetboard.formats.x_v1 import CONTROL_LINES
from tweetboard.metrics import Watched
from tweetboard.presets import FORMS, Place
from tweetboard.settings import FORMATS, Settings
from tweetboard.store import Store

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def keys() -> set[str]:
    """All keys of the configuration, the boards' under NAME; streams have the stream's."""
    found = {re.sub(r"^(streams.\*).*", r"\1", key).replace("*", "NAME") for key in config._KEYS}  # noqa: SLF001
    return found - {"stream.token", "redis.password"}  # which no file may hold


def test_every_key_is_there_and_no_other(readme: str) -> None:
    told = set(re.findall(r"^\| `([a-z]+\.[A-Za-z_.]+)`", readme, re.MULTILINE))
    assert told == keys()


def test_every_flag_stands_beside_its_key(readme: str) -> None:
    for name, (path, _, _) in flags.FLAGS.items():
        assert f"| `{path}` | `--{name}` |" in readme


def test_every_command_is_there(readme: str) -> None:
    section = readme.partition("## Commands")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `([a-z]+)(?: [A-Z[\].]+)?`", section, re.MULTILINE))
    choices = next(
        action.choices
        for action in flags.parser()._actions  # noqa: SLF001 - argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    )
    assert told == set(choices or ())


def test_every_format_is_there(readme: str) -> None:
    told = set(re.findall(r"^\| `([a-z0-9-]+)` \| .* \| (?:yes|no) \|$", readme, re.MULTILINE))
    assert told == {*formats.FORMATS, "fields"}
    assert set(FORMATS) == {"auto", *told}


def watched(store: Store) -> Watched:
    feed = Feed(store, Settings(), "town", Place("", "auto"), "me")
    return Watched(store=store, feeds=[feed], heard={"b": Heard()}, requests=Counter())


async def test_every_metric_is_there_and_no_other(readme: str, fake_store: Store) -> None:
    families = set(re.findall(r"^# TYPE tweetboard_(\w+) ", watched(fake_store).render().decode(), re.MULTILINE))
    section = readme.partition("## Metrics")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)(?:\{[a-z,]+\})?`", row)}
    assert told == families


def test_every_stream_by_name_is_there_and_no_other(readme: str) -> None:
    section = readme.partition("| `--stream` | is |")[2].partition("\n\n")[0]
    firsts = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    told = {name for first in firsts for name in re.findall(r"`([A-Za-z:]+)`", first)}
    assert told == set(FORMS)


def test_every_reason_and_every_cause_is_there_and_no_other(readme: str) -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    reasons = set(re.findall(r"""(?:Skip|note|_note_unknown|_kept)\(\s*"([a-z_]+)""", source))
    reasons |= {*CONTROL_LINES, *re.findall(r"skipped\[\"([a-z_]+)", source), "oversized"}
    (row,) = re.findall(r"^\| `skipped_total\{reason\}` \| (.*) \|$", readme, re.MULTILINE)
    assert set(re.findall(r"`([a-z_]+)`", row)) == reasons
    (row,) = re.findall(r"^\| .*`stream_losses_total\{cause\}` \| (.*) \|$", readme, re.MULTILINE)
    assert set(re.findall(r"`([a-z_]+)`", row)) == set(LADDERS)


def test_every_route_is_there(readme: str) -> None:
    api = Api({}, About(), requests=Counter())
    routes = {resource.canonical for resource in api.application().router.resources()} | {"/usernames", "/hashtags"}
    assert set(re.findall(r"`GET (/[a-z.]*)`", readme)) == routes - page.files().keys() | {"/"}


def test_the_readmes_commands_are_the_ones_that_ci_runs(readme: str) -> None:
    """But that it takes each package as it is pinned, where a person takes the newest that will do."""
    steps = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest -q"
    assert steps in readme
    pinned = "install -q --require-hashes -r tests/requirements.txt\n.venv/bin/pip install -q --no-deps -e .\n"
    script = (ROOT / ".ci" / "run").read_text()
    assert pinned in script
    assert all(step in script for step in steps.split(" && ") if "install" not in step)


def test_no_placeholder_is_left(readme: str) -> None:
    assert not re.findall(r"^[A-Z]+$", readme, re.MULTILINE)


def test_each_log_line_that_is_explained_is_one_that_is_written() -> None:
    """What stands in the table's first column stands so in a message of the code."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([^`]+)` \| ", text, re.MULTILINE)
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "tweetboard").rglob("*.py"))
    assert len(lines) > 10
    assert [line for line in lines if line not in source] == []


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_page_is_linked_and_its_links_lead_somewhere(document: Path, readme: str) -> None:
    assert f"(docs/{document.name})" in readme
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_the_container_has_what_the_project_needs() -> None:
    """It could not be built where this was written: at least what it copies is there, and its settings exist."""
    lines = (ROOT / "docs" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for copied in re.findall(r"^COPY (.+) \S+$", lines, re.MULTILINE):
        assert all((ROOT / one).exists() for one in copied.split())
    compose = (ROOT / "docs" / "docker" / "compose.yaml").read_text(encoding="utf-8")
    names = re.findall(r"TWEETBOARD_[A-Z_]+", lines + compose)
    assert {"TWEETBOARD_HTTP_HOST", "TWEETBOARD_STREAM_URL"} <= set(names)
    known = {f"TWEETBOARD_{key.upper().replace('.', '_')}" for key in config._KEYS}  # noqa: SLF001 - as above
    known |= {"TWEETBOARD_STREAM_TOKEN"}
    assert set(names) <= known
