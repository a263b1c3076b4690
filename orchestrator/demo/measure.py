"""Who spoke when, how long the caller waited, what it cost: pure functions of a recording."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.prices import PriceTable
from orchestrator.demo.recording import Recording, Row, Source
from orchestrator.listening import Span, gaps

CALLER = "caller"


@dataclass(frozen=True, slots=True)
class Speech:
    """Something that was said, and when it was heard. `who` is the caller or the tier that spoke: "A", "B", "C"."""

    who: str
    text: str
    span: Span
    step: int
    bridge: bool = False
    complete: bool = True
    response_id: str = ""
    item_id: str = ""


@dataclass(frozen=True, slots=True)
class Failover:
    """Seconds on the recording's clock. Arrivals are at the client; what is heard waits for what came before."""

    killed: float
    bridge: float | None
    """Arrival of the bridge's first audio; None where there was none."""
    answer: float | None
    """Arrival of the first audio of the answer to the open question."""
    buffered_until: float
    """Until when the client went on playing what the lost provider had sent."""
    answer_heard: float | None
    longest_silence_ms: float | None
    """The longest that the caller heard nothing between the kill and the answer, pauses of speech included."""

    @property
    def answered_in_time(self) -> bool:
        """Whether the answer was there before the client had played out what it had, so that nothing had to bridge."""
        return self.answer is not None and self.answer <= self.buffered_until

    def since_kill_ms(self, at: float | None) -> float | None:
        return None if at is None else (at - self.killed) * 1000.0


def bridges(recording: Recording) -> list[Row]:
    """The messages that were bridges: of the responses that the service names, those with the words it names."""
    told = [(row["response_id"], row["text"]) for row in recording.of("bridge", source=Source.SERVICE)]
    return [row for row in recording.of("said") if (row["response_id"], row["text"]) in told]


def bridge_of(recording: Recording) -> Row | None:
    """The bridge that followed the provider's end; None while there is none."""
    killed = recording.first("provider_killed")
    return next((row for row in bridges(recording) if killed is not None and row.at >= killed.at), None)


def speeches(recording: Recording) -> list[Speech]:
    """All that was said, in the order in which it was heard."""
    spans, bridging = recording.spans(), bridges(recording)
    tiers = {row["response_id"]: row.tier for row in recording.of("response.done")}
    found = [
        Speech(CALLER, row["text"], Span(row.at, row.at + row["seconds"]), row["step"])
        for row in recording.of("caller_speaks")
    ]
    for row in recording.of("said"):
        if (span := spans.get(row["item_id"])) is not None:
            found.append(
                Speech(
                    tiers.get(row["response_id"]) or row.tier,
                    row["text"],
                    span,
                    row["step"],
                    bridge=row in bridging,
                    complete=row["status"] == "completed",
                    response_id=row["response_id"],
                    item_id=row["item_id"],
                )
            )
    return sorted(found, key=lambda speech: speech.span.start)


def answer_to_open_question(recording: Recording) -> Speech | None:
    """What was said, behind the bridge, about the question that the killed provider left open."""
    found = [s for s in speeches(recording) if s.step == 3 and not s.bridge and s.complete]
    return found[-1] if found else None


def latency_ms(recording: Recording, first_audio: float) -> float | None:
    """From the end of the caller's last words before it to an answer's first audio."""
    spoke = [row.at for row in recording.of("caller_spoke") if row.at <= first_audio]
    return (first_audio - spoke[-1]) * 1000.0 if spoke else None


def failover(recording: Recording) -> Failover | None:
    """The figures of the provider's end; None if it was not ended."""
    killed = recording.first("provider_killed")
    if killed is None:
        return None
    spans, bridge = recording.spans(), bridge_of(recording)
    bridging = {row["item_id"] for row in bridges(recording)}
    arrivals = {row["item_id"]: row.at for row in recording.of("first_audio")}
    later = [item for item, at in arrivals.items() if at > killed.at]
    answers = [item for item in later if item not in bridging]
    answer = answers[0] if answers else None
    heard = spans[answer].start if answer in spans else None
    silences = (
        gaps(recording.heard_audio(), 0.0, since=killed.at, until=heard)
        if heard is not None and heard > killed.at
        else []
    )
    return Failover(
        killed=killed.at,
        bridge=arrivals.get(bridge["item_id"]) if bridge is not None else None,
        answer=arrivals[answer] if answer is not None else None,
        buffered_until=max(
            (span.end for item, span in spans.items() if item not in later), default=killed.at
        ),
        answer_heard=heard,
        longest_silence_ms=max((gap.ms for gap in silences), default=0.0) if heard is not None else None,
    )


def cost_usd(done: Row) -> float | None:
    """The published price of a ``response.done``; None where the usage is not known. Local tiers cost nothing here."""
    if done.tier != "A":
        return 0.0
    rung, prices = done.get("rung", ""), PriceTable()
    if not done["usage"] or rung not in prices:
        return None
    return prices.response(rung, done["usage"]) / 1e9


def spent_usd(recording: Recording) -> float | None:
    """What the service says the call cost, once it has ended."""
    ended = recording.first("call_ended", source=Source.SERVICE)
    return None if ended is None else float(ended["spent_usd"])
