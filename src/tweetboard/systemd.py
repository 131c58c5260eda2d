"""What a service and systemd say to each other: that it is ready, how it does, that it gets on; sockets handed over.

What lives here: the protocol (sd_notify(3), sd_listen_fds(3)), and the units that are shipped. What must not: what is
told, and when (daemon.py).
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

FIRST_SOCKET: Final = 3
"""The number of the first file that systemd hands over."""

log = logging.getLogger(__name__)


class Notifier:
    """Tells the service manager at the socket that the environment names; where it names none, nobody.

    `watchdog_s` is how long it waits for a sign of life before it ends the process; 0: for ever.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = 0.0
        if self._address and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            self.watchdog_s = _seconds(environ.get("WATCHDOG_USEC", ""))

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to be told."""
        return self._address != ""

    def ready(self) -> None:
        """Say that everything serves, for the first time or again."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that settings are being read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that it is on its way out."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in a line how it does, for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # A name that begins with @ lies in no folder; the system writes it with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:  # a manager that is busy must not hold up what it watches
            log.debug("NOTIFY_SOCKET %s: %s", self._address, error)


def inherited_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Take the listening sockets that were handed to this process, [] where there are none.

    The first who asks has them; children do not inherit them.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for number in range(FIRST_SOCKET, FIRST_SOCKET + int(count)):
        os.set_inheritable(number, False)
        found.append(socket.socket(fileno=number))
    return found


def shipped(name: str) -> str:
    """Give a file that an operator puts where it belongs, with this interpreter in it: one of those in `service`."""
    text = resources.files(__package__).joinpath("service", name).read_text("utf-8")
    return text.replace("@PYTHON@", sys.executable.replace("%", "%%").replace("$", "$$"))  # which systemd would expand


def unreachable_because(python: str) -> str:
    """Say why a service could not run this interpreter; "" where it can."""
    # A virtual environment's is a link: what it leads to has to be reachable as well.
    for path in (Path(python), Path(python).resolve()):
        for home in ("/home", "/root", "/run/user"):
            if path.is_relative_to(home):
                way_out = "make /opt/tweetboard with a Python elsewhere, such as /usr/bin/python3"
                return f"{path} lies under {home}, which the service cannot see: {way_out}"
    return ""


def _seconds(microseconds: str) -> float:
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
