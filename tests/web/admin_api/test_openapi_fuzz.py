"""schemathesis sends what the OpenAPI document allows, and what it forbids; the answers are as the
document says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.transfer import dump
from pollin_actors.web import admin
from tests.web.admin_api.api import AUTHORIZATION, TOKEN

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


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> Any:
    """Whatever comes, in the place of a dump."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


# The statuses with which each operation was answered in the test that runs.
ANSWERED: dict[str, set[int]] = defaultdict(set)


@pytest.fixture(autouse=True)
def inbox() -> Iterator[Application]:
    """The endpoint orders, with the callbacks 1 to 3 in it."""
    ANSWERED.clear()
    with INBOX:
        INBOX.endpoints.create(Endpoint.new(["received", "done"], 0, id="orders")).get()
        for number in "123":
            callback = Callback.new(Request([], b"{}"), id=number)
            INBOX.callbacks.push("orders", callback).get()
        yield INBOX
        for endpoint in INBOX.endpoints.index().get():
            INBOX.endpoints.delete(endpoint.id).get()


@pytest.fixture
def something_is_done() -> Iterator[None]:
    """The operation of the test was carried out at least once, and not only refused."""
    yield
    assert ANSWERED
    for operation, statuses in ANSWERED.items():
        assert any(200 <= status < 300 for status in statuses), f"{operation}: {statuses}"


THERE = {"key": "2", "phase": "done", "expect": "done", "then": "done", "dead_letter": "done"}


def without_waiting(case: Any) -> None:
    if isinstance(case.body, dict) and case.operation.path.endswith("/claims"):
        case.body.pop("wait", None)
    if isinstance(case.body, dict) and case.operation.path == "/follow":
        seconds = case.body.get("seconds", 60)
        # What is no time stays none.
        if isinstance(seconds, int | float) and 0 <= seconds <= 60 and seconds is not True:
            case.body["seconds"] = 0


@anything.parametrize()
def test_whatever_comes_is_answered_as_the_document_says(case: Any) -> None:
    """What is against the document is refused; no answer is 500 or is not in the document."""
    without_waiting(case)
    case.call_and_validate()


def as_it_is(case: Any) -> None:
    """Give a request what is there: an endpoint, a handler, callbacks, a claim, a dump."""
    path = case.operation.path
    if path == "/handler" or path.startswith("/handler/"):
        case.query["name"] = "h"
    if "endpoint_id" in case.path_parameters:
        case.path_parameters["endpoint_id"] = "orders"
        if INBOX.endpoints.find("orders").get() is None:
            INBOX.endpoints.create(Endpoint.new(["received", "done"], 0, id="orders")).get()
        if INBOX.callbacks.fetch("orders", key="2").get() is None:
            # It was popped or deleted, and its id is known still.
            INBOX.callbacks.reset("orders").get()
            INBOX.callbacks.push("orders", Callback.new(Request([], b"{}"), id="2")).get()
    for given in (case.query, case.body):
        if isinstance(given, dict):
            given.update({name: THERE[name] for name in THERE if isinstance(given.get(name), str)})
    if "/claims/" in path and isinstance(case.body, dict):
        INBOX.callbacks.push("orders", Callback.new(Request([], b"{}"))).get()
        [claim] = INBOX.callbacks.claim("orders", lease=60.0).get()
        case.body |= {"key": claim.key, "token": claim.token}
    if path == "/follow":
        case.body["endpoints"] = [{"endpoint_id": "orders", "position": 0}]
    if path == "/load":
        case.body = b"".join(dump(INBOX)).decode("ascii")


@meant.parametrize()
@pytest.mark.usefixtures("something_is_done")
def test_requests_for_what_is_there_are_answered_as_the_document_says(case: Any) -> None:
    """The same for an endpoint, callbacks, phases, claims and a handler that exist; and each
    operation is carried out at least once."""
    as_it_is(case)
    without_waiting(case)
    answer = case.call_and_validate()
    ANSWERED[f"{case.operation.method} {case.operation.path}"].add(answer.status_code)
