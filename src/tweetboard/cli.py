"""The command line: flags, logging, signals, and what a person reads in the terminal.

What lives here: everything between a shell and `daemon`. What must not: anything that a program which
imports tweetboard would want.
"""

import argparse
import asyncio
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TimeElapsedColumn
from rich.table import Table

from tweetboard import logs
from tweetboard.api import Readiness
from tweetboard.boards import boards_of
from tweetboard.config import Flag, load
from tweetboard.daemon import Reload, serve
from tweetboard.errands import checking, maintaining, replaying, try_redis
from tweetboard.errors import StoreUnavailable, TweetboardError
from tweetboard.flags import FLAGS, parser
from tweetboard.maintenance import export_boards, import_boards, reset_boards
from tweetboard.pipe import Pipe
from tweetboard.replay import FileSource
from tweetboard.serving import bound, cannot_listen
from tweetboard.settings import DEMO, HttpSettings, Settings, masked, streams_of
from tweetboard.simulate import demo_server
from tweetboard.systemd import shipped, unreachable_because
from tweetboard.top import View, boards_at, show, watch
from tweetboard.waiting import first_of

LAST_READ_S: Final = 1.0
"""A replay that is stopped waits no longer for its boards, so that a stop takes 5 s at most."""

SAME_SIGNAL_S: Final = 0.1
"""A second signal to stop so soon is the first: uvloop tells one twice where it comes just behind another, a SIGHUP."""

log = logging.getLogger(__name__)

Command: TypeAlias = Callable[[Settings, argparse.Namespace, asyncio.Event], Coroutine[Any, Any, int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done or stopped by a signal, 1 failed, 2 wrongly set up."""
    options = parser().parse_args(arguments)
    if options.command != "run":
        _hear_hang_ups()
    logs.set_up("info", "auto", os.environ)  # until it is known what is wanted
    try:
        return _run(options)
    except Exception as error:
        first = _first(error)
        if isinstance(first, BrokenPipeError):  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        log.debug("what happened in full:", exc_info=error)
        if isinstance(first, TweetboardError):
            lines, code = str(first).splitlines(), first.exit_code
        else:
            lines, code = [f"unexpected {_described(first)}; --log-level debug shows more"], 1
        for line in lines:
            logs.say(line)
        return code


def _run(options: argparse.Namespace) -> int:
    options.folder, options.had_file = Path.cwd(), False  # at a reload there may be another of that name, or none
    settings = _settings(options)
    _set_up_log(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_stoppable(_COMMANDS[options.command], settings, options))


def _hear_hang_ups() -> None:
    """Let SIGHUP come through, which `__main__` has made wait until somebody knows what to do with it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _set_up_log(settings: Settings) -> None:
    logs.set_up(settings.log.level, settings.log.format, os.environ)


def _settings(options: argparse.Namespace) -> Settings:
    """Read the settings that are meant, as they stand at this moment."""
    flags = {
        path: Flag(name, text) for name, (path, _, _) in FLAGS.items() if (text := getattr(options, path)) is not None
    }
    if options.config is not None:
        flags["config"] = Flag("config", options.config)
    reads_streams = options.command in ("run", "check")
    return load(flags, os.environ, options.folder, without_streams=not reads_streams, had_file=options.had_file)


async def _stoppable(command: Command, settings: Settings, options: argparse.Namespace) -> int:
    """Run a command with an event that SIGTERM and Ctrl-C set; a second one cancels what still goes on."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    stopped_s = 0.0

    def stop() -> None:
        nonlocal stopped_s
        if not stopping.is_set():
            stopped_s = loop.time()
            stopping.set()
        elif task is not None and loop.time() - stopped_s > SAME_SIGNAL_S:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await command(settings, options, stopping)
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        sys.stderr.write("tweetboard: stopped at once, without waiting for what was under way\n")
        return 1


async def _command_run(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    serving, reload = asyncio.Event(), asyncio.Event()
    terminals = [one for one in (sys.stdin, sys.stdout, sys.stderr) if one is not None and one.isatty()]

    def hung_up() -> None:
        """Read again what can be, unless it is the terminal that we ran in that has gone."""
        if not terminals or any(one.isatty() for one in terminals):
            reload.set()
            return
        for one in terminals:  # what is still said there would be an error, and with it the exit code
            os.dup2(os.open(os.devnull, os.O_RDWR), one.fileno())
        stopping.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
    _hear_hang_ups()  # before anything else is started, which would inherit that it waits

    def announce(address: str) -> None:
        serving.set()
        *others, last = [f"/{name}" for name in boards_of(settings)[0]]
        boards = f"{', '.join(others)} and {last}" if others else last
        is_demo = settings.stream.url == DEMO and not settings.streams
        demo = " (demo: an invented town; --stream URL shows yours)" if is_demo else ""
        _say(f"boards at {address}/, as JSON at {boards}{demo}")

    async def stopped_before() -> None:
        """End at a stop that comes while an embedded server still reads its data: there is nothing to drain yet."""
        await stopping.wait()
        if serving.is_set():
            await asyncio.Event().wait()

    options.had_file = (options.folder / "config.toml").exists()
    await first_of(
        serve(settings, os.environ, stopping, Reload(reload, partial(_settings, options), _set_up_log), announce),
        stopped_before(),
    )
    return 0


async def _command_replay(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    console = Console(stderr=True)
    with Progress(BarColumn(), DownloadColumn(), TimeElapsedColumn(), console=console) as bars, _log_above():
        source = FileSource(
            options.file,
            max_line_bytes=settings.stream.max_line_bytes,
            on_read=lambda read_bytes: bars.update(bar, completed=read_bytes),
        )
        bar = bars.add_task("", total=source.size_bytes)
        async with replaying(settings, os.environ, source, stopping) as pipe:
            bars.stop()
            try:
                async with asyncio.timeout(LAST_READ_S if stopping.is_set() else None):
                    await _print_boards(pipe)
            except TimeoutError:
                raise StoreUnavailable(f"replay: stopped, Redis at {pipe.store.address} does not answer") from None
            if stopping.is_set():
                sys.stderr.write(f"tweetboard: stopped before the end of {options.file}: this is a part of it\n")
            if source.cut_off:
                sys.stderr.write(f"tweetboard: {options.file} ends in the middle of what is compressed: a part\n")
                return 1
            if not pipe.posts and not stopping.is_set():
                what = 'one JSON object a line, such as {"username": "alice", "hashtags": ["redis"]}'
                if (chosen := settings.stream.format) != "auto":
                    what = f"is its format {chosen}? (stream.format)"
                sys.stderr.write(f"tweetboard: no posts in {options.file}: {what}\n")
                return 1
    return 0


@contextmanager
def _log_above() -> Iterator[None]:
    """Let the log stand above a progress bar, whose console has taken standard error's place."""
    handlers = [one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream or sys.__stderr__)


async def _print_boards(pipe: Pipe) -> None:
    console = Console(emoji=False)  # a name such as :smile: is no picture
    for board in pipe.boards.values():
        page = await board.top()
        title = f"{board.name} ({page.total:,} {'name' if page.total == 1 else 'names'})"
        if not page.rows:
            console.print(title)
            continue
        table = Table(title=title, title_justify="left")
        table.add_column("rank", justify="right")
        table.add_column("name", overflow="fold")
        table.add_column("score", justify="right")
        for row in page.rows:
            table.add_row(str(row.rank), escape(row.display), f"{row.score:,}")
        console.print(table)
    for reason, count in sorted(pipe.came_to_nothing.items()):
        console.print(f"skipped {count:,}: {escape(reason)}", highlight=False)


async def _command_check(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    """Say what would run, and try Redis and each stream once, until a stop: any of them may never answer."""
    if options.live or options.address:
        return await _check_live(settings, options, stopping)
    streams = streams_of(settings)
    for identity, stream in streams.items():
        one = stream.settings
        _say(
            f"stream   {f'{stream.title}: ' if settings.streams else ''}{masked(one.url)} as {identity}, "
            f"format {one.format}, {'with' if one.token else 'without'} a token"
        )
    _say(
        f"redis    {masked(settings.redis.url)}"
        + (f", prefix {settings.redis.prefix}" if settings.redis.prefix else "")
    )
    prefix = settings.redis.prefix + (DEMO if any(stream.settings.url == DEMO for stream in streams.values()) else "")
    for name, board in boards_of(settings)[0].items():
        _say(f"board    {name} in {prefix}{board.key}")
    _say(f"http     {settings.http.host}:{settings.http.port}")
    passed: dict[str, bool] = {}
    await first_of(_try_parts(settings, passed), stopping.wait())
    parts = ["redis", *_titles([stream.title for stream in streams.values()])]
    if untold := [part for part in parts if part not in passed]:
        sys.stderr.write(f"tweetboard: check: stopped before there was an answer from: {', '.join(untold)}\n")
    return 0 if not untold and all(passed.values()) else 1


async def _check_live(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    """Say how each part of a running daemon does; 1 where one does not work, or nobody answers."""
    found: list[Readiness] = []

    async def ask() -> None:
        async with boards_at(_address(settings, options)) as boards:
            found.append(await boards.readiness())

    await first_of(ask(), stopping.wait())
    for name, part in [pair for one in found for pair in one.parts.items()]:
        _say(f"{'ok      ' if part.ok else 'FAILED  '} {name}: {part.detail}")
    return 0 if found and all(part.ok for part in found[0].parts.values()) else 1


def _titles(streams: Iterable[str]) -> list[str]:
    titles = [f"stream {title}" for title in streams]
    return titles if len(titles) > 1 else ["stream"]


async def _try_parts(settings: Settings, passed: dict[str, bool]) -> None:
    """Try each part and say how it went, in `passed` too."""
    passed["http"] = await _try_to_listen(settings.http)
    async with checking(settings, os.environ) as (store, upstreams):
        trials: list[Callable[[], Awaitable[str]]] = [partial(try_redis, store, settings)]
        trials += [one.probe for one in upstreams.values()]
        for part, trial in zip(["redis", *_titles(upstreams)], trials, strict=True):
            try:
                told = f"ok       {part}: {await trial()}"
            except TweetboardError as error:
                told = f"FAILED   {part}: {error}"
            passed[part] = told.startswith("ok")
            _say(told)
            if part == "redis" and passed[part]:
                for caution in await store.cautions():
                    _say(f"caution  redis: {caution}")


async def _try_to_listen(http: HttpSettings) -> bool:
    """Say what is wrong with where the boards are to be served; a port in use may be a running daemon's."""
    try:
        for one in await bound(http.host, http.port):
            one.close()
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        by_whom = ", by a running daemon perhaps" if in_use else ""
        _say(f"{'caution ' if in_use else 'FAILED  '} http: {cannot_listen(http.host, http.port, error)}{by_whom}")
        return in_use
    return True


async def _command_top(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    view = View(options.board, options.window, options.limit)
    async with boards_at(_address(settings, options)) as boards:
        if options.watch:
            await first_of(watch(boards, view, as_json=options.json), stopping.wait())
        else:
            await first_of(show(boards, view, as_json=options.json), stopping.wait())
    return 0


def _address(settings: Settings, options: argparse.Namespace) -> str:
    """Say where a running daemon serves."""
    host = settings.http.host if settings.http.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - to ask, not to listen
    return str(options.address or f"http://{f'[{host}]' if ':' in host else host}:{settings.http.port}")


async def _command_export(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    async with maintaining(settings, os.environ) as (store, boards):
        await first_of(export_boards(store, boards, options.board), stopping.wait())
    return int(stopping.is_set())


async def _command_import(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    async with maintaining(settings, os.environ, begins=True) as (store, boards):
        await first_of(import_boards(store, boards, options.file), stopping.wait())
    return int(stopping.is_set())


async def _command_reset(settings: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    done = [False]

    async def reset() -> None:
        done[0] = await reset_boards(store, boards, options.board, sure=options.yes)

    async with maintaining(settings, os.environ) as (store, boards):
        await first_of(reset(), stopping.wait())
    return 0 if done[0] else 1


async def _command_simulate(_: Settings, options: argparse.Namespace, stopping: asyncio.Event) -> int:
    async with demo_server(posts_per_s=options.rate, seed=options.seed, port=options.listen) as url:
        _say(f"an invented town's posts at {url}")
        await stopping.wait()
    return 0


async def _command_unit(_: Settings, options: argparse.Namespace, __: asyncio.Event) -> int:
    if options.alerts:
        _say(shipped("alerts.yml").rstrip())
        return 0
    _say(shipped("tweetboard.socket" if options.socket else "tweetboard.service").rstrip())
    if why := unreachable_because(sys.executable):
        sys.stderr.write(f"tweetboard: {why}\n")
    return 0


_COMMANDS: Final[dict[str, Command]] = {
    "run": _command_run,
    "check": _command_check,
    "replay": _command_replay,
    "top": _command_top,
    "export": _command_export,
    "import": _command_import,
    "reset": _command_reset,
    "unit": _command_unit,
    "simulate": _command_simulate,
}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _first(error: BaseException) -> BaseException:
    """Find what a person should read in an exception group: an error of ours before any other."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    inner = [_first(one) for one in error.exceptions]
    return next((one for one in inner if isinstance(one, TweetboardError)), inner[0])


def _described(error: BaseException) -> str:
    """Name an error that nobody foresaw, and the line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}: {error}"
