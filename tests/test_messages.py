"""Messages are plain data, complete, and show no secret."""

from __future__ import annotations

import pickle

import pytest

from pollin_actors import messages
from pollin_actors.messages import (
    CALLBACK_OPERATIONS,
    CONSTANT_TIME,
    ENDPOINT_OPERATIONS,
    Count,
    DumpPage,
    Fetch,
    Pop,
    PopSlice,
    Push,
    Sweep,
)
from pollin_actors.resources import Callback, Request, Secret

SETS = {"CALLBACK_OPERATIONS", "CONSTANT_TIME", "ENDPOINT_OPERATIONS"}


def test_every_message_is_in_one_set() -> None:
    types = {getattr(messages, name) for name in messages.__all__ if name not in SETS}

    assert not CALLBACK_OPERATIONS & ENDPOINT_OPERATIONS
    assert CALLBACK_OPERATIONS | ENDPOINT_OPERATIONS | {Sweep} == types
    assert CONSTANT_TIME < CALLBACK_OPERATIONS


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


@pytest.mark.parametrize("secret", ["hunter2", b"hunter2", Secret("hunter2")])
def test_push_shows_no_secret(secret: str | bytes | Secret) -> None:
    callback = Callback.new(Request([("authorization", "hunter2")], b"hunter2"))
    message = Push("orders", callback, secret)

    for shown in (repr(message), str(message), f"{message}", f"{message!r}"):
        assert "hunter2" not in shown
        assert "orders" in shown
        assert callback.id in shown


def test_push_shows_that_there_is_no_secret() -> None:
    assert "secret=None, trusted=True" in repr(Push("orders", Callback.new(b""), trusted=True))


def test_can_be_pickled() -> None:
    message = Push("orders", Callback.new(b"x"), Secret("s"))

    other = pickle.loads(pickle.dumps(message))

    assert type(other) is Push
    assert other == message
