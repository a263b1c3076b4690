"""What /readyz says of parts that are not ready: what to do about it; and the parts that only it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.server.http import Part
from orchestrator.server.speaking import Speaking
from orchestrator.server.tls import Certificate

LONG_WAIT_S = 5.0
"""A voice that lets requests wait for longer is not ready for more."""
CERTIFICATE_S = 14 * 86_400.0
"""So long before its end a certificate is worth a word."""

_MODELS = "wait while it loads; if it stays, `orchestrator models fetch` gets the weights, and the log says what failed"
REMEDIES: Mapping[str, str] = {
    "vad": _MODELS,
    "bridges": "wait until they are rendered; if it stays, see `speech`: it says them",
    "transcription": _MODELS + "; or name a server with tier_b.stt_base_url",
    "speech": _MODELS + "; or name a server with tier_b.tts_base_url, or a cartesia.api_key",
    "agent": _MODELS + "; with tier_b.agent_model, look at its key, its price and its address",
    "tier_a": "set openai.api_key (OPENAI_API_KEY), or tier_a.enabled to false; /v1/status has the breakers",
    "store": "see whether Redis runs and redis.url is right; calls go on meanwhile, replicas do not hear of each other",
    "keys": "mend Redis or access.keys_path, or make one (`orchestrator keys create`); server.api_key always works",
    "token_keys": "see whether access.jwt_jwks_url answers from here; tokens of known keys still count",
    "tools": "correct what is named under [tools] or [mcp], and see whether the server of it runs",
    "voices": "more speech.workers, another speech endpoint, or fewer requests",
    "certificate": "renew it; the new files are taken over within a minute",
    "audit": "mend the store, or make room where audit.path is; entries wait in order and are written then",
}


def explained(parts: Iterable[Part]) -> list[Part]:
    """With what to do, for those that are not ready."""
    return [part if part.ready else replace(part, remedy=REMEDIES.get(part.name, "")) for part in parts]


def voices(speaking: Speaking | None) -> Sequence[Part]:
    """Whether the voices of this machine keep up, once there are any."""
    loads = {} if speaking is None else speaking.loads
    if not loads:
        return []
    late = [
        f"{rung}: a request waits {load.wait_s:.1f} s, {load.waiting} before it"
        for rung, load in sorted(loads.items())
        if load.wait_s > LONG_WAIT_S
    ]
    return [Part("voices", not late, "; ".join(late), required=False)]


def certificate(shown: Certificate | None, now: float) -> Sequence[Part]:
    """Whether the certificate holds for a while; `now` is Unix seconds."""
    if shown is None:
        return []
    ends = datetime.fromtimestamp(shown.expires_at, UTC).isoformat(" ", "minutes")[:-6]
    left = shown.expires_at - now
    detail = f"ended {ends} UTC" if left <= 0 else f"ends {ends} UTC"
    ready = left > CERTIFICATE_S
    return [Part("certificate", ready, "" if ready else detail, required=False)]
