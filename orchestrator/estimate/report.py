"""An estimate as tables in the terminal: one alone, or two side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.core.prices import NANO
from orchestrator.estimate.columns import Plan
from orchestrator.estimate.results import Estimate

Format = Callable[[float], str]


def dollars(nanodollars: float) -> str:
    """With as many decimals as tell something."""
    usd = nanodollars / NANO
    if abs(usd) >= 100:
        return f"${usd:,.0f}"
    return f"${usd:,.2f}" if abs(usd) >= 10 else f"${usd:.4f}"


def percent(share: float) -> str:
    return f"{share:.1%}"


def milliseconds(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.0f} ms"


def _number(value: float) -> str:
    return f"{value:,.1f}"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of an estimate."""

    group: str
    name: str
    value: float
    form: Format
    note: str = ""

    @property
    def text(self) -> str:
        return self.form(self.value)


def lines(found: Estimate) -> list[Line]:
    """All figures, in the order in which they are shown."""
    return [*_money(found), *_parts(found), *_turns(found), *_latency(found)]


def _money(found: Estimate) -> Iterator[Line]:
    cost, plan = found.cost, found.plan
    yield Line("Money", "a call, mean", cost.mean, dollars, f"± {dollars(cost.error)} by chance")
    yield Line("Money", "a call, p50", cost.p50, dollars)
    yield Line("Money", "a call, p95", cost.p95, dollars)
    yield Line("Money", "the dearest call", cost.max, dollars, _cap(plan))
    yield Line("Money", "an answered minute", found.per_answered_minute, dollars, "of Tier A or B")
    placed = f"{found.placed_per_day:,.0f} calls, those placed again among them"
    yield Line("Money", "a day", found.per_day, dollars, placed)
    yield Line("Money", "a month", found.per_month, dollars, f"of {plan.days_per_month:g} days")
    share = found.waste / cost.mean if cost.mean else 0.0
    note = f"{percent(share)} of the cost, {found.waste_s:.1f} s of talk that nobody heard"
    yield Line("Money", "waste in a call", found.waste, dollars, note)


def _cap(plan: Plan) -> str:
    return "no cap" if plan.call_usd is None else f"cap ${plan.call_usd:.2f}"


def _parts(found: Estimate) -> Iterator[Line]:
    for name, amount in found.parts.items():
        share = amount / found.cost.mean if found.cost.mean else 0.0
        yield Line("What a call's money goes to", name, amount, dollars, percent(share))


def _turns(found: Estimate) -> Iterator[Line]:
    yield Line("Turns", "in a call", found.turns.mean, _number, f"p95 {found.turns.p95:.0f}")
    for tier, share in found.tier_mix.items():
        yield Line("Turns", f"in Tier {tier}", share, percent)
    for action, share in found.stepped.items():
        note = f"of calls; {percent(found.projected[action])} by projection"
        yield Line("Turns", f"step {action}", share, percent, note)
    yield Line("Turns", "kept from a rung by a cap", found.unpaid, percent, "of calls")


def _latency(found: Estimate) -> Iterator[Line]:
    budgets = found.budgets
    for name, budget, parts in (
        ("transport", budgets.transport, budgets.transport_parts),
        ("reasoning", budgets.reasoning, budgets.reasoning_parts),
    ):
        note = ", ".join(f"{part} {milliseconds(ms)}" for part, ms in parts.items() if ms)
        yield Line("Latency", f"{name}, mean", budget.mean, milliseconds, note)
        yield Line("Latency", f"{name}, p95", budget.p95, milliseconds)
    note = ", ".join(
        f"{part.name} {milliseconds(part.ms.mean)} {part.per_call:.2f} times"
        for part in budgets.recovery
        if part.per_call
    )
    yield Line("Latency", "recovery in a call", budgets.recovery_s * 1000, milliseconds, note)


def show(console: Console, found: Estimate) -> None:
    """One estimate."""
    console.print(headline(found), soft_wrap=True)
    for group, rows in _grouped(lines(found)):
        table = _table(group, "", "", "")
        table.columns[1].justify = "right"
        for line in rows:
            table.add_row(line.name, line.text, f"[dim]{escape(line.note)}[/]")
        console.print(table)


def headline(found: Estimate) -> str:
    """What was simulated."""
    plan = found.plan
    day = "no cap for a day" if plan.day_usd is None else f"${plan.day_usd:,.2f} for a day"
    steps = ", ".join(f"{step.action} at {step.at:.0%}" for step in plan.steps) or "none"
    return escape(
        f"{found.calls:,} simulated calls, seed {found.seed}. {', then '.join(plan.rungs)}; {_cap(plan)} for a call, "
        f"{day}; steps: {steps}; history: {plan.history}; outage: {percent(plan.outage_share)} of calls"
    )


def compare(console: Console, first: Estimate, second: Estimate, names: tuple[str, str]) -> None:
    """Two estimates, and what the second changes."""
    for name, found in zip(names, (first, second), strict=True):
        console.print(f"[bold]{escape(name)}[/]: {headline(found)}", soft_wrap=True)
    for group, rows in _grouped(lines(first)):
        table = _table(group, "", *map(escape, names), "difference", "ratio")
        other = {line.name: line for line in lines(second) if line.group == group}
        extra = [line for name, line in other.items() if name not in {row.name for row in rows}]
        for line in [*rows, *extra]:
            one = line if line in rows else None
            table.add_row(line.name, *_cells(one, other.get(line.name)))
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)


def _cells(one: Line | None, two: Line | None) -> tuple[str, str, str, str]:
    """Where only one of them has the figure there is nothing to compare."""
    if one is None or two is None:
        return (one.text if one else "-", two.text if two else "-", "", "")
    change = two.value - one.value
    sign = "+" if change >= 0 else "-"
    ratio = f"{two.value / one.value:.2f}" if one.value else ""
    return one.text, two.text, sign + two.form(abs(change)), ratio


def comparison(first: Estimate, second: Estimate) -> dict[str, dict[str, float | None]]:
    """Difference and ratio of every figure that both have, money in US dollars; no ratio to zero."""
    other = {(line.group, line.name): line for line in lines(second)}
    found: dict[str, dict[str, float | None]] = {}
    for line in lines(first):
        two = other.get((line.group, line.name))
        if two is not None:
            unit = NANO if line.form is dollars else 1
            ratio = two.value / line.value if line.value else None
            change = (two.value - line.value) / unit
            found[f"{line.group}: {line.name}"] = {"difference": change, "ratio": ratio}
    return found


def _grouped(found: list[Line]) -> Iterator[tuple[str, list[Line]]]:
    for group in dict.fromkeys(line.group for line in found):
        yield group, [line for line in found if line.group == group]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.show_header = any(columns)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
