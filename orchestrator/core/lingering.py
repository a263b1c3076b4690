"""Provider sessions that serve no longer and are kept open until what they were making is billed.

Whoever gives a session up in the middle of an answer has to pay for what there is of it, and the usage comes only after
``response.cancel``. What has not come after `LINGER_S`, or cannot come any more, is charged with all that was set
aside for it, marked estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.actions import CloseUpstream, ToUpstream
from orchestrator.core.context import CallContext
from orchestrator.core.gate import response_charge
from orchestrator.protocol.answers import Charge, Transcript
from orchestrator.protocol.wire import Event, parse_server_event

LINGER_S = 2.0


@dataclass(slots=True)
class _Session:
    rung: str
    keys: dict[str, int]
    """What of it runs, with the turns it is for."""
    due: float


class Lingering:
    """All of one call."""

    def __init__(self, ctx: CallContext) -> None:
        self._ctx = ctx
        self._sessions: dict[int, _Session] = {}

    def __bool__(self) -> bool:
        return bool(self._sessions)

    def __contains__(self, attempt: object) -> bool:
        return attempt in self._sessions

    def leave(self, attempt: int, rung: str, keys: dict[str, int], now: float, *, alive: bool) -> None:
        """A session is given up. `keys`: what it may still bill, with the turns it is for. `alive`: it may answer."""
        session = _Session(rung, dict(keys), now + LINGER_S)
        if keys and alive:
            self._sessions[attempt] = session
            self._ctx.do(ToUpstream({"type": "response.cancel"}, attempt))
        else:
            self._settle(session)
            self._ctx.do(CloseUpstream(attempt))

    def frame(self, attempt: int, frame: bytes) -> tuple[str, Transcript] | None:
        """One frame of such a session; the words of a turn, by its item, if it has written one down."""
        event, _ = parse_server_event(frame)
        if event is None:
            return None
        written = None
        session = self._sessions[attempt]
        if event["type"] == "response.created":
            self._begun(session, event["response"]["id"])
        elif event["type"] == "response.done":
            self._done(session, event["response"])
        elif event["type"] == "conversation.item.input_audio_transcription.completed":
            self._written(session, event)
            written = event["item_id"], Transcript(event["transcript"], 0.0)
        elif event["type"] == "error":
            self._nothing_begun(session)
        if not session.keys:
            self._close(attempt)
        return written

    def lost(self, attempt: int) -> None:
        """The session's socket is gone, and with it what it might have said."""
        self._settle(self._sessions[attempt])
        self._close(attempt)

    def next_due(self) -> float | None:
        return min((session.due for session in self._sessions.values()), default=None)

    def tick(self, now: float) -> None:
        for attempt in [attempt for attempt, session in self._sessions.items() if now >= session.due]:
            self.lost(attempt)

    def _close(self, attempt: int) -> None:
        del self._sessions[attempt]
        self._ctx.do(CloseUpstream(attempt))

    def _begun(self, session: _Session, response_id: str) -> None:
        """What was asked for, or owed to a turn, has begun after all; it is to stop as well."""
        key = next((key for key in session.keys if _is_request(key)), None)
        if key is not None:
            session.keys[response_id] = session.keys.pop(key)
            self._ctx.purse.rename(key, response_id)

    def _done(self, session: _Session, wire: Event) -> None:
        response_id, ctx = str(wire.get("id")), self._ctx
        if response_id in session.keys:
            charge = response_charge(ctx, session.rung, response_id, wire.get("usage"))
            self._charge(session, response_id, charge)

    def _written(self, session: _Session, event: Event) -> None:
        key, ctx = f"words of {event['item_id']}", self._ctx
        if key in session.keys:
            model = ctx.transcribes_with
            cost = ctx.price(model, event["usage"])
            self._charge(session, key, Charge("transcription", model, cost, event["usage"]))

    def _nothing_begun(self, session: _Session) -> None:
        """There was nothing to cancel: what was only asked for never began."""
        for key in [key for key in session.keys if _is_request(key)]:
            self._ctx.purse.end(key)
            del session.keys[key]

    def _charge(self, session: _Session, key: str, charge: Charge) -> None:
        turn = session.keys.pop(key)
        self._ctx.charge(charge, session.rung, turn, key=key, tier="A", lingering=True)
        self._ctx.purse.end(key)

    def _settle(self, session: _Session) -> None:
        for key in list(session.keys):
            what = self._ctx.transcribes_with if key.startswith("words of ") else session.rung
            kind = "transcription" if key.startswith("words of ") else "response"
            worst = self._ctx.purse.worst(key)
            self._charge(session, key, Charge(kind, what, worst, {}, estimated=True))  # type: ignore[arg-type]


def _is_request(key: str) -> bool:
    return key.startswith(("create ", "turn ", "race "))
