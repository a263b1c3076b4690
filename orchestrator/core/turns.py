"""Endpointing: speech probabilities in, the beginning and end of the caller's speech out.

Used in Tiers B and C with the session's own ``turn_detection``; Tier A's provider does this itself. One
probability stands for one window of 32 ms (512 samples at 16 kHz).

    quiet for PAUSE_MS in a turn         Paused: what was said so far can be written down, and the answer begun
    sound again, for RESUMED_MS          Resumed
    quiet for long enough                SpeechStopped; how long that is follows the words, as far as they are known

While the assistant is heard (`guard`), more is needed for a turn to begin: see `Guard`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from orchestrator.core.endings import Ending
from orchestrator.protocol.session import SEMANTIC_SILENCE_MS
from orchestrator.protocol.wire import Event

WINDOW_MS = 32.0
ONSET_MS = 96.0
"""Speech this long within ONSET_WITHIN starts a turn; shorter bursts are clicks and coughs."""
ONSET_WITHIN = 5
"""Windows. On a telephone the probability of what is speech falls below the threshold every now and then."""
FAINT_SHARE = 0.2
"""Share of the threshold from which on sound that leads up to a turn belongs to it: on a telephone whole words stay
that low."""
FAINT_DIP_MS = 160.0
"""Longest dip inside such sound."""
LOOK_BACK_MS = 1500.0
"""The longest of it."""
EXIT_MARGIN = 0.15
"""Speech goes on while the probability stays above threshold minus this."""
PAUSE_MS = 150.0
"""People pause for longer between sentences, hardly ever within a word: a longer wait here would only start later."""
RESUMED_MS = 96.0

BARGE_IN_MS = 288.0
"""Sound this long, and still going on, interrupts the assistant. A burst of 240 ms lingers in the probabilities: it
spans up to 9 windows, the last of which fall off (`FADING`)."""
BACKCHANNEL_MS = 640.0
"""Under semantic_vad: what is over sooner may be an "mm-hm", which its words decide."""
RISE_SHARE = 0.4
"""Share of the threshold from which on a run of sound over the assistant's speech counts; what is speech rises on."""
FADING = 0.19
"""A probability so much below the run's peak is an end that lingers. What stops in a quiet room gives none at all
(`tiers/pipeline/vad.py`); in noise this is all there is."""
DIP_MS = 96.0
"""Longest dip inside such a run, and inside one that may be an "mm-hm"."""
BACKCHANNEL_DIP_MS = 160.0
HOLD_MS = 500.0
"""How much longer a turn may stay open for its words: nobody could answer it without them anyway."""


class Guard(Enum):
    """What it takes for a turn to begin."""

    NONE = "none"
    """Nothing is interrupted: ONSET_MS of speech."""
    BARGE_IN = "barge_in"
    """The assistant is heard: BARGE_IN_MS."""
    BACKCHANNEL = "backchannel"
    """... under semantic_vad: BACKCHANNEL_MS, or shorter speech whose words are no mere "mm-hm"."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    at_ms: float
    """Where the turn's audio begins, prefix padding included."""


@dataclass(frozen=True, slots=True)
class Paused:
    at_ms: float


@dataclass(frozen=True, slots=True)
class Resumed:
    at_ms: float


@dataclass(frozen=True, slots=True)
class Uttered:
    """Something short was said over the assistant's speech: a turn only if its words make it one (`start`)."""

    from_ms: float
    quiet_ms: float
    """Where its sound ended."""
    at_ms: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    from_ms: float
    at_ms: float
    """Where the turn's audio ends, trailing silence included."""


Found = SpeechStarted | Paused | Resumed | Uttered | SpeechStopped


@dataclass(frozen=True, slots=True)
class Patience:
    """Silence in ms that ends a turn, by how its words end."""

    finished: float
    unknown: float
    unfinished: float

    @property
    def held(self) -> float:
        """While the words are being written down."""
        return max(self.unknown, min(self.unfinished, self.unknown + HOLD_MS))

    def after(self, ending: Ending) -> float:
        return {Ending.FINISHED: self.finished, Ending.UNFINISHED: self.unfinished}.get(ending, self.unknown)


SEMANTIC = {
    "high": Patience(300.0, SEMANTIC_SILENCE_MS["high"], 1500.0),
    "auto": Patience(450.0, SEMANTIC_SILENCE_MS["auto"], 2500.0),
    "medium": Patience(450.0, SEMANTIC_SILENCE_MS["medium"], 2500.0),
    "low": Patience(800.0, SEMANTIC_SILENCE_MS["low"], 4000.0),
}


def patience_of(detection: Event) -> Patience:
    """Under server_vad never shorter than the session's own silence; an unfinished turn waits twice as long."""
    if detection.get("type") == "semantic_vad":
        return SEMANTIC[detection.get("eagerness", "auto")]
    silence = float(detection.get("silence_duration_ms", 500))
    return Patience(silence, silence, min(max(2 * silence, silence + 300.0), silence + 1500.0))


class TurnDetector:
    """Follows one caller's speech. `detection` None (manual commits) never fires."""

    def __init__(self, detection: Event | None, at_ms: float, *, speaking_since: float | None = None) -> None:
        self.guard = Guard.NONE
        self._at_ms = at_ms
        self._loud = 0
        """The latest windows, a bit each, newest last: was it speech?"""
        self._faint_from: float | None = None
        self._faint_dip_ms = 0.0
        self._run_from: float | None = None
        self._peak = self._dip_ms = 0.0
        self._started_ms = speaking_since
        self._ending = Ending.UNKNOWN
        self._begin_listening()
        self.configure(detection)

    def _begin_listening(self) -> None:
        self._quiet_ms = self._resumed_ms = 0.0
        self._paused = self._held = False
        self._ending = Ending.UNKNOWN

    def configure(self, detection: Event | None) -> None:
        """Take over changed settings; a turn under way goes on under them."""
        self._enabled = detection is not None
        detection = detection or {}
        self.semantic = detection.get("type") == "semantic_vad"
        self._threshold = float(detection.get("threshold", 0.5))
        self._prefix_ms = float(detection.get("prefix_padding_ms", 300))
        self._patience = patience_of(detection)

    @property
    def speaking(self) -> bool:
        return self._started_ms is not None

    @property
    def paused(self) -> bool:
        """In a turn, and quiet since the latest `Paused`."""
        return self._paused

    @property
    def at_ms(self) -> float:
        """Input time up to which probabilities were seen."""
        return self._at_ms

    @property
    def left_ms(self) -> float | None:
        """Where the usual silence is over and the turn is not: how much more of it ends the turn."""
        if not (self._enabled and self.speaking) or self._quiet_ms < min(
            self._patience.unknown, self._needed_ms
        ):
            return None
        return max(0.0, self._needed_ms - self._quiet_ms)

    def feed(self, probability: float) -> Found | None:
        self._at_ms += WINDOW_MS
        if not self._enabled:
            return None
        if self._started_ms is not None:
            return self._wait_for_silence(probability)
        self._follow(probability)
        if self.guard is Guard.NONE:
            return self._unguarded(probability) or self._wait_for_onset(probability)
        return self._wait_for_barge_in(probability)

    # --- before a turn ---

    def _follow(self, probability: float) -> None:
        """Sound too faint to be speech by itself: the beginning of what comes after it, if that is speech."""
        if probability >= self._threshold * FAINT_SHARE:
            self._faint_dip_ms = 0.0
            if self._faint_from is None:
                self._faint_from = self._at_ms - WINDOW_MS
        elif self._faint_from is not None:
            self._faint_dip_ms += WINDOW_MS
            if self._faint_dip_ms > FAINT_DIP_MS:
                self._faint_from = None

    def _audio_from(self, speech_ms: float) -> float:
        """Where the audio of a turn begins whose speech was found at `speech_ms`."""
        if self._faint_from is not None:
            speech_ms = min(speech_ms, max(self._faint_from, self._at_ms - LOOK_BACK_MS))
        return speech_ms - self._prefix_ms

    def _wait_for_onset(self, probability: float) -> SpeechStarted | None:
        loud = probability >= self._threshold
        self._loud = (self._loud << 1 | loud) & ((1 << ONSET_WITHIN) - 1)
        if not loud or self._loud.bit_count() * WINDOW_MS < ONSET_MS:
            return None
        return self.start(self._audio_from(self._at_ms - ONSET_MS))

    def _wait_for_barge_in(self, probability: float) -> SpeechStarted | Uttered | None:
        if probability < self._threshold * RISE_SHARE:
            return self._dip()
        self._dip_ms = 0.0
        if self._run_from is None:
            self._run_from, self._peak = self._at_ms - WINDOW_MS, 0.0
        self._peak = max(self._peak, probability)
        loud = probability >= max(self._threshold, self._peak - FADING)
        needed = BARGE_IN_MS if self.guard is Guard.BARGE_IN else BACKCHANNEL_MS
        if not loud or self._at_ms - self._run_from < needed:
            return None
        return self.start(self._audio_from(self._run_from))

    def _dip(self) -> Uttered | None:
        """A window without sound: the end of a run that was not long enough, or a dip in it."""
        if self._run_from is None:
            return None
        self._dip_ms += WINDOW_MS
        backchannel = self.guard is Guard.BACKCHANNEL
        if self._dip_ms <= (BACKCHANNEL_DIP_MS if backchannel else DIP_MS):
            return None
        run_from, self._run_from = self._run_from, None
        spoken = self._at_ms - self._dip_ms - run_from >= BARGE_IN_MS and self._peak >= self._threshold
        if not backchannel or not spoken:
            return None
        return Uttered(max(0.0, self._audio_from(run_from)), self._at_ms - self._dip_ms, self._at_ms)

    def _unguarded(self, probability: float) -> SpeechStarted | None:
        """The assistant has fallen silent in a run of sound: that is speech like any other now."""
        run_from, self._run_from = self._run_from, None
        if run_from is None:
            return None
        self._dip_ms = self._dip_ms + WINDOW_MS if probability < self._threshold - EXIT_MARGIN else 0.0
        if self._at_ms - self._dip_ms - run_from < ONSET_MS or self._peak < self._threshold:
            return None
        started = self.start(self._audio_from(run_from))
        self._quiet_ms = self._dip_ms
        return started

    def start(self, from_ms: float, *, quiet_since: float | None = None) -> SpeechStarted:
        """A turn begins, its audio `from_ms` on; `quiet_since`: the caller has paused since then."""
        self._started_ms = max(0.0, from_ms)
        self._run_from, self._faint_from, self._loud = None, None, 0
        self._begin_listening()
        if quiet_since is not None:
            self._quiet_ms, self._paused = self._at_ms - quiet_since, True
        return SpeechStarted(self._started_ms)

    # --- in a turn ---

    @property
    def _needed_ms(self) -> float:
        return self._patience.held if self._held else self._patience.after(self._ending)

    def _wait_for_silence(self, probability: float) -> Found | None:
        if probability >= self._threshold - EXIT_MARGIN:
            return self._on_sound()
        self._quiet_ms += WINDOW_MS
        if self._quiet_ms >= self._needed_ms:
            return self.stop()
        if self._paused or self._quiet_ms < PAUSE_MS:
            return None
        self._paused = True
        return Paused(self._at_ms)

    def _on_sound(self) -> Resumed | None:
        """The silence begins anew; a single blip leaves what was said before it as it was."""
        self._quiet_ms = 0.0
        if not self._paused:
            return None
        self._resumed_ms += WINDOW_MS
        if self._resumed_ms < RESUMED_MS:
            return None
        self._begin_listening()
        return Resumed(self._at_ms)

    def hold(self) -> None:
        """The words so far are being written down: the turn stays open for them a little longer."""
        self._held = True

    def judge(self, ending: Ending) -> SpeechStopped | None:
        """The words so far are known, or will not be (UNKNOWN): the turn may be over, or need a longer silence."""
        self._held, self._ending = False, ending
        return self.stop() if self.speaking and self._quiet_ms >= self._needed_ms else None

    def stop(self) -> SpeechStopped:
        """The turn is over."""
        assert self._started_ms is not None
        stopped = SpeechStopped(self._started_ms, self._at_ms)
        self._started_ms = None
        self._begin_listening()
        return stopped
