"""The picture of a run: how long answers take, from memory to a synthesis, on one logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.prompts_report import Row

OURS, OTHERS = "#0b7a75", "#8a8a8a"
FLOOR_MS = 0.05


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Write the picture as a PNG: a dot is the median, its line goes to the 99th percentile."""
    chosen = [row for row in rows if row.how != "flat out"]
    figure = Figure(figsize=(12, 1.6 + 0.5 * len(chosen)), layout="constrained")
    axes = figure.subplots()
    axes.set_title("A prompt over HTTP", loc="left", fontsize=14, weight="bold")
    axes.set_xscale("log")
    axes.set_yticks(range(len(chosen)), [f"{row.what}\n{row.how}" for row in chosen], fontsize=8.5)
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    for y, row in enumerate(chosen):
        colour = OTHERS if row.what.startswith("nginx") or "fastkokoro" in row.what else OURS
        median, p99 = (max(FLOOR_MS, value) for value in (row.measured.p50_ms, row.measured.p99_ms))
        axes.plot([median, p99], [y, y], color=colour, linewidth=2)
        axes.plot([median], [y], "o", color=colour)
        axes.plot([p99], [y], "|", color=colour, markersize=10)
        label = f"{_shown(median)} / {_shown(p99)}"
        axes.annotate(label, (p99, y), (8, 0), textcoords="offset points", va="center")
    axes.xaxis.set_major_formatter(lambda value, _: _shown(value))
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.15)
    axes.set_xlabel("milliseconds, median / 99th percentile")
    figure.savefig(path, dpi=120)


def _shown(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
