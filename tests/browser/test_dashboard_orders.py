"""Overrides and drills through the page: what it says before, what comes of it, and the audit trail that follows."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser import scenes
from tests.browser.browsers import operator, row
from tests.browser.room import RUNGS, Room

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


async def audited(room: Room, action: str) -> dict[str, Any]:
    """The latest entry of that kind, once it is there."""
    headers = {"Authorization": f"Bearer {room.keys['operator']}"}
    async with httpx.AsyncClient(base_url=room.url, headers=headers, trust_env=False) as client:
        for _ in range(400):
            entries = (await client.get("/v1/audit")).json()["entries"]
            found: list[dict[str, Any]] = [entry for entry in entries if entry["action"] == action]
            if found:
                return found[-1]
            await asyncio.sleep(0.02)
    raise AssertionError(f"nothing in the audit trail about {action}: {entries}")


def form(page: Page, name: str) -> Locator:
    return page.locator(f"dialog[data-name={name}]")


async def agree(page: Page, action: str) -> str:
    """Says yes, and returns what was said to happen."""
    asked = form(page, "confirm")
    told = await asked.locator(".consequences").inner_text()
    await asked.get_by_role("button", name=action).click()
    return told


async def test_force_extend_and_clear(browser: Browser, room: Room) -> None:
    service = room.service
    for number in range(12):
        service.begin(f"call_{number}", bucket="shop" if number < 9 else "support")
    for number in range(3):
        service.hand_over(f"call_{number}", "B", "closed")
    async with operator(browser, room) as page:
        await expect(row(page, "call_11")).to_be_visible()
        await page.get_by_role("button", name="Force a tier…").click()
        asked = form(page, "force")
        await asked.get_by_label("Which calls").select_option("bucket")
        await asked.get_by_label("Its name or id").fill("shop")
        await asked.get_by_label("For how long").fill("1h")
        await asked.get_by_label("Reason").fill("Provider answers slowly")
        await asked.get_by_label("Your name").fill("Grace H.")
        await asked.get_by_role("button", name="Go on…").click()
        # Nothing has happened so far, nor does it when one thinks better of it.
        await expect(form(page, "confirm")).to_contain_text("6 live calls of 9 at this replica")
        await page.keyboard.press("Escape")
        await expect(form(page, "confirm")).to_have_count(0)
        assert not service.fleet.overrides
        await asked.get_by_role("button", name="Go on…").click()
        told = await agree(page, "Yes, force B")
        assert "will move to B at their next pause; 3 are there already" in told
        await expect(page.locator("#notices")).to_contain_text("The audit trail says so")
        (made,) = service.fleet.overrides
        assert (str(made.tier), str(made.scope), made.reason) == (
            "B",
            "bucket:shop",
            "Provider answers slowly",
        )
        order = page.locator(f'.order[data-id="{made.id}"]')
        await expect(order).to_contain_text("Forced to B · calls of bucket shop")
        await expect(order).to_contain_text("by the operator key (Grace H.)")
        entry = await audited(room, "override.made")
        assert (entry["subject"], entry["name"]) == (made.id, "the operator key")
        assert (entry["details"]["typed"], entry["reason"]) == ("Grace H.", made.reason)
        assert entry["who"].startswith("key_")

        await order.get_by_role("button", name="Extend").click()
        await form(page, "extend").get_by_label("For how long from now").fill("4h")
        await form(page, "extend").get_by_role("button", name="Go on…").click()
        assert "9 live calls at this replica are in its scope, 3 on B now" in await agree(page, "Yes, extend")
        await expect(order).to_contain_text("in 3 h 59 min")
        assert service.fleet.overrides[0].until == pytest.approx(made.until + 3 * 3600, abs=60)
        assert (await audited(room, "override.extended"))["subject"] == made.id

        await order.get_by_role("button", name="Clear").click()
        assert "9 live calls at this replica are in its scope" in await agree(page, "Yes, clear it")
        await expect(order).to_have_count(0)
        assert not service.fleet.overrides
        assert (await audited(room, "override.cleared"))["subject"] == made.id


async def test_a_ceiling_of_a_rung_for_a_share(browser: Browser, room: Room) -> None:
    room.service.begin("call_1")
    async with operator(browser, room) as page:
        await page.get_by_role("button", name="Force tier A…").click()
        asked = form(page, "force")
        await asked.locator("[name=limit]").select_option("ceiling")
        await asked.get_by_label("Tier or rung").select_option(f"A/{RUNGS[1]}")
        await asked.get_by_label("Per cent of them").fill("12.5")
        await asked.get_by_label("Reason").fill("Try the smaller model")
        await page.keyboard.press("Enter")
        told = await agree(page, "Yes, nothing better than")
        assert "No call in progress moves. About 12.5%" in told
        await expect(page.locator(".order .what")).to_contain_text("12.5% of new calls")
        (made,) = room.service.fleet.overrides
        assert (made.limit, made.target, made.share) == ("ceiling", f"A/{RUNGS[1]}", 12.5)


async def test_a_ceiling_counts_rungs_that_are_better(browser: Browser, room: Room) -> None:
    for number, tier in enumerate("AAABC"):
        room.service.begin(f"call_{number}", tier=tier)
    async with operator(browser, room) as page:
        await expect(row(page, "call_4")).to_be_visible()
        await page.get_by_role("button", name="Force a tier…").click()
        asked = form(page, "force")
        for limit, target, told in (
            ("ceiling", f"A/{RUNGS[1]}", "3 live calls of 5"),
            ("ceiling", "B", "3 live calls of 5"),
            ("ceiling", "A", "0 live calls of 5"),
            ("floor", "A", "2 live calls of 5"),
            ("floor", "B", "1 live call of 5"),
            ("force", "C", "4 live calls of 5"),
        ):
            await asked.locator("[name=limit]").select_option(limit)
            await asked.get_by_label("Tier or rung").select_option(target)
            await asked.get_by_label("Reason").fill("To see")
            await asked.get_by_role("button", name="Go on…").click()
            await expect(form(page, "confirm")).to_contain_text(told)
            await page.keyboard.press("Escape")
            await expect(form(page, "confirm")).to_have_count(0)
        assert not room.service.fleet.overrides


async def test_what_is_wrong_with_an_order_is_said(browser: Browser, room: Room) -> None:
    problems: list[str] = []
    async with operator(browser, room, problems=problems) as page:
        await page.get_by_role("button", name="Force a tier…").click()
        asked = form(page, "force")
        await asked.get_by_label("Which calls").select_option("user")
        await asked.get_by_role("button", name="Go on…").click()
        # A reason is mandatory.
        await expect(asked.get_by_label("Reason")).to_be_focused()
        assert await form(page, "confirm").count() == 0
        await asked.get_by_label("Reason").fill("Because")
        await asked.get_by_role("button", name="Go on…").click()
        await agree(page, "Yes, force B")
        await expect(asked.locator("[role=alert]")).to_contain_text("expected a scope of all, call:ID")
        await asked.get_by_label("Its name or id").fill("ada")
        await asked.get_by_role("button", name="Go on…").click()
        await agree(page, "Yes, force B")
        await expect(asked).to_have_count(0)
        assert str(room.service.fleet.overrides[0].scope) == "user:ada"
    assert all("422" in problem for problem in problems), problems


async def test_one_call_from_its_timeline(browser: Browser, room: Room) -> None:
    id = scenes.one_call(room.service)
    async with operator(browser, room) as page:
        await row(page, id).click()
        await page.get_by_role("button", name="Force this call…").click()
        await form(page, "force").get_by_label("Reason").fill("The caller complains")
        await page.keyboard.press("Enter")
        assert "1 live call of 1 at this replica" in await agree(page, "Yes, force B")
        await expect(form(page, "force")).to_have_count(0)
        assert str(room.service.fleet.overrides[0].scope) == f"call:{id}"


async def test_an_order_of_somebody_else_shows_at_once(browser: Browser, room: Room) -> None:
    async with operator(browser, room, problems=[], clock=True) as page:
        await expect(page.locator("#live")).to_have_text("Live")
        made = room.service.fleet.force(
            tier="C", scope="all", duration="5m", reason="Line is bad", who="key_2"
        )
        await expect(page.locator("#orders")).to_contain_text("Forced to C · all calls")
        # It goes by itself, whether the server is heard from or not.
        await page.context.set_offline(True)
        await page.clock.fast_forward(310_000)
        await expect(page.locator(f'.order[data-id="{made.id}"]')).to_have_count(0)


async def test_a_drill(browser: Browser, room: Room) -> None:
    async with operator(browser, room) as page:
        await page.get_by_role("button", name="Start a drill…").click()
        asked = form(page, "drill")
        await asked.get_by_label("What is practised").select_option("lose_provider")
        await asked.get_by_label("Per cent of new calls").fill("100")
        await asked.get_by_label("Reason").fill("Monthly drill")
        await page.keyboard.press("Enter")
        told = await agree(page, "Yes, start the drill")
        assert "taken from their provider in the middle of a turn" in told
        assert "The 0 calls in progress are left alone" in told
        await expect(page.locator("#notices")).to_contain_text("The audit trail says so")
        (drill,) = room.service.drills.drills
        order = page.locator(f'.order[data-id="{drill.id}"]')
        await expect(order).to_contain_text(
            "Drill: calls lose their provider · 100% of new calls, at most 100"
        )
        await order.get_by_role("button", name="Report").click()
        await expect(form(page, "report")).to_contain_text("Calls handed over")
        await page.keyboard.press("Escape")
        await order.get_by_role("button", name="Stop").click()
        await agree(page, "Yes, stop it")
        await expect(order).to_have_count(0)
        assert [(await audited(room, f"drill.{what}"))["subject"] for what in ("started", "stopped")] == [
            drill.id
        ] * 2
