"""What can be wrong with the settings of guardrails, found at the start and not in a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.config_sections import Guardrail, Guardrails
from orchestrator.entry_points import EntryPointInvalid, load
from orchestrator.webhook_checks import webhook_problems
from tiers.prompts.catalogue import Catalogue, CatalogueInvalid

HOOKS = ("heard", "said", "called")


def guardrail_problems(
    guardrails: Guardrails, catalogue: Path | None, is_here: Callable[[str], bool], *, transcribed: bool
) -> Iterator[tuple[str, str]]:
    """Settings that do not work, each with what to do. Imports the functions that are named.

    `catalogue`: the operator's own prompts. `is_here`: whether a host can only mean this machine. `transcribed`:
    whether the words of every turn are known in every tier.
    """
    if guardrails.heard is not None and not transcribed:
        yield (
            "guardrails.heard",
            "in Tier A it needs what the provider writes down; set tier_a.transcription_model, or do without Tier A",
        )
    for name in HOOKS:
        hook: Guardrail | None = getattr(guardrails, name)
        if hook is None:
            continue
        for field, problem in (
            *_both_problem(hook),
            *webhook_problems(hook.url, hook.secret, is_here),
            *_function_problems(hook),
        ):
            yield f"guardrails.{name}.{field}", problem
        if problem := _line_problem(hook.line, catalogue):
            yield f"guardrails.{name}.line", problem


def _both_problem(hook: Guardrail) -> Iterator[tuple[str, str]]:
    if hook.url is not None and hook.entry_point is not None:
        yield "url", "a hook is a webhook or a function; remove url or entry_point"


def _function_problems(hook: Guardrail) -> Iterator[tuple[str, str]]:
    if hook.entry_point is None:
        if hook.url is None:
            yield "url", "a hook that asks nobody; set url or entry_point, or remove the hook"
        return
    try:
        load(hook.entry_point)
    except EntryPointInvalid as error:
        yield "entry_point", str(error)


def _line_problem(line: str, path: Path | None) -> str:
    try:
        catalogue = Catalogue.load(*filter(None, (path,)))
    except CatalogueInvalid:
        return ""  # said of tier_c.catalogue
    if line not in catalogue:
        return f"the prompt {line!r} does not exist; write it in the file that tier_c.catalogue names"
    if not catalogue.is_constant(line):
        return f"the prompt {line!r} needs variables, and nobody could fill them in; name one without"
    return ""
