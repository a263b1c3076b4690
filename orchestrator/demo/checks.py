"""Did every step happen? Judged by what the client received and what could be heard; pure functions of a recording."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

from orchestrator.demo.measure import Speech, answer_to_open_question, bridge_of, failover, speeches
from orchestrator.demo.recording import Recording, Row, Source
from orchestrator.demo.script import Script
from orchestrator.demo.story import STEPS
from tiers.flow import order_number
from tiers.prompts.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Check:
    """`step` counts from 1; 0 is the call as a whole."""

    step: int
    what: str
    ok: bool
    detail: str = ""


def run_checks(recording: Recording, script: Script) -> list[Check]:
    """All checks in the order of the steps."""
    checks: list[Check] = []
    for step, check in enumerate((_one_call, _tier_a, _killed, _open_question, _agent, _second, _back, _end)):
        check(_Judge(step, checks), recording, script)
    return checks


_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SOUNDS = {word: str(digit) for digit, word in enumerate(_DIGITS)}
SOUNDS |= {"oh": "0", "o": "0", "won": "1", "to": "2", "too": "2", "for": "4", "ate": "8"}
"""Digits by their words, and by what cannot be told from them by ear."""


def heard_number(words: str) -> str:
    """The number that is spelled out behind the word "number": "number four one, seven 2 has" is 4172."""
    spelled = re.findall(r"\d+|[a-z]+", words.lower().partition("number")[2])
    digits = takewhile(lambda word: word.isdigit() or word in SOUNDS, spelled)
    return "".join(SOUNDS.get(word, word) for word in digits)


def not_done(checks: list[Check]) -> list[str]:
    """The steps that did not happen, each with what is missing."""
    return [
        f"{f'step {check.step} ({STEPS[check.step - 1]})' if check.step else 'the call'}: {check.what}"
        + (f" ({check.detail})" if check.detail else "")
        for check in checks
        if not check.ok
    ]


@dataclass(frozen=True, slots=True)
class _Judge:
    step: int
    checks: list[Check]

    def __call__(self, what: str, ok: object, detail: str = "") -> None:
        self.checks.append(Check(self.step, what, bool(ok), detail))


def _one_call(judge: _Judge, recording: Recording, script: Script) -> None:
    sessions = recording.of("session.created", "session.updated")
    ids = {row["session_id"] for row in sessions}
    calls = {row.get("call_id") for row in sessions}
    created = recording.of("session.created")
    judge("one session on one connection from beginning to end", len(created) == len(ids) == len(calls) == 1)
    lost = recording.first("connection_lost")
    judge("the connection was never lost", lost is None, lost["why"] if lost else "")
    errors = [row["message"] for row in recording.of("error")]
    judge("no error event reached the client", not errors, "; ".join(map(str, errors)))
    started = recording.of("call_started", source=Source.SERVICE)
    judge("the service took exactly one call", len(started) == 1, f"it took {len(started)}")


def _tier_a(judge: _Judge, recording: Recording, script: Script) -> None:
    judge("the call began in Tier A", _tier_at_start(recording) == "A", f"tier {_tier_at_start(recording)!r}")
    judge("the person was answered by Tier A", _answer(recording, 1, "A"))


def _killed(judge: _Judge, recording: Recording, script: Script) -> None:
    killed, cut = recording.first("provider_killed"), _cut_off(recording)
    judge("the provider's process was killed", killed)
    judge("its answer was under way: begun, not complete", cut is not None)


def _open_question(judge: _Judge, recording: Recording, script: Script) -> None:
    figures, number = failover(recording), script.first.number
    bridge = bridge_of(recording)
    heard = figures is not None and (figures.bridge is not None or figures.answered_in_time)
    judge("a bridge was heard, unless the answer was there in time", heard)
    words = bridge["text"] if bridge is not None else ""
    judge("its words are a bridge's", not words or words in Catalogue.load().bridge_texts(), repr(words))
    judge("the session says tier B", _session_after_kill(recording) == "B")
    judge(f"the tool was asked for order {number} by Tier B", _tool(recording, 3, "B", number))
    answer = answer_to_open_question(recording)
    said = answer.text if answer else ""
    judge(f"the answer's words have {number} in them", order_number(said) == number, repr(said))
    transcribed = recording.first("transcribed")
    words = transcribed["text"] if transcribed else ""
    judge(f"{number} is heard in the answer's audio", heard_number(words) == number, f"heard: {words!r}")


def _agent(judge: _Judge, recording: Recording, script: Script) -> None:
    judge("the text agent of Tier B answered", _answer(recording, 4, "B"))


def _second(judge: _Judge, recording: Recording, script: Script) -> None:
    number = script.second.number
    judge(f"the tool was asked for order {number}", _tool(recording, 5, "B", number))
    answer = _answer(recording, 5, "C")
    judge("the answer is a prompt of Tier C", answer)
    said = answer.text if answer else ""
    judge(f"its words have {number} in them", order_number(said) == number, repr(said))


def _back(judge: _Judge, recording: Recording, script: Script) -> None:
    started, promoted = recording.first("provider_started"), _promoted(recording)
    judge("the provider was started again", started)
    judge("the session says tier A", promoted)
    between = promoted is not None and not any(
        speech.span.start < promoted.at < speech.span.end for speech in speeches(recording)
    )
    judge("nobody was speaking when the call moved", between)


def _end(judge: _Judge, recording: Recording, script: Script) -> None:
    spoken = recording.of("caller_spoke", step=7)
    answers = [s for s in speeches(recording) if s.step == 7 and s.who == "A" and s.complete]
    judge("both last turns were answered by Tier A", len(spoken) == 2 and len(answers) == 2)
    ended = recording.first("hung_up")
    judge("the caller hung up", ended is not None and ended["by"] == "caller")


def _tier_at_start(recording: Recording) -> str:
    created = recording.first("session.created")
    return created.tier if created else ""


def _answer(recording: Recording, step: int, tier: str) -> Speech | None:
    """What that tier said in that step: complete, and with audio that was heard."""
    found = [
        s for s in speeches(recording) if s.step == step and s.who == tier and s.complete and s.span.ms > 0
    ]
    return found[-1] if found else None


def _cut_off(recording: Recording) -> Row | None:
    """The end of the response that the killed provider left open."""
    killed = recording.first("provider_killed")
    begun = recording.first("first_audio", step=2)
    if killed is None or begun is None or begun.tier != "A" or begun.at > killed.at:
        return None
    ended = [r for r in recording.of("response.done") if r["response_id"] == begun["response_id"]]
    return ended[0] if ended and ended[0].at > killed.at and ended[0]["status"] != "completed" else None


def _session_after_kill(recording: Recording) -> str:
    killed = recording.first("provider_killed")
    after = [r.tier for r in recording.of("session.updated") if killed is not None and r.at > killed.at]
    return after[0] if after else ""


def _promoted(recording: Recording) -> Row | None:
    killed = recording.first("provider_killed")
    moved = [r for r in recording.of("session.updated") if killed is not None and r.at > killed.at]
    return next((row for row in moved if row.tier == "A"), None)


def _tool(recording: Recording, step: int, tier: str, number: str) -> bool:
    return any(row.tier == tier and row["order_id"] == number for row in recording.of("tool", step=step))
