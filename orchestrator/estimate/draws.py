"""Calls drawn from the columns: how long, how many turns, who talks how much. No plan has a say in it.

Two plans with the same seed are therefore tried on the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.estimate.columns import Columns

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_TURNS = 6_000_000
"""In all calls together: beyond that an estimate takes minutes and gigabytes."""


class TooMuch(ValueError):
    """The columns describe more turns than can be simulated; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Draws:
    """Per call: `seconds`, `turns`, `first` (index of its first turn below), `greets`, `outage` (in [0, 1), uniform).

    Per turn of all calls, one after another: seconds of the caller's talk, of the answer that is heard and that is
    not, tool calls, and whether the answer was `cut`. `greeting_s` is per call.
    """

    seconds: Floats
    turns: Integers
    first: Integers
    greets: NDArray[np.bool_]
    outage: Floats
    greeting_s: Floats
    caller_s: Floats
    heard_s: Floats
    unheard_s: Floats
    tools: Integers
    cut: NDArray[np.bool_]


def draw(columns: Columns, calls: int, seed: int) -> Draws:
    """`calls` calls; raises `TooMuch`."""
    rng = np.random.default_rng(seed)
    seconds, pace, talk = _lengths(rng, columns, calls)
    pace = pace * lognormal(rng, 1.0, columns.pace_spread, calls)
    # Who hangs up early has had a part of the call, anywhere between nothing and all of it.
    early = rng.random(calls) < columns.abandon_rate
    seconds = np.where(early, seconds * rng.random(calls), seconds)
    expected = seconds * pace / columns.turn_s
    if expected.sum() > MOST_TURNS:
        raise TooMuch(
            f"{calls} calls of {columns.turns:.0f} turns each are more than can be simulated; "
            "lower calls or call_s, or raise utterance_s"
        )
    # Whole turns whose mean is what was drawn.
    turns = np.floor(expected + rng.random(calls)).astype(np.int64)
    total = int(turns.sum())
    answer_s, spread = columns.answer_s, columns.turn_spread
    cut = rng.random(total) < columns.barge_in
    talk = np.repeat(talk, turns)
    talk /= talk.mean() if talk.any() else 1.0
    return Draws(
        seconds=seconds,
        turns=turns,
        first=np.cumsum(turns) - turns,
        greets=rng.random(calls) < columns.greeting,
        outage=rng.random(calls),
        greeting_s=lognormal(rng, answer_s, spread, calls),
        caller_s=talk * lognormal(rng, columns.utterance_s, spread, total),
        heard_s=talk * lognormal(rng, answer_s, spread, total),
        unheard_s=np.where(cut, lognormal(rng, columns.unheard_s, spread, total), 0.0),
        tools=rng.poisson(columns.tools_per_turn, total),
        cut=cut,
    )


def _lengths(rng: np.random.Generator, columns: Columns, calls: int) -> tuple[Floats, Floats, Floats]:
    """Seconds of calls that run their course; their turns in a minute and talk in a turn, compared with each other."""
    alike = np.ones(calls)
    if not columns.length_profile:
        return lognormal(rng, columns.call_s, columns.length_spread, calls), alike, alike
    share = rng.integers(len(columns.length_profile), size=calls)

    def of(profile: tuple[float, ...]) -> Floats:
        return np.asarray(profile, dtype=np.float64)[share] if profile else alike

    seconds = columns.call_s * (1 + columns.length_spread * of(columns.length_profile))
    return np.maximum(0.0, seconds), of(columns.pace_profile), of(columns.talk_profile)


def lognormal(rng: np.random.Generator, mean: float, spread: float, size: int) -> Floats:
    """With this mean, and a standard deviation of `spread` times it."""
    if mean <= 0:
        return np.zeros(size)
    variance = np.log1p(spread**2)
    return rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), size)
