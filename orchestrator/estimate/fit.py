"""Columns from recorded calls: the means and spreads that the bill depends on.

Audio tokens tell how long was talked, the growth of a response's input over the one before tells what stayed in the
history, its cached tokens how much of it the provider found again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.estimate.columns import Columns
from orchestrator.estimate.history import CACHE_BLOCK, TOKENS_PER_S_IN, TOKENS_PER_S_OUT
from orchestrator.estimate.recorded import Answered, Recorded, Row, recorded

_SHARES = 40
"""Of the calls, in which their lengths are told."""


class NothingToFit(ValueError):
    """There is no call in the rows that columns could be taken from; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two responses of one session, one after the other."""

    before: Answered
    after: Answered

    @property
    def grown_audio(self) -> int:
        return self.after.audio_in - self.before.audio_in

    @property
    def grown_text(self) -> int:
        return self.after.text_in - self.before.text_in


def fit(rows: Iterable[Row]) -> Columns:
    """Columns of the calls in an event log's rows. Raises `NothingToFit`."""
    return fit_calls(recorded(rows))


def fit_calls(found: Sequence[Recorded]) -> Columns:
    """Columns of recorded calls; those that are not over, or never were in Tier A, are left out.

    Raises `NothingToFit`.
    """
    calls = [
        call for call in found if call.complete and call.seconds > 0 and (call.tier == "A" or call.answered)
    ]
    if not any(_answers(call) for call in calls):
        raise NothingToFit(
            f"no call from call_started to call_ended with an answer of Tier A among the {len(found)} calls of these "
            "rows; record some with server.events_path, or write the columns down yourself"
        )
    return Columns.model_validate({**_talk(calls), **_lengths(calls), **_history(calls), **_tools(calls)})


def _answers(call: Recorded) -> list[Answered]:
    """Responses that were answers to the caller: not the tool calls before them, not a greeting."""
    answers = [answer for answer in call.answered if not answer.is_tool_call]
    return answers[1:] if _greets(call) else answers


def _greets(call: Recorded) -> bool:
    return bool(call.answered) and call.answered[0].audio_in == 0 and not call.answered[0].is_tool_call


def _turns(call: Recorded) -> int:
    return len(_answers(call)) + call.elsewhere


def _pairs(calls: Sequence[Recorded]) -> list[_Pair]:
    """Those between which the history only grew."""
    pairs = (_Pair(*two) for call in calls for two in pairwise(call.answered))
    return [
        pair
        for pair in pairs
        if (pair.before.rung, pair.before.session) == (pair.after.rung, pair.after.session)
        and pair.grown_audio >= 0
        and pair.grown_text >= 0
    ]


# --- talk ---


def _talk(calls: Sequence[Recorded]) -> dict[str, float]:
    """Seconds of talk, as shares of the calls' length, and what was cut off."""
    answers = [answer for call in calls for answer in call.answered if not answer.is_tool_call]
    spoken = [answer.audio_out / TOKENS_PER_S_OUT for answer in answers]
    cut = [answer for answer in answers if answer.cut and answer.audio_out]
    unheard_s = sum(_unheard(answer) for answer in cut)
    utterance_s = max(0.1, _utterance(calls))
    turn_s = max(sum(call.seconds for call in calls) / sum(map(_turns, calls)), utterance_s)
    answer_s = max(0.0, sum(spoken) - unheard_s) / len(answers)
    whole = [seconds for seconds, answer in zip(spoken, answers, strict=True) if not answer.cut] or spoken
    text_per_s = sum(answer.text_out for answer in answers) / sum(spoken) if sum(spoken) else 0.0
    return {
        "utterance_s": utterance_s,
        "caller_share": min(1.0, utterance_s / turn_s),
        "assistant_share": min(answer_s / turn_s, 1 - utterance_s / turn_s),
        "turn_spread": min(3.0, float(np.std(whole) / np.mean(whole)) if sum(whole) else 0.0),
        "text_per_s": min(100.0, text_per_s),
        "barge_in": len(cut) / len(answers),
        "unheard_s": unheard_s / len(cut) if cut else 0.0,
        "greeting": sum(map(_greets, calls)) / len(calls),
    }


def _unheard(answer: Answered) -> float:
    """Seconds of an answer that were made and not heard."""
    if not answer.cut or answer.heard_s is None:
        return 0.0
    return max(0.0, answer.audio_out / TOKENS_PER_S_OUT - answer.heard_s)


def _kept(answer: Answered) -> int:
    """Audio tokens of an answer that stay in the history."""
    return answer.audio_out - round(_unheard(answer) * TOKENS_PER_S_OUT)


def _utterance(calls: Sequence[Recorded]) -> float:
    """Mean talk of the caller in one turn: what the input grew by beyond the answer before."""
    tokens = turns = 0
    for call in calls:
        first = call.answered[0] if call.answered else None
        if first is not None and not _greets(call) and first.session == 0:
            tokens, turns = tokens + first.audio_in, turns + 1
    for pair in _pairs(calls):
        tokens += max(0, pair.grown_audio - _kept(pair.before))
        turns += not pair.before.is_tool_call
    if turns:
        return tokens / TOKENS_PER_S_IN / turns
    transcribed = sum(call.transcribed for call in calls)
    return sum(call.transcribed_s for call in calls) / transcribed if transcribed else 0.0


# --- lengths ---


def _lengths(calls: Sequence[Recorded]) -> dict[str, Any]:
    """The length of a call that runs its course, and how calls differ.

    An abandoned call ends anywhere in its course, so on average it has had half of it, and of its square a third.
    """
    ranked = sorted(calls, key=lambda call: (_turns(call), call.seconds))
    shares = [
        [ranked[place] for place in places]
        for places in np.array_split(range(len(ranked)), min(_SHARES, len(ranked)))
    ]
    abandoned = sum(call.hung_up for call in calls) / len(calls)
    mean = float(np.mean([call.seconds for call in calls]))
    of_shares = np.array([np.mean([call.seconds for call in share]) for share in shares])
    call_s, square = mean / (1 - abandoned / 2), float((of_shares**2).mean()) / (1 - abandoned * 2 / 3)
    return {
        "call_s": min(3600.0, call_s),
        "abandon_rate": abandoned,
        "length_spread": min(3.0, float(max(0.0, square / call_s**2 - 1) ** 0.5)),
        "pace_spread": 0.0,
        **_profiles(shares, of_shares),
    }


def _profiles(shares: Sequence[Sequence[Recorded]], seconds: NDArray[np.float64]) -> dict[str, list[float]]:
    """Of equal shares of the calls, from few turns to many. Empty where they are all of one length."""
    spread = float(seconds.std())
    if spread == 0:
        return {"length_profile": [], "pace_profile": [], "talk_profile": []}
    turns = np.array([np.mean([_turns(call) for call in share]) for share in shares])
    answers = [[answer for call in share for answer in _answers(call)] for share in shares]
    spoken = [answer.audio_out for share in answers for answer in share]
    usual = sum(spoken) / len(spoken) or 1.0
    talk = [
        sum(answer.audio_out for answer in share) / len(share) / usual if share else 1.0 for share in answers
    ]
    return {
        "length_profile": [round(float(z), 4) for z in (seconds - seconds.mean()) / spread],
        "pace_profile": [
            round(float(pace), 4) for pace in (turns / seconds) / (turns.mean() / seconds.mean())
        ],
        "talk_profile": [round(of_share, 4) for of_share in talk],
    }


# --- history ---


def _history(calls: Sequence[Recorded]) -> dict[str, float]:
    """What is sent again with every response, and what of it is found in the provider's cache."""
    pairs = _pairs(calls)
    firsts = [call.answered[0].text_in for call in calls if call.answered and call.answered[0].session == 0]
    told = [pair for pair in pairs if not pair.before.is_tool_call and not pair.before.cut]
    words = sum(pair.before.text_out for pair in told)
    found: dict[str, float] = {"tool_tokens": 0.0, "prompt_tokens": float(np.mean(firsts)) if firsts else 0.0}
    if words:
        found["text_kept"] = min(10.0, sum(pair.grown_text for pair in told) / words)
    return {**found, **_cache(pairs)}


def _cache(pairs: Sequence[_Pair]) -> dict[str, float]:
    """In whole blocks, as it is told."""
    within = hit = of_answers = answers_hit = 0
    for pair in pairs:
        before, cached = pair.before, pair.after.cached
        blocks = _blocks(before.tokens_in)
        within += blocks
        hit += min(cached, blocks)
        if not before.cut:
            end = min(_blocks(before.tokens_in + _kept(before)), _blocks(pair.after.tokens_in))
            of_answers += max(0, end - blocks)
            answers_hit += max(0, min(cached, end) - blocks)
    return {
        "cache_hit": hit / within if within else 1.0,
        "cache_output": answers_hit / of_answers if of_answers else 1.0,
    }


def _blocks(tokens: int) -> int:
    return tokens - tokens % CACHE_BLOCK


# --- tools ---


def _tools(calls: Sequence[Recorded]) -> dict[str, float]:
    """Tool calls, and what a call and its result add to the history. How long tools take, the log does not tell."""
    asked = [answer for call in calls for answer in call.answered if answer.is_tool_call]
    answers = sum(len(_answers(call)) for call in calls)
    if not asked:
        return {"tools_per_turn": 0.0}
    written = float(np.mean([answer.text_out for answer in asked]))
    grown = [pair.grown_text for pair in _pairs(calls) if pair.before.is_tool_call]
    result = max(0.0, float(np.mean(grown)) - written) if grown else 0.0
    return {
        "tools_per_turn": min(10.0, len(asked) / answers),
        "call_tokens": written,
        "result_tokens": result,
    }
