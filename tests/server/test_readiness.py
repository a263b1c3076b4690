"""What /readyz says in words: what is wrong with a part, and what to do."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator.config import Settings
from orchestrator.server.app import Orchestrator
from orchestrator.server.http import Part
from orchestrator.server.readiness import CERTIFICATE_S, REMEDIES, certificate, explained, voices
from orchestrator.server.tls import Certificate
from tests.certificates import make_pair
from tests.server.test_http import no_environment
from tiers.speech_pool import Load

__all__ = ["no_environment"]


def test_every_part_that_is_not_ready_has_a_remedy() -> None:
    service = Orchestrator(Settings())
    found = {part.name: part for part in service.readiness()}
    assert {"vad", "speech", "agent", "tier_a"} <= found.keys()
    for part in found.values():
        assert part.ready or (part.detail and part.remedy), part
        assert not (part.ready and part.remedy), part
    assert "OPENAI_API_KEY" in found["tier_a"].remedy


def test_a_part_nobody_knows_has_none() -> None:
    assert explained([Part("new", False, "broken")]) == [Part("new", False, "broken")]
    assert all(text and text[-1] not in ".;" for text in REMEDIES.values())


def test_a_certificate_is_told_of_before_it_ends(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    shown = Certificate(pair.certificate, pair.key)
    assert shown.expires_at > time.time()
    (fine,) = certificate(shown, shown.expires_at - CERTIFICATE_S - 60)
    (soon,) = certificate(shown, shown.expires_at - 60)
    (over,) = certificate(shown, shown.expires_at + 60)
    assert fine == Part("certificate", True, "", required=False)
    assert (soon.ready, soon.detail[:5]) == (False, "ends ")
    assert (over.ready, over.detail[:6]) == (False, "ended ")
    assert certificate(None, 0.0) == []


def test_a_voice_that_lets_wait_is_told() -> None:
    def speaking(wait_s: float) -> Any:
        load = Load(workers=1, busy=1, waiting=9, wait_s=wait_s, died=0, refused=3)
        return SimpleNamespace(loads={"kokoro": load})

    assert [part.ready for part in voices(speaking(0.5))] == [True]
    (late,) = voices(speaking(12.0))
    assert (late.ready, late.required) == (False, False)
    assert late.detail == "kokoro: a request waits 12.0 s, 9 before it"
