"""The picture of a run: how long each contender's caller heard nothing, fault by fault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.peers.cases import CASES
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.peers.figures import Outcome
from benchmarks.peers.measure import Row, refused

matplotlib.rcParams.update({"font.size": 10, "svg.hashsalt": "peers"})

TITLES = {
    "none": "nothing fails (to compare)",
    "refused": "refused at the start",
    "hang": "handshake never answered",
    "abort": "reset in mid-answer, then refused",
    "close_1011": "closed (1011) in mid-answer, then refused",
    "stall": "stalls in mid-answer",
    "silent_turn": "silent after the caller's turn",
    "failed": "response fails where an answer was owed",
}
LABELS = {
    "orchestrator": "this orchestrator",
    "orchestrator-two": "this, two providers",
    "livekit": "LiveKit fallback, default",
    "livekit-fast": "LiveKit fallback, fast",
    "livekit-handoff": "LiveKit, hand-written",
    "litellm": "LiteLLM, default",
    "litellm-fast": "LiteLLM, fast",
    "direct": "no layer",
}
OURS, THEIRS, NEVER = "#0b7a75", "#5b5ea6", "#b3243b"


def draw(path: Path, rows: Sequence[Row], watch_s: float) -> None:
    """Write the picture of `rows` as a PNG; contenders that failed without a fault are left out."""
    out = refused(rows)
    rows = [row for row in rows if row.contender not in out]
    faults = [fault for fault in CASES if any(row.fault == fault for row in rows)]
    names = [name for name in CONTENDERS if any(row.contender == name for row in rows)]
    down = -(-max(1, len(faults)) // 2)
    figure = Figure(figsize=(13.5, 1.4 + down * (0.8 + 0.33 * len(names))), layout="constrained")
    figure.suptitle(
        "The Realtime provider fails in a live call: the longest silence that its caller hears",
        fontsize=14,
        weight="bold",
    )
    grid = figure.subplots(down, 2, sharex=True, sharey=True, squeeze=False)
    for axes, fault in zip(grid.flat, faults, strict=False):
        _panel(axes, [row for row in rows if row.fault == fault], names, watch_s)
        axes.set_title(TITLES[fault], loc="left")
    for axes in list(grid.flat)[len(faults) :]:
        axes.set_visible(False)
    figure.supxlabel(
        f"seconds; points are calls, bars their median. Red: not answered within {watch_s:g} s, or the call ended.",
        fontsize=10,
    )
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, rows: Sequence[Row], names: Sequence[str], watch_s: float) -> None:
    axes.set_yticks(range(len(names)), [LABELS[name] for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    edge = min(watch_s, 10.0)
    axes.set_xlim(0, edge)
    for y, name in enumerate(names):
        chosen = [row for row in rows if row.contender == name]
        found = [row.figures.silence_ms / 1000.0 for row in chosen if row.figures.silence_ms is not None]
        colour = OURS if name.startswith("orchestrator") else THEIRS
        if found:
            middle = median(found)
            axes.barh(y, middle, height=0.62, color=colour, alpha=0.35)
            axes.plot(found, [y] * len(found), "o", color=colour, markersize=4.5, clip_on=False)
            some = "" if len(found) == len(chosen) else f", {len(found)} of {len(chosen)} answered"
            label = f"{middle:.1f} s{some}"
            axes.annotate(label, (max(found), y), (7, 0), textcoords="offset points", va="center")
        elif chosen:
            axes.barh(y, edge, height=0.62, color=NEVER, alpha=0.25)
            axes.text(edge * 0.985, y, outcome(chosen), ha="right", va="center", color=NEVER)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def outcome(rows: Sequence[Row]) -> str:
    """What to say of calls none of which was answered to the first asking."""
    outcomes = {row.figures.outcome for row in rows} - {Outcome.MISSED, Outcome.ERROR}
    if not outcomes:
        return "not measured"
    if outcomes == {Outcome.LOST}:
        return "call lost"
    if outcomes == {Outcome.AGAIN}:
        return "turn lost; answered when asked again"
    return "never"
