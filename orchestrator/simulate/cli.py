"""`orchestrator simulate …`: stand-ins for the providers, each a process of its own."""

from __future__ import annotations

from typing import Any

import click

PORT = click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")


@click.group()
def simulate() -> None:
    """Run a simulated provider: a real server that misbehaves on command.

    Each command prints one line with its address when it is ready, and ends cleanly on SIGTERM.
    See docs/simulators.md for what each one is and is not.
    """


@simulate.command()
@HOST
@PORT
@click.option(
    "--speech",
    type=click.Choice(["kokoro", "tone"]),
    default="tone",
    show_default=True,
    help="kokoro: hears with Whisper and speaks with Kokoro. tone: needs no models.",
)
@click.option(
    "--voice", default="am_michael", show_default=True, help="kokoro: the Kokoro voice to speak in."
)
@click.option(
    "--pace", default=4.0, show_default=True, help="Audio is sent this many times faster than it plays."
)
@click.option(
    "--first-audio-ms", default=300, show_default=True, help="From the end of a turn to first audio."
)
@click.option("--answer-seconds", default=4.0, show_default=True, help="How long a tone answer is.")
@click.option(
    "--answer-orders",
    type=click.Choice(["tool", "spoken"]),
    default="tool",
    show_default=True,
    help="Answer questions about orders with the session's tool, or with a long spoken answer.",
)
@click.option(
    "--heard", multiple=True, help="tone: the words of the caller's turns, in order, over and over."
)
@click.option(
    "--rules", type=click.Path(exists=True, dir_okay=False), help="A TOML file of what to say when."
)
@click.option("--session-limit", default=3600.0, show_default=True, help="Seconds until a session expires.")
@click.option("--api-key", help="The only bearer that is taken; any one is when this is not set.")
@click.option(
    "--model", "models", multiple=True, help="A model that exists; every one does when this is not set."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT[@MOMENT][+AFTER_MS][*COUNT]",
    help="Arm a fault from the start, such as abort@mid_answer+800*1.",
)
def realtime(**options: Any) -> None:
    """An OpenAI Realtime server (GA protocol) at /v1/realtime.

    Faults are commanded with POST /control/faults, such as {"fault": "abort", "moment": "mid_answer",
    "after_ms": 800, "count": 1}; GET /control/state shows what every session received.
    """
    from orchestrator.simulate.realtime_cli import run

    run(**options)


if __name__ == "__main__":
    simulate()
