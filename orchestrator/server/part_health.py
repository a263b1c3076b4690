"""The health of the rungs of Tier B's parts, as the fleet knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from orchestrator.config import Settings, is_loopback
from orchestrator.core.health import Cause
from orchestrator.pricing import SELF_HOSTED, STT_ENDPOINT, TTS_ENDPOINT
from orchestrator.server.fleet import Fleet
from tiers.pipeline.errors import Cause as PartCause

_CAUSES: Mapping[PartCause, Cause] = {
    PartCause.TIMEOUT: Cause.RESPONSE_TIMEOUT,
    PartCause.UNAVAILABLE: Cause.RESPONSE_FAILED,
    PartCause.RATE_LIMITED: Cause.RATE_LIMITED,
    PartCause.REFUSED: Cause.BAD_KEY,
    PartCause.EMPTY: Cause.EMPTY_RESPONSE,
    PartCause.MALFORMED: Cause.MALFORMED,
    PartCause.MISSING: Cause.MODEL_NOT_FOUND,
}
"""What is not here says nothing of the rung: it did not like the request."""


def local_rungs(settings: Settings) -> frozenset[str]:
    """Rungs of Tier B's parts that run on this machine: our own engines, and servers at its loopback address."""
    tier_b = settings.tier_b
    servers = {
        STT_ENDPOINT: tier_b.stt_base_url,
        TTS_ENDPOINT: tier_b.tts_base_url,
        tier_b.agent_model: tier_b.agent_base_url,
    }
    beside = [name for name, url in servers.items() if url and is_loopback(urlsplit(url).hostname or "")]
    return frozenset({*SELF_HOSTED, *filter(None, beside)})


class PartHealth:
    """`RungHealth` of one part, "stt", "agent" or "tts". Its rungs stand in the status as ``stt:faster-whisper``.

    What a service of others does is shared with all replicas, what an engine of this machine does is not.
    """

    def __init__(self, fleet: Fleet, settings: Settings, part: str, rungs: Sequence[str]) -> None:
        self._fleet, self._part = fleet, part
        local = local_rungs(settings)
        for rung in rungs:
            fleet.add_part(self._name(rung), local=rung in local)

    def _name(self, rung: str) -> str:
        return f"{self._part}:{rung}"

    def usable(self, rung: str) -> bool:
        return self._fleet.admits_part(self._name(rung))

    def failed(self, rung: str, cause: PartCause) -> None:
        if cause in _CAUSES:
            self._fleet.failed(self._name(rung), _CAUSES[cause])

    def worked(self, rung: str) -> None:
        self._fleet.part_worked(self._name(rung))
