"""Settings of who may come in: what has to fit together, and what is said where it does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import WELL_KNOWN, SettingsError, load_settings
from tests.certificates import make_pair

ISSUER = {"access__jwt_issuer": "https://id.example", "access__jwt_audience": ("voice",)}
KEYS = {"access__jwt_jwks_url": "https://id.example/keys"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


def problem_with(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value)


def test_another_address_wants_something_to_be_presented(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    wide: dict[str, Any] = {"server__host": "0.0.0.0", "access__keys_path": path}
    said = problem_with(**wide)
    assert said.startswith("server.host (--host): anybody who reaches this address could use it")
    assert "`orchestrator keys create`" in said
    assert "ORCHESTRATOR_API_KEY" in said
    for enough in (
        {"server__api_key": "k"},
        {"redis__url": "redis://127.0.0.1:9/0"},
        {**ISSUER, **KEYS},
    ):
        assert load_settings(**wide, **enough).server.host == "0.0.0.0"
    path.write_text("{}")
    assert load_settings(**wide).server.host == "0.0.0.0"


def test_behind_a_proxy_something_has_to_be_presented_too(tmp_path: Path) -> None:
    behind: dict[str, Any] = {
        "access__trusted_proxies": ("127.0.0.1",),
        "access__keys_path": tmp_path / "keys.json",
    }
    assert problem_with(**behind).startswith("access.trusted_proxies (--trusted-proxies): whoever reaches")
    assert load_settings(**behind, server__api_key="k").access.trusted_proxies == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("overrides", "setting", "says"),
    [
        ({"access__trusted_proxies": ("proxy.local",)}, "access.trusted_proxies", "10.0.0.0/8"),
        ({"access__jwt_algorithms": ("HS256",)}, "access.jwt_algorithms", "got HS256"),
        ({"access__jwt_algorithms": ("RS256", "none")}, "access.jwt_algorithms", "got none"),
        ({"access__jwt_algorithms": ()}, "access.jwt_algorithms", "one or more of RS256"),
        ({"access__jwt_scopes": {"x": "admin"}}, "access.jwt_scopes.x", "'service', 'operator' or 'metrics'"),
        ({"access__key_calls_per_minute": 0}, "access.key_calls_per_minute", "greater than 0"),
        (KEYS, "access.jwt_jwks_url", "set access.jwt_issuer too"),
        ({"access__jwt_issuer": "i", **KEYS}, "access.jwt_issuer", "set access.jwt_audience"),
        (ISSUER, "access.jwt_issuer", "set one of access.jwt_jwks_url and access.jwt_key_path"),
        (
            {**ISSUER, **KEYS, "access__jwt_key_path": Path("k.pem")},
            "access.jwt_issuer",
            "set one of access.jwt_jwks_url and access.jwt_key_path",
        ),
        ({**ISSUER, "access__jwt_jwks_url": "http://id.example/k"}, "access.jwt_jwks_url", "use https://"),
        ({**ISSUER, "access__jwt_key_path": Path("absent.pem")}, "access.jwt_key_path", "No such file"),
        ({"server__tls_key": Path("k.pem")}, "server.tls_key", "set server.tls_certificate too"),
        ({"server__tls_certificate": Path("c.pem")}, "server.tls_certificate", "set server.tls_key too"),
        (
            {"server__tls_certificate": Path("c.pem"), "server__tls_key": Path("k.pem")},
            "server.tls_certificate",
            "cannot read c.pem: No such file",
        ),
    ],
)
def test_what_cannot_work_says_what_to_do(overrides: dict[str, Any], setting: str, says: str) -> None:
    said = problem_with(**overrides)
    assert said.startswith(f"{setting} (")
    assert says in said


def test_key_sets_on_this_machine_need_no_tls() -> None:
    url = "http://127.0.0.1:9/keys"
    assert load_settings(**ISSUER, access__jwt_jwks_url=url).access.jwt_jwks_url == url


def test_files_of_keys_are_looked_into(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pair, other = make_pair(tmp_path), make_pair(tmp_path / "other")
    tls: dict[str, Any] = {"server__tls_certificate": pair.certificate}
    assert load_settings(**tls, server__tls_key=pair.key).server.tls_key == pair.key
    for wrong in (other.key, pair.public, pair.certificate):
        assert "do not make a pair" in problem_with(**tls, server__tls_key=wrong)
    assert load_settings(**ISSUER, access__jwt_key_path=pair.public).access.jwt_key_path == pair.public
    said = problem_with(**ISSUER, access__jwt_key_path=pair.key)
    assert "it holds a private key; put the public one there" in said
    secret = pair.key.read_text().splitlines()[1]
    assert secret not in said
