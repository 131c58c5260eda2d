"""A real browser: what it shows, says in its console, and whom it asks for something."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_MS = 10_000
ROWS = """board => [...document.querySelectorAll(`[aria-labelledby="board-${board}"] .list .row`)].map(
    row => ["rank", "name", "score"].map(part => row.querySelector(`.${part}`).textContent))"""


@asynccontextmanager
async def started_browser() -> AsyncIterator[Browser]:
    """Start the browser that is there; skips where there is none."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"there is no browser here: none of {', '.join(BROWSERS)}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


class Visit:
    """A page that is looked at; `errors` is what its console says, `elsewhere` whom else it has asked for something."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(f"{address}/") else self._note(request.url))

    def _note(self, url: str) -> None:
        self.elsewhere.append(url)

    async def until(self, holds: str, argument: Any = None) -> None:  # noqa: ANN401 - whatever JSON can say
        """Wait until something holds: an expression, or a function of the argument."""
        # The page's policy keeps texts from being evaluated, but for what is a function from the start.
        function = holds if "=>" in holds.partition("\n")[0][:40] else f"() => ({holds})"
        await self.page.wait_for_function(function, arg=argument)

    async def at_rest(self) -> None:
        """Wait until nothing moves."""
        await self.until("document.getAnimations().length === 0")

    async def rows(self, board: str) -> list[tuple[str, str, str]]:
        """Say which rows a board shows: rank, name and score."""
        found: list[list[str]] = await self.page.evaluate(ROWS, board)
        return [(rank, name, score) for rank, name, score in found]

    async def shows(self, board: str, rows: list[tuple[str, str, str]]) -> None:
        """Wait until a board shows these rows."""
        found: list[tuple[str, str, str]] = []
        try:
            await self.until(
                f"([board, rows]) => JSON.stringify(({ROWS})(board)) === JSON.stringify(rows)", [board, rows]
            )
        finally:
            found = await self.rows(board)
        assert found == rows

    async def text(self, selector: str) -> str:
        return (await self.page.text_content(selector) or "").strip()

    async def says(self, selector: str, text: str) -> None:
        """Wait until an element's text is this."""
        await self.until(
            "([selector, text]) => document.querySelector(selector)?.textContent.trim() === text", [selector, text]
        )


class Visitor:
    """Opens pages, each in a profile of its own."""

    def __init__(self, browser: Browser, stack: AsyncExitStack) -> None:
        self.browser = browser
        self._stack = stack

    async def close(self) -> None:
        """Leave all pages, before those go who serve them."""
        await self._stack.aclose()

    async def open(
        self,
        address: str,
        query: str = "",
        waits_for: str = ".list .row",
        *,
        clock: bool = False,
        **profile: Any,  # noqa: ANN401 - playwright's own
    ) -> Visit:
        """Open the page and wait until it shows something; its `clock` then goes as a test wants."""
        context: BrowserContext = await self.browser.new_context(**profile)
        self._stack.push_async_callback(context.close)
        visit = Visit(await context.new_page(), address)
        if clock:
            await visit.page.clock.install()
        await visit.page.goto(f"{address}/{query}")
        await visit.page.wait_for_selector(waits_for)
        return visit
