"""One response, from `response.created` to `response.done`, in the provider's order of events."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate import usage
from orchestrator.simulate.conversation import Item
from orchestrator.simulate.dialogue import (
    Call,
    Called,
    Entry,
    Heard,
    Noted,
    Question,
    Returned,
    Say,
    Told,
    object_of,
)
from orchestrator.simulate.faults import BillFault, BillMoment, Fault, FaultId, Moment
from orchestrator.simulate.outbox import new_id
from orchestrator.simulate.voices import Piece, spread

if TYPE_CHECKING:
    from orchestrator.simulate.session import Session

logger = logging.getLogger(__name__)

SLOW_PACE = 0.4
WORDS_PER_DELTA = 3
ARGUMENT_DELTA = 16
ERRORS: dict[StrEnum, tuple[str, str]] = {
    FaultId.FAILED: ("server_error", "server_error"),
    FaultId.RATE_LIMITED: ("rate_limit_exceeded", "rate_limit_exceeded"),
    FaultId.NO_CREDIT: ("insufficient_quota", "credit_balance_exhausted"),
}


class Response:
    """A response of `session` under `settings` (see `session_config.response_settings`)."""

    def __init__(self, session: Session, settings: dict[str, Any], context: list[Item]) -> None:
        self.id = new_id("resp")
        self.settings = settings
        self.out_of_band = bool(settings["out_of_band"])
        self.speaks = settings["output_modalities"] == ["audio"]
        self.sent_ms = 0.0
        self.status = "in_progress"
        self.open_calls: list[str] = []
        self._session = session
        self._context = context
        self._format = AudioFormat.parse(settings["output"]["format"])
        self._pace = session.options.pace
        self._output: list[Item] = []
        self._open_text: str | None = None
        """The words sent so far of a message whose content part is open."""
        self._details: dict[str, Any] | None = None
        self._usage: dict[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self._created = False
        self._met = False
        """A fault that struck before the first audio: one is enough."""
        self._prompt = usage.prompt(settings["instructions"] or "", settings["tools"] or [], context)

    @property
    def done(self) -> bool:
        return self.status != "in_progress"

    @property
    def gave_nothing(self) -> bool:
        """Whether it left what was asked unanswered."""
        return not self._output and self.status != "cancelled"

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Stop without a word: the socket is gone."""
        if self._task is not None:
            self._task.cancel()

    def cancel(self, reason: str) -> None:
        """End it now, because of `reason` (`turn_detected`, `client_cancelled`)."""
        self.stop()
        if self._created:
            self._finish("cancelled", reason=reason)
        else:
            self.status = "cancelled"
            self._session.response_over(self)

    async def _run(self) -> None:
        owed_since = asyncio.get_running_loop().time()
        if await self._struck_while_owed(owed_since):
            return
        self._announce()
        try:
            reply = await self._think(owed_since)
            # Once more: one may have been armed meanwhile.
            if await self._struck_while_owed(owed_since):
                return
            if isinstance(reply, Call):
                self._call_tool(reply)
            else:
                await self._message(reply)
        except Exception:
            logger.exception("response %s failed", self.id)
            self._finish("failed", error=ERRORS[FaultId.FAILED])

    def _announce(self) -> None:
        if not self._created:
            self._created = True
            self._session.out.send("response.created", response=self.describe())

    async def _struck_while_owed(self, owed_since: float) -> bool:
        """Hold the answer back for a fault of this moment and let it strike; True when it goes no further."""
        striker = self._session.striker
        moment = Moment.ANSWER_OWED if self.out_of_band else self._session.owed
        fault = None if self._met else striker.owed(moment)
        if fault is None:
            return False
        if fault.after_ms:
            self._announce()
        lasted = asyncio.get_running_loop().time() - owed_since
        if moment is Moment.TOOL_RESULT_SENT:
            lasted = striker.lasted
        await asyncio.sleep(max(0.0, fault.after_ms / 1000 - lasted))
        self._met = striker.claim(fault)
        return self._met and await self._struck(fault)

    async def _struck(self, fault: Fault) -> bool:
        """Let a fault strike; True when the response goes no further."""
        if fault.id is FaultId.SILENT_TURN:
            self.status = "silent"
            self._session.response_over(self)
            return True
        if fault.id is FaultId.SLOW:
            self._pace = SLOW_PACE
            return False
        if fault.id in (FaultId.SILENT_RESPONSE, FaultId.STALL):
            self._announce()
            await asyncio.Event().wait()
        if fault.id is FaultId.EMPTY:
            self._announce()
            self._finish("completed")
            return True
        if fault.id in ERRORS:
            self._announce()
            self._finish("failed", error=ERRORS[fault.id])
            return True
        return self._session.striker.execute(fault)

    async def _think(self, owed_since: float) -> Say | Call:
        """What to answer; takes until the first audio is due."""
        past = [entry for item in self._context if (entry := await self._entry(item)) is not None]
        asked = next((entry for entry in reversed(past) if isinstance(entry, Heard | Returned)), None)
        settings = self.settings
        question = Question(
            asked.words if isinstance(asked, Heard) else None,
            asked.output if isinstance(asked, Returned) else None,
            settings["tools"] or [],
            settings["tool_choice"] or "auto",
            past,
            settings["instructions"] or "",
        )
        reply = self._session.options.brain.reply(question)
        due = owed_since + self._session.options.first_audio_ms / 1000
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        return reply

    async def _entry(self, item: Item) -> Entry | None:
        """An item as the model is given it."""
        wire = item.wire
        if wire["type"] == "function_call_output":
            return Returned(wire["call_id"], wire["output"])
        if wire["type"] == "function_call":
            return Called(wire["call_id"], Call(wire["name"], object_of(wire["arguments"])))
        if item.role == "user":
            return Heard(await self._session.recogniser.words(item))
        if not item.text:
            return None
        return Told(item.text) if item.role == "assistant" else Noted(item.text)

    def _call_tool(self, call: Call) -> None:
        call_id, arguments = new_id("call"), json.dumps(call.arguments)
        item = self._open_item(
            {"type": "function_call", "name": call.name, "call_id": call_id, "arguments": ""}
        )
        where = {"response_id": self.id, "item_id": item.id, "output_index": 0, "call_id": call_id}
        kind = "response.function_call_arguments"
        for start in range(0, len(arguments), ARGUMENT_DELTA):
            self._session.out.send(f"{kind}.delta", **where, delta=arguments[start : start + ARGUMENT_DELTA])
        item.wire["arguments"] = arguments
        self._session.out.send(f"{kind}.done", **where, name=call.name, arguments=arguments)
        item.wire["status"] = "completed"
        self._session.out.send(
            "response.output_item.done", response_id=self.id, output_index=0, item=dict(item.wire)
        )
        if not self.out_of_band:
            self._session.item_event("done", item, self._session.conversation.before(item))
        self.open_calls.append(call_id)
        self._finish("completed")

    async def _message(self, say: Say) -> None:
        item = self._open_item({"type": "message", "role": "assistant", "content": []})
        self._open_text = ""
        empty = {"type": "audio", "transcript": ""} if self.speaks else {"type": "text", "text": ""}
        self._session.out.send("response.content_part.added", **self._content(item), part=empty)
        complete = await (self._speak(item, say) if self.speaks else self._write(item, say))
        if complete is None:
            return
        if complete:
            self._finish("completed")
        else:
            self._finish("incomplete", reason="max_output_tokens")

    async def _speak(self, item: Item, say: Say) -> bool | None:
        """Send the answer in speech; False where the token limit cut it, None where a fault ended it."""
        loop = asyncio.get_running_loop()
        start, paced_from = loop.time(), 0.0
        voice = self._session.options.voice
        speed = self.settings["output"].get("speed") or 1.0
        async with aclosing(voice.speak(say.sentences, self._format, speed)) as pieces:
            async for piece in pieces:
                pace = self._pace
                if not await self._unharmed():
                    return None
                if pace != self._pace:
                    start, paced_from = loop.time(), self.sent_ms
                due = start + (self.sent_ms - paced_from) / 1000 / self._pace
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not self._affordable(piece.text, piece.ms):
                    return False
                self._send_piece(item, piece)
        return True

    async def _unharmed(self) -> bool:
        """Let a fault armed for the middle of an answer strike when its time has come."""
        fault = self._session.striker.peek(Moment.MID_ANSWER)
        begun = self.sent_ms > 0 or bool(self._open_text)
        if fault is None or not begun or self.sent_ms < fault.after_ms:
            return True
        if fault.id is FaultId.SLOW and self._pace == SLOW_PACE:
            return True
        return not (self._session.striker.claim(fault) and await self._struck(fault))

    def _send_piece(self, item: Item, piece: Piece) -> None:
        where = self._content(item)
        if piece.text:
            self._open_text = (self._open_text or "") + piece.text
            self._session.out.send("response.output_audio_transcript.delta", **where, delta=piece.text)
        self._session.out.audio(where, piece.audio)
        item.audio.append(piece.audio)
        item.audio_ms += piece.ms
        first = self.sent_ms == 0
        self.sent_ms += piece.ms
        if first:
            self._session.moment_changed()

    async def _write(self, item: Item, say: Say) -> bool | None:
        text = " ".join(say.sentences)
        for words in spread(text, -(-len(text.split()) // WORDS_PER_DELTA)):
            if not await self._unharmed():
                return None
            if not self._affordable(words, 0):
                return False
            self._open_text = (self._open_text or "") + words
            self._session.out.send("response.output_text.delta", **self._content(item), delta=words)
            await asyncio.sleep(0)
        return True

    def _affordable(self, more_text: str, more_ms: float) -> bool:
        limit = self.settings["max_output_tokens"]
        if limit in (None, "inf"):
            return True
        text, audio = self._tokens_out((self._open_text or "") + more_text, self.sent_ms + more_ms)
        return bool(text + audio <= limit)

    @staticmethod
    def _tokens_out(text: str, audio_ms: float) -> tuple[int, int]:
        return usage.text_tokens(text), int(audio_ms / usage.OUTPUT_AUDIO_MS_PER_TOKEN)

    def _open_item(self, wire: dict[str, Any]) -> Item:
        item_id = new_id("item")
        item = Item({"id": item_id, "object": "realtime.item", "status": "in_progress", **wire})
        self._output.append(item)
        self._session.out.send(
            "response.output_item.added", response_id=self.id, output_index=0, item=dict(item.wire)
        )
        if not self.out_of_band:
            self._session.add_item(item)
        return item

    def _content(self, item: Item) -> dict[str, Any]:
        return {"response_id": self.id, "item_id": item.id, "output_index": 0, "content_index": 0}

    def _close_message(self, item: Item, status: str) -> None:
        """The `.done` events of a message, complete or cut off."""
        text, where = self._open_text or "", self._content(item)
        self._open_text = None
        if self.speaks:
            self._session.out.send("response.output_audio.done", **where)
            self._session.out.send("response.output_audio_transcript.done", **where, transcript=text)
            part, content = (
                {"type": "audio", "transcript": text},
                {"type": "output_audio", "transcript": text},
            )
        else:
            self._session.out.send("response.output_text.done", **where, text=text)
            part, content = {"type": "text", "text": text}, {"type": "output_text", "text": text}
        self._session.out.send("response.content_part.done", **where, part=part)
        item.wire.update(status=status, content=[content])
        item.cut()
        if not self.out_of_band:
            self._session.item_event("done", item, self._session.conversation.before(item))
        self._session.out.send(
            "response.output_item.done", response_id=self.id, output_index=0, item=dict(item.wire)
        )

    def _finish(
        self, status: str, *, reason: str | None = None, error: tuple[str, str] | None = None
    ) -> None:
        texts = [self._open_text or ""] + [
            item.text for item in self._output if item.wire["type"] != "message"
        ]
        for item in self._output:
            if self._open_text is not None and item.role == "assistant":
                self._close_message(item, "completed" if status == "completed" else "incomplete")
        self.status = status
        if status != "completed":
            self._details = {"type": status}
            self._details |= {"reason": reason} if reason else {}
            self._details |= {"error": {"type": error[0], "code": error[1]}} if error else {}
        if status == "failed":
            self._usage = usage.no_usage()
        else:
            text, audio = self._tokens_out(" ".join(filter(None, texts)), self.sent_ms)
            self._usage = usage.usage(
                self._prompt, self._session.billed_before(self, self._prompt), text, audio
            )
        if not self._bill_lost(status):
            self._session.out.send("response.done", response=self.describe())
        self._session.response_over(self)

    def _bill_lost(self, status: str) -> bool:
        """Let a fault of the bill strike; True when `response.done` is not to be sent."""
        if status == "failed":
            return False
        if self._session.striker.take(BillMoment.RESPONSE_OVER, BillFault.NO_USAGE):
            self._usage = None
        return self._session.striker.take(BillMoment.RESPONSE_OVER, BillFault.NO_DONE)

    def describe(self) -> dict[str, Any]:
        """The response resource."""
        settings = self.settings
        output = {"format": settings["output"]["format"], "voice": settings["output"]["voice"]}
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self._details,
            "output": [dict(item.wire) for item in self._output],
            "conversation_id": None if self.out_of_band else self._session.conversation_id,
            "output_modalities": settings["output_modalities"],
            "max_output_tokens": settings["max_output_tokens"],
            "audio": {"output": output},
            "usage": self._usage,
            "metadata": settings["metadata"],
        }
