"""Keys of a telephone: gathered, shown, answered like a turn in every tier."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from orchestrator.core.actions import StartAnswer, StopAnswer
from orchestrator.core.conversation import text_of
from orchestrator.core.keypad import MOST, PAUSE_S
from orchestrator.protocol.answers import Message
from orchestrator.protocol.session import default_session
from tests.core.bench import Bench, audio_input, local, lose

DTMF = "input_audio_buffer.dtmf_event_received"


def press(bench: Bench, keys: str, every_s: float = 0.3) -> None:
    for key in keys:
        bench.wait(every_s)
        bench.call.dtmf(key, bench.now)
        bench.settle()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """No WebSocket client is sent a key, by the protocol: what else it is sent has to be right without them."""
    bench = Bench()
    yield bench
    bench.frames = [frame for frame in bench.frames if DTMF not in frame.data]
    bench.check()


def said(bench: Bench) -> list[str]:
    """The keypad's items, as the client sees them."""
    items = [event["item"] for event in bench.of("conversation.item.added")]
    texts = [part.get("text", "") for item in items for part in item.get("content") or []]
    return [text for text in texts if text.startswith("(keypad)")]


def upstream(bench: Bench) -> list[str]:
    return [event["type"] for event in bench.upstream if event["type"] != "frame"]


def echo(bench: Bench) -> None:
    """The provider puts the item that it was sent into the conversation."""
    sent = [e["item"] for e in bench.upstream if e["type"] == "conversation.item.create"][-1]
    item = {**sent, "object": "realtime.item", "status": "completed"}
    bench.provider("conversation.item.added", item=item, previous_item_id=None)
    bench.provider("conversation.item.done", item=item, previous_item_id=None)


def test_the_hash_key_ends_an_entry_which_is_answered(bench: Bench) -> None:
    local(bench)
    press(bench, "4172#")
    assert said(bench) == ["(keypad) 4172#"]
    assert bench.request.history == (Message("user", "(keypad) 4172#"),)
    bench.answer("Your order is on its way.")
    assert bench.of("response.done")[0]["response"]["status"] == "completed"


def test_so_does_a_pause_after_the_last_key(bench: Bench) -> None:
    local(bench)
    press(bench, "4172", every_s=PAUSE_S - 0.1)
    bench.wait(PAUSE_S - 0.01)
    assert said(bench) == []
    bench.wait(0.02)
    assert said(bench) == ["(keypad) 4172"]
    bench.answer("Thank you.")


def test_the_client_is_told_of_every_key_at_once(bench: Bench) -> None:
    local(bench)
    bench.ctx.wall_offset = 1_700_000_000.0
    press(bench, "4d*")
    assert bench.of(DTMF) == [
        {"type": DTMF, "event": key, "received_at": int(1_700_000_000 + 100 + 0.3 * count)}
        for count, key in enumerate("4D*", start=1)
    ]


@pytest.mark.parametrize("key", ["", "12", "x", "E", "é"])
def test_what_is_no_key_is_refused(bench: Bench, key: str) -> None:
    local(bench)
    with pytest.raises(ValueError, match="expected a key of a telephone"):
        bench.call.dtmf(key, bench.now)


def test_an_entry_has_an_end(bench: Bench) -> None:
    local(bench)
    press(bench, "1" * MOST, every_s=0.1)
    assert said(bench) == [f"(keypad) {'1' * MOST}"]
    bench.answer("Thank you.")


def test_the_first_key_stops_the_answer(bench: Bench) -> None:
    local(bench)
    bench.say()
    bench.words("Tell me everything.")
    bench.answer("one two three four five six seven eight nine ten", ms=1000, finish=False)
    press(bench, "1")
    assert bench.all(StopAnswer)
    response = bench.of("response.done")[0]["response"]
    assert (response["status"], response["status_details"]) == ("cancelled", {"type": "cancelled"})
    press(bench, "2#")
    history = bench.request.history
    assert history[-1] == Message("user", "(keypad) 12#")
    assert history[-2].cut_off
    bench.answer("All right.")


def test_an_answer_that_may_not_be_interrupted_is_finished_first(bench: Bench) -> None:
    local(bench)
    bench.client(audio_input(turn_detection={"type": "server_vad", "interrupt_response": False}))
    bench.say()
    bench.words("Tell me everything.")
    bench.answer("one two three", ms=1000, finish=False)
    press(bench, "1#")
    assert not bench.all(StopAnswer)
    bench.answer("four")
    assert bench.request.history[-1] == Message("user", "(keypad) 1#")
    bench.answer("All right.")


def test_keys_in_the_middle_of_a_spoken_turn_are_answered_with_it(bench: Bench) -> None:
    local(bench)
    bench.audio(1000)
    bench.speech(*[0.9] * 10)
    press(bench, "4172#")
    assert not bench.all(StartAnswer)
    bench.speech(*[0.9] * 10, *[0.0] * 30)
    bench.words("That is my order.")
    texts = {item.text for item in bench.request.history}
    assert texts == {"(keypad) 4172#", "That is my order."}
    bench.answer("Thank you.")
    assert len(bench.all(StartAnswer)) == 1


def test_a_client_that_asks_for_its_responses_itself_is_not_answered_unasked(bench: Bench) -> None:
    local(bench)
    bench.client(audio_input(turn_detection=None))
    press(bench, "4172#")
    assert said(bench) == ["(keypad) 4172#"]
    assert not bench.all(StartAnswer)
    bench.client({"type": "response.create"})
    bench.answer("Thank you.")


def test_the_provider_is_given_the_entry_and_asked_to_answer(bench: Bench) -> None:
    bench.connect()
    press(bench, "4172#")
    assert upstream(bench) == ["conversation.item.create", "response.create"]
    item = bench.upstream[0]["item"]
    assert (item["role"], item["content"]) == ("user", [{"type": "input_text", "text": "(keypad) 4172#"}])
    echo(bench)
    assert said(bench) == ["(keypad) 4172#"]
    bench.begin_answer()
    bench.end_answer()
    bench.wait(5.0)
    assert upstream(bench).count("response.create") == 1


def test_the_providers_answer_under_way_ends_first(bench: Bench) -> None:
    bench.connect()
    bench.turn()
    bench.begin_answer()
    press(bench, "1#")
    assert upstream(bench) == ["conversation.item.create"]
    echo(bench)
    bench.end_answer()
    assert upstream(bench) == ["conversation.item.create", "response.create"]
    bench.begin_answer("resp_2", "item_a2")
    bench.end_answer("resp_2", "item_a2")
    assert upstream(bench).count("response.create") == 1


def test_the_turn_that_the_caller_is_speaking_answers_the_keys_in_tier_a(bench: Bench) -> None:
    bench.connect()
    bench.provider("input_audio_buffer.speech_started", audio_start_ms=0, item_id="item_u1")
    press(bench, "1#")
    assert upstream(bench) == ["conversation.item.create"]


def test_keys_outlive_the_provider(bench: Bench) -> None:
    bench.connect()
    press(bench, "41")
    lose(bench)
    press(bench, "72#")
    assert bench.request.history[-1] == Message("user", "(keypad) 4172#")
    bench.answer("Thank you.")


def test_an_entry_that_the_provider_did_not_answer_is_answered_by_tier_b(bench: Bench) -> None:
    bench.connect()
    press(bench, "4172#")
    echo(bench)
    lose(bench)
    assert bench.request.history[-1] == Message("user", "(keypad) 4172#")
    bench.answer("Thank you.")


def test_keys_before_there_is_a_tier_wait_for_one(bench: Bench) -> None:
    bench.call.start(bench.now)
    bench.settle()
    press(bench, "1#", every_s=0.1)
    assert bench.of(DTMF) == []
    bench.wait(0.3)
    bench.provider("session.created", session=default_session("gpt-realtime-2.1"))
    bench.confirm_updates()
    bench.wait(0.3)
    assert "conversation.item.create" in upstream(bench)


def test_the_timeline_has_no_key_in_it(bench: Bench) -> None:
    local(bench)
    press(bench, "4172#")
    assert bench.rows("keypad") == [{"keys": 5}]
    bench.answer("Thank you.")


def test_after_the_call_nothing_comes_of_keys(bench: Bench) -> None:
    local(bench)
    press(bench, "41")
    bench.call.client_closed(bench.now)
    bench.call.dtmf("7", bench.now)
    bench.wait(5.0)
    assert said(bench) == []


@pytest.mark.parametrize("seed", range(60))
def test_keys_in_any_order_with_everything_else(bench: Bench, seed: int) -> None:
    """No key is lost or said twice, whatever the caller and the provider do meanwhile."""
    dice = random.Random(seed)
    if dice.random() < 0.5:
        bench.connect()
    else:
        local(bench)
    pressed = ""
    for _ in range(dice.randint(5, 40)):
        match dice.choice(("key", "key", "key", "wait", "speak", "answer", "lose")):
            case "key":
                key = dice.choice("0123456789*#")
                pressed += key
                press(bench, key, every_s=dice.choice((0.1, 1.0)))
            case "wait":
                bench.wait(dice.choice((0.2, 2.5)))
            case "speak" if bench.call.local is not None:
                bench.live(0.9, 500)
                bench.live(0.0, dice.choice((100, 1000)))
            case "answer" if bench.call.local is not None and bench.all(StartAnswer):
                bench.answer("one two three", ms=500, finish=dice.random() < 0.8)
            case "lose" if bench.call.relay is not None:
                lose(bench)
            case _:
                pass
    bench.wait(PAUSE_S + 1.0)
    talk = [text_of(item.wire) for item in bench.ctx.conversation if item.role == "user"]
    entries = [text.removeprefix("(keypad) ") for text in talk if text.startswith("(keypad) ")]
    assert "".join(entries) == pressed, f"seed {seed}"
    assert all("#" not in entry[:-1] for entry in entries)
