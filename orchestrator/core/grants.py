"""What a call may be and do, as whoever opened the door for it decided; its client cannot widen that.

A call without a grant was opened with a key, and may do what the settings let its purpose and bucket do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Grant:
    """The policy of one call. None in a field restricts nothing there.

    `session`: fields of the Realtime session, as `session.update` has them, that the call begins with. Those in
    `locked` stay as they are whatever the client sends: "instructions", "tools", "model", or any other name of a field.
    """

    call_id: str
    user: str = ""
    purpose: str = "conversation"
    bucket: str = "default"
    model: str | None = None
    tools: tuple[str, ...] | None = None
    """Names of those the call may use: the server's, and functions that the client declares."""
    session: Mapping[str, Any] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    cap: int | None = None
    """Nano-dollars that the call may cost, where that is less than what its bucket allows a call."""
    max_s: float | None = None
    """Seconds after which the call is ended, with a word of goodbye."""
