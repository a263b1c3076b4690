"""`orchestrator simulate …`: stand-ins for the providers, each a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
PORT = click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
FAULT = click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT[@MOMENT][+AFTER_MS][*COUNT]",
    help="Arm a fault from the start, such as abort@mid_answer+800*1; without a count it stays armed.",
)
API_KEY = click.option("--api-key", help="The only bearer that is taken; any one is when this is not set.")
MODELS = click.option(
    "--model", "models", multiple=True, help="A model that exists; every one does when this is not set."
)
PACE = click.option(
    "--pace",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Audio is sent this many times faster than it plays.",
)
RULES = click.option(
    "--rules", type=click.Path(exists=True, dir_okay=False), help="A TOML file of what to say when."
)

MANNERS = click.option(
    "--manners",
    type=click.Choice(["well", "eager", "paraphrase", "misread", "injected", "forgetful"]),
    default="well",
    show_default=True,
    help="How the model deals with tools that change something. eager: calls again without a yes. paraphrase, "
    "misread: reads back in its own words, or a wrong value. injected: obeys what a tool's result says. "
    "forgetful: says that it is done, and calls nothing.",
)

Command = Callable[..., Any]


def speech_options(default_voice: str) -> Callable[[Command], Command]:
    """`--speech` and `--voice`."""
    speech = click.option(
        "--speech",
        type=click.Choice(["kokoro", "tone"]),
        default="tone",
        show_default=True,
        help="kokoro: real speech, with models. tone: a modulated tone, no models.",
    )
    voice = click.option(
        "--voice", default=default_voice, show_default=True, help="kokoro: the Kokoro voice to speak in."
    )
    return lambda command: speech(voice(command))


@click.group(
    epilog="""\b
Examples:
  orchestrator simulate realtime --port 9000
  orchestrator simulate realtime --port 9000 --fault abort@mid_answer+800
  OPENAI_BASE_URL=http://127.0.0.1:9000/v1 OPENAI_API_KEY=any orchestrator serve
  orchestrator simulate cartesia --port 9001
  orchestrator simulate llm --port 9002
  orchestrator simulate speech --port 9003
  orchestrator simulate tools --port 9004
  orchestrator simulate faults                      what each can do wrong, and when
"""
)
def simulate() -> None:
    """Run a simulated provider: a real server that misbehaves on command.

    Each command prints one line with its address when it is ready, and ends cleanly on SIGTERM. Faults are
    commanded over HTTP on the same port: POST and DELETE /control/faults, GET /control/state.
    docs/simulators.md tells what each one is and is not.
    """


@simulate.command()
@HOST
@PORT
@speech_options("am_michael")
@PACE
@click.option(
    "--first-audio-ms",
    default=300,
    show_default=True,
    help="From the end of a turn to first audio, at least.",
)
@click.option("--answer-seconds", default=4.0, show_default=True, help="tone: how long every answer is.")
@click.option(
    "--prepare",
    multiple=True,
    metavar="SENTENCE",
    help='kokoro: have this ready from the start, such as "Let me look up order 4 1 7 2 for you."',
)
@click.option(
    "--answer-orders",
    type=click.Choice(["tool", "spoken"]),
    default="tool",
    show_default=True,
    help="Answer questions about orders with the session's tool, or with a long spoken answer.",
)
@click.option("--heard", multiple=True, help="tone: what the caller's turns say, in order, over and over.")
@RULES
@MANNERS
@click.option("--session-limit", default=3600.0, show_default=True, help="Seconds until a session expires.")
@API_KEY
@MODELS
@FAULT
def realtime(**options: Any) -> None:
    """An OpenAI Realtime server (GA protocol) at /v1/realtime.

    Command a fault: curl -X POST ADDRESS/control/faults
    -d '{"fault": "abort", "moment": "mid_answer", "after_ms": 800, "count": 1}'
    """
    from orchestrator.simulate.commands import run_realtime

    run_realtime(**options)


@simulate.command()
@HOST
@PORT
@speech_options("af_bella")
@PACE
@click.option(
    "--first-audio-ms", default=90, show_default=True, help="From a text to its first audio, at least."
)
@click.option("--concurrency", type=click.IntRange(1), help="Contexts active at once; no limit when not set.")
@click.option(
    "--idle-seconds", default=300.0, show_default=True, help="An idle socket is closed after so long."
)
@API_KEY
@FAULT
def cartesia(**options: Any) -> None:
    """A Cartesia text-to-speech server: /tts/websocket, /tts/bytes, /tts/sse."""
    from orchestrator.simulate.commands import run_cartesia

    run_cartesia(**options)


@simulate.command()
@HOST
@PORT
@click.option("--first-token-ms", default=150, show_default=True, help="From a request to its first token.")
@click.option(
    "--tokens-per-second",
    default=100.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="After the first.",
)
@RULES
@MANNERS
@API_KEY
@MODELS
@FAULT
def llm(**options: Any) -> None:
    """An OpenAI-compatible text model: /v1/chat/completions, /v1/models."""
    from orchestrator.simulate.commands import run_llm

    run_llm(**options)


@simulate.command()
@HOST
@PORT
@click.option("--stt-ms", default=300, show_default=True, help="From a request to its transcript.")
@click.option("--tts-ms", default=200, show_default=True, help="From a request to its first audio.")
@click.option("--rtf", default=0.3, show_default=True, help="Seconds of work for a second of speech.")
@click.option(
    "--tempo",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="How many times shorter its speech is than a person's would be.",
)
@click.option("--slots", type=click.IntRange(1), help="Requests worked on at once; the others wait in line.")
@click.option("--transcript", multiple=True, help="What is heard, in order, over and over.")
@click.option(
    "--script", type=click.Path(exists=True, dir_okay=False), help="A file with one transcript a line."
)
@API_KEY
@FAULT
def speech(**options: Any) -> None:
    """A self-hosted speech server: /v1/audio/transcriptions, /v1/audio/speech. It stands in: it does not hear."""
    from orchestrator.simulate.commands import run_speech

    run_speech(**options)


@simulate.command()
@HOST
@PORT
@click.option(
    "--secret",
    help="Requests must carry a Standard Webhooks signature made with this; unsigned ones are taken when not set.",
)
@click.option(
    "--honour-keys/--ignore-keys",
    default=True,
    show_default=True,
    help="Whether a repetition with the same idempotency key gets the first answer, or runs again.",
)
@click.option("--work-ms", default=50, show_default=True, help="How long a tool takes.")
@FAULT
def tools(**options: Any) -> None:
    """A calling service's backend: a webhook for each tool at /tools/NAME, and the log of what ran."""
    from orchestrator.simulate.commands import run_tools

    run_tools(**options)


@simulate.command()
def faults() -> None:
    """List every fault of every simulator, with the moments it may strike at (the first is its default)."""
    from orchestrator.simulate.commands import catalogues

    for name, catalogue in catalogues().items():
        click.echo(f"{name}:")
        for fault, kind in catalogue.items():
            click.echo(f"  {fault:<22}{kind.help}")
            click.echo(f"  {'':<22}at {', '.join(kind.moments)}")


if __name__ == "__main__":
    simulate()
