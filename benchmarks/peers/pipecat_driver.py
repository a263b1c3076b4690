"""A Pipecat pipeline behind a socket, as its guide puts one together: Silero, Whisper, a text model, a voice.

Runs in an environment of its own (benchmarks/peers/pipecat.lock), so it imports nothing of this repository. It speaks
as much of the Realtime protocol as carries a caller's audio (``session.created``, ``input_audio_buffer.append``,
``response.output_audio.delta``), so that the same caller talks to it as to the orchestrator. The steps of a turn go
over the same socket as ``{"type": "step", "step": "transcript", "at": 12.3}``, in seconds of the monotonic clock, which
all processes of a machine share; the end of a turn is also ``input_audio_buffer.speech_stopped``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from base64 import b64decode, b64encode
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from loguru import logger
from pipecat.audio.utils import create_stream_resampler
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.services.cartesia.tts import CartesiaTTSService
from pipecat.services.kokoro.tts import KokoroTTSService
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.transports.websocket.server import (
    SingleClientWebsocketServerParams,
    SingleClientWebsocketServerTransport,
)
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from websockets.exceptions import ConnectionClosed

WIRE_RATE, HEAR_RATE, SPEAK_RATE = 24_000, 16_000, 24_000
INSTRUCTIONS = "You are a friendly assistant on the phone. Answer in one or two short sentences."
SPEECH_TIMEOUT_S = 0.3
"""After the 0.2 s of silence that its voice activity detection takes by default: 0.5 s in all."""
STEPS: dict[type[Frame], str] = {
    VADUserStoppedSpeakingFrame: "silence",
    UserStoppedSpeakingFrame: "turn_over",
    TranscriptionFrame: "transcript",
    LLMTextFrame: "agent",
    TTSAudioRawFrame: "speech",
}


class Wire(FrameSerializer):
    """The caller's audio in, the agent's audio out."""

    def __init__(self) -> None:
        super().__init__()
        self._resampler = create_stream_resampler()

    async def serialize(self, frame: Frame) -> str | None:
        if not isinstance(frame, OutputAudioRawFrame):
            return None
        delta = b64encode(frame.audio).decode()
        return json.dumps({"type": "response.output_audio.delta", "item_id": "answer", "delta": delta})

    async def deserialize(self, data: str | bytes) -> Frame | None:
        event = json.loads(data)
        if event["type"] != "input_audio_buffer.append":
            return None
        audio = await self._resampler.resample(b64decode(event["audio"]), WIRE_RATE, HEAR_RATE)
        return InputAudioRawFrame(audio=audio, sample_rate=HEAR_RATE, num_channels=1) if audio else None


class Steps(BaseObserver):
    """Tells the client when the steps of a turn are reached: a frame is told of once, wherever it passes."""

    def __init__(self) -> None:
        super().__init__()
        self.client: Any = None
        self._last: dict[str, int] = {}

    async def on_push_frame(self, data: FramePushed) -> None:
        step, at = STEPS.get(type(data.frame)), time.monotonic()
        if step is None or self._last.get(step) == data.frame.id:
            return
        self._last[step] = data.frame.id
        text = data.frame.text if isinstance(data.frame, TranscriptionFrame) else ""
        await self._send({"type": "step", "step": step, "at": at, "text": text})
        if step == "turn_over":
            await self._send({"type": "input_audio_buffer.speech_stopped"})

    async def _send(self, event: dict[str, Any]) -> None:
        if self.client is not None:
            with suppress(ConnectionClosed):
                await self.client.send(json.dumps(event))


def speech(options: argparse.Namespace) -> Any:
    if options.tts == "kokoro":
        settings = KokoroTTSService.Settings(voice=options.voice)
        return KokoroTTSService(
            model_path=options.kokoro_model, voices_path=options.kokoro_voices, settings=settings
        )
    # It sends its key as Cartesia's older header, which the simulated server does not look at.
    return CartesiaTTSService(
        api_key="benchmark",
        extra_headers={"Authorization": "Bearer benchmark"},
        url=f"{options.cartesia.replace('http', 'ws', 1)}/tts/websocket",
        settings=CartesiaTTSService.Settings(voice=options.cartesia_voice, model=options.cartesia_model),
    )


def strategies(turns: str) -> UserTurnStrategies:
    """`silence`: half a second of it ends a turn. `smart`: the model that Pipecat uses where nothing is set."""
    if turns == "smart":
        return UserTurnStrategies()
    return UserTurnStrategies(stop=[SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=SPEECH_TIMEOUT_S)])


def pipeline(options: argparse.Namespace) -> PipelineWorker:
    params = SingleClientWebsocketServerParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=Wire()
    )
    transport = SingleClientWebsocketServerTransport(params, host="127.0.0.1", port=options.port)
    context, steps = LLMContext(), Steps()
    aggregators = LLMContextAggregatorPair(
        context,
        user_params=LLMUserAggregatorParams(
            vad_analyzer=SileroVADAnalyzer(), user_turn_strategies=strategies(options.turns)
        ),
    )
    stt = WhisperSTTService(
        device="cpu", compute_type="int8", settings=WhisperSTTService.Settings(model=options.whisper)
    )
    llm = OpenAILLMService(
        api_key="benchmark",
        base_url=f"{options.llm}/v1",
        settings=OpenAILLMService.Settings(model="simulated", system_instruction=INSTRUCTIONS),
    )

    @transport.event_handler("on_client_connected")
    async def connected(_: Any, client: Any) -> None:
        """A call begins with nothing said."""
        context.set_messages([])
        steps.client = client
        await client.send(json.dumps({"type": "session.created", "session": {}}))

    @transport.event_handler("on_websocket_ready")
    async def ready(_: Any) -> None:
        print(f"pipecat-ai {version('pipecat-ai')}: ready on http://127.0.0.1:{options.port}", flush=True)

    parts = [
        transport.input(),
        stt,
        aggregators.user(),
        llm,
        speech(options),
        transport.output(),
        aggregators.assistant(),
    ]
    return PipelineWorker(
        Pipeline(parts),
        params=PipelineParams(audio_in_sample_rate=HEAR_RATE, audio_out_sample_rate=SPEAK_RATE),
        observers=[steps],
        idle_timeout_secs=None,
    )


async def serve(options: argparse.Namespace) -> None:
    runner = WorkerRunner(handle_sigterm=True)
    await runner.add_workers(pipeline(options))
    await runner.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tts", choices=["kokoro", "cartesia"], required=True)
    parser.add_argument("--turns", choices=["silence", "smart"], default="silence")
    parser.add_argument("--voice", default="af_heart")
    for name in (
        "whisper",
        "kokoro-model",
        "kokoro-voices",
        "llm",
        "cartesia",
        "cartesia-voice",
        "cartesia-model",
    ):
        parser.add_argument(f"--{name}", default="")
    logger.remove()
    logger.add(sys.stderr, level="INFO")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
