"""The backend of the guide: it keeps every rule, and an application runs on it."""

from __future__ import annotations

import pytest

from examples.own_backend import ListBackend, new_store
from pollin_actors import Application, Callback, Endpoint
from pollin_actors.backends.conformance import CHECKS, Check
from tests.examples.programs import run


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_keeps_every_rule(check: Check) -> None:
    """Each check passes."""
    check(new_store)


def test_runs_as_a_program() -> None:
    """It checks itself."""
    assert run("own_backend") == "keeps every rule\n"


def test_carries_an_application() -> None:
    """Passed as an object."""
    with Application(ListBackend(), endpoints=[Endpoint.new(id="e")]) as app:
        app.callbacks.push("e", Callback.new(b"x")).get()
        assert app.callbacks.count("e").get() == 1
