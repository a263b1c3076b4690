"""The moments that faults strike at: how a call gets to each, and that every cell of the catalogue can occur."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.faults import CATALOGUE, FaultId, Moment
from tests import planted
from tests.simulate.simulated import ORDER_TOOL, PATIENCE, Bench, check_golden, speech, text_item

Start = Callable[..., Awaitable[Bench]]
Event = dict[str, Any]

KEY = {"Authorization": f"Bearer {planted.PROVIDER}"}
SOON = 0.15
"""Seconds without a pong that count as a dead socket, where one is due at once."""
NO_TURNS = {"audio": {"input": {"turn_detection": None}}}
TURNS = {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}}


class Wire:
    """A client that takes whatever comes, JSON or not: `events` has it in order."""

    def __init__(self, bench: Bench, socket: ClientConnection) -> None:
        self._bench = bench
        self._socket = socket
        self.events: list[Event] = []

    async def send(self, kind: str, **fields: Any) -> None:
        """Where the connection is gone already, nothing is sent."""
        with suppress(ConnectionClosed):
            await self._socket.send(json.dumps({"type": kind, **fields}))

    def burst(self, *events: Event) -> None:
        """Send all of them in one piece, so that the server reads them in one go."""
        for event in events:
            self._socket.protocol.send_text(json.dumps(event).encode())
        self._socket.transport.write(b"".join(self._socket.protocol.data_to_send()))

    async def configure(self, **session: Any) -> None:
        await self.send("session.update", session={"type": "realtime", **session})

    async def say(self, audio: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=b64encode(audio).decode())

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE):
            text = await self._socket.recv()
        try:
            event: Event = json.loads(text)
        except ValueError:
            event = {"type": "not json"}
        self.events.append(event)
        return event

    async def until(self, kind: str) -> Event:
        """The next event of that type, or an empty one where the connection ends before."""
        with suppress(ConnectionClosed):
            while True:
                event = await self.next()
                if event["type"] == kind:
                    return event
        return {}

    async def settle(self) -> None:
        """Wait until all that was sent has been dealt with: an unknown item's error is the echo."""
        await self.send("conversation.item.retrieve", item_id="nobody", event_id="settle")
        while (await self.until("error"))["error"]["event_id"] != "settle":
            pass

    async def ended(self) -> int | None:
        """Receive until the connection ends; gives the close code, None where it was reset."""
        with suppress(ConnectionClosed):
            while True:
                await self.next()
        return None if self._socket.close_code == 1006 else self._socket.close_code

    async def pong(self, patience: float) -> None:
        async with asyncio.timeout(patience):
            await (await self._socket.ping())

    def count(self, kind: str) -> int:
        return sum(event["type"] == kind for event in self.events)

    @property
    def session(self) -> Event:
        """The simulator's view of it."""
        view: Event = self._bench.state()["connections"][-1]["session"]
        return view


@asynccontextmanager
async def dialled(bench: Bench) -> AsyncIterator[Wire]:
    async with connect(bench.url, additional_headers=KEY, close_timeout=0) as socket:
        yield Wire(bench, socket)


async def ask_for_an_order(wire: Wire) -> str:
    """Have the model call a tool; gives the call's id."""
    await wire.configure(tools=[ORDER_TOOL])
    await wire.send("conversation.item.create", item=text_item("Where is order 4172?"))
    await wire.send("response.create")
    done = await wire.until("response.done")
    return str(done["response"]["output"][0]["call_id"]) if done else ""


async def send_result(wire: Wire, call_id: str) -> None:
    output = {"type": "function_call_output", "call_id": call_id, "output": '{"status": "on its way"}'}
    await wire.send("conversation.item.create", item=output)


async def reach(wire: Wire, moment: Moment) -> None:
    """Bring a call to a moment; where a response belongs to it, that is asked for."""
    if moment is Moment.REPLAYING:
        await wire.configure(**NO_TURNS)
        await wire.send("conversation.item.create", item=text_item("I am Ada.", id="item_before"))
    elif moment is Moment.CALLER_SPEAKING:
        await wire.say(speech(silence_ms=0))
    elif moment in (Moment.ANSWER_OWED, Moment.MID_ANSWER):
        await wire.say(speech())
    elif moment in (Moment.TOOL_PENDING, Moment.TOOL_RESULT_SENT):
        call_id = await ask_for_an_order(wire)
        if moment is Moment.TOOL_RESULT_SENT:
            await send_result(wire, call_id)
            await wire.send("response.create")


# -- every cell ------------------------------------------------------------------------------------

Aftermath = Callable[[Wire, FaultId, Moment], Awaitable[None]]
AFTERMATHS: dict[FaultId, Aftermath] = {}
CODES = {FaultId.ABORT: None, FaultId.CLOSE_1011: 1011, FaultId.CLOSE_1000: 1000, FaultId.EXPIRED: 1001}
FAILURES = {
    FaultId.FAILED: "server_error",
    FaultId.RATE_LIMITED: "rate_limit_exceeded",
    FaultId.NO_CREDIT: "credit_balance_exhausted",
}


def after(*faults: FaultId) -> Callable[[Aftermath], Aftermath]:
    def register(aftermath: Aftermath) -> Aftermath:
        AFTERMATHS.update(dict.fromkeys(faults, aftermath))
        return aftermath

    return register


@after(*CODES)
async def the_connection_ends(wire: Wire, fault: FaultId, moment: Moment) -> None:
    assert await wire.ended() == CODES[fault]


@after(FaultId.MUTE, FaultId.HALF_OPEN)
async def nothing_more_is_sent(wire: Wire, fault: FaultId, moment: Moment) -> None:
    """And with `half_open` nothing is taken, and no ping is answered."""
    before = wire.session
    sent, received = list(before["sent"]), list(before["received"])
    await wire.send("conversation.item.retrieve", item_id="nobody")
    if fault is FaultId.HALF_OPEN:
        with pytest.raises(TimeoutError):
            await wire.pong(SOON)
        assert wire.session["received"] == received
    else:
        await wire.pong(PATIENCE)
        assert wire.session["received"] != received
    assert wire.session["sent"] == sent
    assert wire.session["closed"] is None


@after(FaultId.GARBAGE, FaultId.UNKNOWN, FaultId.ORPHAN, FaultId.DUPLICATE)
async def something_odd_comes_once_and_things_go_on(wire: Wire, fault: FaultId, moment: Moment) -> None:
    while wire.count("response.done") < len(wire.session["responses"]):
        await wire.next()
    for _ in range(2):  # The echo itself may be what comes twice.
        await wire.settle()
    done = [event["response"]["status"] for event in wire.events if event["type"] == "response.done"]
    assert set(done) <= {"completed"}
    ids = [event.get("event_id") for event in wire.events]
    announced = {event["response"]["id"] for event in wire.events if event["type"] == "response.created"}
    deltas = [event for event in wire.events if event["type"] == "response.output_audio.delta"]
    seen = {
        FaultId.GARBAGE: wire.count("not json"),
        FaultId.UNKNOWN: wire.count("response.hologram.delta"),
        FaultId.ORPHAN: sum(event["response_id"] not in announced for event in deltas),
        FaultId.DUPLICATE: len(ids) - len(set(ids)),
    }
    assert seen == {**dict.fromkeys(seen, 0), fault: 1}


@after(*FAILURES, FaultId.EMPTY)
async def the_response_ends_without_an_answer(wire: Wire, fault: FaultId, moment: Moment) -> None:
    response = (await wire.until("response.done"))["response"]
    if fault is FaultId.EMPTY:
        assert (response["status"], response["output"]) == ("completed", [])
    else:
        assert response["status_details"]["error"]["code"] == FAILURES[fault]
        assert bool(response["output"]) is (moment is Moment.MID_ANSWER)
    await wire.settle()


@after(FaultId.SILENT_TURN, FaultId.SILENT_RESPONSE, FaultId.STALL, FaultId.SILENT_INPUT)
async def the_call_is_well_and_the_answer_never_comes(wire: Wire, fault: FaultId, moment: Moment) -> None:
    await wire.settle()
    open_responses = wire.count("response.created") - wire.count("response.done")
    assert open_responses == (fault in (FaultId.SILENT_RESPONSE, FaultId.STALL))
    assert wire.session["moment"] == (Moment.IDLE if fault in ENDED_BY[moment] else moment)


ENDED_BY = {
    Moment.ANSWER_OWED: {FaultId.SILENT_TURN},
    Moment.CALLER_SPEAKING: {FaultId.SILENT_INPUT},
    Moment.TOOL_RESULT_SENT: set(),
    Moment.MID_ANSWER: set(),
}
"""Where a fault leaves nothing that the server believes to owe; the output of a tool is owed an answer still."""


@after(FaultId.SLOW)
async def the_rest_comes_slower_than_it_is_played(wire: Wire, fault: FaultId, moment: Moment) -> None:
    """100 ms, 200 ms at once, and the next 200 ms half a second after those."""
    now = asyncio.get_running_loop().time
    while wire.count("response.output_audio.delta") < 2:
        await wire.next()
    began = now()
    await wire.until("response.output_audio.delta")
    assert 0.4 <= now() - began < 3.0


CELLS = [
    (fault, moment)
    for fault, kind in CATALOGUE.items()
    for moment in kind.moments
    if moment is not Moment.CONNECTING
]


@pytest.mark.parametrize(("fault", "moment"), CELLS)
async def test_every_fault_strikes_at_every_moment_it_claims(
    bench: Bench, fault: FaultId, moment: Moment
) -> None:
    bench.arm(fault.value, moment=moment.value)
    async with dialled(bench) as wire:
        await reach(wire, moment)
        await struck(bench)
        assert [(strike["fault"], strike["moment"]) for strike in bench.simulator.faults.struck] == [
            (fault, moment)
        ]
        await AFTERMATHS[fault](wire, fault, moment)
        assert len(bench.simulator.faults.struck) == 1


async def struck(bench: Bench) -> None:
    """Wait until a fault has struck."""
    async with asyncio.timeout(PATIENCE):
        while not bench.simulator.faults.struck:  # noqa: ASYNC110 (nothing tells of a strike)
            await asyncio.sleep(0)


CONNECTING = (FaultId.ABORT, FaultId.CLOSE_1011, FaultId.CLOSE_1000, FaultId.MUTE, FaultId.HALF_OPEN)


@pytest.mark.parametrize("fault", CONNECTING)
async def test_faults_of_a_connection_strike_before_the_session_exists(bench: Bench, fault: FaultId) -> None:
    bench.arm(fault.value, moment="connecting")
    async with dialled(bench) as wire:
        await AFTERMATHS[fault](wire, fault, Moment.CONNECTING)
        assert wire.events == []


# -- what has to have happened before --------------------------------------------------------------

LAST_BEFORE = {
    Moment.REPLAYING: {"session.updated", "conversation.item.done"},
    Moment.IDLE: {"session.created"},
    Moment.CALLER_SPEAKING: {"input_audio_buffer.speech_started"},
    Moment.ANSWER_OWED: {"conversation.item.done"},
    Moment.MID_ANSWER: {"response.output_audio.delta"},
    Moment.TOOL_PENDING: {"response.done", "rate_limits.updated"},
    Moment.TOOL_RESULT_SENT: {"conversation.item.done"},
}


@pytest.mark.parametrize("moment", list(LAST_BEFORE))
async def test_abort_strikes_at_each_moment(bench: Bench, moment: Moment) -> None:
    bench.arm("abort", moment=moment.value)
    async with dialled(bench) as wire:
        await reach(wire, moment)
        await wire.ended()
    assert wire.events[-1]["type"] in LAST_BEFORE[moment]


async def test_a_fault_while_the_answer_is_owed_comes_before_its_audio(bench: Bench) -> None:
    bench.arm("close_1011", moment="answer_owed", after_ms=100)
    async with dialled(bench) as wire:
        await reach(wire, Moment.ANSWER_OWED)
        await wire.ended()
    assert wire.events[-1]["type"] == "response.created"


async def test_a_fault_armed_while_the_answer_is_owed_strikes_that_answer(start: Start) -> None:
    bench = await start(first_audio_ms=100)
    async with dialled(bench) as wire:
        await reach(wire, Moment.ANSWER_OWED)
        await wire.until("response.created")
        bench.arm("failed", moment="answer_owed")
        response = (await wire.until("response.done"))["response"]
    assert (response["status"], response["output"]) == ("failed", [])


async def test_failure_in_the_middle_of_an_answer_closes_it_in_order(bench: Bench) -> None:
    bench.arm("failed", moment="mid_answer", after_ms=300)
    client = await bench.connect()
    client.events.clear()
    await client.send("response.create")
    response = (await client.until("response.done"))["response"]
    check_golden("failed_mid_answer", client.events)
    assert response["output"][0]["status"] == "incomplete"
    assert client.audio_ms() == 300


@pytest.mark.parametrize("fault", ["stall", "mute", "half_open"])
async def test_in_an_answer_a_fault_waits_until_so_much_was_sent(bench: Bench, fault: str) -> None:
    bench.arm(fault, moment="mid_answer", after_ms=400)
    async with dialled(bench) as wire:
        await reach(wire, Moment.MID_ANSWER)
        await struck(bench)
        assert AudioFormat.PCM.ms(wire.session["audio_out_bytes"]) == 500


async def test_state_tells_where_a_call_stands(start: Start) -> None:
    bench = await start(answer_seconds=60)
    async with dialled(bench) as wire:
        for moment in (Moment.IDLE, Moment.REPLAYING, Moment.CALLER_SPEAKING):
            await reach(wire, moment)
            await wire.settle()
            assert wire.session["moment"] == moment
            await wire.configure(**TURNS)
        await wire.say(AudioFormat.PCM.silence(600))
        await wire.until("response.output_audio.delta")
        assert wire.session["moment"] == Moment.MID_ANSWER


# -- a tool's result was sent ----------------------------------------------------------------------


async def test_after_a_tools_result_the_answer_to_it_is_owed(start: Start) -> None:
    """From the output on, before anybody asks for the answer, to its first audio."""
    bench = await start(answer_seconds=60)
    async with dialled(bench) as wire:
        call_id = await ask_for_an_order(wire)
        assert wire.session["moment"] == Moment.TOOL_PENDING
        await send_result(wire, call_id)
        await wire.settle()
        assert wire.session["moment"] == Moment.TOOL_RESULT_SENT
        await wire.send("response.create")
        await wire.until("response.created")
        assert wire.session["moment"] == Moment.TOOL_RESULT_SENT
        await wire.until("response.output_audio.delta")
        assert wire.session["moment"] == Moment.MID_ANSWER
        await wire.send("response.cancel")
        await wire.settle()
        assert wire.session["moment"] == Moment.IDLE


async def test_a_result_without_an_answer_is_owed_one_still(bench: Bench) -> None:
    bench.arm("failed", moment="tool_result_sent", count=2)
    async with dialled(bench) as wire:
        await reach(wire, Moment.TOOL_RESULT_SENT)
        for _ in range(2):
            assert (await wire.until("response.done"))["response"]["status"] == "failed"
            assert wire.session["moment"] == Moment.TOOL_RESULT_SENT
            await wire.send("response.create")
        assert (await wire.until("response.done"))["response"]["status"] == "completed"


async def test_a_caller_who_speaks_after_a_tools_result_is_owed_a_turn(start: Start) -> None:
    bench = await start(first_audio_ms=60_000)
    async with dialled(bench) as wire:
        await send_result(wire, await ask_for_an_order_at_once(wire))
        await wire.say(speech())
        await wire.until("response.created")
        assert wire.session["moment"] == Moment.ANSWER_OWED


async def ask_for_an_order_at_once(wire: Wire) -> str:
    """A function call that the client itself puts there: its output counts all the same."""
    call = {"type": "function_call", "name": "get_order_status", "call_id": "call_1", "arguments": "{}"}
    await wire.send("conversation.item.create", item=call)
    return "call_1"


async def test_a_fault_strikes_a_tools_result_once_with_and_without_a_response(bench: Bench) -> None:
    """Armed for ever, it strikes where the result arrives and leaves the response alone."""
    bench.arm("unknown", moment="tool_result_sent", count="forever")
    async with dialled(bench) as wire:
        await send_result(wire, await ask_for_an_order(wire))
        await wire.until("response.hologram.delta")
        await wire.send("response.create")
        await wire.until("response.done")
    assert wire.count("response.hologram.delta") == 1


async def test_after_ms_holds_back_the_answer_to_a_result(bench: Bench) -> None:
    """Counted from the result on; an answer would be there after 10 ms."""
    bench.arm("close_1011", moment="tool_result_sent", after_ms=100)
    async with dialled(bench) as wire:
        await reach(wire, Moment.TOOL_RESULT_SENT)
        await wire.ended()
    assert wire.events[-1]["type"] == "response.created"


# -- a conversation is replayed --------------------------------------------------------------------

REPLAY_ENDS: dict[str, Event] = {
    "session.update": {"session": {"type": "realtime", **TURNS}},
    "response.create": {},
    "input_audio_buffer.append": {"audio": b64encode(AudioFormat.PCM.silence(20)).decode()},
}


@pytest.mark.parametrize("begin", ["session.update", "conversation.item.create"])
@pytest.mark.parametrize("end", REPLAY_ENDS)
async def test_a_replay_lasts_from_the_first_item_to_the_first_use(
    start: Start, begin: str, end: str
) -> None:
    bench = await start(first_audio_ms=60_000)
    async with dialled(bench) as wire:
        await wire.configure(instructions="Be kind.")
        await wire.settle()
        assert wire.session["moment"] == Moment.IDLE
        if begin == "session.update":
            await wire.configure(**NO_TURNS)
        else:
            await wire.send(begin, item=text_item("I am Ada."))
        await wire.settle()
        assert wire.session["moment"] == Moment.REPLAYING
        await wire.send(end, **REPLAY_ENDS[end])
        await wire.send("conversation.item.create", item=text_item("And I am well."))
        await wire.settle()
        after_end = {"response.create": Moment.ANSWER_OWED, "input_audio_buffer.append": Moment.IDLE}
        speaks = begin == "session.update" and end == "input_audio_buffer.append"
        expected = Moment.CALLER_SPEAKING if speaks else after_end.get(end, Moment.IDLE)
        assert wire.session["moment"] == expected


async def test_a_session_that_was_used_is_not_given_a_conversation(bench: Bench) -> None:
    bench.arm("abort", moment="replaying")
    async with dialled(bench) as wire:
        await wire.say(AudioFormat.PCM.silence(20))
        await wire.configure(**NO_TURNS)
        await wire.send("conversation.item.create", item=text_item("I am Ada."))
        await wire.settle()
    assert not bench.simulator.faults.struck


async def test_one_session_is_struck_while_it_is_prepared_and_the_other_is_well(bench: Bench) -> None:
    """As when a call moves: the session that serves it, and the one that is made ready to take over."""
    async with dialled(bench) as serving, dialled(bench) as fresh:
        await serving.say(speech())
        await serving.until("response.done")
        bench.arm("mute", moment="replaying")
        await fresh.configure(**NO_TURNS)
        await fresh.pong(PATIENCE)
        await struck(bench)
        silenced = [connection["session"]["moment"] for connection in bench.state()["connections"]]
        assert silenced == [Moment.IDLE, Moment.REPLAYING]
        await serving.settle()
    assert bench.simulator.faults.describe() == []


# -- a moment that is over at once -----------------------------------------------------------------

WHOLE_TURN = b64encode(speech()).decode()
BURSTS: dict[Moment, list[Event]] = {
    Moment.REPLAYING: [
        {"type": "session.update", "session": {"type": "realtime", **NO_TURNS}},
        {"type": "conversation.item.create", "item": text_item("I am Ada.")},
        {"type": "session.update", "session": {"type": "realtime", **TURNS}},
    ],
    Moment.CALLER_SPEAKING: [{"type": "input_audio_buffer.append", "audio": WHOLE_TURN}],
    Moment.TOOL_RESULT_SENT: [
        {
            "type": "conversation.item.create",
            "item": {
                "type": "function_call",
                "name": "get_order_status",
                "call_id": "call_1",
                "arguments": "{}",
            },
        },
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
        },
        {"type": "response.create"},
    ],
}
"""What leads a call into a moment and out of it, in one piece."""


@pytest.mark.parametrize("moment", BURSTS)
async def test_a_moment_of_no_length_is_struck_once(bench: Bench, moment: Moment) -> None:
    bench.arm("unknown", moment=moment.value)
    async with dialled(bench) as wire:
        await wire.until("session.created")
        wire.burst(*BURSTS[moment])
        await wire.settle()
    assert [strike["moment"] for strike in bench.simulator.faults.struck] == [moment]
    assert wire.count("response.hologram.delta") == 1


async def test_a_replay_in_one_burst_is_cut_at_its_first_event(bench: Bench) -> None:
    bench.arm("abort", moment="replaying")
    async with dialled(bench) as wire:
        await wire.until("session.created")
        wire.burst(*BURSTS[Moment.REPLAYING])
        assert await wire.ended() is None
    assert wire.events[-1]["type"] == "session.updated"
    assert wire.count("conversation.item.added") == 0


async def test_a_fault_armed_for_ever_strikes_a_moment_once(bench: Bench) -> None:
    bench.arm("unknown", moment="replaying", count="forever")
    async with dialled(bench) as wire:
        await reach(wire, Moment.REPLAYING)
        await wire.send("conversation.item.create", item=text_item("And I am well."))
        await wire.settle()
    assert wire.count("response.hologram.delta") == 1
