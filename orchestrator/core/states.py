"""The states of a call and every move between them: what is not in `TABLE` cannot happen.

state        what is going on
NEW          nothing yet
CONNECTING   a provider session is being opened; the client waits for ``session.created``
RELAYING     Tier A serves the call
HEDGING      as RELAYING; its answer is late, and Tier B makes one to the same turn in silence
RENEWING     as RELAYING; a fresh provider session is given the conversation, to replace one near its limit
LOCAL        Tier B or C serves the call
RACING       as LOCAL; an answer is owed, and a new provider session may give it first
PROMOTING    as LOCAL; nothing is owed, and a new provider session is given the conversation
ENDED        the client is gone
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    NEW = "new"
    CONNECTING = "connecting"
    RELAYING = "relaying"
    HEDGING = "hedging"
    RENEWING = "renewing"
    LOCAL = "local"
    RACING = "racing"
    PROMOTING = "promoting"
    ENDED = "ended"


class Move(Enum):
    CONNECT = "connect"
    """Open a provider session: the first, or the next rung's after a refusal."""
    CREATED = "created"
    """``session.created`` came."""
    SERVE = "serve"
    """Begin the call in Tier B or C."""
    HEDGE = "hedge"
    """Let Tier B start on the turn in silence."""
    STAND_DOWN = "stand_down"
    """Tier A made it, or the turn is not what it was: the hedge is thrown away."""
    DEGRADE = "degrade"
    """A fault, a deadline, a hedge that won, the budget or an operator: Tier B or C takes over."""
    RACE = "race"
    """Let a provider session (the same rung's once more, or the next one's) try for the answer owed."""
    PREPARE = "prepare"
    """Give the conversation to a provider session that is to take over between turns."""
    ABANDON = "abandon"
    """The session being prepared is given up; the call stays where it is."""
    TAKE_UP = "take_up"
    """The prepared session serves the call from now on."""
    END = "end"
    """The client hung up."""


TABLE: dict[tuple[State, Move], State] = {
    (State.NEW, Move.CONNECT): State.CONNECTING,
    (State.NEW, Move.SERVE): State.LOCAL,
    (State.NEW, Move.END): State.ENDED,
    (State.CONNECTING, Move.CONNECT): State.CONNECTING,
    (State.CONNECTING, Move.CREATED): State.RELAYING,
    (State.CONNECTING, Move.SERVE): State.LOCAL,
    (State.CONNECTING, Move.END): State.ENDED,
    (State.RELAYING, Move.HEDGE): State.HEDGING,
    (State.RELAYING, Move.PREPARE): State.RENEWING,
    (State.RELAYING, Move.DEGRADE): State.LOCAL,
    (State.RELAYING, Move.END): State.ENDED,
    (State.HEDGING, Move.STAND_DOWN): State.RELAYING,
    (State.HEDGING, Move.DEGRADE): State.LOCAL,
    (State.HEDGING, Move.END): State.ENDED,
    (State.RENEWING, Move.TAKE_UP): State.RELAYING,
    (State.RENEWING, Move.ABANDON): State.RELAYING,
    (State.RENEWING, Move.END): State.ENDED,
    (State.LOCAL, Move.RACE): State.RACING,
    (State.LOCAL, Move.PREPARE): State.PROMOTING,
    (State.LOCAL, Move.END): State.ENDED,
    (State.RACING, Move.TAKE_UP): State.RELAYING,
    (State.RACING, Move.ABANDON): State.LOCAL,
    (State.RACING, Move.END): State.ENDED,
    (State.PROMOTING, Move.TAKE_UP): State.RELAYING,
    (State.PROMOTING, Move.ABANDON): State.LOCAL,
    (State.PROMOTING, Move.END): State.ENDED,
}

RELAYED = frozenset({State.RELAYING, State.HEDGING, State.RENEWING})
"""Tier A serves the call, and the caller's audio is forwarded."""
SERVED_LOCALLY = frozenset({State.LOCAL, State.RACING, State.PROMOTING})
PREPARED = frozenset({State.RENEWING, State.RACING, State.PROMOTING})
"""Another provider session is being prepared beside the tier that serves."""


def after(state: State, move: Move) -> State:
    """The state that a move leads to; RuntimeError for a move that cannot be made."""
    found = TABLE.get((state, move))
    if found is None:
        raise RuntimeError(f"a call that is {state.value} cannot {move.value}")
    return found
