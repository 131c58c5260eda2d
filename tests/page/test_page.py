"""The live page in a real browser: what it shows, how it moves, and what it does when things go wrong."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from axe_playwright_python.base import AXE_FILE_PATH
from browsing import Visit, Visitor, started_browser
from playwright.async_api import Browser, Route

from conftest import wait_until
from processes import daemon
from serving_boards import KEPT, Wall, wall
from tweetboard import api as api_module
from tweetboard.api import Part
from tweetboard.board.windows import Kept, window
from tweetboard.feed import Condition
from tweetboard.serving import listening
from tweetboard.store import Store, open_store

TAGS = {f"tag{number:02}": 40 - number for number in range(12)}
PEOPLE = {"alice": 30, "bob": 20, "chloë": 10}
LOST_S = 10.0


pytestmark = pytest.mark.asyncio(loop_scope="session")
"""One event loop for all, so that one browser does for all; each test has a profile of its own in it."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with started_browser() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser) -> AsyncIterator[Visitor]:
    async with AsyncExitStack() as stack:
        yield Visitor(browser, stack)


@pytest_asyncio.fixture(loop_scope="session")
async def store(valkey_url: str) -> AsyncIterator[Store]:
    """Open a store on the real server, emptied, on the browser's event loop."""
    async with open_store(valkey_url, connections=16) as opened:
        await opened.execute("FLUSHALL")
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def town(store: Store) -> AsyncIterator[Wall]:
    """Serve two boards with names on them."""
    async with wall(store) as made:
        await made.count("usernames", PEOPLE)
        await made.count("hashtags", TAGS)
        yield made


def ranked(scores: dict[str, int], sign: str = "") -> list[tuple[str, str, str]]:
    ordered = sorted(scores.items(), key=lambda one: -one[1])[:10]
    return [(str(place), sign + name, str(score)) for place, (name, score) in enumerate(ordered, 1)]


def is_clean(visit: Visit) -> bool:
    return (visit.errors, visit.elsewhere) == ([], [])


# --- What it shows ---


async def test_it_shows_ten_rows_of_each_board_as_the_api_says_them(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await visit.shows("hashtags", ranked(TAGS, "#"))
    await visit.shows("usernames", ranked(PEOPLE))
    await visit.says("#state", "live")
    assert (await visit.text("[aria-labelledby=board-hashtags] .total")).startswith("12 names, as of ")
    assert await visit.page.is_hidden("#demo")
    assert is_clean(visit)


async def test_one_connection_does_for_many_boards(visitor: Visitor, store: Store) -> None:
    """A browser has six to one host: with one a board, everything else would wait for ever."""
    boards = {f"board-{number}": Kept() for number in range(8)}
    async with wall(store, boards) as made:
        for name in boards:
            await made.count(name, {"ann": 1})
        visit = await visitor.open(made.address)
        for name in boards:
            await visit.shows(name, [("1", "ann", "1")])
        assert made.api.live.viewers == 1
        assert await visit.page.is_hidden("#windows"), "boards of all time alone have nothing to choose from"
        assert not [route for route, _ in made.requests if "history" in route]
        assert is_clean(visit)


async def test_rows_move_when_ranks_change_and_keep_what_they_are(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await visit.shows("usernames", ranked(PEOPLE))
    await visit.page.evaluate(
        """() => {
            window.moves = [];
            const animate = Element.prototype.animate;
            Element.prototype.animate = function (frames, how) {
                window.moves.push([this.querySelector("bdi").textContent, frames[0].transform]);
                return animate.call(this, frames, how);
            };
            for (const row of document.querySelectorAll(".row")) row.was = row.querySelector("bdi").textContent;
            [...document.querySelectorAll("a.name")].find(link => link.textContent === "bob").focus();
        }"""
    )
    await town.count("usernames", {"bob": 15})
    await visit.shows("usernames", [("1", "bob", "35"), ("2", "alice", "30"), ("3", "chloë", "10")])
    moves = dict(await visit.page.evaluate("window.moves"))
    assert re.fullmatch(r"translateY\([1-9][0-9.]*px\)", moves["bob"]), "it came from below"
    assert re.fullmatch(r"translateY\(-[1-9][0-9.]*px\)", moves["alice"]), "it came from above"
    kept = "[...document.querySelectorAll('.row')].every(row => row.was === row.querySelector('bdi').textContent)"
    assert await visit.page.evaluate(kept)
    assert await visit.page.evaluate("document.activeElement.textContent") == "bob", "the focus went along"
    await visit.at_rest()
    tops = await visit.page.evaluate(
        "[...document.querySelectorAll('[aria-labelledby=board-usernames] .row')].map(row => row.offsetTop)"
    )
    assert tops == sorted(tops)
    assert is_clean(visit)


async def test_who_wants_no_motion_sees_none(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, reduced_motion="reduce")
    await visit.page.evaluate("() => { Element.prototype.animate = () => { throw new Error('it moves'); }; }")
    await town.count("usernames", {"bob": 15, "dora": 100})
    expected = [("1", "dora", "100"), ("2", "bob", "35"), ("3", "alice", "30"), ("4", "chloë", "10")]
    await visit.shows("usernames", expected)
    durations = "[...document.querySelectorAll('*')].map(one => getComputedStyle(one).transitionDuration)"
    assert set(await visit.page.evaluate(durations)) == {"0s"}
    assert is_clean(visit)


async def test_bars_are_as_long_as_scores_are_large(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    shares = await visit.page.evaluate(
        """() => [...document.querySelectorAll('[aria-labelledby=board-usernames] .row')].map(
            row => Number(row.style.getPropertyValue('--share')))"""
    )
    assert shares == [1.0, 0.6667, 0.3333]


async def test_a_name_has_a_line_of_its_counts_once_a_bucket_has_ended(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, "?window=5m")
    asked = asyncio.get_running_loop().time()
    while not await visit.page.evaluate("!!document.querySelector('.list .spark path').getAttribute('d')"):
        assert asyncio.get_running_loop().time() - asked < 20
        await town.count("usernames", {"alice": 1})
        await asyncio.sleep(0.2)
    drawn = await visit.page.get_attribute(".list .spark path", "d")
    assert drawn
    assert drawn.startswith("M0.0,22.0L"), "nothing had been counted five minutes ago"
    heights = [float(point.partition(",")[2]) for point in drawn[1:].split("L")]
    assert (len(heights), min(heights)) == (59, 2.0), "the highest count reaches the top; the last bucket is not done"
    assert is_clean(visit)


# --- Windows ---


async def test_a_tab_shows_another_window_and_the_address_keeps_it(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    tabs = "[...document.querySelectorAll('[role=tab]')].map(tab => tab.textContent)"
    assert await visit.page.evaluate(tabs) == ["all time", "5 minutes", "1 hour", "trending"]
    await visit.page.click("text=5 minutes")
    await visit.says("[aria-labelledby=board-usernames] .of", "last 5 minutes")
    await visit.shows("usernames", ranked(PEOPLE))
    assert await visit.page.get_attribute("[role=tab][aria-selected=true]", "data-window") == "5m"
    await visit.page.keyboard.press("ArrowRight")
    await visit.says("[aria-labelledby=board-usernames] .of", "last hour")
    await visit.page.keyboard.press("End")
    await visit.says("[aria-labelledby=board-usernames] .of", "trending")
    await visit.until("document.querySelector('.list .score')?.textContent.includes('.')")
    assert await visit.page.evaluate("document.activeElement.textContent") == "trending"
    await visit.page.reload()
    await visit.says("[aria-labelledby=board-usernames] .of", "trending")
    assert is_clean(visit)


async def test_a_board_that_does_not_keep_the_window_shows_its_own_and_says_so(visitor: Visitor, store: Store) -> None:
    async with wall(store, {"usernames": KEPT, "hashtags": Kept()}) as made:
        await made.count("usernames", {"ann": 1})
        await made.count("hashtags", {"tea": 1})
        visit = await visitor.open(made.address, "?window=1h&boards=hashtags,usernames,nobody")
        await visit.says("[aria-labelledby=board-usernames] .of", "last hour")
        await visit.says("[aria-labelledby=board-hashtags] .of", "all time")
        await visit.shows("hashtags", [("1", "#tea", "1")])
        order = "[...document.querySelectorAll('h2 bdi')].map(name => name.textContent)"
        assert await visit.page.evaluate(order) == ["hashtags", "usernames"]
        assert is_clean(visit)


async def test_a_demo_says_so_and_begins_with_its_last_minutes(visitor: Visitor, store: Store) -> None:
    async with wall(store, demo=True) as made:
        await made.count("usernames", {"ann": 1})
        visit = await visitor.open(made.address)
        assert await visit.text("#demo") == "demo"
        await visit.says("[aria-labelledby=board-usernames] .of", "last 5 minutes")
        await visit.says("[aria-labelledby=board-hashtags] .empty", "No names yet.")
        assert await visit.page.is_visible("[aria-labelledby=board-hashtags] .empty")


# --- Search ---


async def test_a_search_shows_a_names_rank_and_neighbours_and_goes_on_doing_so(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await visit.page.fill("#find", "#TAG11")
    found = "[aria-labelledby=board-hashtags] .found"
    await visit.says(f"{found} .words", "#tag11 is number 12 of 12.")
    names = f"[...document.querySelectorAll('{found} bdi')].map(one => one.textContent)"
    assert await visit.page.evaluate(names) == ["#tag11", "#tag09", "#tag10", "#tag11"]
    assert await visit.text(f"{found} [aria-current=true] bdi") == "#tag11"
    assert await visit.page.is_hidden("[aria-labelledby=board-usernames] .found"), "a hashtag is no user"
    await town.count("hashtags", {"tag11": 100})
    await visit.says(f"{found} .words", "#tag11 is number 1 of 12.")
    await visit.page.reload()
    await visit.says(f"{found} .words", "#tag11 is number 1 of 12.")
    await visit.page.keyboard.press("Escape")
    await visit.page.wait_for_selector(found, state="hidden")
    assert await visit.page.input_value("#find") == ""
    assert visit.page.url == f"{town.address}/?window=all"
    assert is_clean(visit)


async def test_of_who_stands_below_all_leaders_it_says_below_whom(visitor: Visitor, store: Store) -> None:
    async with wall(store, {"usernames": Kept(leaders=3)}) as made:
        await made.count("usernames", {f"u{number}": number for number in range(1, 8)})
        visit = await visitor.open(made.address)
        await visit.page.fill("#find", "u2")
        found = "[aria-labelledby=board-usernames] .found"
        await visit.says(f"{found} .words", "u2 is below number 3 of 7.")
        assert await visit.text(f"{found} .rank") == "–"
        await made.count("usernames", {"u2": 100})
        await visit.says(f"{found} .words", "u2 is number 1 of 7.")
        assert is_clean(visit)


async def test_who_is_nowhere_is_said_to_be(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await visit.page.fill("#find", "<b>nobody</b>")
    for board, shown in (("usernames", "<b>nobody</b>"), ("hashtags", "#<b>nobody</b>")):
        await visit.says(
            f"[aria-labelledby=board-{board}] .words",
            f"{shown} is not on this board (all time); names are searched for whole.",
        )
    for odd in ("..", "%", "/", "\N{ZERO WIDTH SPACE}", "x" * 5_000, "#", "@"):
        await visit.page.fill("#find", odd)
        await visit.page.press("#find", "Enter")
    assert is_clean(visit)


async def test_a_name_on_a_board_leads_to_where_it_stands(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await visit.page.click("text=chloë")
    await visit.says("[aria-labelledby=board-usernames] .words", "chloë is number 3 of 3.")
    assert await visit.page.input_value("#find") == "@chloë"
    assert is_clean(visit)


async def test_a_search_that_has_ended_shows_nothing(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)

    async def never(_: Route) -> None:
        await asyncio.Event().wait()

    await visit.page.route("**/search?*", never)
    async with visit.page.expect_event("requestfailed"):
        async with visit.page.expect_request("**/search?*"):
            await visit.page.fill("#find", "alice")
        await visit.page.press("#find", "Escape")
    await visit.page.evaluate("new Promise(done => setTimeout(done, 100))")
    assert await visit.page.locator(".found:visible").count() == 0


async def test_a_search_that_nobody_answers_is_not_said_to_have_found_nothing(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    answers = [502, 503]

    async def answer(route: Route) -> None:
        await (route.fulfill(status=answers.pop()) if answers else route.continue_())

    await visit.page.route("**/search?*", answer)
    await visit.page.fill("#find", "@bob")
    async with visit.page.expect_response("**/search?*"):
        pass
    assert await visit.page.locator(".found:visible").count() == 0
    read_out = "[aria-labelledby=board-usernames] [role=status]"
    await visit.says(read_out, "usernames: bob is number 2 of 3.")


async def test_a_pointer_that_trembles_over_a_board_does_not_stop_it(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await town.count("usernames", {"bob": 100})
    await visit.page.evaluate(
        """() => {
            const list = document.querySelector(".list");
            setInterval(() => list.dispatchEvent(new PointerEvent("pointermove")), 50);
        }"""
    )
    await visit.shows("usernames", [("1", "bob", "120"), ("2", "alice", "30"), ("3", "chloë", "10")])
    await town.count("usernames", {"bob": 1})
    await visit.shows("usernames", [("1", "bob", "121"), ("2", "alice", "30"), ("3", "chloë", "10")])


async def test_escape_gives_the_focus_back_to_the_search(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, "?find=@bob", waits_for=".found .row")
    await visit.page.focus(".found a.name")
    await visit.page.keyboard.press("Escape")
    assert await visit.page.evaluate("document.activeElement.id") == "find"


async def test_a_link_within_the_page_asks_nobody_anew(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    await visit.page.focus(".skip")
    await visit.page.keyboard.press("Enter")
    await visit.until("location.hash === '#boards'")
    await visit.page.evaluate("new Promise(done => setTimeout(done, 200))")
    assert not [url for url in asked if "/events" in url]
    assert "…" not in await visit.text("[aria-labelledby=board-usernames] .total")


async def test_what_is_found_is_read_out_once_and_not_each_time_it_moves(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await visit.page.fill("#find", "@bob")
    read_out = "[aria-labelledby=board-usernames] [role=status]"
    await visit.says(read_out, "usernames: bob is number 2 of 3.")
    await town.count("usernames", {"bob": 100})
    await visit.says("[aria-labelledby=board-usernames] .words", "bob is number 1 of 3.")
    assert await visit.text(read_out) == "usernames: bob is number 2 of 3."
    await visit.page.fill("#find", "@chloë")
    await visit.says(read_out, "usernames: chloë is number 3 of 3.")


async def test_the_focus_stays_on_the_board_when_its_row_goes(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, "?limit=2")
    await visit.page.focus("[aria-labelledby=board-usernames] .row:nth-child(2) a")
    assert await visit.page.evaluate("document.activeElement.textContent") == "bob"
    await town.count("usernames", {"chloë": 15})
    await visit.shows("usernames", [("1", "alice", "30"), ("2", "chloë", "25")])
    assert await visit.page.evaluate("document.activeElement.textContent") == "chloë"


async def test_a_names_link_keeps_all_else_that_is_shown(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, "?theme=dark&limit=5")
    await visit.page.click("text=5 minutes")
    await visit.shows("usernames", ranked(PEOPLE))
    address = await visit.page.get_attribute("[aria-labelledby=board-usernames] a.name", "href")
    assert address == "?theme=dark&limit=5&window=5m&find=%40alice"


async def test_a_step_back_shows_what_was_shown_before(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    await visit.page.click("text=5 minutes")
    await visit.says("[aria-labelledby=board-usernames] .of", "last 5 minutes")
    await visit.page.click("text=chloë")
    await visit.says("[aria-labelledby=board-usernames] .words", "chloë is number 3 of 3.")
    await visit.page.go_back()
    await visit.page.wait_for_selector(".found", state="hidden")
    assert await visit.page.input_value("#find") == ""
    await visit.says("[aria-labelledby=board-usernames] .of", "last 5 minutes")
    await visit.page.go_back()
    await visit.says("[aria-labelledby=board-usernames] .of", "all time")
    await visit.page.go_forward()
    await visit.says("[aria-labelledby=board-usernames] .of", "last 5 minutes")
    assert is_clean(visit)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("boards=hashtag,usernames", "boards: there is no hashtag, but usernames, hashtags"),
        ("window=7m&limit=abc", "window: it can be all, 5m, 1h, trending · limit: it can be 1 to 100"),
        ("theme=toString", "theme: it can be auto, dark, light"),
        ("kisok=1", "kisok: is none of boards, find, kiosk, limit, theme, window"),
    ],
)
async def test_what_of_the_address_is_not_understood_is_said(
    visitor: Visitor, town: Wall, query: str, problem: str
) -> None:
    visit = await visitor.open(town.address, f"?{query}&kiosk=1")
    await visit.shows("usernames", ranked(PEOPLE))
    assert await visit.page.is_visible("#problems")
    assert await visit.text("#problems") == problem
    assert is_clean(visit)


async def test_names_on_the_page_are_offered_to_the_search(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, "?limit=2")
    await visit.page.focus("#find")
    offered = await visit.page.evaluate("[...document.querySelectorAll('#names option')].map(one => one.value)")
    assert offered == ["@alice", "@bob", "#tag00", "#tag01"]


async def test_what_lines_and_arrows_mean_stands_below_each_board(visitor: Visitor, store: Store) -> None:
    async with wall(store, {"usernames": KEPT, "hashtags": Kept()}) as made:
        await made.count("usernames", {"ann": 1})
        visit = await visitor.open(made.address)
        legend = "[aria-labelledby=board-usernames] .legend"
        await visit.says(
            legend, "Lines: posts in the last hour, a point each minute. ▲▼: ranks risen or fallen since a minute ago."
        )
        await visit.page.click("text=5 minutes")
        await visit.says(
            legend,
            "Lines: posts in the last 5 minutes, a point each 5 seconds. "
            "▲▼: ranks risen or fallen since 5 seconds ago.",
        )
        await visit.page.click("text=trending")
        await visit.until(
            f"document.querySelector('{legend}').textContent.startsWith('A post counts 1 at first, and half as much')"
        )
        assert await visit.text("[aria-labelledby=board-hashtags] .legend") == ""


# --- When things go wrong ---


async def test_how_the_stream_does_is_said_in_words(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    town.streams = {"town": Condition("connecting", since, detail="refused")}
    await visit.until("document.querySelector('#state').textContent.startsWith('stream not connected, reconnecting')")
    assert await visit.page.get_attribute("#state", "data-tone") == "bad"
    town.streams = {"town": Condition("catching up", since, behind_s=7_200)}
    await visit.says("#state", "catching up: 2 h behind")
    town.streams = {"town": Condition("live", datetime.now(UTC), gap_s=12.3)}
    await visit.until("document.querySelector('#state').textContent.startsWith('live; a gap before ')")
    assert (await visit.text("#state")).endswith(": up to 13 s went by unheard")
    town.parts["redis"] = Part(ok=False, detail="gone")
    await visit.until("document.querySelector('#state').textContent.startsWith('waiting for Redis')")
    assert await visit.page.get_attribute("#state", "title") == "redis: gone"
    assert is_clean(visit)


async def test_it_goes_on_by_itself_when_the_daemon_is_started_anew(
    visitor: Visitor, store: Store, free_port: int
) -> None:
    async with wall(store, port=free_port) as made:
        await made.count("usernames", PEOPLE)
        visit = await visitor.open(made.address)
    await visit.until("document.querySelector('#state').textContent.includes('reconnecting since ')")
    assert await visit.rows("usernames") == ranked(PEOPLE), "what was shown stays"
    async with wall(store, port=free_port) as made:
        await made.count("usernames", {"chloë": 90})
        await visit.shows("usernames", [("1", "chloë", "100"), ("2", "alice", "30"), ("3", "bob", "20")])
        await visit.says("#state", "live")
    assert all("net::ERR_" in error for error in visit.errors), "only the browser itself says that nobody was there"


async def test_a_real_daemon_that_is_killed_is_found_again(visitor: Visitor, tmp_path: Path, free_port: int) -> None:
    async with daemon(tmp_path, port=free_port) as first:
        await first.ready()
        visit = await visitor.open(first.address)
        await visit.says("#state", "live")
        assert await first.metric("tweetboard_viewers") == 1
    await visit.until("document.querySelector('#state').textContent.includes('reconnecting since ')")
    async with daemon(tmp_path, port=free_port) as second:
        await second.ready()
        await visit.says("#state", "live")
        assert len(await visit.rows("hashtags")) == 10
    assert visit.elsewhere == []


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[str]:
    """Serve whoever comes these bytes, and nothing more."""
    writers = list[asyncio.StreamWriter]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def test_where_nothing_comes_any_more_it_says_so(visitor: Visitor, town: Wall) -> None:
    """A network that swallows everything closes no connection, and what is opened anew stays half open."""
    visit = await visitor.open(town.address, waits_for="#state", clock=True)
    await visit.says("#state", "live")

    async def never(_: Route) -> None:
        await asyncio.Event().wait()

    await visit.page.route("**/events?*", never)
    await visit.page.clock.run_for(36_000)
    await visit.until("document.querySelector('#state').textContent.includes('reconnecting since ')")
    head_alone = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    async with saying(head_alone.encode()) as silent:
        async with visit.page.expect_response("**/events"):
            await visit.page.route("**/events?*", lambda route: route.continue_(url=f"{silent}/events"))
            await visit.page.clock.run_for(11_000)
        await visit.page.evaluate("new Promise(done => requestAnimationFrame(done))")
        assert "reconnecting since" in await visit.text("#state"), "a head without a body is no sign of life"
    await visit.page.unroute("**/events?*")
    await visit.page.clock.run_for(11_000)
    await visit.says("#state", "live")


async def test_searches_that_are_never_answered_do_not_take_all_connections(visitor: Visitor, town: Wall) -> None:
    """A browser has six to a host."""
    visit = await visitor.open(town.address, "?find=alice", waits_for=".found .row", clock=True)
    asked: list[str] = []

    async def never(route: Route) -> None:
        asked.append(route.request.url)
        await asyncio.Event().wait()

    await visit.page.route("**/search?*", never)
    given_up: list[str] = []
    visit.page.on("requestfailed", lambda request: given_up.append(request.url))
    for name in ("bob", "chloë", "dora"):
        for _ in range(5):
            await visit.page.clock.run_for(2_100)
        await visit.page.fill("#find", name)
    await visit.page.clock.run_for(2_100)
    await wait_until(lambda: len(asked) == 4)
    await wait_until(lambda: given_up == asked[:3])


async def test_it_may_be_opened_before_the_daemon_answers(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    answers = [503, 503, 200]

    async def answer(route: Route) -> None:
        status = answers.pop(0) if answers else 200
        await (route.continue_() if status == 200 else route.fulfill(status=status))

    await visit.page.route("**/boards", answer)
    await visit.page.reload()
    await visit.until("document.querySelector('#state').textContent.includes('reconnecting since ')")
    await visit.shows("usernames", ranked(PEOPLE))
    await visit.says("#state", "live")


async def test_a_proxy_that_says_502_for_a_while_is_asked_again(visitor: Visitor, town: Wall) -> None:
    """For an answer that is none, a browser's EventSource gives up for good."""
    visit = await visitor.open(town.address)
    answers = [502]

    async def answer(route: Route) -> None:
        await (route.fulfill(status=answers.pop()) if answers else route.continue_())

    await visit.page.route("**/events?*", answer)
    await visit.page.click("text=5 minutes")
    await visit.until("document.querySelector('#state').textContent.includes('reconnecting since ')")
    await visit.says("#state", "live")
    await visit.shows("usernames", ranked(PEOPLE))


@asynccontextmanager
async def below_a_path(upstream: str) -> AsyncIterator[str]:
    """Pass on what is asked for below /walls/town/, as a reverse proxy does; yields its address."""
    async with aiohttp.ClientSession(auto_decompress=False) as client:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            address = f"{upstream}/{request.match_info['path']}"
            async with client.get(address, params=request.query) as answer:
                response = web.StreamResponse(status=answer.status, headers=answer.headers)
                await response.prepare(request)
                async for some in answer.content.iter_any():
                    await response.write(some)
                return response

        application = web.Application()
        application.router.add_get("/walls/town/{path:.*}", pass_on)
        async with listening(application, "127.0.0.1", 0) as address:
            yield f"{address}/walls/town"


async def test_it_works_below_a_path_of_a_proxy(visitor: Visitor, town: Wall) -> None:
    async with below_a_path(town.address) as address:
        visit = await visitor.open(address)
        await visit.says("#state", "live")
        await town.count("usernames", {"bob": 15})
        await visit.shows("usernames", [("1", "bob", "35"), ("2", "alice", "30"), ("3", "chloë", "10")])
        await visit.page.click("text=5 minutes")
        await visit.page.click("text=chloë")
        await visit.says("[aria-labelledby=board-usernames] .words", "chloë is number 3 of 3.")
        await visit.page.reload()
        await visit.says("[aria-labelledby=board-usernames] .of", "last 5 minutes")
        assert is_clean(visit)
        await visitor.close()


async def test_boards_that_are_other_ones_now_are_shown(visitor: Visitor, store: Store, free_port: int) -> None:
    """A page on a wall is not asked for anew by hand when somebody changes the configuration."""
    async with wall(store, port=free_port) as made:
        await made.count("usernames", PEOPLE)
        visit = await visitor.open(made.address, "?window=5m")
        await visit.says("[aria-labelledby=board-usernames] .of", "last 5 minutes")
    async with wall(store, {"usernames": Kept((window("1h"),))}, port=free_port) as made:
        await made.count("usernames", {"ann": 50})
        await visit.says("[aria-labelledby=board-usernames] .of", "all time")
        await visit.shows("usernames", [("1", "ann", "50"), *[(str(int(a) + 1), b, c) for a, b, c in ranked(PEOPLE)]])
        assert await visit.page.locator("section").count() == 1


async def test_a_proxys_own_page_does_not_take_the_place_of_ours(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    for path in ("**/boards", "**/events?*", f"{town.address}/*"):
        await visit.page.route(path, lambda route: route.fulfill(status=200, body="<h1>Down for maintenance</h1>"))
    async with visit.page.expect_response("**/boards"):
        await visit.page.click("text=5 minutes")
    await visit.page.unroute_all()
    await visit.says("#state", "live")
    await visit.shows("usernames", ranked(PEOPLE))


async def test_two_daemons_behind_one_name_make_no_page_reload_for_ever(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    blanks = 0

    async def other_each_time(route: Route) -> None:
        nonlocal blanks
        blanks += 1
        await route.fulfill(status=200, body=" " * blanks + await (await route.fetch()).text())

    await visit.page.route("**/boards", other_each_time)
    await visit.page.route("**/events?*", lambda route: route.fulfill(status=503))
    loads: list[str] = []
    visit.page.on("load", lambda page: loads.append(page.url))
    await visit.page.click("text=5 minutes")
    await wait_until(lambda: loads, timeout_s=10)
    await visit.page.evaluate("new Promise(done => setTimeout(done, 8000))")
    assert len(loads) == 1


async def test_another_version_of_the_daemon_brings_its_own_page(
    visitor: Visitor, town: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = await visitor.open(town.address)
    await visit.says("#state", "live")
    await visit.page.evaluate("window.old = true")
    answers = [200, 502]

    async def answer(route: Route) -> None:
        await (route.fulfill(status=answers.pop(), body="Down for maintenance") if answers else route.continue_())

    await visit.page.route(f"{town.address}/", answer)
    monkeypatch.setattr(api_module, "__version__", "99.0")
    await wait_until(lambda: not answers, timeout_s=10)
    await visit.until("window.old === undefined && document.querySelector('.list .row')")


async def test_a_hidden_page_is_no_viewer(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    assert town.api.live.viewers == 1
    hide = """is => {
        Object.defineProperty(document, 'hidden', { value: is, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    await visit.page.evaluate(hide, True)
    await wait_until(lambda: town.api.live.viewers == 0)
    await town.count("usernames", {"bob": 15})
    await visit.page.evaluate(hide, False)
    await visit.shows("usernames", [("1", "bob", "35"), ("2", "alice", "30"), ("3", "chloë", "10")])
    assert is_clean(visit)


# --- Hostile names ---

HOSTILE = {
    "<img src=x onerror=\"document.title='owned'\">": 90,
    "</script><script>document.title='owned'</script>": 80,
    "\N{RIGHT-TO-LEFT OVERRIDE}evil": 75,
    "e\N{RIGHT-TO-LEFT OVERRIDE}vil": 70,
    "مرحبا": 65,
    "w" * 200: 60,
    "👩\N{ZERO WIDTH JOINER}👩\N{ZERO WIDTH JOINER}👧\N{ZERO WIDTH JOINER}👦": 50,
    "e" + "\N{COMBINING ACUTE ACCENT}" * 60: 40,
    "\N{HANGUL FILLER}": 30,
    "javascript:document.title='owned'": 20,
}


async def test_hostile_names_are_text_and_nothing_else(visitor: Visitor, store: Store) -> None:
    async with wall(store) as made:
        for name, score in HOSTILE.items():
            await store.execute("ZADD", "usernames", score, name)
        visit = await visitor.open(made.address, viewport={"width": 700, "height": 900})
        shown = {**{name: name for name in HOSTILE}, "\N{HANGUL FILLER}": "U+3164"}
        expected = [(str(place), shown[name], str(score)) for place, (name, score) in enumerate(HOSTILE.items(), 1)]
        await visit.shows("usernames", expected)
        assert await visit.page.title() == "all time · tweetboard"
        assert await visit.page.locator(".list img, .list script, .list b").count() == 0
        await visit.at_rest()
        places = await visit.page.evaluate(
            """() => [...document.querySelectorAll(".list .row")].map(row => {
                const [name, score, whole] = [".name", ".score", null].map(
                    part => (part ? row.querySelector(part) : row).getBoundingClientRect());
                return [whole.height, name.right <= score.left, score.right <= whole.right, whole.right <= innerWidth];
            })"""
        )
        assert [place[1:] for place in places] == [[True] * 3] * len(HOSTILE)
        assert len({place[0] for place in places}) == 1, "each row is as high as any other"
        for place, name in enumerate(HOSTILE):
            if made.boards["usernames"].identity(name) != name:
                continue  # such a name no stream can bring, and nobody can search for
            await visit.page.locator(".list a.name").nth(place).click()
            await visit.says("[aria-labelledby=board-usernames] .found [aria-current=true] bdi", shown[name])
        assert await visit.page.title() != "owned"
        assert is_clean(visit)


async def test_a_display_of_ten_kilobytes_takes_one_row(visitor: Visitor, store: Store) -> None:
    async with wall(store) as made:
        await store.execute("ZADD", "usernames", 1, "x" * 10_240)
        visit = await visitor.open(made.address)
        assert await visit.page.evaluate("document.querySelector('.list .row').offsetHeight") == 40
        assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_what_is_put_into_the_page_from_elsewhere_is_not_run(visitor: Visitor, town: Wall) -> None:
    """What a fault of ours might let in, the policy keeps out."""
    visit = await visitor.open(town.address)
    refused = await visit.page.evaluate(
        """() => { try { document.body.innerHTML = "<img src=x onerror=alert(1)>"; return ""; }
            catch (error) { return error.name; } }"""
    )
    assert refused == "TypeError"
    await visit.page.evaluate(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'https://a.example/x'}))"
    )
    await wait_until(lambda: any("Content Security Policy" in error for error in visit.errors))


# --- For everybody ---


@pytest.mark.parametrize(
    ("query", "profile"),
    [
        ("?find=tag03", {"color_scheme": "light"}),
        ("?find=tag03&window=5m", {"color_scheme": "dark"}),
        ("", {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}),
        ("?kiosk=1", {"viewport": {"width": 1920, "height": 1080}, "color_scheme": "dark"}),
        ("?theme=light&find=nobody", {"color_scheme": "dark"}),
        ("", {"forced_colors": "active"}),
    ],
    ids=["light", "dark", "phone", "kiosk", "light-chosen", "forced-colours"],
)
async def test_axe_finds_nothing(visitor: Visitor, town: Wall, query: str, profile: dict[str, Any]) -> None:
    visit = await visitor.open(town.address, query, bypass_csp=True, **profile)
    await town.count("usernames", {"bob": 15, "eve": 500})
    await visit.until("document.querySelectorAll('[aria-labelledby=board-usernames] .list .row').length === 4")
    await visit.at_rest()
    await visit.page.evaluate(AXE_FILE_PATH.read_text())
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = await visit.page.evaluate("rules => axe.run({runOnly: rules})", rules)
    told = [(one["id"], one["help"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
    assert not told, json.dumps(told, indent=1)
    assert len(found["passes"]) > 15, "it has looked"


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance of red, green and blue (WCAG 2.2)."""
    shares = [one / 255 for one in colour]
    red, green, blue = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_words_can_be_told_from_what_they_stand_on(visitor: Visitor, town: Wall, theme: str) -> None:
    """Of what lies over a bar axe knows nothing."""
    visit = await visitor.open(town.address, f"?theme={theme}")
    pairs = [
        *((words, ground, 4.5) for words in ("ink", "soft", "up", "down", "new") for ground in ("board", "bar")),
        *((words, "ground", 4.5) for words in ("ink", "soft", "good", "wait", "bad")),
        *(("line", ground, 3.0) for ground in ("board", "bar", "ground")),
        *(("control", ground, 3.0) for ground in ("board", "ground")),
    ]
    for words, ground, least in pairs:
        colours = await visit.page.evaluate(
            """names => names.map(name => {
                document.body.style.color = `var(--${name})`;
                return getComputedStyle(document.body).color.match(/[0-9]+/g).map(Number);
            })""",
            [words, ground],
        )
        dark, light = sorted(map(luminance, colours))
        assert (light + 0.05) / (dark + 0.05) >= least, (words, ground)


async def test_all_can_be_done_with_the_keyboard(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address)
    reached = []
    for _ in range(7):
        await visit.page.keyboard.press("Tab")
        reached.append(await visit.page.evaluate("document.activeElement.textContent || document.activeElement.id"))
    assert reached == ["Skip to the boards", "all time", "find", "◐ Auto", "alice", "bob", "chloë"]
    await visit.page.keyboard.press("Enter")
    await visit.says("[aria-labelledby=board-usernames] .words", "chloë is number 3 of 3.")
    assert await visit.page.evaluate("document.activeElement.textContent") == "chloë"


async def test_nothing_has_to_be_scrolled_sideways(visitor: Visitor, store: Store) -> None:
    async with wall(store) as made:
        await store.execute("ZADD", "usernames", 1_234_567, "a_rather_long_name_of_somebody", 1_234_566, "alice")
        visit = await visitor.open(made.address, "?find=alice")
        for width in (320, 390, 768, 1280, 3840):
            await visit.page.set_viewport_size({"width": width, "height": 900})
            assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            names = "[...document.querySelectorAll('.list .name')].every(name => name.offsetWidth >= 60)"
            assert await visit.page.evaluate(names), f"there is no room for names at {width}"


@pytest.mark.parametrize("boards", [1, 2, 12])
async def test_on_a_wall_all_rows_are_on_the_screen(visitor: Visitor, store: Store, boards: int) -> None:
    async with wall(store, {f"board-{number}": Kept() for number in range(boards)}) as made:
        for name in made.boards:
            await made.count(name, TAGS)
        visit = await visitor.open(made.address, "?kiosk=1")
        await visit.shows(f"board-{boards - 1}", ranked(TAGS))
        await visit.at_rest()
        for width, height in ((1920, 1080), (1080, 1920), (3840, 2160), (1280, 720)):
            await visit.page.set_viewport_size({"width": width, "height": height})
            assert await visit.page.evaluate(
                """() => [...document.querySelectorAll(".list .row")].every(row => {
                    const {top, bottom, left, right} = row.getBoundingClientRect();
                    return top >= 0 && bottom <= innerHeight && left >= 0 && right <= innerWidth;
                })"""
            ), (width, height)
            assert await visit.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
            font = "parseFloat(getComputedStyle(document.querySelector('.list .name')).fontSize)"
            assert await visit.page.evaluate(font) >= min(width, height) / (60 if boards < 3 else 110), (width, height)
        assert await visit.page.is_hidden("#find")
        assert is_clean(visit)


async def test_colours_are_the_systems_until_others_are_chosen_and_then_those(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = await visit.page.evaluate(ground)
    await visit.page.emulate_media(color_scheme="light")
    light = await visit.page.evaluate(ground)
    assert dark != light
    await visit.page.click("#theme")
    assert await visit.page.evaluate(ground) == dark
    await visit.page.reload()
    assert await visit.page.evaluate(ground) == dark
    assert await visit.text("#theme") == "● Dark"
    await visit.page.click("#theme")
    await visit.page.emulate_media(color_scheme="dark")
    assert await visit.page.evaluate(ground) == light


async def test_without_scripts_it_says_where_the_boards_are(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, waits_for="noscript p", java_script_enabled=False)
    assert "The boards are also at /boards" in await visit.text("noscript p")


# --- Words ---

NOW = "new Date('2026-11-29T12:00:00Z')"


def stream(status: str, **more: object) -> dict[str, object]:
    return {"status": status, "since": "2026-11-29T11:00:00Z", **more}


WORDS: list[tuple[str, object]] = [
    ("windowWords('90s')", "90 seconds"),
    ("ofWords('1h')", "last hour"),
    ("ofWords('7d')", "last 7 days"),
    ("ofWords('trending')", "trending"),
    ("number(1234567)", "1,234,567"),
    ("number(59.25, 'trending')", "59.3"),
    ("number(7, 'trending')", "7.0"),
    ("number(0.00123, 'trending')", "0.0012"),
    ("seconds('24h')", 86_400),
    ("seconds('all')", 0),
    ("changeWords(3)", ["up", "▲3", "up 3"]),
    ("changeWords(-12)", ["down", "▼12", "down 12"]),
    ("changeWords('new')", ["new", "new", "new"]),
    ("changeWords(0)", ["", "", ""]),
    ("changeWords(undefined)", ["", "", ""]),
    ("visible('\\u200b\\u2060')", "U+200B U+2060"),
    ("visible('')", ""),
    ("visible('a\\u200b')", "a\u200b"),
    ("roughly(0.2)", "1 s"),
    ("roughly(5400)", "90 min"),
    ("roughly(86400)", "24 h"),
    ("roughly(400000)", "5 days"),
    ("stateWords(null, null, now)", ["wait", "connecting"]),
    (
        "stateWords(new Date('2026-11-29T11:00:00Z'), null, now)",
        ["bad", "no connection to tweetboard, reconnecting since 11:00:00 AM"],
    ),
    (
        "stateWords(new Date('2026-11-28T11:00:00Z'), null, now)",
        ["bad", "no connection to tweetboard, reconnecting since 11/28/2026 11:00:00 AM"],
    ),
]

GAP = ["good", "live; a gap before 11:59:00 AM: up to 7 s went by unheard"]

STATES: list[tuple[dict[str, object], dict[str, str], object]] = [
    ({"a": stream("live")}, {}, ["good", "live"]),
    ({"a": stream("live"), "b": stream("live")}, {}, ["good", "live"]),
    ({"a": stream("standby")}, {}, ["good", "live, counted by another instance"]),
    ({"a": stream("live", gap_s=7)}, {}, ["good", "live"]),
    ({"a": stream("live", gap_s=7, since="2026-11-29T11:59:00Z")}, {}, GAP),
    ({"a": stream("quiet")}, {}, ["wait", "connected, but next to no posts come"]),
    ({"a": stream("live", left_out=1200)}, {}, ["good", "live; some 1,200 posts were left out by the stream"]),
    (
        {"a": stream("live"), "b": stream("catching up", behind_s=120)},
        {},
        ["wait", "a: live · b: catching up: 2 min behind"],
    ),
    ({"a": stream("live")}, {"redis": "away", "stream": "x"}, ["bad", "waiting for Redis · live"]),
    ({"a": stream("live")}, {"hashtags": "not subscribed"}, ["bad", "hashtags: not subscribed · live"]),
    (
        {"a": stream("ended", detail="refused: 401")},
        {"stream": "refused: 401"},
        ["bad", "stream ended at 11:00:00 AM"],
    ),
]


async def test_words_and_numbers(visitor: Visitor, town: Wall) -> None:
    visit = await visitor.open(town.address, timezone_id="UTC", locale="en-US")
    for call, expected in WORDS:
        said = await visit.page.evaluate(
            f"import('/words.js').then(words => {{ const now = {NOW}; return words.{call}; }})"
        )
        assert said == expected, call
    for streams, troubles, expected in STATES:
        state = json.dumps({"streams": streams, "troubles": troubles})
        told = await visit.page.evaluate(f"import('/words.js').then(words => words.stateWords(null, {state}, {NOW}))")
        assert told == expected
