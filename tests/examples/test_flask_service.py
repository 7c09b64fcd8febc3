"""examples/flask_service.py: a view that answers once the request is queued."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from examples import flask_service
from pollin_actors import Application, Request
from tests.examples.programs import post, serve

RIGHT = {"x-pollin-secret": "change-me"}


@pytest.fixture
def inbox() -> Iterator[Application]:
    with flask_service.new_inbox() as inbox:
        yield inbox


@pytest.fixture
def client(inbox: Application) -> FlaskClient:
    return flask_service.flask_service(inbox).test_client()


def test_a_request_is_queued_as_it_came(inbox: Application, client: FlaskClient) -> None:
    """The answer carries the id under which the body and the headers are queued."""
    answer = client.post("/hooks/orders", data=b"\x00raw", headers={**RIGHT, "x-event": "paid"})
    assert answer.status_code == 200
    assert answer.get_json()["outcome"] == "queued"
    assert client.get("/queued/orders").get_json() == {"queued": 1}
    callback = inbox.callbacks.pop("orders", key=answer.get_json()["id"]).get()
    assert callback is not None
    request: Request = callback.request
    assert request.body == b"\x00raw"
    assert request.header("x-event") == "paid"
    assert request.header("x-pollin-secret") is None


def test_what_is_refused_says_why_and_stores_nothing(
    inbox: Application, client: FlaskClient
) -> None:
    """A wrong secret is 401, an unknown endpoint 404, and an inbox that does not run 503."""
    assert client.post("/hooks/orders", data=b"{}").status_code == 401
    assert client.post("/hooks/refunds", data=b"{}", headers=RIGHT).status_code == 404
    assert inbox.callbacks.count("orders").get() == 0
    inbox.stop()
    assert client.post("/hooks/orders", data=b"{}", headers=RIGHT).status_code == 503


def test_it_serves_as_a_program_and_stops_at_sigterm() -> None:
    """A real request is answered 200; SIGTERM ends the program in order."""
    with serve("flask_service") as server:
        assert post(f"{server.url}/hooks/orders", b"{}", RIGHT) == 200
        assert server.stop() == 0
        assert server.printed.endswith("stopped\n")
