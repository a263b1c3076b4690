"""The longest that a call may last. At its end the caller hears a goodbye, and the call is closed.

Whoever speaks at that moment, caller or assistant, may come to an end within `GRACE_S`. Then answers stop, Tier A is
left without anybody being asked to go on, and the goodbye is a line that is in memory.
"""

from __future__ import annotations

from orchestrator.core.actions import HangUp
from orchestrator.core.context import Unfinished
from orchestrator.core.keypad import Keypad
from orchestrator.core.outcomes import Outcome

GRACE_S = 5.0
"""How long whoever speaks at the end may go on."""
LOOK_S = 0.1
"""How often it is looked whether they have come to an end."""
MOST_AFTER_S = 20.0
"""The call is closed so long after its end at the latest, however much audio the client has still to play."""
WHY = "the call is over"


class Leash(Keypad):
    """The end of a call by the clock. `Call` adds the other events."""

    _ends_at: float | None = None
    """When the call has lasted as long as it may."""
    _leash_due: float | None = None
    _ending = False

    def _put_on_leash(self, now: float) -> None:
        if self.ctx.longest_s is not None:
            self._ends_at = self._leash_due = now + self.ctx.longest_s

    def _take_off_leash(self) -> None:
        self._leash_due = None

    def consider(self, now: float) -> None:
        if not self._ending:
            super().consider(now)

    def _tick_leash(self, now: float) -> None:
        if self._leash_due is None or now < self._leash_due:
            return
        assert self._ends_at is not None
        if not self._ending:
            self._ending = True
            grant, limit = self.ctx.grant, self.ctx.longest_s
            by = "grant" if grant is not None and grant.max_s == limit else "server"
            self.ctx.record("call_limit", limit_s=limit, set_by=by, tier=self.ctx.tier, rung=self.ctx.rung)
        if self._somebody_speaks(now) and now < self._ends_at + GRACE_S:
            self._leash_due = min(now + LOOK_S, self._ends_at + GRACE_S)
            return
        self._leash_due = None
        self._end_call(self._ends_at + MOST_AFTER_S, now)

    def _somebody_speaks(self, now: float) -> bool:
        serving = self.relay or self.local
        return serving is not None and (not serving.at_boundary or self.ctx.playback.dry_at > now)

    def _end_call(self, at_last: float, now: float) -> None:
        why = f"the call has lasted as long as it may: {self.ctx.longest_s:g} s"
        if self.hedge is not None:
            self._stand_down(WHY, now)
        if self.preparation is not None:
            self._abandon(WHY, now)
        if self.relay is not None:
            left = self._leave_relay(now)
            self._close_owed(left)
            decision = self._route("A", frozenset({"A"}))
            self._degrade(left, decision, "limit", "call_limit", now)
        if self.local is None:  # not even begun
            self.ctx.do(HangUp(why))
            return
        self.local.fall_silent(now)
        self.local.say_goodbye(now, why, at_last)

    def _close_owed(self, left: Unfinished) -> None:
        """Nobody answers any more: what the client saw opened ends, and turns end without an answer."""
        for owed in left.owed:
            if owed.response is not None:
                self.ctx.writer.finish(owed.response, "incomplete")
                self.ctx.responses.pop(owed.response.id, None)
            self.ctx.end_turn(owed.turn, Outcome.CLOSED, WHY)
        left.owed = []
