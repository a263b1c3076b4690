"""The matrix as a picture: fault by moment, coloured by how long the caller waits for a sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from benchmarks.matrix import CELLS, FAULTS, Moment
from benchmarks.report import Summary, number

COLOURS = LinearSegmentedColormap.from_list("wait", ["#1a7f6b", "#a8d5a2", "#f7e08a", "#ee8a4a", "#a51c30"])
SCALE = LogNorm(10.0, 5000.0)
IMPOSSIBLE, UNMEASURED, WRONG = "#e4e4e4", "white", "#a51c30"
HEADS = {moment: moment.value.replace("_", "\n") for moment in Moment}


def draw(path: Path, summaries: Sequence[Summary]) -> None:
    """Write the picture of the calls with simulated engines as a PNG; of the real ones where there are no others."""
    service = "simulated" if any(s.service == "simulated" for s in summaries) else "real"
    found = {(s.fault, s.moment): s for s in summaries if s.service == service}
    figure = Figure(figsize=(15, 0.46 * len(FAULTS) + 2.4), layout="constrained")
    axes = figure.subplots()
    figure.suptitle(
        "A Realtime provider fails: how long does the caller wait for a sound?", fontsize=15, weight="bold"
    )
    axes.set_title(
        "Milliseconds from the fault, or from when an answer was owed if that was later (median); "
        "below it the longest silence. Grey: why it cannot occur.",
        fontsize=10,
        loc="left",
    )
    for y, fault in enumerate(FAULTS):
        for x, moment in enumerate(Moment):
            _square(axes, x, y, fault, moment, found.get((fault, moment)))
    _frame(axes)
    figure.savefig(path, dpi=120)


def _square(axes: Axes, x: int, y: int, fault: str, moment: Moment, summary: Summary | None) -> None:
    cell = CELLS[fault, moment]
    colour, text, size, ink = UNMEASURED, "", 9.5, "black"
    if not cell.possible:
        colour, text, size, ink = IMPOSSIBLE, cell.reason, 6.5, "#777777"
    elif summary is not None:
        colour, text = face(summary)
        ink = "white" if colour in (WRONG,) or _dark(summary) else "black"
    axes.fill_between([x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=colour, linewidth=0)
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=ink, linespacing=1.05)
    if summary is not None and summary.flaws:
        axes.plot([x - 0.48, x + 0.48, x + 0.48, x - 0.48, x - 0.48],
                  [y - 0.46, y - 0.46, y + 0.46, y + 0.46, y - 0.46], color="black", linewidth=2)  # fmt: skip


def face(summary: Summary) -> tuple[str, str]:
    """Colour and text of a measured cell."""
    sound, gap = summary.measures["sound_ms"], summary.measures["gap_ms"]
    if summary.answered < summary.calls or sound is None:
        return WRONG, f"{summary.calls - summary.answered} of {summary.calls}\nnot answered"
    red, green, blue, _ = COLOURS(SCALE(max(sound.p50, 10.0)))
    colour = f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
    return colour, f"{number(sound.p50)}\n({number(gap.p50)})" if gap is not None else number(sound.p50)


def _dark(summary: Summary) -> bool:
    sound = summary.measures["sound_ms"]
    return sound is None or sound.p50 < 20.0 or sound.p50 > 2500.0


def _frame(axes: Axes) -> None:
    axes.set_xlim(-0.5, len(Moment) - 0.5)
    axes.set_ylim(len(FAULTS) - 0.5, -0.5)
    axes.set_xticks(range(len(Moment)), [HEADS[moment] for moment in Moment])
    axes.set_yticks(range(len(FAULTS)), FAULTS)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in ("top", "bottom", "left", "right"):
        axes.spines[side].set_visible(False)
