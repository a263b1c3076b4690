"""The picture of a soak: memory, tasks, calls and handovers over time, with the outages behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.soak_judge import EARLY, LATE, Sample
from benchmarks.soak_schedule import OUTAGE_S, Bar, Order

CLOSED, TIER_A, ALL, MEMORY, TASKS = "#b3243b", "#5b5ea6", "#333333", "#0b7a75", "#d1670b"
MB = 1_000_000


def draw(path: Path, samples: Sequence[Sample], orders: Sequence[Order], seconds: float) -> None:
    """Write the picture as a PNG."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    memory, tasks, calls, turns = figure.subplots(4, 1, sharex=True)
    figure.suptitle("Many calls at once, and a provider that keeps failing", fontsize=14, weight="bold")
    at = [sample.at for sample in samples]
    _line(memory, at, [sample.rss_bytes / MB for sample in samples], MEMORY, "memory of the orchestrator, MB")
    _line(tasks, at, [sample.tasks for sample in samples], TASKS, "tasks of its event loop")
    _line(calls, at, [sample.calls for sample in samples], ALL, "calls")
    calls.lines[-1].set_label("all")
    calls.plot(at, [sample.tier_a for sample in samples], color=TIER_A, label="of these in Tier A")
    calls.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
    _line(turns, at, [sample.answered for sample in samples], ALL, "so far")
    turns.lines[-1].set_label("turns answered")
    turns.plot(at, [sample.handovers for sample in samples], color=TIER_A, label="handovers")
    turns.plot(
        at, [sample.closed for sample in samples], color=CLOSED, label="turns closed without an answer"
    )
    turns.legend(loc="upper left", frameon=False)
    turns.set_xlabel(
        "seconds; grey: the provider refuses everybody; bars at the bottom: the windows that are compared"
    )
    outages = sorted({order.at for order in orders if order.bar is Bar.OUTAGE and order.fault is not None})
    for axes in (memory, tasks, calls, turns):
        for start in outages:
            axes.axvspan(start, start + OUTAGE_S, color="black", alpha=0.08, linewidth=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.set_ylim(bottom=0)
    for axes in (memory, tasks):
        for low, high in (EARLY, LATE):
            axes.axvspan(low * seconds, high * seconds, ymax=0.03, color=ALL, alpha=0.5, linewidth=0)
    figure.savefig(path, dpi=120)


def _line(axes: Axes, at: Sequence[float], values: Sequence[float], colour: str, title: str) -> None:
    axes.plot(at, values, color=colour)
    axes.set_title(title, loc="left", fontsize=10)
