"""Take pictures of a running daemon's page, to be looked at: python tests/page/screenshots.py ADDRESS FOLDER.

The README's picture is `light.png` of a demo that has run for more than five minutes.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from browsing import Visitor, started_browser

PICTURES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "light": ("", {"viewport": {"width": 1200, "height": 610}, "color_scheme": "light"}),
    "dark": ("?window=trending&find=coffee", {"viewport": {"width": 1200, "height": 900}, "color_scheme": "dark"}),
    "phone": ("?window=1h", {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}),
    "kiosk": ("?kiosk=1", {"viewport": {"width": 1920, "height": 1080}, "color_scheme": "dark"}),
    "kiosk-upright": ("?kiosk=1&theme=light", {"viewport": {"width": 1080, "height": 1920}}),
}


async def main(address: str, folder: Path) -> None:
    """Take all pictures of the page at an address."""
    async with started_browser() as browser, AsyncExitStack() as stack:
        for name, (query, profile) in PICTURES.items():
            # Without motion, so that no row is caught on its way.
            visit = await Visitor(browser, stack).open(address, query, reduced_motion="reduce", **profile)
            await visit.until("document.querySelector('.list .row:last-child .spark path')?.getAttribute('d')")
            await visit.page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].rstrip("/"), Path(sys.argv[2])))
