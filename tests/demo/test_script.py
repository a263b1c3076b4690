"""What is said: reproducible, and understood by those who are to answer it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from orchestrator.demo.caller import VOICE
from orchestrator.demo.recording import WIRE
from orchestrator.demo.script import (
    FALLBACK_CAST,
    FULL_CAST,
    HUMAN_WORDS,
    RULES,
    STATUSES,
    WHO_IS_THERE,
    Script,
    Voices,
    human_speech,
    trimmed,
)
from orchestrator.protocol.audio import to_pcm16
from orchestrator.simulate.brain import Brain, Question, Say, load_rules
from tiers.flow import order_number
from tiers.pipeline.kokoro import VOICES, nearest_voice
from tiers.prompts.catalogue import Catalogue


def test_a_seed_draws_the_same_orders_again() -> None:
    assert Script.draw(7) == Script.draw(7)
    assert Script.draw(7) != Script.draw(8)


@pytest.mark.parametrize("seed", range(20))
def test_numbers_have_four_digits_and_are_two(seed: int) -> None:
    script = Script.draw(seed)
    assert script.first.number != script.second.number
    for order in (script.first, script.second):
        assert len(set(order.number)) == 4
        assert order_number(script.question(order)) == order.number
        assert script.status(order.number) == order.status
    assert script.status("0000") is None


def test_tier_c_has_words_for_every_status() -> None:
    for status in STATUSES:
        line = Catalogue.load().fill("order_status", {"order_id": "4172", "status": status}, "en")
        assert "has the status" not in line.text


def test_what_the_provider_says_was_rendered_ahead() -> None:
    script = Script.draw(1)
    brain = Brain(load_rules(RULES), spoken_orders=True)
    ready = set(script.provider_lines())
    for words in (HUMAN_WORDS, script.question(script.first), WHO_IS_THERE, "Thank you, goodbye."):
        reply = brain.reply(Question(words))
        assert isinstance(reply, Say)
        assert set(reply.sentences) <= ready


def test_the_long_answer_outlasts_the_kill() -> None:
    brain = Brain(load_rules(RULES), spoken_orders=True)
    reply = brain.reply(Question(Script.draw(1).question(Script.draw(1).first)))
    assert isinstance(reply, Say)
    assert len(reply.sentences) > 4


def test_the_recorded_person_is_heard_from_beginning_to_end() -> None:
    samples = to_pcm16(human_speech(), WIRE)
    assert 2.0 < len(samples) / WIRE.rate < 3.0
    assert np.abs(samples[-240:]).max() > 100  # no silence behind the last word


def test_silence_is_trimmed_at_the_end_only() -> None:
    loud = np.full(2400, 8000, dtype=np.int16)
    quiet = np.zeros(4800, dtype=np.int16)
    kept = trimmed(np.concatenate([quiet, loud, quiet]))
    assert len(kept) == len(quiet) + len(loud)
    assert len(trimmed(quiet)) == len(quiet)


FALLBACK_VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")


@pytest.mark.parametrize(
    ("cast", "available"), [(FULL_CAST, VOICES.values()), (FALLBACK_CAST, FALLBACK_VOICES)]
)
def test_nobody_else_speaks_in_the_callers_voice(cast: Voices, available: Collection[str]) -> None:
    tier_b = nearest_voice(VOICE, "en", available)
    assert len({cast.caller, cast.provider, tier_b}) == 3
