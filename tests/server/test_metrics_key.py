"""`access.metrics_key`: figures while Redis is away from the beginning, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from orchestrator.config import Settings
from orchestrator.server.auth import Auth, Refusal
from orchestrator.server.identity import LOCAL, METRICS, ROOT, Identity
from tests import planted
from tests.server.test_door import no_environment, serving

__all__ = ["no_environment"]

SHOWN, ELSE = planted.METRICS, planted.STRANGER


def asked(auth: Auth, presented: str | None, peer: str = "203.0.113.9") -> Identity | Refusal:
    return auth.identify({"authorization": f"Bearer {presented}"} if presented else {}, peer)


async def test_figures_can_be_read_at_a_replica_that_was_started_without_redis(tmp_path: Path) -> None:
    away = {"url": f"unix://{tmp_path}/nobody.sock"}
    async with serving(redis=away, access={"metrics_key": SHOWN}) as served:
        bearer = {"authorization": f"Bearer {SHOWN}"}
        text = (await served.http.get("/metrics", headers=bearer)).text
        assert 'orchestrator_part_ready{part="keys",required="true"} 0.0' in text
        assert SHOWN not in text
        assert await served.ask(**bearer) == (403, "scope_missing")
        assert (await served.knock(**bearer))[:2] == (403, "scope_missing")
        for path in ("/v1/overrides", "/v1/events", "/v1/audit", "/v1/calls"):
            assert (await served.http.get(path, headers=bearer)).status_code == 403, path
        other = await served.http.get("/metrics", headers={"authorization": f"Bearer {ELSE}"})
        assert other.json()["error"]["code"] == "invalid_api_key"
        assert (await served.http.get("/metrics")).status_code >= 400


def test_it_is_never_asked_for_and_opens_nothing_that_was_closed() -> None:
    alone = Auth(None, metrics_key=SecretStr(SHOWN))
    assert asked(alone, None, "127.0.0.1") is LOCAL
    assert isinstance(asked(alone, SHOWN), Refusal), "from elsewhere, where nobody else is let in"
    public = Auth(None, metrics_key=SecretStr(SHOWN), public=True)
    assert asked(public, SHOWN) is METRICS
    assert public.bolted, "no call can come in by it"
    both = Auth(SecretStr(ELSE), metrics_key=SecretStr(SHOWN))
    assert (asked(both, ELSE), asked(both, SHOWN)) == (ROOT, METRICS)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"access": {"metrics_key": "short"}}, "expected at least 16 characters"),
        ({"access": {"metrics_key": SHOWN}, "server": {"api_key": SHOWN}}, "set another one"),
    ],
)
def test_one_that_would_not_do_is_refused_and_not_shown(sections: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate(sections)
    assert said in str(raised.value)
    assert SHOWN not in repr(Settings.model_validate({"access": {"metrics_key": SHOWN}}))
