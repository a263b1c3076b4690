"""Is a rung worth trying? One circuit breaker per rung, as an explicit table.

    state      event     next state
    CLOSED     trip      OPEN        a fatal cause, or `failures` causes within the window
    OPEN       probe     HALF_OPEN   one probe is under way
    OPEN       proof     CANARY      what failed was seen to work again
    HALF_OPEN  proof     CANARY
    HALF_OPEN  trip      OPEN        any failure; the wait for the next probe doubles
    CANARY     trip      OPEN        any failure; the wait for the next probe doubles
    CANARY     recovery  CLOSED      `canary_successes` completed responses

Any other event leaves the state as it is. CLOSED takes every call, OPEN and HALF_OPEN take none, CANARY takes a few:
a share of them, chosen by their ids, and whichever call comes when none came for a while. Where no call comes at all,
probes stand in.

A *proof* is a success of each kind the faults call for: a provider can open sessions all day while every response
fails, and can go on answering in old sessions while it opens no new ones. Another replica's findings take the same
way through the table. Times are seconds of one monotonic clock, passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from hashlib import blake2b


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    CANARY = "canary"


class ProbeKind(StrEnum):
    """What a success proves, and what a probe has to do."""

    SESSION = "session"
    RESPONSE = "response"


class Cause(Enum):
    """Why a rung failed: its id, the success that disproves it, whether it opens the breaker at once."""

    BAD_KEY = ("bad_key", ProbeKind.SESSION, True)
    # A session may well be opened without credit; only a response is paid for.
    NO_CREDIT = ("no_credit", ProbeKind.RESPONSE, True)
    MODEL_NOT_FOUND = ("model_not_found", ProbeKind.SESSION, True)
    REFUSED = ("refused", ProbeKind.SESSION, True)
    CONNECT_TIMEOUT = ("connect_timeout", ProbeKind.SESSION, True)
    CLOSED = ("closed", ProbeKind.SESSION, False)
    PING_TIMEOUT = ("ping_timeout", ProbeKind.SESSION, False)
    MALFORMED = ("malformed", ProbeKind.SESSION, False)
    RATE_LIMITED = ("rate_limited", ProbeKind.RESPONSE, False)
    RESPONSE_CUT = ("response_cut", ProbeKind.RESPONSE, False)
    RESPONSE_FAILED = ("response_failed", ProbeKind.RESPONSE, False)
    RESPONSE_TIMEOUT = ("response_timeout", ProbeKind.RESPONSE, False)
    FIRST_AUDIO_TIMEOUT = ("first_audio_timeout", ProbeKind.RESPONSE, False)
    NEXT_AUDIO_TIMEOUT = ("next_audio_timeout", ProbeKind.RESPONSE, False)
    EMPTY_RESPONSE = ("empty_response", ProbeKind.RESPONSE, False)
    DEAF = ("deaf", ProbeKind.RESPONSE, False)
    """The caller spoke and the provider noticed nothing."""
    EXPIRED = ("expired", ProbeKind.SESSION, False)
    """The provider ended a session that had reached its limit: no fault of the rung, and never told to its breaker."""
    DRILL = ("drill", ProbeKind.RESPONSE, False)
    """An operator has calls lose their provider for practice: nor is this."""
    GRANT_REFUSED = ("grant_refused", ProbeKind.SESSION, False)
    """The provider does not take what this call was granted, as a voice that it lacks; other calls may well go on."""

    def __init__(self, id: str, proof: ProbeKind, fatal: bool) -> None:
        self.id = id
        self.proof = proof
        self.fatal = fatal

    @classmethod
    def parse(cls, id: str) -> Cause:
        """The cause of this id; ValueError names the known ones."""
        for cause in cls:
            if cause.id == id:
                return cause
        raise ValueError(f"expected a cause out of {', '.join(c.id for c in cls)}, not {id!r}")


class _Event(Enum):
    TRIP = "trip"
    PROBE = "probe"
    PROOF = "proof"
    RECOVERY = "recovery"


_NEXT: dict[tuple[BreakerState, _Event], BreakerState] = {
    (BreakerState.CLOSED, _Event.TRIP): BreakerState.OPEN,
    (BreakerState.OPEN, _Event.PROBE): BreakerState.HALF_OPEN,
    (BreakerState.OPEN, _Event.PROOF): BreakerState.CANARY,
    (BreakerState.HALF_OPEN, _Event.PROOF): BreakerState.CANARY,
    (BreakerState.HALF_OPEN, _Event.TRIP): BreakerState.OPEN,
    (BreakerState.CANARY, _Event.TRIP): BreakerState.OPEN,
    (BreakerState.CANARY, _Event.RECOVERY): BreakerState.CLOSED,
}
"""What is not here leaves the state as it is."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, how it probes, how it lets calls back in; all times in seconds."""

    failures: int = 2
    window_s: float = 30.0
    probe_after_s: float = 1.0
    probe_max_s: float = 30.0
    canary_share: float = 0.1
    """Share of calls that may use a rung in CANARY."""
    canary_successes: int = 3
    """Completed responses, of any call or probe, that end it."""
    canary_after_s: float = 5.0
    """When no call came for so long the next one is a canary; as long without a response, a probe is."""
    jitter: float = 0.25
    """A wait is shortened by up to this share of itself, so that replicas do not probe in step."""


def is_canary(call_id: str, rung: str, share: float) -> bool:
    """Whether a call is among the `share` (0 to 1) that may use this rung while it is on trial.

    Depends on nothing else, so that everybody who asks gets the same answer. Two rungs choose different calls.
    """
    digest = blake2b(f"{rung}\n{call_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


def _no_jitter() -> float:
    return 0.0


class Breaker:
    """The breaker of `rung`. `random` gives numbers in [0, 1) for the jitter; the default is none."""

    def __init__(
        self, policy: BreakerPolicy | None = None, random: Callable[[], float] = _no_jitter, rung: str = ""
    ) -> None:
        self.policy = policy or BreakerPolicy()
        self.rung = rung
        self.state = BreakerState.CLOSED
        self.cause: Cause | None = None
        """The latest failure, until nothing is in doubt any more."""
        self.last_success_at: float | None = None
        self.last_failure_at: float | None = None
        self.opened_at: float | None = None
        """Since when it has not been CLOSED; None while it is."""
        self.proved_at: float | None = None
        """When a success last left nothing owed: from then on, a call that the rung had failed may try it again."""
        self.next_probe_at: float | None = None
        """When a probe is due; None while nothing is in doubt."""
        self.canary_successes = 0
        """Responses completed so far in CANARY."""
        self._random = random
        self._recent: deque[tuple[float, Cause]] = deque()
        self._owed: set[ProbeKind] = set()
        self._delay = self.policy.probe_after_s
        self._closed_at: float | None = None
        self._next_canary_at = 0.0
        """From when on the next call is a canary, whatever its id."""
        self._canaries: set[str] = set()
        """Calls that started in CANARY, for as long as it lasts."""

    @property
    def is_open(self) -> bool:
        """No call may start on this rung (HALF_OPEN included: one probe is enough)."""
        return self.state in (BreakerState.OPEN, BreakerState.HALF_OPEN)

    @property
    def wait_s(self) -> float:
        """How long the next probe waits after one that did not settle it, before jitter."""
        return self.policy.canary_after_s if self.state is BreakerState.CANARY else self._delay

    @property
    def owed(self) -> ProbeKind | None:
        """What a probe would have to do to clear the doubt; None while there is none."""
        if ProbeKind.RESPONSE in self._owed:
            return ProbeKind.RESPONSE
        return ProbeKind.SESSION if self._owed else None

    # Calls

    def admits(self, call_id: str, now: float) -> bool:
        """Whether this call may use the rung. Asking changes nothing."""
        if self.state is not BreakerState.CANARY:
            return not self.is_open
        if call_id in self._canaries or now >= self._next_canary_at:
            return True
        return is_canary(call_id, self.rung, self.policy.canary_share)

    def on_start(self, call_id: str, now: float) -> None:
        """A call starts on the rung. While that is on trial it is a canary, and stays admitted."""
        if self.state is BreakerState.CANARY:
            self._canaries.add(call_id)
            self._next_canary_at = max(self._next_canary_at, now + self.policy.canary_after_s)

    # Outcomes

    def on_failure(self, cause: Cause, now: float) -> BreakerState:
        """A fault of real traffic, or of a probe."""
        self._recent.append((now, cause))
        while self._recent[0][0] <= now - self.policy.window_s:
            self._recent.popleft()
        if self.state is BreakerState.CLOSED and not cause.fatal and len(self._recent) < self.policy.failures:
            self._blame(cause, now)
            if not self._same_outage(now):
                self._delay = self.policy.probe_after_s
            self._schedule(now)
        else:
            self.trip(cause, now)
        return self.state

    def trip(self, cause: Cause, now: float) -> None:
        """Opens at once, without counting: a fatal cause, or another replica's finding."""
        if self.state is BreakerState.CANARY:
            self._owed.clear()  # that was a canary's; what is owed now is told by the cause
        self._blame(cause, now)
        if self.state is BreakerState.OPEN:
            # Calls that were still on the rung report the same outage, and the schedule stands.
            return
        if self.state is BreakerState.CLOSED:
            self.opened_at = now
        if self.state is BreakerState.CLOSED and not self._same_outage(now):
            self._delay = self.policy.probe_after_s
        else:
            self._delay = min(self._delay * 2, self.policy.probe_max_s)
        self._move(_Event.TRIP)
        self.next_probe_at = None
        self._schedule(now)

    def on_success(self, kind: ProbeKind, now: float) -> BreakerState:
        """A session that opened or a response that was completed, of real traffic or of a probe."""
        self.last_success_at = now
        if self.state is BreakerState.CANARY:
            if kind is ProbeKind.RESPONSE:
                self._count(now)
            return self.state
        # A rung in service that completes a response is all right; to be let in again each kind has to be seen.
        if self.state is BreakerState.CLOSED and kind is ProbeKind.RESPONSE:
            self._owed.clear()
        self._owed.discard(kind)
        if self._owed:
            return self.state
        if self.is_open:
            self.prove(now)
        else:
            self._settle(now)
        return self.state

    def prove(self, now: float, *, elsewhere: bool = False) -> None:
        """What failed works again: from here on a few calls try it. `elsewhere`: another replica saw it.

        Then that replica takes the first canary, and this one waits its turn.
        """
        if not self.is_open:
            return
        self._move(_Event.PROOF)
        self.proved_at = now
        self._recent.clear()
        self._canaries.clear()
        self._owed = {ProbeKind.RESPONSE}
        self.canary_successes = 0
        self._next_canary_at = now + self._jittered(self.policy.canary_after_s) if elsewhere else now
        self.next_probe_at = now + self._jittered(self.policy.canary_after_s)

    def clear(self, now: float) -> None:
        """Closes without a question: another replica's finding."""
        self.prove(now, elsewhere=True)
        self._recover(now)

    # Probes

    def probe_due(self, now: float) -> ProbeKind | None:
        """The probe to make now, or None. Whoever makes it says so with `on_probe` first."""
        if self.next_probe_at is None or now < self.next_probe_at:
            return None
        return self.owed

    def on_probe(self, now: float) -> None:
        """A probe starts. If neither its success nor its failure is ever told, the next is due all the same."""
        self._move(_Event.PROBE)
        self.next_probe_at = now + self.policy.probe_max_s

    def postpone(self, now: float) -> None:
        """Somebody else makes the probe that is due. If it is still due later, theirs failed: the wait doubles."""
        if self.state is not BreakerState.CANARY:
            self._delay = min(self._delay * 2, self.policy.probe_max_s)
        self.next_probe_at = None
        self._schedule(now)

    def _blame(self, cause: Cause, now: float) -> None:
        self.cause, self.last_failure_at = cause, now
        self._owed.add(cause.proof)

    def _same_outage(self, now: float) -> bool:
        """Trouble soon after a recovery is the same trouble, so the wait goes on growing."""
        return self._closed_at is not None and now - self._closed_at < self.policy.window_s

    def _count(self, now: float) -> None:
        self.proved_at = now
        self.canary_successes += 1
        if self.canary_successes >= self.policy.canary_successes:
            self._recover(now)
        else:
            self.next_probe_at = now + self._jittered(self.policy.canary_after_s)

    def _recover(self, now: float) -> None:
        if self.state is BreakerState.CANARY:
            self._closed_at = now
            self.opened_at = None
        self._move(_Event.RECOVERY)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Nothing is in doubt any more."""
        self.proved_at = now
        self._recent.clear()
        self._owed.clear()
        self._canaries.clear()
        self.cause = self.next_probe_at = None

    def _schedule(self, now: float) -> None:
        due = now + self._jittered(self.wait_s)
        self.next_probe_at = due if self.next_probe_at is None else min(due, self.next_probe_at)

    def _jittered(self, wait: float) -> float:
        return wait * (1.0 - self.policy.jitter * self._random())

    def _move(self, event: _Event) -> None:
        self.state = _NEXT.get((self.state, event), self.state)
