"""`orchestrator prompts`: look a catalogue over, and have its prompts spoken before anybody asks for them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cache import FORMS
from orchestrator.asking import config_option, settings_or_end
from orchestrator.config import Settings
from tiers.prompts.linting import Finding, Severity, lint
from tiers.prompts.prompts import Prompts, Warmed

SHOWN = 5
"""Names that are told of those that failed for one reason."""
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


@click.group()
def prompts() -> None:
    """Check the catalogue of fixed prompts; have them spoken ahead."""


@prompts.command(
    short_help="Find what is wrong with a catalogue.",
    epilog="""\b
Examples:
  orchestrator prompts check                           the catalogue of the settings
  orchestrator prompts check prompts.yaml --language de --strict
  orchestrator prompts check prompts.yaml --json | jq '.findings[] | select(.severity == "error")'
""",
)
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--language", "languages", multiple=True, help="A language that callers speak; may be repeated."
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@config_option
def check(
    files: tuple[Path, ...], languages: tuple[str, ...], strict: bool, as_json: bool, config: Path | None
) -> None:
    """Say what is wrong with the prompts in FILES, or in the file that the settings name, over the built-in ones.

    Errors keep the catalogue from being used and end the command with status 1: unknown variables, missing wordings,
    wrong types. Warnings are for what a caller would hear wrong: text that is no speech, languages that are missing,
    variables without bounds.
    """
    if not files:
        settings = settings_or_end(config)
        files = (settings.tier_c.catalogue,) if settings.tier_c.catalogue else ()
        languages = languages or settings.tier_c.bridge_languages
    found = lint(*files, languages=languages)
    if as_json:
        told = [{"severity": f.severity.value, "where": f.where, "message": f.message} for f in found]
        click.echo(json.dumps({"findings": told}, indent=2))
    else:
        _show(found)
    bad = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
    sys.exit(any(finding.severity in bad for finding in found))


@prompts.command(
    short_help="Speak prompts ahead, into the cache.",
    epilog="""\b
Examples:
  orchestrator prompts warm                            what the server needs, in its default voice
  orchestrator prompts warm --voice marin --voice cedar --format pcmu --format mp3
""",
)
@click.option(
    "--voice", "voices", multiple=True, help="A voice; may be repeated. By default the server's own."
)
@click.option(
    "--format",
    "forms",
    multiple=True,
    type=click.Choice(list(FORMS)),
    help="A form in which fixed prompts are kept ready as well; may be repeated.",
)
@click.option("--language", "languages", multiple=True, help="By default all that prompts are written in.")
@config_option
def warm(
    voices: tuple[str, ...], forms: tuple[str, ...], languages: tuple[str, ...], config: Path | None
) -> None:
    """Render bridges, fixed prompts, and the pieces of stitched prompts into the cache that the server uses.

    What is there already is not rendered again, so that a run that was cut short goes on where it was. Where one of
    them cannot be said, the others are; the command ends with status 1 then.
    """
    try:
        warmed = asyncio.run(_warm(settings_or_end(config), voices, forms, languages))
    except KeyboardInterrupt:
        raise click.ClickException("stopped; what was rendered is kept, run it again to go on") from None
    click.echo(f"{warmed.ready} clips are ready ({warmed.rendered} are new), {len(warmed.failed)} are not.")
    for why in dict.fromkeys(warmed.failed.values()):
        names = [name for name, reason in warmed.failed.items() if reason == why]
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        click.echo(f"{'; '.join(names[:SHOWN])}{more}: {why}", err=True)
    sys.exit(bool(warmed.failed))


async def _warm(
    settings: Settings, voices: tuple[str, ...], forms: tuple[str, ...], languages: tuple[str, ...]
) -> Warmed:
    # Imported here: it brings engines that `check` does not need.
    from orchestrator.server.engines import prompts_to_warm

    speaker, close = prompts_to_warm(settings)
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    try:
        with shown:
            fixed = shown.add_task("Fixed prompts", total=None)
            wanted = languages or tuple(_languages(speaker))
            warmed = await speaker.warm_fixed(
                [FORMS[form] for form in forms], _told(shown, fixed), voices=voices, languages=wanted
            )
            pieces = shown.add_task("Pieces of stitched prompts", total=None)
            warmed.add(await speaker.warm_pieces(_told(shown, pieces), voices=voices, languages=wanted))
    finally:
        await speaker.cache.aclose()
        close()
    return warmed


def _told(shown: Progress, task: object) -> Callable[[int, int, str], None]:
    def tell(done: int, total: int, name: str) -> None:
        shown.update(task, completed=done, total=total)  # type: ignore[arg-type]

    return tell


def _languages(speaker: Prompts) -> list[str]:
    catalogue = speaker.catalogue
    return sorted({language for name in catalogue for language in catalogue[name].text})


def _show(found: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in found:
        console.print(str(finding), style=_COLOURS[finding.severity], markup=False)
    counts = {severity: sum(finding.severity is severity for finding in found) for severity in Severity}
    told = (f"{count} {severity.value}{'' if count == 1 else 's'}" for severity, count in counts.items())
    console.print(", ".join(told))
