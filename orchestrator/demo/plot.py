"""The call as a picture: who served it, what the caller said and heard, and the seconds around the provider's end."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.demo.measure import CALLER, Failover, Speech, failover, latency_ms, speeches
from orchestrator.demo.palette import ALERT, COLOURS, TIER_NAMES
from orchestrator.demo.recording import Recording, Row, Source
from orchestrator.listening import Played

BIN_S = 0.02
"""Width of one step of a waveform."""
INK = "#343a40"
FAINT = "#adb5bd"
SIZE = (16.0, 9.6)
LANES = SIZE[0] * 0.9
"""Inches that the time axes are wide."""
CHARACTERS_PER_INCH = 15.5
"""Of the captions' font, about."""
LEGEND = (
    ("caller", "the caller"),
    ("A", "Tier A"),
    ("bridge", "bridge, from memory"),
    ("B", "Tier B, its own words"),
    ("C", "Tier C, a fixed prompt"),
)


def draw(recording: Recording, path: Path) -> None:
    """Write the picture as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    view = _View.of(recording)
    with pyplot.rc_context({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK}):
        figure, (band, caller, heard, zoom) = pyplot.subplots(
            4, 1, figsize=SIZE, gridspec_kw={"height_ratios": [0.42, 1.15, 2.1, 1.9]}
        )
        figure.subplots_adjust(left=0.08, right=0.985, top=0.82, bottom=0.045, hspace=0.16)
        _title(figure, view)
        for axes in (band, caller, heard):
            axes.set_xlim(0.0, view.end)
        for axes in (heard, zoom):
            axes.xaxis.set_major_formatter("{x:.0f} s")
        _draw_band(band, view)
        _draw_side(caller, view, view.caller, [s for s in view.speeches if s.who == CALLER], above=True)
        _draw_side(heard, view, view.heard, [s for s in view.speeches if s.who != CALLER], above=False)
        _draw_latencies(heard, view)
        _name(caller, "the caller\nsays")
        _name(heard, "the caller\nhears")
        _draw_moments(band, (caller, heard), view)
        _draw_zoom(figure, zoom, heard, view)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


@dataclass(frozen=True)
class _View:
    """A recording on a clock that begins with the call."""

    began: float
    end: float
    speeches: list[Speech]
    caller: Played
    heard: Played
    bands: list[tuple[str, float, float]]
    """Tier, from, to."""
    moments: list[tuple[float, str, str, str]]
    """When, what, colour, and on which side of the line that is to be written."""
    latencies: list[tuple[float, float]]
    """Where an answer began to be heard, and the milliseconds that the caller had waited."""
    figures: Failover | None

    @classmethod
    def of(cls, recording: Recording) -> _View:
        caller, heard = recording.caller_audio(), recording.heard_audio()
        began, end = caller.start, max(caller.end, heard.end)
        return cls(
            began=began,
            end=end - began,
            speeches=speeches(recording),
            caller=caller,
            heard=heard,
            bands=_bands(recording, began, end),
            moments=_moments(recording, began),
            latencies=_latencies(recording, began),
            figures=failover(recording),
        )


def _bands(recording: Recording, began: float, end: float) -> list[tuple[str, float, float]]:
    """Which tier served the call from when to when, as the session told it."""
    bands: list[tuple[str, float, float]] = []
    for row in recording.of("session.created", "session.updated"):
        if bands and bands[-1][0] == row.tier:
            continue
        start = max(0.0, row.at - began)
        if bands:
            bands[-1] = (*bands[-1][:2], start)
        bands.append((row.tier, start, end - began))
    return bands


def _moments(recording: Recording, began: float) -> list[tuple[float, str, str, str]]:
    """The provider's end and return, and the moves of the call with their reasons."""
    killed, started = recording.first("provider_killed"), recording.first("provider_started")
    moves = recording.of("handover", source=Source.SERVICE)
    found = []
    if killed is not None:
        why = next((_why(row) for row in moves if row.at >= killed.at), "")
        found.append(
            (killed.at - began, f" provider killed: {why}" if why else " provider killed", ALERT, "left")
        )
    if started is not None:
        found.append((started.at - began, "provider runs again ", INK, "right"))
    for row in moves:
        if row["to_tier"] == "A":
            found.append((row.at - began, f" {_why(row)}", COLOURS["A"], "left"))
    return found


def _why(row: Row) -> str:
    return f"{row['from_tier']} to {row['to_tier']} (trigger {row['trigger']}, cause {row['cause']})"


def _latencies(recording: Recording, began: float) -> list[tuple[float, float]]:
    """For the first answer to each of the caller's utterances."""
    found: dict[float, tuple[float, float]] = {}
    for row in recording.of("first_audio"):
        waited = latency_ms(recording, row.at)
        if waited is not None:
            found.setdefault(round(row.at - waited / 1000, 3), (row.at - began, waited))
    return list(found.values())


def _title(figure: Any, view: _View) -> None:
    title, line = "One call on one connection", ""
    if view.figures is not None:
        killed = view.figures.killed - view.began
        title = f"The provider is killed {killed:.0f} seconds into the call, and the call goes on"
        facts = [
            f"{text} {_duration(ms)}"
            for text, ms in (
                ("bridge at the client after", view.figures.since_kill_ms(view.figures.bridge)),
                ("answer to the open question after", view.figures.since_kill_ms(view.figures.answer)),
                ("longest silence that the caller heard", view.figures.longest_silence_ms),
            )
            if ms is not None
        ]
        line = "One WebSocket connection all the time   ·   " + "   ·   ".join(facts)
    figure.text(0.012, 0.968, title, fontsize=17, fontweight="bold", va="center")
    figure.text(0.012, 0.932, line, fontsize=11, va="center")
    from matplotlib.patches import Patch

    patches = [Patch(color=COLOURS[who], label=label) for who, label in LEGEND]
    figure.legend(
        handles=patches,
        ncols=len(patches),
        loc="center left",
        bbox_to_anchor=(0.005, 0.9),
        frameon=False,
        handlelength=1.0,
        columnspacing=1.6,
    )


def _duration(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 950 else f"{ms / 1000:.1f} s"


def _name(axes: Any, name: str) -> None:
    axes.set_ylabel(name, rotation=0, ha="right", va="center")


def _draw_band(axes: Any, view: _View) -> None:
    from matplotlib.patches import Rectangle

    axes.set_ylim(0, 1)
    _name(axes, "the call\nis in")
    for tier, start, end in view.bands:
        axes.add_patch(
            Rectangle((start, 0.0), end - start, 1.0, facecolor=COLOURS.get(tier, FAINT), linewidth=0)
        )
        room = (end - start) * LANES / view.end * CHARACTERS_PER_INCH * 0.6
        label = next(
            (s for s in (f"Tier {tier}: {TIER_NAMES[tier]}", f"Tier {tier}", tier) if len(s) < room), ""
        )
        style = {"color": "white", "fontweight": "bold", "fontsize": 10.5}
        axes.text((start + end) / 2, 0.47, label, ha="center", va="center", **style)
    axes.set_xticks([])
    _bare(axes, "top", "bottom", "left", "right")


def _bare(axes: Any, *sides: str) -> None:
    axes.set_yticks([])
    for side in sides:
        axes.spines[side].set_visible(False)


def _draw_side(axes: Any, view: _View, played: Played, said: list[Speech], *, above: bool) -> None:
    """One side's waveform, coloured by who spoke, and the words over or under it."""
    axes.set_ylim((-1.1, 2.6) if above else (-4.4, 1.6))
    _waveform(axes, view, played, said)
    _captions(axes, view, said, above=above)
    _bare(axes, "top", "left", "right", *(["bottom"] if above else []))
    if above:
        axes.set_xticks([])


def _captions(axes: Any, view: _View, said: list[Speech], *, above: bool) -> None:
    """Words where they begin to be heard; what would run into the words before it is written further out."""
    per_second = LANES / view.end * CHARACTERS_PER_INCH
    taken = [0.0, 0.0, 0.0]
    """Until which second each level is written on."""
    for index, speech in enumerate(said):
        start = speech.span.start - view.began
        following = said[index + 1].span.start - view.began if index + 1 < len(said) else view.end
        lines = _wrapped(_caption(speech), int((following - start) * per_second))
        length = max(map(len, lines)) / per_second
        start = min(start, view.end - length)
        level = next((n for n, until in enumerate(taken) if until <= start), 0)
        taken[level] = start + length + 3 / per_second
        y = 1.2 if above else -1.2 - level * 1.05
        paper = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
        style = {"fontsize": 8, "linespacing": 1.15, "color": _colour(speech), "bbox": paper, "zorder": 5}
        axes.text(start, y, "\n".join(lines), va="bottom" if above else "top", **style)


def _wrapped(text: str, room: int) -> list[str]:
    """At most three lines, as narrow as they may be, or as wide as there is room."""
    for width in (20, 25, 30, 36, 44):
        lines = textwrap.wrap(text, width)
        if len(lines) <= 2 or (len(lines) == 3 and width + 5 > room):
            return lines
    return lines if len(lines) <= 3 else [*lines[:2], lines[2] + " …"]


def _colour(speech: Speech) -> str:
    return COLOURS["bridge"] if speech.bridge else COLOURS.get(speech.who, FAINT)


def _caption(speech: Speech) -> str:
    if speech.bridge:
        return f"“{speech.text}”" if speech.text else "(a tone)"
    return f"“{speech.text}{'' if speech.complete else ' …'}”"


def _waveform(axes: Any, view: _View, played: Played, said: list[Speech]) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=1)
    if not len(played.samples):
        return
    width = round(BIN_S * played.rate)
    loud = np.abs(played.samples.astype(np.float32))
    peaks = np.pad(loud, (0, -len(loud) % width)).reshape(-1, width).max(axis=1)
    peaks = np.sqrt(peaks / max(1.0, float(peaks.max())))  # soft speech is to be seen, too
    times = played.start - view.began + (np.arange(len(peaks)) + 0.5) * BIN_S
    for speech in said:
        start, end = speech.span.start - view.began, speech.span.end - view.began
        inside = (times >= start - BIN_S) & (times <= end + BIN_S)
        axes.fill_between(
            times[inside], -peaks[inside], peaks[inside], color=_colour(speech), linewidth=0, zorder=2
        )


def _draw_latencies(axes: Any, view: _View) -> None:
    for at, ms in view.latencies:
        axes.text(at, 1.12, f"after {ms / 1000:.1f} s", fontsize=8, color=INK, va="bottom")


def _draw_moments(band: Any, sides: tuple[Any, ...], view: _View) -> None:
    """Lines across all lanes; what would run into its neighbour's words is written one line higher."""
    for at, what, colour, side in view.moments:
        for axes in (band, *sides):
            style = ":" if colour == INK else "-"
            axes.axvline(at, color=colour, linestyle=style, linewidth=1.5, zorder=4)
        far = at > view.end * 0.75 and side == "left"
        band.annotate(
            what,
            (view.end if far else at, 1.0),
            xytext=(0, 17 if far else 4),
            textcoords="offset points",
            ha="right" if far else side,
            va="bottom",
            color=colour,
            fontsize=10,
            fontweight="bold",
            annotation_clip=False,
        )


def _draw_zoom(figure: Any, axes: Any, whole: Any, view: _View) -> None:
    """The seconds from the kill to the answer, with what arrived when."""
    figures = view.figures
    if figures is None or figures.answer_heard is None:
        axes.set_visible(False)
        return
    killed = figures.killed - view.began
    left, right = killed - 2.0, min(view.end, figures.answer_heard - view.began + 3.0)
    axes.set_xlim(left, right)
    axes.set_ylim(-2.3, 3.0)
    axes.set_facecolor("#f1f3f5")
    _connect(figure, axes, whole, left, right)
    said = [s for s in view.speeches if s.who != CALLER and s.span.start - view.began < right]
    _waveform(axes, view, view.heard, said)
    for speech in said:
        start, end = max(left, speech.span.start - view.began), min(right, speech.span.end - view.began)
        if end > left:
            _zoom_caption(axes, speech, start, end)
    _zoom_arrivals(axes, figures, view)
    _name(axes, "around\nthe kill,\nenlarged")
    _bare(axes, "top", "left", "right")


def _connect(figure: Any, zoom: Any, whole: Any, left: float, right: float) -> None:
    """Show which part of the whole is enlarged."""
    from matplotlib.patches import ConnectionPatch

    whole.axvspan(left, right, color="#f1f3f5", zorder=0)
    low, high = whole.get_ylim()[0], zoom.get_ylim()[1]
    for at in (left, right):
        line = ConnectionPatch(
            (at, low), (at, high), whole.transData, zoom.transData, color=FAINT, linewidth=0.8
        )
        figure.add_artist(line)


def _zoom_caption(axes: Any, speech: Speech, start: float, end: float) -> None:
    if speech.bridge:
        what = "bridge"
    elif not speech.complete:
        what = "Tier A; right of the red line, what the client already had in its buffer"
    else:
        what = f"Tier {speech.who}: the answer"
    axes.plot([start, end], [-1.3, -1.3], color=_colour(speech), linewidth=3, solid_capstyle="butt")
    style = {"fontsize": 9, "fontweight": "bold", "color": _colour(speech)}
    axes.text((start + end) / 2, -1.5, what, ha="center", va="top", **style)


def _zoom_arrivals(axes: Any, figures: Failover, view: _View) -> None:
    """When the bridge and the answer came in, above the waveform."""
    killed = figures.killed - view.began
    axes.axvline(killed, color=ALERT, linewidth=1.8)
    axes.text(killed - 0.05, 2.85, "provider killed", color=ALERT, fontweight="bold", ha="right", va="top")
    said = [s for s in view.speeches if s.step == 3 and s.complete and not s.bridge]
    answer = _colour(said[-1]) if said else INK
    rows = (
        (figures.bridge, "bridge at the client", COLOURS["bridge"], 2.5),
        (figures.answer, "answer at the client", answer, 1.6),
    )
    for at, what, colour, height in rows:
        if at is None:
            continue
        came, waited = at - view.began, _duration((at - figures.killed) * 1000)
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (came, height), (killed, height), arrowprops=arrow)
        axes.plot([came, came], [0, height], color=colour, linewidth=1.2, linestyle=":")
        axes.text(came + 0.08, height, f"{what} after {waited}", color=colour, fontweight="bold", va="center")
