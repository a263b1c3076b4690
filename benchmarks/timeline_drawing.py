"""Draws a recorded call: who spoke, what came, what was played, the state of the call, and numbered events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from orchestrator.demo.palette import ALERT, COLOURS

STATE_COLOURS = {
    "CONNECTING": "#ced4da",
    "RELAYING": "#b2dfbb",
    "HEDGING": "#ffe08a",
    "LOCAL": "#ffc9a3",
    "RACING": "#d0bfff",
    "PROMOTING": "#5f3dc4",
}
NAMES = {
    "caller": "the caller",
    "A": "Tier A: the Realtime provider",
    "bridge": "bridge: a line kept ready",
    "B": "Tier B: speech to text, agent, text to speech",
}
INK, FAINT = "#343a40", "#868e96"
CLOSE_S = 0.55
"""Numbers closer than this are put on different levels."""
LEAST_LABEL_S = 0.9
"""A shorter state is named above the band, not in it."""


@dataclass(slots=True)
class Block:
    """Something said, from `start` to `end` in seconds; `who`: "caller", "bridge" or a tier."""

    start: float
    end: float
    who: str
    text: str
    item_id: str


@dataclass(slots=True)
class Mark:
    """One number of the picture: what happened there, each with its second."""

    at: float
    texts: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Stretch:
    start: float
    end: float
    state: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All times are seconds from when the client connected. A state of no length is one whose end alone is known."""

    end: float
    said: list[Block]
    arrived: list[tuple[float, float, str]]
    """When a piece of audio came, how many seconds it plays, and who made it."""
    played: list[Block]
    marks: list[Mark]
    states: list[Stretch]


def draw(path: Path, picture: Picture) -> None:
    """Write the picture as a PNG."""
    notes = [note for mark in picture.marks for note in mark.texts]
    height = 5.6 + 0.25 * len(notes)
    figure = Figure(figsize=(15.0, height))
    # The tracks have a fixed height in inches; the list of events takes what it needs below them.
    tracks = figure.subplots(5, 1, sharex=True, height_ratios=[0.75, 0.7, 1.1, 0.8, 0.75])
    bottom = (0.25 * len(notes) + 0.85) / height
    figure.subplots_adjust(left=0.1, right=0.985, top=1 - 0.95 / height, bottom=bottom, hspace=0.12)
    numbers, caller, arrived, played, band = tracks
    _title(figure, height)
    _draw_numbers(numbers, picture.marks)
    _draw_blocks(caller, picture.said, "caller says")
    _draw_arrivals(arrived, picture)
    _draw_blocks(played, picture.played, "client plays")
    _draw_states(band, picture.states)
    for axes in (caller, arrived, played, band):
        for mark in picture.marks:
            axes.axvline(mark.at, color=_colour(mark), linewidth=0.9, linestyle=(0, (3, 2)), zorder=0.5)
    band.set_xlim(0, picture.end)
    band.set_xlabel("seconds from when the client connected", color=INK)
    band.set_xticks(range(int(picture.end) + 1))
    _list_events(figure, picture.marks, height)
    figure.savefig(path, dpi=110)


def _title(figure: Figure, height: float) -> None:
    figure.text(
        0.015,
        1 - 0.3 / height,
        "One recorded call, as its client saw it",
        fontsize=15,
        weight="bold",
        color=INK,
    )
    handles = [Patch(color=COLOURS[who], label=name) for who, name in NAMES.items()]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.01, 1 - 0.42 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=10,
        handlelength=1.0,
    )


def _plain(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10.5, color=INK, labelpad=8)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, labelbottom=False)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _colour(mark: Mark) -> str:
    return ALERT if any(text.startswith("fault") for _, text in mark.texts) else FAINT


def _draw_numbers(axes: Axes, marks: Sequence[Mark]) -> None:
    """The number of each event above its line, on three levels where events are close."""
    _plain(axes, "event")
    axes.set_ylim(0, 3)
    level, last = 0, -1.0
    for number, mark in enumerate(marks, 1):
        level = (level + 1) % 3 if mark.at - last < CLOSE_S else 0
        last = mark.at
        y = 0.5 + level
        axes.plot([mark.at, mark.at], [0, y], color=_colour(mark), linewidth=0.9, linestyle=(0, (3, 2)))
        axes.text(
            mark.at,
            y,
            str(number),
            ha="center",
            va="center",
            fontsize=9,
            weight="bold",
            color="white",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": _colour(mark), "edgecolor": "none"},
        )


def _draw_blocks(axes: Axes, blocks: Sequence[Block], name: str) -> None:
    _plain(axes, name)
    axes.set_ylim(0, 1)
    for block in blocks:
        axes.broken_barh([(block.start, block.end - block.start)], (0.12, 0.76), color=COLOURS[block.who])
        axes.text(
            (block.start + block.end) / 2,
            0.5,
            _fitted(block.text, block.end - block.start),
            ha="center",
            va="center",
            color="white",
            fontsize=8.5,
        )


def _fitted(text: str, seconds: float) -> str:
    """The words on as many lines as a block of that length needs."""
    width = max(6, int(seconds * 8))
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _draw_arrivals(axes: Axes, picture: Picture) -> None:
    """Each piece when it comes, and how much the client has left to play."""
    _plain(axes, "client receives\n(seconds left\nto play)")
    steps: list[tuple[float, float, str]] = []
    left, last = 0.0, 0.0
    for at, seconds, who in picture.arrived:
        before = max(0.0, left - (at - last))
        dry = last + left
        axes.fill_between(
            [last, min(at, dry)], [left, before if at < dry else 0.0], color="#dee2e6", linewidth=0
        )
        left, last = before + seconds, at
        steps.append((at, left, who))
    axes.fill_between([last, last + left], [left, 0.0], color="#dee2e6", linewidth=0)
    for at, height, who in steps:
        axes.plot([at, at], [0.0, height], color=COLOURS[who], linewidth=1.6, solid_capstyle="butt")
    top = max((height for _, height, _ in steps), default=1.0)
    axes.set_ylim(0, top * 1.1)
    axes.set_yticks(range(int(top) + 1))
    axes.tick_params(axis="y", labelsize=8, colors=FAINT, length=2)


def _draw_states(axes: Axes, states: Sequence[Stretch]) -> None:
    _plain(axes, "state of the call")
    axes.tick_params(axis="x", length=3, labelbottom=True, colors=INK)
    axes.set_ylim(0, 1)
    for stretch in states:
        length = stretch.end - stretch.start
        colour = STATE_COLOURS[stretch.state]
        axes.broken_barh([(stretch.start, length)], (0.0, 0.66), color=colour, linewidth=0)
        if length == 0.0:
            axes.plot([stretch.start] * 2, [0.0, 0.66], color=colour, linewidth=2.5, solid_capstyle="butt")
        inside = length >= LEAST_LABEL_S
        axes.text(
            (stretch.start + stretch.end) / 2,
            0.33 if inside else 0.87,
            stretch.state,
            # A label at the very beginning would run into the name of the track.
            ha="center" if stretch.start > LEAST_LABEL_S or inside else "left",
            va="center",
            fontsize=9 if inside else 8,
            color=INK,
            bbox=None if inside else {"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def _list_events(figure: Figure, marks: Sequence[Mark], height: float) -> None:
    line = 0
    for number, mark in enumerate(marks, 1):
        for index, (at, text) in enumerate(mark.texts):
            y = (0.25 * (sum(len(m.texts) for m in marks) - line) - 0.05) / height
            colour = ALERT if text.startswith("fault") else INK
            if index == 0:
                figure.text(0.1, y, str(number), fontsize=10, weight="bold", color=colour, ha="right")
            figure.text(0.152, y, f"{at:.3f} s", fontsize=10, color=colour, ha="right")
            figure.text(0.162, y, text, fontsize=10, color=colour)
            line += 1
