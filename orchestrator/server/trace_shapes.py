"""What spans the rows of a turn are: names, times, attributes. Nothing of what was said is in them.

Times are Unix seconds. Attributes follow OpenTelemetry's conventions for generative AI where they have a name for it,
and are called ``orchestrator.…`` otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.prices import NANO
from orchestrator.server.events import Row

Attributes = dict[str, str | float | int | bool]
_WORD = re.compile(r"[\w.:/-]{1,100}")
FINE = frozenset({"done", "completed", "ok"})
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""What the conventions call a provider, where that is not how its models' names begin."""


@dataclass(slots=True)
class Shape:
    """A span that is over. `error`: a word for what went wrong, "" where nothing did."""

    name: str
    start: float
    end: float
    attributes: Attributes = field(default_factory=dict)
    error: str = ""
    calls_out: bool = False
    """Whether somebody else's service did it."""


def word(value: Any) -> str:
    """A name or a word of ours; whatever else it is, it is not told."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "other"


def told(**values: Any) -> Attributes:
    """Attributes of ours that are known; texts only if they are words."""
    found: Attributes = {}
    for name, value in values.items():
        if isinstance(value, bool | int | float):
            found[f"orchestrator.{name}"] = value
        elif value not in (None, ""):
            found[f"orchestrator.{name}"] = word(value)
    return found


def turn_of(rows: Sequence[Row], ended: Row) -> tuple[Shape, list[Shape]]:
    """The span of a turn and those inside it. `rows`: what happened since the turn before; `ended`: its last one."""
    turn = ended.get("turn")
    rows = [row for row in rows if row["type"] != "charge" or row.get("turn") in (None, 0, turn)]
    inside = list(_inside(rows))
    begun = [_number(row.get("owed_at")) for row in rows]
    starts = [*(at for at in begun if at is not None), *(shape.start for shape in inside), ended["time"]]
    cost = sum(row.get("nanodollars", 0) for row in rows if row["type"] == "charge")
    outcome = word(ended.get("outcome"))
    attributes = told(turn=turn, tier=ended.get("tier"), outcome=outcome, cost_usd=cost / NANO)
    for row in rows:
        if row["type"] == "answer":
            attributes |= told(ttfa_ms=row.get("ttfa_ms"), voice_to_voice_ms=row.get("voice_to_voice_ms"))
        elif row["type"] in ("gap", "recovery"):
            attributes |= told(gap_ms=row.get("gap_ms", row.get("took_ms")))
    error = "answer_failed" if ended.get("reason") == "answer_failed" else ""
    return Shape("turn", min(starts), ended["time"], attributes, error), inside


def _inside(rows: Sequence[Row]) -> Iterator[Shape]:
    for row in rows:
        if row["type"] == "answer" and _number(row.get("owed_at")) is not None:
            # What the provider is owed for a turn that it began is no part of how another tier answered.
            ours = row.get("tier") != "A"
            yield from _answer(row, [each for each in rows if (each.get("tier") != "A") is ours])
        elif row["type"] == "tool_result":
            yield _tool(row)
        elif row["type"] == "answer_failed":
            yield Shape(
                "answer failed", row["time"], row["time"], told(tier=row.get("tier")), word(row.get("cause"))
            )


def _answer(row: Row, rows: Sequence[Row]) -> Iterator[Shape]:
    """`rows`: those of Tier A or those of the others, whoever answered."""
    charges = {
        each["what"]: each for each in rows if each["type"] == "charge" and isinstance(each.get("what"), str)
    }
    if row.get("tier") == "A":
        yield _model("chat", row["owed_at"], row["time"], charges.get("response"), row, row.get("ttfa_ms"))
        return
    parts = row.get("parts") or {}
    ttfa, first_audio = _number(row.get("ttfa_ms")), _number(parts.get("first_audio"))
    if ttfa is None or first_audio is None:
        yield Shape("tts", row["owed_at"], row["time"], told(tier=row.get("tier"), status=row.get("status")))
        return
    heard = row["owed_at"] + ttfa / 1000
    asked = max(row["owed_at"], heard - first_audio)
    stt = charges.get("transcription")
    ends = [each["time"] for each in rows if each is stt or each["type"] == "caller_said"]
    ends = [at for at in ends if row["owed_at"] < at < row["time"]]
    if ends or stt is not None:
        yield _model("stt", row["owed_at"], min([asked, *ends]), stt, row)
    if (first := _number(parts.get("agent_first_token"))) is not None:
        agent = charges.get("agent")
        end = agent["time"] if agent is not None and asked <= agent["time"] <= row["time"] else row["time"]
        yield _model("chat", asked, end, agent, row, first * 1000)
    spoken = parts.get("tts_first_audio")
    yield _model("tts", max(asked, heard - (spoken or 0)), row["time"], charges.get("speech"), row)


def _model(
    operation: str, start: float, end: float, charge: Row | None, row: Row, first_ms: float | None = None
) -> Shape:
    """One model's work. `first_ms`: until what it gave began to come."""
    model = word(charge["model"]) if charge is not None and charge.get("model") else ""
    attributes = told(tier=row.get("tier"), rung=row.get("rung"), status=row.get("status"))
    attributes["gen_ai.operation.name"] = operation
    if model:
        attributes["gen_ai.request.model"] = model
    if operation == "chat" and (provider := _provider(model, row.get("tier"))):
        attributes["gen_ai.provider.name"] = provider
    if (first_ms := _number(first_ms)) is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = round(first_ms / 1000, 4)
    if operation != "stt":
        attributes["gen_ai.output.type"] = (
            "speech" if operation == "tts" or row.get("tier") == "A" else "text"
        )
    if charge is not None:
        attributes |= _usage(charge.get("usage") or {})
        attributes |= told(cost_usd=charge.get("nanodollars", 0) / NANO, estimated=charge.get("estimated"))
    name = {"chat": "agent"}.get(operation, operation)
    failed = row.get("status") not in (None, "completed", "cancelled")
    error = word(row["status"]) if failed and operation == "chat" else ""
    return Shape(f"{name} {model}".strip(), start, max(start, end), attributes, error, calls_out=True)


def _provider(model: str, tier: Any) -> str:
    """Whose model it is, as far as its name tells; Tier A's speak OpenAI's protocol."""
    begins = model.partition("/")[0] if "/" in model else ""
    return "openai" if tier == "A" else PROVIDERS.get(begins, begins)


def _usage(usage: Mapping[str, Any]) -> Attributes:
    """Tokens, as Realtime or chat completions count them."""
    found: Attributes = {}
    for name, others in (("input", "prompt"), ("output", "completion")):
        tokens = usage.get(f"{name}_tokens", usage.get(f"{others}_tokens"))
        if isinstance(tokens, int) and not isinstance(tokens, bool):
            found[f"gen_ai.usage.{name}_tokens"] = tokens
    return found


def _tool(row: Row) -> Shape:
    took, name, result = _number(row.get("latency_ms")) or 0.0, word(row.get("tool")), word(row.get("result"))
    start = row["time"] - took / 1000
    attributes = told(runs=row.get("runs"), kind=row.get("kind"), result=result, tier=row.get("tier"))
    attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    attributes["gen_ai.tool.call.id"] = word(row.get("tool_call_id"))
    error = "" if result in FINE else result
    return Shape(f"execute_tool {name}", start, row["time"], attributes, error, calls_out=True)


def handover_of(row: Row, gap: Row | None) -> Shape:
    """A handover; `gap`: the silence that it left, where there was one."""
    names = ("from_tier", "to_tier", "from_rung", "to_rung", "trigger", "cause")
    attributes = told(**{name: row.get(name) for name in names})
    end = row["time"]
    if gap is not None:
        attributes |= told(gap_ms=gap.get("gap_ms"))
        end = max(end, gap["time"])
    error = word(row.get("cause")) if row.get("trigger") in ("fault", "deadline") else ""
    return Shape("handover", row["time"], end, attributes, error)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
