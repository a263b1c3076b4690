"""The picture of the main faults, call by call: a stranger should read it without the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report import Row
from benchmarks.timeline import Outcome

matplotlib.rcParams.update({"font.size": 10, "svg.hashsalt": "failover"})

TARGET_MS = 50.0
AT_ONCE_MS = 1.0
"""What is shown of times that are shorter: the axis is logarithmic."""
FOREVER_MS = 3_000.0
LABELS = {
    "abort": "connection reset\nin the middle of an answer",
    "close_1011": "connection closed (1011)\nin the middle of an answer",
    "failed": "response fails\nwhere an answer was owed",
    "silent_turn": "provider falls silent\nafter the caller's turn",
    "refused": "connection refused at the start\n(timed from the caller's turn)",
    "none": "nothing fails\n(to compare)",
}
SOUND, ANSWER, DIRECT = "#0b7a75", "#d1670b", "#b3243b"
OFFSETS = {"simulated": 0.17, "real": -0.17, "direct": -0.36}


@dataclass(frozen=True, slots=True)
class Strip:
    """Calls of one kind in one row of the picture."""

    y: float
    values: list[float]
    colour: str
    marker: str
    filled: bool


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Write the picture of `rows` as a PNG."""
    faults = [fault for fault in LABELS if any(row.fault == fault for row in rows)]
    height = 2.2 + 0.95 * len(faults)
    figure = Figure(figsize=(13.5, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    figure.suptitle(
        "The Realtime provider fails in a live call: what does the caller hear?", fontsize=14, weight="bold"
    )
    _draw_times(left, rows, faults)
    _draw_silence(right, rows, faults)
    _label_rows(left, faults)
    figure.legend(handles=_legend(rows), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=130)


def _label_rows(axes: Axes, faults: Sequence[str]) -> None:
    axes.set_yticks(range(len(faults)), [LABELS[fault] for fault in faults])
    axes.set_ylim(len(faults) - 0.45, -0.55)


def _draw_times(axes: Axes, rows: Sequence[Row], faults: Sequence[str]) -> None:
    """Left: how long until the caller hears something again, and the answer."""
    axes.set_title("From the fault in an answer that is owed, until the caller hears…", loc="left")
    axes.set_xscale("log")
    axes.set_xlim(0.35, 20_000)
    ticks = [1, 10, 50, 100, 1_000, 10_000]
    axes.set_xticks(ticks, ["at once", "10 ms", "50", "100 ms", "1 s", "10 s"])
    axes.minorticks_off()
    axes.axvline(TARGET_MS, color=SOUND, linestyle=":", linewidth=1.5)
    for y, fault in enumerate(faults):
        for service, filled in (("simulated", True), ("real", False)):
            chosen = [row for row in rows if (row.fault, row.service) == (fault, service)]
            height = y - OFFSETS[service]
            sounds = _known(row.figures.sound_ms for row in chosen)
            answers = _known(row.figures.answer_ms for row in chosen)
            _draw_strip(axes, Strip(height + 0.05, sounds, SOUND, "o", filled), side=-1)
            _draw_strip(axes, Strip(height - 0.05, answers, ANSWER, "D", filled))
    _stripe(axes, faults)


def _draw_silence(axes: Axes, rows: Sequence[Row], faults: Sequence[str]) -> None:
    """Right: the longest silence in what is played."""
    axes.set_title("Longest silence that the caller hears (seconds)", loc="left")
    served = [row.figures.gap_ms for row in rows if row.service != "direct"]
    edge = 1.3 * max([FOREVER_MS, *_known(served)])
    axes.set_xlim(-0.02 * edge, edge)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}")
    for y, fault in enumerate(faults):
        for service, filled in (("simulated", True), ("real", False), ("direct", True)):
            chosen = [row for row in rows if (row.fault, row.service) == (fault, service)]
            colour = DIRECT if service == "direct" else "#333333"
            values = _known(row.figures.gap_ms for row in chosen)
            height = y - OFFSETS[service]
            _draw_strip(axes, Strip(height, values, colour, "o", filled), unit_s=True)
            wrong = sum(row.figures.outcome is not Outcome.ANSWERED for row in chosen)
            if wrong and service == "direct":
                _draw_forever(axes, height, edge, colour)
            elif wrong:
                axes.text(0.85 * edge, height, f"{wrong} not answered", color=DIRECT, ha="right", va="center")
    _stripe(axes, faults)


def _draw_forever(axes: Axes, y: float, edge: float, colour: str) -> None:
    axes.annotate(
        "",
        (edge, y),
        (0.0, y),
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.5, "shrinkB": 0},
    )
    axes.text(edge * 0.98, y - 0.02, "for ever", color=colour, ha="right", va="bottom", fontsize=9)


def _draw_strip(axes: Axes, strip: Strip, *, unit_s: bool = False, side: int = 1) -> None:
    """The calls as points, their median as a bar; its number stands beside the points, left with `side` -1."""
    if not strip.values:
        return
    face = strip.colour if strip.filled else "white"
    values = strip.values if unit_s else [max(value, AT_ONCE_MS) for value in strip.values]
    heights = [strip.y + 0.05 * (index % 3 - 1) for index in range(len(strip.values))]
    axes.plot(
        values,
        heights,
        strip.marker,
        color=strip.colour,
        markerfacecolor=face,
        markersize=4.5,
        alpha=0.65,
    )
    middle = median(values)
    axes.plot([middle] * 2, [strip.y - 0.13, strip.y + 0.13], color=strip.colour, linewidth=2.5)
    axes.annotate(
        f"{middle / 1000:.1f} s" if unit_s or middle >= 1000 else f"{median(strip.values):.0f} ms",
        (max(values) if side > 0 else min(values), strip.y),
        (8 * side, 0),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center",
        color=strip.colour,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
    )


def _stripe(axes: Axes, faults: Sequence[str]) -> None:
    for y in range(0, len(faults), 2):
        axes.axhspan(y - 0.5, y + 0.5, color="black", alpha=0.045, linewidth=0)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _legend(rows: Sequence[Row]) -> list[Line2D]:
    def mark(colour: str, marker: str, label: str, *, filled: bool = True) -> Line2D:
        face = colour if filled else "white"
        return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, linestyle="", label=label)

    found = [
        mark(SOUND, "o", "something: what was still playing, a cached line, the answer"),
        mark(ANSWER, "D", "the answer"),
        Line2D([], [], color=SOUND, linestyle=":", label=f"target for a sound (p95): {TARGET_MS:.0f} ms"),
    ]
    kinds = {row.service for row in rows}
    if "simulated" in kinds:
        found.append(mark("#333333", "o", "stand-in engines of known latency"))
    if "real" in kinds:
        found.append(mark("#333333", "o", "local models", filled=False))
    if "direct" in kinds:
        found.append(Line2D([], [], color=DIRECT, linewidth=2.5, label="without the orchestrator"))
    return [*found, Line2D([], [], color="#333333", linewidth=2.5, label="median")]


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
