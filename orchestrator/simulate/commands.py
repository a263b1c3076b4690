"""Builds each simulator from its command line options and serves it until SIGTERM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.simulate.fault_board import Catalogue, FaultBoard, parse_option
from orchestrator.simulate.serving import serve


def run_realtime(*, host: str, port: int, faults: tuple[str, ...], **options: Any) -> None:
    from orchestrator.simulate.ears import ToneEars
    from orchestrator.simulate.faults import ALL
    from orchestrator.simulate.realtime import RealtimeSimulator
    from orchestrator.simulate.session import Options

    speech, heard, answer_seconds = (options.pop(name) for name in ("speech", "heard", "answer_seconds"))
    spoken_orders = options.pop("answer_orders") == "spoken"
    brain = _brain(options.pop("rules"), options.pop("manners"), spoken_orders=spoken_orders)
    voice = _voice(speech, options.pop("voice"), answer_seconds)
    ears: Any = ToneEars(heard) if speech == "tone" else _model_ears()
    simulator = RealtimeSimulator(Options(ears, voice, brain, **options), _board(faults, ALL))
    serve(simulator.app, "realtime", host, port, decide=simulator.decide)


def run_cartesia(*, host: str, port: int, faults: tuple[str, ...], **options: Any) -> None:
    from orchestrator.simulate.cartesia import CartesiaSimulator, Options
    from orchestrator.simulate.cartesia_faults import CATALOGUE

    voice = _voice(options.pop("speech"), options.pop("voice"), None)
    simulator = CartesiaSimulator(Options(voice, **options), _board(faults, CATALOGUE))
    serve(simulator.app, "cartesia", host, port, decide=simulator.decide)


def run_llm(*, host: str, port: int, faults: tuple[str, ...], **options: Any) -> None:
    from orchestrator.simulate.http_faults import CATALOGUE
    from orchestrator.simulate.llm import LlmSimulator, Options

    brain = _brain(options.pop("rules"), options.pop("manners"))
    simulator = LlmSimulator(Options(brain, **options), _board(faults, CATALOGUE))
    serve(simulator.app, "llm", host, port)


def run_speech(
    *,
    host: str,
    port: int,
    faults: tuple[str, ...],
    transcript: tuple[str, ...],
    script: str | None,
    **options: Any,
) -> None:
    from orchestrator.simulate.http_faults import CATALOGUE
    from orchestrator.simulate.speech import Options, SpeechSimulator

    lines = transcript + tuple(Path(script).read_text().splitlines() if script else ())
    if lines:
        options["transcripts"] = tuple(line for line in lines if line.strip())
    simulator = SpeechSimulator(Options(**options), _board(faults, CATALOGUE))
    serve(simulator.app, "speech", host, port)


def run_tools(*, host: str, port: int, faults: tuple[str, ...], **options: Any) -> None:
    from orchestrator.simulate.business import BusinessSimulator, Options
    from orchestrator.simulate.business_faults import CATALOGUE
    from orchestrator.simulate.webhook_signature import secret_bytes

    try:
        secret_bytes(options["secret"] or "")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--secret") from error
    simulator = BusinessSimulator(Options(**options), _board(faults, CATALOGUE))
    serve(simulator.app, "tools", host, port)


def catalogues() -> dict[str, Catalogue]:
    """The faults of each simulator."""
    from orchestrator.simulate import business_faults, cartesia_faults, faults, http_faults

    http = http_faults.CATALOGUE
    return {
        "realtime": faults.ALL,
        "cartesia": cartesia_faults.CATALOGUE,
        "llm": http,
        "speech": http,
        "tools": business_faults.CATALOGUE,
    }


def _board(faults: tuple[str, ...], catalogue: Catalogue) -> FaultBoard:
    board = FaultBoard()
    for text in faults:
        try:
            board.arm(parse_option(text, catalogue))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--fault") from error
    return board


def _brain(rules: str | None, manners: str, *, spoken_orders: bool = False) -> Any:
    from orchestrator.simulate.brain import Brain, Manners, load_rules

    try:
        known = load_rules(Path(rules)) if rules else None
        return Brain(known, spoken_orders=spoken_orders, manners=Manners(manners))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--rules") from error


def _voice(speech: str, voice: str, answer_seconds: float | None) -> Any:
    if speech == "tone":
        from orchestrator.simulate.voices import ToneVoice

        return ToneVoice(answer_seconds)
    from orchestrator.models import ModelMissing
    from orchestrator.simulate.real_speech import KokoroVoice

    try:
        return KokoroVoice(voice)
    except ModelMissing as error:
        raise click.ClickException(str(error)) from error


def _model_ears() -> Any:
    from orchestrator.models import ModelMissing
    from orchestrator.simulate.real_speech import ModelEars

    try:
        return ModelEars()
    except ModelMissing as error:
        raise click.ClickException(str(error)) from error
