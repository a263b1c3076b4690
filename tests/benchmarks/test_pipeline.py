"""A turn taken apart, and what is reported of many: from calls that were made up."""

from __future__ import annotations

import io
import json
import random
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import pipeline, pipeline_picture, pipeline_report
from benchmarks.caller import FORMAT, Received, Recorded, Utterance
from benchmarks.pipeline_calls import HOURS, HUMAN, Question, Row, recording, schedule, spoken
from benchmarks.pipeline_contenders import CONTENDERS, Running, Servers, settings
from benchmarks.pipeline_contenders import HOURS as HOURS_ANSWER
from benchmarks.pipeline_stages import OVER, TRANSCRIPT, Stage, Turn, heard_words, other_turn, own_turn
from orchestrator.config import Settings
from tiers.prompts.catalogue import Catalogue

FIXTURES = Path(__file__).parents[1] / "fixtures" / "audio"
END = 100.0
SILENT_MS = 40


def audio(silent_ms: int = SILENT_MS, loud_ms: int = 60) -> str:
    """A delta that begins with silence."""
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(24 * loud_ms) / 24_000)
    return b64encode(FORMAT.silence(silent_ms) + tone.astype("<i2").tobytes()).decode()


def delta(response_id: str = "r2") -> dict[str, Any]:
    return {
        "type": "response.output_audio.delta",
        "response_id": response_id,
        "item_id": "i",
        "delta": audio(),
    }


def call(*events: tuple[float, dict[str, Any]], end: float | None = END) -> Recorded:
    return Recorded(0.0, [Received(END + at, event) for at, event in events], end)


def step(name: str, at: float, text: str = "") -> dict[str, Any]:
    return {"type": "step", "step": name, "at": END + at, "text": text}


PARTS = {"agent_first_token": 0.25, "first_audio": 0.65, "tts_first_audio": 0.39}


def test_a_turn_of_ours_is_taken_apart() -> None:
    recorded = call(
        (0.5, {"type": OVER}), (0.7, {"type": TRANSCRIPT, "transcript": " Ten of clubs. "}), (1.4, delta())
    )
    turn = own_turn(recorded, [{"response_id": "r1", "parts": {}}, {"response_id": "r2", "parts": PARTS}])
    assert turn is not None
    assert turn.voice_ms == pytest.approx(1400)
    assert turn.after_turn_ms == pytest.approx(900)
    assert turn.sound_ms == pytest.approx(1400 + SILENT_MS)
    assert turn.stages() == pytest.approx(
        {Stage.ENDPOINTING: 500, Stage.STT: 200, Stage.AGENT: 300, Stage.TTS: 400}
    )
    assert heard_words(recorded) == "Ten of clubs."


def test_what_was_ready_before_the_turn_ended_takes_no_time() -> None:
    """A speculating Tier B may have words and audio long before; then only what is left is waited for."""
    recorded = call((0.5, {"type": OVER}), (0.51, {"type": TRANSCRIPT, "transcript": "x"}), (0.52, delta()))
    turn = own_turn(recorded, [{"response_id": "r2", "parts": PARTS}])
    assert turn is not None
    stages = turn.stages()
    assert stages[Stage.AGENT] == 0
    assert stages[Stage.TTS] == pytest.approx(10)
    assert sum(stages.values()) == pytest.approx(turn.voice_ms)


def test_an_answer_before_the_last_word_does_not_count() -> None:
    """Where a pause ended a turn early, what was said into the caller's next words is no answer to them."""
    early = (-1.0, {"type": OVER}), (-0.2, delta("r1"))
    turn = own_turn(call(*early, (0.5, {"type": OVER}), (0.9, delta())), [])
    assert turn is not None
    assert turn.voice_ms == pytest.approx(900)
    assert own_turn(call(*early), []) is None
    assert own_turn(call((0.5, {"type": OVER}), end=None), []) is None


@pytest.mark.parametrize(("over", "endpointing", "stt"), [(0.52, 500, 20), (0.9, 500, 400), (0.5, 500, 0)])
def test_another_pipeline_that_waits_for_the_words_waits_for_speech_to_text(
    over: float, endpointing: float, stt: float
) -> None:
    told = [step("silence", 0.2), step("transcript", 0.4, "five five"), step("agent", over + 0.3)]
    events = [(over, event) for event in told]
    recorded = call(*events, (over, {"type": OVER}), (over + 0.8, delta()))
    turn = other_turn(recorded, 0.3)
    assert turn is not None
    assert turn.stages() == pytest.approx(
        {Stage.ENDPOINTING: endpointing, Stage.STT: stt, Stage.AGENT: 300, Stage.TTS: 500}
    )
    assert heard_words(recorded) == "five five"


def test_stages_always_add_up() -> None:
    dice = random.Random(4)
    for _ in range(200):
        over, words, agent, sound = (dice.uniform(0, 3) for _ in range(4))
        turn = Turn(0.0, over, words, agent, dice.uniform(0, 3), sound)
        assert sum(turn.stages().values()) == pytest.approx(turn.voice_ms)
        assert min(turn.stages().values()) >= 0


def test_recordings_are_cut_to_their_sound() -> None:
    """Their length tells that both forms were read at the right rate."""
    assert set(HUMAN) == {path.name for path in FIXTURES.iterdir()} - {"README.md"}
    short = recording(FIXTURES / "cards-004.wav", "five five")
    long = recording(FIXTURES / "jfk.flac", HUMAN["jfk.flac"])
    assert 500 < FORMAT.ms(len(short.audio)) < 1600
    assert 10_000 < FORMAT.ms(len(long.audio)) <= 11_000
    with pytest.raises(ValueError, match="expected speech"):
        spoken(np.zeros(24_000, dtype=np.float32), "nothing")


def test_contenders_answer_each_question_side_by_side() -> None:
    asked = [Question(name, Utterance(b"", "")) for name in ("a", "b", HOURS)]
    running = [Running(contender, "", lambda call: None) for contender in list(CONTENDERS.values())[:3]]
    planned = list(schedule(running, asked, 2, random.Random(1)))
    assert len(planned) == 18
    for start in range(0, 18, 3):
        group = planned[start : start + 3]
        assert len({(number, question.name) for number, question, _ in group}) == 1
        assert len({each.contender.name for _, _, each in group}) == 3
    assert planned != list(schedule(running, asked, 2, random.Random(2)))


def test_settings_are_ones_that_the_service_has(monkeypatch: pytest.MonkeyPatch) -> None:
    own = [contender for contender in CONTENDERS.values() if not contender.peer]
    for contender in own:
        with monkeypatch.context() as patch:
            for name, value in settings(
                contender, Servers("http://127.0.0.1:1", "http://127.0.0.1:2")
            ).items():
                patch.setenv(name, value)
            found = Settings()
        assert found.speech_engine() == contender.speech
        assert not found.tier_a.enabled
        assert found.tier_b.speculate is contender.speculate
        assert found.tier_b.agent_model == "openai/simulated"


def test_pipecat_says_the_same_of_the_opening_hours_as_the_catalogue() -> None:
    assert Catalogue.load().fill("opening_hours").text == HOURS_ANSWER


def test_what_can_be_chosen() -> None:
    assert pipeline.chosen((), "both", True) == list(CONTENDERS)
    assert pipeline.chosen((), "off", False) == ["plain-kokoro", "plain-cartesia"]
    assert pipeline.chosen(("speculating-kokoro", "pipecat-kokoro"), "on", True) == [
        "speculating-kokoro",
        "pipecat-kokoro",
    ]


# The report


def row(contender: str, question: str, voice: float | None, after: float | None = None) -> Row:
    if voice is None:
        return Row(contender, question, 0, "", lost="closed with 1011")
    stages = {"endpointing": 500.0, "stt": 100.0, "agent": 250.0, "tts": voice - 850.0}
    return Row(contender, question, 0, "words", voice, after or voice - 500, voice + 20, stages)


ROWS = [
    row("plain-kokoro", "a", 1100.0),
    row("plain-kokoro", "b", 1300.0),
    row("plain-kokoro", HOURS, 900.0, 240.0),
    row("pipecat-kokoro", "a", 2000.0),
    row("pipecat-kokoro", "b", 2000.0),
    row("pipecat-kokoro", HOURS, 2500.0),
    row("plain-cartesia", "a", 1500.0),
    row("plain-cartesia", HOURS, 900.0, 260.0),
    row("pipecat-cartesia", "a", None),
]


def test_the_report_keeps_what_is_remembered_apart() -> None:
    summaries = pipeline_report.summarise(ROWS)
    found = {(s.contender, s.remembered): s for s in summaries}
    ours = found["plain-kokoro", False]
    assert ours.voice is not None
    assert (ours.voice.p50, ours.answered, ours.calls) == (1200.0, 2, 2)
    assert found["pipecat-cartesia", False].answered == 0
    assert found["plain-kokoro", True].calls == 1


def test_verdicts_compare_with_the_targets() -> None:
    kokoro, remembered, slow = pipeline_report.verdicts(pipeline_report.summarise(ROWS))
    assert "Kokoro" in kokoro
    assert kokoro.endswith("0.60 of Pipecat's median (at most 0.6): kept")
    assert "240 ms after the turn's end" in remembered
    assert remembered.endswith("kept")
    assert slow.endswith("260 ms after the turn's end, from memory (at most 250): missed")


def test_tables_json_and_picture_hold_all_calls(tmp_path: Path) -> None:
    summaries = pipeline_report.summarise(ROWS)
    console = Console(file=io.StringIO(), width=60)
    pipeline_report.show(summaries, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Pipecat, the same silence" in text
    assert "0 of 1" in text
    assert "never" in text
    pipeline_report.write(tmp_path / "pipeline.json", {"seed": 1}, summaries, ROWS)
    content = json.loads((tmp_path / "pipeline.json").read_text())
    assert len(content["calls"]) == len(ROWS)
    assert content["summary"][0]["stages"]["endpointing"]["p50"] == 500.0
    pipeline_picture.draw(tmp_path / "pipeline.png", ROWS)
    assert (tmp_path / "pipeline.png").stat().st_size > 10_000
