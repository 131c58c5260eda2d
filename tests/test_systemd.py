"""What is said to systemd arrives as its protocol has it, sockets are taken over, the units are what they must be."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tweetboard.metrics import Watched
from tweetboard.store import Store
from tweetboard.systemd import Notifier, inherited_sockets, shipped, unreachable_because


@pytest.fixture(params=["in a folder", "in no folder"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Listen as a service manager does; gives the address as NOTIFY_SOCKET has it."""
    in_folder = request.param == "in a folder"
    address = str(tmp_path / "notify") if in_folder else f"@tweetboard-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address if in_folder else "\0" + address[1:])
        listener.settimeout(5)
        yield address, listener


def test_each_state_is_told_in_the_protocols_words(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.status("redis away:\nno answer")
    notifier.alive()
    notifier.reloading()
    notifier.stopping()
    told = [listener.recv(4096).decode() for _ in range(5)]
    assert told[:3] == ["READY=1", "STATUS=redis away: no answer", "WATCHDOG=1"]
    reloading, since = told[3].split("\n")
    assert (reloading, since.partition("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")
    assert int(since.partition("=")[2]) > 0
    assert told[4] == "STOPPING=1"


def test_without_a_manager_nobody_is_told() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    notifier.ready()
    assert not notifier.is_heard
    assert notifier.watchdog_s == 0


def test_a_manager_that_is_busy_or_gone_holds_nothing_up(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        for _ in range(2_000):
            notifier.alive()  # far more than waits for a reader that does not read


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_ours_where_it_is_meant_for_this_process(environ: dict[str, str], watchdog_s: float) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/nowhere", **environ}).watchdog_s == watchdog_s


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_sockets_that_are_not_for_this_process_are_left_alone(environ: dict[str, str]) -> None:
    assert inherited_sockets(environ) == []


def test_sockets_are_taken_over_and_not_passed_on() -> None:
    code = (
        "import os, tweetboard.systemd as s\n"
        "found = s.inherited_sockets(os.environ)\n"
        "print([one.getsockname()[1] for one in found], [one.get_inheritable() for one in found])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.dup2(listener.fileno(), 103)
        try:
            shell = f'exec 3<&103 103<&-; LISTEN_PID=$$ LISTEN_FDS=1 exec "{sys.executable}" -c "$0"'
            said = subprocess.check_output(["bash", "-c", shell, code], pass_fds=(103,), text=True)
        finally:
            os.close(103)
        assert said.strip() == f"[{listener.getsockname()[1]}] [False]"


def test_a_unit_names_this_interpreter() -> None:
    assert f'ExecStart="{sys.executable}" -m tweetboard\n' in shipped("tweetboard.service")
    assert "@PYTHON@" not in shipped("tweetboard.service") + shipped("tweetboard.socket")


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_systemd_has_nothing_to_say_against_a_unit(tmp_path: Path, kind: str) -> None:
    analyze = _analyze()
    for one in ("service", "socket"):
        (tmp_path / f"tweetboard.{one}").write_text(shipped(f"tweetboard.{one}"))
    command = [analyze, "verify", "--man=no", str(tmp_path / f"tweetboard.{kind}")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_unit_exposes_next_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tweetboard.service"
    path.write_text(shipped("tweetboard.service"))
    command = [_analyze(), "security", "--offline=true", "--threshold=12", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def _analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("there is no systemd-analyze")
    return found


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ("/opt/tweetboard/bin/python", ""),
        ("/home/alice/venv/bin/python", "/home/alice/venv/bin/python lies under /home, which the service cannot see"),
        ("/root/venv/bin/python", "/root/venv/bin/python lies under /root"),
    ],
)
def test_an_interpreter_that_a_service_cannot_see_is_named(python: str, why: str) -> None:
    assert unreachable_because(python).startswith(why)
    assert bool(why) == bool(unreachable_because(python))


def test_an_environment_elsewhere_that_leads_to_a_home_is_named(tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to("/root/.pyenv/bin/python3")
    assert unreachable_because(str(link)).startswith("/root/.pyenv/bin/python3 lies under /root")


CASES = """
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'tweetboard_names_total{instance="a", stream="x"}', values: 0+60x30}
      - {series: 'tweetboard_applied_timestamp_seconds{instance="a", board="usernames"}', values: 0+60x30}
      - {series: 'tweetboard_applied_timestamp_seconds{instance="a", board="hashtags"}', values: 0x30}
    alert_rule_test:
      - {eval_time: 9m, alertname: TweetboardBoardStands, exp_alerts: []}
      - eval_time: 15m
        alertname: TweetboardBoardStands
        exp_alerts:
          - exp_labels: {severity: critical, instance: a, board: hashtags}
            exp_annotations:
              summary: names are read on a, and none has come onto board hashtags for 5 minutes
  - interval: 1m
    input_series:
      - {series: 'tweetboard_names_total{instance="a", stream="x"}', values: 5x30}
      - {series: 'tweetboard_applied_timestamp_seconds{instance="a", board="usernames"}', values: 0x30}
      - {series: 'tweetboard_names_lost_total{instance="a", stream="x"}', values: 7x30}
      - {series: 'tweetboard_stream_up{instance="a", stream="x"}', values: 0x30}
      - {series: 'tweetboard_standby{instance="a", stream="x"}', values: 1x30}
    alert_rule_test:
      - {eval_time: 20m, alertname: TweetboardBoardStands, exp_alerts: []}
      - {eval_time: 20m, alertname: TweetboardNamesLost, exp_alerts: []}
      - {eval_time: 20m, alertname: TweetboardStreamDown, exp_alerts: []}
"""
"""A board that stands is named; a quiet stream, an old loss and a standby are no alarm."""


def test_prometheus_takes_the_alerts_and_all_they_ask_for_is_told(tmp_path: Path, fake_store: Store) -> None:
    text = shipped("alerts.yml")
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool")
    (tmp_path / "alerts.yml").write_text(text)
    done = subprocess.run([promtool, "check", "rules", str(tmp_path / "alerts.yml")], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "cases.yml").write_text(CASES)
    done = subprocess.run([promtool, "test", "rules", str(tmp_path / "cases.yml")], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    watched = Watched(store=fake_store, feeds=[], heard={}, requests=Counter())
    told = {sample.name for family in watched.collect() for sample in family.samples} | {
        f"{family.name}{'_total' if family.type == 'counter' else ''}" for family in watched.collect()
    }
    assert set(re.findall(r"tweetboard_[a-z_]+", text.replace("unit --alerts", ""))) <= told
