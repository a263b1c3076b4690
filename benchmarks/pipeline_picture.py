"""The picture of a run: what a caller waits for, stage by stage, and every call as a point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.pipeline_calls import HOURS, Row
from benchmarks.pipeline_contenders import CONTENDERS
from benchmarks.pipeline_report import SPEECH
from benchmarks.pipeline_stages import Stage

COLOURS = {
    Stage.ENDPOINTING: "#b8b8b8",
    Stage.STT: "#5b5ea6",
    Stage.AGENT: "#d1670b",
    Stage.TTS: "#0b7a75",
}
TITLES = {
    Stage.ENDPOINTING: "end of the turn",
    Stage.STT: "speech to text",
    Stage.AGENT: "agent's first token",
    Stage.TTS: "first audio",
}
KINDS = {False: "the agent thinks of the answer", True: "an answer Tier B has in memory"}


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Write the picture as a PNG. Bars are medians of each stage, scaled to the median of the whole."""
    speeches = [s for s in SPEECH if any(CONTENDERS[row.contender].speech == s for row in rows)]
    figure = Figure(figsize=(14, 1.9 + 2.1 * len(speeches)), layout="constrained")
    figure.suptitle("From the caller's last sound to the agent's first", fontsize=14, weight="bold")
    grid = figure.subplots(max(1, len(speeches)), 2, squeeze=False)
    for line, speech in zip(grid, speeches, strict=False):
        for axes, (remembered, title) in zip(line, KINDS.items(), strict=True):
            chosen = [
                row
                for row in rows
                if CONTENDERS[row.contender].speech == speech and (row.question == HOURS) is remembered
            ]
            _panel(axes, chosen)
            axes.set_title(f"{SPEECH[speech]}: {title}", loc="left", fontsize=10.5)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(Stage), frameon=False)
    for axes in grid[-1]:
        axes.set_xlabel("milliseconds; points are calls, bars their median")
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    names = [name for name in CONTENDERS if any(row.contender == name for row in rows)]
    axes.set_yticks(range(len(names)), [CONTENDERS[name].title for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    for y, name in enumerate(names):
        chosen = [row for row in rows if row.contender == name and row.voice_ms is not None]
        if chosen:
            _bar(axes, y, chosen, labelled=y == 0)
        else:
            axes.text(0, y, " never answered", va="center")
    axes.set_xlim(left=0, right=axes.get_xlim()[1] * 1.12)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _bar(axes: Axes, y: int, rows: Sequence[Row], *, labelled: bool) -> None:
    whole = [row.voice_ms for row in rows if row.voice_ms is not None]
    parts = {stage: median(row.stages[stage] for row in rows if row.stages) for stage in Stage}
    scale, left = median(whole) / (sum(parts.values()) or 1.0), 0.0
    for stage, part in parts.items():
        label = TITLES[stage] if labelled else None
        axes.barh(y, part * scale, left=left, height=0.62, color=COLOURS[stage], label=label)
        left += part * scale
    axes.plot(whole, [y] * len(whole), "o", color="#222222", markersize=3, alpha=0.6, clip_on=False)
    axes.annotate(f"{left:,.0f}", (max(whole), y), (7, 0), textcoords="offset points", va="center")
