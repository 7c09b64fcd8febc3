"""The OpenAPI document is true: what it lists is what there is."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from pollin_actors import Application, InvalidValue
from pollin_actors.facade import Callbacks, Endpoints
from pollin_actors.web.admin_api.openapi import document
from pollin_actors.web.admin_api.schemas import COMPONENTS
from pollin_actors.web.admin_api.service import OPERATIONS
from pollin_actors.web.admin_api.validation import accept
from tests.examples.programs import ROOT
from tests.web.admin_api.api import Api


def test_it_is_served(memory: Application) -> None:
    """As JSON, with every operation once, and nothing is referred to that is not there."""
    told = Api(memory).get("//openapi.json")
    assert told["openapi"] == "3.1.0"
    listed = [op["operationId"] for path in told["paths"].values() for op in path.values()]
    assert sorted(listed) == sorted(operation.id for operation in OPERATIONS)
    assert len(set(listed)) == len(listed)
    text = json.dumps(told)
    for name in COMPONENTS:
        assert f"#/components/schemas/{name}" in text
    assert text.count("$ref") == sum(text.count(f'schemas/{name}"') for name in COMPONENTS)


def test_the_guide_lists_every_route() -> None:
    """With all parameters and fields."""
    guide = (ROOT / "examples" / "admin.md").read_text(encoding="utf-8")
    for operation in OPERATIONS:
        [row] = [
            line
            for line in guide.splitlines()
            if line.startswith(f"| `{operation.method} {operation.path}` |")
        ]
        for name in (*operation.query, *(operation.body or {}).get("properties", ())):
            assert f"`{name}`" in row, operation.id


def test_every_route_that_it_lists_is_there(memory: Application) -> None:
    """And takes the methods that it lists, and no others."""
    api = Api(memory)
    for path, methods in api.get("//openapi.json")["paths"].items():
        answer = api.request("TRACE", "/" + path.replace("{endpoint_id}", "orders"))
        api.problem(answer, 405, "wrong-method")
        assert answer.headers["allow"] == ", ".join(sorted(methods)).upper()


# What is a route under another name, or is no operation of its own.
NAMES = {
    "index": "list_endpoints",
    "find": "find_endpoint",
    "create": "create_endpoint",
    "update": "change_endpoint",
    "rotate": "rotate_secret",
    "cursor": "find_cursor",
    "update_phase": "move_callback",
    "dump": "list_callbacks",
    "subscribe": "list_records",
}


@pytest.mark.parametrize("facade", [Endpoints, Callbacks])
def test_every_operation_of_the_facade_has_a_route(facade: type) -> None:
    """What can be done in the process can be done over HTTP."""
    routes = {operation.id for operation in OPERATIONS}
    for name, _ in inspect.getmembers(facade, inspect.isfunction):
        if name.startswith("_") or name == "ref":
            continue
        of = "endpoint" if facade is Endpoints else "callback"
        assert {name, NAMES.get(name), f"{name}_{of}"} & routes, name


def keywords(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {name for item in schema for name in keywords(item)}
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for name, inner in schema.items():
        if name == "properties":
            found |= {word for item in inner.values() for word in keywords(item)}
        elif name not in ("default", "enum", "required"):
            found |= keywords(inner)
    return found


OBEYED = {"type", "enum", "default", "minLength", "maxLength", "pattern", "minimum", "maximum"}
OBEYED |= {"exclusiveMinimum", "items", "minItems", "maxItems", "uniqueItems", "properties"}
OBEYED |= {"required", "additionalProperties", "allOf", "not"}
SAID = {"description", "writeOnly", "readOnly"}


def test_what_is_demanded_is_obeyed() -> None:
    """The schemas of what is asked use no word that the checks do not know."""
    for operation in OPERATIONS:
        asked = [*operation.query.values(), operation.body or {}]
        assert keywords(asked) <= OBEYED | SAID, operation.id
        for schema in operation.query.values():
            assert isinstance(schema["type"], str)


def test_defaults_are_acceptable() -> None:
    """A value that is filled in could have been sent."""
    for operation in OPERATIONS:
        schemas = [
            *operation.query.values(),
            *(operation.body or {}).get("properties", {}).values(),
        ]
        for schema in schemas:
            if "default" in schema:
                assert accept(schema, schema["default"], "default") == schema["default"]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer", "minimum": 1}, [1, 2.0], [0, 1.5, True, "1", None, 10**400 * -1]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 2}, [1, 0.5, 2], [0, 2.1, "1", []]),
        ({"type": ["integer", "null"]}, [None, 3], [False, "", 0.5]),
        ({"type": "string", "minLength": 1, "maxLength": 2}, ["a", "ab"], ["", "abc", 1]),
        ({"type": "string", "pattern": "^a"}, ["ab"], ["ba"]),
        ({"type": "string", "pattern": "^(a|b)$"}, ["a"], ["a\n", "ab", "", "a\nb"]),
        ({"type": "string", "enum": ["a"]}, ["a"], ["b", 1]),
        ({"type": "boolean"}, [True], [1, "true", None]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1}, [[1]], [[], ["1"], {}]),
        ({"type": "array", "uniqueItems": True, "maxItems": 2}, [[1, 2]], [[1, 1], [1, 2, 3]]),
        ({}, [None, 1, "a", [], {}], []),
    ],
)
def test_the_checks(schema: Any, good: list[Any], bad: list[Any]) -> None:
    """Each word of a schema refuses what it should, and no more."""
    for value in good:
        assert accept(schema, value, "x") == value
    for value in bad:
        with pytest.raises(InvalidValue, match=r"^x"):
            accept(schema, value, "x")


def test_the_document_is_made_of_the_table() -> None:
    """One operation more is one more in the document."""
    assert len(document(OPERATIONS[:3])["paths"]) < len(document(OPERATIONS)["paths"])
