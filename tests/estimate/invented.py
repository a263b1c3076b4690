"""An event log of calls that never were: two kinds of calls, drawn from other families than the estimate's, billed item
by item with the simulated provider's arithmetic.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.prices import PriceTable
from orchestrator.simulate.usage import Part, transcription, usage

RUNG = "gpt-realtime-2.1"
PROMPT = 740
PRICES = PriceTable()


@dataclass
class Provider:
    """The conversation of one call as a provider bills it."""

    rng: random.Random
    parts: list[Part] = field(default_factory=lambda: [Part(("prompt", 0), text=PROMPT)])
    before: list[Part] = field(default_factory=list)

    def add(self, text: int = 0, audio: int = 0) -> None:
        self.parts.append(Part((f"item {len(self.parts)}", 0), text, audio))

    def respond(self, text_out: int, audio_out: int) -> dict[str, Any]:
        billed = usage(self.parts, self.before, text_out, audio_out)
        self.before = list(self.parts)
        return billed


def calls(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """The rows of `count` calls, one call after another."""
    rng = random.Random(seed)
    for number in range(count):
        yield from _call(rng, f"call_{seed}_{number}", start=1_700_000_000.0 + 1000 * number)


def _call(rng: random.Random, call_id: str, start: float) -> Iterator[dict[str, Any]]:
    # A quick question, or trouble that takes long; the long ones have longer answers and more tools.
    quick = rng.random() < 0.7
    turns = 1 + int(rng.gammavariate(2.0, 2.0) if quick else rng.weibullvariate(28.0, 2.2))
    talk, tools = (3.0, 0.1) if quick else (4.5, 0.3)
    provider, at = Provider(rng), start
    hung_up = rng.random() < 0.08

    def row(kind: str, **fields: Any) -> dict[str, Any]:
        return {"time": at, "type": kind, "tier": "A", "call_id": call_id, **fields}

    def charge(billed: dict[str, Any], number: int) -> dict[str, Any]:
        amount = PRICES.response(RUNG, billed)
        bill = {"nanodollars": amount, "usage": billed, "estimated": False}
        response_id = f"resp_{call_id}_{len(provider.parts)}"
        return row(
            "charge", what="response", model=RUNG, rung=RUNG, turn=number, response_id=response_id, **bill
        )

    yield row("call_started", rung=RUNG, reason="default")
    for number in range(1, turns + 1):
        heard_s = 0.5 + rng.gammavariate(3.0, talk / 3.0)
        at += heard_s + rng.uniform(0.5, 3.0)
        provider.add(audio=int(heard_s * 10))
        words = transcription("gpt-transcribe", heard_s * 1000, "x" * int(heard_s * 12))
        cost = PRICES.transcription("gpt-transcribe", words)
        yield row(
            "charge", what="transcription", model="gpt-transcribe", rung=RUNG, turn=0, nanodollars=cost, usage=words,
            estimated=False,
        )  # fmt: skip
        if rng.random() < tools:
            billed = provider.respond(28, 0)
            provider.add(text=28)
            provider.add(text=rng.randint(40, 260))
            at += 0.7
            yield charge(billed, number)
        spoken_s = 0.5 + rng.weibullvariate(1.6 * talk, 1.5)
        billed = provider.respond(int(spoken_s * 3.3), int(spoken_s * 20))
        done = charge(billed, number)
        yield done
        cut = rng.random() < 0.12
        kept_s = spoken_s * rng.random() if cut else spoken_s
        if cut:
            sent = {"sent_ms": spoken_s * 1000, "heard_ms": kept_s * 1000}
            yield row("waste", item_id="item", rung=RUNG, unheard_ms=(spoken_s - kept_s) * 1000, **sent)
        yield row("answer", response_id=done["response_id"], status="completed", text="", ttfa_ms=400.0)
        provider.add(text=0 if cut else int(spoken_s * 3.3), audio=int(kept_s * 20))
        at += kept_s
    yield row("call_ended", spent_usd=0.0, turns={"answered": turns, "hung_up": int(hung_up)})


def mean_cost(rows: list[dict[str, Any]]) -> float:
    """Nano-dollars per call, as the rows' own charges tell."""
    placed = sum(row["type"] == "call_started" for row in rows)
    return sum(int(row.get("nanodollars", 0)) for row in rows) / placed
