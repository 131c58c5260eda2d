"""What a user installs has everything in it, and what it is made of is written down."""

import asyncio
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import aiohttp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from processes import ours_removed
from tweetboard import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]
FOR_TESTS = [Requirement(text) for text in PROJECT["optional-dependencies"]["test"]]


def brought_along() -> set[str]:
    """Find all packages that come with this one here, those of packages included."""
    found, ahead = set[str](), list(NEEDED)
    while ahead:
        one = ahead.pop()
        name = canonicalize_name(one.name)
        if name in found or (one.marker is not None and not one.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        for text in metadata.requires(name) or []:
            more = Requirement(text)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in ["", *one.extras]):
                ahead.append(more)
    return found


def test_the_licence_of_all_that_comes_along_is_listed() -> None:
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([A-Za-z0-9_.-]+)(?: \(before Python (3\.\d+)\))? \| \S", text, re.MULTILINE)
    here = {canonicalize_name(name) for name, before in listed[1:] if not before or sys.version_info < _version(before)}
    assert brought_along() == here


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_what_the_tests_run_with_is_pinned_by_hash_and_names_no_place() -> None:
    text = (ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8")
    blocks = re.findall(
        r"^([a-z0-9.-]+)==([^ ;]+)(?: ; [^\\]+)? \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE
    )
    pinned = {canonicalize_name(name): version for name, version, _ in blocks}
    assert len(re.findall("^[a-z]", text, re.MULTILINE)) == len(blocks)
    assert "://" not in text
    for one in NEEDED + FOR_TESTS:
        assert one.specifier.contains(pinned[canonicalize_name(one.name)]), one


def test_the_version_stands_in_one_place_and_in_the_changelog() -> None:
    assert "version" not in PROJECT
    assert metadata.version("tweetboard") == __version__
    assert re.search(
        rf"^## .*\b{re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist of what git would take along, and the wheel from the sdist alone; yields their folder."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, "sdist", folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    build(folder / sdist.name.removesuffix(".tar.gz"), "wheel", folder)
    return folder


def build(project: Path, target: str, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=project,
        check=True,
        capture_output=True,
    )


def test_the_wheel_has_every_file_of_the_package(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("tweetboard/")}
        (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
        assert "MIT" in archive.read(licence).decode()
    ours = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "tweetboard").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == ours


async def test_what_is_installed_runs_with_its_page_its_scripts_and_its_units(built: Path, tmp_path: Path) -> None:
    """In an environment that has the wheel, and of this one no more than the packages it needs."""
    (wheel,) = built.glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)  # noqa: ASYNC221
    (installed,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)  # noqa: S202 - our own, built a moment ago
    (installed / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")

    async def run(*arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            python, *arguments, cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output

    environ = {**ours_removed(), "PYTHONPATH": ""}
    where = await run("-c", "import tweetboard; print(tweetboard.__file__)")
    assert where.decode().startswith(str(installed))
    for flag, word in {"": "Type=notify", "--socket": "ListenStream=", "--alerts": "alert:"}.items():
        assert word in (await run("-m", "tweetboard", "unit", *filter(None, [flag]))).decode()
    (tmp_path / "posts").write_text('{"username": "alice"}\n')
    assert b"alice" in await run("-m", "tweetboard", "replay", "posts")
    process = await asyncio.create_subprocess_exec(
        python, "-m", "tweetboard", "--port", "0", cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            address = (await process.stdout.readline()).decode().split()[2].rstrip(",/")
        async with aiohttp.ClientSession(address) as session:
            for path in ("/", "/page.css", "/usernames", "/openapi.json"):
                async with session.get(path) as response:
                    assert (response.status, len(await response.read()) > 50) == (200, True), path
    finally:
        process.terminate()
        await process.wait()
