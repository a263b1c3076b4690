"""`orchestrator keys`: on the file and on a real Redis, for people and for programs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.server import keys as server_keys
from tests import planted
from tests.server.test_store import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("keys"))
    yield server
    server.stop()


@pytest.fixture(params=["file", "redis"])
def env(request: pytest.FixtureRequest, redis: RedisServer, tmp_path: Path) -> dict[str, str | None]:
    without = dict.fromkeys(("OPENAI_API_KEY", "REDIS_URL", "ORCHESTRATOR_API_KEY", "ORCHESTRATOR_CONFIG"))
    if request.param == "file":
        return {**without, "ORCHESTRATOR_ACCESS__KEYS_PATH": str(tmp_path / "keys.json")}
    redis.stop()
    redis.start()  # it keeps nothing
    return {**without, "REDIS_URL": redis.url}


class Operator:
    def __init__(self, env: dict[str, str | None]) -> None:
        self._env = env

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["keys", *arguments], env=self._env)

    def told(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def operator(env: dict[str, str | None]) -> Operator:
    return Operator(env)


def test_a_key_is_shown_once_and_listed_without_its_secret(operator: Operator) -> None:
    assert "Make one with: orchestrator keys create" in operator.run("list").output
    done = operator.run("create", "--name", "shop", "--scope", "service", "--scope", "metrics")
    assert done.exit_code == 0, done.output
    shown = re.search(r"^  vo_([0-9a-f]{8})_(\S{43})$", done.output, re.MULTILINE)
    assert shown
    assert "with the scopes service, metrics" in done.output
    listed = operator.run("list").output
    assert shown[1] in listed
    assert "shop" in listed
    assert "active" in listed
    (key,) = operator.told("list")["keys"]
    assert (key["id"], key["name"], key["scopes"], key["state"]) == (
        shown[1],
        "shop",
        ["service", "metrics"],
        "active",
    )
    assert shown[2] not in listed + json.dumps(key)
    assert not {"digest", "old_digest", "key"} & key.keys()


def test_for_programs_the_key_is_a_field(operator: Operator) -> None:
    before = time.time()
    made = operator.told("create", "--name", "ops", "--scope", "operator", "--expires", "90d")
    assert made["key"].startswith(f"vo_{made['id']}_")
    assert 90 * 86_400 - 1 < made["expires"] - before < 90 * 86_400 + 60
    assert re.search(r"in (90d 0h|89d 23h)", operator.run("list").output)


def test_a_rotation_says_how_long_both_work(operator: Operator) -> None:
    made = operator.told("create", "--name", "shop", "--scope", "service")
    again = operator.run("rotate", made["id"])
    assert "The secret of before works for 1d 0h still." in again.output
    assert operator.told("list")["keys"][0]["state"] == "rotating"
    at_once = operator.told("rotate", made["id"], "--overlap", "0s")
    assert at_once["state"] == "active"
    assert at_once["key"] != made["key"]
    assert at_once["rotated"] is not None


def test_a_revoked_key_stays_to_be_seen_for_a_while(operator: Operator) -> None:
    made = operator.told("create", "--name", "shop", "--scope", "service")
    assert operator.run("revoke", made["key"]).output == f"Key {made['id']} (shop) is revoked.\n"
    assert "revoked" in operator.run("list").output
    again = operator.run("rotate", made["id"])
    assert again.exit_code == 1
    assert "is revoked; make a new one" in again.output
    assert operator.told("revoke", made["id"])["state"] == "revoked"


def test_an_expired_key_says_since_when(operator: Operator) -> None:
    operator.told("create", "--name", "shop", "--scope", "service", "--expires", "0s")
    listed = operator.run("list").output
    assert "expired" in listed
    assert "s ago" in listed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rotate", "nope"], "there is no key 'nope'; there are: none"),
        (["revoke", "nope"], "there is no key 'nope'; there are: none"),
        (["create", "--name", "", "--scope", "service"], "expected a name of 1 to 60 characters"),
        (["create", "--name", "shop"], "Missing option '--scope'"),
        (["create", "--name", "shop", "--scope", "admin"], "'admin' is not one of"),
        (["create", "--name", "x", "--scope", "service", "--expires", "soon"], "like 90s, 15m, 24h or 90d"),
        (["create", "--name", "x", "--scope", "service", "--expires", "99999d"], "at most ten years"),
        (["rotate", "x", "--overlap", "-1h"], "like 90s, 15m, 24h or 90d"),
    ],
)
def test_what_is_wrong_says_what_to_do(operator: Operator, arguments: list[str], says: str) -> None:
    done = operator.run(*arguments)
    assert done.exit_code != 0
    assert says in done.output


def test_the_first_key_needs_no_settings_that_only_a_key_allows(operator: Operator) -> None:
    operator._env |= {
        "ORCHESTRATOR_SERVER__HOST": "0.0.0.0",
        "ORCHESTRATOR_ACCESS__TRUSTED_PROXIES": "10.0.0.0/8",
    }
    assert operator.told("create", "--name", "shop", "--scope", "service")["state"] == "active"


def test_other_settings_that_are_wrong_are_told(operator: Operator) -> None:
    operator._env |= {"ORCHESTRATOR_SERVER__PROT": "1"}
    done = operator.run("list")
    assert done.exit_code == 1
    assert "did you mean server.port?" in done.output


def test_redis_that_is_away_is_told_with_the_setting_and_without_its_password(tmp_path: Path) -> None:
    done = Operator({"REDIS_URL": f"redis://:{planted.REDIS}@127.0.0.1:1/0"}).run(
        "create", "--name", "shop", "--scope", "service"
    )
    assert done.exit_code == 1
    assert "redis.url (REDIS_URL) says where it is" in done.output
    assert planted.REDIS not in done.output


@pytest.mark.parametrize("command", [["list"], ["create", "--name", "x", "--scope", "service"]])
def test_a_file_that_is_no_list_of_keys_is_told_and_left_alone(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "keys.json"
    path.write_text("hunter2")
    done = Operator({"ORCHESTRATOR_ACCESS__KEYS_PATH": str(path), "REDIS_URL": None}).run(*command)
    assert done.exit_code == 1
    assert "not a list of keys" in done.output
    assert "Traceback" not in done.output
    assert planted.REDIS not in done.output
    assert path.read_text() == "hunter2"


def test_scopes_are_those_of_the_server() -> None:
    from orchestrator import keys_cli

    assert tuple(str(scope) for scope in server_keys.Scope) == keys_cli._SCOPES
