"""schemathesis sends what the OpenAPI document allows, and what it forbids; the answers are as the
document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.web import admin
from tests.web.admin_api.api import AUTHORIZATION, ROTATES, TOKEN

EXAMPLES = 12

# Not against a schema, and yet not acceptable: a phase that the endpoint has not, a cursor of
# another list, base64 that is none, a scheme that nobody knows, a type that a dump has not.
ACCEPTED = ["2xx", "400", "401", "404", "409", "413", "422", "503"]


def config(mode: str) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "headers": dict(AUTHORIZATION),
            "generation": {"mode": mode, "max-examples": EXAMPLES, "deterministic": True},
            "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
        }
    )


INBOX = Application()
INBOX.add_handler(lambda callback: None, "handled", name="h")
API = admin(INBOX, token=TOKEN)


def document(mode: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_asgi(
        "/openapi.json", API, config=config(mode), headers=AUTHORIZATION
    )


anything, meant = document("all"), document("positive")
if not ROTATES:
    anything, meant = (each.exclude(operation_id="rotate_secret") for each in (anything, meant))


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> Any:
    """Whatever comes, in the place of a dump."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@pytest.fixture(autouse=True)
def inbox() -> Iterator[Application]:
    """The endpoint orders, with the callbacks 1 to 3 in it."""
    with INBOX:
        INBOX.endpoints.create(Endpoint.new(["received", "done"], 0, id="orders")).get()
        for number in "123":
            callback = Callback.new(Request([], b"{}"), id=number)
            INBOX.callbacks.push("orders", callback).get()
        yield INBOX
        for endpoint in INBOX.endpoints.index().get():
            INBOX.endpoints.delete(endpoint.id).get()


THERE = {"key": "2", "phase": "done", "expect": "done", "then": "done", "dead_letter": "done"}


def without_waiting(case: Any) -> None:
    if isinstance(case.body, dict) and case.operation.path.endswith("/claims"):
        case.body.pop("wait", None)


@anything.parametrize()
def test_whatever_comes_is_answered_as_the_document_says(case: Any) -> None:
    """What is against the document is refused; no answer is 500 or is not in the document."""
    without_waiting(case)
    case.call_and_validate()


@meant.parametrize()
def test_requests_for_what_is_there_are_answered_as_the_document_says(case: Any) -> None:
    """The same for an endpoint, callbacks, phases and a handler that exist."""
    if case.operation.path.startswith("/handler"):
        case.query["name"] = "h"
    if "endpoint_id" in case.path_parameters:
        case.path_parameters["endpoint_id"] = "orders"
    for given in (case.query, case.body):
        if isinstance(given, dict):
            given.update({name: THERE[name] for name in THERE if isinstance(given.get(name), str)})
    without_waiting(case)
    case.call_and_validate()
