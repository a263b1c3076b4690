"""Fault by moment: which cells can occur in a call, where the simulator strikes for them, and why others cannot.

Written down by hand and held against the simulator's own list in the tests; docs/benchmarks.md shows `markdown()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum


class Moment(StrEnum):
    """Where in a call the provider fails. The last two need a fault before the one that is measured."""

    CONNECTING = "connecting"
    IDLE = "idle"
    CALLER_SPEAKING = "caller_speaking"
    ANSWER_OWED = "answer_owed"
    MID_ANSWER = "mid_answer"
    TOOL_PENDING = "tool_pending"
    TOOL_RESULT_SENT = "tool_result_sent"
    HANDOVER = "handover"
    """The first rung was lost in the middle of an answer; the fault strikes the second rung's session."""
    PROMOTION = "promotion"
    """The call is in Tier B and the provider is back; the fault strikes the session that is to take the call."""


OWED = frozenset({Moment.ANSWER_OWED, Moment.MID_ANSWER, Moment.TOOL_RESULT_SENT, Moment.HANDOVER})
"""Moments at which the caller is owed an answer when the fault strikes. At the others nobody is kept waiting by it."""


class Kind(Enum):
    """What a fault is to the orchestrator."""

    HARD = "hard"
    """It shows at once."""
    SILENT = "silent"
    """Only a deadline tells."""
    HARMLESS = "harmless"
    """Nothing the caller should notice, and no reason to leave Tier A."""
    NONE = "none"


NONE = "none"
"""The row without a fault, to compare with."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one moment. `strikes_at`: the simulator's moment; empty without a fault or where none can be."""

    fault: str
    moment: Moment
    strikes_at: str = ""
    reason: str = ""
    """Why it cannot occur; empty where it can."""

    @property
    def possible(self) -> bool:
        return not self.reason

    @property
    def kind(self) -> Kind:
        return KINDS[self.fault]

    @property
    def owed(self) -> bool:
        return self.moment in OWED

    def __str__(self) -> str:
        return f"{self.fault} {self.moment}"


@dataclass(frozen=True, slots=True)
class _Group:
    """Faults that can strike at the same moments. `strikes`: the simulator's moment for each moment of the matrix."""

    faults: tuple[str, ...]
    strikes: Mapping[Moment, str]
    why_not: Mapping[Moment, str]
    otherwise: str = ""
    """Why not at the moments that are in neither."""

    def cell(self, fault: str, moment: Moment) -> Cell:
        if moment in self.strikes:
            return Cell(fault, moment, self.strikes[moment])
        return Cell(fault, moment, reason=self.why_not.get(moment, self.otherwise))


_IN_PLACE: dict[Moment, str] = {m: m.value for m in Moment if m not in (Moment.HANDOVER, Moment.PROMOTION)}
_EVERYWHERE: dict[Moment, str] = {**_IN_PLACE, Moment.HANDOVER: "idle", Moment.PROMOTION: "replaying"}
"""A session that is being prepared is struck when it has just been created in a handover, and while it is given the
conversation in a promotion."""
_UP: dict[Moment, str] = {
    moment: strikes for moment, strikes in _EVERYWHERE.items() if moment is not Moment.CONNECTING
}
_ASKED = {
    Moment.ANSWER_OWED: "answer_owed",
    Moment.TOOL_RESULT_SENT: "tool_result_sent",
    Moment.HANDOVER: "answer_owed",
}
_NOT_ASKED = {
    Moment.CONNECTING: "nothing is asked yet",
    Moment.IDLE: "nothing is asked",
    Moment.CALLER_SPEAKING: "nothing is asked yet",
    Moment.MID_ANSWER: "the answer has begun",
    Moment.TOOL_PENDING: "the client is to act",
    Moment.PROMOTION: "it is asked for nothing",
}

_GROUPS = (
    _Group(
        (
            "refused", "http_401", "http_403", "http_404", "http_429", "http_5xx", "hang",
            "late_refusal_3000", "late_refusal_1013", "late_refusal_4000", "late_refusal_4004",
        ),
        {
            Moment.CONNECTING: "connecting",
            Moment.HANDOVER: "connecting",
            Moment.PROMOTION: "connecting",
        },
        {},
        otherwise="the session is open",
    ),
    _Group(("mute", "abort", "close_1011", "close_1000", "half_open"), _EVERYWHERE, {}),
    _Group(("expired",), _UP, {Moment.CONNECTING: "no session yet"}),
    _Group(("silent_turn", "silent_response", "empty"), _ASKED, _NOT_ASKED),
    _Group(
        ("failed", "rate_limited", "no_credit"),
        {**_ASKED, Moment.MID_ANSWER: "mid_answer"},
        _NOT_ASKED,
    ),
    _Group(
        ("stall", "slow"),
        {Moment.MID_ANSWER: "mid_answer"},
        {Moment.HANDOVER: "by then it speaks: mid_answer", Moment.PROMOTION: "it is asked for nothing"},
        otherwise="nothing is being spoken",
    ),
    _Group(
        ("silent_input",),
        {Moment.CALLER_SPEAKING: "caller_speaking"},
        {
            Moment.ANSWER_OWED: "the turn was heard",
            Moment.TOOL_RESULT_SENT: "the turn was heard",
            Moment.PROMOTION: "it is not listening yet",
            Moment.HANDOVER: "it is not listening yet",
        },
        otherwise="nobody speaks",
    ),
    _Group(("garbage", "unknown", "orphan", "duplicate"), _UP, {Moment.CONNECTING: "no session yet"}),
    _Group(
        (NONE,),
        dict.fromkeys((Moment.MID_ANSWER, Moment.TOOL_RESULT_SENT, Moment.HANDOVER, Moment.PROMOTION), ""),
        {Moment.TOOL_PENDING: "as tool_result_sent"},
        otherwise="as mid_answer",
    ),
)  # fmt: skip

_SILENT = (
    "hang", "mute", "half_open", "silent_turn", "silent_input", "silent_response", "stall", "slow",
)  # fmt: skip
_HARMLESS = ("garbage", "unknown", "orphan", "duplicate")
FAULTS = tuple(fault for group in _GROUPS for fault in group.faults)
KINDS = {
    fault: Kind.NONE
    if fault == NONE
    else Kind.SILENT
    if fault in _SILENT
    else Kind.HARMLESS
    if fault in _HARMLESS
    else Kind.HARD
    for fault in FAULTS
}
CELLS = {
    (fault, moment): group.cell(fault, moment)
    for group in _GROUPS
    for fault in group.faults
    for moment in Moment
}

MAIN = ("refused", "abort", "close_1011", "failed", "silent_turn")
"""The five that a provider most often has, measured most often, and with the real models too."""
HEADLINES = (
    CELLS["refused", Moment.CONNECTING],
    CELLS["abort", Moment.MID_ANSWER],
    CELLS["close_1011", Moment.MID_ANSWER],
    CELLS["failed", Moment.ANSWER_OWED],
    CELLS["silent_turn", Moment.ANSWER_OWED],
    CELLS[NONE, Moment.MID_ANSWER],
)
"""Each main fault at the moment that hurts most: these are also placed with the real models and without us."""
FREQUENT = frozenset(HEADLINES) | {
    CELLS[fault, moment]
    for fault in MAIN
    for moment in (Moment.ANSWER_OWED, Moment.MID_ANSWER)
    if CELLS[fault, moment].possible
}
"""Main faults where an answer is owed, and the call without one: these get the larger number of calls."""


def possible(faults: Iterable[str] = FAULTS, moments: Iterable[Moment] = Moment) -> list[Cell]:
    """The cells of these faults and moments that can occur, in the order of the table."""
    chosen = set(moments)
    return [CELLS[f, m] for f in faults for m in Moment if m in chosen and CELLS[f, m].possible]


def markdown() -> str:
    """The matrix as a table: a dot where a cell can occur, else why it cannot."""
    head = ["fault", *(moment.value for moment in Moment)]
    rows = [
        [f"`{fault}`", *("●" if CELLS[fault, m].possible else CELLS[fault, m].reason for m in Moment)]
        for fault in FAULTS
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
