"""Errors as problems: each has its status, none shows a secret, none is a bare 500."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from pollin_actors import Application, Callback, Request, errors
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Count
from pollin_actors.otp import ReplyFuture
from pollin_actors.otp import errors as otp_errors
from pollin_actors.testing import FaultyBackend
from pollin_actors.web.admin_api.problems import KINDS, problem_of
from pollin_actors.web.admin_api.service import OPERATIONS
from tests.web.admin_api.api import AUTHORIZATION, TOKEN, Api, orders

SECRET = "hush-this-is-the-secret"

ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.PollinError) and error is not errors.PollinError
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_its_problem(error: type[Exception]) -> None:
    """Each stands in the table itself: a new one must be thought of."""
    assert 400 <= KINDS[error].status < 600
    assert KINDS[error].status != 500


def test_every_error_of_the_runtime_is_try_again() -> None:
    """They are about the server, not about the request."""
    for error in (otp_errors.ActorDead(), otp_errors.MailboxFull(), otp_errors.DeadlineExceeded()):
        problem = problem_of(error)
        assert problem is not None
        assert problem.kind.status == 503
        assert problem.headers["Retry-After"] == "1"


def test_an_application_that_does_not_run() -> None:
    """503 with Retry-After, for every operation that asks it something."""
    api = Api(Application())
    answer = api.request("GET", "")
    assert api.problem(answer, 503, "not-running")["state"] == "not started"
    assert answer.headers["retry-after"] == "1"
    assert api.get("//handlers") == {"handlers": []}


def test_an_endpoint_that_is_full(api: Api) -> None:
    api.app.endpoints.update(orders(capacity=1)).get()
    api.push("1")
    fields = api.problem(api.request("POST", "/callbacks", json={}), 503, "full")
    assert (fields["what"], fields["held"], fields["limit"]) == ("callbacks", 1, 1)


def test_a_backend_that_fails() -> None:
    backend = FaultyBackend(MemoryBackend())
    with Application(backend, endpoints=[orders()]) as app:
        api = Api(app)
        backend.fail(Count)
        answer = api.request("GET", "/callbacks/count")
        api.problem(answer, 503, "backend-unavailable")


def test_no_answer_in_time(memory: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the operation may have taken effect."""
    never: ReplyFuture[int] = ReplyFuture()
    never._fail(otp_errors.DeadlineExceeded("told to operators only"))
    monkeypatch.setattr(memory.callbacks, "count", lambda *_, **__: never)
    api = Api(memory)
    answer = api.request("GET", "/callbacks/count")
    assert "may or may not" in api.problem(answer, 503, "no-answer-in-time")["detail"]
    assert "operators" not in answer.text


def test_what_nobody_has_foreseen(memory: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged by its type and place, without its text, which may hold a secret."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(memory.callbacks, "count", fail)
    api = Api(memory)
    with structlog.testing.capture_logs() as logs:
        answer = api.request("GET", "/callbacks/count")
    api.problem(answer, 500, "unforeseen")
    [entry] = logs
    assert (entry["event"], entry["error"]) == ("admin.failed", "RuntimeError")
    assert SECRET not in answer.text + repr(logs)


@pytest.fixture
def guarded() -> Iterator[Api]:
    """An inbox in which everything holds the secret that could."""
    with Application(endpoints=[orders(secret=SECRET)]) as app:
        app.add_handler(lambda callback: None, "other", name="h")
        headers = [("authorization", f"Bearer {SECRET}"), ("x-pollin-secret", SECRET)]
        app.callbacks.push("orders", Callback.new(Request(headers, b"{}"), id="1")).get()
        yield Api(app)


BODIES: dict[str, Any] = {
    "replace_endpoint": {"phases": ["received", "done"]},
    "ack": {"key": "1", "token": "x"},
    "nack": {"key": "1", "token": "x"},
    "extend": {"key": "1", "token": "x"},
    "release": {"key": "1", "token": "x"},
    "discard": {"key": "1", "token": "x"},
    "move_callback": {"phase": "received"},
    "move_cursor": {"position": 1},
    "follow_records": {"others": True, "seconds": 0},
}
SHOWN_ONCE = {"create_endpoint", "rotate_secret"}
# In a dump are headers as they came; what the receiver has stored holds none of ours.
WITH_HEADERS = {"dump"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_no_answer_shows_a_secret(guarded: Api, operation: Any) -> None:
    """Whatever is asked, nothing but the fingerprint is told, and no answer is kept by caches;
    the token of the API is in none either."""
    path = operation.path.replace("{endpoint_id}", "orders")
    query = {name: {"key": "1", "name": "h"}[name] for name in operation.required}
    takes_json = operation.body and operation.streams != "body"
    body = BODIES.get(operation.id, {}) if takes_json else None
    given = {} if operation.method == "GET" or body is None else {"json": body}
    answer = guarded.request(operation.method, f"/{path}", params=query, **given)
    assert answer.status_code in {*operation.replies, 409, 415}, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert TOKEN not in answer.text
    assert AUTHORIZATION["Authorization"] not in repr(answer.headers)
    if operation.id not in WITH_HEADERS:
        assert SECRET not in answer.text
    if operation.id in SHOWN_ONCE:
        assert len(answer.json()["secret"]) >= 32
    elif operation.id != "openapi" and answer.content and not operation.streams:
        assert "secret" not in answer.json()


def test_a_secret_that_is_refused_is_not_shown(memory: Application) -> None:
    """Too long, of another type, or not one of the scheme's."""
    api = Api(memory)
    for secret in (SECRET * 100, [SECRET], {SECRET: 1}, f"{SECRET}\0"):
        answer = api.request("POST", "//endpoints", json={"secret": secret})
        api.problem(answer, 422, "invalid-value")
        assert SECRET not in answer.text
