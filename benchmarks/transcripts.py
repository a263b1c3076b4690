"""What a recogniser writes down of a line, in several ways, and whether a value of the line is in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
from faster_whisper import WhisperModel

from orchestrator import models
from orchestrator.core.amounts import amounts
from orchestrator.core.spoken_dates import moment, moment_said
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Encoder, Pcm16, hear
from orchestrator.protocol.number_words import DIGIT_OF, ONES, SCALE_OF, TENS, ordinal
from tiers.prompts.catalogue import Prompt
from tiers.prompts.speakable import SPEAKABLE

CORES = os.cpu_count() or 1


class Way(Enum):
    """How a line is listened to. A small recogniser slips now and then, and another time in another way."""

    FIGURES = "figures"
    """As it writes by itself, which is why "1,99" may be its one thousand ninety-nine."""
    WORDS = "words"
    """With no figures to write."""
    LATER = "later"
    """As the first, with half a second of silence before it."""


HINTS = {"order_status": "Your order number 3 0 7 9, 1 4 2 5 is ready."}
"""Told to the recogniser as what was said before, for both renderings alike: in which way numbers are to be written.

Only where that is in doubt: a hint with an amount in dollars has it write dollars for euros.
"""
NUMBERS = frozenset({*ONES, *TENS, *SCALE_OF, "million"})
SOUNDS_LIKE = {
    **{ordinal(value): ONES[value] for value in range(1, 20)},
    **{ordinal(tens * 10): TENS[tens] for tens in (2, 3)},
    "to": "two",
    "too": "two",
    "for": "four",
    "ate": "eight",
    "won": "one",
    "oh": "zero",
    "o": "zero",
    "canceled": "cancelled",
    "q": "queue",
    "dollar": "dollars",
    "euro": "euros",
    "pound": "pounds",
}
"""Words that a recogniser writes for others: "December six" is the sixth."""
_LEFT_OUT = frozenset({"and", "th"})
"""Of "thirty-th", as of any other way to write the thirtieth."""


class Ear:
    """Whisper, over a telephone or not."""

    def __init__(self, telephone: bool) -> None:
        self._format = AudioFormat.PCMU if telephone else AudioFormat.PCM
        self._model = WhisperModel(str(models.whisper()), compute_type="int8", cpu_threads=CORES)
        self._figures = _figures(self._model)

    def write_down(self, pcm: Pcm16, prompt: str, way: Way) -> str:
        """`prompt` is the name of what is listened to."""
        if way is Way.LATER:
            pcm = np.concatenate([np.zeros(SPEAK_RATE // 2, np.int16), pcm])
        audio = hear(Encoder(self._format).encode(pcm, last=True), self._format)
        segments, _ = self._model.transcribe(
            audio,
            language="en",
            beam_size=5,
            condition_on_previous_text=False,
            initial_prompt=None if way is Way.WORDS else HINTS.get(prompt),
            suppress_tokens=[-1, *self._figures] if way is Way.WORDS else [-1],
        )
        return "".join(segment.text for segment in segments).strip()


def _figures(model: WhisperModel) -> list[int]:
    """The recogniser's tokens with a digit or a sign of money in them. They are spelled in bytes, as is the euro's."""
    return sorted(
        number
        for token, number in model.hf_tokenizer.get_vocab().items()
        if not token.startswith("<|")
        and ("âĤ¬" in token or any(char.isdigit() or char in "$%£¥" for char in token))
    )


def wrong_values(prompt: Prompt, variables: Mapping[str, Any], heard: str) -> list[str]:
    """The variables whose values are not in the transcript, or not alone where they ought to be."""
    words = heard_words(heard)
    return [
        name
        for name, value in variables.items()
        if not _in_words(prompt, name, value, words) and not _in_figures(prompt, name, value, heard)
    ]


# --- as words ---


def heard_words(text: str) -> list[str]:
    """The words of a line or its transcript, those that sound alike as one, without the freedom there is in writing."""
    plain = text.lower().replace("pick-up", "pickup").replace("pick up", "pickup")
    return [SOUNDS_LIKE.get(word, word) for word in re.findall(r"[a-z]+|\d+", plain) if word not in _LEFT_OUT]


def _in_words(prompt: Prompt, name: str, value: Any, words: list[str]) -> bool:
    said = heard_words(prompt.variables[name].say(value, SPEAKABLE["en"], "en").words)
    for start in range(len(words) - len(said) + 1):
        end = start + len(said)
        if words[start:end] == said and not (
            _goes_on(words[start - 1 : start], said[0]) or _goes_on(words[end : end + 1], said[-1])
        ):
            return True
    return False


def _goes_on(beside: list[str], edge: str) -> bool:
    """Whether a number is longer than it ought to be."""
    return edge in NUMBERS and any(word in NUMBERS or word.isdigit() for word in beside)


# --- as figures ---


def _in_figures(prompt: Prompt, name: str, value: Any, heard: str) -> bool:
    match prompt.variables[name].type:
        case "spelled_id":
            return digits(heard) == value
        case "enum":
            return False  # there are none in a status
        case "money":
            number, _, currency = value.partition(" ")
            found = [(amount.number, amount.currency) for amount in amounts(heard.lower())]
            return found[:1] == [(Decimal(number), currency)]
        case "date":
            when = moment(value)
            assert when is not None
            return moment_said(when, heard.lower())
        case _:
            place = list(prompt.variables).index(name)
            numbers = [
                int(each.replace(",", "")) for each in re.findall(r"\d[\d,]*\d|\d", _as_figures(heard))
            ]
            return len(numbers) == len(prompt.variables) and numbers[place] == value


def digits(text: str) -> str:
    """All digits of a transcript in a row, whether it has figures or words."""
    words = re.findall(r"[a-z]+|\d", text.lower())
    return "".join(DIGIT_OF.get(word, word if word.isdigit() else "") for word in words)


def _as_figures(text: str) -> str:
    """Small numbers that were written as words, as figures."""
    words = {word: str(number) for number, word in enumerate(ONES)}
    return re.sub(r"[a-z]+", lambda match: words.get(match[0], match[0]), text.lower())
