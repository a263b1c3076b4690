"""Is a rung worth trying? One circuit breaker per rung, as an explicit table.

    state      on            next state
    CLOSED     a trip        OPEN         (a fatal cause, or `failures` causes within the window)
    OPEN       a probe       HALF_OPEN    (one probe is under way)
    OPEN       a proof       CLOSED
    HALF_OPEN  a proof       CLOSED
    HALF_OPEN  a failure     OPEN         (and the wait for the next probe doubles)

A *proof* is a success of the kind the faults call for: a provider can open sessions all day while every
response fails, so a breaker that response faults opened closes only after a real response. Times are seconds
of one monotonic clock, passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class ProbeKind(StrEnum):
    """What a success proves, and what a probe has to do. RESPONSE proves more than SESSION."""

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


_NEXT: dict[tuple[BreakerState, _Event], BreakerState] = {
    (BreakerState.CLOSED, _Event.TRIP): BreakerState.OPEN,
    (BreakerState.CLOSED, _Event.PROBE): BreakerState.CLOSED,
    (BreakerState.CLOSED, _Event.PROOF): BreakerState.CLOSED,
    (BreakerState.OPEN, _Event.TRIP): BreakerState.OPEN,
    (BreakerState.OPEN, _Event.PROBE): BreakerState.HALF_OPEN,
    (BreakerState.OPEN, _Event.PROOF): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, _Event.TRIP): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, _Event.PROBE): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, _Event.PROOF): BreakerState.CLOSED,
}


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and how it probes; all times in seconds."""

    failures: int = 2
    window_s: float = 30.0
    probe_after_s: float = 1.0
    probe_max_s: float = 30.0
    jitter: float = 0.25
    """A wait is shortened by up to this share of itself, so that replicas do not probe in step."""


def _no_jitter() -> float:
    return 0.0


class Breaker:
    """One rung's breaker. `random` gives numbers in [0, 1) for the jitter; the default is none."""

    def __init__(self, policy: BreakerPolicy | None = None, random: Callable[[], float] = _no_jitter) -> None:
        self.policy = policy or BreakerPolicy()
        self.state = BreakerState.CLOSED
        self.cause: Cause | None = None
        """The latest failure since the last proof."""
        self.last_success_at: float | None = None
        self.last_failure_at: float | None = None
        self.next_probe_at: float | None = None
        """When a probe is due; None while nothing is in doubt."""
        self._random = random
        self._recent: deque[tuple[float, Cause]] = deque()
        self._owed: ProbeKind | None = None
        self._delay = self.policy.probe_after_s
        self._closed_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Nothing new may start on this rung (HALF_OPEN included: one probe is enough)."""
        return self.state is not BreakerState.CLOSED

    @property
    def wait_s(self) -> float:
        """How long the next probe waits after a failed one, before jitter."""
        return self._delay

    @property
    def owed(self) -> ProbeKind | None:
        """The success that would clear the doubt; None while there is none."""
        return self._owed

    def on_failure(self, cause: Cause, now: float) -> BreakerState:
        """A fault of real traffic, or of a probe."""
        self.cause, self.last_failure_at = cause, now
        self._owe(cause.proof)
        self._recent.append((now, cause))
        while self._recent[0][0] <= now - self.policy.window_s:
            self._recent.popleft()
        if self.state is BreakerState.HALF_OPEN:
            self._delay = min(self._delay * 2, self.policy.probe_max_s)
            self._move(_Event.TRIP)
            self._schedule(now)
        elif self.state is BreakerState.CLOSED:
            if cause.fatal or len(self._recent) >= self.policy.failures:
                self.trip(cause, now)
            else:
                self._schedule(now)
        # OPEN: calls that were still on the rung report the same outage, and the schedule stands.
        return self.state

    def trip(self, cause: Cause, now: float) -> None:
        """Opens at once, without counting: a fatal cause, or another replica's finding."""
        self.cause, self.last_failure_at = cause, now
        self._owe(cause.proof)
        if self.state is BreakerState.CLOSED:
            # Opening again soon after a recovery is the same outage, so the wait goes on growing.
            again = self._closed_at is not None and now - self._closed_at < self.policy.window_s
            self._delay = (
                min(self._delay * 2, self.policy.probe_max_s) if again else self.policy.probe_after_s
            )
        self._move(_Event.TRIP)
        self._schedule(now)

    def on_success(self, kind: ProbeKind, now: float) -> BreakerState:
        """A session that opened or a response that was completed, of real traffic or of a probe."""
        self.last_success_at = now
        if self._owed is None or self._owed is ProbeKind.SESSION or kind is ProbeKind.RESPONSE:
            self.clear(now)
        return self.state

    def clear(self, now: float) -> None:
        """Closes without a question: a proof, or another replica's."""
        if self.state is not BreakerState.CLOSED:
            self._closed_at = now
        self._move(_Event.PROOF)
        self._recent.clear()
        self.cause = self._owed = self.next_probe_at = None

    def probe_due(self, now: float) -> ProbeKind | None:
        """The probe to make now, or None. Whoever makes it says so with `on_probe` first."""
        if self.next_probe_at is None or now < self.next_probe_at:
            return None
        return self._owed

    def on_probe(self, now: float) -> None:
        """A probe starts. If neither its success nor its failure is ever told, the next is due all the same."""
        self._move(_Event.PROBE)
        self.next_probe_at = now + self.policy.probe_max_s

    def postpone(self, now: float) -> None:
        """Somebody else makes the probe that is due. If it is still due later, theirs failed: the wait doubles."""
        self._delay = min(self._delay * 2, self.policy.probe_max_s)
        self.next_probe_at = None
        self._schedule(now)

    def _owe(self, proof: ProbeKind) -> None:
        if self._owed is not ProbeKind.RESPONSE:
            self._owed = proof

    def _schedule(self, now: float) -> None:
        due = now + self._delay * (1.0 - self.policy.jitter * self._random())
        if self.state is BreakerState.CLOSED and self.next_probe_at is not None:
            due = min(due, self.next_probe_at)
        self.next_probe_at = due

    def _move(self, event: _Event) -> None:
        self.state = _NEXT[self.state, event]
