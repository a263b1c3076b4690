"""The bill before launch: what calls of a given kind will cost under a given plan, by simulating them.

    columns = fit(rows)                      # Columns from event-log rows, or written down: Columns(call_s=240)
    plan = Plan.of_settings(settings)        # or Plan(rungs=("gpt-realtime-2.1",), call_usd=2.0, steps=(...))
    found = estimate(columns, plan, settings.price_table(), calls=10_000, seed=1)
    found.cost.mean, found.cost.p95          # nano-dollars per call
    found.tier_mix, found.stepped            # {"A": 0.97, ...} of turns, {"concise": 0.12, ...} of calls

- `Columns` (columns.py): what calls are like. The planner's five are `call_s`, `caller_share`, `assistant_share`,
  `tool_delay_s`, `abandon_rate`; the others have defaults and are fitted too. Immutable; a changed copy is
  ``columns.model_copy(update={"call_s": 300})``.
- `Plan` (columns.py): what is decided: calls per day, rungs, caps, steps, history, outage share, Tier B's engines. No
  cap is ``call_usd=None``, no steps ``steps=()``. Money in a plan is US dollars, as in the settings; in results
  nano-dollars.
- `fit(rows)` (fit.py): rows are mappings as `server.events_path` holds them, of whole calls (from ``call_started`` to
  ``call_ended``), in order of time within a call; calls may interleave. It reads ``charge`` rows with what="response"
  (their `usage`) and "transcription", `turn_ended`, `call_started`, `call_ended`, and `waste` where there is one. What
  is read is what Tier A did: fit from calls without caps and steps, or their shorter answers are taken for usual.
  Raises `NothingToFit` where no call in the rows had an answer of Tier A. `read_rows(path)` (recorded.py) reads a file.
- `estimate(columns, plan, prices, *, calls, seed, progress=None)` (model.py): the same arguments give the same
  `Estimate` (results.py). ``progress(done, calls)`` is called now and then. Raises `UnknownPrice`. It prices every
  response with `PriceTable.response`, takes steps with `core.steps.Stepper` and chooses rungs with
  `core.routing.decide`.

The assumptions are in docs/cost.md.
"""

from orchestrator.estimate.columns import Columns, Latencies, Plan, TierBEngines
from orchestrator.estimate.draws import TooMuch
from orchestrator.estimate.fit import NothingToFit, fit
from orchestrator.estimate.model import estimate
from orchestrator.estimate.recorded import LogUnreadable, read_rows
from orchestrator.estimate.results import Estimate, Quantity

__all__ = [
    "Columns",
    "Estimate",
    "Latencies",
    "LogUnreadable",
    "NothingToFit",
    "Plan",
    "Quantity",
    "TierBEngines",
    "TooMuch",
    "estimate",
    "fit",
    "read_rows",
]
