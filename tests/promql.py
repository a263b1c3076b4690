"""What expressions in Prometheus's language ask for: which metrics, by which of their labels."""

from __future__ import annotations

from dataclasses import dataclass

import promql_parser
from promql_parser import AggregateExpr, Expr, MatchOp, VectorSelector

EVERYWHERE = frozenset({"instance", "job"})
"""Labels that Prometheus itself adds."""


@dataclass(frozen=True)
class Asked:
    """One metric in an expression: the labels that it must have, and the values that some must have been seen with."""

    metric: str
    labels: frozenset[str]
    values: tuple[tuple[str, str], ...]


def parsed(expression: str) -> Expr:
    """Raises ValueError for what Prometheus would not take. Grafana's own variable stands for a time."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def asked(expression: str) -> list[Asked]:
    """All metrics of an expression, with the labels that are chosen by, and grouped by around them."""
    around: list[list[str]] = []
    found: list[Asked] = []

    def enter(node: Expr) -> None:
        if isinstance(node, AggregateExpr):
            around.append(node.modifier.labels if node.modifier is not None else [])
        elif isinstance(node, VectorSelector):
            chosen = node.matchers.matchers
            grouped = {label for labels in around for label in labels}
            equal = tuple((each.name, each.value) for each in chosen if each.op == MatchOp.Equal)
            found.append(Asked(node.name or "", frozenset({each.name for each in chosen} | grouped), equal))

    def leave(node: Expr) -> None:
        if isinstance(node, AggregateExpr):
            around.pop()

    promql_parser.walk(parsed(expression), enter, leave)
    return found


def kept(expression: str) -> frozenset[str] | None:
    """The labels that its outermost aggregations keep; None where there is none, and all labels are left."""
    depth, found = 0, []

    def enter(node: Expr) -> None:
        nonlocal depth
        if isinstance(node, AggregateExpr):
            if not depth:
                found.append(frozenset(node.modifier.labels if node.modifier is not None else ()))
            depth += 1

    def leave(node: Expr) -> None:
        nonlocal depth
        depth -= isinstance(node, AggregateExpr)

    promql_parser.walk(parsed(expression), enter, leave)
    return frozenset.union(*found) if found else None
