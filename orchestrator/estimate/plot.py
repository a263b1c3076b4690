"""An estimate, or two, as a picture: what calls cost, what the money goes to, how long callers wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orchestrator.core.prices import NANO
from orchestrator.estimate.report import Format, dollars, milliseconds, percent
from orchestrator.estimate.results import Estimate

_INK, _ALERT = "#343a40", "#b3243b"
_DARK = frozenset({"#1971c2", "#2b8a3e", "#e8590c"})
"""Colours on which white is read."""
_CASES = ("#1971c2", "#d1670b")
_PARTS = {
    "audio spoken": "#1971c2",
    "audio heard, new": "#4dabf7",
    "audio heard, cached": "#a5d8ff",
    "text written": "#2b8a3e",
    "text, new": "#69db7c",
    "text, cached": "#b2f2bb",
    "transcription": "#ffc078",
    "Tier B": "#e8590c",
}
_STEP_NAMES = {"cheaper_rung": "cheaper rung", "tier_b": "to Tier B", "tier_c": "to Tier C"}
_SHADES = ("#1971c2", "#4dabf7", "#74c0fc", "#a5d8ff", "#d0ebff", "#99e9f2", "#c5f6fa")
_READABLE = 0.09
"""Share of the axis from which on a piece of a bar has room for its name."""

Cases = Sequence[tuple[str, Estimate]]


def draw(path: Path, cases: Cases) -> None:
    """Write the picture of one or two estimates, by name, as a PNG."""
    figure = Figure(figsize=(12.5, 6.2 + 0.9 * len(cases)), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1], height_ratios=[1.25, 1])
    first = cases[0][1]
    figure.suptitle(
        f"What a call costs: {first.calls:,} simulated calls, seed {first.seed}", fontsize=14, weight="bold"
    )
    _draw_costs(figure.add_subplot(grid[0, 0]), cases)
    _draw_tiers(figure.add_subplot(grid[0, 1]), cases)
    _draw_parts(figure.add_subplot(grid[1, 0]), cases)
    _draw_latency(figure.add_subplot(grid[1, 1]), cases)
    figure.savefig(path, dpi=120)


def _draw_costs(axes: Axes, cases: Cases) -> None:
    """Which share of the calls cost no more than so much; the dots are p50 and p95, the dotted line is the mean."""
    edge = 0.0
    for colour, (name, found) in zip(_CASES, cases, strict=False):
        usd = [amount / NANO for amount in found.cost_quantiles]
        edge = max(edge, usd[99] * 1.25)
        told = (
            f"mean {dollars(found.cost.mean)}, p50 {dollars(found.cost.p50)}, p95 {dollars(found.cost.p95)}"
        )
        label = _plain(f"{name}\n{told}" if name else told)
        axes.plot(usd, range(101), color=colour, linewidth=2, label=label)
        axes.plot([usd[50], usd[95]], [50, 95], "o", color=colour, markersize=6)
        axes.axvline(found.cost.mean / NANO, color=colour, linestyle=":", linewidth=1.5)
    caps = {found.plan.call_usd for _, found in cases if found.plan.call_usd is not None}
    for cap in sorted(caps):
        if cap <= edge * 1.5:
            edge = max(edge, cap * 1.08)
            axes.axvline(cap, color=_ALERT, linewidth=1.5)
            style: dict[str, Any] = {"color": _ALERT, "fontsize": 9, "rotation": 90, "ha": "right"}
            axes.annotate(_plain(f"cap ${cap:.2f}"), (cap, 62), (-4, 0), textcoords="offset points", **style)
    axes.set_xlim(0, edge or 1)
    axes.set_ylim(0, 102)
    axes.set_title("Calls that cost no more than this", loc="left")
    axes.set_xlabel("US dollars")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.grid(color="#e9ecef")
    axes.legend(loc="lower right", fontsize=9, framealpha=0.9, edgecolor="none")
    _tidy(axes)


def _draw_tiers(axes: Axes, cases: Cases) -> None:
    """Turns by tier, and calls that stepped."""
    rows: dict[str, list[float]] = {f"turns in Tier {tier}": [] for tier in cases[0][1].tier_mix}
    actions = dict.fromkeys(action for _, found in cases for action in found.stepped)
    rows |= {f"calls: {_STEP_NAMES.get(action, action)}": [] for action in actions}
    for _, found in cases:
        shares = [*found.tier_mix.values(), *(found.stepped.get(action, 0.0) for action in actions)]
        for values, share in zip(rows.values(), shares, strict=True):
            values.append(share)
    height = 0.8 / len(cases)
    for index, (colour, _) in enumerate(zip(_CASES, cases, strict=False)):
        heights = [row - 0.4 + height * (index + 0.5) for row in range(len(rows))]
        values = [shares[index] for shares in rows.values()]
        axes.barh(heights, values, height * 0.85, color=colour)
        for y, value in zip(heights, values, strict=True):
            axes.annotate(
                percent(value), (value, y), (4, 0), textcoords="offset points", va="center", fontsize=9
            )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.set_xticks([])
    axes.set_title("Who answers, and which steps calls take", loc="left")
    _tidy(axes)
    axes.spines["bottom"].set_visible(False)


def _draw_parts(axes: Axes, cases: Cases) -> None:
    """What the mean call's money goes to."""
    most = max(found.cost.mean for _, found in cases) or 1.0
    for row, (_, found) in enumerate(cases):
        named = {name: found.parts[name] for name in _PARTS}
        _draw_bar(axes, row, named, list(_PARTS.values()), most, dollars)
        axes.annotate(
            _plain(f"{dollars(found.cost.mean)}, of it {dollars(found.waste)} unheard"), (found.cost.mean, row), (6, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axes.set_xlim(0, most * 1.42)
    axes.set_yticks(range(len(cases)), [name or "a call" for name, _ in cases])
    axes.set_title("What a call's money goes to, on average", loc="left")
    handles = [axes.barh(0, 0, color=colour) for colour in _PARTS.values()]
    axes.legend(
        handles, list(_PARTS), frameon=False, ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0)
    )
    _tidy_bars(axes, len(cases))


def _draw_latency(axes: Axes, cases: Cases) -> None:
    """The three budgets of the (last) case: latencies are the same for all but what steps change."""
    budgets = cases[-1][1].budgets
    recovery = {part.name: part.ms.mean * part.per_call for part in budgets.recovery}
    rows = {
        "transport": (budgets.transport_parts, f"p95 {milliseconds(budgets.transport.p95)}"),
        "reasoning": (budgets.reasoning_parts, f"p95 {milliseconds(budgets.reasoning.p95)}"),
        "recovery\nin a call": (recovery, milliseconds(budgets.recovery_s * 1000)),
    }
    most = max(sum(parts.values()) for parts, _ in rows.values()) or 1.0
    for row, (parts, note) in enumerate(rows.values()):
        _draw_bar(axes, row, parts, _SHADES, most, milliseconds, named=True)
        axes.annotate(
            note, (sum(parts.values()), row), (6, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_xlim(0, most * 1.3)
    axes.set_yticks(range(3), list(rows))
    axes.set_title("How long callers wait, on average", loc="left")
    _tidy_bars(axes, 3)


def _draw_bar(
    axes: Axes,
    row: float,
    parts: Mapping[str, float],
    colours: Sequence[str],
    most: float,
    form: Format,
    *,
    named: bool = False,
) -> None:
    left = 0.0
    for (name, value), colour in zip(parts.items(), colours, strict=False):
        axes.barh(row, value, 0.6, left=left, color=colour, edgecolor="white", linewidth=0.8)
        if value >= _READABLE * most:
            text = f"{name}\n{form(value)}" if named else form(value)
            ink = "white" if colour in _DARK else _INK
            axes.text(left + value / 2, row, _plain(text), ha="center", va="center", fontsize=8, color=ink)
        left += value


def _plain(text: str) -> str:
    """Two dollar signs would be the ends of a formula."""
    return text.replace("$", r"\$")


def _tidy_bars(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xticks([])
    _tidy(axes)
    axes.spines["bottom"].set_visible(False)


def _tidy(axes: Axes) -> None:
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
