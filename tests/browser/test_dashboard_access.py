"""The dashboard for everybody: by keyboard alone, on a phone, in the dark, without motion, with a thousand calls."""

from __future__ import annotations

import asyncio
import random
import statistics

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser import scenes
from tests.browser.browsers import PHONE, operator, row
from tests.browser.room import Room

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

READABLE = 4.5
"""Contrast of text that WCAG 2 asks for at level AA."""
TEXTS = (
    "body",
    ".quiet",
    ".chip",
    ".summary",
    ".next",
    ".state",
    ".why",
    ".badge",
    ".notice",
    ".order .reason",
    ".budget .amount",
    ".figures",
    "#calls .row .cost",
    "#calls .row [data-late=true]",
    ".tabs button",
    "button",
)
CONTRASTS = """(selectors) => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, index) => sum + v * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255];
  };
  const seen = {};
  for (const selector of selectors) {
    for (const node of document.querySelectorAll(selector)) {
      if (!node.checkVisibility()) continue;
      const both = [light(rgba(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
      seen[selector] = Math.min(seen[selector] ?? 21, (both[0] + 0.05) / (both[1] + 0.05));
    }
  }
  return seen;
}"""


async def full(room: Room) -> str:
    """A room with a bit of everything in it; the id of a call."""
    ids = scenes.some_calls(room.service, 40)
    scenes.incident(room.service, ids)
    scenes.spend(room.service)
    scenes.orders(room.service)
    return scenes.one_call(room.service)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_can_be_read(browser: Browser, room: Room, scheme: str) -> None:
    id = await full(room)
    # A key that may only look has a notice on the page.
    room.keys["operator"] = room.keys["metrics"]
    problems: list[str] = []
    async with operator(browser, room, color_scheme=scheme, problems=problems) as page:
        await page.get_by_label("Search calls").fill(id)
        await expect(row(page, id)).to_be_visible()
        await expect(page.locator("#notices")).to_contain_text("may look")
        seen = await page.evaluate(CONTRASTS, list(TEXTS))
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(16, 19, 24)") is (scheme == "dark")
    assert {name: round(ratio, 1) for name, ratio in seen.items() if ratio < READABLE} == {}
    assert {"body", ".state", ".badge", ".notice"} <= seen.keys()


async def test_on_a_phone(browser: Browser, room: Room) -> None:
    id = await full(room)
    async with operator(browser, room, viewport=PHONE) as page:
        await page.get_by_label("Search calls").fill(id)
        await expect(row(page, id)).to_be_visible()
        await expect(page.locator(".order")).to_have_count(3)
        assert await too_wide(page) == []
        # Fingers need room.
        small = await page.evaluate(
            """[...document.querySelectorAll('button')]
              .filter((node) => node.checkVisibility() && node.offsetHeight < 32).map((node) => node.textContent)"""
        )
        assert small == []
        await page.get_by_role("button", name="Force a tier…").click()
        await expect(page.locator("dialog[data-name=force]")).to_be_visible()
        assert await too_wide(page) == []
        await page.keyboard.press("Escape")
        await row(page, id).click()
        dialog = page.locator("dialog[data-name=timeline]")
        await expect(dialog.locator(".span")).to_have_count(3)
        assert await too_wide(page) == []
        # The picture is wider, and scrolled inside its frame.
        assert await dialog.locator(".scroll").evaluate("(node) => node.scrollWidth > node.clientWidth")


async def too_wide(page: Page) -> list[str]:
    """What sticks out of the page, or of a dialog."""
    found: list[str] = await page.evaluate(
        """() => {
          const root = document.documentElement;
          const out = root.scrollWidth > root.clientWidth ? ['the page'] : [];
          for (const node of document.querySelectorAll('dialog[open]')) {
            if (node.scrollWidth > node.clientWidth) out.push(node.dataset.name);
          }
          return out;
        }"""
    )
    return found


async def focused(page: Page) -> str:
    name: str = await page.evaluate(
        """(() => {
          const node = document.activeElement;
          return node.getAttribute('aria-label') ?? node.dataset.call ?? node.textContent;
        })()"""
    )
    return name


async def tab_to(page: Page, name: str) -> list[str]:
    """Presses Tab until that is reached; the names on the way. Whatever has the focus is seen to have it."""
    way: list[str] = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        way.append(await focused(page))
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", way
        if way[-1] == name:
            return way
    raise AssertionError(f"{name} cannot be reached: {way}")


async def test_by_keyboard_alone(browser: Browser, room: Room) -> None:
    service = room.service
    for number in range(200):
        service.begin(f"call_{number:03}", ago=1000 + number)
    async with operator(browser, room) as page:
        await expect(row(page, "call_000")).to_be_visible()
        way = await tab_to(page, "call_000")
        # From the top to the bottom, as it is read.
        assert way[:5] == ["Skip to the calls", "Key…", "Force tier A…", "Force tier B…", "Force tier C…"]
        for key, wanted in (
            ("ArrowDown", "call_001"),
            ("ArrowDown", "call_002"),
            ("ArrowUp", "call_001"),
            ("End", "call_199"),
            ("Home", "call_000"),
        ):
            await page.keyboard.press(key)
            assert await focused(page) == wanted
        await page.keyboard.press("PageDown")
        far = await focused(page)
        assert far > "call_005"
        await page.keyboard.press("Enter")
        await expect(page.locator("dialog[data-name=timeline]")).to_contain_text(far)
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)
        assert await focused(page) == far

        await tab_to(page, "Force a tier…")
        await page.keyboard.press("Enter")
        form = page.locator("dialog[data-name=force]")
        while not await form.get_by_label("Reason").evaluate("(node) => node === document.activeElement"):
            await page.keyboard.press("Tab")
        await page.keyboard.type("By hand")
        await page.keyboard.press("Enter")
        # Whoever presses Enter once too often has cancelled.
        await expect(page.locator("dialog[data-name=confirm]")).to_be_visible()
        assert await focused(page) == "Cancel"
        await tab_to(page, "Yes, force B")
        await page.keyboard.press("Enter")
        await expect(page.locator("dialog")).to_have_count(0)
        assert [override.reason for override in service.fleet.overrides] == ["By hand"]
        assert await focused(page) == "Force a tier…"


async def test_a_thousand_calls(browser: Browser, room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    service, rng = room.service, random.Random(8)
    ids = scenes.some_calls(service, 1000)
    async with operator(browser, room) as page:
        await expect(page.locator("#calls-count")).to_have_text("1,000 live")
        # Those that are seen, and a few more.
        assert await page.locator("#calls-list .body .row").count() < 60
        await page.evaluate("controlRoom.frames.times.length = 0; controlRoom.frames.count = 0")
        # From frame to frame, with layout and painting.
        await page.evaluate(
            """() => {
              window.paces = [];
              const next = (before) => (at) => { window.paces.push(at - before); requestAnimationFrame(next(at)); };
              requestAnimationFrame(next(performance.now()));
            }"""
        )
        viewport = page.locator(".viewport")
        for step in range(40):
            # As many rows as so many calls make in two seconds and a half.
            for id in rng.sample(ids, 20):
                service.charge(id, 0.001)
                service.row(id, "turn_ended", turn=9, outcome="answered")
            if step % 4 == 0:
                service.hand_over(rng.choice(ids), "B", "closed", gap_ms=rng.uniform(50, 900))
            await viewport.evaluate("(node, top) => { node.scrollTop = top }", (step * 977) % 38_000)
            await asyncio.sleep(0)
        last = ids[0]
        service.charge(last, 3.0)
        await page.get_by_label("Order").select_option("cost")
        await expect(row(page, last).locator(".cost")).to_contain_text("$3.")
        count, times, paces = await page.evaluate(
            "[controlRoom.frames.count, controlRoom.frames.times, paces]"
        )
    # 1,600 rows and 40 scrolls came, and were drawn together.
    assert count < 400
    shown = (
        f"{count} frames drawn, each in {statistics.median(times):.1f} ms (median; longest {max(times):.1f}); "
        f"{statistics.median(paces):.1f} ms from frame to frame (95%: {sorted(paces)[int(0.95 * len(paces))]:.1f})"
    )
    with capsys.disabled():
        print(f"\na thousand calls: {shown}")
    assert statistics.median(times) < 16, shown
    assert statistics.median(paces) < 50, shown


async def test_without_motion(browser: Browser, room: Room) -> None:
    scenes.spend(room.service)
    async with operator(browser, room, reduced_motion="reduce") as page:
        await expect(page.locator(".budget")).to_have_count(3)
        moving = await page.evaluate(
            """[...document.querySelectorAll('*')]
              .filter((node) => parseFloat(getComputedStyle(node).transitionDuration) > 0).length"""
        )
        assert moving == 0


async def test_names_and_roles(browser: Browser, room: Room) -> None:
    """What a screen reader is told: every control has a name, every section a heading, the list its size."""
    await full(room)
    async with operator(browser, room) as page:
        await expect(page.locator(".order")).to_have_count(3)
        nameless = await page.evaluate(
            """[...document.querySelectorAll('button, input, select, svg[role=img], section, article.tier')]
              .filter((node) => node.checkVisibility() && !node.getAttribute('aria-label')
                && !node.getAttribute('aria-labelledby')
                && !node.textContent.trim() && !node.labels?.length).map((node) => node.outerHTML)"""
        )
        assert nameless == []
        ids = await page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
        assert len(ids) == len(set(ids))
        await expect(page.locator("#calls [role=table]")).to_have_attribute("aria-rowcount", "42")
        assert await page.locator("html").get_attribute("lang") == "en"
