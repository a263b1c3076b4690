"""The realtime simulator's session object, items, and errors."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from orchestrator.protocol.audio import AudioFormat
from tests import planted
from tests.simulate.simulated import MODEL, Bench, Client, check_event, speech, text_item

Start = Callable[..., Awaitable[Bench]]


async def refusal(client: Client) -> tuple[str, int]:
    """How a connection that is closed right after the handshake ends: the error's code, the close code."""
    end = await client.ended()
    assert isinstance(end, ConnectionClosed)
    assert end.rcvd is not None
    assert end.rcvd.reason.endswith(client.events[0]["error"]["code"])
    return client.events[0]["error"]["code"], end.rcvd.code


# -- connecting ------------------------------------------------------------------------------------


async def test_session_created_is_the_whole_effective_session(bench: Bench) -> None:
    client = await bench.dial()
    session = (await client.until("session.created"))["session"]
    assert session["id"].startswith("sess_")
    assert session["object"] == "realtime.session"
    assert (session["type"], session["model"]) == ("realtime", MODEL)
    assert (session["output_modalities"], session["max_output_tokens"], session["tools"]) == (
        ["audio"],
        "inf",
        [],
    )
    listening, speaking = session["audio"]["input"], session["audio"]["output"]
    assert listening["format"] == speaking["format"] == {"type": "audio/pcm", "rate": 24000}
    assert listening["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }
    assert (listening["transcription"], listening["noise_reduction"]) == (None, None)


async def test_the_bearer_can_be_told_by_its_digest(bench: Bench) -> None:
    await bench.connect()
    digest = hashlib.sha256(planted.PROVIDER.encode()).hexdigest()
    assert bench.state()["connections"][0]["bearer_sha256"] == digest


async def test_a_wrong_key_is_refused_after_the_handshake(start: Start) -> None:
    bench = await start(api_key=planted.SPARE)
    assert await refusal(await bench.dial()) == ("invalid_api_key", 3000)
    bench.sdk.api_key = planted.SPARE
    await bench.connect()


async def test_a_missing_key_is_refused(bench: Bench) -> None:
    async with connect(bench.url) as socket:
        assert check_event(await socket.recv(decode=False))["error"]["code"] == "invalid_api_key"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert socket.close_code == 3000


async def test_browsers_offer_their_key_as_a_subprotocol(bench: Bench) -> None:
    offered = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.ek_123")]
    async with connect(bench.url, subprotocols=offered) as socket:
        assert check_event(await socket.recv(decode=False))["type"] == "session.created"
        assert socket.subprotocol == "realtime"


async def test_models_that_do_not_exist(start: Start) -> None:
    bench = await start(models=(MODEL,))
    assert await refusal(await bench.dial(model="gpt-unreal")) == ("model_not_found", 4004)
    assert await refusal(await bench.dial(model="")) == ("missing_model", 4000)
    await bench.connect()


async def test_the_beta_protocol_is_gone(bench: Bench) -> None:
    client = await bench.dial(extra_headers={"OpenAI-Beta": "realtime=v1"})
    assert await refusal(client) == ("beta_api_shape_disabled", 4000)


async def test_other_paths_are_not_found(bench: Bench) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(bench.url.replace("/v1/realtime", "/v1/live"))
    assert refused.value.response.status_code == 404


async def test_a_session_expires(start: Start) -> None:
    bench = await start(session_limit=0.05)
    client = await bench.dial()
    end = await client.ended()
    assert [event["type"] for event in client.events] == ["session.created", "error"]
    assert client.events[1]["error"]["code"] == "session_expired"
    assert isinstance(end, ConnectionClosed)
    assert end.rcvd is not None
    assert end.rcvd.code == 1001


# -- session.update --------------------------------------------------------------------------------


async def test_updates_merge_and_nulls_clear(bench: Bench) -> None:
    client = await bench.connect()
    detection = {"type": "server_vad", "silence_duration_ms": 200}
    changed = (
        await client.configure(instructions="Be brief.", audio={"input": {"turn_detection": detection}})
    )["session"]
    assert changed["instructions"] == "Be brief."
    assert changed["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 200
    assert changed["audio"]["input"]["turn_detection"]["threshold"] == 0.5
    again = (await client.configure(audio={"input": {"turn_detection": None}}))["session"]
    assert again["audio"]["input"]["turn_detection"] is None
    assert again["instructions"] == "Be brief."
    cleared = (await client.configure(instructions=""))["session"]
    assert cleared["instructions"] == ""


async def test_semantic_vad_gets_its_own_defaults(bench: Bench) -> None:
    client = await bench.connect()
    session = (await client.configure(audio={"input": {"turn_detection": {"type": "semantic_vad"}}}))[
        "session"
    ]
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    }


async def test_a_session_may_be_sent_back_as_it_came(bench: Bench) -> None:
    client = await bench.dial()
    session = (await client.until("session.created"))["session"]
    await client.send("session.update", session=session)
    assert (await client.until("session.updated"))["session"] == session


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "realtime", "voice": "marin"}, "unknown_parameter", "session.voice"),
        ({"type": "realtime", "temperature": 0.8}, "unknown_parameter", "session.temperature"),
        (
            {"type": "realtime", "output_modalities": ["text", "audio"]},
            "invalid_value",
            "session.output_modalities",
        ),
        ({"type": "realtime", "max_output_tokens": 5000}, "invalid_value", "session.max_output_tokens"),
        (
            {"type": "realtime", "audio": {"output": {"voice": "bob"}}},
            "invalid_value",
            "session.audio.output.voice",
        ),
        (
            {"type": "realtime", "audio": {"output": {"speed": 3}}},
            "invalid_value",
            "session.audio.output.speed",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "psychic"}}}},
            "invalid_value",
            "session.audio.input.turn_detection.type",
        ),
    ],
)
async def test_bad_updates(bench: Bench, session: dict[str, Any], code: str, param: str) -> None:
    client = await bench.connect()
    error = await client.refused("session.update", session=session)
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)


async def test_a_refused_update_changes_nothing(bench: Bench) -> None:
    client = await bench.connect()
    await client.refused(
        "session.update", session={"type": "realtime", "instructions": "X", "max_output_tokens": 0}
    )
    assert (await client.configure())["session"]["instructions"] != "X"


async def test_the_voice_is_locked_after_the_first_audio(bench: Bench) -> None:
    client = await bench.connect(audio={"output": {"voice": "cedar"}})
    await client.send("response.create")
    await client.until("response.done")
    change = {"type": "realtime", "instructions": "New.", "audio": {"output": {"voice": "marin"}}}
    error = await client.refused("session.update", session=change)
    assert error["code"] == "cannot_update_voice"
    kept = (await client.configure(audio={"output": {"voice": "cedar"}}))["session"]
    assert kept["instructions"] != "New."


async def test_a_transcription_session_gives_no_responses(bench: Bench) -> None:
    url = bench.url.replace(f"model={MODEL}", "intent=transcription")
    async with connect(url, additional_headers={"Authorization": "Bearer x"}) as socket:
        session = check_event(await socket.recv(decode=False))["session"]
        assert session["type"] == "transcription"
        assert "output" not in session["audio"]
        await socket.send('{"type": "response.create"}')
        assert check_event(await socket.recv(decode=False))["error"]["code"] == "invalid_event"


# -- the input buffer ------------------------------------------------------------------------------


async def test_committing_nothing_is_an_error(bench: Bench) -> None:
    client = await bench.connect(audio={"input": {"turn_detection": None}})
    assert (await client.refused("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"
    await client.say(AudioFormat.PCM.silence(80))
    assert (await client.refused("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"
    await client.say(AudioFormat.PCM.silence(40))
    await client.send("input_audio_buffer.commit")
    await client.until("input_audio_buffer.committed")


async def test_cleared_audio_is_gone(bench: Bench) -> None:
    client = await bench.connect(audio={"input": {"turn_detection": None}})
    await client.say(speech())
    await client.send("input_audio_buffer.clear")
    await client.until("input_audio_buffer.cleared")
    assert (await client.refused("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"


async def test_speech_times_count_from_the_start_of_the_session(bench: Bench) -> None:
    """Speech from 1000 to 1400 ms, padded by 300 ms before and 500 ms of silence behind."""
    client = await bench.connect()
    await client.say(AudioFormat.PCM.silence(1000) + speech())
    assert abs((await client.until("input_audio_buffer.speech_started"))["audio_start_ms"] - 700) <= 40
    assert abs((await client.until("input_audio_buffer.speech_stopped"))["audio_end_ms"] - 1900) <= 40
    await client.until("response.done")
    await client.say(speech())
    # Padding does not reach into the turn before.
    again = (await client.until("input_audio_buffer.speech_started"))["audio_start_ms"]
    assert abs(again - 1900) <= 40


async def test_audio_that_is_not_base64(bench: Bench) -> None:
    client = await bench.connect()
    error = await client.refused("input_audio_buffer.append", audio="not base64!")
    assert (error["code"], error["param"]) == ("invalid_value", "audio")
    assert (await client.refused("input_audio_buffer.append"))["code"] == "missing_required_parameter"


# -- items -----------------------------------------------------------------------------------------


async def items(client: Client) -> list[str]:
    """Ids in order, as `previous_item_id` chains them."""
    order: list[str] = []
    for event in client.of("conversation.item.added"):
        previous = event["previous_item_id"]
        order.insert(order.index(previous) + 1 if previous else 0, event["item"]["id"])
    return order


async def test_items_go_where_they_are_told(bench: Bench) -> None:
    client = await bench.connect()
    await client.create(text_item("first", id="a"))
    await client.create(text_item("last", id="d"))
    await client.create(text_item("between", id="b"), previous_item_id="a")
    await client.create(text_item("front", id="0"), previous_item_id="root")
    assert await items(client) == ["0", "a", "b", "d"]
    assert [item["id"] for item in bench.state()["connections"][0]["session"]["items"]] == [
        "0",
        "a",
        "b",
        "d",
    ]


async def test_a_whole_history_can_be_replayed(bench: Bench) -> None:
    client = await bench.connect()
    history: list[dict[str, Any]] = [
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Go on."}]},
        text_item("Where is order 4172?"),
        {"type": "function_call", "name": "get_order_status", "call_id": "call_1", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "On its way."}]},
    ]
    for number, item in enumerate(history):
        added = await client.create({**item, "id": f"item_{number}"})
        assert (added["id"], added["status"], added["object"]) == (
            f"item_{number}",
            "completed",
            "realtime.item",
        )
        assert (await client.until("conversation.item.done"))["item"] == added


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (text_item("again", id="taken"), "item_create_duplicate_item_id"),
        (text_item("x", id="i" * 33), "string_above_max_length"),
        ({"type": "message", "role": "user", "content": [{"type": "text", "text": "beta"}]}, "invalid_value"),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
            "missing_required_parameter",
        ),
        ({"type": "message", "role": "user"}, "missing_required_parameter"),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": "AAAA"}]},
            "invalid_value",
        ),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "input_text", "text": "x"}]},
            "invalid_value",
        ),
        ({"type": "function_call_output", "call_id": "call_unknown", "output": "{}"}, "invalid_tool_call_id"),
        (
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c" * 33},
            "string_above_max_length",
        ),
        ({"type": "poem"}, "invalid_value"),
    ],
)
async def test_items_that_are_refused(bench: Bench, item: dict[str, Any], code: str) -> None:
    client = await bench.connect()
    await client.create(text_item("here", id="taken"))
    assert (await client.refused("conversation.item.create", item=item))["code"] == code


async def test_an_unknown_place_is_refused(bench: Bench) -> None:
    client = await bench.connect()
    fields = {"item": text_item("x"), "previous_item_id": "nobody"}
    error = await client.refused("conversation.item.create", **fields)
    assert (error["code"], error["param"]) == ("invalid_value", "previous_item_id")


async def test_retrieve_gives_the_audio(bench: Bench) -> None:
    client = await bench.connect(audio={"input": {"turn_detection": None}})
    said = speech()
    await client.say(said)
    await client.send("input_audio_buffer.commit")
    item_id = (await client.until("input_audio_buffer.committed"))["item_id"]
    await client.send("conversation.item.retrieve", item_id=item_id)
    content = (await client.until("conversation.item.retrieved"))["item"]["content"][0]
    assert base64.b64decode(content["audio"]) == said
    assert (await client.refused("conversation.item.retrieve", item_id="nobody"))["code"] == (
        "item_retrieve_invalid_item_id"
    )


async def test_spoken_items_can_be_created(bench: Bench) -> None:
    client = await bench.connect()
    audio = base64.b64encode(speech(silence_ms=0)).decode()
    content = [{"type": "input_audio", "audio": audio, "transcript": "hello"}]
    item = await client.create({"type": "message", "role": "user", "content": content})
    assert item["content"] == [{"type": "input_audio", "transcript": "hello"}]
    await client.send("response.create")
    usage = (await client.until("response.done"))["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 4


async def test_delete(bench: Bench) -> None:
    client = await bench.connect()
    await client.create(text_item("x", id="a"))
    await client.send("conversation.item.delete", item_id="a")
    assert (await client.until("conversation.item.deleted"))["item_id"] == "a"
    assert (await client.refused("conversation.item.delete", item_id="a"))[
        "code"
    ] == "item_delete_invalid_item_id"


async def test_truncate_takes_the_transcript_with_it(bench: Bench) -> None:
    client = await bench.connect()
    await client.send("response.create")
    item = (await client.until("response.done"))["response"]["output"][0]
    where = {"item_id": item["id"], "content_index": 0}
    too_far = await client.refused("conversation.item.truncate", **where, audio_end_ms=1001)
    assert (too_far["code"], too_far["param"]) == ("invalid_value", "audio_end_ms")
    await client.send("conversation.item.truncate", **where, audio_end_ms=400)
    assert (await client.until("conversation.item.truncated"))["audio_end_ms"] == 400
    await client.send("conversation.item.retrieve", item_id=item["id"])
    content = (await client.until("conversation.item.retrieved"))["item"]["content"][0]
    assert "transcript" not in content
    assert AudioFormat.PCM.ms(len(base64.b64decode(content["audio"]))) == 400


async def test_an_item_that_is_still_spoken_can_be_truncated(start: Start) -> None:
    """The response goes on, and was billed for what it said; the conversation keeps what was heard."""
    bench = await start(answer_seconds=3, pace=10)
    client = await bench.connect()
    await client.send("response.create")
    item_id = (await client.until("response.output_audio.delta"))["item_id"]
    where = {"item_id": item_id, "content_index": 0}
    too_far = await client.refused("conversation.item.truncate", **where, audio_end_ms=3000)
    assert (too_far["code"], too_far["param"]) == ("invalid_value", "audio_end_ms")
    await client.send("conversation.item.truncate", **where, audio_end_ms=60)
    await client.until("conversation.item.truncated")
    response = (await client.until("response.done"))["response"]
    assert response["status"] == "completed"
    assert response["usage"]["output_token_details"]["audio_tokens"] == 60
    item = bench.state()["connections"][0]["session"]["items"][0]
    assert (item["audio_ms"], item["content"]) == (60, [{"type": "output_audio"}])


async def test_only_spoken_assistant_items_are_truncated(bench: Bench) -> None:
    client = await bench.connect()
    await client.create(text_item("x", id="a"))
    where = {"content_index": 0, "audio_end_ms": 0}
    for item_id in ("a", "nobody"):
        error = await client.refused("conversation.item.truncate", item_id=item_id, **where)
        assert error["code"] == "item_truncate_invalid_item_id"


# -- other bad input -------------------------------------------------------------------------------


async def test_malformed_events(bench: Bench) -> None:
    client = await bench.connect()
    await client.connection.send_raw("{broken")
    assert (await client.until("error"))["error"]["code"] == "invalid_json"
    await client.connection.send_raw("[1]")
    assert (await client.until("error"))["error"]["code"] == "invalid_event"
    await client.connection.send_raw("{}")
    assert (await client.until("error"))["error"]["code"] == "invalid_event"
    error = await client.refused("session.sing")
    assert (error["code"], error["param"]) == ("invalid_value", "type")
    assert "'session.update'" in error["message"]


@pytest.mark.parametrize(
    ("response", "param"),
    [
        ({"output_modalities": ["smell"]}, "response.output_modalities.0"),
        ({"conversation": "other"}, "response.conversation"),
        ({"voice": "marin"}, "response.voice"),
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "response.metadata"),
        ({"metadata": {"k": "v" * 513}}, "response.metadata.k"),
        ({"metadata": {"k": 7}}, "response.metadata.k"),
        ({"conversation": "none", "input": [{"type": "item_reference", "id": "nobody"}]}, "response.input"),
    ],
)
async def test_responses_that_are_refused(bench: Bench, response: dict[str, Any], param: str) -> None:
    client = await bench.connect()
    error = await client.refused("response.create", response=response)
    assert error["param"] == param
    assert not client.of("response.created")


# -- what the control interface remembers ----------------------------------------------------------


async def test_state_logs_client_events_in_order_without_their_audio(bench: Bench) -> None:
    client = await bench.connect(instructions="Be kind.")
    await client.say(AudioFormat.PCM.silence(200), chunk_ms=20)
    await client.send("input_audio_buffer.clear")
    await client.say(AudioFormat.PCM.silence(40), chunk_ms=20)
    await client.settle()
    session = bench.state()["connections"][0]["session"]
    assert [
        (entry["type"], entry.get("events"), entry.get("audio_bytes")) for entry in session["received"]
    ] == [
        ("session.update", None, None),
        ("input_audio_buffer.append", 10, 9600),
        ("input_audio_buffer.clear", None, None),
        ("input_audio_buffer.append", 2, 1920),
        ("conversation.item.retrieve", None, None),
    ]
    assert session["received"][0]["event"]["session"]["instructions"] == "Be kind."
    assert session["config"]["instructions"] == "Be kind."
    assert session["audio_in_bytes"] == 11520


async def test_state_remembers_closed_sessions(bench: Bench) -> None:
    client = await bench.connect()
    await client.send("response.create")
    await client.until("response.done")
    await client.connection.close(code=1000, reason="enough")
    await client.ended()
    session = bench.state()["connections"][0]["session"]
    assert session["closed"] == {"code": 1000, "reason": "enough", "by": "client"}
    assert [response["status"] for response in session["responses"]] == ["completed"]
    assert session["audio_out_bytes"] == 48000
