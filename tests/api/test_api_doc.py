"""docs/api.md against /openapi.json and the running service: every path is in both, and its examples work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.api.conftest import KEY
from tests.e2e.stack import Running

DOC = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("curl ")
]


@pytest.fixture(scope="module")
def document(service: Running) -> dict[str, Any]:
    found: dict[str, Any] = service.get("/openapi.json")
    return found


def run(command: str, url: str) -> httpx.Response:
    """What curl would do with it."""
    words = iter(shlex.split(command.replace("$URL", url).replace("$KEY", KEY))[1:])
    method, target, body = "GET", "", None
    headers: dict[str, str] = {}
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        else:
            target = word
    return httpx.request(method, target, headers=headers, content=body, timeout=60, trust_env=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_works(command: str, service: Running, document: dict[str, Any]) -> None:
    answer = run(command, service.url)
    assert answer.is_success, answer.text
    path = answer.request.url.path
    known = document["paths"].get(path) or document["paths"]["/v1/prompts/{name}"]
    assert str(answer.status_code) in known[answer.request.method.lower()]["responses"]


def test_there_are_examples() -> None:
    assert len(COMMANDS) > 10


def test_every_path_is_in_both(document: dict[str, Any]) -> None:
    table = DOC[DOC.index("## All paths") : DOC.index("## Errors")]
    assert set(re.findall(r"`(/[^`]+)`", table)) == set(document["paths"])


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(document: dict[str, Any]) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation.get("summary") or operation.get("description"), operation["operationId"]


def test_everything_but_health_wants_a_key_or_a_signature(document: dict[str, Any]) -> None:
    open_to_all = {
        path
        for path, operations in document["paths"].items()
        if any(not operation.get("security") for operation in operations.values())
    }
    assert open_to_all == {"/healthz", "/readyz"}
    for path in ("/v1/prompts/{name}", "/v1/summaries/{id}/{item}"):
        assert {"SignedAddress": []} in document["paths"][path]["get"]["security"]


def test_head_is_there_where_it_is_answered_and_nowhere_else(
    document: dict[str, Any], service: Running
) -> None:
    answered = {
        path
        for path in document["paths"]
        if httpx.head(
            service.url + re.sub(r"{\w+}", "nothing", path), timeout=30, trust_env=False
        ).status_code
        != 405
    }
    assert {path for path, operations in document["paths"].items() if "head" in operations} == answered
    for path in answered:
        get, head = document["paths"][path]["get"], document["paths"][path]["head"]
        assert head["parameters"] == get["parameters"]
        assert head["responses"].keys() == get["responses"].keys() - {"206", "416"}
        assert not [answer for answer in head["responses"].values() if "content" in answer]


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            errors = {status: a for status, a in operation["responses"].items() if status[0] in "45"}
            assert {"414", "431"} <= set(errors)
            assert ({"408", "413"} <= set(errors)) == ("requestBody" in operation)
            for status, answer in errors.items() if method != "head" else ():
                if (path, status) != ("/readyz", "503") and status != "416":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}, (path, status)


def example_of(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    """Those of a body, wherever the document has them."""
    schema = content["schema"]
    schema = schema.get("anyOf", [schema])[0]  # a body may be left out
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: list[Any] = [
        *schema.get("examples", []),
        *(each["value"] for each in content.get("examples", {}).values()),
    ]
    return found


def test_every_request_and_error_has_an_example_and_every_example_is_one(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                assert example_of(document, content), operation["operationId"]
    schemas = document["components"]["schemas"]
    assert schemas["ErrorBody"]["examples"]
    for name, schema in schemas.items():
        for example in schema.get("examples", []) if "$ref" not in schema else []:
            whole = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            jsonschema.Draft202012Validator(whole).validate(example)
