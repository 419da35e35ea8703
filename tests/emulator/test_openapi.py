"""The description of what is served: whole, true, and in the form that its readers take. `.ci/fuzz` calls all of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.emulator.app import OPERATIONS, ROUTES
from reconciler.emulator.switches import PROFILES
from tests.emulator.stand import Emulator, Json, Start

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
NO_ROUTE = 404


@pytest.fixture(params=PROFILES)
def served(start: Start, request: pytest.FixtureRequest) -> Emulator:
    return start(profile=request.param)


def described(emulator: Emulator) -> Json:
    """As anybody gets it: without a key."""
    document: Json = emulator.call("GET", "/_emulator/openapi.json", key=None).json()
    return document


def operations(document: Json) -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def walk(value: Any) -> Iterator[Json]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(item)


def filled(path: str) -> str:
    return re.sub(r"{\w+}", "some-id", path)


def pattern(path: str) -> str:
    return re.sub(r"{\w+}", "[^/]+", path)


def test_what_is_served_is_described_and_nothing_else(served: Emulator) -> None:
    """Asked without key and token, so that a route refuses or shows itself, and only a path nobody serves is a 404."""
    found = operations(described(served))
    asked = {(method, filled(route.path)) for route in ROUTES for method in METHODS}
    assert {(method, filled(path)) for method, path in found} <= asked
    for method, path in asked:
        fits = any(method == known and re.fullmatch(pattern(template), path) for known, template in found)
        assert (served.call(method, path, key=None).status_code != NO_ROUTE) == fits, (method, path)


def test_a_profile_describes_its_own_routes_only(start: Start, tmp_path: Any) -> None:
    new, old = (set(operations(described(start(tmp_path / name, profile=name)))) for name in ("2026", "dec-2024"))
    assert old < new
    assert {path for _, path in new - old} == {
        "/api/v1/deployments/{deployed_model}/update",
        "/api/v1/fine-tunes/{job_id}/checkpoints",
        "/api/v1/fine-tunes/{job_id}/export/{checkpoint}",
        "/compatible-mode/v1/chat/completions",
        "/compatible-mode/v1/files",
        "/compatible-mode/v1/files/{file_id}",
    }


def test_says_which_form_it_has(served: Emulator) -> None:
    document = described(served)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == served.profile
    assert document["info"]["title"]


def test_operations_have_names_of_their_own(served: Emulator) -> None:
    """A client that is generated from the description makes one function of each."""
    names = Counter(operation["operationId"] for operation in operations(described(served)).values())
    assert names
    assert set(names.values()) == {1}


def test_parameters_are_those_of_the_path_and_have_a_schema(served: Emulator) -> None:
    for (_, path), operation in operations(described(served)).items():
        parameters = operation["parameters"]
        places = Counter((parameter["in"], parameter["name"]) for parameter in parameters)
        assert set(places.values()) <= {1}
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path" and parameter["required"]}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert all(parameter["schema"] and parameter["in"] in ("path", "query") for parameter in parameters)


def test_every_answer_and_every_way_in_is_declared(served: Emulator) -> None:
    document = described(served)
    for operation in operations(document).values():
        assert operation["responses"].keys() == {"200", "default"}
        assert all(response["description"] and response["content"] for response in operation["responses"].values())
        for way in operation["security"]:
            assert way.keys() <= document["components"]["securitySchemes"].keys()


def test_references_lead_somewhere_and_schemas_are_schemas(served: Emulator) -> None:
    document = described(served)
    kinds = {"array", "boolean", "integer", "null", "number", "object", "string"}
    for part in walk(document):
        if isinstance(part.get("$ref"), str):
            target: Any = document
            for step in part["$ref"].removeprefix("#/").split("/"):
                target = target[step.replace("~1", "/").replace("~0", "~")]
        if isinstance(part.get("properties"), dict):
            assert part["type"] == "object"
            assert set(part.get("required", ())) <= part["properties"].keys()
        if isinstance(part.get("schema"), dict):
            assert {inner["type"] for inner in walk(part["schema"]) if isinstance(inner.get("type"), str)} <= kinds


def test_what_is_required_is_missed(served: Emulator) -> None:
    """No more is called required than the service insists on: each of these alone is refused, by its name."""
    tried = 0
    for (method, path), operation in operations(described(served)).items():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if content.get("schema", {}).get("required") and operation["security"] == [{"key": []}]:
            status, code, message = refused(served, method, filled(path))
            assert (status, code) == (400, "InvalidParameter"), message
            tried += 1
    assert tried >= 4


def refused(emulator: Emulator, method: str, path: str) -> tuple[int, str, str]:
    answer = emulator.call(method, path, json={})
    body = answer.json()
    error = body.get("error", body)
    return answer.status_code, error["code"], error["message"]


def test_names_the_operations_that_rules_for_faults_use(start: Start, tmp_path: Any) -> None:
    """Who writes a rule finds its operation here; together the profiles name each that there is."""
    named: set[str] = set()
    for profile in PROFILES:
        emulator = start(tmp_path / profile, profile=profile)
        own = {
            name
            for (_, path), operation in operations(described(emulator)).items()
            if not path.startswith("/_emulator/")
            for name in operation["x-operations"]
        }
        rules = [{"operation": name, "hold": {"real_s": 0}} for name in sorted(own)]
        assert len(emulator.control("faults", {"faults": rules})["faults"]) == len(own)
        named |= own
    assert named == OPERATIONS
