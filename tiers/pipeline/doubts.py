"""Whether a transcript is what somebody said, or what a model makes up where nobody spoke.

Whisper always writes something. Over silence, noise or hold music it writes what stood most often under such sound in
what it was trained on, or it falls into a loop. Its own doubts tell most of it apart; no single one of them does.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np

from orchestrator.protocol.audio import HEAR_RATE, Float32

LOOPING = 2.4
"""A transcript that compresses better than this is a loop."""
ENDLESS = 8
"""Nobody says one phrase so often."""
QUIET_DB = -50.0
"""dBFS. Where no tenth of a second is louder, it is no caller who thanks us: line noise is at -60 to -50, somebody
who whispers into a telephone above -45."""
PHANTOMS = frozenset(
    {
        "you",
        "thank you",
        "thanks",
        "thank you very much",
        "thank you so much",
        "thank you for watching",
        "thanks for watching",
        "thanks for listening",
        "please subscribe",
        "please subscribe to my channel",
        "see you next time",
        "see you in the next video",
        "bye",
        "bye bye",
        "so",
        "subtitles by the amara org community",
        "transcription by castingwords",
    }
)
"""What is made up most often. All of it may be said by a caller as well."""

_NOTE = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|[♪♫]")
"""Not words but what a subtitle says about sounds: ``[Music]``, ``(upbeat music)``, ``*sighs*``."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One piece of a transcript with its model's doubts; those that are not known are none.

    `no_speech` is a probability, `logprob` the average of a token, `level_db` the loudest tenth of a second in dBFS.
    """

    text: str
    no_speech: float = 0.0
    logprob: float = 0.0
    compression: float = 0.0
    cut: bool = False
    """It ran into the token limit."""
    level_db: float = 0.0

    @property
    def looping(self) -> bool:
        return self.cut or self.compression > LOOPING or repeats(self.text)

    @property
    def made_up(self) -> bool:
        """No single measure tells: "five five" has a no-speech probability of 0.69, a sure "4172" a poor logprob.

        Measured on tiny.en, (no_speech, logprob): silence, hum and clicks (0.81 to 0.96, -0.96 to -2.2), noise (0.73
        to 0.96, -1.3 to -2.2), breath (0.27 to 0.89, -1.4 to -2); short replies (0.02 to 0.69, -0.1 to -0.95). Over
        hold music on a telephone it is sure of its "Thank you." (0.80 to 0.87, -0.56 to -0.77), which is why a
        phantom needs less doubt than other words; said by somebody it has a no-speech probability of 0.04.
        """
        silent = self.no_speech > 0.6 and (self.logprob < -0.8 or self.compression > LOOPING)
        unsure = self.no_speech > 0.2 and self.logprob < -1.3
        phantom = _plain(self.text) in PHANTOMS and (self.no_speech > 0.7 or self.level_db < QUIET_DB)
        return silent or unsure or phantom or self._loop_made_up

    @property
    def _loop_made_up(self) -> bool:
        """ "No, no, no" is said by people, and then the model is sure of it. So much of one thing is not.

        A whole sentence said again compresses as well as a loop; a loop goes round more often, or to the limit.
        """
        endless = self.compression > LOOPING and (self.cut or times_round(self.text) >= ENDLESS)
        return endless or (repeats(self.text) and self.logprob < -0.8)

    @property
    def words(self) -> str:
        """The text, empty where nothing was really said."""
        text = _NOTE.sub("", self.text).strip()
        return text if any(char.isalnum() for char in text) and not self.made_up else ""


def repeats(text: str) -> bool:
    """Whether it is one phrase over and over: a word thrice or more, several words twice or more."""
    return times_round(text) >= 2.0


def times_round(text: str) -> float:
    """How often a text goes through the one phrase it consists of; a word said twice is none."""
    words = text.lower().replace(",", " ").replace(".", " ").split()
    for size in range(1, len(words) // 2 + 1):
        again = all(word == words[position % size] for position, word in enumerate(words))
        if again and (size > 1 or len(words) > 2):
            return len(words) / size
    return 1.0


def compression(text: str) -> float:
    """How many times shorter a text gets; what Whisper measures, for who does not tell it."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def loudest_db(audio: Float32) -> float:
    """The level of the loudest tenth of a second, in dBFS; -120 for silence."""
    window = HEAR_RATE // 10
    padded = np.pad(audio, (0, -len(audio) % window)) if len(audio) else np.zeros(window, dtype=np.float32)
    power = float(np.square(padded.reshape(-1, window)).mean(axis=1).max())
    return max(-120.0, 10.0 * float(np.log10(power + 1e-12)))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))
