"""The cost benchmark as a picture: what calls cost against the cap, and who answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cost_policies import MODELS, PROMPTS, SPEECH
from benchmarks.cost_report import ANSWERED_BY, LOST, Dear, Summary

matplotlib.rcParams.update({"font.size": 10})

LINES = {
    "none": ("#8a8a8a", "-"),
    "cut-off": ("#b3243b", "-"),
    "steps": ("#0b7a75", "-"),
    "steps-retention": ("#3b6fb6", "--"),
    "steps-text": ("#d1670b", ":"),
}
FACES = {
    MODELS[0]: "#0b7a75",
    MODELS[1]: "#7cc0b4",
    SPEECH: "#f0b35c",
    PROMPTS: "#d8d8d8",
    LOST: "#b3243b",
}


def draw(
    path: Path, summaries: Sequence[Summary], dears: Sequence[Dear], costs: Mapping[str, Sequence[float]]
) -> None:
    """Write the picture as a PNG. `costs`: US dollars of every call, by setup."""
    figure = Figure(figsize=(14.5, 6.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[6, 5])
    calls = summaries[0].calls
    figure.suptitle(
        f"The same {calls:,} calls under different budgets: what do they cost, and who answers?",
        fontsize=14,
        weight="bold",
    )
    _draw_costs(left, summaries, costs)
    _draw_answers(right, dears)
    figure.savefig(path, dpi=130)


def _draw_costs(axes: Axes, summaries: Sequence[Summary], costs: Mapping[str, Sequence[float]]) -> None:
    """Left: how many calls cost more than so much."""
    axes.set_title("Share of all calls that cost more than…", loc="left")
    cap = next((s.over_call_cap.cap for s in summaries if s.over_call_cap.cap), None)
    for each in summaries:
        colour, style = LINES[each.setup]
        values = np.sort(np.asarray(costs[each.setup]))
        least = 0.5 / values.size
        share = np.maximum(1 - np.arange(1, values.size + 1) / values.size, least)
        over = each.over_call_cap
        above = f"; {over.times:,} calls above, by up to {_usd(over.largest)}" if over.times else ""
        label = f"{each.title}: {_usd(each.total, 0)}{above}"
        axes.step(values, share, colour, linestyle=style, where="post", label=label)
        axes.plot(values[-1], least, "o", color=colour, markersize=4, clip_on=False)
    axes.set_yscale("log")
    axes.set_ylim(0.5 / summaries[0].calls, 1.05)
    axes.set_yticks([1, 0.1, 0.01, 0.001], ["all", "10%", "1%", "0.1%"])
    axes.set_xlim(0, 1.04 * max(max(values) for values in costs.values()))
    if cap is not None:
        axes.axvline(cap, color="black", linewidth=1, linestyle=(0, (2, 2)), label=f"cap: {_usd(cap)}")
    axes.xaxis.set_major_formatter(lambda value, _: _usd(value))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9, loc="upper right", framealpha=1.0, edgecolor="none")
    _frame(axes)


def _usd(value: float, digits: int = 2) -> str:
    """An amount; the sign is escaped, since two of them would set what is between as a formula."""
    return rf"\${value:,.{digits}f}"


def _draw_answers(axes: Axes, dears: Sequence[Dear]) -> None:
    """Right: of the turns in calls that are too dear, who answered them."""
    calls = dears[0].calls
    axes.set_title(f"Who answers in the {calls:,} calls that would cost more than the cap", loc="left")
    for y, each in enumerate(dears):
        start = 0.0
        for by, face in FACES.items():
            share = each.answered.get(by, 0) / max(each.turns, 1)
            label = ANSWERED_BY[by] if y == 0 else None
            axes.barh(y, share, left=start, color=face, height=0.62, label=label)
            if share >= 0.03:
                ink = "white" if by in (MODELS[0], LOST) else "black"
                text = f"{share:.0%}" if share >= 0.05 else f"{share * 100:.0f}"
                axes.text(start + share / 2, y, text, ha="center", va="center", color=ink, fontsize=9)
            start += share
        lost = each.answered.get(LOST, 0)
        told = [f"{lost:,} turns without an answer"] if lost else []
        told += [f"{each.cut_off:,} calls cut off"] if each.cut_off else []
        axes.text(0.0, y + 0.34, ", ".join(told), va="top", fontsize=8, color="#444444")
    axes.set_yticks(range(len(dears)), [each.title.replace(", ", ",\n") for each in dears])
    axes.set_ylim(len(dears) - 0.35, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(axis="y", length=0)
    axes.legend(
        frameon=False,
        fontsize=9,
        ncols=5,
        columnspacing=1.0,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.07),
    )
    _frame(axes)


def _frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
