"""When a provider session is too late. Times are seconds of the call's clock.

    what is awaited             from                                        counts as
    ``response.created``        the end of a turn, or the client's request  RESPONSE_TIMEOUT
    the first audio             the same moment                             FIRST_AUDIO_TIMEOUT
    the next audio              when the client's buffer has run dry        NEXT_AUDIO_TIMEOUT
    the next event              a tool call or text, which owe no audio     FIRST_AUDIO_TIMEOUT

The next-audio deadline is a budget of silence within one answer: audio that comes, but slower than it is played,
uses it up piece by piece, and good audio gives some of it back.
"""

from __future__ import annotations

from orchestrator.core.context import Policy
from orchestrator.core.health import Cause
from orchestrator.core.pace import Pace, Step
from orchestrator.core.playback import Playback

RECOVERED = 0.1
"""Share of an answer's audio that silence heard before is forgiven by."""
PLAYOUT_S = 0.02
"""Dry spells shorter than a frame are nobody's silence."""


class Deadlines:
    """Those of one provider session, over all its responses in the default conversation."""

    def __init__(self, policy: Policy, pace: Pace, playback: Playback) -> None:
        self.awaits_audio = False
        """The caller waits for the first audio of an answer."""
        self.hedge_at: float | None = None
        """When Tier B may start on the same turn in silence; None once that was decided."""
        self._policy = policy
        self._pace = pace
        self._playback = playback
        self._response_due: float | None = None
        self._audio_due: float | None = None
        self._heard = False
        self._starved_s = 0.0

    # --- what happens ---

    def answer_owed(self, now: float, *, speaks: bool) -> None:
        """The caller's turn ended, or the client asked. The oldest request not taken up counts."""
        if self._response_due is None:
            self._response_due = now + self._limit(Step.RESPONSE)
            self._await_audio(now, Step.RESPONSE, speaks)

    def nothing_owed(self) -> None:
        """No response is awaited any more."""
        self._response_due = None
        self._await_no_audio()

    def response_opened(self, owed_since: float, *, speaks: bool) -> None:
        """A response of the default conversation began; one that is text owes no audio."""
        self._heard, self._starved_s = False, 0.0
        self._audio_due = owed_since + self._limit(Step.FIRST_AUDIO) if speaks else None
        self._await_audio(owed_since, Step.FIRST_AUDIO, speaks)

    def no_audio_owed(self, now: float) -> None:
        """The response turned out to be a tool call or text: it must end, but owes no audio."""
        self._audio_due = now + self._policy.answer_s
        self._await_no_audio()

    def audio(self, starved_s: float, ms: float) -> None:
        """Audio came. `starved_s`: how long the client's buffer had been dry. `ms`: how long the audio plays."""
        if self._heard:
            self._starved_s = max(0.0, self._starved_s - RECOVERED * ms / 1000.0)
            if starved_s > PLAYOUT_S:
                self._starved_s += starved_s
        self._heard = True
        if self.awaits_audio:
            self._await_no_audio()
        left = max(self._policy.next_audio_s - self._starved_s, 0.0)
        self._audio_due = self._playback.dry_at + left

    def audio_ended(self, now: float) -> None:
        """All audio of an item came; the response has to go on or end."""
        self._audio_due = max(now, self._playback.dry_at) + self._limit(Step.RESPONSE)

    def response_closed(self) -> None:
        self._audio_due = None
        self._await_no_audio()

    # --- what is due ---

    def next_due(self) -> float | None:
        dues = [due for due in (self._response_due, self._audio_due) if due is not None]
        return min(dues) if dues else None

    def overdue(self, now: float) -> Cause | None:
        """The deadline that has passed, if one has."""
        if self._response_due is not None and now >= self._response_due:
            return Cause.RESPONSE_TIMEOUT
        if self._audio_due is not None and now >= self._audio_due:
            return Cause.NEXT_AUDIO_TIMEOUT if self._heard else Cause.FIRST_AUDIO_TIMEOUT
        return None

    def _limit(self, step: Step) -> float:
        return self._pace.deadline(step, self._policy.deadlines)

    def _await_audio(self, now: float, step: Step, speaks: bool) -> None:
        self.awaits_audio = speaks
        self.hedge_at = now + self._policy.hedge_share * self._limit(step) if speaks else None

    def _await_no_audio(self) -> None:
        self.awaits_audio, self.hedge_at = False, None
