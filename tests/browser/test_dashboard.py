"""The dashboard in a real browser: what it shows, live, and what it says when something is wrong."""

from __future__ import annotations

import io
import re
import wave
from typing import Any

import pytest
from playwright.async_api import Browser, Route, expect

from orchestrator.core.health import Cause, ProbeKind
from orchestrator.core.overrides import Tier
from orchestrator.server.store import StoreUnavailable
from tests.browser import scenes
from tests.browser.browsers import card, opened, operator, row
from tests.browser.room import RUNGS, Room

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


async def test_with_nothing_in_it(browser: Browser, room: Room) -> None:
    async with operator(browser, room) as page:
        await expect(page.locator("#live")).to_have_text("Live")
        await expect(page.locator("#calls")).to_contain_text("No call is live at this replica.")
        await expect(page.locator("#orders")).to_contain_text("Health and budgets decide")
        await expect(page.locator("#gaps")).to_contain_text("No caller has waited at a handover.")
        for tier in "ABC":
            await expect(card(page, tier).locator(".summary")).to_have_text("Takes calls · 0 live calls")
        await expect(card(page, "A").locator(".next")).to_contain_text(RUNGS[0])
        assert await page.locator("#notices > *").count() == 0


async def test_while_nothing_is_ready(browser: Browser, room: Room) -> None:
    for tier in (Tier.A, Tier.B, Tier.C):
        room.service.fleet.set_missing(tier)
    async with operator(browser, room) as page:
        await expect(card(page, "C").locator(".next")).to_have_text("No call can begin: nothing ready")
        await expect(card(page, "B").locator(".state").first).to_contain_text("Not there")


async def test_calls_as_they_happen(browser: Browser, room: Room) -> None:
    service = room.service
    service.begin("call_before")
    async with operator(browser, room) as page:
        await expect(row(page, "call_before")).to_be_visible()
        service.begin("call_new", bucket="shop", user="grace", ago=0)
        await expect(row(page, "call_new")).to_contain_text("shop")
        service.charge("call_new", 0.0123)
        service.charge("call_new", 0.0001)
        await expect(row(page, "call_new").locator(".cost")).to_have_text("$0.0124")
        await expect(row(page, "call_new").locator(".handover .way")).to_have_text("none")
        service.hand_over("call_new", "B", "next_audio_timeout", gap_ms=912.0)
        handover = row(page, "call_new").locator(".handover")
        await expect(handover).to_contain_text(re.compile(r"A → B, \d+ s ago"))
        await expect(handover).to_contain_text("next audio timeout")
        await expect(row(page, "call_new").locator(".gap")).to_have_text("912 ms")
        await expect(card(page, "B").locator(".summary")).to_have_text("Takes calls · 1 live call")
        await expect(page.locator("#gaps .figures")).to_contain_text("Median 912 ms")
        service.hang_up("call_new")
        await expect(row(page, "call_new")).to_have_count(0)
        await expect(page.locator("#calls-count")).to_have_text("1 live")


async def test_an_incident(browser: Browser, room: Room) -> None:
    service = room.service
    async with operator(browser, room) as page:
        await expect(card(page, "A")).to_have_attribute("data-level", "good")
        service.fleet.failed(RUNGS[0], Cause.REFUSED)
        first = page.locator(f'[data-rung="{RUNGS[0]}"]')
        await expect(first.locator(".state")).to_contain_text("Out of use")
        await expect(first.locator(".why")).to_contain_text(re.compile(r"refused · since \d\d:\d\d .* probe"))
        await expect(card(page, "A").locator(".summary")).to_contain_text("Takes calls, not on all rungs")
        await expect(card(page, "A").locator(".next")).to_contain_text(RUNGS[1])
        service.fleet.failed(RUNGS[1], Cause.BAD_KEY)
        await expect(card(page, "A").locator(".summary")).to_contain_text("Takes no calls")
        await expect(card(page, "B").locator(".next")).to_contain_text("kokoro")
        service.fleet.succeeded(RUNGS[0], ProbeKind.SESSION)
        await expect(first.locator(".state")).to_contain_text("On trial")
        await first.locator("summary").click()
        before = first.locator("details li")
        await expect(before.nth(0)).to_contain_text("on trial: refused")
        await expect(before.nth(1)).to_contain_text("out of use: refused")


async def test_history_is_there_for_who_comes_later(browser: Browser, room: Room) -> None:
    ids = scenes.some_calls(room.service, 30)
    scenes.incident(room.service, ids)
    async with operator(browser, room) as page:
        gaps = len(room.service.replica_history.gaps)
        await expect(page.locator("#gaps .why").first).to_contain_text(f"{gaps} handovers at this replica")
        numbers = await page.locator("#gaps svg .number").all_text_contents()
        assert sum(int(number or 0) for number in numbers) == gaps
        strip = page.locator(f'[data-rung="{RUNGS[0]}"] svg')
        assert "out of use or on trial for" in str(await strip.get_attribute("aria-label"))
        await expect(strip.locator(".open")).to_have_count(1)


async def test_budgets(browser: Browser, room: Room) -> None:
    scenes.spend(room.service)
    async with operator(browser, room) as page:
        support = page.locator(".budget", has_text="support")
        await expect(support.locator(".amount")).to_have_text("$11.20 of $12.00")
        await expect(support).to_have_attribute("data-level", "bad")
        await expect(support.locator(".why")).to_contain_text("93% spent")
        await expect(support.locator(".bar")).to_have_attribute("aria-label", "93 per cent spent")
        shop = page.locator(".budget", has_text="shop")
        await expect(shop.locator(".why")).to_contain_text(re.compile(r"end of the day|too early to say"))


async def test_one_call_as_a_picture(browser: Browser, room: Room) -> None:
    id = scenes.one_call(room.service)
    async with operator(browser, room) as page:
        await row(page, id).click()
        dialog = page.locator("dialog[data-name=timeline]")
        await expect(dialog.locator(".facts")).to_contain_text("tier A → B → A")
        await expect(dialog.locator(".lanes .span")).to_have_count(3)
        await expect(dialog.locator(".silence")).to_have_count(1)
        await expect(dialog.locator(".mark.answer")).to_have_count(5)
        # What was said is not there until it is asked for.
        assert scenes.SAID[0] not in await dialog.inner_text()
        await dialog.get_by_label("Show what was said").check()
        await expect(dialog).to_contain_text(scenes.SAID[0])
        # It goes on as the call does.
        room.service.row(id, "caller_said", item_id="item_99", text="Are you there?")
        await expect(dialog).to_contain_text("Are you there?")
        await dialog.get_by_label("Show what was said").uncheck()
        await expect(dialog).not_to_contain_text("Are you there?")
        assert scenes.SAID[0] not in await dialog.inner_text()
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)


async def test_calls_that_have_ended(browser: Browser, room: Room) -> None:
    service = room.service
    id = scenes.one_call(service)
    service.begin("call_lives")
    service.hang_up(id)
    async with operator(browser, room) as page:
        await expect(row(page, "call_lives")).to_be_visible()
        await expect(row(page, id)).to_have_count(0)
        await page.get_by_role("button", name="Ended").click()
        await expect(row(page, id)).to_be_visible()
        await expect(row(page, "call_lives")).to_have_count(0)
        await expect(page.locator("#calls-count")).to_have_text("1 ended, 1 live")
        await row(page, id).click()
        dialog = page.locator("dialog[data-name=timeline]")
        await expect(dialog.locator(".facts")).to_contain_text(
            re.compile(r"ended \d\d:\d\d:\d\d after 01:3\d")
        )
        # It was not recorded, so there is nothing to listen to.
        await expect(dialog.locator(".listening")).to_be_hidden()


def tone(seconds: float) -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(b"\x00\x10" * int(2 * 8000 * seconds))
    return file.getvalue()


async def test_a_recording_beside_its_timeline(browser: Browser, room: Room) -> None:
    service = room.service
    id = scenes.one_call(service)
    service.row(id, "recording", at=service.in_progress[id]["started_at"], state="recording")
    service.hang_up(id)
    asked: list[str] = []

    async def play(route: Route) -> None:
        asked.append(str(await route.request.header_value("authorization")))
        await route.fulfill(body=tone(60.0), content_type="audio/wav")

    async with operator(browser, room) as page:
        await page.route(f"**/v1/calls/{id}/recording", play)
        await page.get_by_role("button", name="Ended").click()
        await row(page, id).click()
        dialog = page.locator("dialog[data-name=timeline]")
        # Nothing is fetched, and noted, before somebody wants to hear it.
        await expect(dialog.locator(".span")).to_have_count(3)
        assert asked == []
        await dialog.get_by_role("button", name="Listen").click()
        await expect(dialog.locator("audio")).to_be_visible()
        assert asked == [f"Bearer {room.keys['operator']}"]
        head = dialog.locator(".playhead")
        before = float(str(await head.get_attribute("x1")))
        await dialog.locator("audio").evaluate("(player) => { player.currentTime = 30 }")
        there = "(before) => document.querySelector('.playhead').x1.baseVal.value > before + 100"
        await page.wait_for_function(there, arg=before)


async def test_a_call_that_has_gone(browser: Browser, room: Room) -> None:
    room.service.begin("call_gone")
    async with operator(browser, room, problems=[]) as page:
        await expect(row(page, "call_gone")).to_be_visible()
        room.service.records._live.clear()
        await row(page, "call_gone").click()
        await expect(page.locator("dialog [role=alert]")).to_contain_text("this replica knows no call")


async def test_a_wrong_key_and_then_the_right_one(browser: Browser, room: Room) -> None:
    problems: list[str] = []
    async with opened(browser, room.url, problems=problems) as page:
        form = page.locator("dialog[data-name=key]")
        await expect(form).to_be_visible()
        await expect(page.locator("#notices")).to_contain_text("No data without a key")
        await form.get_by_label("Key").fill("vo_00000000_" + "A" * 43)
        await form.get_by_role("button", name="Use it").click()
        await expect(form.locator("[role=alert]")).to_be_visible()
        assert await page.evaluate("sessionStorage.length") == 0
        await form.get_by_label("Key").fill(room.keys["operator"])
        await page.keyboard.press("Enter")
        await expect(form).to_have_count(0)
        await expect(page.locator("#live")).to_have_text("Live")
        await expect(page.locator("#notices > *")).to_have_count(0)
        assert room.keys["operator"] not in page.url
        assert await page.evaluate("localStorage.length") == 0
        await page.reload()
        await expect(page.locator("#live")).to_have_text("Live")
    # The browser notes each answer of 401; nothing else is wrong.
    assert all("401" in problem for problem in problems), problems


async def test_a_key_that_may_only_look(browser: Browser, room: Room) -> None:
    room.service.begin("call_1", bucket="shop")
    scenes.orders(room.service)
    problems: list[str] = []
    async with opened(browser, room.url, room.keys["metrics"], problems=problems) as page:
        await expect(page.locator("#notices")).to_contain_text("may look and change nothing")
        await expect(row(page, "call_1")).to_contain_text("shop")
        await expect(page.locator("#orders")).to_contain_text("Forced to B")
        for name in ("Force…", "Force a tier…", "Start a drill…", "Extend…", "Clear…"):
            assert await page.get_by_text(name, exact=True).filter(visible=True).count() == 0, name
        room.service.begin("call_2")
        await expect(row(page, "call_2")).to_be_visible()
    assert all("403" in problem for problem in problems), problems


async def test_a_key_of_a_service(browser: Browser, room: Room) -> None:
    problems: list[str] = []
    async with opened(browser, room.url, room.keys["service"], problems=problems) as page:
        await expect(page.locator("#notices")).to_contain_text("This key may not see this")
        await expect(page.locator("#notices")).to_contain_text("operator or metrics")
    assert all("403" in problem for problem in problems), problems


async def test_a_store_that_is_away(browser: Browser, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*arguments: Any) -> Any:
        raise StoreUnavailable("away")

    service = room.service
    scenes.orders(service)
    async with operator(browser, room) as page:
        await expect(page.locator("#live")).to_have_text("Live")
        for name in ("put", "get", "keys", "add", "publish", "delete"):
            monkeypatch.setattr(service.store, name, away)
        service.fleet.force(tier="C", scope="user:ken", duration="5m", reason="now", who="test")
        notice = page.locator("#notices [data-id=store]")
        await expect(notice).to_contain_text("The shared store is away since")
        await expect(notice).to_contain_text("wait to be written")
        # Overrides hold all the same.
        await expect(page.locator("#orders")).to_contain_text("Forced to C · calls of user ken")
        await expect(page.locator("#orders")).to_contain_text("Forced to B · calls of bucket support")
        monkeypatch.undo()
        await expect(notice).to_have_count(0, timeout=15_000)


async def test_a_server_that_is_gone(browser: Browser, room: Room) -> None:
    room.service.begin("call_1")
    problems: list[str] = []
    async with operator(browser, room, problems=problems, clock=True) as page:
        await expect(row(page, "call_1")).to_be_visible()
        await page.context.set_offline(True)
        await page.clock.run_for(20_000)
        await expect(page.locator("#live")).to_have_text("Out of date")
        await expect(page.locator("#notices")).to_contain_text("out of date")
        # What was known stays to be seen, and looks as old as it is.
        await expect(row(page, "call_1")).to_be_visible()
        await expect(page.locator("body")).to_have_attribute("data-stale", "true")
        await page.context.set_offline(False)
        await expect(page.locator("body")).not_to_have_attribute("data-stale", "true")
        await expect(page.locator("#notices [data-id=problem]")).to_have_count(0)


XSS = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


async def test_words_of_others_stay_words(browser: Browser, room: Room) -> None:
    service = room.service
    service.begin("call_1", user=XSS, bucket=XSS, purpose=XSS)
    service.row("call_1", "caller_said", item_id="item_1", text=XSS)
    service.hand_over("call_1", "B", XSS, gap_ms=300.0)
    service.fleet.force(
        tier="B", scope=f"user:{XSS}", duration="5m", reason=XSS, who=XSS, name=XSS, typed=XSS
    )
    service.fleet.ledgers.spend(XSS, 1_000_000_000)
    problems: list[str] = []
    async with operator(browser, room, problems=problems) as page:
        await expect(row(page, "call_1").locator(".user")).to_have_text(XSS)
        await expect(row(page, "call_1").locator(".bucket")).to_have_text(XSS)
        await expect(page.locator("#orders .reason")).to_have_text(f"“{XSS}”")
        await expect(page.locator(".budget .name", has_text="onerror")).to_have_text(XSS)
        await row(page, "call_1").click()
        dialog = page.locator("dialog[data-name=timeline]")
        await dialog.get_by_label("Show what was said").check()
        await expect(dialog.locator("q")).to_have_text(f"{XSS}")
        assert await page.title() == "Control room"
        assert await page.locator("img, body script").count() == 0
        # Even a script that had found a way in could make no markup.
        assert (
            await page.evaluate(
                "() => { try { document.body.innerHTML = '<b>x</b>' } catch (e) { return e.name } }"
            )
            == "TypeError"
        )
    assert problems == ["This document requires 'TrustedHTML' assignment. The action has been blocked."]


async def test_nothing_polls_for_a_page_that_has_lost_its_key(browser: Browser, room: Room) -> None:
    problems: list[str] = []
    async with operator(browser, room, problems=problems, clock=True) as page:
        await expect(page.locator("#live")).to_have_text("Live")
        asked: list[str] = []
        await page.evaluate("sessionStorage.setItem('orchestrator.key', 'vo_00000000_nothing')")
        await expect(page.locator("dialog[data-name=key]")).to_be_visible(timeout=10_000)
        await expect(page.locator("#notices")).to_contain_text("The key does not work any more")
        page.on("request", lambda request: asked.append(request.url))
        await page.clock.run_for(60_000)
        assert asked == []
