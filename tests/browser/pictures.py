"""The pictures of docs/dashboard.md: `python -m tests.browser.pictures docs`, or another folder to look at first."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page

from tests.browser import scenes
from tests.browser.browsers import PHONE, operator, row, running
from tests.browser.room import Room, serving

SETTLED_MS = 700
"""Whatever comes by a poll or with a transition is there by then."""
LARGE = {"width": 1440, "height": 1130}


async def take(
    browser: Browser,
    room: Room,
    path: Path,
    first: Callable[[Page], Awaitable[None]] | None = None,
    **options: Any,
) -> None:
    async with operator(browser, room, **options) as page:
        await page.locator(".row[data-call]").first.wait_for()
        await page.locator(".order").first.wait_for()
        if first is not None:
            await first(page)
        await page.wait_for_timeout(SETTLED_MS)
        await page.screenshot(path=path)
    print(path)


async def take_all(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as kept:
        async with serving(Path(kept), budget=scenes.budgets()) as room, running() as browser:
            room.service.replica_history.began = time.time() - 5 * 3600
            scenes.incident(room.service, scenes.some_calls(room.service, 140))
            scenes.spend(room.service)
            scenes.orders(room.service)
            id = scenes.one_call(room.service)

            async def timeline(page: Page) -> None:
                await page.get_by_label("Search calls").fill(id)
                await row(page, id).click()
                await page.get_by_label("Show what was said").check()

            async def force(page: Page) -> None:
                await page.get_by_role("button", name="Force a tier…").click()
                await page.get_by_label("Reason").fill("Provider answers slowly")
                await page.get_by_role("button", name="Go on…").click()

            async def calls(page: Page) -> None:
                await page.evaluate("document.getElementById('calls').scrollIntoView()")

            await take(browser, room, folder / "dashboard-incident.png", viewport=LARGE)
            await take(browser, room, folder / "dashboard-dark.png", viewport=LARGE, color_scheme="dark")
            await take(browser, room, folder / "dashboard-timeline.png", timeline)
            await take(
                browser, room, folder / "dashboard-force.png", force, viewport={"width": 1100, "height": 800}
            )
            await take(
                browser, room, folder / "dashboard-phone.png", calls, viewport=PHONE, device_scale_factor=1.5
            )


if __name__ == "__main__":
    asyncio.run(take_all(Path(sys.argv[1])))
