"""The description of the API is one, and what the API does: by a validator, and by requests made up from it."""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openapi_spec_validator import validate

from processes import daemon
from tweetboard import page
from tweetboard.api import About, Api
from tweetboard.board.windows import Kept, window
from tweetboard.openapi import openapi

KEPT = Kept((window("5m"), window("1h")), 3600)


def test_it_is_valid() -> None:
    validate(openapi({"usernames": KEPT, "hashtags": Kept()}))


def test_it_has_every_route_and_no_other() -> None:
    boards: Any = {"usernames": SimpleNamespace()}
    api = Api(boards, About(), requests=Counter())
    routes = {resource.canonical for resource in api.application().router.resources()}
    assert openapi({"usernames": KEPT})["paths"].keys() == routes - page.files().keys()


def test_it_says_which_windows_a_board_has() -> None:
    (window,) = [
        one
        for one in openapi({"usernames": KEPT})["paths"]["/usernames"]["get"]["parameters"]
        if one["name"] == "window"
    ]
    assert window["schema"] == {"enum": ["all", "5m", "1h", "trending"], "default": "all"}


async def test_requests_made_up_from_it_are_answered_as_it_says(tmp_path: Path) -> None:
    """Schemathesis: every operation, right and wrong, no 5xx, each answer of the type and shape that was promised."""
    async with daemon(tmp_path) as running:
        await running.ready()
        arguments = ["run", f"{running.address}/openapi.json", "--checks", "all", "--max-examples", "20", "--seed", "1"]
        arguments += ["--exclude-path-regex", "^/events"]  # whose answers do not end
        schemathesis = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", *arguments, "--no-color"), cwd=tmp_path, stdout=subprocess.PIPE
        )
        output, _ = await schemathesis.communicate()
        assert schemathesis.returncode == 0, output.decode()
        assert "Tested: 9" in output.decode(), "all but the one that it is read from"
