"""What it costs to have a turn written down, by however many services."""

from __future__ import annotations

import pytest

from orchestrator.core.actions import Transcribe
from orchestrator.protocol.answers import Charge, Transcript
from tests.core.bench import Bench, local

CHARGES = (
    Charge("transcription", "stt-endpoint", 100_000, {"type": "duration", "seconds": 1.0}, estimated=True),
    Charge("transcription", "openai/whisper-1", 50_000, {"type": "duration", "seconds": 0.5}),
)


@pytest.mark.parametrize("understood", [True, False])
def test_every_service_that_was_asked_is_paid(bench: Bench, understood: bool) -> None:
    local(bench)
    bench.say()
    wanted, spent = bench.last(Transcribe), bench.call.ctx.budget.spent
    if understood:
        bench.call.transcribed(wanted.item_id, Transcript("Yes.", 1.0, charges=CHARGES), bench.now)
    else:
        bench.call.transcribed(wanted.item_id, None, bench.now, CHARGES)
    bench.settle()
    assert bench.call.ctx.budget.spent - spent == 150_000
    rows = [(row["model"], row["nanodollars"], row["estimated"]) for row in bench.rows("charge")]
    assert rows == [("stt-endpoint", 100_000, True), ("openai/whisper-1", 50_000, False)]
    assert {row["item_id"] for row in bench.rows("charge")} == {wanted.item_id}
