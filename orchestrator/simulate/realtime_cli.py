"""Builds a realtime simulator from command line options and serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.simulate.brain import Brain, load_rules
from orchestrator.simulate.ears import Ears, ToneEars
from orchestrator.simulate.faults import FaultBoard, parse_fault_option
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.serving import serve
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice, Voice


def run(*, host: str, port: int, faults: tuple[str, ...], rules: str | None, **options: Any) -> None:
    """Serve until SIGTERM."""
    board = FaultBoard()
    try:
        for text in faults:
            board.arm(parse_fault_option(text))
        brain = Brain(
            load_rules(Path(rules)) if rules else None, spoken_orders=options["answer_orders"] == "spoken"
        )
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    ears, voice = _speech(options)
    settings = Options(
        ears,
        voice,
        brain,
        first_audio_ms=options["first_audio_ms"],
        pace=options["pace"],
        session_limit=options["session_limit"],
        api_key=options["api_key"],
        models=options["models"],
    )
    simulator = RealtimeSimulator(settings, board)
    serve(simulator.app, "realtime", host, port, decide=simulator.decide)


def _speech(options: dict[str, Any]) -> tuple[Ears, Voice]:
    if options["speech"] == "tone":
        return ToneEars(options["heard"]), ToneVoice(options["answer_seconds"])
    from orchestrator.models import ModelMissing
    from orchestrator.simulate.real_speech import KokoroVoice, ModelEars

    try:
        return ModelEars(), KokoroVoice(options["voice"])
    except ModelMissing as error:
        raise click.ClickException(str(error)) from error
