"""What is said on standard error, line by line: for a person, as key=value, or as JSON; with priorities for journald.

What lives here: formatters, and which of them is used. What must not: what is logged.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_UNSEEN: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # which some readers take for more than text
_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")


log = logging.getLogger("tweetboard")


def set_up(level: str, chosen: str, environ: Mapping[str, str]) -> None:
    """Log from `level` on to standard error in one of the settings' formats; `auto` is text on a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(chosen, sys.stderr, environ))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log the URL, and a secret with it


def say(line: str) -> None:
    """Say why the process ends: to a person in plain words, else as an error like any other."""
    formatter = logging.getLogger().handlers[0].formatter
    if isinstance(formatter, _Prioritised) and (formatter.to_journal or isinstance(formatter, _Json)):
        log.error(line)
    else:
        sys.stderr.write(f"tweetboard: {line}\n")


def _formatter(chosen: str, stream: TextIO, environ: Mapping[str, str]) -> logging.Formatter:
    to_journal = _is_journal(stream, environ)
    if chosen == "auto":
        chosen = "text" if stream.isatty() else "logfmt"
    if chosen == "text":
        return _Text(to_journal=to_journal)
    return _Json(to_journal=to_journal) if chosen == "json" else _Logfmt(to_journal=to_journal)


class _Prioritised(logging.Formatter):
    """Says how grave a line is in the journal's own way, where it is the journal that reads it (sd-daemon(3))."""

    def __init__(self, pattern: str | None = None, *, to_journal: bool) -> None:
        super().__init__(pattern)
        self.to_journal = to_journal

    def prioritised(self, record: logging.LogRecord, line: str) -> str:
        """Put the record's priority before one of its lines."""
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self.to_journal else line


class _Text(_Prioritised):
    """Says how grave a record is, and what, for people: over several lines where it has them."""

    def __init__(self, *, to_journal: bool) -> None:
        super().__init__("%(levelname)s %(message)s", to_journal=to_journal)

    def format(self, record: logging.LogRecord) -> str:
        """Write it down, each line with its priority for the journal, to which each is a record."""
        text = super().format(record)
        return "\n".join(self.prioritised(record, line) for line in text.splitlines()) if self.to_journal else text


class _Fields(_Prioritised):
    """Says of a record when it was, unless journald does, how grave it is, which part says it, and what."""

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """Give the record's fields in their order."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        part = record.name.removeprefix("tweetboard.")
        found = {"time": time, "level": record.levelname.lower(), "part": part, "message": record.getMessage()}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return found

    def format(self, record: logging.LogRecord) -> str:
        """Make one line of it, whatever is in it."""
        found = self.fields(record)
        if self.to_journal:
            del found["time"]
        line = _UNSEEN.sub(lambda one: f"\\u{ord(one[0]):04x}", self.line(found))
        return self.prioritised(record, line)

    def line(self, found: Mapping[str, str]) -> str:
        """Write fields down."""
        raise NotImplementedError


class _Logfmt(_Fields):
    def line(self, found: Mapping[str, str]) -> str:
        return " ".join(
            f"{key}={value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)}"
            for key, value in found.items()
        )


class _Json(_Fields):
    def line(self, found: Mapping[str, str]) -> str:
        return json.dumps(found, ensure_ascii=False)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether what is written there goes straight to journald, which says so in the environment (sd-daemon(3))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
