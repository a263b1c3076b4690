"""What of a timeline's row may be shown to everybody, and what only to those who ask for what was said.

A field is shown when it is known that it cannot hold anybody's words; one that nobody has listed here is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.core.redaction import Redactor
from orchestrator.server.events import Row

NAMES = frozenset(
    {
        "by",
        "bucket",
        "call_id",
        "drill_id",
        "from_agent",
        "from_rung",
        "model",
        "override_id",
        "purpose",
        "rung",
        "scope",
        "to_agent",
        "to_rung",
        "user",
        "who",
    }
)
"""Names that people gave to things, and ids of calls."""
WORDS = frozenset(
    {
        "action",
        "answer_id",
        "cause",
        "code",
        "consent",
        "decision",
        "event",
        "from_tier",
        "hook",
        "item_id",
        "kind",
        "limit",
        "media",
        "move",
        "outcome",
        "practice",
        "reason",
        "response_id",
        "result",
        "runs",
        "set_by",
        "state",
        "status",
        "tier",
        "to_tier",
        "tool",
        "tool_call_id",
        "trigger",
        "type",
        "verdict",
        "what",
        "when",
    }
)
"""Words of our own or of the protocol, and its ids."""
FIGURES = frozenset({"parts", "turns", "usage"})
"""Figures by name."""
FREE = frozenset((type, "reason") for type in ("guardrail", "override", "tool_approval", "transfer"))
"""What people or models wrote, under a name that elsewhere holds a word of ours."""
_WORD = re.compile(r"[\w.:/-]{0,100}")


def show(row: Mapping[str, Any], redactor: Redactor, *, text: bool) -> Row:
    """A row as a reader may see it. `text`: with what was said, less what is secret."""
    known = {
        name: redactor.text(value) if name in NAMES and isinstance(value, str) else value
        for name, value in row.items()
        if _is_known(row["type"], name, value)
    }
    if not text:
        return known
    rest = redactor.redact({name: value for name, value in row.items() if name not in known})
    return {name: known[name] if name in known else rest[name] for name in row}


def _is_known(type: str, name: str, value: Any) -> bool:
    """Whether a field cannot hold what somebody said."""
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        if (type, name) in FREE:
            return False
        return name in NAMES or (name in WORDS and _WORD.fullmatch(value) is not None)
    return name in FIGURES and _is_figures(value)


def _is_figures(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_figures(entry) for entry in value.values())
    return value is None or isinstance(value, bool | int | float)
