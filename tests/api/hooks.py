"""What schemathesis is told of this API that a document cannot say. It loads this file itself (SCHEMATHESIS_HOOKS)."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import schemathesis

COUNTS = "FUZZ_COUNTS"
"""The variable that names a file for the answers, counted by operation and status."""

MEANT = {
    "credential_too_large": "what a credential has to hold is sealed into it, in so many characters",
    "duplicate_id": "no two of a batch may have the same id",
    "invalid_drill": "a duration is at most 30 days, whatever its units",
    "invalid_override": "a duration is at most 30 days, whatever its units",
    "invalid_plan": "an estimate's plan, together with this server's own settings",
    "invalid_prompt": "a prompt's text, variables and name have to fit together",
    "invalid_variables": "what a prompt takes its catalogue says",
    "invalid_voice": "which voices there are the engines say",
    "nothing_to_say": "there is no letter and no digit in the text",
    "prompt_not_sayable": "a prompt is written in some languages only",
    "tool_not_allowed": "tools of the session that allowed_tools leaves out",
    "too_many_turns": "calls times turns of an estimate",
    "unknown_tool": "which tools there are this server's settings say",
    "unknown_bucket": "which buckets there are this server's settings say",
    "unknown_price": "a model that the price list does not have",
}
"""Codes with which requests that have the right shape are refused for what they say, and why no schema can know it."""

_counts: defaultdict[str, Counter[str]] = defaultdict(Counter)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Estimates of few calls: thousands of them take seconds of work each, and are answered no differently."""
    if case.operation.label == "POST /v1/estimate" and isinstance(case.body, dict):
        calls = case.body.get("calls", 5_000)
        if type(calls) in (int, float) and 20 < calls <= 20_000:
            case.body["calls"] = 20


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    _counts[case.operation.label][str(response.status_code)] += 1


@schemathesis.check
def refused_for_its_meaning_alone(ctx: Any, response: Any, case: Any) -> None:
    """A request as the document has it is never refused for its shape."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code in (400, 422) and case.method != "HEAD":
        error = response.json()["error"]
        if str(error["param"]).startswith("session"):
            return  # a session of the Realtime protocol, which has checks and errors of its own
        if error["param"] in ("columns", "plan.steps"):
            return  # of an estimate: shares that are more than the whole, profiles of different lengths, a step twice
        assert error["code"] in MEANT, f"as documented, and refused: {error['code']}: {error['message']}"


@schemathesis.check
def no_fault_of_ours(ctx: Any, response: Any, case: Any) -> None:
    """Nothing is broken here: a server error may only say that there is too much to do, and when to come back."""
    if response.status_code >= 500:
        assert response.status_code == 503, response.status_code
        assert "retry-after" in response.headers
    if response.status_code >= 500 and case.method != "HEAD":
        error = response.json()["error"]
        assert error["code"] == "overloaded", error


@schemathesis.check
def errors_have_one_shape(ctx: Any, response: Any, case: Any) -> None:
    """Also where the document says nothing, as of a wrong method."""
    if response.status_code >= 400 and response.status_code != 416 and case.method != "HEAD":
        error = response.json()["error"]
        assert error.keys() == {"type", "message", "code", "param"}, error
        assert error["message"], error
        assert "Traceback" not in error["message"], error


@atexit.register
def _write() -> None:
    if COUNTS in os.environ:
        Path(os.environ[COUNTS]).write_text(json.dumps(_counts))
