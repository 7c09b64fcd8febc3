"""Messages are plain data, complete, and show no secret."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from pollin_actors import messages
from pollin_actors.messages import (
    CALLBACK_OPERATIONS,
    CHANGES,
    CONSTANT_TIME,
    ENDPOINT_OPERATIONS,
    Ack,
    Children,
    ClaimSlice,
    Count,
    DumpPage,
    Extend,
    Fetch,
    HistoryPage,
    MoveCursor,
    Nack,
    PastPage,
    Pop,
    PopSlice,
    Push,
    RotateSecret,
    Sweep,
)
from pollin_actors.resources import Callback, Request, Secret

SETS = {"CALLBACK_OPERATIONS", "CHANGES", "CONSTANT_TIME", "ENDPOINT_OPERATIONS"}


def test_every_message_is_in_one_set() -> None:
    types = {getattr(messages, name) for name in messages.__all__ if name not in SETS}

    assert not CALLBACK_OPERATIONS & ENDPOINT_OPERATIONS
    assert CALLBACK_OPERATIONS | ENDPOINT_OPERATIONS | {Sweep} == types
    assert CONSTANT_TIME < CALLBACK_OPERATIONS
    assert CHANGES < CALLBACK_OPERATIONS


@pytest.mark.parametrize("kind", sorted(CALLBACK_OPERATIONS, key=str))
def test_callback_operations_name_their_endpoint_first(kind: type) -> None:
    assert kind._fields[0] == "endpoint_id"  # type: ignore[attr-defined]
    assert kind.__doc__
    assert "Reply" in kind.__doc__


def test_defaults() -> None:
    assert Pop("orders").key is None
    assert Fetch("orders").key is None
    assert Count("orders").phase is None
    assert PopSlice("orders") == ("orders", None, 0, 100)
    assert DumpPage("orders") == ("orders", None, 500)
    assert Sweep().limit == 1000


def test_defaults_of_claims() -> None:
    assert ClaimSlice("orders", None) == ("orders", None, 1, 30.0, "")
    assert Ack("orders", "a", "t") == ("orders", "a", "t", None, False, "")
    assert Nack("orders", "a", "t") == ("orders", "a", "t", 0.0, "", None)
    assert Extend("orders", "a", "t").lease == 30.0


def test_defaults_of_history() -> None:
    assert HistoryPage("orders") == ("orders", 0, 500, None)
    assert PastPage("orders") == ("orders", None, 500, None, None)
    assert MoveCursor("orders", "c", 1) == ("orders", "c", 1, None, ())
    assert Children("orders", "a").deep is False


@pytest.mark.parametrize("secret", ["hunter2", b"hunter2", Secret("hunter2")])
def test_push_shows_no_secret(secret: str | bytes | Secret) -> None:
    callback = Callback.new(Request([("authorization", "hunter2")], b"hunter2"))
    message = Push("orders", callback, secret)

    for shown in (repr(message), str(message), f"{message}", f"{message!r}"):
        assert "hunter2" not in shown
        assert "orders" in shown
        assert callback.id in shown


@pytest.mark.parametrize("secret", ["hunter2", b"hunter2", Secret("hunter2")])
def test_rotate_shows_no_secret(secret: Any) -> None:
    """Also where it is none: then it is refused, but shown nowhere."""
    message = RotateSecret("orders", secret, 5)
    for shown in (repr(message), str(message), f"{message!r}"):
        assert shown == "RotateSecret(endpoint_id='orders', secret='**********', until=5)"


def test_push_shows_that_there_is_no_secret() -> None:
    assert "secret=None, trusted=True" in repr(Push("orders", Callback.new(b""), trusted=True))


def test_can_be_pickled() -> None:
    message = Push("orders", Callback.new(b"x"), Secret("s"))

    other = pickle.loads(pickle.dumps(message))

    assert type(other) is Push
    assert other == message
