"""The picture of a failover run: a stranger should read it without the table."""

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
FOREVER_MS = 3_000.0
LABELS = {
    "abort": "connection reset\nin the middle of an answer",
    "close_1011": "connection closed (1011)\nin the middle of an answer",
    "failed": "response fails\nwhere an answer was owed",
    "silent_turn": "provider falls silent after\nthe caller's turn (timed\nfrom the deadline on)",
    "refused": "connection refused\nat the start of the call",
    "none": "nothing fails\n(to compare)",
}
BRIDGE, ANSWER, SESSION, DIRECT = "#0b7a75", "#d1670b", "#5b5ea6", "#b3243b"
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
    """Left: how long until the caller's client gets audio again."""
    axes.set_title("From the fault until the client gets audio again", loc="left")
    axes.set_xscale("log")
    axes.set_xlim(1, 20_000)
    axes.set_xticks([1, 10, 50, 100, 1_000, 10_000], ["1 ms", "10 ms", "50", "100 ms", "1 s", "10 s"])
    axes.minorticks_off()
    axes.axvline(TARGET_MS, color=BRIDGE, linestyle=":", linewidth=1.5)
    for y, fault in enumerate(faults):
        for service, filled in (("simulated", True), ("real", False)):
            chosen = [row for row in rows if (row.fault, row.service) == (fault, service)]
            for strip in _times(y - OFFSETS[service], fault, chosen, filled):
                _draw_strip(axes, strip, side=-1 if strip.colour == SESSION else 1)
        if fault == "none":
            axes.text(1.3, y, "no handover, no bridge", va="center", color="grey", style="italic")
    _stripe(axes, faults)


def _times(y: float, fault: str, rows: Sequence[Row], filled: bool) -> Iterable[Strip]:
    if fault == "refused":
        yield Strip(y, _known(row.figures.session_ms for row in rows), SESSION, "s", filled)
        yield Strip(y, _known(row.figures.turn_answer_ms for row in rows), ANSWER, "D", filled)
    elif fault != "none":
        yield Strip(y, _known(row.figures.sound_ms for row in rows), BRIDGE, "o", filled)
        yield Strip(y, _known(row.figures.answer_ms for row in rows), ANSWER, "D", filled)


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
    heights = [strip.y + 0.05 * (index % 3 - 1) for index in range(len(strip.values))]
    axes.plot(
        strip.values,
        heights,
        strip.marker,
        color=strip.colour,
        markerfacecolor=face,
        markersize=4.5,
        alpha=0.65,
    )
    middle = median(strip.values)
    axes.plot([middle] * 2, [strip.y - 0.13, strip.y + 0.13], color=strip.colour, linewidth=2.5)
    axes.annotate(
        f"{middle / 1000:.1f} s" if unit_s or middle >= 1000 else f"{middle:.0f} ms",
        (max(strip.values) if side > 0 else min(strip.values), strip.y),
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
        mark(BRIDGE, "o", "a cached line bridges the gap"),
        mark(ANSWER, "D", "the answer begins (refused: after the caller's words)"),
        mark(SESSION, "s", "refused: the call is accepted"),
        Line2D([], [], color=BRIDGE, linestyle=":", label=f"target for the bridge: {TARGET_MS:.0f} ms"),
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
