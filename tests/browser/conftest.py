"""One browser for each module of tests, one server for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser

from tests.browser import scenes
from tests.browser.browsers import running
from tests.browser.room import Room, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with serving(tmp_path, budget=scenes.budgets()) as found:
        yield found
