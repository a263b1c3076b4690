"""What is said in the demo: by whom, in which voice, and about which orders."""

from __future__ import annotations

import random
import wave
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from orchestrator.demo.recording import WIRE
from orchestrator.listening import SILENCE_DBFS, WINDOW_MS, loudness
from orchestrator.protocol.audio import Pcm16, from_pcm16
from orchestrator.simulate.brain import LOOKING_UP, Brain, load_rules, spell

HERE = Path(__file__).parent
RULES = HERE / "provider.toml"
HUMAN_SPEECH = HERE / "audio" / "austen-0880.wav"

STATUSES = ("shipped", "in_transit", "out_for_delivery", "delivered", "ready_for_pickup")
"""Statuses that the built-in prompt has its own words for."""

INSTRUCTIONS = (
    "You are the friendly assistant of a small online shop. Answer in one or two short sentences. "
    "Look orders up with the tool get_order_status."
)
LIVE_INSTRUCTIONS = (
    "You are the friendly assistant of a small online shop. When you are asked for an order, never call a tool in "
    "your first answer: first explain in five long spoken sentences how parcels travel. Else be brief."
)
"""For a real provider, which is to be cut off in the middle of a long answer."""


@dataclass(frozen=True, slots=True)
class Order:
    number: str
    status: str


@dataclass(frozen=True, slots=True)
class Voices:
    """Kokoro voices. The caller's is not an agent's, and every tier can be told from the others by ear."""

    caller: str
    provider: str


FULL_CAST = Voices(caller="bf_emma", provider="am_michael")
FALLBACK_CAST = Voices(caller="jf_tebukuro", provider="jm_kumo")
"""For the voices of `VoicesSource.FALLBACK`, all of them Japanese."""


@dataclass(frozen=True, slots=True)
class Script:
    """The orders are drawn at random; everything else is fixed."""

    first: Order
    second: Order

    @classmethod
    def draw(cls, seed: int) -> Script:
        dice = random.Random(seed)
        one, two = dice.sample([number for number in map(str, range(1000, 10_000)) if _clear(number)], 2)
        here, there = dice.sample(STATUSES, 2)
        return cls(Order(one, here), Order(two, there))

    def status(self, number: str) -> str | None:
        """What the client's tool knows of an order; None for any that is not in the script."""
        return {order.number: order.status for order in (self.first, self.second)}.get(number)

    def question(self, order: Order) -> str:
        return f"Hello, where is order number {spell(order.number)} at the moment?"

    @property
    def lines(self) -> tuple[str, ...]:
        """All that the caller's synthetic voice says."""
        return (self.question(self.first), SMALL_TALK, self.question(self.second), WHO_IS_THERE, GOODBYE)

    def provider_lines(self) -> list[str]:
        """What the simulated provider may say; rendered ahead, or it would be slower than a real one."""
        return [*Brain(load_rules(RULES)).known_lines(), LOOKING_UP.format(order=spell(self.first.number))]


def _clear(number: str) -> bool:
    """Whether Whisper tiny.en understands it: it takes "7 7" for one seven, and a last "4" for "for"."""
    return len(set(number)) == 4 and not number.endswith("4")


HUMAN_WORDS = "He was not an ill disposed young man."
SMALL_TALK = "Thank you, that is good news."
WHO_IS_THERE = "Am I talking to the first assistant again?"
GOODBYE = "Thank you, goodbye."


def human_speech() -> bytes:
    """The recorded person, in the wire's format."""
    with wave.open(str(HUMAN_SPEECH)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        rate = file.getframerate()
    resampled = np.asarray(soxr.resample(samples, rate, WIRE.rate), dtype=np.int16)
    return from_pcm16(trimmed(resampled), WIRE)


def trimmed(samples: Pcm16) -> Pcm16:
    """Without the silence behind the last word: latencies count from there."""
    loud = np.flatnonzero(loudness(samples, WIRE.rate) > SILENCE_DBFS)
    width = WIRE.rate * WINDOW_MS // 1000
    return samples[: (int(loud[-1]) + 1) * width] if len(loud) else samples


def cast(available: Collection[str]) -> Voices:
    """The full cast where its voices are there."""
    whole = {FULL_CAST.caller, FULL_CAST.provider} <= set(available)
    return FULL_CAST if whole else FALLBACK_CAST
