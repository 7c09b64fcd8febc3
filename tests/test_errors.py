"""Errors keep their facts, say what to do, and travel."""

from __future__ import annotations

import copy
import pickle

import pytest

from pollin_actors import errors
from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    ClaimLost,
    CursorConflict,
    EndpointConflict,
    EndpointExists,
    EndpointNotFound,
    ForkedProcess,
    Full,
    InvalidValue,
    MissingExtra,
    NotRunning,
    PhaseConflict,
    PollinError,
    TooLarge,
    UnknownBackend,
    UnknownPhase,
    WrongSecret,
)

EXAMPLES: list[tuple[PollinError, list[str]]] = [
    (EndpointNotFound("orders"), ["'orders'", "create it"]),
    (EndpointConflict("orders"), ["'orders'", "left as it is", "find it again"]),
    (EndpointExists("orders"), ["'orders'", "update it"]),
    (WrongSecret("orders"), ["'orders'", "nothing was stored"]),
    (UnknownPhase("orders", "gone", ["a", "b"]), ["'gone'", "'a', 'b'", "update the endpoint"]),
    (CallbackNotFound("orders", "c1"), ["'orders'", "'c1'", "check the id"]),
    (PhaseConflict("orders", "c1", "new", "old"), ["'c1'", "expected", "'new'", "got 'old'"]),
    (ClaimLost("orders", "c1"), ["'orders'", "'c1'", "nothing was changed", "longer lease"]),
    (
        CursorConflict("orders", "audit", 5, 7),
        ["'orders'", "'audit'", "expected it at 5, got 7", "go on from there"],
    ),
    (Full("orders", "bytes", 9, 10), ["'orders'", "at most 10 bytes", "got 9", "raise its"]),
    (TooLarge("orders", 11, 10), ["'orders'", "at most 10", "got 11", "raise the limit"]),
    (InvalidValue("ttl", "an int", "'x'"), ["ttl: expected an int, got 'x'"]),
    (InvalidValue("body", "bytes", "a str", "encode it"), ["got a str; encode it"]),
    (BackendUnavailable("sqlite", "disk full"), ["'sqlite'", "disk full", "try again"]),
    (BackendUnavailable("sqlite", "disk full", "make room"), ["disk full; make room"]),
    (UnknownBackend("x", ["memory"]), ["x://", "memory://", "install"]),
    (NotRunning("stopped"), ["stopped", "start it"]),
    (NotRunning("stopped", "make another"), ["stopped: make another"]),
    (
        ForkedProcess(),
        ["post_fork", "@postfork", "granian", "lifespan", "worker_process_init", "threads"],
    ),
    (MissingExtra("uvicorn", "server"), ["'uvicorn'", 'pip install "pollin-actors[server]"']),
]

examples = pytest.mark.parametrize(
    ("error", "words"), EXAMPLES, ids=[type(error).__name__ for error, _ in EXAMPLES]
)


def test_every_error_has_an_example() -> None:
    names = {type(error).__name__ for error, _ in EXAMPLES}

    assert names | {"PollinError"} == set(errors.__all__)


@examples
def test_says_what_happened_and_what_to_do(error: PollinError, words: list[str]) -> None:
    for word in words:
        assert word in str(error)


@examples
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling(error: PollinError, words: list[str], protocol: int) -> None:
    other = pickle.loads(pickle.dumps(error, protocol))

    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


@examples
def test_can_be_copied(error: PollinError, words: list[str]) -> None:
    for other in (copy.copy(error), copy.deepcopy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)


def test_notes_travel_along() -> None:
    error = TooLarge("orders", 11, 10)
    error.add_note("seen at the door")

    assert pickle.loads(pickle.dumps(error)).__notes__ == ["seen at the door"]


def test_facts_are_attributes() -> None:
    phase = UnknownPhase("orders", "gone", ["a", "b"])
    large = TooLarge("orders", 11, 10)

    assert (phase.endpoint_id, phase.phase, phase.known_phases) == ("orders", "gone", ("a", "b"))
    assert (large.endpoint_id, large.size, large.limit) == ("orders", 11, 10)


def test_facts_of_claims_cursors_and_limits_are_attributes() -> None:
    lost = ClaimLost("orders", "c1")
    moved = CursorConflict("orders", "audit", 5, 7)
    full = Full("orders", "callbacks", 10, 9)

    assert (lost.endpoint_id, lost.callback_id) == ("orders", "c1")
    told = (moved.endpoint_id, moved.name, moved.expected, moved.position)
    assert told == ("orders", "audit", 5, 7)
    assert (full.endpoint_id, full.what, full.held, full.limit) == ("orders", "callbacks", 10, 9)


def test_an_invalid_value_is_a_value_error() -> None:
    assert issubclass(InvalidValue, ValueError)
    assert all(issubclass(getattr(errors, name), PollinError) for name in errors.__all__)
