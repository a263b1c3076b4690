"""The system's Chromium, driven by Playwright, which fetches none of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from tests.browser.room import Room

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESK = {"width": 1440, "height": 1000}
PHONE = {"width": 360, "height": 740}

# What is waited for comes in well under a second, on a machine that does nothing else.
expect.set_options(timeout=20_000)


def find() -> str:
    """The browser's path. Without one the test is skipped and says why, or fails where a browser is required."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    why = (
        f"no browser: none of {', '.join(NAMES)} is installed; `make chromium` installs Debian's where it may"
    )
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(why)
    pytest.skip(why)


@asynccontextmanager
async def running() -> AsyncIterator[Browser]:
    path = find()
    # Chromium's sandbox does not work for root, as which tests run in containers.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser,
    url: str,
    key: str = "",
    *,
    problems: list[str] | None = None,
    clock: bool = False,
    **options: Any,
) -> AsyncIterator[Page]:
    """The dashboard in a tab of its own, with a key as its user would have given it.

    A script that fails, fails the test. So does whatever the browser complains of, and what is asked of another host;
    with `problems` that is put there.
    `clock`: a test may move the page's clock.
    """
    context = await browser.new_context(
        **{"viewport": DESK, "locale": "en-GB", "timezone_id": "UTC", **options}
    )
    page = await context.new_page()
    found: list[str] = []
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(f"{error}\n{error.stack}"))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    own = (url, f"blob:{url}")
    page.on("request", lambda asked: None if asked.url.startswith(own) else found.append(asked.url))
    if key:
        await page.add_init_script(
            f"sessionStorage.getItem('orchestrator.key') ?? sessionStorage.setItem('orchestrator.key', {key!r})"
        )
    if clock:
        await page.clock.install()
    await page.goto(f"{url}/dashboard")
    try:
        yield page
    finally:
        await context.close()
    assert not failed, failed
    if problems is None:
        assert not found, found
    else:
        problems += found


def operator(browser: Browser, room: Room, **options: Any) -> AbstractAsyncContextManager[Page]:
    """The dashboard as an operator sees it; `options` as of `opened`."""
    return opened(browser, room.url, room.keys["operator"], **options)


def card(page: Page, tier: str) -> Locator:
    return page.locator(f'.tier[data-tier="{tier}"]')


def row(page: Page, id: str) -> Locator:
    return page.locator(f'.row[data-call="{id}"]:not([hidden])')
